"""Monte Carlo thin-lens ray tracing with real occlusion: slow and simple, the truth that fast renderers answer to.

Convention: see :mod:`dualpix.capture.render`; image coordinates are (x, y) in px, pixel centres at integers. The scene
is given as the pinhole at the centre of the lens sees it: surfaces over the pixel grid, each with a signed CoC ``c`` in
px. A point of the aperture is ``u`` = (x, y) in radii, ``|u| <= 1`` for a hard-edged lens.

A thin lens is exact and simple in these coordinates. Light of a point at X through ``u`` lands at ``X + u c / 2``; c is
affine in inverse depth, so rays stay straight in (x, y, c): the pixel p and the aperture point u see the line
``X(c) = p - u c / 2``, nearest first with rising c. Each surface is met where ``c`` equals its own CoC at ``X(c)``;
colour and opacity are read there bilinearly, and hits are composited in order of c.

The aperture follows :class:`~dualpix.capture.render.psf.PsfModel` as a real lens would: ``edge_relative``, ``rim`` and
the split are a transmission over the aperture; ``edge_px``, which does not grow with defocus, is a Gaussian blur of the
sensor. Kernels equal those of :func:`~dualpix.capture.render.psf.half_kernels` for ``edge_px = 0``; where the CoC is
not large against ``edge_px`` those have the edge of a disc and these a disc under a Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, pi, sqrt

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.capture.render.psf import PsfModel
from dualpix.capture.scenes import Scene

_RAYS_AT_ONCE = 1 << 19
_MARCH_STEP_PX = 0.5
_BISECTIONS = 10
_SECANTS = 12
_COC_TOLERANCE_PX = 1e-3
_GENTLE = 0.9
_TIE_PX = 0.01
_PROFILE_POINTS = 2001
_SLOPE_BISECTIONS = 60


@dataclass(frozen=True)
class Surface:
    """A textured height field over the pixel grid of the whole canvas."""

    colour: Tensor
    """(C, H, W) linear radiance, defined wherever ``alpha`` > 0."""
    alpha: Tensor
    """(H, W) coverage in [0, 1]."""
    coc_px: Tensor
    """(H, W) signed CoC, defined everywhere."""
    torn: Tensor | None = None
    """(H - 1, W - 1) bool: cells between four pixel centres across which the surface is not connected. There each
    pixel keeps its own quarter, and a ray may pass between them. ``None``: connected everywhere."""


@dataclass(frozen=True)
class ApertureSamples:
    """Points of the aperture and what each half records of the light through them."""

    position: Tensor
    """(N, 2) x, y in aperture radii; x > 0 is the half whose light of points behind focus lands further right."""
    left: Tensor
    """(N,) weights, summing to 0.5."""
    right: Tensor
    """(N,) weights, summing to 0.5; ``left + right`` is the full aperture."""
    blur_px: Tensor
    """(N, 2) displacement on the sensor, drawn from the blur that does not depend on depth."""


@dataclass(frozen=True)
class TracedPair:
    """A noise-free dual-pixel pair and how well it is known; all (C, H, W)."""

    left: Tensor
    right: Tensor
    left_error: Tensor
    """Standard error of ``left``, from the spread of independent sample sets; NaN with a single one."""
    right_error: Tensor

    @property
    def combined(self) -> Tensor:
        """The full-aperture view."""
        return self.left + self.right

    def rms_error(self) -> float:
        """Root mean square of the standard error over both views."""
        return float(torch.stack([self.left_error, self.right_error]).square().mean().sqrt())


def sample_aperture(psf: PsfModel, count: int, *, sets: int = 4, seed: int = 0) -> list[ApertureSamples]:
    """Independent scrambled Sobol sets over a camera's aperture, each mirrored in x.

    Args:
        psf: aperture split of the camera.
        count: samples in all; a multiple of ``2 * sets``, best with a power of two in each.
        sets: how many independent sets; their spread gives the error.
        seed: of the scrambling; the same seed gives the same samples.

    Raises:
        ValueError: ``count`` is not a positive multiple of ``2 * sets``.
    """
    if sets < 1 or count < 2 * sets or count % (2 * sets):
        raise ValueError(f"{count} samples in {sets} sets, expected a positive multiple of {2 * sets}")
    return [_sample_set(psf, count // (2 * sets), 1000 * seed + k) for k in range(sets)]


def trace(surfaces: Sequence[Surface], aperture: Sequence[ApertureSamples], margin_px: int = 0) -> TracedPair:
    """Trace a dual-pixel pair.

    Args:
        surfaces: of one size, in any depth order; on equal CoC the later one is in front. One without tears must cover
            the canvas, what shines through is black.
        aperture: one or more independent sample sets, see :func:`sample_aperture`.
        margin_px: border of the canvas that is not rendered; beyond the canvas its edge goes on.

    Returns:
        Views of (C, H - 2 margin, W - 2 margin) in the dtype of the first surface's colour.

    Raises:
        ValueError: no surface or no samples, or surfaces that differ in size.
    """
    if not surfaces or not aperture:
        raise ValueError("expected at least one surface and one set of aperture samples")
    sizes = {tuple(plane.shape[-2:]) for s in surfaces for plane in (s.colour, s.alpha, s.coc_px)}
    if len(sizes) != 1:
        raise ValueError(f"surfaces differ in size: {sorted(sizes)}")
    views = torch.stack([_trace_set(surfaces, samples, margin_px) for samples in aperture])  # (sets, 2, C, h, w)
    error = views.std(0) / sqrt(len(aperture)) if len(aperture) > 1 else torch.full_like(views[0], torch.nan)
    mean = views.mean(0)
    return TracedPair(mean[0], mean[1], error[0], error[1])


def scene_surfaces(
    scene: Scene, coc_far_px: float, coc_near_px: float, *, dtype: torch.dtype = torch.float32
) -> list[Surface]:
    """Objects of a procedural scene as they are, hidden parts and all, back to front.

    Args:
        scene: canvas with its margin.
        coc_far_px: signed CoC at proximity 0.
        coc_near_px: signed CoC at proximity 1.
        dtype: of the computation.
    """
    return [
        Surface(
            torch.from_numpy(layer.colour).permute(2, 0, 1).to(dtype),
            torch.from_numpy(layer.alpha).to(dtype),
            coc_far_px + (coc_near_px - coc_far_px) * torch.from_numpy(layer.proximity).to(dtype),
        )
        for layer in scene.layers
    ]


def torn_cells(coc_px: Tensor, jump_px: float = 1.0) -> Tensor:
    """Cells (H - 1, W - 1) whose corners' CoC, (H, W), differ by more than ``jump_px``: a depth discontinuity."""
    return _cell_extreme(coc_px, torch.amax) - _cell_extreme(coc_px, torch.amin) > jump_px


def torn_cells_of_depth(depth_m: Tensor, relative_jump: float = 0.05) -> Tensor:
    """Cells (H - 1, W - 1) whose corners' depth, (H, W) > 0, differ by more than a share of the nearest."""
    nearest = _cell_extreme(depth_m, torch.amin)
    return _cell_extreme(depth_m, torch.amax) - nearest > relative_jump * nearest


def surfaces_from_depth(
    image: Tensor, coc_px: Tensor, torn: Tensor, *, behind: int = 2, reach: float = 1.25
) -> list[Surface]:
    """An RGB-D view as a mesh with tears over an extended, in-painted background.

    Args:
        image: (C, H, W) all-in-focus, linear.
        coc_px: (H, W) signed CoC.
        torn: (H - 1, W - 1) cells that are not connected, see :func:`torn_cells`.
        behind: how many times to lift off what is in front and extend what was behind it; at least 1.
        reach: of the aperture, in radii: how far rays see under an edge.

    Returns:
        Surfaces back to front; the last is the view itself, the first is without tears. A view without tears gives
        itself alone.
    """
    found = [Surface(image, torch.ones_like(coc_px), coc_px, torn)]
    for _ in range(behind):
        if not bool(torn.any()):
            break
        # what was one tear deep may have been two: judge the new surface's tears by the smallest jump of the old
        jump = (_cell_extreme(coc_px, torch.amax) - _cell_extreme(coc_px, torch.amin))[torn].min()
        image, coc_px = _without_front(image, coc_px, torn, reach)
        torn = torn_cells(coc_px, float(jump.detach()))
        found.append(Surface(image, torch.ones_like(coc_px), coc_px, torn))
    last = found[-1]
    found[-1] = Surface(last.colour, last.alpha, last.coc_px)
    return found[::-1]


# ---- aperture ----


def _sample_set(psf: PsfModel, pairs: int, seed: int) -> ApertureSamples:
    sobol = torch.quasirandom.SobolEngine(4, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    uniform = sobol.draw(pairs, dtype=torch.float64)
    rho_at, share = _radial_distribution(psf)
    rho = torch.from_numpy(np.interp(uniform[:, 0].numpy(), share, rho_at))
    phi = 2 * pi * uniform[:, 1]
    position = torch.stack([rho * phi.cos(), rho * phi.sin()], 1)
    # erfinv of +-1 is infinite, and Sobol points may lie on 0
    blur = psf.edge_px * sqrt(2.0) * torch.erfinv((2 * uniform[:, 2:] - 1).clamp(-1 + 1e-9, 1 - 1e-9))
    mirror = position.new_tensor([-1.0, 1.0])
    position, blur = (torch.cat([v, v * mirror]) for v in (position, blur))
    right = (1 + (_split_slope(psf) * (position[:, 0] - psf.split_offset)).clamp(-1.0, 1.0)) / 2
    left = 1 - right
    return ApertureSamples(position, 0.5 * left / left.sum(), 0.5 * right / right.sum(), blur)


def _transmission(psf: PsfModel, rho: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of the aperture at ``rho`` radii from its centre, unscaled."""
    profile = 1 + psf.rim * np.minimum(rho, 1.0) ** 2
    if psf.edge_relative == 0:
        return np.asarray(profile * (rho <= 1.0))
    edge = torch.erfc(torch.from_numpy(rho - 1.0) / (sqrt(2.0) * psf.edge_relative))
    return np.asarray(profile * edge.numpy())


def _radial_distribution(psf: PsfModel) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Radii and the share of the aperture's light within each, rising from 0 to 1."""
    rho = np.linspace(0.0, 1.0 + 4.0 * psf.edge_relative, _PROFILE_POINTS)
    middle = (rho[1:] + rho[:-1]) / 2
    share = np.concatenate([[0.0], np.cumsum(middle * _transmission(psf, middle))])
    return rho, share / share[-1]


def _split_slope(psf: PsfModel) -> float:
    """Slope, per radius, of the clipped ramp that puts the centroids of the halves ``disparity_gain`` diameters apart.

    The steepest slope stands for a hard split; what it cannot reach, no split can.
    """
    reach = 1.0 + 4.0 * psf.edge_relative
    x = (np.arange(400) + 0.5) / 400 * 2 * reach - reach
    columns = _transmission(psf, np.hypot(x[:, None], x[None, :])).sum(0)

    def centroid(weight: npt.NDArray[np.float64]) -> float:
        return float((columns * weight * x).sum() / (columns * weight).sum())

    low, high = -14.0, 6.0
    for _ in range(_SLOPE_BISECTIONS):
        middle = (low + high) / 2
        ramp = np.clip(np.exp(middle) * (x - psf.split_offset), -1.0, 1.0)
        if centroid(1 + ramp) - centroid(1 - ramp) < 2 * psf.disparity_gain:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


# ---- rays ----


def _trace_set(surfaces: Sequence[Surface], samples: ApertureSamples, margin_px: int) -> Tensor:
    """(2, C, h, w): left and right."""
    first = surfaces[0].colour
    c, h, w = first.shape
    h, w = h - 2 * margin_px, w - 2 * margin_px
    ys = torch.arange(h, dtype=first.dtype, device=first.device) + margin_px
    xs = torch.arange(w, dtype=first.dtype, device=first.device) + margin_px
    pixels = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)  # (h, w, 2)
    out = torch.zeros(2, c, h, w, dtype=torch.float64, device=first.device)
    reach = float(samples.position.norm(dim=1).max())
    for chunk in _chunks(samples, max(1, _RAYS_AT_ONCE // (h * w))):
        u = chunk.position.to(first)[:, None, None]  # (n, 1, 1, 2)
        # light of p - blur is spread onto p
        start = pixels - chunk.blur_px.to(first)[:, None, None]
        light = _radiance(surfaces, start, u, reach)  # (C, n, h, w)
        weights = torch.stack([chunk.left, chunk.right]).to(first)
        out += torch.einsum("vn,cnhw->vchw", weights, light)
    return out.to(first.dtype)


def _chunks(samples: ApertureSamples, size: int) -> Iterator[ApertureSamples]:
    for i in range(0, samples.left.numel(), size):
        part = slice(i, i + size)
        yield ApertureSamples(samples.position[part], samples.left[part], samples.right[part], samples.blur_px[part])


def _radiance(surfaces: Sequence[Surface], start: Tensor, u: Tensor, reach: float) -> Tensor:
    """Light (C, n, h, w) along the rays of pixels ``start`` (n, h, w, 2) through aperture points ``u`` (n, 1, 1, 2)."""
    shape = (len(surfaces), *start.shape[:-1])
    coc = start.new_zeros(shape)
    alpha = start.new_zeros(shape)
    light = start.new_zeros((shape[0], surfaces[0].colour.shape[0], *shape[1:]))
    for k, surface in enumerate(surfaces):
        window = _reached(surface, start, reach)
        rays = start[:, *window]
        if not rays.numel():
            continue
        at, met = _meet(surface, rays, u, reach)
        x = _snap(surface, rays - u * (at / 2)[..., None])
        premultiplied = torch.cat([surface.colour * surface.alpha, surface.alpha[None]])
        read = _read(premultiplied, x) * met
        coc[k, :, *window], light[k, :, :, *window], alpha[k, :, *window] = at, read[:-1], read[-1]
    order = _depth_order(coc, alpha)
    if order is not None:
        alpha = alpha.gather(0, order)
        light = light.gather(0, order[:, None].expand_as(light))
    out = light[0]
    for k in range(1, len(surfaces)):
        out = light[k] + out * (1 - alpha[k])
    return out


def _reached(surface: Surface, start: Tensor, reach: float) -> tuple[slice, slice]:
    """Rows and columns of the rays ``start`` (n, h, w, 2) that may meet what is opaque of a surface."""
    away = float(surface.coc_px.abs().max()) * reach / 2 + 1
    slices = []
    for axis, across in ((1, 1), (0, 0)):  # rows by y, columns by x
        covered = torch.nonzero((surface.alpha > 0).any(across))
        if not covered.numel():
            return slice(0, 0), slice(0, 0)
        last = surface.alpha.shape[1 - across] - 1
        # what touches the canvas's edge goes on beyond it
        low = float(covered.min()) - away if covered.min() > 0 else -torch.inf
        high = float(covered.max()) + away if covered.max() < last else torch.inf
        position = start[..., axis]
        hit = torch.nonzero(((position >= low) & (position <= high)).any(0).any(across))
        slices.append(slice(int(hit.min()), int(hit.max()) + 1) if hit.numel() else slice(0, 0))
    return slices[0], slices[1]


def _depth_order(coc: Tensor, alpha: Tensor) -> Tensor | None:
    """Order of the surfaces along each ray, far to near; ``None`` where the given one is right for all."""
    effective = coc.clone()
    for k in range(1, coc.shape[0]):
        # what is transparent may stay anywhere: let it take the place of its neighbour behind
        effective[k] = torch.where(alpha[k] > 0, coc[k] - k * _TIE_PX, effective[k - 1])
    if bool((effective[1:] <= effective[:-1]).all()):
        return None
    return torch.sort(effective, dim=0, descending=True, stable=True).indices


def _meet(surface: Surface, start: Tensor, u: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Where rays meet a surface first: their CoC there, and whether they do; both (n, h, w)."""
    low, high = float(surface.coc_px.min()), float(surface.coc_px.max())
    always = torch.ones((), dtype=torch.bool, device=start.device)
    if high - low < 1e-6:
        return torch.full_like(start[..., 0], low), always
    if surface.torn is None and _steepest(surface.coc_px) * reach / 2 < _GENTLE:
        return _meet_gentle(surface, start, u, low, high), always
    return _meet_by_march(surface, start, u, low, high, reach)


def _steepest(coc_px: Tensor) -> float:
    """Upper bound of the gradient of the bilinear height field, px of CoC per px."""
    return float(torch.hypot(coc_px.diff(dim=0).abs().max(), coc_px.diff(dim=1).abs().max()))


def _behind(surface: Surface, start: Tensor, u: Tensor, coc: Tensor) -> Tensor:
    """How far, in CoC, the rays' points at ``coc`` lie behind the surface; < 0 in front of it."""
    x = _snap(surface, start - u * (coc / 2)[..., None])
    return coc - _read(surface.coc_px[None], x)[0]


def _meet_gentle(surface: Surface, start: Tensor, u: Tensor, low: float, high: float) -> Tensor:
    """No ray can meet the surface twice: :func:`_behind` rises along it. The Illinois variant of the secant rule."""
    a, b = (torch.full_like(start[..., 0], c) for c in (low, high))
    fa, fb = _behind(surface, start, u, a), _behind(surface, start, u, b)
    for _ in range(_SECANTS):
        gap = fb - fa
        t = b - fb * (b - a) / torch.where(gap.abs() < 1e-9, torch.ones_like(gap), gap)
        ft = _behind(surface, start, u, t)
        crossed = ft * fb < 0
        a, fa = torch.where(crossed, b, a), torch.where(crossed, fb, fa / 2)
        b, fb = t, ft
        if float(ft.abs().max()) < _COC_TOLERANCE_PX:
            break
    return b


def _meet_by_march(
    surface: Surface, start: Tensor, u: Tensor, low: float, high: float, reach: float
) -> tuple[Tensor, Tensor]:
    """Steps along each ray from the front, each change of side then bisected; a change across a tear is no hit."""
    steps = ceil((high - low) * reach / 2 / _MARCH_STEP_PX) + 1
    stations = torch.linspace(low - 1e-3, high + 1e-3, steps + 1, dtype=torch.float64).tolist()
    nearest, farthest = (bound.flatten() for bound in _range_around(surface.coc_px, start, reach))
    flat_start, flat_u = start.reshape(-1, 2), u.expand_as(start).reshape(-1, 2)
    coc = torch.full_like(nearest, high)
    met = torch.zeros_like(coc, dtype=torch.bool)
    was_behind = torch.zeros_like(met)
    for near, far in pairwise(stations):
        here = torch.nonzero(~met & (nearest <= far) & (farthest >= near))[:, 0]
        s, v = flat_start[here], flat_u[here]
        is_behind = _behind(surface, s, v, torch.full_like(s[:, 0], far)) >= 0
        changed = is_behind != was_behind[here]
        which = here[changed]
        coc[which], through = _bisect(surface, s[changed], v[changed], near, far, was_behind[which])
        met[which] = ~through
        was_behind[here] = is_behind
    return coc.reshape(start.shape[:-1]), met.reshape(start.shape[:-1])


def _range_around(coc_px: Tensor, start: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Least and largest CoC that rays ``start`` (..., 2) may meet, each (...): of the pixels they can get to."""
    radius = ceil(float(coc_px.abs().max()) * reach / 2) + 2
    # blur may put a start outside the canvas, where its edge goes on
    column = start[..., 0].round().clamp(0, coc_px.shape[1] - 1).long()
    row = start[..., 1].round().clamp(0, coc_px.shape[0] - 1).long()

    def largest(plane: Tensor) -> Tensor:
        rows = F.max_pool2d(plane[None], (2 * radius + 1, 1), 1, (radius, 0))
        return F.max_pool2d(rows, (1, 2 * radius + 1), 1, (0, radius))[0][row, column]

    return -largest(-coc_px), largest(coc_px)


def _bisect(
    surface: Surface, start: Tensor, u: Tensor, near: float, far: float, was_behind: Tensor
) -> tuple[Tensor, Tensor]:
    """CoC where rays change sides, and whether they slip through a tear there."""
    a, b = (torch.full_like(start[:, 0], c) for c in (near, far))
    for _ in range(_BISECTIONS):
        middle = (a + b) / 2
        same = (_behind(surface, start, u, middle) >= 0) == was_behind
        a, b = torch.where(same, middle, a), torch.where(same, b, middle)
    middle = (a + b) / 2
    if surface.torn is None:
        return middle, torch.zeros_like(was_behind)
    xa, xb, x = (start - u * (c / 2)[:, None] for c in (a, b, middle))
    return middle, _in_torn(surface.torn, x) & (xa.round() != xb.round()).any(-1)


def _in_torn(torn: Tensor, x: Tensor) -> Tensor:
    """Whether positions (..., 2) lie in a torn cell."""
    column = x[..., 0].floor().clamp(0, torn.shape[1] - 1).long()
    row = x[..., 1].floor().clamp(0, torn.shape[0] - 1).long()
    return torn[row, column]


def _snap(surface: Surface, x: Tensor) -> Tensor:
    """Positions (..., 2), in torn cells moved to the pixel that owns them."""
    if surface.torn is None:
        return x
    return torch.where(_in_torn(surface.torn, x)[..., None], x.round(), x)


def _read(planes: Tensor, x: Tensor) -> Tensor:
    """(C, H, W) at positions (..., 2) px, bilinear, its edge going on outside: (C, ...)."""
    h, w = planes.shape[-2:]
    scale = x.new_tensor([2.0 / max(w - 1, 1), 2.0 / max(h - 1, 1)])
    grid = (x * scale - 1).reshape(1, 1, -1, 2)
    read = F.grid_sample(planes[None], grid, mode="bilinear", padding_mode="border", align_corners=True)
    return read.reshape(planes.shape[0], *x.shape[:-1])


# ---- what is behind an RGB-D view ----


def _cell_extreme(plane: Tensor, extreme: Callable[[Tensor, int], Tensor]) -> Tensor:
    """amax or amin over the four corners of each cell, (H - 1, W - 1)."""
    corners = torch.stack([plane[:-1, :-1], plane[1:, :-1], plane[:-1, 1:], plane[1:, 1:]])
    return extreme(corners, 0)


def _without_front(image: Tensor, coc_px: Tensor, torn: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Lift off the near side of every tear, as deep as rays see under it, and fill image and CoC from the far side."""
    halfway = _halfway_through_tears(coc_px, torn, reach)
    front = coc_px < halfway
    # only what lies beside a tear tells what is behind it: the rest of an occluder must not
    filled = _fill(torch.cat([image, coc_px[None]]), (halfway > -torch.inf) & ~front)
    # what is uncovered is behind what covered it
    return torch.where(front, filled[:-1], image), torch.where(front, torch.maximum(filled[-1], halfway), coc_px)


def _halfway_through_tears(coc_px: Tensor, torn: Tensor, reach: float) -> Tensor:
    """(H, W): the CoC halfway between the sides of the tear that counts at a pixel; -inf where none does.

    Behind a tear of ``jump`` px of CoC, rays see a strip of ``reach * jump / 2`` px that the pinhole does not. Of
    several tears the one counts whose strip reaches furthest past the pixel: a fold within an occluder must not hide
    the occluder's outline, nor may a far outline take away what is beside a near one.
    """
    least, largest = (_cell_extreme(coc_px.detach(), extreme).cpu() for extreme in (torch.amin, torch.amax))
    halfway = ((least + largest) / 2).float().numpy()
    strip = (((largest - least) * (reach / 2)).ceil() + 2).int().numpy()
    is_torn = torn.cpu().numpy()
    best = np.zeros(coc_px.shape, np.float32)
    out = np.full(coc_px.shape, -np.inf, np.float32)
    for width in np.unique(strip[is_torn]):
        here = is_torn & (strip == width)
        distance, level = _nearest_of(here, halfway, coc_px.shape)
        counts = width - distance > best
        out[counts], best[counts] = level[counts], (width - distance)[counts]
    return torch.from_numpy(out).to(coc_px)


def _nearest_of(
    cells: npt.NDArray[np.bool_], value: npt.NDArray[np.float32], shape: torch.Size
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Distance in px from each pixel to the nearest of ``cells`` (taken at their upper left corner), and its value."""
    elsewhere = np.ones(tuple(shape), np.uint8)
    elsewhere[:-1, :-1][cells] = 0
    distance, labels = cv2.distanceTransformWithLabels(elsewhere, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_label = np.zeros(int(labels.max()) + 1, np.float32)
    of_label[labels[:-1, :-1][cells]] = value[cells]
    return np.asarray(distance, np.float32), of_label[labels]


def _fill(planes: Tensor, known: Tensor) -> Tensor:
    """Push-pull in-painting (Gortler et al. 1996) of (C, H, W) where ``known`` (H, W) is false."""
    weight = known.to(planes.dtype)[None]
    if min(planes.shape[-2:]) <= 2 or bool(known.all()):
        mean = (planes * weight).sum((1, 2), keepdim=True) / weight.sum().clamp_min(1e-6)
        return torch.where(known, planes, mean)
    summed = F.avg_pool2d((planes * weight)[None], 2, ceil_mode=True)[0]
    weights = F.avg_pool2d(weight[None], 2, ceil_mode=True)[0]
    coarse = _fill(summed / weights.clamp_min(1e-6), weights[0] > 0)
    up = F.interpolate(coarse[None], size=planes.shape[-2:], mode="bilinear", align_corners=False)[0]
    return torch.where(known, planes, up)
