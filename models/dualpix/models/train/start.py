"""What a run starts from: a whole model, published weights of an encoder, parts of other models, or random weights."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import sha256_of_file
from dualpix.models.foundation import FoundationModel
from dualpix.models.networks import build_network, network_spec
from dualpix.models.networks.spec import NetworkSpec, start_weights
from dualpix.models.train.config import TrainConfig
from dualpix.models.train.feed import data_of
from dualpix.models.zoo import load_model


def load_start(network: nn.Module, spec: NetworkSpec, config: TrainConfig, folder: Path) -> tuple[str, ...]:
    """Put the weights that ``config`` names into ``network``; where they are from, a line each.

    Raises:
        UnknownNameError: no model of that name, or no folder of one.
        DualpixError: weights that do not load or do not fit, or a part that the network has not.
    """
    if config.init is not None:
        return (_load_whole(network, config.init),)
    begun = start_weights(network)
    told = [] if begun is None else [f"foundation: {begun}"]
    if config.encoder_weights is not None:
        told.append(_load_encoder(network, config.network, config.encoder_weights))
    return (*told, *(_load_part(network, spec, text, folder) for text in config.init_parts))


def check_run(config: TrainConfig, folder: Path) -> None:
    """Refuse a run that cannot begin, before another one that it waits for has taken its hours.

    Raises:
        DualpixError: as :class:`~.loop.Trainer`.
    """
    spec = network_spec(config.network, config.options)
    check_window(config, spec.size_multiple)
    load_start(build_network(config.network, config.options), spec, config, folder)
    data_of(config, spec.of_task(), None)


def check_window(config: TrainConfig, multiple: int) -> None:
    """Whether the network takes what it will be shown.

    Raises:
        DualpixError: a side that is no multiple of ``multiple`` px.
    """
    seen = config.crop_hw or config.render.size_hw
    if any(side % multiple for side in seen):
        what = "--crop" if config.crop_hw else "--size"
        raise DualpixError(
            f"{what} {seen[0]} {seen[1]}", expected=f"multiples of {multiple} px for network '{config.network}'"
        )


def _load_whole(network: nn.Module, init: str) -> str:
    model = load_model(init)
    try:
        network.load_state_dict(model.module.state_dict())
    except RuntimeError as error:
        raise DualpixError(
            f"weights of '{model.name}' do not fit", expected="a model of the network and options that are trained"
        ) from error
    return f"all: {model.name}"


def _load_encoder(network: nn.Module, name: str, weights: str) -> str:
    load = getattr(network, "load_pretrained", None)
    if load is None:
        raise DualpixError(
            f"network '{name}', as it is asked for, takes no published weights of an encoder",
            expected="one that is built on such an encoder, as difusenet-paper",
        )
    return f"encoder: {load(weights)}"


def _load_part(network: nn.Module, spec: NetworkSpec, text: str, folder: Path) -> str:
    part, _, place = text.partition("=")
    if part not in spec.parts or not place:
        known = ", ".join(f"{name}=FOLDER" for name in spec.parts) or "none: this network has no parts"
        raise DualpixError(f"a start from '{text}'", expected=known)
    model = load_model(os.path.normpath(folder / place))  # by name: the run's folder need not be there yet
    other = getattr(model.module, part, None)
    if not isinstance(other, nn.Module):
        raise DualpixError(f"'{model.name}' has no '{part}'", expected="a model of the same network, or of its branch")
    try:
        network.get_submodule(part).load_state_dict(other.state_dict())
    except RuntimeError as error:
        raise DualpixError(
            f"'{part}' of '{model.name}' does not fit", expected="one of the network and options that are trained"
        ) from error
    return f"{part}: {model.name}, SHA-256 {sha256_of_file(model.folder / 'weights.safetensors')}"


@torch.no_grad()
def blend(network: nn.Module, init: str, share: float) -> None:
    """Move the weights of ``network`` by ``share`` of the way to those of the model ``init``."""
    towards = load_model(init).module.state_dict()
    for name, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(towards[name], share)


def frozen_at_random(network: nn.Module, started_from: tuple[str, ...]) -> tuple[str, ...]:
    """What to say of foundation models that know nothing and will learn nothing."""
    frozen = [m.spec.name for m in network.modules() if isinstance(m, FoundationModel) and m.frozen]
    if started_from or not frozen:
        return ()
    return (f"'{frozen[0]}' stays at random weights: give foundation_weights in --options",)
