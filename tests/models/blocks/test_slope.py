"""Disparity to first order: the sign, the scale, and what it says of noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dualpix.models.blocks.resize import mean_pool, pixel_unshuffle
from dualpix.models.blocks.slope import FOLD, SlopeDisparity, slopes_plain

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


def folded(left: Tensor, right: Tensor, gain: float = 1.0) -> Tensor:
    return pixel_unshuffle(torch.cat([left + right, gain * (left - right)], 1), FOLD)


def test_one_convolution_is_what_pooling_and_filters_give() -> None:
    left, right = torch.rand(2, 1, 32, 48), torch.rand(2, 1, 32, 48)
    slope = SlopeDisparity(difference_gain=6.0)
    with torch.no_grad():
        at_once = torch.nn.functional.conv2d(folded(left, right, 6.0), slope.fine, padding=1)
    at_once[:, :10] /= slope.unit
    mean, difference = (left + right) / 2, left - right
    of_half, of_quarter = (slopes_plain(mean, difference, scale) for scale in (2, 4))
    for first, half, quarter in ((0, of_half[0], of_quarter[0]), (5, of_half[1], of_quarter[1])):
        assert torch.allclose(at_once[:, first : first + 4], pixel_unshuffle(half, 2), atol=1e-5)
        assert torch.allclose(at_once[:, first + 4 : first + 5], quarter, atol=1e-5)
    pooled = torch.cat([mean_pool(mean, 4), mean_pool(difference, 4)], 1)
    assert torch.allclose(at_once[:, 10:], pooled, atol=1e-5)


@pytest.mark.parametrize("disparity_px", [-3.0, -0.4, 0.05, 0.4, 1.5])
def test_the_right_view_lies_so_many_px_to_the_right(disparity_px: float) -> None:
    with torch.no_grad():
        found, power = SlopeDisparity()(folded(moved(-disparity_px / 2), moved(disparity_px / 2)))
    assert found.shape == power.shape == (1, 6, 16, 32)
    inside = found[..., 3:-3, 4:-4]
    for cue in inside[0, 3:]:  # wide windows
        assert cue.median() == pytest.approx(disparity_px, rel=0.12, abs=0.02)


def test_no_difference_is_no_disparity_and_noise_stays_bounded() -> None:
    slope = SlopeDisparity()
    with torch.no_grad():
        same, _ = slope(folded(moved(0), moved(0)))
        noise, power = slope(folded(torch.randn(1, 1, *SIZE_HW), torch.randn(1, 1, *SIZE_HW)))
        plain, none = slope(torch.zeros(1, 32, 16, 32))
    assert torch.equal(same, torch.zeros_like(same)) and torch.equal(plain, torch.zeros_like(plain))
    for place, scale in enumerate((2, 4, 8, 2, 4, 8)):
        assert noise[:, place].abs().max() <= 2 * scale
    assert (none < power.min()).all(), "a plain view has less slope than noise"


def test_contrast_and_light_do_not_count() -> None:
    left, right = moved(-0.3), moved(0.3)
    slope = SlopeDisparity()
    with torch.no_grad():
        as_it_is, _ = slope(folded(left, right))
        other, _ = slope(folded(2 * left + 0.3, 2 * right + 0.3))
    inside = (..., slice(3, -3), slice(4, -4))
    assert (as_it_is[inside] - other[inside]).abs().median() < 0.01
