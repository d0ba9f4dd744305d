"""The captures that a model is adapted to: read, looked at, and parted into those that teach and those that judge.

Convention: views are the working views of ``dualpix depth``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from dualpix.capture.errors import DualpixError
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.profiles import load_profile
from dualpix.capture.raw.batch.inputs import Job, find_jobs
from dualpix.capture.raw.batch.jobs import DecodeOptions
from dualpix.capture.types import DualPixelImage, FloatImage
from dualpix.models.confidence.halves import examine
from dualpix.models.data.sources.described import NAME, Description, read_description
from dualpix.models.predict.disparity import network_working_sizes
from dualpix.models.predict.working import WorkingViews, working_views
from dualpix.models.samples import Batch

_HELD_OUT = 5
"""Every so manieth capture."""
_MOST_BYTES = 6 << 30
_TILES = (3, 4)
_UNEVEN = 0.08
"""Of the logarithm of the halves' light, median over parts of the picture: shading that was not equalised."""
_REFUSED = ("no_light", "one_half_dark", "same_picture", "across_baseline")


@dataclass(frozen=True)
class Pair:
    """A capture at one working size."""

    name: str
    views: Batch
    """``left``, ``right`` (1, h, w) and ``combined`` (3, h, w)."""
    gain: float


def read_pairs(
    folders: Sequence[Path], output: Path, gain: float | None, on_read: Callable[[int, int], None]
) -> list[Pair]:
    """All captures below some folders, at the working sizes of ``dualpix depth``.

    Args:
        folders: each is searched as ``dualpix decode`` does.
        output: left out of the search.
        gain: disparity per CoC of the camera; None takes it from ``dataset.json`` or the captures.
        on_read: told (done, total).

    Raises:
        DualpixError: a folder without captures, one that does not decode, halves that say nothing of depth or are not
            equally bright, a gain that nobody knows, more than fits into memory.
    """
    found: list[tuple[Job, Description, Path]] = []
    for folder in folders:
        if not folder.is_dir():
            raise DualpixError(f"'{folder}' is no folder", expected="one of captures that `dualpix decode` reads")
        described = read_description(folder)
        jobs, _ = find_jobs([folder], None, None, output)
        found += [(job, described, folder) for job in jobs]
    if len(found) < 2:
        raise DualpixError(f"{len(found)} capture to adapt to", expected="2 or more: one in five is held out")
    pairs: list[Pair] = []
    held = 0
    for done, (job, described, folder) in enumerate(found):
        on_read(done, len(found))
        image = DecodeOptions(baseline=described.baseline).decode(job).image
        known = _gain_of(job, described, folder, image) if gain is None else gain
        for size in network_working_sizes(image):
            views = working_views(image, size)
            check_pair(job.path, views)
            pairs.append(Pair(str(job.path), _batch(views), known))
            held += sum(value.nbytes for value in pairs[-1].views.values())
        if held > _MOST_BYTES:
            raise DualpixError(
                f"{done + 1} of {len(found)} captures take {held / 2**30:.1f} GiB", expected="fewer, or smaller ones"
            )
    return pairs


def check_pair(path: Path, views: WorkingViews) -> None:
    """Refuse a pair that would teach something wrong.

    Raises:
        DualpixError: no light in one or both halves, one picture twice, halves apart across the baseline, or not
            equally bright.
    """
    nowhere = np.zeros(views.left.shape, np.bool_)
    pair = examine(views.left, views.right, nowhere, max(views.left.shape) / 4)
    wrong = next((finding for finding in pair.findings if finding.code in _REFUSED), None)
    if wrong is not None:
        raise DualpixError(f"'{path}': {wrong.text}", expected="two halves of one exposure", hint="leave it out")
    left, right = (_tiles(view) for view in (views.left, views.right))
    level = 0.05 * float(np.mean(left + right))
    uneven = float(np.median(np.abs(np.log((left + level) / (right + level)))))
    if uneven > _UNEVEN:
        raise DualpixError(
            f"'{path}': in most of the picture one half is {math.expm1(uneven):.0%} and more brighter than the other",
            expected="halves of equal light",
            hint="decode it with a white sheet: --flat-field",
        )


def _tiles(view: FloatImage) -> FloatImage:
    """Mean light of parts of the picture."""
    return np.asarray(cv2.resize(np.maximum(view, 0), _TILES[::-1], interpolation=cv2.INTER_AREA), np.float32)


def _gain_of(job: Job, described: Description, folder: Path, image: DualPixelImage) -> float:
    said = (described.lens or {}).get("disparity_gain")
    if said is None and described.camera is not None:
        said = load_profile(described.camera).disparity_gain
    said = image.meta.disparity_gain if said is None else said
    if said is None:
        raise DualpixError(
            f"nothing says how far the halves of '{job.path}' are apart for their blur",
            expected=f"--disparity-gain (Pixel 4: 0.21, Canon R6 II: 0.06), or a camera in '{folder / NAME}'",
        )
    return check_gain(float(said))


def check_gain(gain: float) -> float:
    """A disparity per CoC that half discs can have.

    Raises:
        DualpixError: it is none.
    """
    if not 0 < gain <= IDEAL_DISPARITY_GAIN:
        raise DualpixError(f"disparity gain {gain:g}", expected=f"above 0, at most {IDEAL_DISPARITY_GAIN:.3f}")
    return gain


def _batch(views: WorkingViews) -> Batch:
    """Without a batch axis."""
    combined = views.combined if views.combined.ndim == 3 else np.repeat(views.combined[..., None], 3, axis=2)
    planes = {"left": views.left[None], "right": views.right[None], "combined": combined.transpose(2, 0, 1)}
    return {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in planes.items()}


def split_pairs(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out ones, by capture; the names alone decide."""
    names = sorted({pair.name for pair in pairs}, key=lambda name: hashlib.sha256(Path(name).name.encode()).digest())
    held = set(names[: max(1, len(names) // _HELD_OUT)])
    return [pair for pair in pairs if pair.name not in held], [pair for pair in pairs if pair.name in held]
