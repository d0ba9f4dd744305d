"""Gather and focus stacks against the formula, and the one way into all fast renderers with its errors."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dualpix.capture.errors import DualpixError
from dualpix.capture.optics import circle_of_confusion_px
from dualpix.capture.render import (
    METHODS,
    GatherPsf,
    Method,
    PsfModel,
    UnitsWarning,
    render,
    render_dual_pixel,
    render_dual_pixel_stack,
    render_integral,
    render_stack,
    stack_coc_px,
)
from dualpix.capture.render.gather import gather, gather_direct
from dualpix.capture.render.inputs import check_memory
from dualpix.capture.scenes import make_scene
from dualpix.capture.types import LensModel

FLOATS = torch.float64
LENS = LensModel(focal_length_mm=50.0, f_number=4.0, focus_distance_m=1.0, pixel_pitch_um=60.0, disparity_gain=0.21)


def picture(size_hw: tuple[int, int] = (48, 64), seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(1, 3, H, W) of a procedural scene."""
    return torch.from_numpy(make_scene(seed, size_hw).all_in_focus()).permute(2, 0, 1)[None].to(dtype)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = FLOATS) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gathered_by_hand(image: np.ndarray, coc: np.ndarray, power: float) -> np.ndarray:
    """I(x) = sum w(x - y; c(x)) J(y) / sum w over all of (H, W), a pixel at a time."""
    h, w = image.shape
    yy, xx = np.mgrid[:h, :w]
    out = np.empty_like(image)
    for y in range(h):
        for x in range(w):
            weight = np.exp(-2 * (np.hypot(yy - y, xx - x) / (abs(coc[y, x]) / 2)) ** power)
            out[y, x] = (weight * image).sum() / weight.sum()
    return out


@pytest.mark.parametrize("power", [1.5, 2.0, 8.0])
def test_direct_is_the_formula(power: float) -> None:
    rng = np.random.default_rng(0)
    image, coc = rng.random((14, 17)), rng.uniform(1, 9, (14, 17)) * rng.choice([-1, 1], (14, 17))
    mine = gather_direct(torch.from_numpy(image)[None, None], torch.from_numpy(coc)[None, None], GatherPsf(power))
    # the window ends where a weight falls below a thousandth
    np.testing.assert_allclose(mine[0, 0, 0].numpy(), gathered_by_hand(image, coc, power), rtol=0, atol=2e-3)
    whole = gather_direct(
        torch.from_numpy(image)[None, None], torch.from_numpy(coc)[None, None], GatherPsf(power, reach_px=17)
    )
    np.testing.assert_allclose(whole[0, 0, 0].numpy(), gathered_by_hand(image, coc, power), rtol=0, atol=1e-5)


# Worst pixel of white noise in [0, 1] and PSNR on a scene; noise is the hardest picture there is. Blending discs
# softens their rims, so the more p resembles a disc, the larger the error: 32 is at the end of the published range.
@pytest.mark.parametrize(
    ("power", "noise_error", "scene_db"), [(2.0, 0.015, 65.0), (4.0, 0.03, 63.0), (8.0, 0.08, 59.0), (32.0, 0.25, 50.0)]
)
def test_blend_is_close_to_the_formula(power: float, noise_error: float, scene_db: float) -> None:
    psf, size = GatherPsf(power), (40, 96)
    coc = torch.linspace(-14, 14, 96).expand(1, 1, *size)
    hard, scene = noise(1, 1, *size, dtype=torch.float32), picture(size)
    assert float((gather(hard, coc, psf) - gather_direct(hard, coc, psf)).abs().max()) < noise_error
    mean_squared = (gather(scene, coc, psf) - gather_direct(scene, coc, psf)).square().mean()
    assert float(-10 * torch.log10(mean_squared)) > scene_db


def test_error_of_the_blend_is_of_second_order() -> None:
    image, coc = noise(1, 1, 40, 60), torch.linspace(3, 12, 60, dtype=FLOATS).expand(1, 1, 40, 60)
    truth = gather_direct(image, coc, GatherPsf(reach_px=14))
    coarse, fine = (
        float((gather(image, coc, GatherPsf(reach_px=14), step=step) - truth).square().mean().sqrt())
        for step in (0.3, 0.1)
    )
    assert 5 < coarse / fine < 14  # 9 for an exact square law


@settings(max_examples=25, deadline=None)
@given(power=st.floats(1, 32), blur=st.floats(0, 20), sharp=st.sampled_from([0.0, 1.0]))
def test_a_flat_picture_stays_flat_up_to_the_border(power: float, blur: float, sharp: float) -> None:
    coc = torch.linspace(-blur, blur, 30).expand(1, 1, 24, 30)
    views = gather(torch.full((1, 2, 24, 30), 0.6), coc, GatherPsf(power, sharp_radius_px=sharp))
    torch.testing.assert_close(views, torch.full((1, 1, 2, 24, 30), 0.6), rtol=0, atol=2e-5)


@pytest.mark.parametrize("power", [2.0, 16.0])
def test_kernel_keeps_light_and_has_the_second_moment_of_its_radius(power: float) -> None:
    image = torch.zeros(1, 1, 61, 61, dtype=FLOATS)
    image[..., 30, 30] = 1.0
    radius = 8.2
    kernel = gather(image, torch.full((1, 1, 61, 61), 2 * radius, dtype=FLOATS), GatherPsf(power, reach_px=28))[0, 0, 0]
    assert float(kernel.sum()) == pytest.approx(1.0, abs=1e-5)  # its far tail meets the border
    x = torch.arange(61, dtype=FLOATS) - 30
    # of exp(-2 (r/R)^p) in the plane: <x^2> = R^2 / 2 * 2^(-2/p) Gamma(4/p) / Gamma(2/p)
    expected = radius**2 / 2 * 2 ** (-2 / power) * math.gamma(4 / power) / math.gamma(2 / power)
    assert float((kernel.sum(0) * x**2).sum()) == pytest.approx(expected, rel=0.01)


def test_in_focus_it_is_the_image_to_the_bit() -> None:
    image = picture()
    for coc in (0.0, 0.3):
        assert torch.equal(gather(image, torch.zeros(1, 2, 48, 64), GatherPsf())[:, 1], image)
        views = gather(image, torch.full((1, 1, 48, 64), coc), GatherPsf())
        torch.testing.assert_close(views[:, 0], image, rtol=0, atol=1e-4)
    # as published, a radius up to 1 px is focus, whatever is around
    ramp = torch.linspace(0, 6, 64).expand(1, 1, 48, 64)
    assert torch.equal(gather(image, ramp, GatherPsf.fossa())[0, 0][..., :21], image[0, ..., :21])
    assert not torch.equal(gather(image, ramp, GatherPsf.fossa())[0, 0][..., 30:], image[0, ..., 30:])


def test_published_window_is_fifteen_pixels() -> None:
    image = torch.zeros(1, 1, 41, 41)
    image[..., 20, 20] = 1.0
    for renderer in (gather, gather_direct):
        kernel = renderer(image, torch.full((1, 1, 41, 41), 16.0), GatherPsf.fossa(8.0))[0, 0, 0]
        assert kernel[20, 13] > 1e-3 and kernel[20, 27] > 1e-3
        assert float(kernel[:13].abs().max()) < 1e-6 and float(kernel[:, 28:].abs().max()) < 1e-6


def test_a_pixel_depends_on_its_own_depth_alone() -> None:
    image, coc = picture(), torch.full((1, 1, 48, 64), 5.0)
    other = coc.clone()
    other[..., 40:] = -37.0
    torch.testing.assert_close(gather(image, coc)[..., :40], gather(image, other)[..., :40], rtol=0, atol=1e-5)


def test_twice_the_picture_with_twice_the_coc_is_twice_the_view() -> None:
    grid = torch.linspace(0, 6, 64, dtype=FLOATS)
    small = (2 + torch.sin(grid)[:, None] * torch.cos(grid)).reshape(1, 1, 64, 64)
    coc = 7 + torch.linspace(0, 3, 64, dtype=FLOATS).expand(1, 1, 64, 64)

    def double(image: torch.Tensor) -> torch.Tensor:
        return F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)

    difference = (double(gather(small, coc)[:, 0]) - gather(double(small), 2 * double(coc))[:, 0])[..., 24:-24, 24:-24]
    assert float(difference.abs().max()) < 0.005


@pytest.mark.parametrize("power", [2.0, 6.0])
@pytest.mark.parametrize("renderer", [gather, gather_direct])
def test_gradients_in_image_and_coc(renderer: Any, power: float) -> None:
    image = noise(1, 2, 3, 4).requires_grad_()
    coc = (noise(1, 2, 3, 4, seed=1) * 5 + 1).requires_grad_()
    psf = GatherPsf(power, reach_px=2)
    assert torch.autograd.gradcheck(lambda i, c: renderer(i, c, psf), (image, coc), atol=1e-6)


@pytest.mark.parametrize("power", [2.0, 32.0])
@pytest.mark.parametrize("renderer", [gather, gather_direct])
def test_gradients_are_finite_in_focus_and_in_float32(renderer: Any, power: float) -> None:
    image = noise(1, 1, 12, 14, dtype=torch.float32).requires_grad_()
    coc = torch.linspace(-9, 9, 14).expand(1, 1, 12, 14).clone()
    coc[..., 5:8] = 0.0
    coc.requires_grad_()
    renderer(image, coc, GatherPsf(power)).square().sum().backward()
    assert image.grad is not None and coc.grad is not None
    assert bool(image.grad.isfinite().all()) and bool(coc.grad.isfinite().all()) and float(coc.grad.abs().sum()) > 0


def test_gradient_of_the_blend_is_that_of_the_formula() -> None:
    image = picture((32, 40), dtype=FLOATS)
    coc = torch.linspace(3, 12, 40, dtype=FLOATS).expand(1, 1, 32, 40).clone().requires_grad_()
    grads = []
    for view in (gather(image, coc, step=0.05), gather_direct(image, coc)):
        grads.append(torch.autograd.grad(view.square().sum(), coc)[0].flatten())
    assert float(torch.corrcoef(torch.stack(grads))[0, 1]) > 0.99
    assert float(grads[0].norm() / grads[1].norm()) == pytest.approx(1.0, abs=0.05)


# --- focus stacks -----------------------------------------------------------------------------------------------------


def room(batch: int = 1, size_hw: tuple[int, int] = (48, 64), dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(B, 1, H, W) depths from 0.6 m to 3 m."""
    return torch.linspace(0.6, 3.0, size_hw[1], dtype=dtype).expand(batch, 1, *size_hw).clone()


def test_stack_is_one_view_per_focus_distance() -> None:
    image, depth = torch.cat([picture(seed=1), picture(seed=2)]), room(2)
    depth[1] *= 1.5
    stack = render_stack(image, depth, [0.7, 1.2, math.inf], LENS)
    assert stack.shape == (2, 3, 3, 48, 64)
    for n, focus in enumerate((0.7, 1.2, math.inf)):
        lens = LensModel(50.0, 4.0, focus, 60.0, 0.21)
        alone = render(image, depth_m=depth, lens=lens, method="gather")
        torch.testing.assert_close(stack[:, n], alone.combined, rtol=0, atol=1e-5)
        assert alone.left is None
        with pytest.raises(DualpixError, match="full aperture alone"):
            _ = alone.pair


def test_stack_is_sharpest_where_it_is_focused() -> None:
    image, depth = noise(1, 1, 48, 64, dtype=torch.float32), room()
    distances = [0.7, 1.0, 1.5, 2.5]
    stack = render_stack(image, depth, distances, LENS)
    detail = (stack[0, :, 0, :, 1:] - stack[0, :, 0, :, :-1]).abs().mean(1)  # (N, W - 1)
    for n, focus in enumerate(distances):
        column = int((depth[0, 0, 0] - focus).abs().argmin())
        assert int(detail[:, column - 2 : column + 2].mean(1).argmax()) == n


def test_focus_distances_may_differ_in_the_batch() -> None:
    image, depth = torch.cat([picture(seed=1), picture(seed=2)]), room()
    focus = torch.tensor([[0.7, 1.1], [1.5, 3.0]])
    stack = render_stack(image, depth, focus, LENS)  # one depth map serves both
    for b in range(2):
        alone = render_stack(image[b : b + 1], depth, focus[b], LENS)
        torch.testing.assert_close(stack[b : b + 1], alone, rtol=0, atol=1e-5)
    with pytest.raises(DualpixError, match=r"focus distances of shape \(3, 2\) for 2 views"):
        render_stack(image, depth, torch.ones(3, 2), LENS)


def test_stack_has_signed_circles_and_passes_gradients_to_depth() -> None:
    image, depth = picture((24, 32), dtype=FLOATS), room(1, (24, 32), FLOATS).requires_grad_()
    coc = stack_coc_px(image, depth, [1.0, 2.0], LENS)
    assert coc.shape == (1, 2, 24, 32)
    torch.testing.assert_close(coc[:, :1], circle_of_confusion_px(depth, LENS))
    assert bool((coc[0, 0][depth[0, 0] > 1] > 0).all()) and bool((coc[0, 0][depth[0, 0] < 1] < 0).all())
    render_stack(image, depth, [1.0, 2.0], LENS).square().sum().backward()
    assert depth.grad is not None and float(depth.grad.abs().min()) >= 0 and float(depth.grad.abs().mean()) > 0


@pytest.mark.parametrize("method", ["layered", "integral"])
def test_dual_pixel_stack_is_one_pair_per_focus_distance(method: Method) -> None:
    image, depth = picture((32, 48)), room(1, (32, 48))
    left, right = render_dual_pixel_stack(image, depth, [0.9, 1.6], LENS, method=method, layers=6)
    assert left.shape == right.shape == (1, 2, 3, 32, 48)
    for n, focus in enumerate((0.9, 1.6)):
        lens = LensModel(50.0, 4.0, focus, 60.0, 0.21)
        alone = render(image, depth_m=depth, lens=lens, method=method, layers=6)
        torch.testing.assert_close(torch.stack((left[:, n], right[:, n])), torch.stack(alone.pair), rtol=0, atol=1e-5)
    whole = render_stack(image, depth, [0.9, 1.6], LENS, method=method, layers=6)
    torch.testing.assert_close(whole, left + right)


# --- one way in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_focus_flatness_and_the_sum_of_halves(method: Method) -> None:
    image = picture((40, 56))
    # without the soft edge that a pixel has even at focus
    psf = PsfModel(edge_px=0.05) if method == "layered" else None
    sharp = render(image, coc_px=torch.zeros(1, 1, 40, 56), method=method, psf=psf)
    torch.testing.assert_close(sharp.combined, image, rtol=0, atol=1e-5)
    ramp = torch.linspace(-9, 9, 56).expand(1, 1, 40, 56)
    flat = render(torch.full((1, 3, 40, 56), 0.7), coc_px=ramp, method=method)
    if method != "integral":  # without occlusion, light of different blur does not add up
        torch.testing.assert_close(flat.combined, torch.full((1, 3, 40, 56), 0.7), rtol=0, atol=1e-3)
    constant = render(torch.full((1, 3, 40, 56), 0.7), coc_px=torch.full((1, 1, 40, 56), 8.0), method=method)
    torch.testing.assert_close(constant.combined, torch.full((1, 3, 40, 56), 0.7), rtol=0, atol=1e-3)
    if method != "gather":
        left, right = flat.pair
        assert torch.equal(left + right, flat.combined)


def test_methods_are_the_renderers_behind_them() -> None:
    image, coc = picture((40, 56)), torch.linspace(-7, 8, 56).expand(1, 1, 40, 56)
    layered = render(image, coc_px=coc, psf=PsfModel(0.3), layers=9)
    torch.testing.assert_close(
        torch.stack(layered.pair), torch.stack(render_dual_pixel(image, coc, PsfModel(0.3), layers=9))
    )
    inner = (..., slice(6, -6), slice(6, -6))
    integral = render(image, coc_px=coc, method="integral")
    for mine, bare in zip(integral.pair, render_integral(image, coc), strict=True):
        torch.testing.assert_close(mine[inner], bare[inner], rtol=0, atol=1e-6)
    assert torch.equal(
        render(image, coc_px=coc, method="gather", psf=GatherPsf(4)).combined, gather(image, coc, GatherPsf(4))[:, 0]
    )


def test_layered_takes_the_gain_of_the_lens() -> None:
    image = torch.zeros(1, 1, 41, 61)
    image[..., 20, 30] = 1.0
    depth = torch.full((1, 1, 41, 61), 1.5)
    left, right = render(image, depth_m=depth, lens=LENS, layers=2).pair
    x = torch.arange(61.0)
    apart = float((right[0, 0].sum(0) * x).sum() / right.sum() - (left[0, 0].sum(0) * x).sum() / left.sum())
    assert apart == pytest.approx(0.21 * float(circle_of_confusion_px(1.5, LENS)), rel=0.03)
    with pytest.raises(DualpixError, match=r"disparity_gain is 0\.5; expected above 0, at most 0\.424"):
        render(image, depth_m=depth, lens=LensModel(50.0, 4.0, 1.0, 60.0, 0.5))


def spoiled(value: float, count: int) -> torch.Tensor:
    depth = room()
    depth.view(-1)[:count] = value
    return depth


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth_m": spoiled(math.nan, 7)}, r"depth has 7 NaN of 3072 pixels; .*fill holes"),
        ({"depth_m": spoiled(0.0, 5)}, "depth has 5 zero of 3072"),
        ({"depth_m": spoiled(-1.0, 3)}, "depth has 3 negative of 3072"),
        ({"depth_m": room()[..., :-1]}, "depth is 1 x 63x48, the image 1 x 64x48"),
        ({"depth_m": room(3)}, "depth is 3 x 64x48, the image 1 x 64x48"),
        ({"depth_m": room()[0]}, r"depth of shape \(1, 48, 64\)"),
        ({"depth_m": room().long()}, r"torch\.int64"),
        ({"depth_m": room().expand(1, 2, 48, 64)}, "one channel"),
        ({"depth_m": room(), "lens": None}, "depth_m without a lens"),
        ({"depth_m": room(), "coc_px": room()}, "both coc_px and depth_m"),
        ({}, "neither coc_px nor depth_m"),
        ({"depth_m": room(), "lens": LensModel(50.0, 4.0, 0.04, 60.0)}, r"focus distance 0\.04 m is within the focal"),
        ({"depth_m": room(), "lens": LensModel(50.0, 4.0, 1.0, 2.0)}, "CoC of 2[0-9]+ px in an image of 1 x 64x48"),
        ({"coc_px": torch.full((1, 1, 48, 64), math.inf)}, "CoC has 3072 NaN or infinite of 3072"),
        ({"coc_px": torch.full((1, 1, 48, 64), 49.0)}, "CoC of 49 px .* at most its shorter side, 48 px"),
        ({"coc_px": torch.zeros(1, 2, 48, 64)}, "render_stack takes many"),
        ({"coc_px": torch.zeros(1, 1, 48, 64), "psf": GatherPsf()}, "a GatherPsf for method 'layered'"),
        ({"coc_px": torch.zeros(1, 1, 48, 64), "psf": PsfModel(), "method": "gather"}, "a PsfModel for method"),
        ({"coc_px": torch.zeros(1, 1, 48, 64), "psf": PsfModel(), "method": "integral"}, "a PSF for method 'integral'"),
        ({"coc_px": torch.zeros(1, 1, 48, 64), "method": "fast"}, "unknown method 'fast'; expected one of: gather"),
        ({"image": torch.full((1, 3, 48, 64), math.nan), "coc_px": room()}, "image has 9216 NaN or infinite"),
        ({"image": torch.zeros(3, 48, 64), "coc_px": room()}, r"image of shape \(3, 48, 64\)"),
        ({"image": torch.zeros(1, 3, 48, 64, dtype=torch.uint8), "coc_px": room()}, r"image of torch\.uint8"),
    ],
)
def test_bad_input_is_refused_with_the_reason(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DualpixError, match=message) as caught:
        render(**{"image": picture(), "lens": LENS, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scale", "lens", "message"),
    [
        (1000.0, LENS, "median depth is 1781 m with focus at 1 m: looks like millimetres"),
        (1.0, LensModel(50.0, 4.0, 1500.0, 60.0), "focus is at 1500 m .* looks like millimetres"),
        (1.0, LensModel(0.05, 4.0, 1.0, 60.0), r"focal length is 0\.05 mm: looks like metres"),
        (1.0, LensModel(50.0, 4.0, 1.0, 0.06), r"pixel pitch is 0\.06 um: looks like millimetres"),
    ],
)
def test_implausible_units_are_told(scale: float, lens: LensModel, message: str) -> None:
    with pytest.warns(UnitsWarning, match=message):
        try:
            render(picture(), depth_m=scale * room(), lens=lens, method="gather")
        except DualpixError as error:
            assert "CoC of" in str(error) or "lens " in str(error)


def test_plausible_units_are_not_doubted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        far = room() * 1e4
        far[..., :32] = math.inf
        for depth, focus in ((room(), 1.0), (far, 100.0), (room(), math.inf)):
            render(picture(), depth_m=depth, lens=LensModel(50.0, 4.0, focus, 60.0), method="gather")


@pytest.mark.parametrize("method", METHODS)
def test_memory_is_bounded_before_allocation(method: Method) -> None:
    # 32 views in the memory of one value
    image = torch.zeros(1, 1, 1, 1).expand(32, 3, 200, 300)
    with pytest.raises(DualpixError, match=r"would take about .* at most 0\.0 GiB; render a smaller batch"):
        render(image, coc_px=torch.zeros(1, 1, 200, 300), method=method, memory_limit_bytes=1 << 20)
    with pytest.raises(DualpixError, match=r"ten copies would take about 10\.0 GiB; expected at most 8\.0 GiB"):
        check_memory(10 * 2.0**30, 8 << 30, "ten copies")


@pytest.mark.parametrize("change", [{"power": 0.5}, {"power": math.nan}, {"reach_px": 0}, {"sharp_radius_px": -1.0}])
def test_impossible_kernels_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DualpixError, match="expected"):
        GatherPsf(**change)
