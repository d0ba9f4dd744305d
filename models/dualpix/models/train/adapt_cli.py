"""``dualpix train --adapt``: what is asked, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dualpix.capture.command.given import is_given
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import check_output_dir
from dualpix.capture.progress import ProgressLine
from dualpix.models.zoo.cards import model_folder

_TAKEN = frozenset(
    {
        "output", "init", "adapt", "disparity_gain", "steps", "batch_size", "crop_hw", "learning_rate", "seed",
        "device", "threads", "as_json",
    }
)  # fmt: skip


def adapt_asked(ctx: click.Context) -> None:
    """Adapt a model, and write it if it is the better for it.

    Raises:
        DualpixError: an option that has no meaning here, a model or captures that do not do, or nothing better came.
    """
    asked: dict[str, Any] = ctx.params
    _check(ctx)
    output: Path = asked["output"]
    model_folder(asked["init"])
    check_output_dir(output)
    with ProgressLine("adapting") as line:
        line.update(0, 1, "starting", important=False)
        import torch

        from dualpix.models.train import adapt, adapt_pairs
        from dualpix.models.train.device import resolve_device
        from dualpix.models.zoo import load_model

        if asked["threads"]:
            torch.set_num_threads(asked["threads"])
        config = adapt.config_with(
            steps=_given(ctx, "steps"),
            batch_size=_given(ctx, "batch_size"),
            learning_rate=_given(ctx, "learning_rate"),
            crop_hw=asked["crop_hw"],
            seed=asked["seed"],
        )
        gain = None if asked["disparity_gain"] is None else adapt_pairs.check_gain(asked["disparity_gain"])
        model = load_model(asked["init"])
        adapt.check_model(model)
        pairs = adapt_pairs.read_pairs(
            asked["adapt"],
            output,
            gain,
            lambda done, total: line.update(done, total, "captures are read", important=done == 0),
        )
        network, record = adapt.adapt(
            model,
            pairs,
            config,
            device=resolve_device(asked["device"]),
            on_step=lambda done, total, text: line.update(done, total, text, important="held out" in text),
        )
        adapt.write_adapted(output, model, network, record)
    _tell(output, record, as_json=asked["as_json"])


def _check(ctx: click.Context) -> None:
    for name in ctx.params:
        if name not in _TAKEN and is_given(ctx, name):
            raise DualpixError(
                f"--{name.replace('_', '-')} was given with --adapt",
                expected="captures alone, and a model to begin with",
            )
    if ctx.params["init"] is None:
        raise DualpixError("--adapt was given without --init", expected="the model to adapt, by name or folder")


def _given(ctx: click.Context, name: str) -> Any:
    return ctx.params[name] if is_given(ctx, name) else None


def _tell(output: Path, record: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(record))
        return
    before, after = record["before"], record["after"]
    click.echo(
        f"{output}: adapted to {record['captures']} captures; on {len(record['held_out'])} held out, the difference of "
        f"the halves is off by {after['difference']:.5f} after {before['difference']:.5f} (step {record['step']})"
    )
