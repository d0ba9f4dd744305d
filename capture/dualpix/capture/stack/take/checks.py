"""Whether a frame that was downloaded is the frame that was wanted.

Two steps: :func:`examine` reads the files, in any thread; :func:`judge` compares what was found with what was asked for
and with the frames before. A *fault* means that the frame does not count. A *doubt* may have an innocent reason (a
cloud, a moving tree): the frame is taken again once, and then kept with a note. Either is *stale* where it suggests
that the camera hands out other frames than it was asked for or does not move the lens: then nothing that it did after
this frame is trusted before it was connected anew and homed.

Convention: exposures are compared within a sixth of a stop, half the step of a camera's dial. Sharpness is that of
:mod:`.sharpness`, on the decoded frame.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.camera_protocol import Exposure
from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.keep.frames import read_light
from dualpix.capture.stack.sharpness import TILE_COLUMNS, TILE_ROWS, gray_of, sharpness_tiles
from dualpix.capture.stack.take.journal import sync_folder
from dualpix.capture.types import CaptureMeta, FloatImage

THUMBNAIL_WIDTH_PX = 240
_READABLE = {".dng", ".cr2", ".cr3", ".jpg", ".jpeg", ".png", ".tif", ".tiff"}
_SAMPLE_BYTES = 64 << 10
_SIXTH_STOP = 2 ** (1 / 6)
_LEVEL_RATIO = 1.25
_SIZE_RATIO = 4.0
_COMPARED_SIDE_PX = 768
# Score of the difference of two frames: noise alone stays below the first; a lens that has shown the second with moves
# as small, and now stays below the first, stands still.
_CHANCE, _CLEAR, _LEAST_BLUR_PX = 5.0, 10.0, 0.3
# A tile turns back when its sharpness rises by this ratio after it had fallen by it. Tiles that were never sharper than
# so many times the median show nothing. On 16 simulated sweeps: no false alarm, 98 % of places two or more stops back.
_TURN_RATIO, _TEXTURED, _TURN_TILES = 1.4, 2.0, 3

Tiles = tuple[tuple[float, ...], ...]
Maps = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Examined:
    """What is in the files of one frame."""

    files: tuple[str, ...]
    sha256: tuple[str, ...]
    bytes: tuple[int, ...]
    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    meta: CaptureMeta = field(default_factory=CaptureMeta)
    picture_sha256: str | None = None
    """Of the decoded light: two files of one picture differ in their EXIF alone."""
    level: float | None = None
    """Mean light."""
    tiles: Tiles | None = None
    compared: FloatImage | None = None
    """(h, w) gray, reduced: for the comparison with the next frame."""
    px_per_d: float | None = None
    """Diameter of blur in pixels of ``compared`` per diopter off the focus, where the file states the optics."""
    thumbnail: FloatImage | None = None
    """(h, w, 3) linear."""


@dataclass(frozen=True)
class Candidate:
    """A frame that is to be judged: what was asked for, what the camera said, what is in its files."""

    index: int
    asked: Exposure
    reported: Exposure
    diopters: float
    settled: bool
    found: Examined


@dataclass(frozen=True)
class Verdict:
    """What speaks against a frame; nothing where it is good."""

    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    stale: bool = False
    """See the module."""
    unmoved: bool = False
    """The lens seems to stand still: where it stood for the frame before is not sure either."""


def examine(paths: Sequence[Path]) -> Examined:
    """Digest, decode and measure the files of one frame, and make sure that they are on the disk.

    Args:
        paths: the raw file first; each is there.

    Raises:
        OSError: a file cannot be read or synced.
    """
    digests = [_digest(path) for path in paths]
    sync_folder(paths[0].parent)
    found = Examined(tuple(p.name for p in paths), tuple(d for d, _ in digests), tuple(n for _, n in digests))
    empty = tuple(f"{path.name} is empty" for path, (_, size) in zip(paths, digests, strict=True) if size == 0)
    if empty:
        return Examined(found.files, found.sha256, found.bytes, faults=empty)
    faults = [reason for path in paths[1:] if (reason := _unreadable(path))]
    return _decoded(paths[0], found, tuple(faults))


def fingerprint(path: Path) -> str:
    """A digest of a file's length and of its start, middle and end: in time even for the largest, and noise makes it
    as good as the whole digest for telling whether a frame was seen before.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in sorted({0, max(0, (size - _SAMPLE_BYTES) // 2), max(0, size - _SAMPLE_BYTES)}):
            file.seek(start)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def exposure_differences(wanted: Exposure, got: Exposure) -> list[str]:
    """Where ``got`` is not ``wanted``, in words; what either leaves open is equal."""
    found = []
    for name, unit, ratio in (
        ("f_number", "f/", math.sqrt(_SIXTH_STOP)),
        ("exposure_s", "exposure s ", _SIXTH_STOP),
        ("iso", "ISO ", _SIXTH_STOP),
    ):
        one, other = getattr(wanted, name), getattr(got, name)
        if one and other and max(one, other) > ratio * min(one, other):
            found.append(f"{unit}{other:.4g} instead of {one:.4g}")
    return found


def exposure_of(meta: CaptureMeta) -> Exposure:
    """The exposure that a file states."""
    return Exposure(meta.f_number, meta.exposure_s, meta.iso)


class Judge:
    """Judges the frames of a capture one after another; knows those that it took and those it refused."""

    def __init__(self) -> None:
        self._taken: dict[int, Candidate] = {}
        self._digests: dict[str, int] = {}
        self._pictures: dict[str, int] = {}
        self._last: dict[Exposure, Candidate] = {}
        self._changes: list[tuple[float, float]] = []

    def remember(self, sha256: str, index: int) -> None:
        """A file that was seen in an earlier run."""
        self._digests[sha256] = index

    def recall(self, known: Candidate) -> None:
        """A frame that counted in an earlier run."""
        self._see(known)
        self._taken[known.index] = known

    def judge(self, new: Candidate) -> Verdict:
        """What speaks against ``new``, in the order in which frames were taken."""
        found = new.found
        faults = list(found.faults)
        doubts = [*found.doubts, *self._exposure_doubts(new)]
        repeated = self._repeated(new)
        foreign = exposure_differences(new.reported, exposure_of(found.meta))
        still = self._unmoved(new)
        self._see(new)
        if repeated:
            faults.append(repeated)
        if foreign:
            doubts.append(f"the file was taken with another exposure than the camera reported: {', '.join(foreign)}")
        if still:
            faults.append("the picture did not change although the focus should have moved")
        if not new.settled:
            doubts.append("the picture did not come to rest")
        turned = self._turned_back(new)
        doubts += [*self._level_doubts(new), *self._size_doubts(new), *turned]
        if not faults:
            self._last[new.asked] = new
            # pictures of many frames would fill the memory
            self._taken[new.index] = replace(new, found=replace(new.found, compared=None, thumbnail=None))
        return Verdict(tuple(faults), tuple(doubts), bool(repeated or foreign or still or turned), still)

    def drop(self, index: int) -> None:
        """A frame counts no more; its files are still known."""
        dropped = self._taken.pop(index, None)
        if dropped is not None and (last := self._last.get(dropped.asked)) and last.index == index:
            del self._last[dropped.asked]

    def new_sweep(self) -> None:
        """The lens was homed: the next frame need not differ from the last one."""
        self._last.clear()

    def _see(self, candidate: Candidate) -> None:
        for digest in candidate.found.sha256:
            self._digests.setdefault(digest, candidate.index)
        if candidate.found.picture_sha256:
            self._pictures.setdefault(candidate.found.picture_sha256, candidate.index)

    def _repeated(self, new: Candidate) -> str | None:
        for digest in new.found.sha256:
            if (other := self._digests.get(digest)) is not None:
                return f"it is the file of frame {other} again"
        other = self._pictures.get(new.found.picture_sha256 or "")
        return None if other is None else f"it is the picture of frame {other} again"

    def _exposure_doubts(self, new: Candidate) -> list[str]:
        wrong = exposure_differences(new.asked, new.reported)
        if wrong:
            return [f"the camera took {', '.join(wrong)}"]
        before = self._before(new)
        drift = exposure_differences(before.reported, new.reported) if before else []
        return [f"exposed otherwise than frame {before.index}: {', '.join(drift)}"] if before and drift else []

    def _level_doubts(self, new: Candidate) -> list[str]:
        before = self._before(new)
        level, other = new.found.level, before.found.level if before else None
        if not before or not level or not other or other <= 0 or 1 / _LEVEL_RATIO <= level / other <= _LEVEL_RATIO:
            return []
        return [f"{level / other:.2f} times as bright as frame {before.index}"]

    def _size_doubts(self, new: Candidate) -> list[str]:
        others = [c.found.bytes[0] for c in self._taken.values() if _suffix(c) == _suffix(new)]
        usual = float(np.median(others)) if len(others) >= 3 else 0.0
        if new.found.bytes[0] * _SIZE_RATIO >= usual:
            return []
        return [f"{new.found.bytes[0]} bytes are few, others have about {usual:.0f}"]

    def _before(self, new: Candidate) -> Candidate | None:
        """The frame of the same exposure whose focus is nearest."""
        alike = [c for c in self._taken.values() if c.asked == new.asked and c.index != new.index]
        return min(alike, key=lambda c: abs(c.diopters - new.diopters), default=None)

    def _unmoved(self, new: Candidate) -> bool:
        """Whether the lens stands still: the picture is the last one, though the move should have shown clearly, by the
        optics or by earlier moves no larger."""
        last = self._last.get(new.asked)
        one, other = (last.found.compared if last else None), new.found.compared
        if last is None or one is None or other is None or one.shape != other.shape:
            return False
        moved_d, change = abs(new.diopters - last.diopters), change_score(one, other)
        known = [score for d, score in self._changes if d <= 1.01 * moved_d]
        if change >= _CHANCE:
            self._changes.append((moved_d, change))
            return False
        blur_px = moved_d * (new.found.px_per_d or 0.0)
        return max(expected_score(one, other, blur_px), min(known, default=0.0)) > _CLEAR

    def _turned_back(self, new: Candidate) -> list[str]:
        """Tiles that had passed their sharpest and rise again, in a sweep with rising diopters."""
        row = [c for c in self._taken.values() if c.asked == new.asked and c.index != new.index and c.found.tiles]
        row = sorted((c for c in row if c.diopters < new.diopters), key=lambda c: c.diopters)
        if len(row) < 2 or new.found.tiles is None:
            return []
        history = np.array([c.found.tiles for c in row])
        return _turns(history, np.array(new.found.tiles))


def _turns(history: Maps, latest: Maps) -> list[str]:
    if history.shape[1:] != latest.shape:
        return []
    peak, last = history.max(axis=0), history[-1]
    fallen = (peak > _TEXTURED * np.median(history)) & (last * _TURN_RATIO < peak)
    risen = fallen & (latest > _TURN_RATIO * last)
    if risen.sum() < _TURN_TILES or risen.sum() * 2 <= fallen.sum():
        return []
    return [f"sharp again in {int(risen.sum())} of {int(fallen.sum())} places that the focus had passed"]


def change_score(one: FloatImage, other: FloatImage) -> float:
    """Structure of the difference of two pictures over its chance value; brightness and noise are no difference.

    Of two pictures of the same thing the difference is noise, whose neighbouring pixels have nothing in common.

    Args:
        one: (H, W) gray, linear.
        other: alike.
    """
    difference = _difference(one, other)
    return _structure(difference) / max(_power(difference), 1e-30) * math.sqrt(difference.size)


def expected_score(one: FloatImage, other: FloatImage, blur_px: float) -> float:
    """The least :func:`change_score` if the blur had changed by ``blur_px``, given how noisy the two pictures are.

    What was in focus gets blurred by that much; what was blurred changes more. The picture as it is has less detail
    than the scene, and its noise counts against it, so this is a cautious guess.
    """
    if blur_px < _LEAST_BLUR_PX:
        return 0.0
    blurred = cv2.GaussianBlur(one, (0, 0), blur_px / 4)  # the standard deviation of a disc along an axis
    expected = _structure(_difference(one, np.asarray(blurred, np.float32)))
    return expected / max(_power(_difference(one, other)), 1e-30) * math.sqrt(one.size)


def _difference(one: FloatImage, other: FloatImage) -> Maps:
    gain = float(one.mean()) / max(float(other.mean()), 1e-9)
    difference = np.asarray(other * np.float32(gain) - one, np.float64)
    difference -= difference.mean()
    return difference


def _power(difference: Maps) -> float:
    return float((difference**2).mean())


def _structure(difference: Maps) -> float:
    """What neighbouring pixels have in common."""
    return float((difference[:, 1:] * difference[:, :-1]).mean())


def tiles_of(image: FloatImage) -> Tiles | None:
    """Sharpness tiles as plain numbers; None for a picture too small for them."""
    gray = gray_of(image)
    rows, columns = min(TILE_ROWS, gray.shape[0] // 4), min(TILE_COLUMNS, gray.shape[1] // 4)
    if not rows or not columns:
        return None
    tiles = sharpness_tiles(gray, rows, columns)
    return tuple(tuple(float(f"{value:.6g}") for value in row) for row in tiles)


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return digest, file.tell()


def _decoded(path: Path, found: Examined, faults: tuple[str, ...]) -> Examined:
    try:
        light = read_light(path)
    except DualpixError as error:
        cut = path.suffix.lower() in _READABLE
        notes = () if cut else (f"not decoded here: {error}",)
        return replace(found, faults=(*faults, str(error)) if cut else faults, notes=notes)
    except Exception as error:  # a decoder's bug must not cost the capture
        return replace(found, faults=faults, doubts=(f"decoding it failed: {type(error).__name__}: {error}",))
    image, gray = light.image, gray_of(light.image)
    compared = _reduced(gray, _COMPARED_SIDE_PX)
    return replace(
        found,
        faults=faults,
        meta=light.meta,
        picture_sha256=hashlib.sha256(image[..., 1].tobytes()).hexdigest(),
        level=float(gray.mean()),
        tiles=tiles_of(image),
        compared=compared,
        px_per_d=_px_per_d(light.meta, gray.shape[1] / compared.shape[1]),
        thumbnail=_reduced(image, THUMBNAIL_WIDTH_PX),
    )


def _px_per_d(meta: CaptureMeta, reduction: float) -> float | None:
    if not (meta.focal_length_mm and meta.f_number and meta.pixel_pitch_um):
        return None
    return meta.focal_length_mm**2 / meta.f_number / (meta.pixel_pitch_um * reduction)


def _unreadable(path: Path) -> str | None:
    """Why a file beside the raw one is damaged."""
    if path.suffix.lower() not in _READABLE:
        return None
    try:
        read_light(path)
    except DualpixError as error:
        return str(error)
    return None


def _reduced(image: FloatImage, side_px: int) -> FloatImage:
    height, width = image.shape[:2]
    shrink = max(height, width) / side_px
    if shrink <= 1:
        return image
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def _suffix(candidate: Candidate) -> str:
    return Path(candidate.found.files[0]).suffix.lower()
