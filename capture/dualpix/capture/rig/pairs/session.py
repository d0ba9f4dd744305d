"""Folders of pairs: what both cameras took, by name, and how far apart in time.

    SESSION/a/NAME.dng  or  SESSION/a/NAME_left.png + NAME_right.png, or any picture
    SESSION/b/NAME...       the other camera, the same names
    SESSION/session.json    where ``dualpix rig capture`` or ``import`` wrote it: the skew of each pair

Convention: pictures are given as the sensor lies; an EXIF orientation is undone, so that a phone that turns its
pictures by how it is held changes nothing. ``skew_s`` is time of b minus time of a, middle of exposure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.files import read_json
from dualpix.capture.pictures.display import srgb_from_linear
from dualpix.capture.raw import WHOLE_SUFFIXES, decode
from dualpix.capture.raw.develop.geometry import as_sensor
from dualpix.capture.raw.formats.pair import pair_stem, right_name
from dualpix.capture.stack.keep.frames import frame_meta, read_light
from dualpix.capture.types import CaptureMeta, DualPixelImage, FloatImage

SESSION_FILE = "session.json"
SESSION_FORMAT = 1
SIDES = ("a", "b")
_MOST_BYTES = 8 << 20
_MOST_PAIRS = 100_000
_PICTURES = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".pgm", ".npy"}
_BRIGHT_PERCENTILE, _BRIGHT = 99.5, 0.9
_EXPECTED = "what `dualpix rig capture` or `rig import` writes"


@dataclass(frozen=True)
class Skew:
    """How far apart in time a pair was taken."""

    seconds: float
    uncertainty_s: float
    """Half the interval in which it lies."""


@dataclass(frozen=True)
class RigPair:
    """One release of both cameras."""

    name: str
    a: Path
    b: Path
    skew: Skew | None = None
    """None where nothing says."""

    def path(self, side: str) -> Path:
        """Of side "a" or "b"."""
        return self.a if side == "a" else self.b


@dataclass(frozen=True)
class View:
    """What one camera recorded, as its sensor lies."""

    path: Path
    light: FloatImage
    """(H, W) or (H, W, 3), linear, of the full aperture."""
    orientation: int
    """EXIF, by which the file's pictures are turned upright."""
    meta: CaptureMeta
    dual_pixel: DualPixelImage | None = field(default=None, repr=False)
    """Upright, as ``dualpix decode`` gives it; None for a picture without halves."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) as the sensor lies."""
        return int(self.light.shape[0]), int(self.light.shape[1])

    @cached_property
    def gray(self) -> npt.NDArray[np.uint8]:
        """(H, W) display-coded, its brightest parts near white: for detectors and matchers."""
        green = self.light if self.light.ndim == 2 else self.light[..., 1]
        bright = float(np.percentile(green, _BRIGHT_PERCENTILE))
        coded = srgb_from_linear(np.clip(green * np.float32(_BRIGHT / max(bright, 1e-6)), 0, 1))
        return np.asarray(np.rint(coded * 255), np.uint8)

    @property
    def camera(self) -> str | None:
        """Model, where the file says."""
        return self.meta.camera


def read_view(path: Path, *, halves: bool = False) -> View:
    """A capture or picture.

    Args:
        path: a raw, the left file of a pair, or any picture.
        halves: whether it must have two halves.

    Raises:
        DualpixError: it does not decode.
    """
    if path.suffix.lower() in WHOLE_SUFFIXES or _is_left(path):
        try:
            image = decode(path)
        except DecodeError:
            if halves or path.suffix.lower() != ".dng":
                raise
        else:
            light = np.ascontiguousarray(as_sensor(image.combined, image.meta.orientation))
            return View(path, light, image.meta.orientation, image.meta, image)
    elif halves:
        raise DecodeError(
            f"'{path}' has no second half", expected="a dual-pixel capture of camera a", hint="see docs/decode.md"
        )
    decoded = read_light(path, 1)
    meta = frame_meta(path)
    return View(path, decoded.image, meta.orientation, meta)


def read_session(folder: Path) -> tuple[RigPair, ...]:
    """The pairs of a folder, by name.

    Raises:
        DualpixError: no such folder, a picture without its partner, or nothing at all.
    """
    if not folder.is_dir():
        raise DualpixError(f"'{folder}' is no folder", expected="one with the folders a and b of the two cameras")
    found = {}
    for side in SIDES:
        if not (folder / side).is_dir():
            raise DualpixError(
                f"'{folder}' has no folder '{side}'",
                expected="folders a and b with pictures of the same names",
                hint="bring two folders together with `dualpix rig import`",
            )
        found[side] = captures_in(folder / side)
    a, b = found["a"], found["b"]
    alone = sorted(set(a) ^ set(b))
    for side in SIDES:
        _check_halves(folder / side, found[side], alone)
    if alone:
        side, other = ("a", "b") if alone[0] in a else ("b", "a")
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        raise DualpixError(
            f"'{alone[0]}'{more} is in '{folder / side}' and not in '{folder / other}'",
            expected="each picture in both, by the same name",
            hint="take away what has no partner",
        )
    if not a:
        raise DualpixError(f"'{folder}' holds no pictures", expected="pictures in its folders a and b")
    skews = _skews(folder)
    return tuple(RigPair(name, a[name], b[name], skews.get(name)) for name in sorted(a))


def captures_in(folder: Path) -> dict[str, Path]:
    """Captures and pictures of one camera by name; of a pair of halves the left file stands for both.

    Raises:
        DualpixError: two files of one name.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    files = [path for path in files if path.suffix.lower() in _PICTURES | WHOLE_SUFFIXES]
    rights = {right_name(path) for path in files if _is_left(path)}
    found: dict[str, Path] = {}
    for path in files:
        if path in rights:
            continue
        name = pair_stem(path) if _is_left(path) else path.stem
        if name in found:
            raise DualpixError(f"'{found[name]}' and '{path.name}' are both '{name}'", expected="one capture a name")
        found[name] = path
    if len(found) > _MOST_PAIRS:
        raise DualpixError(f"'{folder}' has {len(found)} captures", expected=f"at most {_MOST_PAIRS}")
    return found


def _check_halves(folder: Path, captures: dict[str, Path], alone: list[str]) -> None:
    """Refuse a half whose other half is missing: it would pass for a picture of that name."""
    for name in alone:
        for half, other in (("_left", "_right"), ("_right", "_left")):
            if name in captures and name.endswith(half):
                raise DualpixError(
                    f"'{folder}' has '{captures[name].name}' and not its other half",
                    expected=f"'{name.removesuffix(half)}{other}{captures[name].suffix}' beside it",
                    hint="copy it again, or take the capture away from both folders",
                )


def check_skew(pair: RigPair, limit_s: float) -> None:
    """Refuse a pair of which it is known that it was taken too far apart.

    Raises:
        DualpixError: it was.
    """
    if pair.skew is not None and abs(pair.skew.seconds) > limit_s + pair.skew.uncertainty_s:
        raise DualpixError(
            f"pair '{pair.name}' was taken {abs(pair.skew.seconds) * 1e3:.3g} ms apart "
            f"(+-{pair.skew.uncertainty_s * 1e3:.2g} ms)",
            expected=f"at most {limit_s * 1e3:.3g} ms",
            hint="take it again, or allow more with --max-skew-ms if nothing moved",
        )


def session_json(a: dict[str, Any], b: dict[str, Any], skews: dict[str, Skew | None]) -> dict[str, Any]:
    """The content of ``session.json``."""
    return {
        "format": SESSION_FORMAT,
        "a": a,
        "b": b,
        "pairs": [
            {"name": name, "skew_s": None, "skew_uncertainty_s": None}
            if skew is None
            else {"name": name, "skew_s": skew.seconds, "skew_uncertainty_s": skew.uncertainty_s}
            for name, skew in skews.items()
        ],
    }


def _skews(folder: Path) -> dict[str, Skew]:
    path = folder / SESSION_FILE
    if not path.is_file():
        return {}
    value = read_json(path, _MOST_BYTES, expected=_EXPECTED)
    pairs = value.get("pairs") if isinstance(value, dict) and value.get("format") == SESSION_FORMAT else None
    if not isinstance(pairs, list):
        raise DualpixError(f"'{path}' is no record of a rig", expected=_EXPECTED)
    return dict(_skew(path, entry) for entry in pairs if not (isinstance(entry, dict) and entry.get("skew_s") is None))


def _skew(path: Path, entry: Any) -> tuple[str, Skew]:
    numbers = [entry.get(key) for key in ("skew_s", "skew_uncertainty_s")] if isinstance(entry, dict) else []
    known = [float(n) for n in numbers if isinstance(n, int | float) and math.isfinite(n)]
    if len(known) != 2 or not isinstance(entry.get("name"), str):
        raise DualpixError(f"'{path}' has the pair {entry!r:.80}", expected=_EXPECTED)
    return entry["name"], Skew(known[0], known[1])


def _is_left(path: Path) -> bool:
    if path.suffix.lower() not in _PICTURES:
        return False
    right = right_name(path)
    return right is not None and right.is_file()
