"""What all sources of a run are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.models.data.kinds import StackGenerator
from dualpix.models.data.rendered import RenderSettings

_MOST_FRAMES = 100


@dataclass(frozen=True)
class SourceOptions:
    """What all sources of a run are asked for.

    Raises:
        DualpixError: numbers out of range.
    """

    seed: int = 0
    samples: int = 4096
    """Of procedural scenes."""
    renders: int = 4
    """Of each RGB-D picture, through as many lenses."""
    frames: int = 5
    """Of focus stacks that are rendered on the fly."""
    render: RenderSettings = field(default_factory=RenderSettings)
    """Size and lenses of what is rendered on the fly."""
    cache_dir: Path | None = None
    """Where procedural pairs and focus stacks are kept once rendered; None renders them each time."""
    sharp: bool = False
    """Whether procedural pairs bring their picture in focus everywhere; of other sources, what has one brings it."""
    stacks: StackGenerator = "faithful"
    """How focus stacks are formed, see :mod:`dualpix.models.data.stack_formation`."""

    def __post_init__(self) -> None:
        for name, low, high in (("samples", 1, 10**7), ("renders", 1, 10**4), ("frames", 2, _MOST_FRAMES)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise DualpixError(f"{value} {name}", expected=f"{low} to {high}")
        if self.stacks not in get_args(StackGenerator):
            raise UnknownNameError("way to form stacks", str(self.stacks), list(get_args(StackGenerator)))
