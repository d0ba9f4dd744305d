"""The renderer against slow references: direct convolution, a Monte-Carlo lens, and by-hand numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.render import (
    PsfModel,
    half_kernels,
    layers_from_depth,
    render_dual_pixel,
    render_integral,
    render_layers,
    render_scene,
    render_scene_stack,
    scene_margin_px,
)
from dualpix.capture.render.layered import Cells, coc_ladder, render_surfaces, render_surfaces_whole, render_whole
from dualpix.capture.render.psf import HalfKernels, PsfGrid, RadialPsf, project, split_cells
from dualpix.capture.scenes import Scene, SceneLayer, make_scene


def centroid_x(kernel: torch.Tensor) -> float:
    x = torch.arange(kernel.shape[-1]) - kernel.shape[-1] // 2
    return float((kernel.sum(0) * x).sum() / kernel.sum())


@settings(max_examples=40, deadline=None)
@given(
    coc=st.floats(-34, 34).filter(lambda c: abs(c) > 0.05),
    gain=st.floats(0.05, 0.42),
    rim=st.floats(-0.5, 2.0),
    offset=st.floats(-0.3, 0.3),
)
def test_centroids_are_gain_times_coc_apart(coc: float, gain: float, rim: float, offset: float) -> None:
    psf = PsfModel(disparity_gain=gain, rim=rim, split_offset=offset)
    left, right = half_kernels(torch.tensor([coc]), psf, psf.kernel_size_px(abs(coc)))
    assert left.min() >= 0 and right.min() >= 0
    assert float(left.sum()) == pytest.approx(0.5, abs=1e-4)
    # sharper than the ideal half disc there is nothing: near the limit a bright rim may fall short by a little
    assert centroid_x(right[0]) - centroid_x(left[0]) == pytest.approx(gain * coc, rel=0.03, abs=0.01)


def test_ideal_gain_is_that_of_a_half_disc() -> None:
    # centroid of a half disc of radius r is 4 r / (3 pi) off: the two are 8 r / (3 pi) = 0.424 * 2 r apart
    assert pytest.approx(0.4244, abs=1e-4) == IDEAL_DISPARITY_GAIN
    with pytest.raises(ValueError, match="expected in"):
        PsfModel(disparity_gain=0.6)


def test_layers_equal_direct_convolution() -> None:
    generator = torch.Generator().manual_seed(3)
    colour = torch.rand(2, 3, 3, 64, 80, generator=generator, dtype=torch.float64)
    alpha = (torch.rand(2, 3, 64, 80, generator=generator, dtype=torch.float64) > 0.4).double()
    alpha[:, 0] = 1
    coc = torch.tensor([[9.0, 2.0, -5.0], [4.0, 0.5, -8.0]], dtype=torch.float64)
    psf = PsfModel(0.3)
    margin = 12
    fast = render_layers(colour, alpha, coc, psf, margin)
    size = psf.kernel_size_px(9.0)
    for view in (0, 1):
        for b in range(2):
            kernels = 2 * half_kernels(coc[b], psf, size)[view]
            out = torch.zeros(3, 64 - size + 1, 80 - size + 1, dtype=torch.float64)
            for k in range(3):
                # conv2d correlates: flip to convolve
                kernel = kernels[k].flip(0, 1)[None, None]
                a = F.conv2d(alpha[b, k][None, None], kernel)[0]
                c = F.conv2d((colour[b, k] * alpha[b, k])[:, None], kernel)[:, 0]
                out = c + out * (1 - a)
            m = margin - size // 2
            torch.testing.assert_close(fast[view][b], 0.5 * out[:, m:-m, m:-m], rtol=0, atol=1e-10)


def monte_carlo_plane_pair(
    front: np.ndarray, back: np.ndarray, cover: np.ndarray, coc: tuple[float, float], gain: float, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """A thin lens by brute force: shift each layer by its CoC for every aperture point, test what is hit first."""
    rng = np.random.default_rng(0)
    views = [np.zeros_like(back), np.zeros_like(back)]
    weights = [0.0, 0.0]
    import cv2

    h, w = back.shape
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)

    def shifted(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
        # light of a point at x lands at x + shift, so a pixel looks back by it
        return cv2.remap(
            image, xx - np.float32(dx), yy - np.float32(dy), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    slope = 4 * gain  # straight ramp g = slope * x on the unit disc: centroids gain * diameter apart
    for _ in range(samples):
        r, phi = np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        ux, uy = r * np.cos(phi), r * np.sin(phi)
        a = shifted(cover, ux * coc[0] / 2, uy * coc[0] / 2)
        ray = shifted(front * cover, ux * coc[0] / 2, uy * coc[0] / 2) + (1 - a) * shifted(
            back, ux * coc[1] / 2, uy * coc[1] / 2
        )
        for i, side in enumerate((-1, 1)):
            # both CoCs here are positive: the right half of the pupil's light lands on the right
            weight = (1 + side * np.clip(slope * ux, -1, 1)) / 2
            views[i] += weight * ray
            weights[i] += weight
    return 0.5 * views[0] / weights[0], 0.5 * views[1] / weights[1]


def test_occlusion_matches_a_monte_carlo_lens() -> None:
    size, margin = 96, 12
    scene = make_scene(5, (size, size))
    back = scene.layers[0].colour[..., 1].astype(np.float32)
    front = 1.2 - back[::-1, ::-1].copy()
    cover = np.zeros((size, size), np.float32)
    cover[30:70, 40:75] = 1
    coc = (3.0, 12.0)
    truth = monte_carlo_plane_pair(front, back, cover, coc, 0.21, 3000)
    psf = PsfModel(0.21, edge_px=0.3, edge_relative=0.0)
    colour = torch.from_numpy(np.stack([back, front]))[None, :, None]
    alpha = torch.from_numpy(np.stack([np.ones_like(cover), cover]))[None]
    fast = render_layers(colour, alpha, torch.tensor([[coc[1], coc[0]]]), psf, margin)
    for mine, reference in zip(fast, truth, strict=True):
        error = mine[0, 0].numpy() - reference[margin:-margin, margin:-margin]
        psnr = -10 * np.log10(np.mean(error**2))
        # the half-aperture compositing of alpha and colour is exact for two planes whose edges are far apart; what is
        # left is the disc's soft edge and sampling noise
        assert psnr > 38, psnr


def test_sign_points_behind_focus_move_right_in_the_right_view() -> None:
    image = torch.zeros(1, 1, 41, 61)
    image[..., 20, 30] = 1.0
    for coc in (10.0, -10.0):
        left, right = render_dual_pixel(image, torch.full((1, 1, 41, 61), coc), PsfModel(0.3), layers=2)
        x = torch.arange(61.0)
        shift = float((right[0, 0].sum(0) * x).sum() / right.sum() - (left[0, 0].sum(0) * x).sum() / left.sum())
        assert shift == pytest.approx(0.3 * coc, rel=0.02)


def test_integral_equals_brute_force_rectangles() -> None:
    image = torch.zeros(1, 1, 30, 40, dtype=torch.float64)
    image[..., 15, 20] = 2.0
    left, right = render_integral(image, torch.full((1, 1, 30, 40), 6.0))
    expected = torch.zeros(30, 40, dtype=torch.float64)
    expected[12:19, 20:24] = 0.5 * 2.0 / (7 * 4)  # rows +-3, columns 0..3, both widened by the pixel itself
    torch.testing.assert_close(right[0, 0], expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(left[0, 0], expected.roll(-3, 1), rtol=0, atol=1e-9)


def test_integral_keeps_light_and_in_focus_pixels() -> None:
    image = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    left, right = render_integral(image, torch.zeros(2, 1, 40, 50))
    torch.testing.assert_close(left + right, image, rtol=0, atol=1e-6)
    ramp = torch.linspace(-6, 9, 50).expand(2, 1, 40, 50)
    left, right = render_integral(image, ramp)
    inner = (slice(None), slice(None), slice(10, 30), slice(15, 35))
    assert float((left + right)[inner].mean()) == pytest.approx(float(image[inner].mean()), rel=0.03)


def test_depth_layers_hide_the_occluder_behind_itself() -> None:
    image = torch.full((1, 3, 40, 40), 0.2)
    image[..., 10:30, 10:30] = 0.9
    coc = torch.full((1, 1, 40, 40), 8.0)
    coc[..., 10:30, 10:30] = -4.0
    colour, alpha, centres = layers_from_depth(image, coc, 8)
    assert float(colour[0, 0, :, 20, 20].max()) == pytest.approx(0.2, abs=1e-5)  # background in-painted from itself
    assert float(alpha[0, -1, 20, 20]) == 1 and float(alpha[0, -1, 2, 2]) == 0
    assert centres[0].tolist() == sorted(centres[0].tolist(), reverse=True)


def test_slanted_plane_shows_no_cracks() -> None:
    # a uniformly bright slanted wall must stay uniformly bright whatever its blur
    coc = torch.linspace(-12, 12, 96).expand(1, 1, 64, 96)
    left, right = render_dual_pixel(torch.full((1, 1, 64, 96), 0.7), coc, PsfModel(0.21), layers=20)
    torch.testing.assert_close(left + right, torch.full((1, 1, 64, 96), 0.7), rtol=0, atol=1e-4)


def test_renderer_is_differentiable_in_image_and_coc() -> None:
    image = torch.rand(1, 1, 8, 10, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(1))
    left, _ = render_dual_pixel(
        image, torch.linspace(1, 4, 10, dtype=torch.float64).expand(1, 1, 8, 10), PsfModel(0.2), layers=3
    )
    left.square().sum().backward()
    assert image.grad is not None and float(image.grad.abs().min()) > 0
    coc = torch.full((1, 1, 16, 20), 3.0, dtype=torch.float64)
    coc[..., 10:] = 5.0
    coc.requires_grad_()
    left, _ = render_dual_pixel(torch.rand(1, 1, 16, 20, dtype=torch.float64), coc, PsfModel(0.2), layers=3)
    left.square().sum().backward()
    assert coc.grad is not None and float(coc.grad.abs().sum()) > 0


def test_margin_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match=r"margin is 4 px, a CoC of 20\.0 px needs"):
        render_layers(torch.rand(1, 1, 1, 32, 32), torch.ones(1, 1, 32, 32), torch.tensor([[20.0]]), PsfModel(), 4)


def test_scenes_are_deterministic_and_consistent() -> None:
    a, b = make_scene(11, (96, 128)), make_scene(11, (96, 128))
    assert np.array_equal(a.all_in_focus(), b.all_in_focus())
    assert not np.array_equal(a.all_in_focus(), make_scene(12, (96, 128)).all_in_focus())
    for seed in range(20):
        scene = make_scene(seed, (64, 96))
        proximity = scene.layers[0].proximity
        for layer in scene.layers[1:]:
            covered = layer.alpha > 0.5
            # never behind what it covers, unless both have reached the nearest plane
            assert np.all((layer.proximity >= proximity - 1e-5)[covered])
            proximity = np.where(covered, layer.proximity, proximity)
        assert proximity.min() >= 0 and proximity.max() <= 1
        assert np.isfinite(scene.all_in_focus()).all() and scene.all_in_focus().min() >= 0


def test_rendered_scene_truth_is_the_visible_surface() -> None:
    plane = np.tile(np.linspace(0, 0.5, 96, dtype=np.float32), (64, 1))
    scene = Scene((SceneLayer(np.full((64, 96, 3), 0.5, np.float32), np.ones((64, 96), np.float32), plane),))
    psf = PsfModel(0.21)
    margin = scene_margin_px(10.0, psf)
    pair = render_scene(scene, 10.0, -10.0, psf, margin)
    torch.testing.assert_close(pair.coc_px[0, 0], torch.from_numpy(10 - 20 * plane[0, margin:-margin]))
    torch.testing.assert_close(pair.combined, torch.full_like(pair.combined, 0.5), rtol=0, atol=1e-4)


# ---- apertures ----


def projected(psf: HalfKernels, coc: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Kernels by way of the aperture, whatever the model's own ``kernels`` do."""
    aperture, size = psf.aperture(abs(coc)), psf.kernel_size_px(abs(coc))
    at = torch.tensor([coc], dtype=torch.float64)
    return project(aperture, at, size, aperture.left)[0], project(aperture, at, size, aperture.right)[0]


radial_psfs = st.one_of(
    st.builds(RadialPsf, st.just("gaussian"), st.floats(1.5, 12), st.floats(0.05, 0.4), st.floats(0, 1)),
    st.builds(RadialPsf, st.just("butterworth"), st.floats(2.5, 12), st.floats(0.05, 0.4), st.floats(0, 1)),
    st.builds(
        PsfModel,
        disparity_gain=st.floats(0.05, 0.4),
        edge_px=st.floats(0, 1),
        edge_relative=st.floats(0, 0.2),
        rim=st.floats(-0.5, 1),
        split_offset=st.floats(-0.3, 0.3),
    ),
)


@settings(max_examples=40, deadline=None)
@given(psf=radial_psfs, coc=st.floats(-34, 34))
def test_projected_apertures_keep_energy_and_separate_by_the_gain(psf: PsfModel | RadialPsf, coc: float) -> None:
    left, right = projected(psf, coc)
    assert float(left.min()) >= -1e-12 and float(right.min()) >= -1e-12
    assert float(left.sum()) == pytest.approx(0.5, abs=1e-9) and float(right.sum()) == pytest.approx(0.5, abs=1e-9)
    assert centroid_x(right) - centroid_x(left) == pytest.approx(psf.disparity_gain * coc, rel=0.005, abs=0.005)


def test_light_in_front_of_focus_crosses_over() -> None:
    psf = RadialPsf("gaussian", 4.0, 0.3, split_offset=0.2)
    for behind, front in zip(projected(psf, 9.0), projected(psf, -9.0), strict=True):
        torch.testing.assert_close(front, behind.flip(0, 1))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(projected(psf, 9.0)[0], projected(psf, -9.0)[0])


@pytest.mark.parametrize("psf", [PsfModel(edge_px=0.0), RadialPsf("butterworth", 3.0, edge_px=0.0)])
def test_a_point_in_focus_stays_a_point(psf: HalfKernels) -> None:
    left, right = projected(psf, 0.0)
    point = torch.zeros_like(left)
    point[left.shape[0] // 2, left.shape[1] // 2] = 0.5
    torch.testing.assert_close(left, point)
    torch.testing.assert_close(right, point)


def test_projected_discs_are_those_drawn_in_the_picture() -> None:
    psf = PsfModel(0.3, edge_px=0.4, edge_relative=0.05, rim=0.5)
    size = psf.kernel_size_px(16.0)
    drawn = half_kernels(torch.tensor([16.0], dtype=torch.float64), psf, size)
    for mine, reference in zip(projected(psf, 16.0), drawn, strict=True):
        # a share of light, of 0.5, that lies elsewhere: the edges differ
        assert float((mine - reference[0]).abs().sum()) < 0.02


def test_smooth_profiles_tend_to_the_disc() -> None:
    disc = PsfModel(0.3, edge_px=0.5, edge_relative=0.0)
    size = 31
    full = sum(half_kernels(torch.tensor([12.0], dtype=torch.float64), replace(disc, edge_relative=1e-3), size))
    apart = []
    for order in (3.0, 8.0, 60.0):
        left, right = RadialPsf("gaussian", order, 0.3, edge_px=0.5).kernels(torch.tensor([12.0]).double(), size)
        apart.append(float((left + right - full).abs().sum()))
    assert apart == sorted(apart, reverse=True) and apart[-1] < 0.05


def test_profiles_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"order 1\.0 of a butterworth profile, expected at least 2"):
        RadialPsf("butterworth", 1.0)
    # the straight halves of a Gaussian: 1 / sqrt(pi) diameters apart
    assert RadialPsf("gaussian", 2.0, 0.56).disparity_gain == 0.56
    with pytest.raises(ValueError, match=r"expected in \(0, 0\.56"):
        RadialPsf("gaussian", 2.0, 0.575)


@settings(max_examples=20, deadline=None)
@given(columns=st.integers(1, 4), rows=st.integers(1, 4), gain=st.floats(0.1, 0.424))
def test_cells_share_the_light_and_sum_to_the_half(columns: int, rows: int, gain: float) -> None:
    half = PsfModel(gain).aperture(12.0).right
    cells = split_cells(half, columns, rows)
    torch.testing.assert_close(cells.sum(0), half)
    assert cells.shape[0] == columns * rows
    # a disc is not a product of its shadows: corners have less
    assert float(cells.sum((1, 2)).min()) > 0.25 * 0.5 / (columns * rows)
    with pytest.raises(ValueError, match="expected 1 to 8"):
        Cells(0, 9)


# ---- measured kernels ----


def measured_grid(gains: list[list[float]], coc: float, **kwargs: float) -> PsfGrid:
    sides = zip(
        *(half_kernels(torch.tensor([coc], dtype=torch.float64), PsfModel(gain), 21) for row in gains for gain in row),
        strict=True,
    )
    left, right = (torch.stack(side).reshape(len(gains), len(gains[0]), 21, 21) for side in sides)
    return PsfGrid(left, right, **kwargs)


@pytest.mark.parametrize("at", [12.0, -12.0])
@pytest.mark.parametrize("coc", [3.0, -8.0, 12.0, 40.0])
def test_measured_kernels_scale_with_energy_and_centroid(at: float, coc: float) -> None:
    grid = measured_grid([[0.2, 0.3]], at)
    assert float(grid.diameter_px().mean()) == pytest.approx(12.0, rel=0.03)
    reference = grid.reference_coc_px
    assert reference is not None and reference == pytest.approx(at, rel=0.03)
    for place, gain in ((0.25, 0.2), (0.5, 0.25), (0.75, 0.3), (1.0, 0.3)):
        left, right = grid.kernels(
            torch.tensor([coc], dtype=torch.float64), grid.kernel_size_px(40), field=(0.5, place)
        )
        assert float(left.sum()) == pytest.approx(0.5, abs=1e-9)
        separation = centroid_x(right[0]) - centroid_x(left[0])
        assert separation == pytest.approx(gain * coc * at / reference, rel=1e-4)
    same = grid.kernels(torch.tensor([reference], dtype=torch.float64), 21, field=(0.5, 0.25))
    torch.testing.assert_close(same[0][0], grid.left[0, 0], rtol=0, atol=1e-9)


def test_measured_kernels_that_cannot_be_are_refused() -> None:
    good = torch.rand(2, 3, 5, 5)
    with pytest.raises(ValueError, match=r"expected both \(rows, columns, S, S\) with S odd"):
        PsfGrid(good, good[:, :, :4, :4])
    with pytest.raises(ValueError, match="right kernels: expected finite weights >= 0"):
        PsfGrid(good, good - 1)
    with pytest.raises(ValueError, match=r"measured at a CoC of 0\.50 px"):
        PsfGrid(good, good, 0.5)


def test_pixel4_kernels_are_a_fifth_of_their_diameter_apart(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("pixel4_xin2021/calibration")
    left, right = (
        torch.from_numpy(np.load(folder / f"blur_kernels_{side}.npy")).reshape(6, 8, 61, 61)
        for side in ("left", "right")
    )
    grid = PsfGrid(left, right)
    assert float(grid.disparity_gain().mean()) == pytest.approx(0.21, rel=0.02)
    for coc in (-18.0, 9.0, 30.0):
        for field in ((0.5, 0.5), (0.1, 0.9), (0.3, 0.4)):
            pair = grid.kernels(torch.tensor([coc]), grid.kernel_size_px(abs(coc)), field=field)
            assert (centroid_x(pair[1][0]) - centroid_x(pair[0][0])) / coc == pytest.approx(0.21, rel=0.1)


# ---- whole surfaces ----


def some_surfaces(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A slanted wall and two things in front of it, (1, 3, ...) over 56 x 64."""
    scene = make_scene(5, (56, 64))
    colour = torch.from_numpy(scene.layers[0].colour).permute(2, 0, 1).to(dtype)
    alpha = torch.ones(3, 56, 64, dtype=dtype)
    alpha[1] = 0
    alpha[1, 20:44, 14:36] = 1
    alpha[2] = 0
    alpha[2, 14:34, 28:33] = 0.8
    x = torch.linspace(0, 1, 64, dtype=dtype).expand(56, 64)
    coc = torch.stack([8 - 3 * x, 2 - 4 * x, torch.full_like(x, -7.0)])
    return torch.stack([colour, 1 - colour.flip(1), 1 - colour.flip(2)])[None], alpha[None], coc[None]


MARGIN = 8


def test_one_flat_surface_is_a_convolution() -> None:
    colour, _, _ = some_surfaces()
    alpha, coc = torch.ones(1, 1, 56, 64, dtype=torch.float64), torch.full((1, 1, 56, 64), -7.0, dtype=torch.float64)
    psf = PsfModel()
    pair = render_surfaces(colour[:, :1], alpha, coc, psf, MARGIN)
    for mine, kernel in zip(pair, projected(psf, -7.0), strict=True):
        full = F.conv2d(colour[0, 0, :, None], kernel.flip(0, 1)[None, None])[:, 0]
        cut = MARGIN - kernel.shape[0] // 2
        torch.testing.assert_close(mine[0], full[:, cut:-cut, cut:-cut], rtol=0, atol=1e-9)


def test_white_surfaces_stay_white() -> None:
    colour, alpha, coc = some_surfaces()
    for half in render_surfaces(torch.ones_like(colour), alpha, coc, PsfModel(0.3), MARGIN):
        torch.testing.assert_close(half, torch.full_like(half, 0.5), rtol=0, atol=1e-9)


def test_blur_keeps_the_light_of_a_thing() -> None:
    colour, alpha, coc = some_surfaces()
    # flat, on black: what it emits arrives; and the halves share it evenly
    pair = render_surfaces(colour[:, 2:], alpha[:, 2:], coc[:, 2:], PsfModel(), MARGIN)
    emitted = float((colour[:, 2] * alpha[:, 2:]).sum())
    assert float(sum(half.sum() for half in pair)) == pytest.approx(emitted, rel=1e-9)
    assert float(pair[0].sum()) == pytest.approx(float(pair[1].sum()), rel=1e-9)


def test_a_mirrored_view_swaps_the_halves() -> None:
    planes = some_surfaces()
    left, right = render_surfaces(*planes, PsfModel(), MARGIN)
    mirrored = render_surfaces(*(p.flip(-1) for p in planes), PsfModel(), MARGIN)
    torch.testing.assert_close(mirrored[0].flip(-1), right, rtol=0, atol=1e-9)
    torch.testing.assert_close(mirrored[1].flip(-1), left, rtol=0, atol=1e-9)
    assert float((left - right).abs().max()) > 0.05


def test_the_halves_sum_to_the_full_aperture_where_nothing_overlaps() -> None:
    # with a gain next to nothing either half is half the full aperture
    planes = some_surfaces()
    both = [sum(render_surfaces(*(p[:, :1] for p in planes), PsfModel(g), MARGIN)) for g in (1e-4, 0.21, 0.4)]
    for full in both[1:]:
        # a slanted wall is divided by each half's own share of neighbours
        torch.testing.assert_close(full, both[0], rtol=0, atol=2e-3)


def test_surfaces_in_focus_are_what_a_pinhole_sees() -> None:
    colour, alpha, coc = some_surfaces()
    expected = colour[:, 0]
    for k in (1, 2):
        expected = colour[:, k] * alpha[:, k : k + 1] + expected * (1 - alpha[:, k : k + 1])
    for half in render_surfaces(colour, alpha, 0 * coc, PsfModel(edge_px=0.0), MARGIN):
        torch.testing.assert_close(half, 0.5 * expected[..., MARGIN:-MARGIN, MARGIN:-MARGIN], rtol=0, atol=1e-9)


def test_surfaces_in_batches_and_in_float32() -> None:
    one = some_surfaces()
    other = tuple(p.flip(-2) for p in one)
    batch = render_surfaces(*(torch.cat(p) for p in zip(one, other, strict=True)), PsfModel(), MARGIN)
    for i, planes in enumerate((one, other)):
        single = render_surfaces(*planes, PsfModel(), MARGIN)
        rough = render_surfaces(*(p.float() for p in planes), PsfModel(), MARGIN)
        for together, alone, float32 in zip(batch, single, rough, strict=True):
            torch.testing.assert_close(together[i], alone[0])
            torch.testing.assert_close(float32[0].double(), alone[0], rtol=0, atol=2e-5)


def test_a_grid_of_one_aperture_renders_as_that_aperture() -> None:
    colour, alpha, coc = some_surfaces()
    tiled = render_surfaces(colour, alpha, coc, measured_grid([[0.25] * 3] * 2, 12.0), 12)
    single = render_surfaces(colour, alpha, coc, measured_grid([[0.25]], 12.0), 12)
    for mine, reference in zip(tiled, single, strict=True):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-6)
    varied = render_surfaces(colour, alpha, coc, measured_grid([[0.1, 0.4]], 12.0), 12)
    assert float((varied[0] - single[0]).abs().max()) > 0.01
    # the older way asks the protocol only for kernels: those of the middle of the field
    old = render_layers(colour, alpha, coc[..., 0, 0], measured_grid([[0.1, 0.4]], 12.0), 12)
    middle = render_layers(colour, alpha, coc[..., 0, 0], measured_grid([[0.25]], 12.0), 12)
    torch.testing.assert_close(old[0], middle[0], rtol=0, atol=0.02)


def test_surfaces_refuse_a_margin_too_small() -> None:
    with pytest.raises(ValueError, match=r"margin is 4 px, a CoC of 8\.0 px needs"):
        render_surfaces(*some_surfaces(), PsfModel(), 4)


@settings(max_examples=50, deadline=None)
@given(low=st.floats(-60, 60), span=st.floats(0, 80))
def test_ladder_spans_the_blur(low: float, span: float) -> None:
    ladder = coc_ladder(low, low + span)
    assert ladder == sorted(set(ladder))
    if span >= 1e-3:
        assert ladder[0] == low and ladder[-1] == low + span
        assert all(b - a < 1.3 + 0.12 * max(abs(a), abs(b)) for a, b in pairwise(ladder))
    if len(ladder) > 2 and low < -1 and low + span > 1:
        assert 0.0 in ladder


def test_gradients_of_surfaces() -> None:
    generator = torch.Generator().manual_seed(2)
    colour = torch.rand(1, 2, 1, 9, 10, dtype=torch.float64, generator=generator)
    alpha = torch.ones(1, 2, 9, 10, dtype=torch.float64)
    alpha[:, 1] = torch.rand(9, 10, dtype=torch.float64, generator=generator) * 0.5 + 0.2
    # the ends of the range, which the ladder follows, are held
    coc = torch.tensor([2.4, -1.0], dtype=torch.float64).reshape(1, 2, 1, 1).repeat(1, 1, 9, 10)
    coc[:, :, 0, 0] += 0.45
    coc[:, :, 0, 1] -= 0.45
    middle = (0.6 * torch.rand(1, 2, 2, 3, dtype=torch.float64, generator=generator) - 0.3).requires_grad_()
    psf, inputs = PsfModel(edge_px=0.3), (colour.requires_grad_(), alpha.requires_grad_(), middle)

    def render(colour: torch.Tensor, alpha: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
        moved = coc + F.pad(middle, (4, 3, 4, 3))
        return torch.stack(render_surfaces(colour, alpha, moved, psf, 3, cells=Cells(1, 2)))

    assert torch.autograd.gradcheck(render, inputs, fast_mode=True)


# ---- RGB-D views ----


def exact(image: torch.Tensor, coc: torch.Tensor, psf: HalfKernels) -> tuple[torch.Tensor, torch.Tensor]:
    return render_dual_pixel(image, coc, psf, quality="exact")


def test_exact_views_of_white_stay_white() -> None:
    coc = torch.linspace(-12, 12, 96).expand(1, 1, 64, 96).clone()
    coc[..., 20:40, 30:50] = -12
    for half in exact(torch.full((1, 1, 64, 96), 0.7), coc, PsfModel(0.3)):
        torch.testing.assert_close(half, torch.full_like(half, 0.35), rtol=0, atol=1e-5)


def test_exact_views_in_focus_are_the_image() -> None:
    image = torch.rand(2, 3, 30, 40, generator=torch.Generator().manual_seed(0))
    for half in exact(image, torch.zeros(2, 1, 30, 40), PsfModel(edge_px=0.0)):
        torch.testing.assert_close(half, image / 2, rtol=0, atol=1e-6)


def test_exact_mirrored_views_swap() -> None:
    image = torch.rand(1, 3, 40, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    coc = torch.full((1, 1, 40, 48), 6.0, dtype=torch.float64)
    coc[..., 10:30, 12:28] = -5.0
    left, right = exact(image, coc, PsfModel())
    other = exact(image.flip(-1), coc.flip(-1), PsfModel())
    # filling in goes by blocks of two pixels: not quite the same from either side
    torch.testing.assert_close(other[0].flip(-1), right, rtol=0, atol=2e-2)
    torch.testing.assert_close(other[1].flip(-1), left, rtol=0, atol=2e-2)
    assert float((left - right).abs().max()) > 0.05


def test_gradients_of_exact_views() -> None:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 1, 8, 9, dtype=torch.float64, generator=generator).requires_grad_()
    # a slant, its ends held; without a depth edge all that is discrete stays
    slant = torch.linspace(1.2, 3.8, 9, dtype=torch.float64).expand(1, 1, 8, 9)
    shift = (0.1 * torch.rand(1, 1, 8, 5, dtype=torch.float64, generator=generator)).requires_grad_()

    def render(image: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return torch.stack(exact(image, slant + F.pad(shift, (2, 2)), PsfModel()))

    assert torch.autograd.gradcheck(render, (image, shift), fast_mode=True)


@pytest.mark.filterwarnings("error")
def test_gradients_pass_where_depth_has_edges() -> None:
    image = torch.rand(1, 1, 24, 28, requires_grad=True, generator=torch.Generator().manual_seed(1))
    coc = torch.full((1, 1, 24, 28), 5.0)
    coc[..., 8:16, 10:20] = -4.0
    coc.requires_grad_()
    left, _ = exact(image, coc, PsfModel())
    left.square().sum().backward()
    assert image.grad is not None and float(image.grad.abs().min()) > 0
    assert coc.grad is not None and bool(coc.grad.isfinite().all()) and float(coc.grad.abs().sum()) > 0


def test_the_standard_way_is_what_shipped_weights_saw() -> None:
    # sums of float64 views of the first release: a change here asks for training anew
    scene = make_scene(3, (64, 80))
    pair = render_scene(scene, 9.0, -8.0, PsfModel(), 8, dtype=torch.float64)
    weights = torch.linspace(0, 1, pair.left.numel(), dtype=torch.float64).reshape(pair.left.shape)
    assert [float((view * weights).sum()) for view in (pair.left, pair.right)] == pytest.approx(STANDARD_SUMS, rel=1e-7)


STANDARD_SUMS = (764.3010204779143, 764.4772049540085)


def test_the_whole_aperture_is_the_sum_of_its_halves() -> None:
    """But for visibility, which is judged in half as many parts; alone, a surface has none."""
    psf = PsfModel(0.3, edge_px=0.4, rim=0.5)
    colour, alpha, coc = some_surfaces()
    left, right = render_surfaces(colour, alpha, coc, psf, MARGIN)
    whole = render_surfaces_whole(colour, alpha, coc, psf, MARGIN)
    assert float((whole - left - right).abs().mean()) < 2e-3 and float((whole - left - right).abs().max()) < 0.05
    alone = [planes[:, :1] for planes in (colour, alpha, coc)]
    left, right = render_surfaces(*alone, psf, MARGIN)
    torch.testing.assert_close(render_surfaces_whole(*alone, psf, MARGIN), left + right, atol=1e-4, rtol=0)
    fine = render_surfaces_whole(colour, alpha, coc, psf, MARGIN, cells=Cells(4, 2))
    assert float((fine - whole).abs().mean()) < 2e-3


def test_a_whole_view_and_a_scene_are_those_of_their_halves() -> None:
    psf, margin = PsfModel(0.3), 12
    scene = make_scene(3, (64 + 2 * margin, 80 + 2 * margin))
    pair = render_scene(scene, 8.0, -5.0, psf, margin, quality="exact")
    stack = render_scene_stack(scene, [(8.0, -5.0), (0.0, 0.0)], psf, margin)
    assert stack.shape == (2, 3, 64, 80) and float((stack[0] - pair.combined).abs().mean()) < 2e-3
    sharp = torch.from_numpy(scene.all_in_focus()[margin:-margin, margin:-margin]).permute(2, 0, 1)
    in_focus = render_scene_stack(scene, [(0.0, 0.0)], replace(psf, edge_px=0.0), margin)[0]
    torch.testing.assert_close(in_focus, sharp, atol=1e-4, rtol=0)
    left, right = render_dual_pixel(sharp[None], pair.coc_px[None], psf, quality="exact")
    assert float((render_whole(sharp[None], pair.coc_px[None], psf) - left - right).abs().mean()) < 2e-3
