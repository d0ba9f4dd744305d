"""``dualpix ensemble``: several networks as one model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import check_output_dir, json_bytes, make_output_dir, write_bytes
from dualpix.models.networks.members import ENSEMBLE, MEMBERS, MOST_MEMBERS
from dualpix.models.zoo.cards import FoundModel, find_model, split_factory

if TYPE_CHECKING:
    from torch import Tensor


@click.command(name="ensemble")
@click.argument("models", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the new model.")
@click.option("--half", is_flag=True, help="Weights as float16: half the file.")
@click.option("--json", "as_json", is_flag=True, help="What was made, for machines.")
def command(models: tuple[str, ...], output: Path, half: bool, as_json: bool) -> None:
    """MODELS as one: a network that gives the mean of what they give, and costs what all cost.

    Each of MODELS is a shipped network's name, or a folder with card and weights; they give disparity of dual-pixel
    pairs. The folder is a model like any other: --model takes it, it is quantised and exported. Its confidence is
    judged by what was measured of the default network, until a calibration of its own lies there.
    """
    found = [_member(name) for name in models]
    if not 2 <= len(found) <= MOST_MEMBERS:
        raise DualpixError(f"{len(found)} model", expected=f"2 to {MOST_MEMBERS}")
    check_output_dir(output)
    card, weights = _joined(found, half=half)
    make_output_dir(output)
    from safetensors.torch import save

    for name, data in {"card.json": json_bytes(card), "weights.safetensors": save(weights)}.items():
        write_bytes(output / name, data)
    if as_json:
        echo_json({"model": str(output), "parameters": card["parameters"], "members": [one.name for one in found]})
        return
    click.echo(
        f"{output}: {card['parameters']} parameters of {len(found)} networks: " + ", ".join(f.name for f in found)
    )


def _member(name: str) -> FoundModel:
    if split_factory(name)[0]:
        raise DualpixError(f"'{name}' is a network of your own", expected="those of dualpix alone: a card runs no code")
    found = find_model(name)
    if found.network == ENSEMBLE:
        raise DualpixError(f"'{found.name}' is an ensemble", expected="its members", hint="name them all")
    if found.spec.output != "disparity_px":
        raise DualpixError(f"'{found.name}' gives {found.spec.output}", expected="disparity_px of dual-pixel pairs")
    return found


def _joined(found: list[FoundModel], *, half: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Card and weights."""
    import torch

    from dualpix.models.zoo.load import load_model

    loaded = [load_model(one.folder or one.name) for one in found]
    members = [{"network": one.network, "options": one.card.get("options") or {}} for one in found]
    weights = {
        f"{MEMBERS}.{i}.{name}": value.to(torch.float16 if half and value.is_floating_point() else value.dtype)
        for i, model in enumerate(loaded)
        for name, value in model.module.state_dict().items()
    }
    card: dict[str, Any] = {
        "network": ENSEMBLE,
        "options": {MEMBERS: members},
        "summary": f"The mean of {len(found)} networks: {', '.join(one.name for one in found)}.",
        "parameters": sum(p.numel() for model in loaded for p in model.module.parameters()),
        "task": found[0].spec.task,
        "members": [{"name": one.name, "card": model.card} for one, model in zip(found, loaded, strict=True)],
    }
    kept = [f"{MEMBERS}.{i}.{layer}" for i, model in enumerate(loaded) for layer in model.card.get("keep_float", [])]
    if kept:
        card["keep_float"] = kept
    return card, {name: value.contiguous() for name, value in weights.items()}
