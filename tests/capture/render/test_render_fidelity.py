"""How close the layered renderer comes to the ray tracer on procedural scenes with depth edges.

White is 1, a half view of it 0.5, linear light; see :mod:`dualpix.capture.render.compare`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
import torch
from benchmarks.lightfield import Case as LightFieldCase
from benchmarks.lightfield import without_occlusion
from torch import Tensor

from dualpix.capture.render import PsfModel, layered, render_dual_pixel, render_integral, render_scene, scene_margin_px
from dualpix.capture.render.compare import Comparison, compare, depth_edges
from dualpix.capture.render.layered import Cells, Quality
from dualpix.capture.render.raytrace import sample_aperture, scene_surfaces, surfaces_from_depth, torn_cells, trace
from dualpix.capture.scenes import Scene, SceneLayer, make_scene

PSF = PsfModel()
LEAST_EDGES = 0.01


@dataclass(frozen=True)
class Case:
    scene: Scene
    far_px: float
    near_px: float
    margin_px: int
    edges: Tensor

    def coc_px(self) -> Tensor:
        """(H, W) over the whole canvas."""
        return torch.from_numpy(self.far_px + (self.near_px - self.far_px) * self.scene.proximity()).float()

    def traced(self, samples: int) -> Tensor:
        pair = trace(
            scene_surfaces(self.scene, self.far_px, self.near_px), sample_aperture(PSF, samples), self.margin_px
        )
        # the reference's own noise must not count
        assert pair.rms_error() < 0.5 * 10 ** (-48 / 20)
        return torch.stack([pair.left, pair.right])

    def rendered(self, quality: Quality, cells: Cells | None = None) -> Tensor:
        pair = render_scene(self.scene, self.far_px, self.near_px, PSF, self.margin_px, quality=quality, cells=cells)
        return torch.stack([pair.left, pair.right])

    def from_view(self, quality: Quality) -> Tensor:
        """Rendered from what the pinhole sees, hidden parts filled in."""
        image = torch.from_numpy(self.scene.all_in_focus()).permute(2, 0, 1)
        pair = render_dual_pixel(image[None], self.coc_px()[None, None], PSF, quality=quality)
        m = self.margin_px
        return torch.cat(pair)[..., m:-m, m:-m]

    def traced_view(self, samples: int) -> Tensor:
        """The ray tracer with the same filled-in parts."""
        image = torch.from_numpy(self.scene.all_in_focus()).permute(2, 0, 1).contiguous()
        coc = self.coc_px()
        surfaces = surfaces_from_depth(image, coc, torn_cells(coc))
        pair = trace(surfaces, sample_aperture(PSF, samples), self.margin_px)
        return torch.stack([pair.left, pair.right])

    def compare(self, views: Tensor, truth: Tensor) -> Comparison:
        return compare(views, truth, self.edges)


def cases(size_hw: tuple[int, int]) -> Iterator[Case]:
    """Scenes in which at least a hundredth of the pixels lie at depth edges."""
    rng = np.random.default_rng(4)
    seed = 100
    while True:
        seed += 1
        span, focus = rng.uniform(8, 24), rng.uniform()
        far, near = span * focus, -span * (1 - focus)
        margin = scene_margin_px(max(far, -near), PSF)
        scene = make_scene(seed, tuple(n + 2 * margin for n in size_hw))  # type: ignore[arg-type]
        case = Case(scene, far, near, margin, torch.empty(0))
        edges = depth_edges(case.coc_px()[margin:-margin, margin:-margin])
        if float(edges.float().mean()) >= LEAST_EDGES:
            yield Case(scene, far, near, margin, edges)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def test_exact_rendering_is_close_to_the_ray_tracer() -> None:
    found = cases((64, 80))
    for _ in range(3):
        case = next(found)
        truth = case.traced(512)
        results = [
            case.compare(case.rendered(quality, cells), truth)
            for quality, cells in (("standard", None), ("exact", Cells(1, 1)), ("exact", None))
        ]
        standard, coarse, exact = results
        assert exact.psnr_db > 42 and exact.band_psnr_db > 40, results
        # no worse with more cells, and better than one cut over another
        assert exact.psnr_db > coarse.psnr_db - 0.2 and coarse.psnr_db > standard.psnr_db, results


def test_finer_cuts_are_truer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slanted wall, where only the cuts err."""
    scene = make_scene(2, (60, 84))
    slant = np.tile(np.linspace(0, 1, 84, dtype=np.float32), (60, 1))
    wall = Scene((SceneLayer(scene.layers[0].colour, np.ones_like(slant), slant),))
    case = Case(wall, 14.0, 2.0, 10, torch.ones(40, 64, dtype=torch.bool))
    truth = case.traced(1024)
    errors = []
    for step in (8.0, 4.0, 1.0):
        monkeypatch.setattr(layered, "_COC_STEP_PX", step)
        errors.append(case.compare(case.rendered("exact"), truth).psnr_db)
    assert errors == sorted(errors) and errors[-1] > errors[0] + 6, errors
    assert errors[-1] > 50, errors


def test_rgbd_rendering_is_closer_than_before() -> None:
    case = next(cases((64, 80)))
    truth = case.traced_view(128)
    standard, exact = (case.compare(case.from_view(quality), truth) for quality in ("standard", "exact"))
    assert exact.psnr_db > 38 and exact.band_psnr_db > 34, exact
    assert exact.psnr_db > standard.psnr_db + 3, (standard, exact)


def simple_renderings(case: Case) -> dict[str, Tensor]:
    """What is usually done instead, of the picture and its depth."""
    image, coc = torch.from_numpy(case.scene.all_in_focus()).permute(2, 0, 1), case.coc_px()
    inside = (..., slice(case.margin_px, -case.margin_px), slice(case.margin_px, -case.margin_px))
    as_wide = sqrt(3) / 2  # the side of a square over the diameter of a disc of the same second moment
    thin_lens = without_occlusion(LightFieldCase(image, coc, torch.empty(0), PSF))  # type: ignore[arg-type]
    integral = torch.cat(render_integral(image[None], as_wide * coc[None, None]))
    return {"blur without occlusion": thin_lens[inside], "integral": integral[inside]}


@pytest.mark.slow
def test_twenty_scenes() -> None:
    found = cases((96, 128))
    scores: dict[str, list[Comparison]] = {}
    for _ in range(20):
        case = next(found)
        truth = case.traced(512)
        views = {"exact": case.rendered("exact"), "standard": case.rendered("standard"), **simple_renderings(case)}
        for name, view in views.items():
            scores.setdefault(name, []).append(case.compare(view, truth))
        scores.setdefault("RGB-D, exact", []).append(case.compare(case.from_view("exact"), case.traced_view(128)))
    means = {
        name: (float(np.mean([c.psnr_db for c in group])), float(np.mean([c.band_psnr_db for c in group])))
        for name, group in scores.items()
    }
    for name, (whole, band) in means.items():
        print(f"{name}: {whole:.1f} dB, in the band {band:.1f} dB")
    assert means["exact"][0] > 50 and means["exact"][1] > 48
    assert min(c.psnr_db for c in scores["exact"]) > 38 and min(c.band_psnr_db for c in scores["exact"]) > 36
    assert means["RGB-D, exact"][0] > 38 and means["RGB-D, exact"][1] > 35
    assert all(means["exact"][0] > whole + 10 for name, (whole, _) in means.items() if not name.endswith("exact"))
