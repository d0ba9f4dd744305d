"""The noise model: recovered where it is known, and the constant it rests on."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.raw.develop.noise import _PATCH, _QUANTILE, _QUANTILE_OF_NOISE, _mixed_variance, measure_noise
from dualpix.capture.raw.develop.planes import Plane

WHITE, BLACK = 16383, 512
SCALE = 1 / (WHITE - BLACK)


def noisy(read_dn: float, electrons_per_dn: float, seed: int, texture: float = 0.3) -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    blobs, where = (cv2.GaussianBlur(rng.random((768, 1024)).astype(np.float32), (0, 0), 40) for _ in range(2))
    blobs = (blobs - blobs.min()) / np.ptp(blobs)
    # Some of it textured, at any brightness: what the estimate asks for is plain patches of each brightness.
    fine = 1 + texture * (rng.random((768, 1024)) > 0.5) * (where > np.quantile(where, 0.75))
    light = 200 + 6000 * blobs**2 * fine
    values = light + rng.normal(0, 1, light.shape) * np.sqrt(light / electrons_per_dn + read_dn**2)
    return np.clip(np.round(values + BLACK), 0, WHITE).astype(np.uint16)


def test_the_quantile_of_pure_noise() -> None:
    rng = np.random.default_rng(0)
    drawn = _mixed_variance(rng.normal(0, 1, (20_000, _PATCH, _PATCH)))
    assert np.mean(drawn) == pytest.approx(1, abs=0.01)
    assert np.quantile(drawn, _QUANTILE) == pytest.approx(_QUANTILE_OF_NOISE, abs=0.005)


@settings(max_examples=8, deadline=None)
@given(read_dn=st.floats(2, 40), electrons_per_dn=st.floats(0.5, 8), seed=st.integers(0, 99))
def test_known_noise_is_recovered(read_dn: float, electrons_per_dn: float, seed: int) -> None:
    samples = noisy(read_dn, electrons_per_dn, seed)
    plane = Plane(samples, (BLACK,) * 4, SCALE, mosaic=True)
    model = measure_noise(plane, np.zeros(samples.shape, bool))
    assert model is not None
    for light_dn in (500.0, 2000.0):
        true = np.sqrt(light_dn / electrons_per_dn + read_dn**2 + 1 / 12) * SCALE
        assert model.sigma(light_dn * SCALE) == pytest.approx(true, rel=0.25)  # of the standard deviation


def test_known_read_noise_is_kept_and_the_slope_fitted() -> None:
    plane = Plane(noisy(5, 2, 0), (BLACK,) * 4, SCALE, mosaic=True, read_noise_dn=5.0)
    model = measure_noise(plane, np.zeros(plane.size_hw, bool))
    assert model is not None and model.read == 5 * SCALE
    assert model.shot == pytest.approx(SCALE / 2, rel=0.1)


def test_too_little_to_tell() -> None:
    plane = Plane(noisy(5, 2, 0), (BLACK,) * 4, SCALE, mosaic=True)
    assert measure_noise(plane, np.ones(plane.size_hw, bool)) is None
    for height, width in ((24, 24), (768, 10), (10, 1024), (4, 4)):
        small = Plane(plane.samples[:height, :width], plane.black, SCALE, mosaic=True)
        assert measure_noise(small, np.zeros(small.size_hw, bool)) is None
