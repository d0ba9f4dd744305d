"""What a focus stack says, as a folder: maps, pictures, and ``depth.json``.

Convention: see :mod:`.focus_depth`. The all-in-focus picture is coded as the frames' own files are (:mod:`.look`).
Figures of a map are those of its measured pixels, confidence 0.5 or more: the rest is filled in from around.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_dir, write_json
from dualpix.capture.pictures.colour_map import Panel, Rgb, figure, grown, save_picture
from dualpix.capture.pictures.depth_files import DepthPicture, Format, write_depth_files
from dualpix.capture.pictures.points import pinhole_of
from dualpix.capture.raw.write.writers import write_picture
from dualpix.capture.stack.depth.focus_depth import CONFIDENT, FocusDepth, FocusIndex
from dualpix.capture.stack.look import meaning_of, shown, write_coded
from dualpix.capture.types import FloatImage, FocusStack, FrameLook

SIDECAR = "depth.json"
LEAST_MEASURED = 0.001
"""Share of the pixels below which nothing was measured."""
NO_METRES_HINT = "dualpix capture import with --distances M,M,..., or --first M --last M"
_PREVIEW_SIDE_PX = 720
_PERCENTILES = (1, 50, 99)
_DARK, _WHITE, _SAME = 1e-3, 0.999, 1e-6
_MOSTLY = 0.99

Result = FocusDepth | FocusIndex


def check_measured(stack: FocusStack, result: Result, name: str) -> None:
    """Whether anything was measured.

    Raises:
        DualpixError: nothing was; the message says why, as far as the frames tell.
    """
    if result.measured_fraction >= LEAST_MEASURED:
        return
    raise DualpixError(
        f"nothing can be measured in '{name}': {_why(stack)}",
        expected="frames of something with texture, focused at different distances",
        hint="look at it with: dualpix capture verify",
    )


def _why(stack: FocusStack) -> str:
    frames = stack.frames
    if np.mean(frames <= _DARK) > _MOSTLY:
        return "the frames are black"
    if np.mean(frames >= _WHITE) > _MOSTLY:
        return "the frames are saturated"
    if np.ptp(frames, axis=0).max() <= _SAME * frames.max():
        return "all frames are the same picture"
    return "no frame is sharper than the others anywhere, beyond what noise does"


def write_focus_depth(
    folder: Path,
    stack: FocusStack,
    result: Result,
    details: dict[str, Any] | None = None,
    beside: Mapping[str, FloatImage] | None = None,
    also: Sequence[Format] = (),
) -> dict[str, Any]:
    """Write a result as a folder, which appears whole or not at all.

    Of a stack with distances: ``depth_m.tiff`` (float32, m, infinity allowed), ``depth_m.npy`` the same and
    ``depth.png`` with a scale. Of one without: ``focus_index.tiff`` (float32, number of the sharpest frame from 0) and
    ``focus_index.png``. Of both: ``confidence.png`` (255 = 1), ``all_in_focus.tiff`` (16 bits, or floats where the
    frames are floats, coded as the frames are), ``all_in_focus.png`` for people, and ``depth.json``.

    Args:
        folder: made, or replaced where it holds an earlier result.
        stack: that the result is of.
        result: what was found.
        details: goes into the JSON as it is.
        beside: further maps (H, W) in m by the stem of their file, which becomes a ``.tiff``.
        also: files for other programs, where there are metres.

    Returns:
        The content of ``depth.json``.

    Raises:
        OutputError: the folder cannot be written.
    """
    look = stack.look or FrameLook(camera=True)
    about = _depth_summary(stack, result) if isinstance(result, FocusDepth) else _index_summary(result)
    record = {
        **about,
        "method": f"focus stack, {result.method}",
        "frames": len(stack.frames),
        "size": {"width": result.confidence.shape[1], "height": result.confidence.shape[0]},
        "f_number": stack.lens.f_number if math.isfinite(stack.lens.f_number) else None,
        "measured_fraction": round(result.measured_fraction, 4),
        "blur_source": result.blur_source,
        "all_in_focus_frame": stack.all_in_focus is not None,
        "all_in_focus": {
            "file": "all_in_focus.tiff",
            "codes": meaning_of(look),
            "profile": look.icc_profile is not None,
        },
        **(details or {}),
    }
    with atomic_dir(folder, SIDECAR) as temporary:
        if isinstance(result, FocusDepth):
            _write_map(temporary / "depth_m.tiff", result.depth_m)
            np.save(temporary / "depth_m.npy", result.depth_m, allow_pickle=False)
            save_picture(temporary / "depth.png", preview(stack, result))
            for stem, values in (beside or {}).items():
                _write_map(temporary / f"{stem}.tiff", values)
        else:
            _write_map(temporary / "focus_index.tiff", result.focus_index)
            save_picture(temporary / "focus_index.png", preview(stack, result))
        write_picture(temporary / "confidence.png", np.asarray(np.rint(result.confidence * 255), np.uint8))
        write_coded(temporary / "all_in_focus.tiff", result.all_in_focus, look)
        write_picture(temporary / "all_in_focus.png", shown(result.all_in_focus, stack.look))
        if also:
            record["files"], lacking = write_depth_files(temporary, also, _depth_picture(stack, result))
            record["notes"] = [*(record.get("notes") or ()), *lacking]
        write_json(temporary / SIDECAR, record)
    return record


def _depth_picture(stack: FocusStack, result: Result) -> DepthPicture | None:
    if not isinstance(result, FocusDepth):
        return None
    known = math.isfinite(stack.lens.focal_length_mm) and math.isfinite(stack.lens.pixel_pitch_um)
    balance = stack.look.white_balance if stack.look is not None else None
    light = result.all_in_focus
    return DepthPicture(
        result.depth_m,
        result.confidence,
        np.asarray(result.confidence >= CONFIDENT),
        light if balance is None else light * np.asarray(balance, np.float32),
        shown(light, stack.look),
        pinhole_of(stack.lens, result.depth_m.shape) if known else None,
    )


def _write_map(path: Path, values: FloatImage) -> None:
    tifffile.imwrite(path, values, photometric="minisblack", compression="zlib")


def preview(stack: FocusStack, result: Result) -> Rgb:
    """The sharp picture and the map beside it, on one scale from the first focus to the last."""
    sharp = shown(result.all_in_focus, stack.look)
    repeat = max(1, round(_PREVIEW_SIDE_PX / 2 / max(sharp.shape)))  # a small map would crowd its scale
    if isinstance(result, FocusDepth):
        focus = [float(place) for place in stack.sweep]
        half = (focus[-1] - focus[0]) / (len(focus) - 1) / 2
        limits = focus[0] - half, focus[-1] + half
        mapped = Panel("depth from the lens", grown(result.depth_m, repeat), "depth", "m", limits=limits)
    else:
        ends = -0.5, len(stack.frames) - 0.5
        title = "number of the sharpest frame, no distances"
        mapped = Panel(title, grown(result.focus_index, repeat), "sequential", "frame", limits=ends)
    return figure([Panel("all in focus", grown(sharp, repeat)), mapped], panel_px=_PREVIEW_SIDE_PX)


def _depth_summary(stack: FocusStack, result: FocusDepth) -> dict[str, Any]:
    shares = _percentiles(result.diopters, result.confidence, _PERCENTILES[::-1])
    return {
        "kind": "depth_m",
        "metric": True,
        "focus_distance_m": [_json_m(float(d)) for d in _listed(stack.focus_distance_m)],
        "uncertainty_d": _listed(stack.uncertainty_d),
        "depth_m": {f"p{p}": _json_m(_metres(d)) for p, d in zip(_PERCENTILES, shares, strict=True)},
        "blur_px_per_d": result.blur_px_per_d,
    }


def _index_summary(result: FocusIndex) -> dict[str, Any]:
    shares = _percentiles(result.focus_index, result.confidence, _PERCENTILES)
    return {
        "kind": "focus_index",
        "metric": False,
        "missing": ["focus_distance_m"],
        "hint": f"metres need that: {NO_METRES_HINT}",
        "focus_index": {f"p{p}": value for p, value in zip(_PERCENTILES, shares, strict=True)},
        "blur_px_per_frame": result.blur_px_per_frame,
    }


def _percentiles(values: FloatImage, confidence: FloatImage, which: Sequence[float]) -> list[float]:
    """Of the measured pixels; of all where there are none."""
    measured = confidence >= CONFIDENT
    return [float(v) for v in np.percentile(values[measured] if measured.any() else values, which)]


def _listed(values: npt.NDArray[np.float64] | None) -> list[float]:
    return [] if values is None else [float(value) for value in values]


def _metres(diopters: float) -> float:
    return 1.0 / diopters if diopters > 1e-6 else math.inf


def _json_m(distance_m: float) -> float | str:
    return distance_m if math.isfinite(distance_m) else "inf"
