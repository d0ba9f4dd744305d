"""Models whose weights are loaded: whole ones, or one line that says what is wrong with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.models.confidence import Calibration, parse_calibration
from dualpix.models.networks import NetworkSpec, build_network
from dualpix.models.networks.spec import first_output
from dualpix.models.zoo.cards import DEFAULT_MODEL, ZOO, find_model, read_object

CONFIDENCE = "confidence.json"
_TRAINED_PX = 36 * 0.42
_PROBE_PX = 64
"""Side of the picture that a network must make sense of before it is taken."""
_PROBE_FRAMES = 5
_PROBE_SCALARS = torch.linspace(0.2, 5.0, _PROBE_FRAMES)
"""One a frame: diopters."""
_STORED_AS = {"F64", "F32", "F16", "BF16"}
"""Types (of safetensors) that a float parameter may be stored as: others are of a quantised network, or damage."""


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode with what its card says."""

    name: str
    module: nn.Module
    spec: NetworkSpec
    card: dict[str, Any]
    folder: Path
    size_hw: tuple[int, int] | None = None
    """The one size that an exported program takes; None of networks, which take any multiple of theirs."""

    def limits(self) -> dict[str, Any]:
        """Allowed loss per export recipe, as data beside the weights.

        Raises:
            DualpixError: the model's folder has no ``limits.json``, or it is not a JSON object.
        """
        path = self.folder / "limits.json"
        if not path.is_file():
            raise DualpixError(f"model '{self.name}' has no limits.json in '{self.folder}'", hint="add one to gate it")
        return read_object(path)

    def calibration(self, sizes: int, *, learned: bool = False) -> tuple[Calibration, str]:
        """What the confidence of its disparity is judged by, and the model that this was made for.

        ``confidence.json`` beside the weights; without one that of the default model.

        Args:
            sizes: number of working sizes whose results are merged.
            learned: whether it gives a confidence of its own, which one of another network says nothing of.

        Raises:
            DualpixError: ``confidence.json`` is damaged.
        """
        own = self.folder / CONFIDENCE
        path = own if own.is_file() else ZOO / DEFAULT_MODEL / CONFIDENCE
        found = read_calibration(path, sizes, learned=learned and path == own)
        return found, path.parent.resolve().name

    @property
    def trained_disparity_px(self) -> float:
        """Largest absolute disparity that training can have shown it, in working pixels.

        From the card: the largest blur times the largest gain; of the shipped models where the card does not say.
        """
        training = self.card.get("training")
        render = training.get("render") if isinstance(training, dict) else None
        try:
            known = float(render["max_coc_px"]) * max(float(gain) for gain in render["disparity_gain"])  # type: ignore[index]
        except (KeyError, TypeError, ValueError):
            return _TRAINED_PX
        return known if math.isfinite(known) and known > 0 else _TRAINED_PX


def read_calibration(path: Path, sizes: int, *, learned: bool = False) -> Calibration:
    """The calibration in a ``confidence.json`` for results of one or of several working sizes.

    With ``learned`` that which weighs the network's own confidence, where there is one.

    Raises:
        DualpixError: it is damaged.
    """
    value = read_object(path)
    key = "several_sizes" if sizes > 1 and "several_sizes" in value else "one_size"
    key = f"{key}_learned" if learned and f"{key}_learned" in value else key
    return parse_calibration(value.get(key), f"'{path.name}' of '{path.parent.name}'")


def load_model(name_or_folder: str | Path = DEFAULT_MODEL) -> LoadedModel:
    """Load a shipped model by name, or one of your own from a folder of the same form.

    ``package.module:factory`` is a network of your own as the function gives it, and ``package.module:factory@FOLDER``
    one with the weights that ``dualpix train --network package.module:factory`` left in the folder.

    Everything that makes a model useless is refused here, for every command: weights that do not fit, are of another
    type or not finite, and a network that gives no number for a plain picture. Nothing is allocated before the shapes
    in the file are known to be those of the network.

    Raises:
        UnknownNameError: neither a shipped name nor a folder with a ``card.json``; lists the known names. Or the card
            names an unknown network.
        DualpixError: the card is damaged, or the weights are, or do not fit the network it names.
    """
    found = find_model(name_or_folder)
    spec, name = found.spec, found.name
    if found.folder is None:
        module = spec.build({})
        check_weights(module, name)
        _check_output(module.eval(), spec, name)
        return LoadedModel(name, module, spec, found.card, Path())
    folder, card, network = found.folder, found.card, found.network
    path = folder / "weights.safetensors"
    with torch.device("meta"):  # shapes alone: what a card asks for may not fit into memory
        wanted = _built(network, card).state_dict()
    try:
        _check_stored(path, wanted, name, network)
        state = load_file(path)
        module = _built(network, card)
        module.load_state_dict(state)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _unloadable(name, network, _reason(error)) from error
    check_weights(module, name)
    _check_output(module.eval(), spec, name)
    return LoadedModel(name, module, spec, card, folder)


def check_weights(module: nn.Module, name: str) -> None:
    """Refuse weights that are not finite: nothing that is computed from them is.

    Raises:
        DualpixError: names the first such parameter or buffer.
    """
    for key, tensor in module.state_dict().items():
        bad = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
        if bad:
            raise DualpixError(
                f"parameter '{key}' of '{name}' holds {bad} values that are not finite",
                expected="finite weights",
                hint="take an earlier checkpoint",
            )


def _built(network: str, card: dict[str, Any]) -> nn.Module:
    try:
        return build_network(network, card.get("options"))
    except (RuntimeError, OverflowError, MemoryError, RecursionError) as error:  # sizes that no tensor can have
        raise DualpixError(
            f"options of network '{network}' do not fit: {_reason(error)}", expected="fields of its configuration"
        ) from error


def _check_stored(path: Path, wanted: dict[str, Tensor], name: str, network: str) -> None:
    """Names, shapes and types in the file against those of the network; reads the header alone."""
    with safe_open(path, framework="pt") as file:
        stored = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        shapes = {key: (tuple(part.get_shape()), str(part.get_dtype())) for key, part in stored.items()}
    for key, tensor in wanted.items():
        if key not in shapes:
            raise _unloadable(name, network, f"'{key}' is missing")
        shape, kind = shapes[key]
        if shape != tuple(tensor.shape):
            raise _unloadable(name, network, f"'{key}' is {list(shape)}, the network's {list(tensor.shape)}")
        if tensor.is_floating_point() and kind not in _STORED_AS:
            raise DualpixError(f"weights of '{name}': '{key}' is stored as {kind}", expected="floating-point weights")
    extra = sorted(set(shapes) - set(wanted))
    if extra:
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise _unloadable(name, network, f"'{extra[0][:80]}'{more} is not of the network")


def _check_output(module: nn.Module, spec: NetworkSpec, name: str) -> None:
    """Run it once: finite weights of 1e30 give no finite output, or one that no picture can have."""
    side = math.ceil(_PROBE_PX / spec.size_multiple) * spec.size_multiple
    wave = 0.1 * torch.sin(torch.arange(side) * 0.7)
    task = spec.of_task()
    shapes = [task.field(input_name).shape((side, side), _PROBE_FRAMES) for input_name in spec.input_names]
    probes = [_probe(shape, wave) for shape in shapes]
    with torch.inference_mode():
        output = first_output(module(*probes))
    most = float(output.abs().max())
    known = task.output(spec.output)
    if not math.isfinite(most) or (known is not None and known.scales_with_picture and most > side):
        raise DualpixError(
            f"network '{name}' gives {spec.output} up to {most:g} for a plain picture of {side} x {side} px",
            expected="values that can be",
            hint="the weights have diverged: take an earlier checkpoint",
        )


def _probe(shape: tuple[int, ...], wave: Tensor) -> Tensor:
    """A batch of one: pictures are ``wave`` in each row; scalars differ from frame to frame."""
    if len(shape) > 1:
        return wave.expand(1, *shape).contiguous()
    return _PROBE_SCALARS[None] if shape else torch.ones(1)


def _unloadable(name: str, network: str, reason: str) -> DualpixError:
    return DualpixError(f"weights of '{name}' do not load: {reason}", expected=f"a state dict of network '{network}'")


def _reason(error: BaseException) -> str:
    """The first line that says something: torch puts a heading before its list of misfits."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    misfits = lines[1:] or lines
    more = f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else ""
    return misfits[0].rstrip(". ")[:200] + more
