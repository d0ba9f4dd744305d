"""Makes the golden vectors of the app's core from the Python side: ``tests/golden/android/core-*.json``.

Convention: infinity is the text "inf"; pictures are lists in row order; what the app computes in float32 is given as
the exact value of that float32. Run it after a change of what it computes; ``test_golden.py`` says when that is due.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tests.android_demo.stack_golden import stack

from dualpix.capture import optics
from dualpix.capture.focus.modes import PlanOptics
from dualpix.capture.focus.plan import make_plan
from dualpix.capture.pictures.colour_map import Panel, coloured, default_limits
from dualpix.capture.pictures.display import srgb_from_linear
from dualpix.capture.types import LensModel
from dualpix.models.prepare import decode, encode, image_gain, network_inputs

FOLDER = Path(__file__).parents[1] / "golden" / "android"
Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
_DEPTHS_M = (0.12, 0.5, 1.0, 2.5, 10.0, math.inf)
_DISPARITIES_PX = (-30.0, -2.5, 0.0, 0.75, 3.0, 500.0)


def build() -> dict[str, Any]:
    """Name of each file and what it holds."""
    return {
        "core-lens.json": lenses(),
        "core-focus.json": plans(),
        "core-preprocess.json": preprocessing(),
        "core-bench.json": statistics(),
        "core-overlay.json": overlay(),
        "core-stack.json": stack(),
    }


def lenses() -> list[dict[str, Any]]:
    """Circles, disparities and depths of a phone's lens and of a portrait lens."""
    out = []
    for lens in (
        LensModel(6.9, 1.68, 0.8, 1.2, 0.21),
        LensModel(85.0, 1.2, 3.2, 12.9),
        LensModel(50.0, 2.8, math.inf, 5.36),
    ):
        near_m, far_m = optics.depth_of_field_m(lens, 0.02)
        out.append(
            {
                "focal_length_mm": lens.focal_length_mm,
                "f_number": lens.f_number,
                "focus_distance_m": lens.focus_distance_m,
                "pixel_pitch_um": lens.pixel_pitch_um,
                "disparity_gain": lens.disparity_gain,
                "depths_m": _DEPTHS_M,
                "circles_mm": [optics.circle_of_confusion_mm(d, lens) for d in _DEPTHS_M],
                "disparities_px": [optics.disparity_px(d, lens) for d in _DEPTHS_M],
                "of_disparities_px": _DISPARITIES_PX,
                "diopters": [optics.diopters_from_disparity(d, lens) for d in _DISPARITIES_PX],
                "depths_of_disparities_m": [optics.depth_m(d, lens) for d in _DISPARITIES_PX],
                "hyperfocal_m": optics.hyperfocal_m(lens.focal_length_mm, lens.f_number, 0.02),
                "near_m": near_m,
                "far_m": far_m,
            }
        )
    return out


def plans() -> list[dict[str, Any]]:
    """Stops of the host's modes that the app has too."""
    cases: list[tuple[str, float, float, dict[str, Any]]] = [
        ("diopter", 0.1, math.inf, {"count": 10}),
        ("diopter", 0.3, 4.0, {"count": 2}),
        ("coc", 0.08, math.inf, {"count": 12}),
        ("coc", 0.1, 5.0, {"step_px": 3.0}),
    ]
    out = []
    for mode, near_m, far_m, more in cases:
        lens = PlanOptics(6.9, 1.68, 9.8, 1020)
        plan = make_plan(mode, lens=lens, near_m=near_m, far_m=far_m, **more)
        blur_mm = more.get("step_px", 0) * lens.pixel_pitch_um / 1000
        out.append(
            {
                "mode": mode,
                "far_d": 1 / far_m,
                "near_d": 1 / near_m,
                "count": len(plan.stops_d),
                "focal_length_mm": lens.focal_length_mm,
                "f_number": lens.f_number,
                "blur_mm": blur_mm or None,
                "stops_d": plan.stops_d,
            }
        )
    return out


def preprocessing() -> dict[str, Any]:
    """Sensor data with strides, and what the network is to see of it."""
    rng = np.random.default_rng(5)
    y, u, v = (rng.integers(0, 256, shape).astype(np.uint8) for shape in ((6, 8), (3, 4), (3, 4)))
    rgb = rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    halves = rng.integers(60, 1024, (2, 6, 8)).astype(np.uint16)
    linear = _linear_of(_rgb_of(y, u.repeat(2, 0).repeat(2, 1), v.repeat(2, 0).repeat(2, 1)))
    raw = [_float32(reduced((half.astype(np.float64) - 64) / (1023 - 64), 4, 3))[None] for half in halves]
    colour = _float32(reduced(linear, 4, 3))
    inputs = [*_inputs(raw[0], raw[1], colour), *_inputs(raw[0], raw[1], raw[0])]
    return {
        "yuv": {name: plane.tolist() for name, plane in zip("yuv", (y, u, v), strict=True)},
        "yuv_linear": _float32(linear).ravel().tolist(),
        "yuv_reduced": colour.ravel().tolist(),
        "rgb": rgb.tolist(),
        "rgb_reduced": _float32(reduced(_linear_of(rgb.transpose(2, 0, 1)), 3, 2)).ravel().tolist(),
        "halves": halves.tolist(),
        "black": 64,
        "white": 1023,
        "halves_reduced": [half.ravel().tolist() for half in raw],
        "inputs": [value.ravel().tolist() for value in inputs],
        "grey_input": _grey_input(colour).ravel().tolist(),
        "yuv_part": _float32(reduced(linear[:, 2:6, 2:8], 3, 2)).ravel().tolist(),
        "sharp": _sharp(rng),
        "gains": {f"{mean!r}": 0.18 / max(mean, 1e-4) for mean in (0.0, 1e-5, 0.18, 0.9)},
        "rgb_sums": {"seed": _LCG_SEED, "count": _LCG_COUNT, "sums": _lcg_sums()},
    }


def _grey_input(colour: Doubles) -> Doubles:
    """What a network of one channel sees of a colour picture: its grey, with the gain of the colours."""
    picture = torch.from_numpy(colour)[None]
    grey = torch.from_numpy(_float32(colour.mean(0, keepdims=True)))[None]
    return _float32(encode(grey, image_gain(picture)).numpy())


def _sharp(rng: np.random.Generator) -> dict[str, Any]:
    """A picture that a network gave, and how it is shown."""
    encoded, gain = _float32(rng.uniform(-0.6, 1.6, (3, 2, 4))), 1.7
    linear = decode(torch.from_numpy(encoded), gain).numpy()
    red, green, blue = np.rint(255 * srgb_from_linear(linear.clip(0, 1))).astype(np.int64)
    argb = (255 << 24 | red << 16 | green << 8 | blue).astype(np.uint32).view(np.int32)
    return {
        "encoded": encoded.ravel().tolist(), "gain": gain, "linear": linear.ravel().tolist(),
        "argb": argb.ravel().tolist(),
    }  # fmt: skip


def overlay() -> dict[str, Any]:
    """Depths with the colours that the host shows them in."""
    depth_m = np.geomspace(0.2, 8.0, 24).astype(np.float32)[None]
    low, high = default_limits(depth_m, None, "depth")
    shown = coloured(Panel("", depth_m, "depth", "m"))
    return {
        "depths_m": depth_m[0].astype(float).tolist(),
        "limits_d": [low, high],
        "colours": shown[0].ravel().tolist(),
    }


_LCG_SEED, _LCG_COUNT = 12345, 50_000


def _lcg_sums() -> list[int]:
    """Red, green and blue summed over pseudo-random triples, which both sides make by the same recurrence."""
    state, values = _LCG_SEED, []
    for _ in range(3 * _LCG_COUNT):
        state = (1103515245 * state + 12345) % 2**31
        values.append(state >> 16 & 255)
    y, u, v = (np.array(values[k::3], np.uint8) for k in range(3))
    return [int(channel.astype(np.int64).sum()) for channel in _rgb_of(y, u, v)]


def statistics() -> list[dict[str, Any]]:
    """Times and their percentiles."""
    rng = np.random.default_rng(6)
    samples = [[0.012], [0.03, 0.01], rng.gamma(3, 0.01, 30).round(6).tolist(), [0.5] * 7]
    return [{"samples_s": times, **percentiles(times)} for times in samples]


def percentiles(samples_s: Sequence[float]) -> dict[str, float]:
    """As profiles have them: linear between ranks."""
    p50, p90, p99 = (float(value) for value in np.percentile(samples_s, (50, 90, 99)))
    return {"p50_s": p50, "p90_s": p90, "p99_s": p99, "mean_s": float(np.mean(samples_s))}


def _rgb_of(y: Bytes, u: Bytes, v: Bytes) -> Bytes:
    """Full-range BT.601 in 16-bit fixed point: (3, ...)."""
    luma, cb, cr = y.astype(np.int64) << 16, u.astype(np.int64) - 128, v.astype(np.int64) - 128
    sums = [luma + 91881 * cr, luma - 22554 * cb - 46802 * cr, luma + 116130 * cb]
    return np.stack([((s + 32768) >> 16).clip(0, 255) for s in sums]).astype(np.uint8)


def _linear_of(rgb: Bytes) -> Doubles:
    """sRGB to linear light."""
    value = rgb.astype(np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def reduced(picture: Doubles, width: int, height: int) -> Doubles:
    """(..., H, W) to (..., height, width): means over the pixels that fall into each."""
    rows = [k * picture.shape[-2] // height for k in range(height + 1)]
    columns = [k * picture.shape[-1] // width for k in range(width + 1)]
    out = np.empty((*picture.shape[:-2], height, width))
    for i in range(height):
        for k in range(width):
            out[..., i, k] = picture[..., rows[i] : rows[i + 1], columns[k] : columns[k + 1]].mean((-2, -1))
    return out


def _inputs(left: Doubles, right: Doubles, combined: Doubles) -> list[Doubles]:
    tensors = [torch.from_numpy(np.asarray(view, np.float64))[None] for view in (left, right, combined)]
    return [_float32(value.numpy()) for value in network_inputs(*tensors)]


def live_inputs(rgb: Bytes, size_hw: tuple[int, int]) -> list[Doubles]:
    """What a network is to see of a picture (H, W, 3) of its own proportions in the live view: image, left, right."""
    colour = _float32(reduced(_linear_of(rgb.transpose(2, 0, 1)), size_hw[1], size_hw[0]))
    grey = _float32(colour.mean(0, keepdims=True))
    return [value.astype(np.float64) for value in _inputs(grey, grey, colour)]


def _float32(values: Any) -> Doubles:
    return np.asarray(values, np.float32).astype(np.float64)


def text_of(value: Any) -> str:
    """As it is stored."""
    return json.dumps(_plain(value), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value


if __name__ == "__main__":
    for name, content in build().items():
        (FOLDER / name).write_text(text_of(content))
        print(FOLDER / name)
