"""The result folder of ``dualpix decode``: written whole or not at all, one developed view in memory at a time.

Integer files share one ``full_scale`` per capture: 1.0 (white level), or more where a view exceeds it, so that no light
clips at the top. Views are developed one after the other, combined first, as it is nearly always the brightest; where a
later one turns out brighter, the files written before it are written again. What is clipped below (negative noise in
TIFF and PNG, far below black in DNG) is counted per file. All of it stands in ``decode.json``, whose schema is
``decode.schema.json`` beside this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from dualpix.capture.files import atomic_dir, write_json
from dualpix.capture.pictures.display import to_display
from dualpix.capture.raw.batch.output_settings import DISPARITY_PREVIEW, OutputSettings
from dualpix.capture.raw.decoding import RawCapture
from dualpix.capture.raw.write.dng import VIEW_DNG_BLACK, ViewDng, write_view_dng
from dualpix.capture.raw.write.metadata import exif_block, exif_tags, picture_tags, pitch_xy_um
from dualpix.capture.raw.write.preview import (
    PREVIEW_LONG_SIDE_PX,
    REDUCED_LONG_SIDE_PX,
    Look,
    disparity_preview,
    one_channel,
    preview_view,
    reduced,
    wiggle_frames,
    wiggle_view,
    write_animation,
)
from dualpix.capture.raw.write.writers import (
    Coding,
    NpzWriter,
    encoded,
    full_scale_for,
    write_picture,
    write_png,
    write_tiff,
)
from dualpix.capture.types import FloatImage, Mask

SIDECAR = "decode.json"
SCHEMA = Path(__file__).with_name("decode.schema.json")
NPZ_VIEWS = "views.npz"
_FIRST = ("combined", "left", "right")


@dataclass
class _Written:
    """What has come out so far."""

    coding: Coding
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Entry of ``files`` by view."""
    scales: dict[str, float] = field(default_factory=dict)
    """The full scale each view was written with."""
    halves: dict[str, FloatImage] = field(default_factory=dict)
    """Reduced halves of one channel, where the disparity is asked for."""
    wiggle: dict[str, FloatImage] = field(default_factory=dict)
    """Further reduced views, where the animation is asked for."""


def write_capture(
    capture: RawCapture,
    inputs: Sequence[Path],
    folder: Path,
    settings: OutputSettings | None = None,
    request: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a decoded capture as ``folder``; an earlier result there is replaced, any other folder is left alone.

    Args:
        capture: what to write.
        inputs: the files it came from, named in the sidecar.
        folder: the result folder; its parents are made.
        settings: what to write of it; 16-bit TIFFs of the three views where None.
        request: what was asked for, plain data; stands in the sidecar as given, so that a later run can compare.

    Returns:
        The content of ``decode.json``.

    Raises:
        OutputError: the folder cannot be written or holds something else.
    """
    settings = settings or OutputSettings()
    with atomic_dir(folder, SIDECAR) as temporary:
        written = _write_views(capture, temporary, settings)
        saturated = capture.saturated
        write_picture(temporary / "saturated.png", saturated.view(np.uint8) * np.uint8(255))
        files = [written.views[name] for name in settings.image_views]
        files += [{"name": "saturated.png", "what": "saturated"}, {"name": "preview.png", "what": "preview"}]
        files += _write_pictures(capture, temporary, settings, written, saturated)
        if settings.frames:
            files += _write_frames(capture, temporary)
        record = {
            "schema_version": 1,
            "inputs": [path.name for path in inputs],
            "request": dict(request or {}),
            **_about_capture(capture),
            "saturated_fraction": round(float(np.count_nonzero(saturated)) / saturated.size, 6),
            "samples": _about_samples(settings, written.coding),
            "files": files,
            "warnings": list(capture.warnings),
            "versions": _versions(),
        }
        write_json(temporary / SIDECAR, record)
        return record


def read_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of ``decode.json``."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return schema


def _write_views(capture: RawCapture, folder: Path, settings: OutputSettings) -> _Written:
    """Develop, reduce and write each view that is needed."""
    disparity = DISPARITY_PREVIEW in settings.views
    needed = {*settings.image_views, "combined", *(("left", "right") if disparity or settings.wiggle else ())}
    written = _Written(_coding(settings))
    with ExitStack() as stack:
        npz = stack.enter_context(NpzWriter(folder / NPZ_VIEWS)) if _npz(settings) else None
        for name in (n for n in _FIRST if n in needed):
            compared = disparity or settings.wiggle is not None
            side_px = REDUCED_LONG_SIDE_PX if compared else PREVIEW_LONG_SIDE_PX if name == "combined" else None
            small = _develop_and_write(capture, name, folder, settings, written, npz, reduced_to_px=side_px)
            if small is None:
                continue
            if name == "combined":
                write_picture(folder / "preview.png", to_display(preview_view(small), **asdict(_look(capture))))
            if settings.wiggle:
                written.wiggle[name] = wiggle_view(small)
            if disparity and name != "combined":
                written.halves[name] = one_channel(small)
            del small  # before the next view takes its place
    for name, scale in list(written.scales.items()):
        if scale != written.coding.full_scale:
            _write_view(capture, name, capture.view(cast(Any, name)), folder, settings, written, None)
    return written


def _develop_and_write(
    capture: RawCapture,
    name: str,
    folder: Path,
    settings: OutputSettings,
    written: _Written,
    npz: NpzWriter | None,
    *,
    reduced_to_px: int | None,
) -> FloatImage | None:
    """The reduced view if its long side is given; the full one is let go of on return, before others need memory."""
    view = capture.view(cast(Any, name))
    aspect = capture.meta.pixel_aspect
    small = None
    if reduced_to_px is not None:
        small = reduced(
            view, cfa=capture.cfa, pixel_aspect=aspect, baseline=capture.baseline, long_side_px=reduced_to_px
        )
    if name in settings.image_views:
        written.coding = _holding(written.coding, view)
        _write_view(capture, name, view, folder, settings, written, npz)
    return small


def _coding(settings: OutputSettings) -> Coding:
    bits = settings.bit_depth or 0
    if settings.format == "dng":
        return Coding(bits, black=VIEW_DNG_BLACK)
    return Coding(bits, floating=settings.format == "npz" or bits == 32)


def _holding(coding: Coding, view: FloatImage) -> Coding:
    """``coding`` with a full scale that holds ``view`` too."""
    if coding.floating:
        return coding
    full_scale = max(coding.full_scale, full_scale_for(float(view.max())))
    return Coding(coding.bit_depth, coding.floating, full_scale, coding.black)


def _npz(settings: OutputSettings) -> bool:
    return settings.format == "npz" and bool(settings.image_views)


def _write_view(
    capture: RawCapture,
    name: str,
    view: FloatImage,
    folder: Path,
    settings: OutputSettings,
    written: _Written,
    npz: NpzWriter | None,
) -> None:
    """Write one view; its memory may be used up in doing so."""
    coding = written.coding
    entry: dict[str, Any] = {"name": f"{name}.{settings.format}", "what": "view", "view": name}
    entry["clipped_below"] = coding.clipped_below(view)
    if npz is not None:
        npz.add(name, view.shape, coding.dtype, encoded(view, coding))
        entry |= {"name": NPZ_VIEWS, "array": name}
    elif settings.format == "dng":
        write_view_dng(folder / entry["name"], view, _view_dng(capture, name, coding))
    else:
        picture = picture_tags(capture.meta, f"{name} view; {coding.meaning}")
        srgb = coding.curve == "srgb" and capture.colour != "camera"
        exif = exif_tags(capture.meta, pitch_xy_um(capture.meta, capture.baseline), srgb=srgb)
        if settings.format == "png":
            write_png(folder / entry["name"], view, coding, exif_block(picture, exif))
        else:
            aspect = capture.meta.pixel_aspect if capture.baseline == "x" else 1 / capture.meta.pixel_aspect
            write_tiff(folder / entry["name"], view, coding, picture=picture, exif=exif, aspect=aspect)
    written.views[name], written.scales[name] = entry, coding.full_scale


def _view_dng(capture: RawCapture, name: str, coding: Coding) -> ViewDng:
    camera = capture.layout == "mosaic" or capture.colour == "camera"
    return ViewDng(
        coding=coding,
        meta=capture.meta,
        pitch_xy_um=pitch_xy_um(capture.meta, capture.baseline),
        cfa=capture.cfa,
        white_balance=capture.views.white_balance if camera else None,
        srgb_from_camera=capture.views.srgb_from_camera if camera else None,
        description=f"{name} view; {coding.meaning}",
    )


def _write_pictures(
    capture: RawCapture, folder: Path, settings: OutputSettings, written: _Written, saturated: Mask
) -> list[dict[str, Any]]:
    """The pictures that compare the halves."""
    files = []
    if DISPARITY_PREVIEW in settings.views:
        length_px = capture.size_hw[1 if capture.baseline == "x" else 0]
        shown = disparity_preview(
            written.halves["left"], written.halves["right"], saturated, capture.baseline, length_px
        )
        write_picture(folder / f"{DISPARITY_PREVIEW}.png", shown)
        files.append({"name": f"{DISPARITY_PREVIEW}.png", "what": DISPARITY_PREVIEW})
    if settings.wiggle:
        name = f"wiggle.{settings.wiggle}"
        write_animation(folder / name, wiggle_frames(written.wiggle, _look(capture)), settings.wiggle)
        files.append({"name": name, "what": "wiggle"})
    return files


def _look(capture: RawCapture) -> Look:
    """How the light of this capture is shown."""
    if str(capture.details.get("encoding", "")).startswith("srgb"):  # exported for display: shown as it was
        return Look((1.0, 1.0, 1.0), 1.0)
    return Look((1.0, 1.0, 1.0) if capture.colour == "srgb" else capture.views.white_balance)


def _write_frames(capture: RawCapture, folder: Path) -> Iterable[dict[str, Any]]:
    frames = capture.frames()
    with NpzWriter(folder / "frames.npz") as npz:
        for name, frame in frames.items():
            npz.add_array(name, frame)
    return [{"name": "frames.npz", "what": "frames", "array": name} for name in frames]


def _about_capture(capture: RawCapture) -> dict[str, Any]:
    height, width = capture.size_hw
    return {
        "decoder": capture.decoder,
        "layout": capture.layout,
        "colour": capture.colour,
        "cfa": capture.cfa,
        "meta": capture.meta.to_json(),
        "baseline": capture.baseline,
        "sign": f"{capture.baseline}_right - {capture.baseline}_left > 0 behind the focus plane",
        "size": {"width": width, "height": height, "channels": capture.channels},
        "sensor": dict(capture.details),
        "noise": {half: None if model is None else asdict(model) for half, model in capture.noise().items()},
    }


def _about_samples(settings: OutputSettings, coding: Coding) -> dict[str, Any]:
    return {
        "format": settings.format,
        "bit_depth": coding.bit_depth,
        "type": "float" if coding.floating else "integer",
        "curve": coding.curve,
        "black": coding.black,
        "white": coding.white,
        "full_scale": coding.full_scale,
        "meaning": coding.meaning,
    }


def _versions() -> dict[str, str]:
    import rawpy

    return {
        "dualpix": version("dualpix"),
        "libraw": ".".join(map(str, rawpy.libraw_version)),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
