"""Samples that are rendered once and read ever after: one safetensors file each, pictures in half precision.

What is kept is a pure function of what its folder is named after, so a file that is cut, of another form or not finite
is made anew, and two runs may share a folder.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from dualpix.capture.files import make_output_dir, write_bytes
from dualpix.models.data.source import Source
from dualpix.models.tasks import FOCUS_STACK, Sample

_HEADER_BYTES = 4096
"""Names and shapes."""
_WIDE = ("depth_m",)
"""Half precision has too few digits, or too small a range, for it and for all scalars."""


@dataclass(frozen=True)
class Stored:
    """A tensor of a file."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float16

    @property
    def bytes(self) -> int:
        """In the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def keep(path: Path, sample: Sample) -> Sample:
    """Write it, and give what will be read: pictures and maps in half precision, the rest as it is.

    Raises:
        OutputError: it cannot be written.
    """
    stored = {name: value.to(stored_dtype(name, value.ndim)).contiguous() for name, value in sample.items()}
    write_bytes(path, save(stored))
    return {name: value.float() for name, value in stored.items()}


def stored_dtype(name: str, axes: int) -> torch.dtype:
    """In which a tensor of a sample is kept."""
    return torch.float32 if name in _WIDE or axes < 3 else torch.float16


def kept_or_none(path: Path, wanted: Mapping[str, Stored]) -> Sample | None:
    """What an earlier run kept, if it did and it is whole."""
    if not path.is_file():
        return None
    if kept := _read(path, wanted):
        return kept
    print(f"'{path}' is damaged; its scene is rendered anew", file=sys.stderr, flush=True)
    return None


def _read(path: Path, wanted: Mapping[str, Stored]) -> Sample | None:
    """A file as it was kept, or None where it does not hold that: cut, of another form, or not finite."""
    try:
        if path.stat().st_size > sum(stored.bytes for stored in wanted.values()) + _HEADER_BYTES:
            return None
        found = load_file(path)
    except (OSError, SafetensorError):
        return None
    if {name: Stored(tuple(value.shape), value.dtype) for name, value in found.items()} != dict(wanted):
        return None
    if not all(torch.isfinite(value).all() for value in found.values()):
        return None
    return {name: value.float() for name, value in found.items()}


@dataclass(frozen=True)
class KeptStacks:
    """Focus stacks of another source, each formed once and then read from a folder."""

    source: Source
    folder: Path
    """Its part of a run's cache."""
    size_hw: tuple[int, int]
    frames: int
    sharp: bool
    """Whether the picture in focus everywhere is kept too."""
    forms: bool = False

    @classmethod
    def of(
        cls, source: Source, cache: Path, digest: str, size_hw: tuple[int, int], frames: int, *, sharp: bool
    ) -> KeptStacks:
        """In a folder of the cache that is named after what the samples are.

        Args:
            source: of the task ``focus_stack``, each of whose samples has this size and so many frames.
            cache: of a run.
            digest: of all that a sample of some index depends on; of scenes without an end it leaves out their number.
            size_hw: of its samples.
            frames: of its samples.
            sharp: whether to keep the picture in focus everywhere.

        Raises:
            OutputError: the folder cannot be made.
        """
        folder = cache / f"stacks-{digest}{'-sharp' if sharp else ''}"
        make_output_dir(folder)
        return cls(source, folder, size_hw, frames, sharp)

    @property
    def name(self) -> str:
        """As the user gave it."""
        return self.source.name

    @property
    def task(self) -> str:
        """Of stacks."""
        return self.source.task

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the source."""
        return tuple(getattr(self.source, "notes", ()))

    def __len__(self) -> int:
        return len(self.source)

    def scene_of(self, index: int) -> str:
        """As the source says."""
        return self.source.scene_of(index)

    def prepare(self, index: int) -> Sample:
        """Read, or formed and kept."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        path = self.folder / f"{index:06d}.safetensors"
        kept = kept_or_none(path, self._wanted())
        if kept is not None:
            return kept
        made = self.source.form(self.source.prepare(index))
        return keep(path, {name: made[name] for name in self._wanted()})

    def form(self, prepared: Sample) -> Sample:
        """Nothing is left to do."""
        return prepared

    def digest(self) -> str:
        """Of the source: kept or not, samples are the same but for the rounding of their pictures."""
        return self.source.digest()

    def _wanted(self) -> dict[str, Stored]:
        shapes = {field.name: field.shape(self.size_hw, self.frames) for field in FOCUS_STACK.sample}
        if not self.sharp:
            del shapes["sharp"]
        return {name: Stored(shape, stored_dtype(name, len(shape))) for name, shape in shapes.items()}
