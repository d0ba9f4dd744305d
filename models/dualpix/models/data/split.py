"""Training and held-out samples, apart by scene.

Whether a scene is held out depends on its name and the seed alone: adding samples moves none that was there. Only where
a share is so small that it takes no scene at all (or all of them) is the nearest one taken (left), so that both sides
have one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.models.data.source import Source
from dualpix.models.data.sources.kind import digest_of
from dualpix.models.tasks.task import Sample


@dataclass(frozen=True)
class Part:
    """Some samples of a source."""

    whole: Source
    indices: npt.NDArray[np.int64]
    """(n,) of the source, rising."""
    side: str

    @property
    def name(self) -> str:
        """Of the source: what the user gave."""
        return self.whole.name

    @property
    def task(self) -> str:
        """Of the source."""
        return self.whole.task

    @property
    def forms(self) -> bool:
        """As the source."""
        return getattr(self.whole, "forms", False)

    def __len__(self) -> int:
        return len(self.indices)

    def scene_of(self, index: int) -> str:
        """As in the source."""
        return self.whole.scene_of(int(self.indices[index]))

    def prepare(self, index: int) -> Sample:
        """As in the source."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.whole.prepare(int(self.indices[index]))

    def form(self, prepared: Sample) -> Sample:
        """As the source."""
        return self.whole.form(prepared)

    def digest(self) -> str:
        """Of the source and of which of its samples these are."""
        chosen = hashlib.sha256(np.ascontiguousarray(self.indices, "<i8").tobytes()).hexdigest()
        return digest_of({"whole": self.whole.digest(), "indices": chosen})


def split(source: Source, share: float, seed: int) -> tuple[Part, Part]:
    """The samples to train with, and those held out; no scene is on both sides.

    Args:
        source: at least two scenes.
        share: of the scenes, about, that are held out; in (0, 1).
        seed: another one holds out others.

    Raises:
        DualpixError: the share is none, or the source has a single scene.
    """
    if not 0 < share < 1:
        raise DualpixError(f"a held-out share of {share:g}", expected="above 0, below 1, as 0.1")
    scenes = np.array([_draw(source.scene_of(index), seed) for index in range(len(source))], np.float64)
    distinct = np.unique(scenes)
    if len(distinct) < 2:
        raise DualpixError(
            f"'{source.name}' has a single scene: nothing of it can be held out",
            expected="samples of two scenes",
            hint='name a --validate SOURCE, or write {"scene": "sample"} in its dataset.json',
        )
    # between the least and the largest draw: both sides have a scene
    border = min(max(share, np.nextafter(distinct[0], 1)), distinct[-1])
    held = scenes < border
    return Part(source, np.flatnonzero(~held), "training"), Part(source, np.flatnonzero(held), "held out")


def _draw(scene: str, seed: int) -> float:
    """In [0, 1), by the name of the scene."""
    digest = hashlib.sha256(f"{seed}\0{scene}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
