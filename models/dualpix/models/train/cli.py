"""``dualpix train``.

What needs torch is imported when a run begins: a wrong argument is answered at once.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from dualpix.capture.command.given import given_options
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import check_output_dir
from dualpix.capture.progress import ProgressLine
from dualpix.models.data.kinds import (
    CROP_HW,
    SCENE_HW,
    Optics,
    Quality,
    Recipe,
    Scenes,
    StackGenerator,
    WantedDevice,
    WantedPrecision,
)
from dualpix.models.named import check_findable, is_named
from dualpix.models.networks import network_spec
from dualpix.models.zoo.cards import STACK_TASK, model_folder

if TYPE_CHECKING:
    from dualpix.models.train.config import TrainConfig

SCENES = "scenes"
"""Folder of the rendered scenes within that of a run."""
_MOST_FRAMES = 100
_OF_STACKS, _OF_PAIRS = ("frames", "stacks"), ("scenes", "quality", "optics")
"""Options that say how samples of one kind are rendered, and nothing of the other kind."""
_TOLD_EVERY = 50
"""Scenes, in a log."""


class _Frames(click.ParamType):  # type: ignore[type-arg]  # click 8.2 has no arguments for it
    """``5``, or ``2-9``: (fewest or None, most)."""

    name = "frames"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int]:
        """Both numbers are 2 to 100."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(?:(\d{1,3})-)?(\d{1,3})", str(value))
        if match is None:
            self.fail(f"'{value}' is no number of frames: give 5, or a range such as 2-9", param, ctx)
        fewest, most = None if match[1] is None else int(match[1]), int(match[2])
        if not 2 <= (fewest or most) <= most <= _MOST_FRAMES:
            self.fail(f"'{value}' is out of range: 2 to {_MOST_FRAMES} frames, rising", param, ctx)
        return fewest, most


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option(
    "--network", default="difusenet", help="Network to train, or package.module:factory, a function that gives yours."
)
@click.option("--options", default="{}", help="JSON object with fields of the network's configuration.")
@click.option("--init", help="Model to start from, by name or folder: fine-tuning.")
@click.option(
    "--encoder-weights",
    metavar="FILE|imagenet",
    help="Published weights that the image encoder begins with, of networks that are built on such a one.",
)
@click.option(
    "--recipe",
    type=click.Choice(get_args(Recipe)),
    help="Several runs that build on one another; cmtl: both branches alone, then the whole network.",
)
@click.option("--stage-steps", type=(int, int, int), help="Of the recipe's stages; by default each has --steps.")
@click.option(
    "--mono-data",
    multiple=True,
    metavar="SOURCE[:WEIGHT]",
    help="Repeatable: pictures with depth that the recipe's image branch learns from; by default procedural ones.",
)
@click.option("--init-share", type=float, default=0.0, help="Of the result that stays as it was in --init.")
@click.option(
    "--teacher", "teachers", multiple=True, metavar="MODEL",
    help="Repeatable: models of pairs whose disparity is learnt beside the truth, by how sure they are; of several the "
    "mean.",
)  # fmt: skip
@click.option("--teacher-weight", type=float, default=1.0, help="Of what teachers say, beside the truth's 1.")
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
@click.option(
    "--frames", type=_Frames(), default="5", show_default=True, metavar="N|FEWEST-MOST",
    help="Of focus stacks: 5; or as 2-9, where each step draws a number.",
)  # fmt: skip
@click.option(
    "--stacks", type=click.Choice(get_args(StackGenerator)), default="faithful", show_default=True,
    help="How focus stacks are rendered: light, occlusion and errors of real cameras, or as published networks' data.",
)  # fmt: skip
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
@click.option("--scene-seed", type=click.IntRange(0), help="Seed of the scenes alone, for runs that share a --cache.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Folder for rendered scenes (0.5 MB each; 0.4 MB a frame of a stack), shared by runs; default OUTPUT/scenes.",
)
@click.option("--no-cache", is_flag=True, help="Render each scene anew whenever it is seen.")
@click.option("--workers", type=click.IntRange(0), default=1, help="Rendering processes.")
@click.option("--render-only", is_flag=True, help="Render what the run would keep in its cache, by --workers, and end.")
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
    encoder_weights: str | None,
    recipe: Recipe | None,
    stage_steps: tuple[int, int, int] | None,
    mono_data: tuple[str, ...],
    init_share: float,
    teachers: tuple[str, ...],
    teacher_weight: float,
    data: tuple[str, ...],
    validate: tuple[str, ...],
    frames: tuple[int | None, int],
    stacks: StackGenerator,
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
    scene_seed: int | None,
    cache: Path | None,
    no_cache: bool,
    workers: int,
    render_only: bool,
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

    Resumes by itself, in any stage of a recipe: run the same command again after a kill and the loss curve goes on as
    if nothing had happened. Ctrl-C finishes the step, keeps it, and exits with 130. Leaves a folder that --model
    accepts: weights.safetensors, card.json, log.csv.

    --adapt FOLDER goes on from --init by captures alone, without a truth: some hundred steps, and a result only where
    captures that were held out are the better for it.
    """
    if adapt:
        from dualpix.models.train.adapt_cli import adapt_asked

        adapt_asked(ctx)
        return
    parsed = _checked_options(ctx)
    line = _line()
    with line:
        line.update(0, steps, "starting", important=False)  # a bar alone: an argument may still be refused
        import torch

        from dualpix.models.data.rendered import RenderSettings
        from dualpix.models.train.cli_run import Runner
        from dualpix.models.train.config import TrainConfig
        from dualpix.models.train.device import resolve_device
        from dualpix.models.train.distributed import process_group, world_of_environment

        if threads:
            torch.set_num_threads(threads)
        world = world_of_environment()
        where = resolve_device(device, world.local_rank)
        config = TrainConfig(
            network=network, options=parsed, init=init, init_share=init_share, encoder_weights=encoder_weights,
            teachers=teachers, teacher_weight=teacher_weight, steps=steps, batch_size=batch_size, samples=samples,
            learning_rate=learning_rate, seed=seed, scene_seed=scene_seed, checkpoint_every=checkpoint_every,
            evaluate_every=evaluate_every,
            eval_samples=eval_samples, precision=precision, data=data, validate=validate, fewest_frames=frames[0],
            frames=frames[1], stacks=stacks, renders=renders, crop_hw=crop_hw,
            render=RenderSettings(size_hw, scenes=scenes, quality=quality, optics=optics),
        )  # fmt: skip
        if render_only:
            _render_ahead(config, cache or output / SCENES, workers, line)
            return
        runner = Runner(line, world, where, None if no_cache else cache or output / SCENES, workers, restart=restart)
        with process_group(world, where):
            if recipe is None:
                guess = runner.run(config, output)
            else:
                guess = runner.run_recipe(recipe, config, output, stage_steps or (), mono_data)
    if world.is_first:
        for skipped in runner.skipped:
            click.echo(skipped, err=True)
        _tell_result(output, guess, as_json)


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
    if asked["render_only"] and asked["no_cache"]:
        raise DualpixError("--render-only and --no-cache were given", expected="one of them")
    if asked["recipe"] is not None and asked["init"] is not None:
        raise DualpixError("--recipe and --init were given", expected="one of them: stages begin with one another")
    _check_teachers(ctx)
    if asked["recipe"] is None and (asked["stage_steps"] or asked["mono_data"]):
        raise DualpixError("--stage-steps or --mono-data without a recipe", hint="add --recipe cmtl")
    parsed = _json_object(asked["options"])
    if is_named(asked["network"]):
        check_findable(asked["network"])
    else:
        _check_of_task(ctx, network_spec(asked["network"]).task)
    if asked["init"] is not None:
        model_folder(asked["init"])
    check_output_dir(asked["output"])
    return parsed


def _check_teachers(ctx: click.Context) -> None:
    """Whether the teachers that were named can be those of this run.

    Raises:
        DualpixError: there is no such model, or nothing that they could teach.
    """
    asked = ctx.params
    if asked["recipe"] is not None and asked["teachers"]:
        raise DualpixError("--recipe and --teacher were given", expected="one of them: a recipe has its own stages")
    if given_options(ctx, ["teacher_weight"]) and not asked["teachers"]:
        raise DualpixError("--teacher-weight was given without a teacher", expected="--teacher as well")
    for model in asked["teachers"]:
        model_folder(model)


def _check_of_task(ctx: click.Context, task: str) -> None:
    """Refuse what data of the task would silently do without.

    Raises:
        DualpixError: there is such an option.
    """
    stacks = task == STACK_TASK
    if given := given_options(ctx, _OF_PAIRS if stacks else _OF_STACKS):
        raise DualpixError(
            f"{given[0]} was given for network '{ctx.params['network']}'",
            expected=f"it with one that takes {'dual-pixel pairs' if stacks else 'focus stacks'}",
        )


def _render_ahead(config: TrainConfig, cache: Path, workers: int, line: ProgressLine) -> None:
    from dualpix.models.data.skipped import Skips
    from dualpix.models.train.render_ahead import render_ahead

    skips, done = Skips(line.say), 0
    for done, count, skip in render_ahead(config, cache, workers):
        if skip is not None:
            skips.note((skip,))
        line.update(done, count, "rendering", important=done in (1, count) or done % _TOLD_EVERY == 0)
    line.say(f"{done - len(skips)} samples are kept in '{cache}'")


def _line() -> ProgressLine:
    """One for a run: of several processes the first one speaks."""
    return ProgressLine("training", silent=os.environ.get("RANK", "0") != "0")


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
