"""Tasks without networks, and training data made by ``dualpix render`` at small sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dualpix.capture.cli import main
from dualpix.models import tasks
from dualpix.models.data.rendered import RenderSettings
from dualpix.models.data.source import SampleError
from dualpix.models.data.sources import SourceOptions
from dualpix.models.tasks.task import KNOWN, Sample, Task

SIZE_HW = (48, 64)
OPTIONS = SourceOptions(samples=6, frames=4, renders=2, render=RenderSettings(size_hw=SIZE_HW, scenes="varied"))

Augment = Callable[[Sample, np.random.Generator], Sample]


def unchanged(sample: Sample, rng: np.random.Generator) -> Sample:
    del rng
    return sample


def task_named(name: str, augment: Augment = unchanged) -> Task:
    """A task with an augmentation of one's own."""
    return replace(tasks.task_named(name), augment=augment)


def render(folder: Path, *arguments: str | Path) -> Path:
    """What ``dualpix render`` writes into ``folder``."""
    with pytest.raises(SystemExit) as stopped:
        main(["render", "-o", str(folder), *map(str, arguments)])
        raise SystemExit(0)
    assert not stopped.value.code
    return folder


@dataclass(frozen=True)
class Numbered:
    """Pairs whose light says their index; some do not read."""

    name: str
    count: int
    bad: frozenset[int] = frozenset()
    size_hw: tuple[int, int] = (16, 24)
    task: str = "dual_pixel"
    per_scene: int = 1
    read: list[int] = field(default_factory=list, compare=False)

    def __len__(self) -> int:
        return self.count

    def scene_of(self, index: int) -> str:
        return f"scene {index // self.per_scene}"

    def prepare(self, index: int) -> Sample:
        self.read.append(index)
        if index in self.bad:
            raise SampleError(f"'{self.name}/{index}.png' is cut", expected="a complete file")
        height, width = self.size_hw
        ramp = torch.arange(width, dtype=torch.float32).expand(1, height, width) / 100
        return {
            "left": ramp + index,
            "right": ramp - index,
            "combined": ramp.expand(3, -1, -1) * 2,
            "disparity_px": torch.full((1, height, width), float(index)),
            KNOWN: torch.ones(1, height, width),
        }

    def form(self, prepared: Sample) -> Sample:
        return prepared

    def digest(self) -> str:
        return f"{self.name} {self.count}"
