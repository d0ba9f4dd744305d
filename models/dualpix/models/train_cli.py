"""``dualpix train``.

What needs torch is imported when a run begins: a wrong argument is answered at once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import check_output_dir
from dualpix.capture.progress import Pace, ProgressLine
from dualpix.models.data.kinds import CROP_HW, SCENE_HW, Optics, Quality, Scenes, WantedDevice, WantedPrecision
from dualpix.models.named import check_findable, is_named
from dualpix.models.networks import network_spec
from dualpix.models.shipped import model_folder

if TYPE_CHECKING:
    from dualpix.models.train import Progress

SCENES = "scenes"
"""Folder of the rendered scenes within that of a run."""
_LINE_EVERY_S = 30.0
"""In a log."""


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option(
    "--network", default="difusenet", help="Network to train, or package.module:factory, a function that gives yours."
)
@click.option("--options", default="{}", help="JSON object with fields of the network's configuration.")
@click.option("--init", help="Model to start from, by name or folder: fine-tuning.")
@click.option("--init-share", type=float, default=0.0, help="Of the result that stays as it was in --init.")
@click.option(
    "--data",
    multiple=True,
    default=("procedural",),
    show_default=True,
    metavar="SOURCE[:WEIGHT]",
    help="Repeatable: procedural, a folder or shards of `dualpix render`, RGB-D data, real pairs, focus stacks.",
)
@click.option(
    "--validate",
    multiple=True,
    metavar="SOURCE|SHARE",
    help="What judges: sources (repeatable), or the share of the scenes that is held out; by default rendered scenes.",
)
@click.option("--frames", type=click.IntRange(2, 100), default=5, help="Of focus stacks.")
@click.option("--renders", type=click.IntRange(1), default=4, help="Of each RGB-D picture, through other lenses.")
@click.option("--size", "size_hw", type=(int, int), default=SCENE_HW, show_default=True, help="H W of rendered scenes.")
@click.option("--crop", "crop_hw", type=(int, int), default=CROP_HW, show_default=True, help="H W of what is seen.")
@click.option("--scenes", type=click.Choice(get_args(Scenes)), default="varied", help="Kind of procedural scenes.")
@click.option(
    "--quality", type=click.Choice(get_args(Quality)), default="exact", help="Of the renderer at depth edges."
)
@click.option("--optics", type=click.Choice(get_args(Optics)), default="cameras", help="How apertures are split.")
@click.option(
    "--precision",
    type=click.Choice(get_args(WantedPrecision)),
    default="auto",
    help="Of the products in a step; auto: bfloat16 where the device computes in it.",
)
@click.option(
    "--device",
    type=click.Choice(get_args(WantedDevice)),
    default="auto",
    help="auto: a GPU if there is one. torchrun starts one process for each.",
)
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
@click.option(
    "--adapt",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Repeatable: captures without any truth, to adapt --init to their camera by blurring its sharp picture again.",
)
@click.option(
    "--disparity-gain",
    type=float,
    help="With --adapt: disparity per circle of confusion, where dataset.json or the captures do not say it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    output: Path,
    network: str,
    options: str,
    init: str | None,
    init_share: float,
    data: tuple[str, ...],
    validate: tuple[str, ...],
    frames: int,
    renders: int,
    size_hw: tuple[int, int],
    crop_hw: tuple[int, int],
    scenes: Scenes,
    quality: Quality,
    optics: Optics,
    precision: WantedPrecision,
    device: WantedDevice,
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
    adapt: tuple[Path, ...],
    disparity_gain: float | None,
    as_json: bool,
) -> None:
    """Train a network on rendered or real data.

    Resumes by itself: run the same command again after a kill and the loss curve goes on as if nothing had happened.
    Ctrl-C finishes the step, keeps it, and exits with 130. Leaves a folder that --model accepts: weights.safetensors,
    card.json, log.csv.

    --adapt FOLDER goes on from --init by captures alone, without a truth: some hundred steps, and a result only where
    captures that were held out are the better for it.
    """
    if adapt:
        from dualpix.models.adapt_cli import adapt_asked

        adapt_asked(ctx)
        return
    parsed = _checked_options(ctx)
    line = _line()
    with line:
        line.update(0, steps, "starting", important=False)  # a bar alone: an argument may still be refused
        import torch

        from dualpix.models.data.rendered import RenderSettings
        from dualpix.models.train import Listener, TrainConfig, Trainer, TrainingInterruptedError
        from dualpix.models.train.device import resolve_device
        from dualpix.models.train.distributed import process_group, world_of_environment

        if threads:
            torch.set_num_threads(threads)
        world = world_of_environment()
        where = resolve_device(device, world.local_rank)
        config = TrainConfig(
            network=network, options=parsed, init=init, init_share=init_share, steps=steps, batch_size=batch_size,
            samples=samples, learning_rate=learning_rate, seed=seed, checkpoint_every=checkpoint_every,
            evaluate_every=evaluate_every, eval_samples=eval_samples, precision=precision, data=data,
            validate=validate, frames=frames, renders=renders, crop_hw=crop_hw,
            render=RenderSettings(size_hw, scenes=scenes, quality=quality, optics=optics),
        )  # fmt: skip
        kept = None if no_cache else cache or output / SCENES
        with process_group(world, where):
            trainer = Trainer(config, output, cache_dir=kept, workers=workers, device=where, world=world)
            for note in trainer.notes:
                line.say(note)
            if not restart and trainer.resume():
                line.say(f"resuming at step {trainer.step} of {steps}, in {trainer.precision}")
            shower = _Shower(line, trainer.step, steps)
            try:
                trainer.run(listener=Listener(shower.progress, shower.stage))
            except TrainingInterruptedError as stopped:
                _tell_how_to_go_on(line, output, stopped.step, steps)
                sys.exit(128 + stopped.signal_number)
    if world.is_first:
        if trainer.skipped:
            click.echo(trainer.skipped, err=True)
        _tell_result(output, trainer.task.guess_name, as_json)


def _checked_options(ctx: click.Context) -> dict[str, object]:
    """The network's options, once all that can be looked at without torch has been.

    Raises:
        DualpixError: something that was asked for cannot be.
    """
    asked = ctx.params
    if asked["disparity_gain"] is not None:
        raise DualpixError("--disparity-gain was given without --adapt", expected="both, or neither")
    if asked["cache"] and asked["no_cache"]:
        raise DualpixError("--cache and --no-cache were given", expected="one of them")
    parsed = _json_object(asked["options"])
    if is_named(asked["network"]):
        check_findable(asked["network"])
    else:
        network_spec(asked["network"])
    if asked["init"] is not None:
        model_folder(asked["init"])
    check_output_dir(asked["output"])
    return parsed


def _line() -> ProgressLine:
    """One for a run: of several processes the first one speaks."""
    return ProgressLine("training", silent=os.environ.get("RANK", "0") != "0")


def _tell_how_to_go_on(line: ProgressLine, output: Path, step: int, steps: int) -> None:
    kept = f"step {step} of {steps} is kept in '{output}'" if step else "before the first step"
    line.say(f"stopped: {kept}; run the same command again to go on")


def _tell_result(output: Path, guess: str, as_json: bool) -> None:
    result = json.loads((output / "card.json").read_text())
    if as_json:
        click.echo(json.dumps(result))
        return
    error, guessed, unit = (result[key] for key in ("final_eval_error", "eval_error_of_guess", "eval_error_unit"))
    judged = "not evaluated" if error is None else f"evaluation error {error:.4f} {unit}"
    click.echo(f"{output}: {result['parameters']} parameters, {judged}")
    if error is not None and guessed is not None and error >= guessed:
        click.echo(f"no better than {guess} ({guessed:.4f} {unit}): nothing was learnt yet", err=True)


def _json_object(text: str) -> dict[str, object]:
    wanted = 'an object such as {"window": 4}'
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DualpixError(f"--options is not JSON: {error}", expected=wanted) from error
    except (RecursionError, ValueError) as error:  # nested by the thousand, a number of thousands of digits
        raise DualpixError("--options is nested or long beyond reason", expected=wanted) from error
    if not isinstance(value, dict):
        raise DualpixError(f"--options is a {type(value).__name__}", expected=wanted)
    return value


class _Shower:
    """Tells a :class:`ProgressLine` of a run: what is being done, the loss, steps a second and the time left."""

    def __init__(self, line: ProgressLine, first_step: int, steps: int, every: int = 50) -> None:
        self.line, self.steps, self.every = line, steps, every
        self.step = first_step
        self.losses: list[float] = []
        self.pace: Pace | None = None
        self.shown_s = -_LINE_EVERY_S
        self.staged, self.stage_pace = "", Pace(0)

    def stage(self, text: str, done: int, total: int) -> None:
        """What goes on beside steps."""
        begins = text != self.staged
        if begins:
            self.staged, self.stage_pace = text, Pace(total)
        self.stage_pace.done = done
        counted = f"{text} {done}/{total}" if total else text
        if 0 < done < total:
            counted += f"  {self.stage_pace.per_second:.2f}/s  {self.stage_pace.time_left} left"
        self._show(counted, important=begins or done == 1)

    def progress(self, progress: Progress) -> None:
        """After a step."""
        soon = self.pace is None or not self.pace.done  # the first step, and the first whose pace is known
        if self.pace is None:  # from the end of the first step on: what comes before it is no step
            self.pace = Pace(self.steps - progress.step)
        else:
            self.pace.step()
        self.step = progress.step
        self.losses = [*self.losses[1 - self.every :], progress.loss]
        text = f"loss {sum(self.losses) / len(self.losses):.4f}"
        if self.pace.done:
            text += f"  {self.pace.per_second:.2f} steps/s"
            if not self.line.shows_time_left:
                text += f"  {self.pace.time_left} left"
        if progress.eval_error is not None:
            text += f"  evaluation {progress.eval_error:.4f} {progress.error_unit}"
        self._show(text, important=soon or progress.eval_error is not None or progress.step % self.every == 0)

    def _show(self, text: str, *, important: bool) -> None:
        now = time.monotonic()
        important = important or now - self.shown_s > _LINE_EVERY_S
        if important:
            self.shown_s = now
        self.line.update(self.step, self.steps, text, important=important)
