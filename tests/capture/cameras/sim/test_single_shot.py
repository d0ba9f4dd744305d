"""The simulated camera writes a file that stock LibRaw opens; what is decoded agrees with the truth it hands out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rawpy

from dualpix.capture import decode, optics
from dualpix.capture.cameras import SimulatedCamera, SimulatedSensor
from dualpix.capture.types import LensModel

SENSOR = SimulatedSensor(size_hw=(256, 384), pixel_pitch_um=46.8)
CAMERA = SimulatedCamera(LensModel(50.0, 2.8, 1.5, pixel_pitch_um=93.6, disparity_gain=0.3), SENSOR)


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return CAMERA.shoot(tmp_path_factory.mktemp("sim") / "capture.dng", seed=2)


def test_libraw_reads_two_frames_with_the_sensor_s_levels(shot) -> None:  # type: ignore[no-untyped-def]
    frames = []
    for select in (0, 1):
        raw = rawpy.RawPy()
        raw.set_unpack_params(shot_select=select)
        raw.open_file(str(shot.path))
        raw.unpack()
        frames.append(raw.raw_image.copy())
        assert raw.raw_image.shape == SENSOR.size_hw and raw.black_level_per_channel[0] == SENSOR.black_dn
    signal = [f.astype(float).mean() - SENSOR.black_dn for f in frames]
    assert 0.4 < signal[1] / signal[0] < 0.6  # one photodiode holds half the light
    assert frames[0].max() == SENSOR.white_dn > frames[1].max()  # the sum clips first


def test_decoded_views_carry_lens_data_and_lose_the_shading(shot) -> None:  # type: ignore[no-untyped-def]
    image = decode(shot.path)
    assert image.size_hw == shot.disparity_px.shape == (128, 192)
    meta = image.meta
    assert (meta.focal_length_mm, meta.f_number, meta.disparity_gain) == pytest.approx((50.0, 2.8, 0.3))
    assert meta.focus_distance_m == pytest.approx(1.5) and meta.pixel_pitch_um == pytest.approx(93.6, rel=1e-3)
    columns = image.left[..., 1].mean(0) / image.right[..., 1].mean(0)
    assert np.abs(np.log(columns)).max() < 0.12
    raw = decode(shot.path, equalise=False)
    assert np.abs(np.log(raw.left[..., 1].mean(0) / raw.right[..., 1].mean(0))).max() > 0.2


def test_truth_is_consistent_with_optics_and_with_the_pixels(shot) -> None:  # type: ignore[no-untyped-def]
    np.testing.assert_allclose(optics.depth_m(shot.disparity_px.astype(float), CAMERA.lens), shot.depth_m, rtol=1e-3)
    assert shot.depth_m.min() >= CAMERA.near_m - 1e-3 and shot.depth_m.max() <= CAMERA.far_m + 1e-3
    image = decode(shot.path)
    left, right = image.left[..., 1], image.right[..., 1]
    # shifting the right view back by the true disparity must bring it closer to the left one than leaving it, or than
    # shifting it the other way
    x = np.arange(192, dtype=np.float32)

    def mismatch(sign: float) -> float:
        errors = []
        for y in range(128):
            moved = np.interp(x + sign * shot.disparity_px[y], x, right[y])
            errors.append(np.mean((moved - left[y])[16:-16] ** 2))
        return float(np.mean(errors))

    assert mismatch(1.0) < 0.8 * mismatch(0.0) < mismatch(-1.0)


def test_same_seed_same_file(tmp_path: Path) -> None:
    a, b = CAMERA.shoot(tmp_path / "a.dng", 5), CAMERA.shoot(tmp_path / "b.dng", 5)
    assert a.path.read_bytes() == b.path.read_bytes()
    assert CAMERA.shoot(tmp_path / "c.dng", 6).path.read_bytes() != a.path.read_bytes()


def test_pitch_of_lens_and_sensor_must_agree() -> None:
    with pytest.raises(ValueError, match="expected twice the sensor's"):
        SimulatedCamera(LensModel(50.0, 2.8, 1.5, 10.0), SENSOR)
