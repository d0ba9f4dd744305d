"""Pairs of picture files: finding the right file of a left one, and the decoder of exported left / right views.

Exported views (Canon's DPP, other people's converters) are display-referred: 8-bit samples are taken through the
inverse sRGB curve. 16-bit and float samples are taken as linear, black at 0. Both are assumptions, stated in the
provenance; ``--encoding`` overrides them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.picture import linear_from_srgb
from dualpix.capture.raw.images import Samples, picture_kind, read_picture
from dualpix.capture.raw.plugin import SensorViews, Source
from dualpix.capture.types import Baseline, CaptureMeta, FloatImage

# A left name's last "left" or "l" that stands as a word of its own, or "leftPd" as in Garg et al.'s data.
_LEFT_WORD = re.compile(
    r"(?:(?<=[_\-. ])|^)(left|l)(?=pd|[_\-. ]|$)(?!.*(?:[_\-. ]|^)(?:left|l)(?=pd|[_\-. ]|$))", re.I
)
_PICTURE_SUFFIXES = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".pgm"}
_RIGHT_OF = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "l": "r", "L": "R"}


def right_name(left: Path) -> Path | None:
    """The name the right file should have beside ``left``, or None when ``left`` is not named as a left file."""
    match = _left_word(left)
    if match is None:
        return None
    stem = left.stem[: match.start(1)] + _RIGHT_OF[match[1]] + left.stem[match.end(1) :]
    return left.with_name(stem + left.suffix)


def pair_stem(left: Path) -> str:
    """The name of the capture: the left file's stem without the word "left"."""
    match = _left_word(left)
    if match is None:
        return left.stem
    stem = (left.stem[: match.start(1)] + left.stem[match.end(1) :]).strip("_-. ")
    return re.sub(r"([_\-. ])[_\-. ]+", r"\1", stem) or left.stem


def _left_word(path: Path) -> re.Match[str] | None:
    """The word to replace; a raw file is never half of a pair, whatever its name."""
    match = _LEFT_WORD.search(path.stem)
    return match if match and match[1] in _RIGHT_OF and path.suffix.lower() in _PICTURE_SUFFIXES else None


def find_right(source: Source) -> Path:
    """The right file of a pair.

    Raises:
        DecodeError: there is none.
    """
    right = source.right or right_name(source.path)
    if right is None:
        raise DecodeError(
            f"'{source.path.name}' is one picture, its other half is not named",
            expected="a left file NAME_left.* or NAME_l.* with NAME_right.* or NAME_r.* beside it",
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
    needs = "a left picture NAME_left.* or NAME_l.* with its right one (PNG, TIFF, JPEG, PGM)"

    def refuses(self, source: Source) -> str | None:
        """None for any picture file."""
        return None if picture_kind(source.head) else "not a PNG, TIFF, JPEG or PGM picture"

    def decode(self, source: Source) -> SensorViews:
        """Both views, linear. Raises DecodeError for a missing, unequal or damaged file."""
        right_path = find_right(source)
        left, right = read_picture(source.path), read_picture(right_path)
        check_pair(source.path, left, right_path, right)
        encoding = source.encoding
        if encoding == "auto":
            encoding = "srgb" if left.dtype == np.uint8 else "linear"
        assumed = " (assumed)" if source.encoding == "auto" else ""
        white = 1.0 if left.dtype == np.float32 else float(np.iinfo(left.dtype).max)
        views = [_linear(samples, white, encoding) for samples in (left, right)]
        clipped = np.asarray((left >= white) | (right >= white))
        provenance = {
            "left": f"file {source.path.name}",
            "right": f"file {right_path.name}",
            "tone": encoding + assumed,
        }
        return SensorViews(
            left=views[0],
            right=views[1],
            combined=(views[0] + views[1]) * np.float32(0.5),
            saturated=np.asarray(clipped.any(axis=-1) if clipped.ndim == 3 else clipped, bool),
            meta=CaptureMeta(provenance=provenance),
            baseline=source.baseline or _usual_baseline(source.path, left),
            details={"format": f"{left.dtype} pair", "black": 0, "white": white, "encoding": encoding + assumed},
            frames=lambda: pair_frames(left, right),
        )


def pair_frames(left: Samples, right: Samples) -> dict[str, npt.NDArray[Any]]:
    """The untouched samples of the two files; nothing is derived, so there is no ``other``."""
    return {"frame0": left, "frame1": right}


def _usual_baseline(path: Path, samples: Samples) -> Baseline:
    """Along x, but for the upright portraits of Garg et al. 2019 (``*leftPd*``), where the sensor's x runs down."""
    return "y" if "leftpd" in path.stem.lower() and samples.shape[0] > samples.shape[1] else "x"


def _linear(samples: Samples, white: float, encoding: str) -> FloatImage:
    value = samples.astype(np.float32) / np.float32(white)
    return linear_from_srgb(value) if encoding == "srgb" else value


def _form(samples: Samples) -> str:
    channels = f"x{samples.shape[2]}" if samples.ndim == 3 else ""
    return f"{samples.shape[1]}x{samples.shape[0]}{channels} {samples.dtype}"
