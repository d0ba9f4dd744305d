"""The decoders on real captures and on dual-pixel files that LibRaw, dcraw and exiftool accept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw import decode, decode_capture

SharedData = Callable[[str], Path]
Image = npt.NDArray[np.float32]


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("dpraw_small.CR2", "truth_small.npz"),
        ("dpraw_small.CR3", "truth_small_cr3.npz"),
        ("dpraw_strip_lj.DNG", "truth_small.npz"),
        ("dpraw_strip_unc.DNG", "truth_small.npz"),
        ("dpraw_tile_lj.DNG", "truth_small.npz"),
    ],
)
def test_dual_pixel_raw_is_bit_exact(shared_data: SharedData, name: str, truth: str) -> None:
    folder = shared_data("dpraw_fixtures")
    capture = decode_capture(folder / name)
    with np.load(folder / truth) as exact:
        assert np.array_equal(capture.frames()["frame0"], exact["AB"])
        assert np.array_equal(capture.frames()["frame1"], exact["half"])
    assert capture.details["black_source"]["frame1"] == "masked columns"
    assert 0 < capture.image.saturated.mean() < 0.1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plain_small.CR2", "holds one frame"),
        ("plain_small.CR3", "holds one frame"),
        ("real_headers/Canon-R6-pruned.CR3", "holds one frame"),
        ("real_headers/exiftool_CanonRaw.cr3", "holds one frame|cut or damaged"),
        ("real_headers/exiftool_CanonRaw.cr2", "holds one frame"),
        ("real_headers/IMG_1361.dng", "no mosaic"),
    ],
)
def test_other_raws_are_refused_clearly(shared_data: SharedData, name: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode(shared_data("dpraw_fixtures") / name)


def test_pdcapture_levels(shared_data: SharedData) -> None:
    capture = decode_capture(shared_data("pixel4_pdcapture") / "20210705_161427_778_left.pgm", equalise=False)
    assert capture.decoder == "pixel-pdcapture"
    image = capture.image
    assert image.size_hw == (756, 2016)
    assert float(np.percentile(image.left, 0.1)) == pytest.approx(0, abs=2 / 959)  # black is 64 of 1023
    assert image.left.max() == 1.0
    # Ten-bit steps: every value is a whole number of counts above black.
    counts = image.left * (1023 - 64)
    assert np.abs(counts - np.round(counts)).max() < 1e-3


def test_pixel4_levels_and_sign(shared_data: SharedData) -> None:
    """Disparity is positive and grows with the defocus of things behind the focus plane."""
    folder = shared_data("pixel4_xin2021")
    sheet = (folder / "calibration/white_sheet_left.png", folder / "calibration/white_sheet_right.png")
    capture = decode_capture(folder / "005_left.png", flat_field=sheet)
    assert capture.decoder == "pixel4-png"
    image = capture.image
    assert image.saturated.any() and 1.0 <= image.left.max() < 1.01
    truth = cv2.imread(str(folder / "005_gt_defocus.png"), cv2.IMREAD_UNCHANGED).astype(np.float32)
    disparity = _disparity(image.left[252:1260, 336:1680], image.right[252:1260, 336:1680])
    valid = np.isfinite(disparity) & (truth > 0)
    near, far = (disparity[valid & (truth > 0) & m] for m in (truth < 60, truth > 160))
    assert 0 < np.median(near) < np.median(far) - 2


def test_canon_export_sign(shared_data: SharedData) -> None:
    """Focus at 1 m: disparity is a positive multiple of 1 - 1/z, so negative in front and positive behind."""
    folder = shared_data("canon_r6m2_dp119")
    image = decode(folder / "box_003_l.png")
    assert "srgb" in image.meta.provenance["tone"]
    depth_m = cv2.imread(str(folder / "box_003_depth_mm.png"), cv2.IMREAD_UNCHANGED).astype(np.float32) / 1000
    measured, expected = [], []
    for top in range(0, 464, 24):
        for left in range(0, 720, 24):
            window = (slice(top, top + 48), slice(left, left + 48))
            if (depth_m[window] > 0).mean() > 0.8 and (shift := _window_shift(image.left[window], image.right[window])):
                measured.append(shift)
                expected.append(1 - 1 / depth_m[window].mean())
    assert len(measured) > 300
    assert np.corrcoef(measured, expected)[0, 1] > 0.7
    assert 0.6 < np.dot(measured, expected) / np.dot(expected, expected) < 1.3


def test_portrait_capture_of_garg_et_al(shared_data: SharedData) -> None:
    """Its sensor's x runs down: far things have y_right - y_left > 0."""
    image = decode(shared_data("pixel_garg2019") / "result_leftPd_center.png")
    assert image.baseline == "y"
    disparity = _disparity(np.ascontiguousarray(image.left.T), np.ascontiguousarray(image.right.T), low=-8).T
    pavement, pole = disparity[800:1200, 300:600], disparity[1400:1800, 720:960]
    assert np.nanmedian(pavement) > np.nanmedian(pole) + 0.3


def _window_shift(left: Image, right: Image) -> float | None:
    """x_right - x_left of a window by phase correlation, or None without a clear peak."""
    a, b = ((v.mean(-1) - v.mean()) / (v.mean(-1).std() + 1e-9) for v in (left, right))
    window = cv2.createHanningWindow(a.shape[::-1], cv2.CV_32F)
    (dx, _), response = cv2.phaseCorrelate(a.astype(np.float32), b.astype(np.float32), window)
    return dx if response > 0.25 else None


def _disparity(left: Image, right: Image, low: int = -16) -> Image:
    """x_right - x_left by semi-global matching; OpenCV's own sign is the opposite."""
    ceiling = max(float(np.percentile(v, 99.7)) for v in (left, right))
    codes = [(np.clip(v / ceiling, 0, 1) ** 0.45 * 255).astype(np.uint8) for v in (left, right)]
    cv2.setNumThreads(1)
    matcher = cv2.StereoSGBM.create(low, 16, 9, 8 * 81, 32 * 81, 1, 0, 5, 100, 2)
    found = matcher.compute(*codes).astype(np.float32) / 16
    found[found < low] = np.nan
    return -found
