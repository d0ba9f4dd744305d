"""The simulated sensor: moments of its noise, steps, saturation, and nothing at all where it is perfect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.errors import DualpixError
from dualpix.capture.profiles import load_profile
from dualpix.capture.raw.develop.noise import measure_noise
from dualpix.capture.raw.develop.planes import Plane
from dualpix.capture.synthesis.sensor import DnNoise, SensorModel, expose, sensor_model, tilted_shading

Image = npt.NDArray[np.float32]
CANON = SensorModel(
    "composite", "bayer", "mosaic", 14, 512, 16383, left_noise=DnNoise(0.5, 3.0), right_noise=DnNoise(0.5, 4.0)
)
PIXEL = SensorModel(
    "halves", "gray", "rgb", 14, 1024, 16383, left_noise=DnNoise(1.0, 4.0), right_noise=DnNoise(1.0, 4.0)
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def flat(light: float, size: tuple[int, ...] = (256, 256)) -> Image:
    return np.full(size, light, np.float32)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["composite", "halves"]), st.sampled_from([(8, 10), (8, 10, 3)]), st.integers(0, 99))
def test_a_perfect_sensor_changes_nothing(readout: str, shape: tuple[int, ...], seed: int) -> None:
    left, right = (rng(seed + i).uniform(0, 0.49, shape).astype(np.float32) for i in (0, 1))
    seen = expose(left, right, left + right, SensorModel(readout), rng())  # type: ignore[arg-type]
    factor = 2 if readout == "halves" else 1
    pick = (lambda v: v[..., 1]) if len(shape) == 3 else (lambda v: v)
    assert np.allclose(seen.left, factor * pick(left), atol=1e-6)
    assert np.allclose(seen.right, factor * pick(right), atol=1e-6)
    assert np.allclose(seen.combined, pick(left + right), atol=1e-6) and not seen.saturated.any()


def test_perfect_sensor_with_a_mosaic_keeps_smooth_light() -> None:
    x = np.linspace(0.1, 0.4, 64, dtype=np.float32)
    light = np.repeat(np.repeat(x[None, :, None], 32, 0), 3, 2) * np.array([0.8, 1.0, 0.6], np.float32)
    seen = expose(light, light, None, SensorModel(colour="bayer"), rng())
    assert seen.left.shape == light.shape and np.allclose(seen.left[4:-4, 4:-4], light[4:-4, 4:-4], atol=1e-3)


@pytest.mark.parametrize("sensor", [CANON, PIXEL], ids=["composite", "halves"])
@pytest.mark.parametrize("light", [0.01, 0.2])
def test_moments_of_the_noise(sensor: SensorModel, light: float) -> None:
    seen = expose(flat(light), flat(light / 2), None, sensor, rng(1))
    factor = 2 if sensor.readout == "halves" else 1
    halves = ((seen.left, light, sensor.left_noise), (seen.right, light / 2, sensor.right_noise))
    for view, level, noise in halves:
        signal_dn = factor * level * sensor.range_dn
        variance_dn = noise.shot_dn * signal_dn + noise.read_dn**2 + 1 / 12 * (1 if view is seen.left else 1.5)
        assert float(view.mean()) == pytest.approx(factor * level, abs=5 * np.sqrt(variance_dn) / sensor.range_dn / 256)
        assert float(view.std()) * sensor.range_dn == pytest.approx(np.sqrt(variance_dn), rel=0.03)


def test_a_derived_half_adds_up_with_the_stored_one() -> None:
    light = rng(2).uniform(0.05, 0.4, (64, 64)).astype(np.float32)
    seen = expose(light, light[::-1].copy(), None, CANON, rng(3))
    assert np.allclose(seen.left + seen.right, seen.combined, atol=1e-6)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_quantisation(bits: int) -> None:
    white = float(2**bits - 1)
    sensor = SensorModel("halves", bits=bits, black_dn=64, white_dn=white)
    ramp = np.linspace(0, 0.49, 4096, dtype=np.float32).reshape(64, 64)
    seen = expose(ramp, ramp, None, sensor, rng())
    steps = seen.left.astype(np.float64) * sensor.range_dn
    assert np.allclose(steps, np.rint(steps), atol=2e-3)
    assert np.abs(seen.left - 2 * ramp).max() <= 0.5001 / sensor.range_dn


def test_saturation_and_full_well() -> None:
    light = flat(0.3, (16, 16))
    light[:8] = 0.7
    seen = expose(light, light, None, replace(PIXEL, left_noise=DnNoise(), right_noise=DnNoise()), rng())
    assert seen.saturated[:8].all() and not seen.saturated[8:].any() and seen.left.max() == 1
    composite = expose(light, light, None, CANON, rng())
    assert composite.saturated[:8].mean() == 1 and not composite.saturated[8:].any()
    assert float(composite.right[:8].mean()) < 0.35  # a derived half is only a lower bound there
    wells = expose(light, light, None, replace(CANON, full_well_dn=0.4 * CANON.range_dn), rng())
    assert float(wells.left.max()) < 0.41 and not wells.saturated.any()
    mosaic = expose(*([np.repeat(light[..., None], 3, 2)] * 2), None, replace(CANON, layout="rgb"), rng())
    assert mosaic.saturated[:10].all() and not mosaic.saturated[12:].any()  # the support of demosaicing reaches 2 px


def test_same_seed_same_picture() -> None:
    one, two, other = (expose(flat(0.1), flat(0.1), None, CANON, rng(s)) for s in (5, 5, 6))
    assert np.array_equal(one.left, two.left) and not np.array_equal(one.left, other.left)


def test_shading_is_equalised_as_a_decoder_does() -> None:
    shading = tilted_shading(0.2, 0.4)
    sensor = SensorModel("halves", shading=shading)
    seen = expose(flat(0.3, (60, 80)), flat(0.3, (60, 80)), None, sensor, rng())
    assert np.allclose(seen.left, seen.right, rtol=1e-4)
    assert seen.left[30, 5] / seen.left[30, 74] == pytest.approx(1.2 / 0.8, rel=0.1)  # but both keep the left half's
    assert seen.combined[2, 2] < 0.8 * seen.combined[30, 40]
    tilted = expose(flat(0.3, (60, 80)), flat(0.3, (60, 80)), None, replace(sensor, tilt_left=0.05), rng())
    ratio = np.log(tilted.left / tilted.right)
    assert ratio[30, 0] == pytest.approx(-0.05, abs=1e-3) and ratio[30, -1] == pytest.approx(0.05, abs=1e-3)


def test_exported_views_are_eight_bit_and_halves_at_full_range() -> None:
    ramp = np.linspace(0.01, 0.49, 4096, dtype=np.float32).reshape(64, 64)
    seen = expose(ramp, ramp, None, SensorModel(encoding="srgb8"), rng())
    assert len(np.unique(seen.left)) <= 256 and np.abs(seen.left - 2 * ramp).max() < 0.008
    jpeg = expose(ramp, ramp, None, SensorModel(encoding="srgb8", jpeg_quality=90), rng())
    assert 0 < np.abs(jpeg.left - seen.left).mean() < 0.01
    assert np.allclose(jpeg.combined, (jpeg.left + jpeg.right) / 2)


@pytest.mark.parametrize(
    ("sensor", "shot", "read"), [(CANON, 0.5, 3.0), (PIXEL, 1.0, 4.0)], ids=["composite", "halves"]
)
def test_noise_is_measured_back(sensor: SensorModel, shot: float, read: float) -> None:
    """Through `raw.develop.noise.measure_noise`, which knows nothing of the simulation."""
    levels = np.geomspace(0.0004, 0.4, 12).astype(np.float32)  # as many as the estimate has brightness bins
    light = np.tile(np.repeat(levels, 72), (768, 1))
    seen = expose(light, light, None, sensor, rng(8))
    mosaic = sensor.colour == "bayer"
    for view, noise in ((seen.left, sensor.left_noise), (seen.right, sensor.right_noise)):
        plane = Plane(view, (0.0,) * (4 if mosaic else 1), 1.0, mosaic)
        found = measure_noise(plane, np.zeros(view.shape, bool))
        assert found is not None and noise.shot_dn == shot and noise.read_dn >= read
        assert found.shot * sensor.range_dn == pytest.approx(noise.shot_dn, rel=0.06)
        assert found.read * sensor.range_dn == pytest.approx(np.hypot(noise.read_dn, 0.33), rel=0.25)


@pytest.mark.parametrize("name", ["pixel4", "canon-r6m2-rf50", "generic-phone", "generic-full-frame"])
def test_sensors_of_the_shipped_profiles(name: str) -> None:
    profile = load_profile(name)
    sensor = sensor_model(profile)
    colour = (64, 96, 3) if sensor.colour == "bayer" else (64, 96)
    seen = expose(flat(0.2, colour), flat(0.2, colour), None, sensor, rng())
    assert seen.left.shape == colour and seen.left.dtype == np.float32 and not seen.saturated.any()
    assert np.allclose(seen.left.mean(), seen.right.mean(), rtol=0.01)
    if profile.noise is not None:
        assert sensor.left_noise.shot_dn == pytest.approx(profile.noise["left"].shot * sensor.range_dn)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"white_dn": 100.0}, "white 100 DN, black 512 DN; expected white > black"),
        ({"bits": 12}, "white 16383 DN in 12 bits"),
        ({"left_noise": DnNoise(-1, 0)}, "expected shot_dn and read_dn >= 0"),
        ({"jpeg_quality": 90}, "JPEG quality 90; expected 1 to 100, of encoding srgb8"),
    ],
)
def test_impossible_sensors(change: dict[str, object], message: str) -> None:
    with pytest.raises(DualpixError, match=message):
        replace(CANON, **change)  # type: ignore[arg-type]


def test_bad_light() -> None:
    good = flat(0.1, (8, 8))
    for left, right, message in (
        (good, flat(0.1, (8, 9)), "views of 8x8, 8x9; expected one shape"),
        (good, flat(-0.1, (8, 8)), "negative or not finite"),
        (good * np.float32(np.nan), good, "negative or not finite"),
        (flat(0.1, (7, 8)), flat(0.1, (7, 8)), "a mosaic of 8x7; expected an even size"),
    ):
        with pytest.raises(DualpixError, match=message):
            expose(left, right, None, CANON, rng())
    with pytest.raises(DualpixError, match="shading with tilt 1"):
        tilted_shading(1.0, 0.0)
