"""How faithful each renderer is to a lens: dual-pixel pairs summed from a light field, with its real occlusion.

    python -m benchmarks.lightfield DATA [-o benchmarks/results] [--picture comparison.png]

DATA is a folder of the HCI 4D light field benchmark with all 9 x 9 views and the disparity of the central one
(``antinous``); by default it is sought under ``DUALPIX_TEST_DATA``, and nothing is done where it is missing.

The aperture is the square of views; the left half of the columns makes the left picture, the middle column goes to
both. Views are moved by whole pixels to focus elsewhere, and only the inner ones stop the lens down; all is then halved
in size, so that neighbouring views see an object less than two pixels apart. Renderers get what an RGB-D camera would:
the central view and its blur. Where they take any aperture they get the views' own, the others the rectangle or disc of
its second moment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import click
import numpy as np
import torch
from benchmarks.record import Figure, Result, Row, machine_slug, new_result
from tests.support.lightfield import load_light_field
from torch import Tensor
from torch.nn import functional as F

from dualpix.capture.pictures.colour_map import Panel, figure, save_picture
from dualpix.capture.pictures.display import to_display
from dualpix.capture.render import GatherPsf, Quality, render, surfaces_from_depth, trace
from dualpix.capture.render.compare import compare, depth_edges
from dualpix.capture.render.layered import coc_ladder
from dualpix.capture.render.psf import Aperture, project
from dualpix.capture.render.raytrace import ApertureSamples, torn_cells

NAME = "light-field"
RESULTS = Path(__file__).parent / "results"
FOCUS = (-2, 0, 1)
"""Disparities, in px of neighbouring full-size views, that are in focus: the far wall, between, and the near head."""
SIDES = (9, 5)
"""Views across the aperture."""
_VIEWS = 9
_JUMP_PX = 1.0
_BORDER_PX = 12
"""Beyond it no renderer knows what there is; as wide as the largest blur reaches."""
_SHOWN = (0, 9)
_ERROR_LIMIT = 0.06
_COLUMNS = 4


@dataclass(frozen=True)
class ViewAperture:
    """A square of ``side`` x ``side`` points of equal light, cut into a left and a right half: ``HalfKernels``."""

    side: int
    shape: tuple[int, int] = (1, 1)

    def kernel_size_px(self, max_coc_px: float) -> int:
        """Odd kernel side that holds the square."""
        return 2 * int(abs(max_coc_px) / 2 + 1) + 1

    def kernels(
        self, coc_px: Tensor, size_px: int, *, field: tuple[float, float] = (0.5, 0.5)
    ) -> tuple[Tensor, Tensor]:
        """Left and right kernels (K, size, size)."""
        aperture = self.aperture(0.0, field=field)
        both = project(aperture, coc_px, size_px, torch.stack([aperture.left, aperture.right]))
        return both[:, 0], both[:, 1]

    def aperture(self, max_coc_px: float, *, field: tuple[float, float] = (0.5, 0.5)) -> Aperture:
        """The points."""
        del max_coc_px, field
        axis = torch.linspace(-1, 1, self.side, dtype=torch.float64)
        right = ((1 + axis.sign()) / 2).expand(self.side, self.side) / self.side**2
        return Aperture(axis, axis, right.flip(1), right)

    def samples(self) -> ApertureSamples:
        """The same points for the ray tracer."""
        of = self.aperture(0.0)
        y, x = torch.meshgrid(of.y, of.x, indexing="ij")
        position = torch.stack([x.flatten(), y.flatten()], 1)
        return ApertureSamples(position, of.left.flatten(), of.right.flatten(), torch.zeros_like(position))

    @property
    def rms(self) -> float:
        """Of the points along one axis, in CoCs."""
        return float(self.aperture(0.0).x.square().mean().sqrt()) / 2


@dataclass(frozen=True)
class Case:
    """One lens and focus: what is rendered, and what the light field shows."""

    image: Tensor
    """(3, H, W) the central view."""
    coc_px: Tensor
    """(H, W)"""
    truth: Tensor
    """(2, 3, H, W): left and right."""
    aperture: ViewAperture


Renderer = Callable[[Case], Tensor]
"""A case to (2, 3, H, W), or (1, 3, H, W) of the full aperture alone."""


def cases(folder: Path) -> list[tuple[tuple[int, int], Case]]:
    """All settings, as ((focus, side), case)."""
    field = load_light_field(folder)
    views = field.views.reshape(_VIEWS, _VIEWS, *field.centre.shape)
    disparity = field.coc_px / -(_VIEWS - 1.0)
    found = []
    for side in SIDES:
        aperture = ViewAperture(side)
        weights = torch.stack([aperture.aperture(0).left, aperture.aperture(0).right]).float()
        first = (_VIEWS - side) // 2
        for focus in FOCUS:
            truth = torch.zeros(2, *field.centre.shape)
            for v in range(side):
                for u in range(side):
                    at = (v + first, u + first)
                    moved = views[at].roll([(n - _VIEWS // 2) * focus for n in at], (1, 2))
                    truth += weights[:, v, u, None, None, None] * moved
            coc = -(side - 1.0) * (disparity - focus) / 2  # of the halved picture
            # what was rolled around, and an odd rest
            cut = 4 * max(map(abs, FOCUS)) + 1
            cut += cut % 2
            image, coc, truth = (_halved(x[..., cut:-cut, cut:-cut]) for x in (field.centre, coc, truth))
            found.append(((focus, side), Case(image, coc, truth, aperture)))
    return found


def traced(case: Case) -> Tensor:
    torn = torn_cells(case.coc_px, _JUMP_PX)
    pair = trace(surfaces_from_depth(case.image, case.coc_px, torn, reach=sqrt(2)), [case.aperture.samples()])
    return torch.stack([pair.left, pair.right])


def layered(quality: Quality) -> Renderer:
    def run(case: Case) -> Tensor:
        coc = case.coc_px[None, None]
        return torch.cat(render(case.image[None], coc_px=coc, psf=case.aperture, quality=quality).pair)

    return run


def without_occlusion(case: Case) -> Tensor:
    """Every point spreads over its own blur, and all that lands on a pixel is averaged, whatever is in front."""
    low, high = (float(v) for v in case.coc_px.aminmax())
    steps = torch.tensor(coc_ladder(low, high))
    size = case.aperture.kernel_size_px(max(abs(low), abs(high)))
    kernels = torch.stack(case.aperture.kernels(steps, size)).flip(-1, -2)  # convolution, not correlation
    pad = size // 2
    planes = F.pad(torch.cat([case.image, torch.ones_like(case.image[:1])])[None], (pad,) * 4, mode="replicate")[0]
    coc = F.pad(case.coc_px[None, None], (pad,) * 4, mode="replicate")[0, 0]
    nearest = (coc[None] - steps[:, None, None]).abs().argmin(0)
    total = torch.zeros(2, 4, *case.coc_px.shape)
    for k in range(len(steps)):
        cut = planes * (nearest == k)
        if bool(cut[-1].any()):
            total += F.conv2d(cut[:, None], kernels[:, k, None]).transpose(0, 1)
    return 0.5 * total[:, :3] / total[:, 3:].clamp_min(1e-6)


def rectangle(case: Case) -> Tensor:
    """Half squares; a row of n points stands for n pixels of the lens, one wider than its ends are apart."""
    wider = sqrt(12) * case.aperture.rms
    return torch.cat(render(case.image[None], coc_px=wider * case.coc_px[None, None], method="integral").pair)


def gathered(case: Case) -> Tensor:
    """A disc of the same second moment; the full aperture alone."""
    wider = 4 * case.aperture.rms
    coc = wider * case.coc_px[None, None]
    return render(case.image[None], coc_px=coc, method="gather", psf=GatherPsf(power=32)).combined


def unblurred(case: Case) -> Tensor:
    return case.image.expand(2, -1, -1, -1) / 2


RENDERERS: Mapping[str, Renderer] = {
    "ray tracer": traced,
    "layered, exact": layered("exact"),
    "layered, standard": layered("standard"),
    "blur without occlusion": without_occlusion,
    "integral (half squares)": rectangle,
    "gather (disc)": gathered,
    "no blur at all": unblurred,
}


def measure(
    settings: list[tuple[tuple[int, int], Case]], on_done: Callable[[str], None] = lambda label: None
) -> Result:
    """PSNR of every renderer over all settings."""
    columns = {"pair": "dB", "pair, at edges": "dB", "full aperture": "dB", "full aperture, at edges": "dB"}
    rows = []
    for label, renderer in RENDERERS.items():
        samples: dict[str, list[float]] = {}
        for _, case in settings:
            views = renderer(case)
            inside = (..., slice(_BORDER_PX, -_BORDER_PX), slice(_BORDER_PX, -_BORDER_PX))
            edges = depth_edges(case.coc_px, _JUMP_PX)[inside]
            both = {"full aperture": (views.sum(0), case.truth.sum(0), 1.0)}
            if len(views) == 2:
                both["pair"] = (views, case.truth, 0.5)
            for name, (found, truth, peak) in both.items():
                score = compare(found[inside], truth[inside], edges, peak=peak)
                samples.setdefault(name, []).append(score.psnr_db)
                samples.setdefault(f"{name}, at edges", []).append(score.band_psnr_db)
        rows.append(Row(label, {name: Figure.of(samples[name], "mean") for name in columns if name in samples}))
        on_done(label)
    height, width = settings[0][1].coc_px.shape
    notes = (
        f"antinous of the HCI light field benchmark, {width}x{height}, {len(settings)} settings: focus on disparities "
        f"{', '.join(map(str, FOCUS))} px, {' and '.join(f'{n}x{n}' for n in SIDES)} views; PSNR against white; "
        "edges: within 8 px of a jump in blur by more than 1 px."
    )
    return new_result("Renderers against a light field", "python -m benchmarks.lightfield", columns, rows, notes=notes)


def comparison(case: Case) -> np.ndarray:
    """The left view, each renderer's and its error, on one scale."""
    exposure = float(0.9 / torch.quantile(case.truth[0], 0.99))
    panels = [_view("light field, left view", case.truth[0], exposure)]
    errors = [Panel("circle of confusion", case.coc_px.numpy(), "diverging", "px")]
    for label, renderer in RENDERERS.items():
        views = renderer(case)
        left, truth = (views[0], case.truth[0]) if len(views) == 2 else (views[0] / 2, case.truth.mean(0))
        name = label if len(views) == 2 else f"{label}: full aperture / 2"
        panels.append(_view(name, left, exposure))
        error = (left - truth).mean(0).numpy()
        limits = (-_ERROR_LIMIT, _ERROR_LIMIT)
        errors.append(Panel("error of linear light, white = 0.5", error, "diverging", "", None, limits))
    rows = range(0, len(panels), _COLUMNS)
    arranged = [panel for at in rows for panel in (*panels[at : at + _COLUMNS], *errors[at : at + _COLUMNS])]
    return figure(arranged, columns=_COLUMNS)


def _view(title: str, view: Tensor, exposure: float) -> Panel:
    picture = to_display(view.permute(1, 2, 0).numpy(), white_balance=(1, 1, 1), exposure=exposure)
    return Panel(title, picture)


def _halved(planes: Tensor) -> Tensor:
    """(..., H, W) at half the size, by the mean of 2 x 2."""
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    return F.avg_pool2d(flat, 2).reshape(*planes.shape[:-2], planes.shape[-2] // 2, planes.shape[-1] // 2)


def _default_data() -> Path:
    root = os.environ.get("DUALPIX_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
    return Path(root) / "lightfield" / "antinous"


@click.command()
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the result file.")
@click.option("--picture", type=click.Path(path_type=Path), help="PNG of the left view of every renderer.")
def main(data: Path | None, output: Path, picture: Path | None) -> None:
    """Compare the renderers with a light field and write a result file."""
    folder = data or _default_data()
    if not (folder / "gt_disp_lowres.npy").is_file():
        click.echo(f"skipped: no light field with a disparity map in '{folder}' (give DATA, or set DUALPIX_TEST_DATA)")
        sys.exit(0)
    with torch.inference_mode():
        settings = cases(folder)
        result = measure(settings, lambda label: click.echo(f"  {label}"))
        if picture:
            save_picture(picture, comparison(dict(settings)[_SHOWN]))
    path = output / f"{NAME}--{machine_slug(result.machine)}.json"
    result.write(path)
    for row in result.rows:
        shown = "   ".join(f"{column} {f.value:.1f} dB" for column, f in row.figures.items())
        click.echo(f"{row.label:24} {shown}")
    click.echo(f"-> {path}")


if __name__ == "__main__":
    main()
