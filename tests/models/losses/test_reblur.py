"""Blurring again: the sums of the integral image against their definition and the renderer, in values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.render import render_integral
from dualpix.models.data.rendered import RenderSettings, render_sample
from dualpix.models.losses.image import halves_loss, image_loss, reblur_loss
from dualpix.models.losses.reblur import HalfBoxes, reblur, reblur_evenly, reblur_plain
from dualpix.models.prepare import encode, image_gain


def scene(seed: int, h: int = 9, w: int = 12, b: int = 2, coc_px: float = 7.0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    picture = torch.rand(b, 2, h, w, generator=g, dtype=torch.float64)
    return picture, (torch.rand(b, 1, h, w, generator=g, dtype=torch.float64) - 0.5) * 2 * coc_px


def centroid_px(view: Tensor) -> float:
    columns = view[0, 0].sum(0)
    return float((columns * torch.arange(len(columns))).sum() / columns.sum())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, IDEAL_DISPARITY_GAIN), st.floats(0.0, 12.0))
def test_sums_are_the_areas_that_boxes_cover(seed: int, gain: float, coc_px: float) -> None:
    picture, coc = scene(seed, coc_px=coc_px)
    boxes = HalfBoxes.of_gain(torch.tensor([gain, IDEAL_DISPARITY_GAIN / 2]))
    for fast, plain in zip(reblur(picture, coc, boxes), reblur_plain(picture, coc, boxes), strict=True):
        torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)


def test_rectangles_are_those_of_the_renderer() -> None:
    picture, coc = scene(1)
    for one, other in zip(reblur(picture, coc, HalfBoxes.rectangles()), render_integral(picture, coc), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_in_focus_each_half_has_half_the_picture() -> None:
    picture, coc = scene(2)
    for half in reblur(picture, 0 * coc, HalfBoxes.of_gain(0.2)):
        torch.testing.assert_close(half, picture / 2, rtol=0, atol=1e-14)


@pytest.mark.parametrize("gain", [0.06, 0.21, 0.4])
@pytest.mark.parametrize("disparity_px", [-1.3, 0.4, 2.0])
def test_a_point_is_as_far_apart_and_as_wide_as_through_a_split_disc(gain: float, disparity_px: float) -> None:
    coc_px = disparity_px / gain
    point = torch.zeros(1, 1, 61, 61, dtype=torch.float64)
    point[..., 30, 30] = 1.0
    left, right = reblur(point, torch.full((1, 1, 61, 61), coc_px, dtype=torch.float64), HalfBoxes.of_gain(gain))
    assert float(left.sum()) == pytest.approx(0.5) and float((left + right).sum()) == pytest.approx(1.0)
    # a pixel covered in part counts at its centre: up to 1/8 px for each edge of a box of one pixel, less of wider ones
    width = HalfBoxes.of_gain(gain).width * abs(coc_px) + 1
    assert centroid_px(right) - centroid_px(left) == pytest.approx(disparity_px, abs=0.5 / width)
    x = torch.arange(61, dtype=torch.float64) - centroid_px(left)
    variance = float((left[0, 0].sum(0) * x.square()).sum() / left.sum())
    assert (width - 1) ** 2 / 12 == pytest.approx(coc_px**2 / 16 - (disparity_px / 2) ** 2), "that of half a disc"
    # to which a box adds the pixel that it is wider by; sharing a point between two pixels adds 1/4 at most
    assert -0.1 < variance - width**2 / 12 < 0.25


def test_gradients_in_picture_and_depth() -> None:
    picture, coc = scene(3, 4, 5, b=1, coc_px=2.5)
    inputs = (picture[:, :1].requires_grad_(), coc.requires_grad_())
    boxes = HalfBoxes.of_gain(0.21)
    assert torch.autograd.gradcheck(lambda p, c: reblur(p, c, boxes), inputs)
    assert torch.autograd.gradcheck(lambda p, c: reblur_evenly(p, 0.21 * c, 0.21, most_coc_px=6.0), inputs)
    fast = torch.autograd.grad(sum(v.square().sum() for v in reblur(*inputs, boxes)), inputs)
    plain = torch.autograd.grad(sum(v.square().sum() for v in reblur_plain(*inputs, boxes)), inputs)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_depth_is_found_by_descent_alone() -> None:
    """What the gradient is for: halves blurred at 1.2 px of disparity draw a guess of 0.3 px to it."""
    g = torch.Generator().manual_seed(4)
    picture = torch.rand(1, 1, 32, 48, generator=g)
    truth = reblur_evenly(picture, torch.full((1, 1, 32, 48), 1.2), 0.2, most_coc_px=12.0)
    guess = torch.tensor(0.3, requires_grad=True)
    optimiser = torch.optim.Adam([guess], 0.03)
    for _ in range(120):
        made = reblur_evenly(picture, guess.expand(1, 1, 32, 48), 0.2, most_coc_px=12.0)
        loss = sum((one - other).square().mean() for one, other in zip(made, truth, strict=True))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(guess.detach()) == pytest.approx(1.2, abs=0.02)


def test_shares_even_out_steps_of_depth() -> None:
    even = torch.full((1, 1, 24, 40), 0.5)
    disparity = torch.where(torch.arange(40) < 20, -1.0, 1.5).expand(1, 1, 24, 40)
    for half in reblur_evenly(even, disparity, 0.2, most_coc_px=10.0):
        torch.testing.assert_close(half, even / 2, rtol=0, atol=1e-6)
    summed = reblur(even, disparity / 0.2, HalfBoxes.of_gain(0.2))[0]
    assert float((summed[..., 8:-8, 8:-8] - 0.25).abs().max()) > 0.02


@pytest.mark.parametrize("gain", [0.0, -0.1, 0.43])
def test_gains_that_no_disc_has_are_refused(gain: float) -> None:
    with pytest.raises(ValueError, match=r"expected in \(0, 0.424\]"):
        HalfBoxes.of_gain(gain)


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    config = RenderSettings(size_hw=(96, 128), optics="cameras", scenes="varied", quality="exact")
    samples = [render_sample(config, 2, index, sharp=True) for index in (1, 4)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def test_losses_are_zero_at_the_truth_and_favour_it(batch: dict[str, Tensor]) -> None:
    gain, disparity, level = batch["disparity_gain"], batch["disparity_px"], image_gain(batch["combined"])
    truth, blurred = encode(batch["sharp"], level), encode(batch["combined"], level)
    assert float(image_loss(truth, batch)) == 0.0 < float(image_loss(blurred, batch))
    assert float(reblur_loss(truth, disparity, batch, gain)) == 0.0
    # the trivial answer: what was given, in focus everywhere
    assert float(reblur_loss(blurred, 0 * disparity, batch, gain)) > 0.003
    assert float(halves_loss(truth, disparity, batch, gain)) < 0.75 * float(
        halves_loss(blurred, 0 * disparity, batch, gain)
    )
    # and the sign counts: a picture that is right with the depth turned over is worse than none
    assert float(halves_loss(truth, -disparity, batch, gain)) > float(halves_loss(truth, 0 * disparity, batch, gain))


def test_where_the_truth_is_not_known_nothing_is_asked(batch: dict[str, Tensor]) -> None:
    gain, level = batch["disparity_gain"], image_gain(batch["combined"])
    known = torch.ones_like(batch["disparity_px"])
    known[..., 40:] = 0
    holes = batch | {"known": known, "disparity_px": batch["disparity_px"] * known}
    found = torch.where(known > 0, batch["disparity_px"], batch["disparity_px"] + 0.5)
    sharp = encode(batch["sharp"], level)
    assert float(reblur_loss(sharp, found, holes, gain)) == 0.0 < float(reblur_loss(sharp, found, batch, gain))


def test_sharp_comes_beside_views_that_stay_as_they_are() -> None:
    config = RenderSettings(size_hw=(32, 64), optics="cameras")
    plain, full = render_sample(config, 7, 3), render_sample(config, 7, 3, sharp=True)
    assert set(full) - set(plain) == {"sharp", "disparity_gain"}
    assert all(torch.equal(plain[name], full[name]) for name in plain)
    assert full["sharp"].shape == (3, 32, 64)
    # energy is kept but for what crosses the border
    assert float(full["sharp"].mean()) == pytest.approx(float(full["combined"].mean()), rel=0.1)
    slope = [float(np.abs(np.diff(full[name].numpy())).mean()) for name in ("sharp", "combined")]
    assert slope[0] > slope[1]
