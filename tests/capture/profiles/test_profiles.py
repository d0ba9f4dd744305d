"""Camera profiles that ship: they are as the schema says, complete, and mean something to optics and renderers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.capture.profiles import lens_model, load_profile, profile_names
from dualpix.capture.profiles.blur import FieldPsf, psf_at, random_psf
from dualpix.capture.profiles.entries import ProfileError
from dualpix.capture.profiles.profile import SCHEMA, CameraProfile, write_profile
from dualpix.capture.render import render_dual_pixel
from dualpix.capture.synthesis.sensor import sensor_model

NAMES = ["canon-r6m2-rf50", "generic-full-frame", "generic-phone", "pixel4"]


def test_four_profiles_ship() -> None:
    assert profile_names() == NAMES
    with pytest.raises(UnknownNameError, match="unknown camera profile 'pixel9'; expected one of: canon-r6m2-rf50"):
        load_profile("pixel9")


@pytest.mark.parametrize("name", NAMES)
def test_each_keeps_the_schema_and_says_where_it_is_from(name: str, tmp_path: Path) -> None:
    profile = load_profile(name)
    write_profile(tmp_path / "again.json", profile)
    content = json.loads((tmp_path / "again.json").read_text())
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(content)
    assert load_profile(str(tmp_path / "again.json")).to_json() == profile.to_json()
    assert profile.notes is not None and len(profile.notes["profile"]) > 40
    measured = not name.startswith("generic")
    assert bool(profile.sources) == measured == (profile.camera is not None)
    assert ("measured on no camera" in profile.notes["profile"]) == (not measured)
    assert profile.psf is None or profile.psf.kernels is None  # parameters, no copied kernels
    assert profile.disparity_gain is not None and 0.05 < profile.disparity_gain < optics.IDEAL_DISPARITY_GAIN
    assert sensor_model(profile).white_dn > 1000


def test_measured_facts() -> None:
    pixel, canon = load_profile("pixel4"), load_profile("canon-r6m2-rf50")
    assert pixel.disparity_gain == pytest.approx(0.21, rel=0.05) and pixel.noise is not None
    assert pixel.psf is not None and pixel.psf.gain.shape == (6, 8)
    assert pixel.psf.gain.min() > 0.19 and pixel.psf.gain.max() < 0.24
    assert pixel.shading is not None and np.exp(pixel.shading.log_ratio()).max() > 1.3
    assert canon.gain is not None and canon.gain.relative.shape == (6, 8) and canon.gain.residual_px < 0.12
    # the same field course by two independent ways, planes and kernels
    assert canon.psf is not None
    by_kernels = canon.psf.gain / canon.psf.gain.mean()
    assert np.corrcoef(by_kernels.mean(0), canon.gain.relative.mean(0))[0, 1] > 0.9


def test_lens_of_a_profile() -> None:
    canon = load_profile("canon-r6m2-rf50")
    lens = lens_model(canon)
    assert canon.gain is not None and lens.disparity_gain == canon.disparity_gain
    assert optics.disparity_at_infinity_px(lens) == pytest.approx(canon.gain.slope_px, rel=0.01)
    wide = lens_model(canon, f_number=2.0)
    assert wide.disparity_gain == pytest.approx(2 * lens.disparity_gain)
    assert lens_model(canon, f_number=0.5).disparity_gain == optics.IDEAL_DISPARITY_GAIN
    with pytest.raises(ProfileError, match="does not say f_number, focal_length_mm, focus_distance_m, pixel_pitch_um"):
        lens_model(load_profile("pixel4"))
    phone = lens_model(load_profile("generic-phone"), focus_distance_m=1.0, pixel_pitch_um=2.8)
    assert 0.5 < optics.disparity_at_infinity_px(phone) < 1.5
    with pytest.raises(DualpixError, match="within the focal length"):
        lens_model(canon, focus_distance_m=0.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("coc_px", [-12.0, 12.0])
def test_kernels_of_a_profile(name: str, coc_px: float) -> None:
    field = FieldPsf(load_profile(name))
    size = field.kernel_size_px(abs(coc_px))
    for place in ((0.5, 0.5), (0.1, 0.05), (0.9, 0.95)):
        model = psf_at(field.profile, place)
        left, right = field.kernels(torch.tensor([coc_px]), size, field=place)
        x = torch.arange(size) - size // 2
        apart = 2 * float(((right - left)[0].sum(0) * x).sum())
        assert apart == pytest.approx(model.disparity_gain * coc_px, abs=0.03)
        assert float(left.sum()) == pytest.approx(0.5, abs=1e-4)


def test_the_exact_renderer_follows_the_field() -> None:
    """Points in the middle and in a corner get the gain of their place."""
    field = FieldPsf(load_profile("canon-r6m2-rf50"))
    assert field.shape == (6, 8) and FieldPsf(load_profile("generic-phone")).shape == (1, 1)
    assert psf_at(field.profile).shape == (1, 1)
    image = torch.full((1, 1, 96, 128), 1e-3, dtype=torch.float64)
    places = {"middle": (56, 72), "corner": (8, 8)}  # in the middle of a cell of the field
    for row, column in places.values():
        image[..., row, column] = 1.0
    coc = torch.full((1, 1, 96, 128), 8.0, dtype=torch.float64)
    left, right = render_dual_pixel(image, coc, field, quality="exact")
    gains = {}
    for name, (row, column) in places.items():
        window = (0, 0, slice(row - 8, row + 8), slice(column - 8, column + 8))
        lefts, rights = (view[window] - 0.5e-3 for view in (left, right))
        x = torch.arange(16, dtype=torch.float64)
        gains[name] = float((rights * x).sum() / rights.sum() - (lefts * x).sum() / lefts.sum()) / 8
        assert gains[name] == pytest.approx(
            psf_at(field.profile, ((row + 0.5) / 96, (column + 0.5) / 128)).disparity_gain, rel=0.05
        )
    assert gains["middle"] > 1.5 * gains["corner"]


def test_a_rendered_pixel4_kernel_has_the_measured_moments() -> None:
    """Through PsfModel and back: what is drawn has the gain of the real kernels, whose diameter is a second moment."""
    profile = load_profile("pixel4")
    assert profile.psf is not None
    gains = []
    for y, x in ((0.3, 0.3), (0.5, 0.5), (0.7, 0.8)):
        model = psf_at(profile, (y, x))
        left, right = (2 * k[0].double() for k in model.kernels(torch.tensor([21.0]), 61))
        axis = torch.arange(61) - 30.0
        full = (left + right) / 2
        second = (full * (axis[None] ** 2 + axis[:, None] ** 2)).sum()
        gains.append(float(((right - left).sum(0) * axis).sum() / torch.sqrt(8 * second)))
    assert np.mean(gains) == pytest.approx(0.21, rel=0.12)


def test_places_are_drawn_over_the_whole_field() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_psf(load_profile("pixel4"), rng) for _ in range(40)]
    offsets = [model.split_offset for model in drawn]
    assert min(offsets) < -0.4 and max(offsets) > 0.4
    again = np.random.default_rng(0)
    assert drawn[:3] == [random_psf(load_profile("pixel4"), again) for _ in range(3)]


def test_a_profile_without_gain_or_sensor() -> None:
    with pytest.raises(ProfileError, match="no disparity gain"):
        psf_at(CameraProfile((10, 10)))
    with pytest.raises(DualpixError, match="does not say what sensor"):
        sensor_model(CameraProfile((10, 10)))
