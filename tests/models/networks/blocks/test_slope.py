"""Disparity to first order: the sign, the scale, and what it says of noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dualpix.models.blocks.slope import SlopeDisparity

SIZE_HW = (64, 128)


def moved(shift_px: float, seed: int = 1) -> Tensor:
    """(1, 1, H, W) waves of 12 to 60 px, seen ``shift_px`` to the right of where they are."""
    g = torch.Generator().manual_seed(seed)
    x = torch.arange(SIZE_HW[1], dtype=torch.float32) - shift_px
    y = torch.arange(SIZE_HW[0], dtype=torch.float32)[:, None]
    light = torch.zeros(SIZE_HW)
    for _ in range(12):
        period, slant, phase, amount = torch.rand(4, generator=g).tolist()
        light += amount * torch.sin(2 * torch.pi * (x / (12 + 48 * period) + slant * y / 40) + 6 * phase)
    return 0.1 * light[None, None]


@pytest.mark.parametrize("disparity_px", [-3.0, -0.4, 0.05, 0.4, 1.5])
def test_the_right_view_lies_so_many_px_to_the_right(disparity_px: float) -> None:
    with torch.no_grad():
        found, power = SlopeDisparity()(moved(-disparity_px / 2), moved(disparity_px / 2))
    assert found.shape == power.shape == (1, 6, 16, 32)
    inside = found[..., 3:-3, 4:-4]
    for cue in inside[0, 1::2]:  # wide windows
        assert cue.median() == pytest.approx(disparity_px, rel=0.12, abs=0.02)


def test_no_difference_is_no_disparity_and_noise_stays_bounded() -> None:
    slope = SlopeDisparity()
    with torch.no_grad():
        same, _ = slope(moved(0), moved(0))
        noise, power = slope(torch.randn(1, 1, *SIZE_HW), torch.randn(1, 1, *SIZE_HW))
        plain, none = slope(torch.zeros(1, 1, *SIZE_HW), torch.zeros(1, 1, *SIZE_HW))
    assert torch.equal(same, torch.zeros_like(same)) and torch.equal(plain, torch.zeros_like(plain))
    for place, scale in enumerate((2, 2, 4, 4, 8, 8)):
        assert noise[:, place].abs().max() <= 2 * scale
    assert (none < power.min()).all(), "a plain view has less slope than noise"


def test_contrast_and_light_do_not_count() -> None:
    left, right = moved(-0.3), moved(0.3)
    slope = SlopeDisparity()
    with torch.no_grad():
        as_it_is, _ = slope(left, right)
        other, _ = slope(2 * left + 0.3, 2 * right + 0.3)
    inside = (..., slice(3, -3), slice(4, -4))
    assert (as_it_is[inside] - other[inside]).abs().median() < 0.01
