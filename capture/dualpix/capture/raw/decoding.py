"""Dual-pixel raws to left, right and combined views: one decoder per maker, one result type, one error family.

:func:`decode` finds the decoder, then does what is common to all: name the halves, equalise them, turn them upright. A
new camera is one module with an object of the form :class:`.formats.plugin.Decoder`, listed in ``DECODERS``.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.profiles.half_gain import Gain
from dualpix.capture.profiles.profile import profile_gain, read_profile
from dualpix.capture.raw.develop.geometry import as_sensor, upright, upright_baseline
from dualpix.capture.raw.develop.layout import (
    Colour,
    Layout,
    apply_gain,
    binning,
    develop,
    develop_mask,
    layout_of,
    strips,
    thumbnail,
    view_shape,
)
from dualpix.capture.raw.develop.levels import Levels
from dualpix.capture.raw.develop.naming import FocusedOn, sign_evidence
from dualpix.capture.raw.develop.noise import NoiseModel, measure_noise
from dualpix.capture.raw.develop.planes import Plane
from dualpix.capture.raw.develop.shading import refined_gain, self_gain, sheet_gain
from dualpix.capture.raw.formats.canon import CanonDecoder
from dualpix.capture.raw.formats.dng_pair import DngPairDecoder
from dualpix.capture.raw.formats.dump import Dump
from dualpix.capture.raw.formats.npy import NumpyPairDecoder
from dualpix.capture.raw.formats.pair import PairDecoder
from dualpix.capture.raw.formats.pixel import PdCaptureDecoder, Pixel4PngDecoder
from dualpix.capture.raw.formats.plugin import HEAD_BYTES, Decoder, Encoding, SensorViews, Source
from dualpix.capture.raw.formats.raw_depth import RawDepthDumpDecoder, RawDepthPngDecoder
from dualpix.capture.types import Baseline, CaptureMeta, DualPixelImage, FloatImage, Mask

__all__ = [
    "DECODERS",
    "WHOLE_SUFFIXES",
    "Decoder",
    "Levels",
    "RawCapture",
    "decode",
    "decode_capture",
    "find_decoder",
    "opened",
    "read_planes",
]

# Asked in this order: the particular before the generic.
DECODERS: tuple[Decoder, ...] = (
    RawDepthDumpDecoder(),
    DngPairDecoder(),
    CanonDecoder(),
    PdCaptureDecoder(),
    Pixel4PngDecoder(),
    RawDepthPngDecoder(),
    NumpyPairDecoder(),
    PairDecoder(),
)
WHOLE_SUFFIXES = frozenset(suffix for decoder in DECODERS for suffix in decoder.whole_suffixes)
"""Of files that are a capture each, lower case with the dot: whoever searches folders for captures asks here."""

View = Literal["left", "right", "combined"]


@dataclass(frozen=True)
class RawCapture:
    """A decoded capture whose views are developed when they are asked for: at 30 megapixels each is large."""

    decoder: str
    meta: CaptureMeta
    baseline: Baseline
    """Axis of the disparity in the upright views."""
    layout: Layout | None
    """None where the samples are no mosaic: the views have the form of the file."""
    colour: Literal["camera", "srgb"] | None
    """Of views with three channels; None where the file's own colour is kept."""
    warnings: tuple[str, ...]
    details: Mapping[str, Any]
    """Levels, clip, crop, format: plain data."""
    frames: Callable[[], Mapping[str, npt.NDArray[np.generic]]]
    """Gives the untouched sensor frames, neither cropped nor rotated."""
    views: SensorViews
    """Samples as the sensor lies, halves already named."""
    gain: Gain | None = None
    """Of the right half."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width) or (height, width, 3) of a developed upright view."""
        return _turned(view_shape(self.views.left, self.layout or "mosaic"), self.meta.orientation)

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of a developed upright view."""
        return self.shape[0], self.shape[1]

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 3 if len(self.shape) == 3 else 1

    @property
    def cfa(self) -> str | None:
        """The 2x2 pattern of an upright mosaic view in reading order, e.g. "RGGB"; None for other layouts."""
        if self.layout != "mosaic":
            return None
        return "".join(upright(np.array([["R", "G"], ["G", "B"]]), self.meta.orientation).ravel().tolist())

    @property
    def saturated(self) -> Mask:
        """(height, width): any contributing sensor value clipped; a derived half is a lower bound there."""
        mask = develop_mask(self.views.saturated, self.views.left.mosaic, self.layout or "mosaic")
        return upright(mask, self.meta.orientation)

    def view(self, name: View) -> FloatImage:
        """One view, developed, equalised and upright; computed on each call."""
        plane: Plane = getattr(self.views, name)
        layout = self.layout or "mosaic"
        image = np.empty(self.shape, np.float32)
        lying = as_sensor(image, self.meta.orientation)
        matrix = self._colour_matrix()
        for rows, view_rows in strips(plane, layout):
            light = develop(plane, layout, rows)
            if name == "right" and self.gain is not None:
                apply_gain(light, self.gain.at(lying.shape[:2], view_rows), self.layout)
            lying[view_rows] = light if matrix is None else cv2.transform(light, matrix)
        return image

    def noise(self) -> dict[str, NoiseModel | None]:
        """Read and shot noise of a sample of each half, before equalisation; None where it cannot be told."""
        halves = {"left": self.views.left, "right": self.views.right}
        return {name: measure_noise(half, self.views.saturated) for name, half in halves.items()}

    @property
    def image(self) -> DualPixelImage:
        """All views at once."""
        return DualPixelImage(
            left=self.view("left"),
            right=self.view("right"),
            combined=self.view("combined"),
            saturated=self.saturated,
            baseline=self.baseline,
            meta=self.meta,
        )

    def _colour_matrix(self) -> npt.NDArray[np.float64] | None:
        if self.colour != "srgb" or self.channels != 3:
            return None
        matrix = np.asarray(self.views.srgb_from_camera or np.eye(3))
        return np.asarray(matrix * np.asarray(self.views.white_balance or (1.0, 1.0, 1.0)))


def decode(
    path: Path,
    *,
    right: Path | None = None,
    sub: Path | None = None,
    dump: Dump | None = None,
    swap: bool = False,
    focused_on: FocusedOn | None = None,
    flat_field: tuple[Path, Path] | None = None,
    shading: Path | None = None,
    equalise: bool = True,
    encoding: Encoding = "auto",
    levels: Levels | None = None,
    baseline: Baseline | None = None,
    layout: Layout = "superpixel",
    colour: Colour = "auto",
) -> DualPixelImage:
    """Decode a dual-pixel capture to upright, linear, black-subtracted views (1.0 = white level).

    Args:
        path: a raw file, or the left file of a pair (its right file is looked for beside it).
        right: the right file of a pair.
        sub: the file of the second frame, where a converter wrote the frames of one raw as two DNG files.
        dump: the geometry of an interleaved sensor dump, which has no header.
        swap: exchange the two halves, for a camera whose stored half is the other one.
        focused_on: the lens was focused on the nearest or the farthest thing in the picture: lets the sign of the
            disparity decide which half is which, see :mod:`.develop.naming`. A file that does not say which half it
            stores, but that the lens stood at infinity, is decided so by itself. ``swap`` comes first.
        flat_field: (left, right) files of a white sheet in the same form; a file that holds both halves is given twice.
        shading: a profile of ``dualpix calibrate shading``, instead of ``flat_field``.
        equalise: multiply the right half by a smooth gain so that both are equally bright: from ``shading`` or
            ``flat_field``, otherwise from the views. Never clips.
        encoding: tone curve of a generic pair; "auto" takes 8-bit as sRGB, the rest as linear.
        levels: codes of no light and of full light of a pair, where its kind of file does not tell.
        baseline: axis of the disparity of a pair, where the file form does not tell.
        layout: what a Bayer mosaic becomes, see :mod:`.develop.layout`; other files keep their own form.
        colour: of views with three channels made from a mosaic: "camera" is the sensor's own, "srgb" is white-balanced
            as shot, with linear sRGB primaries; "auto" is "srgb" for the layout "rgb" and "camera" for the others.

    Raises:
        DecodeError: not a dual-pixel capture, damaged, or a pair that does not match.
    """
    return decode_capture(
        path,
        right=right,
        sub=sub,
        dump=dump,
        swap=swap,
        focused_on=focused_on,
        flat_field=flat_field,
        shading=shading,
        equalise=equalise,
        encoding=encoding,
        levels=levels,
        baseline=baseline,
        layout=layout,
        colour=colour,
    ).image


def read_planes(
    path: Path,
    *,
    right: Path | None = None,
    sub: Path | None = None,
    dump: Dump | None = None,
    encoding: Encoding = "auto",
    levels: Levels | None = None,
    baseline: Baseline | None = None,
) -> SensorViews:
    """The samples of both halves as read, with their levels and the saturated ones: what everything else is made of.

    Neither named by sign, equalised, demosaiced nor rotated. Arguments and errors as for :func:`decode`.
    """
    return _read(opened(Source(Path(path), b"", right, encoding, baseline, sub, dump, levels or Levels())))[1]


def decode_capture(
    path: Path,
    *,
    right: Path | None = None,
    sub: Path | None = None,
    dump: Dump | None = None,
    swap: bool = False,
    focused_on: FocusedOn | None = None,
    flat_field: tuple[Path, Path] | None = None,
    shading: Path | None = None,
    equalise: bool = True,
    encoding: Encoding = "auto",
    levels: Levels | None = None,
    baseline: Baseline | None = None,
    layout: Layout = "superpixel",
    colour: Colour = "auto",
) -> RawCapture:
    """As :func:`decode`, with the levels and the untouched frames, and each view developed on demand."""
    source = opened(Source(Path(path), b"", right, encoding, baseline, sub, dump, levels or Levels()))
    decoder, views = _read(source)
    orientation = views.meta.orientation
    upright_axis, turned_over = upright_baseline(views.baseline, orientation)
    if swap:
        views = _noted(views, "swap", "halves exchanged on request")
    else:
        views, swap = _named_by_sign(views, focused_on)
    exchange = swap != turned_over
    views = _exchanged(views) if exchange else views
    if turned_over:
        views = _noted(views, "rotation", f"orientation {orientation} reverses the baseline: halves exchanged")
    gain = None
    if equalise:
        sheet = None if flat_field is None else _sheet_source(flat_field, source)
        gain, warnings = _gain(views, sheet, shading, exchange)
        note = f"right x smooth gain {gain.grid.min():.3f}..{gain.grid.max():.3f} ({gain.origin})"
        views = replace(_noted(views, "equalised", note), warnings=views.warnings + warnings)
    elif flat_field is not None or shading is not None:
        raise DecodeError("a white sheet was given with equalisation off", hint="leave out one of the two")
    return _capture(decoder, views, gain, upright_axis, layout, colour)


def _capture(
    decoder: Decoder, views: SensorViews, gain: Gain | None, baseline: Baseline, layout: Layout, colour: Colour
) -> RawCapture:
    used = layout_of(views.left, layout)
    warnings = views.warnings
    if used is None and layout != "superpixel":
        warnings += (f"layout '{layout}' is for Bayer mosaics; this file's own form is kept",)
    used_colour: Literal["camera", "srgb"] | None = None
    if used in ("rgb", "superpixel"):
        used_colour = ("srgb" if used == "rgb" else "camera") if colour == "auto" else colour
    if used_colour == "srgb" and views.srgb_from_camera is None:
        warnings += ("the colour of this camera model is not known: white-balanced camera colour instead of sRGB",)
    pitch_um = views.meta.pixel_pitch_um
    meta = replace(views.meta, pixel_pitch_um=None if pitch_um is None else pitch_um * binning(used))
    details = {**views.details, "white_balance": views.white_balance} if views.left.mosaic else views.details
    return RawCapture(decoder.name, meta, baseline, used, used_colour, warnings, details, views.frames, views, gain)


def _turned(shape: tuple[int, ...], orientation: int) -> tuple[int, ...]:
    return (shape[1], shape[0], *shape[2:]) if orientation >= 5 else shape


def opened(source: Source) -> Source:
    """``source`` with its first bytes, if it is a file that can be read."""
    path = source.path
    for name in (path, source.right, source.sub):
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
    return replace(source, head=head)


def _check_name(path: Path | None) -> None:
    """LibRaw and the sidecar take names in UTF-8 only."""
    try:
        str(path or "").encode()
    except UnicodeEncodeError as error:
        raise DecodeError(f"the file name {str(path)!a} is not UTF-8", hint="rename the file") from error


def _read(source: Source) -> tuple[Decoder, SensorViews]:
    decoder = find_decoder(source)
    return decoder, decoder.decode(source)


def find_decoder(source: Source) -> Decoder:
    """The first that takes an :func:`opened` source, by its first bytes.

    Raises:
        DecodeError: none does; names the reason of each.
    """
    reasons = []
    for decoder in DECODERS:
        reason = decoder.refuses(source)
        if reason is None:
            return decoder
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


def _named_by_sign(views: SensorViews, focused_on: FocusedOn | None) -> tuple[SensorViews, bool]:
    """Whether the disparity says that the halves have each other's name; noted in the provenance if it was asked."""
    if focused_on is None and views.half_assumed and views.meta.focus_distance_m == math.inf:
        focused_on = "farthest"
    if focused_on is None:
        return views, False
    (left, right), saturated = ([_green(p) for p in (views.left, views.right)], views.saturated)
    gain = self_gain(*_thumbnails(views), views.baseline).at((left.shape[0], left.shape[1]))
    right = right * gain[..., gain.shape[2] // 2]
    mask = develop_mask(saturated, views.left.mosaic, "green")
    if views.baseline == "y":
        left, right, mask = left.T, right.T, mask.T
    evidence = sign_evidence(left, right, mask, views.meta.pixel_aspect)
    verdict = evidence.verdict(focused_on)
    note = f"disparity sign, focused on the {focused_on} thing: {verdict} ({evidence.text()})"
    return _noted(views, "naming", note), verdict == "exchanged"


def _green(plane: Plane) -> FloatImage:
    light = develop(plane, "green")
    return light if light.ndim == 2 else np.ascontiguousarray(light[..., 1])


def _noted(views: SensorViews, key: str, note: str) -> SensorViews:
    return replace(views, meta=replace(views.meta, provenance={**views.meta.provenance, key: note}))


def _gain(
    views: SensorViews,
    sheet: Source | None,
    shading: Path | None,
    exchange: bool,
) -> tuple[Gain, tuple[str, ...]]:
    """The gain of the right half, and what the user should know about it."""
    if sheet is not None and shading is not None:
        raise DecodeError("both a flat field and a shading profile were given", expected="one of the two")
    warnings: tuple[str, ...] = ()
    if sheet is not None:
        gain = _sheet(views, sheet, exchange)
    elif shading is not None:
        gain, warnings = profile_gain(read_profile(shading), views.left.size_hw, views.meta, exchanged=exchange)
    else:
        return self_gain(*_thumbnails(views), views.baseline), ()
    return refined_gain(gain, *_thumbnails(views), views.baseline), warnings


def _thumbnails(views: SensorViews) -> tuple[FloatImage, FloatImage, FloatImage]:
    """Light of both halves, and the unsaturated share."""
    (left, valid), (right, _) = (thumbnail(plane, views.saturated) for plane in (views.left, views.right))
    return left, right, valid


def _sheet_source(flat_field: tuple[Path, Path], capture: Source) -> Source:
    """A white sheet, which has the form of the capture."""
    left, right = flat_field
    same = right.exists() and left.exists() and left.samefile(right)
    return Source(left, b"", None if same else right, capture.encoding, levels=capture.levels)


def _sheet(views: SensorViews, sheet_source: Source, exchange: bool) -> Gain:
    _, sheet = _read(opened(sheet_source))
    if sheet.left.samples.shape != views.left.samples.shape:
        raise DecodeError(
            f"the white sheet '{sheet_source.path.name}' has frames of {sheet.left.size_hw} (h, w)",
            expected=f"{views.left.size_hw} as the capture",
            hint="take it with the same camera and settings",
        )
    sheet = _exchanged(sheet) if exchange else sheet
    (white_left, _), (white_right, _) = (thumbnail(plane, sheet.saturated) for plane in (sheet.left, sheet.right))
    return replace(sheet_gain(white_left, white_right), origin=f"white sheet {sheet_source.path.name}")
