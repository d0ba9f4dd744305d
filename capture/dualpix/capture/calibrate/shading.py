"""Shading of the two halves from captures of a white sheet.

The sheet is out of focus and evenly lit, so what is left in the halves is their vignetting. Captures are averaged as
logarithms of light, each relative to its own mean, so that exposure and a slow lamp do not matter. A capture that would
spoil the profile is refused with the reason. Everything lies as the sensor does, see :mod:`.profiles.profile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dualpix.capture.calibrate.alike import check_alike
from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.colour_map import Panel, Rgb, figure
from dualpix.capture.profiles.profile import CameraProfile, ProfileError, Shading, ratio_gain
from dualpix.capture.raw import decode_capture
from dualpix.capture.raw.develop.geometry import upright_baseline
from dualpix.capture.raw.develop.layout import thumbnail
from dualpix.capture.raw.develop.levels import Levels
from dualpix.capture.raw.develop.planes import Plane
from dualpix.capture.raw.develop.shading import smooth_log
from dualpix.capture.types import Baseline, CaptureMeta, FloatImage

Floats = npt.NDArray[np.float64]

BANDS = 16
_GRID = 64  # longest side of the stored grid
_DARKEST = 1e-3  # of a half's maximum: less is no shading but the end of the image circle

_MAX_CLIPPED = 0.01
_MIN_LIGHT = 0.02  # of white, in the brightest channel
_MIN_SIGNAL_TO_NOISE = 1.0  # of one sample
_NOISE_WARNING = 0.002  # of the profile's log ratio
# A real sheet (Pixel 4) has 0.2 %, 1.4 % and 1.2 % in these three; of eighteen real scenes the plainest 21, 166 and 43.
_MAX_TEXTURE = 0.01  # rms after the low-pass is removed
_MAX_EDGE = 0.05  # its largest value
_MAX_UNEVEN = 0.04  # rms off the fourth-order surface that vignetting and one lamp make
_FINE_SIGMA, _COARSE_SIGMA = 0.004, 0.02  # of the longest side


class SheetError(DualpixError):
    """A capture is no usable white sheet."""


@dataclass(frozen=True)
class Sheet:
    """A white sheet that passed the checks, reduced to thumbnails as the sensor lies."""

    name: str
    left: FloatImage
    """(h, w, C) light"""
    right: FloatImage
    size_hw: tuple[int, int]
    """Of the picture in samples."""
    baseline: Baseline
    meta: CaptureMeta
    ratio_noise: float
    """Expected rms error of the smoothed log(left / right) by pixel noise."""
    warnings: tuple[str, ...] = ()
    """Of the decoder."""


@dataclass(frozen=True)
class Unequal:
    """How unequal left and right are: log(left / right) in percent."""

    rms: float
    worst_band: float
    """Largest mean of 16 equal bands across the baseline, without sign."""
    bands: tuple[float, ...]

    def to_json(self) -> dict[str, float | list[float]]:
        """Plain data."""
        return {"rms_percent": self.rms, "worst_band_percent": self.worst_band, "bands_percent": list(self.bands)}


@dataclass(frozen=True)
class Calibration:
    """A profile and how good it is."""

    profile: CameraProfile
    before: Unequal
    after: Unequal
    cross_validated: bool
    """Whether ``after`` is that of each sheet under the profile of the others; of one sheet it is that of itself."""
    warnings: tuple[str, ...]


def read_sheet(
    path: Path, right: Path | None = None, baseline: Baseline | None = None, levels: Levels | None = None
) -> Sheet:
    """Decode a white sheet and check that it is one.

    Args:
        path: a capture, or the left file of a pair.
        right: the right file of a pair.
        baseline: axis of the disparity of a pair whose form does not tell.
        levels: black and white of such a pair.

    Raises:
        DecodeError: cannot be decoded.
        SheetError: clipped, too dark, or not a plain evenly lit sheet.
    """
    capture = decode_capture(path, right=right, levels=levels, baseline=baseline, equalise=False)
    views = capture.views
    clipped = float(views.saturated.mean())
    if clipped > _MAX_CLIPPED:
        raise SheetError(
            f"{100 * clipped:.1f} % of '{path.name}' is clipped",
            expected=f"at most {100 * _MAX_CLIPPED:g} %",
            hint="expose the sheet to about half of white",
        )
    total, _ = thumbnail(views.combined, views.saturated)
    _check_light(path, total, views.combined)
    light = [thumbnail(plane, views.saturated)[0] for plane in (views.left, views.right)]
    left, right_light = (view if view.ndim == 3 else view[..., None] for view in light)
    _check_plain(path, left + right_light)
    if upright_baseline(views.baseline, views.meta.orientation)[1]:
        left, right_light = right_light, left  # turning upright exchanged them; a profile lies as the sensor does
    noise = _ratio_noise(views.left, left) + _ratio_noise(views.right, right_light)
    return Sheet(path.name, left, right_light, views.left.size_hw, views.baseline, views.meta, noise, views.warnings)


def calibrate(sheets: Sequence[Sheet]) -> Calibration:
    """Average white sheets to a profile.

    Raises:
        SheetError: they differ in size, camera or lens settings.
    """
    _check_same(sheets)
    levels = [(_level(s.left), _level(s.right), _level(s.left + s.right)) for s in sheets]
    axis = 1 if sheets[0].baseline == "x" else 0
    halves = [(left - total.mean((0, 1)), right - total.mean((0, 1))) for left, right, total in levels]
    before = _unequal([_log(s.left) - _log(s.right) for s in sheets], axis)
    left_over = []
    for index, sheet in enumerate(sheets):
        others = [h for i, h in enumerate(halves) if i != index] or halves
        ratio = _reduced(_mean(others, 0)) - _reduced(_mean(others, 1))
        gain = ratio_gain(ratio.astype(np.float32)).at((sheet.left.shape[0], sheet.left.shape[1]))
        left_over.append(_log(sheet.left) - _log(sheet.right) - np.log(gain))
    after = _unequal(left_over, axis)
    noise = float(np.sqrt(sum(s.ratio_noise**2 for s in sheets))) / len(sheets)
    warnings = []
    if len(sheets) == 1:
        warnings.append("one white sheet only: its noise and dust stay in the profile; give four or more")
    if noise > _NOISE_WARNING:
        warnings.append(f"noise leaves {100 * noise:.1f} % in the profile; give more or brighter sheets")
    shading = _shading(_mean(halves, 0), _mean(halves, 1), after)
    meta = sheets[0].meta
    profile = CameraProfile(
        size_hw=sheets[0].size_hw,
        shading=shading,
        baseline=sheets[0].baseline,
        camera=meta.camera,
        lens=meta.lens_model,
        f_number=meta.f_number,
        focal_length_mm=meta.focal_length_mm,
        focus_distance_m=meta.focus_distance_m,
        sources=tuple(s.name for s in sheets),
        disparity_gain=meta.disparity_gain,
    )
    return Calibration(profile, before, after, len(sheets) > 1, tuple(warnings))


def picture(calibration: Calibration) -> Rgb:
    """Vignetting of both halves, their ratio, and what is left by column, as an RGB picture (H, W, 3)."""
    shading = calibration.profile.shading
    if shading is None:
        raise ValueError("a calibration without shading")
    height, width = shading.left.shape[:2]
    size = (480, max(160, round(480 * height / width)))
    green = shading.left.shape[2] // 2
    maps = [shading.left[..., green], shading.right[..., green], np.exp(shading.log_ratio()[..., green])]
    left, right, ratio = (np.asarray(cv2.resize(m, size), np.float32) for m in maps)
    darkest = float(min(left.min(), right.min(), 0.99))
    shown = " (green)" if shading.left.shape[2] == 3 else ""
    return figure(
        [
            Panel(f"left half, of its maximum{shown}", left, "sequential", "", limits=(darkest, 1.0)),
            Panel(f"right half, of its maximum{shown}", right, "sequential", "", limits=(darkest, 1.0)),
            Panel(f"left / right{shown}", ratio, "sequential", "", limits=(float(ratio.min()), float(ratio.max()))),
            Panel("log(left / right) by band across the baseline", _curves(calibration, size)),
        ],
        columns=2,
    )


def _curves(calibration: Calibration, size: tuple[int, int]) -> Rgb:
    canvas = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, facecolor="white", layout="constrained")
    agg = FigureCanvasAgg(canvas)
    axes = canvas.subplots(2, 1, sharex=True)
    for plot, values, name in zip(axes, (calibration.before, calibration.after), ("before", "after"), strict=True):
        plot.plot(np.arange(1, BANDS + 1), values.bands, "o-", markersize=3, color="black")
        plot.axhline(0, color="0.7", linewidth=0.8)
        plot.set_ylabel(f"{name} (%)", fontsize=9)
        plot.tick_params(labelsize=8)
    reach = max(1.0, 1.1 * calibration.after.worst_band)
    axes[1].set_ylim(-reach, reach)
    axes[1].set_xlabel(f"band of 1/{BANDS}", fontsize=9)
    agg.draw()
    return np.asarray(agg.buffer_rgba(), np.uint8)[..., :3].copy()


def _check_light(path: Path, total: FloatImage, plane: Plane) -> None:
    mean = float(np.max(total.mean((0, 1))))
    noise = _sample_noise(plane)
    if mean < _MIN_LIGHT or mean < _MIN_SIGNAL_TO_NOISE * noise:
        raise SheetError(
            f"'{path.name}' is too dark: mean {100 * mean:.2f} % of white, noise {100 * noise:.2f} %",
            expected=f"at least {100 * _MIN_LIGHT:g} % and more than the noise",
            hint="expose the sheet to about half of white",
        )


def _check_plain(path: Path, light: FloatImage) -> None:
    """Refuse what is no evenly lit sheet: texture, an edge, or a shape that vignetting and a lamp do not make."""
    level = _log(light).mean(-1)
    size = max(level.shape)
    local = _blurred(level, max(_FINE_SIGMA * size, 0.8)) - _blurred(level, _COARSE_SIGMA * size)
    texture, edge = float(local.std()), float(np.abs(local).max())
    uneven = float((level - _surface(level)).std())
    if texture > _MAX_TEXTURE or edge > _MAX_EDGE or uneven > _MAX_UNEVEN:
        row, column = np.unravel_index(int(np.argmax(np.abs(local))), local.shape)
        where = f"most at {column / level.shape[1]:.0%} of the width, {row / level.shape[0]:.0%} of the height"
        raise SheetError(
            f"'{path.name}' is not uniform: texture {100 * texture:.1f} % rms, up to {100 * edge:.0f} % ({where}), "
            f"uneven by {100 * uneven:.1f} %",
            expected=f"a plain sheet: {100 * _MAX_TEXTURE:g} %, {100 * _MAX_EDGE:g} %, {100 * _MAX_UNEVEN:g} %",
            hint="fill the frame with evenly lit white paper, out of focus",
        )


def _check_same(sheets: Sequence[Sheet]) -> None:
    if not sheets:
        raise SheetError("no white sheet", expected="captures of a white sheet")
    first = sheets[0]
    for sheet in sheets[1:]:
        facts = (
            ("size", f"{first.size_hw[1]}x{first.size_hw[0]}", f"{sheet.size_hw[1]}x{sheet.size_hw[0]}"),
            ("channels", first.left.shape[2], sheet.left.shape[2]),
            ("baseline", first.baseline, sheet.baseline),
            ("camera", first.meta.camera, sheet.meta.camera),
            ("f-number", first.meta.f_number, sheet.meta.f_number),
            ("focal length (mm)", first.meta.focal_length_mm, sheet.meta.focal_length_mm),
        )
        check_alike("sheets", first.name, sheet.name, facts, SheetError)


def _shading(left: Floats, right: Floats, after: Unequal) -> Shading:
    """From the mean log light of the halves."""
    halves, brightest = [], []
    for level in (_reduced(left), _reduced(right)):
        peak = level.max((0, 1))
        halves.append(np.clip(np.exp(level - peak), _DARKEST, 1.0).astype(np.float32))
        brightest.append(peak)
    ratio = np.exp(brightest[0] - brightest[1])
    if not np.all((ratio > 0.25) & (ratio < 4)):
        raise ProfileError(f"one half has {ratio.max():.2f} times the light of the other", expected="0.25 to 4")
    return Shading(halves[0], halves[1], tuple(ratio.tolist()), round(after.rms, 4), round(after.worst_band, 4))


def _unequal(ratios: Sequence[Floats], axis: int) -> Unequal:
    """Over all sheets and channels; the bands are averaged over the sheets and channels."""
    rms = float(np.sqrt(np.mean([np.mean(r**2) for r in ratios])))
    by_sheet = np.array([[np.mean(b, axis=(0, 1)) for b in np.array_split(r, BANDS, axis)] for r in ratios])
    bands = 100 * by_sheet.mean((0, 2))
    worst = 100 * float(np.abs(by_sheet.mean(0)).max())
    return Unequal(round(100 * rms, 4), round(worst, 4), tuple(round(float(b), 4) for b in bands))


def _ratio_noise(plane: Plane, thumb: FloatImage) -> float:
    """Relative error of a smoothed half by the noise of its samples."""
    per_pixel = max(plane.size_hw[0] * plane.size_hw[1] / (thumb.shape[0] * thumb.shape[1]), 1.0)
    smoothed = 4 * np.pi * (0.006 * max(thumb.shape)) ** 2  # pixels of a thumbnail under the Gaussian
    return _sample_noise(plane) / max(float(thumb.mean()), 1e-9) / float(np.sqrt(per_pixel * max(smoothed, 1.0)))


def _sample_noise(plane: Plane) -> float:
    """Noise of one sample by second differences of neighbours of a colour, in the middle rows."""
    middle = plane.size_hw[0] // 4 * 2
    light = plane.light(slice(max(middle - 32, 0), middle + 32))
    rows = light[::2, ::2] if plane.mosaic else light
    second = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return 1.4826 * float(np.median(np.abs(second))) / 6**0.5 if second.size else 0.0


def _log(light: FloatImage) -> Floats:
    value = np.maximum(light.astype(np.float64), 0)
    return np.asarray(np.log(value + 1e-4 * value.mean() + 1e-9))


def _level(light: FloatImage) -> Floats:
    return np.stack([smooth_log(light[..., c]) for c in range(light.shape[2])], axis=-1)


def _mean(halves: Sequence[tuple[Floats, Floats]], which: int) -> Floats:
    return np.asarray(np.mean([half[which] for half in halves], axis=0))


def _reduced(level: Floats) -> Floats:
    """On the grid of the profile."""
    height, width = level.shape[:2]
    shrink = min(1.0, _GRID / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(cv2.resize(level, size, interpolation=cv2.INTER_AREA), np.float64).reshape(
        size[1], size[0], level.shape[2]
    )


def _blurred(level: Floats, sigma: float) -> Floats:
    radius = min(int(np.ceil(3 * sigma)), *(n - 1 for n in level.shape))
    padded = np.pad(level, radius, mode="reflect", reflect_type="odd")
    smooth = np.asarray(cv2.GaussianBlur(padded, (0, 0), sigma), np.float64)
    return smooth[radius : radius + level.shape[0], radius : radius + level.shape[1]]


def _surface(level: Floats) -> Floats:
    """Least-squares polynomial of total degree 4."""
    y, x = (np.linspace(-1, 1, n) for n in level.shape)
    terms = [np.outer(y**j, x**i).ravel() for i in range(5) for j in range(5 - i)]
    basis = np.stack(terms, axis=-1)
    coefficients, *_ = np.linalg.lstsq(basis, level.ravel(), rcond=None)
    return np.asarray(basis @ coefficients).reshape(level.shape)
