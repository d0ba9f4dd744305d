"""Where training samples come from, behind one interface.

A source gives clean samples of one task by index: a pure function of the index, so that a run which was killed goes on
with exactly the samples that it would have seen. Several sources are mixed by weight (:mod:`.mixture`).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from dualpix.capture.errors import DualpixError
from dualpix.models.tasks.task import Sample


class SampleError(DualpixError):
    """A sample that does not read: named, skipped, and counted."""


@runtime_checkable
class Source(Protocol):
    """Clean samples of one task, by index."""

    @property
    def name(self) -> str:
        """As the user gave it."""

    @property
    def task(self) -> str:
        """Name of the task whose samples these are."""

    def __len__(self) -> int:
        """Number of samples."""

    def scene_of(self, index: int) -> str:
        """Name of the scene: samples of one scene are never on both sides of a split."""

    def prepare(self, index: int) -> Sample:
        """What a loading process makes of sample ``index``: read, decoded, not yet formed; on the CPU.

        Raises:
            SampleError: it does not read; names the file.
        """

    def form(self, prepared: Sample) -> Sample:
        """Image formation, if any, on the device of ``prepared``; gives the clean sample."""

    def digest(self) -> str:
        """Changes with what the samples are: a checkpoint is continued on the same data alone."""
