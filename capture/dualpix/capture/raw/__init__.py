"""Dual-pixel raws to left, right and combined views: one decoder per maker, one result type, one error family.

:func:`decode` finds the decoder, then does what is common to all: name the halves, equalise them, turn them upright. A
new camera is one module with an object of the form :class:`.plugin.Decoder`, listed in ``DECODERS``.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.canon import CanonDecoder
from dualpix.capture.raw.geometry import upright, upright_baseline
from dualpix.capture.raw.pair import PairDecoder
from dualpix.capture.raw.pixel import PdCaptureDecoder, Pixel4PngDecoder
from dualpix.capture.raw.plugin import HEAD_BYTES, Decoder, Encoding, SensorViews, Source
from dualpix.capture.raw.shading import self_gain, sheet_gain
from dualpix.capture.types import Baseline, DualPixelImage, FloatImage

__all__ = ["DECODERS", "Decoder", "RawCapture", "decode", "decode_capture"]

# Asked in this order: the particular before the generic.
DECODERS: tuple[Decoder, ...] = (CanonDecoder(), PdCaptureDecoder(), Pixel4PngDecoder(), PairDecoder())


@dataclass(frozen=True)
class RawCapture:
    """A decoded capture with what only the sidecar and the curious need."""

    image: DualPixelImage
    decoder: str
    details: Mapping[str, Any]
    """Levels, clip, crop, format: plain data."""
    frames: Callable[[], Mapping[str, npt.NDArray[np.generic]]]
    """Gives the untouched sensor frames, neither cropped nor rotated."""


def decode(
    path: Path,
    *,
    right: Path | None = None,
    swap: bool = False,
    flat_field: tuple[Path, Path] | None = None,
    equalise: bool = True,
    encoding: Encoding = "auto",
    baseline: Baseline | None = None,
) -> DualPixelImage:
    """Decode a dual-pixel capture to upright, linear, black-subtracted views (1.0 = white level).

    Args:
        path: a raw file, or the left file of a pair (its right file is looked for beside it).
        right: the right file of a pair.
        swap: exchange the two halves, for a camera whose stored half is the other one.
        flat_field: (left, right) files of a white sheet in the same form; a file that holds both halves is given twice.
        equalise: multiply the right half by a smooth gain so that both are equally bright; with ``flat_field`` from the
            white sheet, otherwise from the views. Never clips.
        encoding: tone curve of a generic pair; "auto" takes 8-bit as sRGB, the rest as linear.
        baseline: axis of the disparity of a pair, where the file form does not tell.

    Raises:
        DecodeError: not a dual-pixel capture, damaged, or a pair that does not match.
    """
    return decode_capture(
        path, right=right, swap=swap, flat_field=flat_field, equalise=equalise, encoding=encoding, baseline=baseline
    ).image


def decode_capture(
    path: Path,
    *,
    right: Path | None = None,
    swap: bool = False,
    flat_field: tuple[Path, Path] | None = None,
    equalise: bool = True,
    encoding: Encoding = "auto",
    baseline: Baseline | None = None,
) -> RawCapture:
    """As :func:`decode`, with the levels and the untouched frames."""
    decoder, views = _read(_source(Path(path), right, encoding, baseline))
    orientation = views.meta.orientation
    upright_axis, turned_over = upright_baseline(views.baseline, orientation)
    exchange = swap != turned_over
    views = _exchanged(views) if exchange else views
    if swap:
        views = _noted(views, "swap", "halves exchanged on request")
    if turned_over:
        views = _noted(views, "rotation", f"orientation {orientation} reverses the baseline: halves exchanged")
    if equalise:
        views = _equalised(views, flat_field, exchange, encoding)
    elif flat_field is not None:
        raise DecodeError("a flat field was given with equalisation off", hint="leave out one of the two")
    image = DualPixelImage(
        left=upright(views.left, orientation),
        right=upright(views.right, orientation),
        combined=upright(views.combined, orientation),
        saturated=upright(views.saturated, orientation),
        baseline=upright_axis,
        meta=views.meta,
    )
    return RawCapture(image, decoder.name, views.details, views.frames)


def _source(path: Path, right: Path | None, encoding: Encoding, baseline: Baseline | None) -> Source:
    for name in (path, right):
        _check_name(name)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DecodeError(f"'{path}' is a folder", expected="a file", hint="name the files in it")
        if not stat.S_ISREG(mode):
            raise DecodeError(f"'{path}' is not an ordinary file")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise DecodeError(f"no file '{path}'") from error
    except OSError as error:
        raise DecodeError(f"cannot read '{path}': {error.strerror or error}") from error
    if not head:
        raise DecodeError(f"'{path.name}' is empty", expected="a dual-pixel raw", hint="copy it again from the card")
    return Source(path, head, right, encoding, baseline)


def _check_name(path: Path | None) -> None:
    """LibRaw and the sidecar take names in UTF-8 only."""
    try:
        str(path or "").encode()
    except UnicodeEncodeError as error:
        raise DecodeError(f"the file name {str(path)!a} is not UTF-8", hint="rename the file") from error


def _read(source: Source) -> tuple[Decoder, SensorViews]:
    reasons = []
    for decoder in DECODERS:
        reason = decoder.refuses(source)
        if reason is None:
            return decoder, decoder.decode(source)
        reasons.append(f"{decoder.name}: {reason}")
    raise DecodeError(
        f"no decoder takes '{source.path.name}' ({', '.join(reasons)})",
        expected="a Canon Dual Pixel RAW (CR2, CR3, DNG) or a left / right pair",
    )


def _exchanged(views: SensorViews) -> SensorViews:
    origin = views.meta.provenance
    exchanged = {**origin, "left": origin.get("right", ""), "right": origin.get("left", "")}
    meta = replace(views.meta, provenance=exchanged)
    return replace(views, left=views.right, right=views.left, meta=meta)


def _noted(views: SensorViews, key: str, note: str) -> SensorViews:
    return replace(views, meta=replace(views.meta, provenance={**views.meta.provenance, key: note}))


def _equalised(
    views: SensorViews, flat_field: tuple[Path, Path] | None, exchange: bool, encoding: Encoding
) -> SensorViews:
    if flat_field is None:
        gain, origin = self_gain(views.left, views.right, views.saturated), "low-pass ratio of the views"
    else:
        gain, origin = _sheet(views, flat_field, exchange, encoding), f"white sheet {flat_field[0].name}"
    note = f"right x smooth gain {gain.min():.3f}..{gain.max():.3f} ({origin})"
    return _noted(replace(views, right=views.right * gain), "equalised", note)


def _sheet(views: SensorViews, flat_field: tuple[Path, Path], exchange: bool, encoding: Encoding) -> FloatImage:
    left, right = flat_field
    same = right.exists() and left.exists() and left.samefile(right)
    _, sheet = _read(_source(left, None if same else right, encoding, None))
    if sheet.left.shape != views.left.shape:
        raise DecodeError(
            f"the white sheet '{left.name}' has views of {sheet.left.shape[:2]} (h, w)",
            expected=f"{views.left.shape[:2]} as the capture",
            hint="take it with the same camera and settings",
        )
    sheet = _exchanged(sheet) if exchange else sheet
    return sheet_gain(sheet.left, sheet.right)
