"""The integral-image renderer against rectangles added up one by one, and what any renderer has to keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dualpix.capture.render import render_integral
from dualpix.capture.render.integral import RECTANGLE_GAIN

FLOATS = torch.float64


def covered(first: float, last: float, size: int) -> np.ndarray:
    """Share of each of ``size`` pixels [i, i + 1) that lies in [first, last)."""
    edges = np.arange(size)
    return np.clip(np.minimum(edges + 1, last) - np.maximum(edges, first), 0, 1)


def pair_by_area(image: np.ndarray, coc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each source pixel's rectangles, added to the picture pixel by pixel: (C, H, W) and (H, W) to two (C, H, W)."""
    channels, h, w = image.shape
    left, right = np.zeros_like(image), np.zeros_like(image)
    for y in range(h):
        for x in range(w):
            c = coc[y, x]
            rows = covered(y - abs(c) / 2, y + abs(c) / 2 + 1, h)
            # rays through the right half of the lens end right of the centre from behind focus, left of it from before
            rightward, leftward = covered(x, x + abs(c) / 2 + 1, w), covered(x - abs(c) / 2, x + 1, w)
            area = (abs(c) + 1) * (abs(c) / 2 + 1)
            sides = (leftward, rightward) if c >= 0 else (rightward, leftward)
            for view, columns in zip((left, right), sides, strict=True):
                for channel in range(channels):
                    view[channel] += 0.5 * image[channel, y, x] / area * np.outer(rows, columns)
    return left, right


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), blur=st.floats(0, 30), batch=st.sampled_from([1, 2]))
def test_equals_rectangles_added_one_by_one(seed: int, blur: float, batch: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.random((batch, 2, 11, 14))
    coc = rng.uniform(-blur, blur, (batch, 1, 11, 14))
    fast = render_integral(torch.from_numpy(image), torch.from_numpy(coc))
    for b in range(batch):
        for mine, expected in zip(fast, pair_by_area(image[b], coc[b, 0]), strict=True):
            np.testing.assert_allclose(mine[b].numpy(), expected, rtol=0, atol=1e-12)


def test_corners_on_the_grid_are_the_published_ones() -> None:
    # +I/|R| top left and bottom right, -I/|R| at the other corners, one past the rectangle's last pixel; then the sum
    coc, h, w, y, x, light = 8.0, 24, 30, 10, 14, 3.0
    image = torch.zeros(1, 1, h, w, dtype=FLOATS)
    image[..., y, x] = light
    differential = torch.zeros(h + 1, w + 1, dtype=FLOATS)
    top, bottom, first, last = y - 4, y + 4 + 1, x - 4, x + 1
    for row, column, sign in ((top, first, 1), (bottom, last, 1), (top, last, -1), (bottom, first, -1)):
        differential[row, column] += sign * light / ((bottom - top) * (last - first))
    left, _ = render_integral(image, torch.full((1, 1, h, w), coc, dtype=FLOATS))
    expected = differential.cumsum(0).cumsum(1)[:h, :w]
    torch.testing.assert_close(left[0, 0], 0.5 * expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("coc", [-11.3, -4.0, -0.4, 0.7, 6.0, 13.9])
def test_light_is_kept_and_its_centroids_lie_half_a_coc_apart(coc: float) -> None:
    image = torch.zeros(1, 1, 40, 48, dtype=FLOATS)
    image[..., 20, 24] = 2.0
    left, right = (view[0, 0] for view in render_integral(image, torch.full((1, 1, 40, 48), coc, dtype=FLOATS)))
    assert float(left.sum()) == pytest.approx(1.0, abs=1e-12) and float(right.sum()) == pytest.approx(1.0, abs=1e-12)
    x = torch.arange(48, dtype=FLOATS)
    apart = float((right.sum(0) * x).sum() - (left.sum(0) * x).sum())
    # a pixel covered in part counts at its centre, a little outside the centroid of what is covered
    part = (abs(coc) / 2) % 1
    outward = np.sign(coc) * part * (1 - part) / (abs(coc) / 2 + 1)
    assert apart == pytest.approx(RECTANGLE_GAIN * coc + outward, abs=1e-9)


def test_opposite_defocus_swaps_the_views() -> None:
    generator = torch.Generator().manual_seed(2)
    image, coc = torch.rand(1, 3, 20, 26, generator=generator), 12 * torch.randn(1, 1, 20, 26, generator=generator)
    left, right = render_integral(image, coc)
    swapped = render_integral(image, -coc)
    assert torch.equal(left, swapped[1]) and torch.equal(right, swapped[0])


def test_in_focus_it_is_half_the_image() -> None:
    image = torch.rand(2, 3, 33, 47, generator=torch.Generator().manual_seed(1))
    for view in render_integral(image, torch.zeros(2, 1, 33, 47)):
        torch.testing.assert_close(view, 0.5 * image, rtol=0, atol=2e-7)


def test_twice_the_picture_with_twice_the_coc_is_twice_the_view() -> None:
    grid = torch.linspace(0, 6, 96, dtype=FLOATS)
    small = (2 + torch.sin(grid)[:, None] * torch.cos(grid)).reshape(1, 1, 96, 96)

    def double(image: torch.Tensor) -> torch.Tensor:
        return F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)

    coc = 10 + torch.linspace(0, 4, 96, dtype=FLOATS).expand(1, 1, 96, 96)
    for small_view, large_view in zip(
        render_integral(small, coc), render_integral(double(small), 2 * double(coc)), strict=True
    ):
        # what differs is the pixel that every rectangle is larger by
        difference = (double(small_view) - large_view)[..., 48:-48, 48:-48]
        assert float(difference.abs().max()) < 0.02 * float(small_view.max())


def test_a_large_flat_picture_stays_flat_in_float32() -> None:
    # a float32 cumulative sum over this many pixels would be wrong in the third digit
    image = torch.full((1, 1, 1024, 1024), 0.7)
    left, right = render_integral(image, torch.full((1, 1, 1024, 1024), 6.0))
    inner = (left + right)[..., 8:-8, 8:-8]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.7), rtol=0, atol=1e-6)


def test_gradients_in_image_and_coc() -> None:
    generator = torch.Generator().manual_seed(4)
    image = torch.rand(1, 2, 6, 7, generator=generator, dtype=FLOATS, requires_grad=True)
    # corners off the grid, where the derivative exists: |c| / 2 is no integer
    coc = (torch.rand(1, 1, 6, 7, generator=generator, dtype=FLOATS) + 0.5).mul(1.6)
    coc = torch.where(torch.rand(1, 1, 6, 7, generator=generator) > 0.5, coc, -coc)
    assert float(((coc.abs() / 2) % 1).min()) > 1e-3
    assert torch.autograd.gradcheck(render_integral, (image, coc.requires_grad_()))
