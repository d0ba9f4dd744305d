"""The renderer against slow references: direct convolution, a Monte-Carlo lens, and by-hand numbers."""

from __future__ import annotations

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
    scene_margin_px,
)
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
