"""Pairs of picture files: finding the right file of a left one, and the decoder of exported left / right views.

The right file lies beside the left one under the name with "right" or "r" for "left" or "l", or in a sibling folder:

==================================== ===================================== ==========================
left file                            right file                            known from
==================================== ===================================== ==========================
001_left.png, box_l.png              001_right.png, box_r.png              Xin et al. 2021, DP119
inputL/1P0A1695.png                  inputR/1P0A1695.png                   DPDD, as for Restormer
test_l/source/1P0A1695_L.png         test_r/source/1P0A1695_R.png          DPDD
left_pd/CAP/result_leftPd_top.png    right_pd/CAP/result_rightPd_top.png   Garg et al. 2019
raw_left_pd/CAP/7/result_pd_left...  raw_right_pd/CAP/7/result_pd_right... Herrmann et al. 2020
==================================== ===================================== ==========================

Exported views (Canon's DPP, other people's converters) are display-referred: 8-bit samples are taken through the
inverse sRGB curve. 16-bit and float samples are taken as linear, black at 0, white at the largest integer or 1.0. These
are assumptions, stated in the provenance. A 16-bit file that says otherwise itself (ICC profile, sRGB chunk, EXIF
ColorSpace; the maximum of a PGM, the bits of a packed TIFF) is believed, and ``--encoding``, ``--black`` and
``--white`` override everything. Samples that look like raw counts make a warning (:mod:`.develop.levels`).

An EXIF orientation is honoured: samples are decoded as stored, and the views come out upright like those of a raw, the
axis of the disparity and the names of the halves turned along. Both files must state the same. An axis given by the
user is that of the upright picture, the one a viewer shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.raw.containers.hints import Hints
from dualpix.capture.raw.containers.images import Samples, picture_kind, read_tagged_picture
from dualpix.capture.raw.develop.geometry import upright_baseline
from dualpix.capture.raw.develop.levels import range_warnings
from dualpix.capture.raw.develop.planes import Plane
from dualpix.capture.raw.formats.plugin import SensorViews, Source
from dualpix.capture.types import Baseline, CaptureMeta

# A left name's last "left" or "l" that stands as a word of its own, or "leftPd".
_LEFT_WORD = re.compile(
    r"(?:(?<=[_\-. ])|^)(?P<side>left|l)(?=pd|[_\-. ]|$)(?!.*(?:[_\-. ]|^)(?:left|l)(?=pd|[_\-. ]|$))", re.I
)
# Google's data sets name the half first, then the phone of the rig, which may be "left" or "right" too.
_GOOGLE_NAME = re.compile(r"result_(?=.*pd)(?:up_)?(?:pd_)?(?P<side>left|right)(?:pd)?_(?P<phone>\w+)", re.I)
_GOOGLE_OTHER = re.compile(r"result_(?:scaled_image|merged_depth|merged_conf)_", re.I)
_LEFT_FOLDER = re.compile(r"(?:(?<=[_\-. ])|^)(?P<word>(?i:left|l))(?=[_\-. ]|$)|(?<=[a-z0-9])(?P<end>Left|L)$")
_FOLDERS_UP = 3
_PICTURE_SUFFIXES = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".pgm", ".npy"}
_RIGHT_OF = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "l": "r", "L": "R"}


def right_name(left: Path) -> Path | None:
    """The right file of ``left``: the one that exists, else the one that should; None when ``left`` is no left file.

    A folder counts as a left one only where its right sibling exists: "l" alone is a common name.
    """
    if _is_google_right(left):
        return None
    beside = [path for path in [_beside(left)] if path is not None]
    folders = list(_right_folders(left))
    renamed = [folder / name.name for folder in folders for name in beside]
    same_name = [folder / left.name for folder in folders]
    # A complete pair within one folder comes first: it may be one of two cameras, "left" and "right".
    existing = (path for path in [*beside, *renamed, *same_name] if _is_file(path))
    expected = [*renamed, *beside, *same_name]
    return next(existing, expected[0] if expected else None)


def pair_stem(left: Path) -> str:
    """The name of the capture: the left file's stem without the word "left".

    Google's trees give all captures the same file names, so there it is made of the folders: ``CAP_center``.
    """
    google = _GOOGLE_NAME.fullmatch(left.stem)
    below = _below_left_folder(left)
    if google and below:
        return "_".join([*below, google["phone"]])
    span = _left_span(left)
    if span is None:
        return left.stem
    stem = (left.stem[: span[0]] + left.stem[span[1] :]).strip("_-. ")
    return re.sub(r"([_\-. ])[_\-. ]+", r"\1", stem) or left.stem


def _beside(left: Path) -> Path | None:
    """The right file's name in the same folder."""
    span = _left_span(left)
    return None if span is None else left.with_name(_exchanged(left.stem, span) + left.suffix)


def _left_span(path: Path) -> tuple[int, int] | None:
    """Where the stem says "left"; a raw file is never half of a pair, whatever its name."""
    if path.suffix.lower() not in _PICTURE_SUFFIXES or _GOOGLE_OTHER.match(path.stem):
        return None
    match = _GOOGLE_NAME.fullmatch(path.stem) or _LEFT_WORD.search(path.stem)
    return match.span("side") if match and match["side"] in _RIGHT_OF else None


def _is_google_right(path: Path) -> bool:
    match = _GOOGLE_NAME.fullmatch(path.stem)
    return match is not None and match["side"].lower() == "right"


def _right_folders(left: Path) -> Iterator[Path]:
    """The folder of ``left`` with "right" for "left" in one of the folders above, nearest first, where that exists."""
    if left.suffix.lower() not in _PICTURE_SUFFIXES:
        return
    folder, below = left.parent, Path()
    for _ in range(_FOLDERS_UP):
        match = _LEFT_FOLDER.search(folder.name)
        group = match.lastgroup if match else None
        if match and group and match[group] in _RIGHT_OF:
            sibling = folder.with_name(_exchanged(folder.name, match.span(group)))
            if _is_dir(sibling):
                yield sibling / below
        folder, below = folder.parent, Path(folder.name) / below


def _below_left_folder(left: Path) -> list[str]:
    """The folders between the nearest left folder and the file; empty without one."""
    parents = left.parts[:-1][-_FOLDERS_UP:]
    for index in reversed(range(len(parents))):
        if _LEFT_FOLDER.search(parents[index]):
            return list(parents[index + 1 :])
    return []


def _exchanged(name: str, span: tuple[int, int]) -> str:
    return name[: span[0]] + _RIGHT_OF[name[slice(*span)]] + name[span[1] :]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long, or not allowed to look
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def find_right(source: Source) -> Path:
    """The right file of a pair.

    Raises:
        DecodeError: there is none.
    """
    right = source.right or right_name(source.path)
    if right is None:
        raise DecodeError(
            f"'{source.path.name}' is one picture, its other half is not named",
            expected="a left file NAME_left.* or NAME_l.* with NAME_right.* or NAME_r.* beside it, "
            "or sibling folders as inputL and inputR",
            hint="or use --left A --right B",
        )
    if not right.is_file():
        raise DecodeError(
            f"no right file '{right.name}' for '{source.path.name}'", expected=f"it at '{right}'", hint="or use --right"
        )
    return right


def check_pair(left_path: Path, left: Samples, right_path: Path, right: Samples) -> None:
    """Both files of a pair must have the same form.

    Raises:
        DecodeError: sizes, channels or sample types differ, or both are the same picture.
    """
    if left.shape != right.shape or left.dtype != right.dtype:
        raise DecodeError(
            f"'{left_path.name}' is {_form(left)} and '{right_path.name}' is {_form(right)}",
            expected="two files of the same form",
        )
    if min(left.shape[:2]) < 4:
        raise DecodeError(f"'{left_path.name}' is {_form(left)}", expected="at least 4x4 pixels")
    if np.array_equal(left, right):
        raise DecodeError(
            f"'{left_path.name}' and '{right_path.name}' are the same picture", expected="a left and a right view"
        )


class PairDecoder:
    """Any left / right pair of PNG, TIFF, JPEG or PGM files."""

    name = "pair"
    needs = "a left picture NAME_left.* or NAME_l.* with its right one, or --left A --right B (PNG, TIFF, JPEG, PGM)"
    summary = "exported left / right views: Canon DPP, DPDD, DP119, Garg et al. 2019"
    suffixes = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".pgm")
    whole_suffixes = ()

    def refuses(self, source: Source) -> str | None:
        """None for any picture file."""
        return None if picture_kind(source.head) else "not a PNG, TIFF, JPEG or PGM picture"

    def decode(self, source: Source) -> SensorViews:
        """Both views, linear. Raises DecodeError for a missing, unequal or damaged file."""
        right_path = find_right(source)
        left, right = source.picture, read_tagged_picture(right_path)
        check_pair(source.path, left.samples, right_path, right.samples)
        turned = left.hints.orientation, right.hints.orientation
        if turned[0] != turned[1]:
            raise DecodeError(
                f"'{source.path.name}' has EXIF orientation {turned[0]} and '{right_path.name}' {turned[1]}",
                expected="the same in both",
                hint="export both in the same way",
            )
        if left.white != right.white:
            raise DecodeError(
                f"'{source.path.name}' has white at {left.white:g} and '{right_path.name}' at {right.white:g}",
                expected="the same in both",
                hint="export both in the same way",
            )
        halves = Half(left.samples, f"file {source.path.name}"), Half(right.samples, f"file {right_path.name}")
        return exported_views(source, halves, left.hints, left.white)


@dataclass(frozen=True)
class Half:
    """One view of an exported pair."""

    samples: Samples
    """uint8, uint16, float32 or float64; (H, W) or (H, W, 3)."""
    origin: str
    """For the provenance."""


def exported_views(
    source: Source, halves: tuple[Half, Half], hints: Hints, full_scale: float | None = None
) -> SensorViews:
    """Checked left and right samples to linear planes.

    Args:
        source: the pair, and what the user states of it.
        halves: of one form.
        hints: what the files say.
        full_scale: white where nobody states another; the largest integer of the samples, or 1.0, by default.

    Raises:
        DecodeError: levels that do not fit together.
    """
    stored = halves[0].samples, halves[1].samples
    encoding, why = _encoding(source, stored[0], hints)
    usual = full_scale or (1.0 if stored[0].dtype.kind == "f" else float(np.iinfo(stored[0].dtype).max))
    black, white = source.levels.over(0.0, usual)
    left, right, combined = _planes(stored, (black, white), encoding)
    clipped = np.asarray((stored[0] >= white) | (stored[1] >= white))
    levels = source.levels.origin("by the type of the samples")
    provenance = {
        "left": halves[0].origin,
        "right": halves[1].origin,
        "tone": f"{encoding} ({why})",
        "levels": f"black {black:g}, white {white:g} ({levels})",
    }
    baseline = source.baseline or _usual_baseline(source.path, stored[0])
    if source.baseline:
        baseline = upright_baseline(source.baseline, hints.orientation)[0]
    return SensorViews(
        left=left,
        right=right,
        combined=combined,
        saturated=np.asarray(clipped.any(axis=-1) if clipped.ndim == 3 else clipped, bool),
        meta=CaptureMeta(orientation=hints.orientation, provenance=provenance),
        baseline=baseline,
        details={
            "format": f"{stored[0].dtype} pair",
            "black": black,
            "white": white,
            "encoding": f"{encoding} ({why})",
        },
        frames=lambda: pair_frames(*stored),
        warnings=range_warnings(stored, white, source.levels, linear=encoding == "linear"),
    )


def _encoding(source: Source, samples: Samples, hints: Hints) -> tuple[str, str]:
    """The tone curve of the samples, and who says so."""
    if source.encoding != "auto":
        return source.encoding, "as given"
    if samples.dtype == np.uint8:
        return "srgb", "assumed"
    if samples.dtype == np.uint16 and hints.tone:
        return hints.tone, hints.tone_source
    return "linear", "assumed"


def _planes(stored: Sequence[Samples], levels: tuple[float, float], encoding: str) -> tuple[Plane, Plane, Plane]:
    """Left, right, and their mean."""
    black, white = levels
    scale = 1 / (white - black)
    if encoding == "linear" and stored[0].dtype.kind == "u":
        total = np.add(stored[0], stored[1], dtype=np.uint32)
        left, right = (Plane(samples, (black,), scale, mosaic=False) for samples in stored)
        return left, right, Plane(total, (2 * black,), scale / 2, mosaic=False)
    light = [(np.asarray(samples, np.float32) - np.float32(black)) / np.float32(white - black) for samples in stored]
    if encoding == "srgb":
        light = [linear_from_srgb(values) for values in light]
    left, right = (Plane(values, (0.0,), 1.0, mosaic=False) for values in light)
    return left, right, Plane(light[0] + light[1], (0.0,), 0.5, mosaic=False)


def pair_frames(left: Samples, right: Samples) -> dict[str, npt.NDArray[Any]]:
    """The untouched samples of the two files; nothing is derived, so there is no ``other``."""
    return {"frame0": left, "frame1": right}


def _usual_baseline(path: Path, samples: Samples) -> Baseline:
    """Along x, but for the upright portraits of Garg et al. 2019 (``*leftPd*``), where the sensor's x runs down."""
    portrait = samples.shape[0] > samples.shape[1]
    return "y" if portrait and _GOOGLE_NAME.fullmatch(path.stem) else "x"


def _form(samples: Samples) -> str:
    channels = f"x{samples.shape[2]}" if samples.ndim == 3 else ""
    return f"{samples.shape[1]}x{samples.shape[0]}{channels} {samples.dtype}"
