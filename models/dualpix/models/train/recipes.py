"""Recipes: several runs, one after the other, each starting from what those before it learnt.

``cmtl`` is the training of DiFuse-Net (arXiv 2506.14709, section 5): its dual-pixel encoder with a decoder learns from
dual-pixel pairs, its image encoder with a decoder from pictures with depth, which there are many more of; then the
whole network learns end to end from pairs, its encoders from those two, its fusion and decoder from random weights.

A stage is an ordinary run in a folder of its own, over a branch of the network (option ``branches``), so it resumes as
runs do and its folder is a model. It goes on only while what it started from is what lies there: a stage that has to be
trained takes away the checkpoints of those after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import json_bytes, sha256_of_file, write_bytes
from dualpix.models.data.kinds import Recipe
from dualpix.models.data.sources.procedural import PROCEDURAL
from dualpix.models.networks import BRANCHES, DUAL_PIXEL_BRANCH, IMAGE_BRANCH, network_spec
from dualpix.models.train.checkpoint import CHECKPOINT
from dualpix.models.train.config import TrainConfig
from dualpix.models.train.feed import share_of
from dualpix.models.train.loop import Trainer
from dualpix.models.train.start import check_run
from dualpix.models.zoo.cards import CARD, read_object

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Stage:
    """One run of a recipe."""

    folder: str
    """Within that of the recipe."""
    config: TrainConfig


@dataclass(frozen=True)
class StageSettings:
    """What the stages of a recipe differ in, beside what the recipe says."""

    steps: tuple[int, ...] = ()
    """Of each stage; empty: each as the configuration says."""
    mono_data: tuple[str, ...] = ()
    """Sources of pictures with depth; empty: procedural scenes."""


def cmtl(config: TrainConfig, settings: StageSettings) -> tuple[Stage, ...]:
    """The three stages, all of ``config`` but for branch, data, start and steps.

    Raises:
        DualpixError: a network without two branches, options or a start that the recipe sets itself, or another number
            of steps than of stages.
    """
    spec = network_spec(config.network, config.options)
    if BRANCHES in config.options or config.init is not None or config.init_parts:
        raise DualpixError(
            "a recipe with --init or with a branch among the options", expected="none: its stages set them"
        )
    if set(spec.parts) != {DUAL_PIXEL_BRANCH, IMAGE_BRANCH}:
        raise DualpixError(
            f"recipe 'cmtl' for network '{config.network}'",
            expected="one with a dual-pixel and an image branch: difusenet or difusenet-paper",
        )
    held_out = tuple(text for text in config.validate if share_of(text) is not None)
    stages = (
        Stage(
            "1-dual-pixel",
            replace(config, options={**config.options, BRANCHES: DUAL_PIXEL_BRANCH}, encoder_weights=None),
        ),
        Stage(
            "2-image",
            replace(
                config,
                options={**config.options, BRANCHES: IMAGE_BRANCH},
                data=settings.mono_data or (PROCEDURAL.name,),
                validate=held_out,
            ),
        ),
        Stage(
            "3-whole",
            replace(
                config,
                init_parts=(f"{DUAL_PIXEL_BRANCH}=../1-dual-pixel", f"{IMAGE_BRANCH}=../2-image"),
                encoder_weights=None,
            ),
        ),
    )
    if not settings.steps:
        return stages
    if len(settings.steps) != len(stages):
        raise DualpixError(f"steps of {len(settings.steps)} stages", expected=f"{len(stages)}")
    return tuple(
        replace(stage, config=replace(stage.config, steps=steps))
        for stage, steps in zip(stages, settings.steps, strict=True)
    )


RECIPES: dict[Recipe, Callable[[TrainConfig, StageSettings], tuple[Stage, ...]]] = {"cmtl": cmtl}


def check_stages(stages: Sequence[Stage], folder: Path) -> None:
    """Refuse what a later stage would refuse, before the first one begins.

    Raises:
        DualpixError: as :class:`~.loop.Trainer`.
    """
    for stage in stages:
        check_run(replace(stage.config, init_parts=()), folder / stage.folder)


def is_done(trainer: Trainer) -> bool:
    """Whether a stage that was resumed has nothing left to do; the same in all processes."""
    done = trainer.step == trainer.config.steps and (trainer.folder / WEIGHTS).is_file()
    return bool(trainer.world.number_from_first(int(done), trainer.device))


def forget_after(stages: Sequence[Stage], number: int, folder: Path) -> None:
    """Take away the checkpoints of the stages after ``number``: they started from other weights."""
    for stage in stages[number + 1 :]:
        (folder / stage.folder / CHECKPOINT).unlink(missing_ok=True)


def gather_result(recipe: str, stages: Sequence[Stage], folder: Path) -> None:
    """The last stage's model as that of the recipe's folder, with a card that tells of all stages."""
    told = []
    for stage in stages:
        card = read_object(folder / stage.folder / CARD)
        kept = ("options", "task", "started_from", "final_eval_error", "eval_error_of_guess", "eval_error_unit")
        told.append(
            {
                "folder": stage.folder,
                "steps": stage.config.steps,
                "data": list(stage.config.data),
                **{name: card[name] for name in kept},
                "weights_sha256": sha256_of_file(folder / stage.folder / WEIGHTS),
            }
        )
    last = folder / stages[-1].folder
    card = read_object(last / CARD) | {"recipe": recipe, "stages": told}
    weights = (last / WEIGHTS).read_bytes()
    # as a run's: the card first, so that a folder never holds weights without one
    write_bytes(folder / CARD, json_bytes(card))
    write_bytes(folder / WEIGHTS, weights)
