"""``dualpix train``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click
import torch

from dualpix.capture.errors import DualpixError
from dualpix.capture.progress import ProgressLine
from dualpix.capture.render import Quality
from dualpix.models.data.rendered import Optics, RenderSettings, Scenes
from dualpix.models.train import Progress, TrainConfig, Trainer

SCENES = "scenes"
"""Folder of the rendered scenes within that of a run."""


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--network", default="difusenet", help="Network to train.")
@click.option("--options", default="{}", help="JSON object with fields of the network's configuration.")
@click.option("--init", help="Model to start from, by name or folder: fine-tuning.")
@click.option("--init-share", type=float, default=0.0, help="Of the result that stays as it was in --init.")
@click.option("--scenes", type=click.Choice(get_args(Scenes)), default="varied", help="Kind of procedural scenes.")
@click.option(
    "--quality", type=click.Choice(get_args(Quality)), default="exact", help="Of the renderer at depth edges."
)
@click.option("--optics", type=click.Choice(get_args(Optics)), default="cameras", help="How apertures are split.")
@click.option("--steps", type=click.IntRange(1), default=6000, help="Optimiser steps.")
@click.option("--batch-size", type=click.IntRange(1), default=8, help="Samples per step.")
@click.option("--samples", type=click.IntRange(1), default=4096, help="Rendered scenes; each is seen in many forms.")
@click.option("--learning-rate", type=float, default=2e-3, help="Peak learning rate.")
@click.option("--seed", type=click.IntRange(0), default=1, help="Seed of weights, scenes and augmentation.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Folder for rendered scenes (0.5 MB each), shared by runs; default OUTPUT/scenes.",
)
@click.option("--no-cache", is_flag=True, help="Render each scene anew whenever it is seen.")
@click.option("--workers", type=click.IntRange(0), default=1, help="Rendering processes.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the training itself.")
@click.option("--checkpoint-every", type=click.IntRange(1), default=100, help="Steps between checkpoints.")
@click.option("--evaluate-every", type=click.IntRange(1), default=500, help="Steps between evaluations.")
@click.option("--eval-samples", type=click.IntRange(0), default=32, help="Held-out rendered scenes; 0 for none.")
@click.option("--restart", is_flag=True, help="Ignore a checkpoint in the folder instead of resuming from it.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    output: Path,
    network: str,
    options: str,
    init: str | None,
    init_share: float,
    scenes: Scenes,
    quality: Quality,
    optics: Optics,
    steps: int,
    batch_size: int,
    samples: int,
    learning_rate: float,
    seed: int,
    cache: Path | None,
    no_cache: bool,
    workers: int,
    threads: int | None,
    checkpoint_every: int,
    evaluate_every: int,
    eval_samples: int,
    restart: bool,
    as_json: bool,
) -> None:
    """Train a network on rendered dual-pixel scenes.

    Resumes by itself: run the same command again after a kill and the loss curve goes on as if nothing had happened.
    Leaves a folder that --model accepts: weights.safetensors, card.json, log.csv.
    """
    if threads:
        torch.set_num_threads(threads)
    config = TrainConfig(
        network=network, options=_json_object(options), init=init, init_share=init_share, steps=steps,
        batch_size=batch_size, samples=samples,
        learning_rate=learning_rate, seed=seed, checkpoint_every=checkpoint_every, evaluate_every=evaluate_every,
        eval_samples=eval_samples, render=RenderSettings(scenes=scenes, quality=quality, optics=optics),
    )  # fmt: skip
    if cache and no_cache:
        raise DualpixError("--cache and --no-cache were given", expected="one of them")
    trainer = Trainer(config, output, cache_dir=None if no_cache else cache or output / SCENES, workers=workers)
    if not restart and trainer.resume():
        click.echo(f"resuming at step {trainer.step} of {steps}", err=True)
    with ProgressLine("training") as line:
        trainer.run(_shower(line))
    result = json.loads((output / "card.json").read_text())
    if as_json:
        click.echo(json.dumps(result))
    else:
        error = result["final_eval_error_px"]
        judged = "not evaluated" if error is None else f"evaluation error {error:.4f} px"
        click.echo(f"{output}: {result['parameters']} parameters, {judged}")


def _json_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DualpixError(f"--options is not JSON: {error}", expected='an object such as {"window": 4}') from error
    if not isinstance(value, dict):
        raise DualpixError(f"--options is a {type(value).__name__}", expected='an object such as {"window": 4}')
    return value


def _shower(line: ProgressLine, every: int = 50) -> Callable[[Progress], None]:
    losses: list[float] = []

    def show(progress: Progress) -> None:
        losses.append(progress.loss)
        recent = losses[-every:]
        text = f"loss {sum(recent) / len(recent):.4f}"
        if progress.eval_error_px is not None:
            text += f"  evaluation {progress.eval_error_px:.4f} px"
        important = progress.eval_error_px is not None or progress.step % every == 0
        line.update(progress.step, progress.steps, text, important=important)

    return show
