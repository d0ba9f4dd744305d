"""The R6 Mark II profile against its camera: what one block matcher measures on rendered and on real pictures.

Real flats and scenes are those of DP119; the light of a render is a flat at f/20, which is all but sharp. Both ends go
through the same steps: 8-bit sRGB, the same matcher, the same robust line through the focus plane, disparity =
a (1 - focus / z). Matching locks to whole pixels: fine detail at half a pixel is counted as 0 or 1, and a tenth more
or less of disparity moves a by a third. So detail finer than the blur is smoothed away before, in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.support.planes import texture

from dualpix.capture.calibrate.gain import DepthCheck, check_depth
from dualpix.capture.calibrate.planes import PlaneViews, measure_plane, read_views, robust_fit
from dualpix.capture.profiles import lens_model, load_profile
from dualpix.capture.profiles.blur import FieldPsf
from dualpix.capture.render import render
from dualpix.capture.stereo import match_sgbm
from dualpix.capture.synthesis.sensor import expose, sensor_model
from dualpix.capture.types import FloatImage

SharedData = Callable[[str], Path]

PROFILE = load_profile("canon-r6m2-rf50")
LENS = lens_model(PROFILE)
FLATS_M = (0.6, 1.5)
SCENES = ("box_001", "box_002", "box_003", "iphone_001", "iphone_002")
SMOOTHED_PX = 2.0


def flat(folder: Path, z_m: float, f_number: int) -> PlaneViews:
    return read_views(folder / f"flat_{1000 * z_m:04.0f}mm_f{f_number}_l.png")


def light_of(sharp: PlaneViews) -> FloatImage:
    return np.asarray((sharp.left + sharp.right) / 2, np.float32)


def rendered(light: FloatImage, depth_m: FloatImage) -> PlaneViews:
    """What the profile's camera makes of ``light`` (h, w), as read from its exports."""
    image, depth = (torch.from_numpy(plane)[None, None] for plane in (light, depth_m))
    with torch.inference_mode():
        views = render(image, depth_m=depth, lens=LENS, psf=FieldPsf(PROFILE), quality="exact")
    left, right = (view[0, 0].clamp(0, 0.5).numpy() for view in views.pair)
    sensor = replace(sensor_model(PROFILE), colour="gray")
    image_read = expose(left, right, None, sensor, np.random.default_rng(0))
    usable = ~image_read.saturated
    return PlaneViews("render", image_read.left, image_read.right, usable, "x", image_read.size_hw, image_read.meta)


def matched(views: PlaneViews) -> tuple[FloatImage, npt.NDArray[np.bool_]]:
    left, right = (np.asarray(cv2.GaussianBlur(v, (0, 0), SMOOTHED_PX), np.float32) for v in (views.left, views.right))
    return match_sgbm(left, right)


def slope(pairs: list[tuple[PlaneViews, FloatImage]]) -> float:
    """a of views with their depth (h, w) in m, 0 where unknown."""
    defocus, found = [], []
    for views, depth_m in pairs:
        disparity, measured = matched(views)
        known = measured & (depth_m > 0)
        defocus.append(1 - LENS.focus_distance_m / depth_m[known])
        found.append(disparity[known])
    u, d = (np.concatenate(v).astype(np.float64) for v in (defocus, found))
    return float(robust_fit(u[:, None], d, np.ones_like(d))[0])


def contrast(views: PlaneViews) -> float:
    """Of detail about as large as the blur."""
    full = views.left + views.right
    band = cv2.GaussianBlur(full, (0, 0), 1.2) - cv2.GaussianBlur(full, (0, 0), 2.4)
    return float(band[30:-30, 30:-30].std())


def even(z_m: float, like: PlaneViews) -> FloatImage:
    return np.full(like.left.shape, z_m, np.float32)


@pytest.mark.parametrize(("shift_px", "low", "high"), [(0.4, -0.02, 0.15), (0.5, 0.3, 0.7), (0.6, 0.85, 1.02)])
def test_matching_counts_half_a_pixel_as_nothing_or_one(shift_px: float, low: float, high: float) -> None:
    """A picture and its shifted copy, no blur of halves: a third more of disparity is all the difference there is."""
    left = texture(3, (192, 256))
    ramp = np.exp(-2j * np.pi * np.fft.rfftfreq(256) * shift_px)
    right = np.fft.irfft(np.fft.rfft(left, axis=1) * ramp, n=256, axis=1)
    disparity, measured = match_sgbm(left.astype(np.float32), np.clip(right, 0, 1).astype(np.float32))
    assert low < disparity[measured].mean() < high


def test_rendered_flats_measure_as_the_real_ones(shared_data: SharedData) -> None:
    folder = shared_data("canon_r6m2_dp119")
    real, render_, gradients = [], [], []
    for z_m in FLATS_M:
        sharp, wide = flat(folder, z_m, 20), flat(folder, z_m, 4)
        image = rendered(light_of(sharp), even(z_m, sharp))
        real.append((wide, even(z_m, wide)))
        render_.append((image, even(z_m, wide)))
        gradients.append([float(np.nanmean(measure_plane(v, z_m).disparity_px)) for v in (wide, image)])
        assert 0.85 < contrast(image) / contrast(wide) < 1.1, z_m
    assert slope(render_) / slope(real) == pytest.approx(1, abs=0.1)
    # without block matching, each plane by itself
    for measured, predicted in gradients:
        assert predicted / measured == pytest.approx(1, abs=0.1), gradients


@pytest.mark.slow
def test_rendered_scenes_measure_as_the_real_ones(shared_data: SharedData) -> None:
    folder = shared_data("canon_r6m2_dp119")
    light = light_of(flat(folder, 1.5, 20))  # posters, as in the scenes of boxes
    assert PROFILE.gain is not None
    slopes, checks = [], []
    for name in SCENES:
        views = read_views(folder / f"{name}_l.png")
        depth_mm = np.asarray(cv2.imread(str(folder / f"{name}_depth_mm.png"), cv2.IMREAD_UNCHANGED))
        depth_m = np.asarray(depth_mm / 1000, np.float32)
        image = rendered(light, np.maximum(depth_m, (depth_m == 0) * depth_m.max()))
        slopes.append([slope([(v, depth_m)]) for v in (views, image)])
        found = [check_depth(v, depth_m, PROFILE.gain) for v in (views, image)]
        checks.append([c.ratio for c in found if isinstance(c, DepthCheck)])
    (real, predicted), gradients = np.mean(slopes, 0), np.mean(checks, 0)
    print(
        "a by matching", np.round(slopes, 2).tolist(), "by gradients, over the profile's", np.round(checks, 2).tolist()
    )
    assert predicted / real == pytest.approx(1, abs=0.1), slopes
    assert gradients[1] / gradients[0] == pytest.approx(1, abs=0.1), checks
