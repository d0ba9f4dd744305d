"""The ray tracer against closed forms, the analytic kernels and a real light field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.lightfield import load_light_field, view_aperture
from torch import Tensor

from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.render import PsfModel, half_kernels
from dualpix.capture.render.compare import band_around, compare, depth_edges
from dualpix.capture.render.raytrace import (
    ApertureSamples,
    Surface,
    TracedPair,
    sample_aperture,
    scene_surfaces,
    surfaces_from_depth,
    torn_cells,
    torn_cells_of_depth,
    trace,
)
from dualpix.capture.scenes import make_scene

HARD = PsfModel(IDEAL_DISPARITY_GAIN, edge_px=0.0, edge_relative=0.0)
"""Two half discs."""


def flat(colour: Tensor, coc: float, alpha: Tensor | None = None) -> Surface:
    plane = colour[0]
    return Surface(colour, torch.ones_like(plane) if alpha is None else alpha, torch.full_like(plane, coc))


def one_ray(x: float, y: float = 0.0) -> list[ApertureSamples]:
    half = torch.full((1,), 0.5, dtype=torch.float64)
    return [ApertureSamples(torch.tensor([[x, y]], dtype=torch.float64), half, half, torch.zeros(1, 2))]


def views(pair: TracedPair) -> Tensor:
    return torch.stack([pair.left, pair.right])


def columns(height: int, width: int) -> Tensor:
    """(1, height, width): the x of every pixel, so that what is read tells where."""
    return torch.arange(width, dtype=torch.float64).expand(1, height, width).clone()


# ---- point spread and the split ----


@pytest.mark.parametrize(
    ("psf", "coc"),
    [
        (PsfModel(0.21, edge_px=0.0), 10.0),
        (PsfModel(0.21, edge_px=0.0), -10.0),
        (PsfModel(0.35, edge_px=0.0, edge_relative=0.03, rim=0.5, split_offset=0.2), 8.0),
        (HARD, 6.0),
        (PsfModel(), 12.0),
    ],
)
def test_a_point_spreads_as_the_analytic_kernels(psf: PsfModel, coc: float) -> None:
    size = psf.kernel_size_px(abs(coc)) + 2
    point = torch.zeros(1, size, size)
    point[0, size // 2, size // 2] = 1
    traced = trace([flat(point, coc)], sample_aperture(psf, 8192))
    analytic = half_kernels(
        torch.tensor([coc], dtype=torch.float64), replace(psf, edge_relative=max(psf.edge_relative, 1e-3)), size
    )
    x = torch.arange(size) - size // 2
    centroid = [float((view[0].sum(0) * x).sum() / view.sum()) for view in views(traced)]
    # the sign: behind focus the right half's light lands right
    assert centroid[1] - centroid[0] == pytest.approx(psf.disparity_gain * coc, rel=0.01)
    for view, kernel in zip(views(traced), analytic, strict=True):
        assert float(view.sum()) == pytest.approx(0.5, abs=1e-5)
        # the kernels are sampled at a third of a pixel, which alone moves 1 to 4 % of a small hard disc's light
        assert float((view[0] - kernel[0]).abs().sum()) < 0.05 * 0.5


def test_an_off_centre_split_crosses_over_in_front_of_focus() -> None:
    # the split is a place on the lens: in front of focus the picture of the lens is upside down, behind it upright
    psf = PsfModel(0.3, edge_px=0.0, split_offset=0.4)
    point = torch.zeros(1, 21, 21)
    point[0, 10, 10] = 1
    behind, front = (trace([flat(point, c)], sample_aperture(psf, 2048)) for c in (10.0, -10.0))
    error = (front.left.flip(2) - behind.left).abs().sum() / 0.5
    assert float(error) < 0.08
    assert float((front.right - behind.left).abs().sum() / 0.5) > 0.2


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.05, 0.4), rim=st.floats(-0.5, 2.0), offset=st.floats(-0.3, 0.3), edge=st.floats(0.0, 0.15))
def test_halves_of_the_aperture_carry_the_same_light(gain: float, rim: float, offset: float, edge: float) -> None:
    for samples in sample_aperture(PsfModel(gain, 0.3, edge, rim, offset), 1024, sets=2):
        assert float(samples.left.sum()) == pytest.approx(0.5, abs=1e-12)
        assert float(samples.right.sum()) == pytest.approx(0.5, abs=1e-12)
        assert min(float(samples.left.min()), float(samples.right.min())) >= 0
        x = samples.position[:, 0]
        # in radii: twice the share of the diameter
        apart = 2 * float((samples.right * x).sum() - (samples.left * x).sum())
        assert apart == pytest.approx(2 * gain, abs=0.02)
        if offset == 0:
            full = samples.left + samples.right
            torch.testing.assert_close(full, torch.full_like(full, 1 / 512), rtol=0, atol=1e-12)


# ---- light is neither made nor lost ----


def test_zero_defocus_is_the_image() -> None:
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pair = trace([flat(image, 0.0)], sample_aperture(PsfModel(edge_px=0.0), 64))
    torch.testing.assert_close(pair.combined, image, rtol=0, atol=1e-12)
    torch.testing.assert_close(pair.left, pair.right, rtol=0, atol=1e-12)


def test_a_white_scene_stays_white() -> None:
    scene = make_scene(4, (64, 80))
    surfaces = [replace(s, colour=torch.ones_like(s.colour)) for s in scene_surfaces(scene, 9.0, -12.0)]
    for view in views(trace(surfaces, sample_aperture(PsfModel(), 64), 4)):
        torch.testing.assert_close(view, torch.full_like(view, 0.5), rtol=0, atol=1e-5)


def test_blur_keeps_the_light_of_a_patch() -> None:
    image = torch.zeros(1, 60, 70, dtype=torch.float64)
    image[:, 25:35, 30:40] = torch.rand(1, 10, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pair = trace([flat(image, -9.0)], sample_aperture(PsfModel(), 256))
    assert float(pair.combined.sum()) == pytest.approx(float(image.sum()), rel=1e-9)


def test_a_mirrored_scene_swaps_the_views() -> None:
    surfaces = scene_surfaces(make_scene(7, (48, 64)), 8.0, -8.0, dtype=torch.float64)
    mirrored = [Surface(s.colour.flip(2), s.alpha.flip(1), s.coc_px.flip(1)) for s in surfaces]
    aperture = sample_aperture(PsfModel(), 64)
    pair, other = trace(surfaces, aperture), trace(mirrored, aperture)
    torch.testing.assert_close(other.left.flip(2), pair.right, rtol=0, atol=1e-4)
    assert float((pair.left - pair.right).abs().max()) > 0.02


# ---- occlusion: by hand ----


def open_share(t: Tensor) -> Tensor:
    """Share of a unit disc with x < t: the circular segment."""
    t = t.clamp(-1, 1)
    return 0.5 + (t * (1 - t * t).sqrt() + t.asin()) / math.pi


def half_shares(threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the disc that the left and the right half hold of x < ``threshold``."""
    left = open_share(threshold.clamp_max(0))
    return left, open_share(threshold) - left


EDGE = 40
SPREAD = torch.linspace(-0.5, 0.5, 41, dtype=torch.float64)[:, None]
"""An edge between two pixel centres is a bilinear ramp: the mean over hard edges between them."""


def wall_edge(bright_right: bool) -> Tensor:
    plane = torch.zeros(9, 80, dtype=torch.float64)
    plane[:, EDGE:] = 1
    return plane if bright_right else 1 - plane


@pytest.mark.parametrize("coc", [12.0, -12.0, 5.0])
def test_share_of_the_aperture_behind_a_straight_edge(coc: float) -> None:
    """A black half plane x < edge over white: what is left is a circular segment of the lens."""
    white = torch.ones(1, 9, 80, dtype=torch.float64)
    pair = trace([flat(white, 20.0), flat(0 * white, coc, wall_edge(False))], sample_aperture(HARD, 8192))
    distance = torch.arange(80, dtype=torch.float64) - (EDGE - 0.5)
    # a ray passes if p - u c / 2 lies right of the edge: u < t behind focus, u > t in front of it
    t = 2 * (distance - SPREAD) / coc
    left, right = half_shares(t) if coc > 0 else half_shares(-t)[::-1]
    torch.testing.assert_close(pair.left[0, 4], left.mean(0), rtol=0, atol=2e-3)
    torch.testing.assert_close(pair.right[0, 4], right.mean(0), rtol=0, atol=2e-3)


@pytest.mark.parametrize(("front", "back"), [(-8.0, 10.0), (4.0, 12.0), (-12.0, -5.0), (-9.0, 0.0)])
def test_two_edges_block_the_same_part_of_the_lens(front: float, back: float) -> None:
    """A black half plane in front of a black and white wall: a ray must pass both, which is no product of shares."""
    black = torch.zeros(1, 9, 80, dtype=torch.float64)
    wall = wall_edge(True)[None]
    pair = trace([flat(wall, back), flat(black, front, wall_edge(False))], sample_aperture(HARD, 8192))
    distance = (torch.arange(80, dtype=torch.float64) - (EDGE - 0.5))[:, None]
    ramp = torch.linspace(-0.475, 0.475, 20, dtype=torch.float64)
    u = torch.linspace(-1, 1, 4001, dtype=torch.float64)[:, None, None]
    chord = (1 - u[:, 0, 0] ** 2).sqrt()
    passes = [((distance - u * c / 2 - ramp) > 0).double().mean(-1) for c in (front, back)]
    both = passes[0] * passes[1] * (chord / chord.sum())[:, None]  # (u, pixel)
    torch.testing.assert_close(pair.left[0, 4], both[:2000].sum(0), rtol=0, atol=4e-3)
    torch.testing.assert_close(pair.right[0, 4], both[2000:].sum(0), rtol=0, atol=4e-3)


@pytest.mark.parametrize("slope", [0.3, 1.2, -1.5])
@pytest.mark.parametrize("u", [0.9, -0.5])
def test_rays_meet_a_slanted_plane_where_they_must(slope: float, u: float) -> None:
    x = columns(6, 120)
    coc = slope * (x[0] - 60)
    seen = trace([Surface(x, torch.ones_like(coc), coc)], one_ray(u, 0.3)).combined[0, 2]
    # X = p - u c / 2 and c = slope (X - 60)
    expected = (x[0, 0] + u * slope * 30) / (1 + u * slope / 2)
    torch.testing.assert_close(seen[45:75], expected[45:75], rtol=0, atol=2e-3)


def test_planes_that_cross_hide_each_other_by_depth_not_by_order() -> None:
    x = columns(8, 64)
    rising, falling = 0.3 * (x[0] - 32), -0.3 * (x[0] - 32)
    white, black = (Surface(torch.full_like(x, v), torch.ones_like(c), c) for v, c in ((1.0, rising), (0.0, falling)))
    aperture = sample_aperture(PsfModel(), 64)
    one, other = trace([white, black], aperture).combined, trace([black, white], aperture).combined
    assert float((one - other).abs()[..., :31].max()) < 1e-9 and float((one - other).abs()[..., 34:].max()) < 1e-9
    # smaller CoC is nearer: left of the crossing the rising plane is
    assert float(one[0, 4, 10]) == pytest.approx(1) and float(one[0, 4, 54]) == pytest.approx(0)


def test_tears_let_rays_through_and_connected_cells_do_not() -> None:
    x = columns(9, 80)
    coc = torch.where(x[0] < EDGE, -10.0, 10.0).double()
    view = Surface((x < EDGE).double(), torch.ones_like(coc), coc, torn_cells(coc))
    behind = flat(torch.full_like(x, 2.0), 10.0)
    # through u = 0.5 the near half plane lands 2.5 px left, the far one 2.5 px right: what is uncovered lies between
    seen = trace([behind, view], one_ray(0.5)).combined[0, 4]
    assert seen[36].item() == 1 and seen[43].item() == 0
    assert torch.equal(seen[38:42], torch.full((4,), 2.0).double())
    joined = trace([behind, Surface(view.colour, view.alpha, coc)], one_ray(0.5)).combined[0, 4]
    assert float(joined.max()) <= 1
    # through u = -0.5 the near one covers the far one and nothing shows
    assert float(trace([behind, view], one_ray(-0.5)).combined.max()) <= 1


def test_march_and_secant_agree() -> None:
    surface = scene_surfaces(make_scene(11, (48, 64)), 10.0, -10.0, dtype=torch.float64)[0]
    coc = torch.nn.functional.avg_pool2d(surface.coc_px[None], 5, 1, 2, count_include_pad=False)[0]
    gentle = replace(surface, coc_px=coc)
    marched = replace(gentle, torn=torch.zeros(47, 63, dtype=torch.bool))
    aperture = sample_aperture(PsfModel(), 16, sets=2)
    torch.testing.assert_close(
        trace([marched], aperture).combined, trace([gentle], aperture).combined, rtol=0, atol=5e-3
    )


# ---- RGB-D views ----


def test_rgbd_view_of_two_planes_renders_as_the_planes_themselves() -> None:
    cover = torch.zeros(64, 80, dtype=torch.float64)
    cover[20:44, 25:50] = 1
    back = torch.stack([torch.linspace(0.2, 0.5, 80).expand(64, 80).double()])
    front = torch.rand(1, 64, 80, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    image = torch.where(cover > 0, front, back)
    coc = torch.where(cover > 0, -8.0, 6.0).double()
    surfaces = surfaces_from_depth(image, coc, torn_cells(coc))
    assert len(surfaces) == 2 and surfaces[0].torn is None
    aperture = sample_aperture(PsfModel(), 64)
    truth = views(trace([flat(back, 6.0), flat(front, -8.0, cover)], aperture))
    result = compare(views(trace(surfaces, aperture)), truth, depth_edges(coc))
    assert result.psnr_db > 42 and result.band_psnr_db > 40
    # without tears the two planes are joined by a wall that is not there
    joined = Surface(image, torch.ones_like(coc), coc)
    assert compare(views(trace([joined], aperture)), truth, depth_edges(coc)).band_psnr_db < result.band_psnr_db - 3


def test_what_is_behind_each_edge_comes_from_its_far_side() -> None:
    coc = torch.full((40, 60), 9.0)
    coc[:, 20:] = 0.0
    coc[:, 40:] = -9.0
    image = (coc[None] + 9) / 18
    found = surfaces_from_depth(image, coc, torn_cells(coc))
    assert found[-1].colour is image and found[0].torn is None
    # under the nearest lies the middle one, under the middle one the farthest, as deep as rays see
    for column, hidden in ((43, 0.0), (23, 9.0)):
        assert float(found[0].coc_px[20, column]) == pytest.approx(hidden, abs=2.0)
        assert float(found[0].colour[0, 20, column]) == pytest.approx((hidden + 9) / 18, abs=0.12)
    # a fold on the near side does not hide its outline: jumps of 2 and of 18 px
    coc[:, 40:] = -7.0
    coc[:, 42:] = -9.0
    coc[:, :40] = 9.0
    assert float(surfaces_from_depth(coc[None], coc, torn_cells(coc))[0].coc_px[20, 45]) == pytest.approx(9, abs=1e-4)


def test_a_view_without_tears_is_one_surface() -> None:
    coc = torch.linspace(-3, 3, 30).expand(20, 30)
    assert len(surfaces_from_depth(torch.rand(3, 20, 30), coc, torn_cells(coc))) == 1


def test_tears_by_share_of_the_depth() -> None:
    depth = torch.tensor([[1.0, 1.04, 1.2], [1.0, 1.04, 1.2]])
    assert torn_cells_of_depth(depth, 0.05).tolist() == [[False, True]]


# ---- noise and bad calls ----


def test_the_stated_error_is_the_true_one() -> None:
    surfaces = scene_surfaces(make_scene(3, (48, 64)), 10.0, -10.0)
    rough = trace(surfaces, sample_aperture(PsfModel(), 64, seed=1))
    exact = trace(surfaces, sample_aperture(PsfModel(), 2048, seed=2))
    error = float((views(rough) - views(exact)).square().mean().sqrt())
    assert 0.6 * error < rough.rms_error() < 1.6 * error
    assert exact.rms_error() < rough.rms_error() / 4
    assert math.isnan(trace(surfaces, one_ray(0.0)).rms_error())


def test_calls_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        sample_aperture(PsfModel(), 100)
    with pytest.raises(ValueError, match="at least one"):
        trace([], sample_aperture(PsfModel(), 8))
    wrong = Surface(torch.ones(1, 4, 4), torch.ones(4, 5), torch.ones(4, 4))
    with pytest.raises(ValueError, match="differ in size"):
        trace([wrong], sample_aperture(PsfModel(), 8))


# ---- the yardstick ----


def test_compare_tells_band_from_the_rest() -> None:
    coc = torch.zeros(40, 60)
    coc[:, 30:] = 5.0
    edges = depth_edges(coc)
    assert torch.nonzero(edges.any(0))[:, 0].tolist() == [29, 30]
    assert torch.nonzero(band_around(edges).any(0))[:, 0].tolist() == list(range(21, 39))
    reference = torch.zeros(2, 3, 40, 60)
    candidate = reference.clone()
    candidate[..., 25] = 0.05
    result = compare(candidate, reference, edges)
    assert result.psnr_db == pytest.approx(20 * math.log10(10) + 10 * math.log10(60))
    assert result.band_psnr_db == pytest.approx(20 * math.log10(10) + 10 * math.log10(18))
    assert math.isinf(compare(reference, reference, edges).psnr_db)
    assert math.isnan(compare(candidate, reference, torch.zeros_like(edges)).band_psnr_db)
    with pytest.raises(ValueError, match="shapes differ"):
        compare(candidate[..., 1:], reference, edges)


# ---- a real lens's worth of views ----


def test_traced_light_field_is_the_sum_of_its_views(shared_data: Callable[[str], Path]) -> None:
    field = load_light_field(shared_data("lightfield/antinous"), slice(60, 190), slice(250, 390))
    aperture, margin = view_aperture(), 22
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    truth = field.pair(aperture)[inside]
    edges = depth_edges(field.coc_px, 2.0)[inside]
    surfaces = surfaces_from_depth(field.centre, field.coc_px, torn_cells(field.coc_px, 2.0), reach=math.sqrt(2))
    with torch.inference_mode():
        traced = compare(views(trace(surfaces, [aperture], margin)), truth, edges)
    sharp = compare(torch.stack([field.centre / 2] * 2)[inside], truth, edges)
    assert sharp.band_psnr_db < 30
    assert traced.psnr_db > 50 and traced.band_psnr_db > 48, traced
