"""Runs that the command line starts, one or those of a recipe, resumed where they stopped, and what is told of them."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from dualpix.capture.errors import DualpixError
from dualpix.capture.progress import Pace, ProgressLine
from dualpix.models.data.kinds import Recipe
from dualpix.models.train.checkpoint import CHECKPOINT
from dualpix.models.train.config import TrainConfig
from dualpix.models.train.distributed import World
from dualpix.models.train.loop import Trainer
from dualpix.models.train.progress import Listener, Progress, TrainingInterruptedError
from dualpix.models.train.recipes import RECIPES, StageSettings, check_stages, forget_after, gather_result, is_done

_LINE_EVERY_S = 30.0
"""In a log."""


@dataclass
class Runner:
    """One process's part of the runs of a command."""

    line: ProgressLine
    world: World
    device: torch.device
    cache_dir: Path | None
    workers: int
    restart: bool
    """Whether checkpoints are ignored."""
    skipped: list[str] = field(default_factory=list)
    """What is to be said of samples that did not read, a line a run."""

    def run(self, config: TrainConfig, folder: Path) -> str:
        """One run; the name of the guess that its result is held against."""
        trainer = self._trainer(config, folder)
        if not self.restart and trainer.resume():
            self._tell_resumed(trainer, "")
        self._train(trainer, "")
        return trainer.task.guess_name

    def run_recipe(
        self, recipe: Recipe, config: TrainConfig, folder: Path, steps: tuple[int, ...], mono_data: tuple[str, ...]
    ) -> str:
        """All stages, each in its folder; the last one's model is that of ``folder`` as well.

        Raises:
            DualpixError: a stage cannot begin; the first ones are not begun then.
        """
        stages = RECIPES[recipe](config, StageSettings(steps, mono_data))
        if (folder / CHECKPOINT).is_file():
            raise DualpixError(f"'{folder}' holds a run that is no recipe's", hint="give another output folder")
        check_stages(stages, folder)
        guess = ""
        for number, stage in enumerate(stages):
            title = f"{stage.folder}: "
            trainer = self._trainer(stage.config, folder / stage.folder)
            guess = trainer.task.guess_name
            if not self.restart and trainer.resume():
                if is_done(trainer):
                    self.line.say(f"{title}done before")
                    continue
                self._tell_resumed(trainer, title)
            if self.world.is_first:
                forget_after(stages, number, folder)
            self._train(trainer, title)
            self.world.wait()
        if self.world.is_first:
            gather_result(recipe, stages, folder)
        return guess

    def _trainer(self, config: TrainConfig, folder: Path) -> Trainer:
        trainer = Trainer(
            config,
            folder,
            cache_dir=self.cache_dir,
            workers=self.workers,
            device=self.device,
            world=self.world,
            goes_on=not self.restart,
        )
        for note in trainer.notes:
            self.line.say(note)
        return trainer

    def _tell_resumed(self, trainer: Trainer, title: str) -> None:
        self.line.say(f"{title}resuming at step {trainer.step} of {trainer.config.steps}, in {trainer.precision}")

    def _train(self, trainer: Trainer, title: str) -> None:
        """To the last step, or as far as the user lets it; then the command ends."""
        steps = trainer.config.steps
        shower = _Shower(self.line, trainer.step, steps, prefix=title)
        try:
            trainer.run(listener=Listener(shower.progress, shower.stage))
        except TrainingInterruptedError as stopped:
            kept = f"step {stopped.step} of {steps} is kept in '{trainer.folder}'"
            kept = kept if stopped.step else "before the first step"
            self.line.say(f"stopped: {kept}; run the same command again to go on")
            sys.exit(128 + stopped.signal_number)
        if trainer.skipped:
            self.skipped.append(trainer.skipped)


class _Shower:
    """Tells a :class:`ProgressLine` of a run: what is being done, the loss, steps a second and the time left."""

    def __init__(self, line: ProgressLine, first_step: int, steps: int, every: int = 50, prefix: str = "") -> None:
        self.line, self.steps, self.every = line, steps, every
        self.step = first_step
        self.losses: list[float] = []
        self.pace: Pace | None = None
        self.shown_s = -_LINE_EVERY_S
        self.staged, self.stage_pace = "", Pace(0)
        self.prefix = prefix

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
        self.line.update(self.step, self.steps, self.prefix + text, important=important)
