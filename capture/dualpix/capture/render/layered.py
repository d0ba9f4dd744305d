"""Layered rendering with occlusion: what lies at one depth is blurred by the half-aperture kernel of its CoC and laid
over what is behind.

Convention: see :mod:`dualpix.capture.render`. Layers and surfaces are ordered back to front.

:func:`render_layers` takes layers of one CoC each. A layer's opacity reaches under everything in front of it, so a
slanted surface cut into layers shows no cracks where its blurred cuts meet. Cost: 4 FFTs forward and 8 back per layer,
whatever the blur. Two things make it differ from a lens. Where the cuts of one surface end at the same silhouette, each
attenuates what is behind once more, so an object grows; and the mean over the aperture of what two objects let through
is not the product of their means, because they block the same rays or different ones.

:func:`render_surfaces` takes whole surfaces with a CoC per pixel and mends both. The cuts of a surface are *added*, as
partition of unity, and divided by what the partition itself blurs to; only surfaces are laid over one another. And the
aperture is cut into cells, the product is taken in each: a cell sees little parallax, so that within it what blocks a
ray of one surface blocks it of the next. Cost: 5 FFTs forward and 1 to 2 per cell for kernels per cut, 10 back per cell
and surface, each only as large as the surface.

:func:`render_dual_pixel` takes an RGB-D view, where nothing says what belongs together. With ``quality="exact"`` the
view and what is in-painted behind its depth edges (:func:`~dualpix.capture.render.raytrace.surfaces_from_depth`) are
cut at the same CoCs, and the blurred cuts, front to back, each take what those in front have left of the light, up to
their own coverage. Cuts of one surface then add up to 1, and an in-painted background fills what an occluder leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import asinh, ceil, floor, sinh
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.capture.render.psf import Aperture, HalfKernels, project, split_cells
from dualpix.capture.render.raytrace import Surface, surfaces_from_depth, torn_cells
from dualpix.capture.types import Quality

_COC_STEP_PX = 1.0
_STEP_GROWS_FROM_PX = 10.0
_FLAT_PX = 1e-3
_LEAST_COVERAGE = 1.0 / 512
_LEAST_LIGHT = 1e-4


def render_layers(
    colour: Tensor, alpha: Tensor, coc_px: Tensor, psf: HalfKernels, margin_px: int
) -> tuple[Tensor, Tensor]:
    """Composite blurred layers into a dual-pixel pair.

    Args:
        colour: (B, K, C, H, W) linear radiance, back to front, defined wherever ``alpha`` > 0.
        alpha: (B, K, H, W) opacity in [0, 1].
        coc_px: (B, K) signed CoC of each layer in px.
        psf: aperture split of the camera.
        margin_px: border that the result loses on each side; at least half the kernel size, because the convolution is
            cyclic.

    Returns:
        left, right: (B, C, H - 2 margin, W - 2 margin); left + right is the full-aperture view.

    Raises:
        ValueError: the margin is too small for the largest CoC.
    """
    b, k, c, h, w = colour.shape
    size = psf.kernel_size_px(float(coc_px.detach().abs().max()))
    if margin_px < size // 2:
        raise ValueError(
            f"margin is {margin_px} px, a CoC of {float(coc_px.detach().abs().max()):.1f} px needs {size // 2}"
        )
    premultiplied = torch.cat([colour * alpha[:, :, None], alpha[:, :, None]], 2)  # (B, K, C+1, H, W)
    spectrum = torch.fft.rfft2(premultiplied)
    views = []
    for kernel in psf.kernels(coc_px.reshape(-1), size):
        transfer = torch.fft.rfft2(_centred(2 * kernel, h, w)).reshape(b, k, 1, h, w // 2 + 1)
        blurred = torch.fft.irfft2(spectrum * transfer, s=(h, w))
        view = blurred[:, 0, :c]
        for layer in range(1, k):
            view = blurred[:, layer, :c] + view * (1 - blurred[:, layer, c:])
        views.append(0.5 * view[:, :, margin_px : h - margin_px, margin_px : w - margin_px])
    return views[0], views[1]


def _centred(kernel: Tensor, h: int, w: int) -> Tensor:
    """(K, s, s) -> (K, h, w) with the kernel's centre at the origin of a cyclic image."""
    s = kernel.shape[-1]
    padded = F.pad(kernel, (0, w - s, 0, h - s))
    return torch.roll(padded, (-(s // 2), -(s // 2)), (1, 2))


@dataclass(frozen=True)
class Cells:
    """Into how many parts of equal light the aperture is cut, for visibility; more is truer and slower."""

    columns: int = 2
    rows: int = 2

    def __post_init__(self) -> None:
        if not (1 <= self.columns <= 8 and 1 <= self.rows <= 8):
            raise ValueError(f"{self.columns} x {self.rows} cells, expected 1 to 8 each")


def render_surfaces(
    colour: Tensor, alpha: Tensor, coc_px: Tensor, psf: HalfKernels, margin_px: int, *, cells: Cells | None = None
) -> tuple[Tensor, Tensor]:
    """Composite surfaces with a CoC per pixel into a dual-pixel pair.

    Differentiable in colour, alpha and CoC. In the CoC it is piecewise smooth: linear interpolation between kernels has
    kinks at the ladder's CoCs (:func:`coc_ladder`), and a surface of constant CoC, rendered with the exact kernel,
    passes on the gradient of a common shift only.

    Args:
        colour: (B, K, C, H, W) linear radiance, back to front, defined wherever ``alpha`` > 0.
        alpha: (B, K, H, W) opacity in [0, 1].
        coc_px: (B, K, H, W) signed CoC in px, defined everywhere and continuous over each surface.
        psf: aperture split of the camera; one that varies over the field is blended tile by tile.
        margin_px: border that the result loses on each side; at least half the kernel size.
        cells: of the aperture; default 2 x 2.

    Returns:
        left, right: (B, C, H - 2 margin, W - 2 margin); left + right is the full-aperture view.

    Raises:
        ValueError: the margin is too small for the largest CoC.
    """
    views = _render_surfaces(colour, alpha, coc_px, psf, margin_px, cells or Cells(), halves=True)
    return views[:, 0], views[:, 1]


def render_surfaces_whole(
    colour: Tensor, alpha: Tensor, coc_px: Tensor, psf: HalfKernels, margin_px: int, *, cells: Cells | None = None
) -> Tensor:
    """The sum of :func:`render_surfaces`' halves, in half the time: what a camera sees through its whole aperture.

    The cells divide the whole aperture, where those of :func:`render_surfaces` divide either half: visibility is judged
    in half as many parts.

    Returns:
        (B, C, H - 2 margin, W - 2 margin).

    Raises:
        ValueError: the margin is too small for the largest CoC.
    """
    return _render_surfaces(colour, alpha, coc_px, psf, margin_px, cells or Cells(), halves=False)[:, 0]


def _render_surfaces(
    colour: Tensor, alpha: Tensor, coc_px: Tensor, psf: HalfKernels, margin_px: int, cells: Cells, *, halves: bool
) -> Tensor:
    """(B, views, C, h, w): two halves, or the whole."""
    largest = float(coc_px.detach().abs().max())
    size = psf.kernel_size_px(largest)
    if margin_px < size // 2:
        raise ValueError(f"margin is {margin_px} px, a CoC of {largest:.1f} px needs {size // 2}")
    pictures = []
    for planes in zip(colour, alpha, coc_px, strict=True):
        surfaces = list(map(_Surface, *planes))
        render = _surface_renderer(surfaces, psf, margin_px, cells, halves=halves)
        pictures.append(_over_field(psf, _inside(colour, margin_px), render))
    return torch.stack(pictures)


def coc_ladder(low_px: float, high_px: float) -> list[float]:
    """CoCs, ascending, from low to high, and in between 1 px apart at focus, wider with blur, the same for all calls.

    So 0 is on it where it lies within, and cuts do not wander with the content.
    """
    if high_px - low_px < _FLAT_PX:
        return [(low_px + high_px) / 2]
    a = _STEP_GROWS_FROM_PX
    step = asinh(_COC_STEP_PX / a)
    first, last = ceil(asinh(low_px / a) / step), floor(asinh(high_px / a) / step)
    between = (a * sinh(k * step) for k in range(first, last + 1))
    clear = 0.1 * min(_COC_STEP_PX, high_px - low_px)
    return [low_px, *(c for c in between if low_px + clear < c < high_px - clear), high_px]


@dataclass(frozen=True)
class _Surface:
    colour: Tensor  # (C, H, W)
    alpha: Tensor  # (H, W)
    coc_px: Tensor  # (H, W)


@dataclass(frozen=True)
class _Window:
    """Part of the rendered view, and what of the canvas its light comes from."""

    rows: slice
    columns: slice
    reach_px: int

    def source(self, margin_px: int) -> tuple[slice, slice]:
        return _shifted(self.rows, margin_px, self.reach_px), _shifted(self.columns, margin_px, self.reach_px)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def _shifted(part: slice, by: int, grown: int) -> slice:
    return slice(part.start + by - grown, part.stop + by + grown)


_Renderer: TypeAlias = Callable[[tuple[float, float], _Window], Tensor]
"""Renders the pixels of a window, (views, C, h, w), through the aperture at a place in the field."""


def _inside(planes: Tensor, margin_px: int) -> Tensor:
    """The last (C, H, W) of ``planes`` without its margin."""
    h, w = planes.shape[-2:]
    return planes[..., margin_px : h - margin_px, margin_px : w - margin_px].reshape(
        -1, planes.shape[-3], h - 2 * margin_px, w - 2 * margin_px
    )[0]


def _over_field(psf: HalfKernels, like: Tensor, render: _Renderer) -> Tensor:
    """(views, C, h, w): one aperture all over, or those of a grid, each in the tiles around its place."""
    h, w = like.shape[-2:]
    if psf.shape == (1, 1):
        return render((0.5, 0.5), _Window(slice(0, h), slice(0, w), 0))
    out = like.new_zeros(1, *like.shape)
    for y, rows, down in _tents(h, psf.shape[0], like):
        for x, columns, across in _tents(w, psf.shape[1], like):
            part = render((y, x), _Window(rows, columns, 0)) * (down[:, None] * across[None, :])
            out = out + F.pad(part, (columns.start, w - columns.stop, rows.start, h - rows.stop))
    return out


def _tents(length: int, count: int, like: Tensor) -> Iterator[tuple[float, slice, Tensor]]:
    """Places along one axis: share of the field, pixels they reach, and their weights there; weights sum to 1."""
    position = ((torch.arange(length, dtype=like.dtype, device=like.device) + 0.5) / length * count - 0.5).clamp(
        0, count - 1
    )
    for k in range(count):
        weight = (1 - (position - k).abs()).clamp_min(0)
        reached = torch.nonzero(weight)[:, 0]
        if reached.numel():
            part = slice(int(reached[0]), int(reached[-1]) + 1)
            yield (k + 0.5) / count, part, weight[part]


def _surface_renderer(
    surfaces: Sequence[_Surface], psf: HalfKernels, margin_px: int, cells: Cells, *, halves: bool
) -> _Renderer:
    largest = max(float(s.coc_px.detach().abs().max()) for s in surfaces)

    def render(field: tuple[float, float], view: _Window) -> Tensor:
        lens = _Lens.of(psf.aperture(largest, field=field), cells, halves=halves)
        out: Tensor | None = None  # (views, cells, C, h, w)
        for surface in surfaces:
            window = _window_of(surface.alpha, surface.coc_px, psf, view, margin_px)
            if window is not None:
                out = _over(out, _blur_surface(surface, lens, window, margin_px), window, view)
        return lens.gather(out, surfaces[0].colour, view)

    return render


@dataclass(frozen=True)
class _Lens:
    """An aperture and the cells of either half, or of the whole."""

    aperture: Aperture
    cells: Tensor  # (views, cells, N, M), each of sum 1
    light: Tensor  # (views, cells): what each cell passes; sums to 0.5 per half, to 1 of the whole

    @classmethod
    def of(cls, aperture: Aperture, cells: Cells, *, halves: bool = True) -> _Lens:
        views = (aperture.left, aperture.right) if halves else (aperture.left + aperture.right,)
        parts = torch.stack([split_cells(view, cells.columns, cells.rows) for view in views])
        light = parts.sum((2, 3))
        return cls(aperture, parts / light[:, :, None, None].clamp_min(1e-12), light)

    def gather(self, seen: Tensor | None, like: Tensor, view: _Window) -> Tensor:
        """(views, C, h, w) from what each cell sees (views, cells, C, h, w); ``None``: nothing."""
        if seen is None:
            return like.new_zeros(len(self.light), like.shape[0], *view.shape)
        return torch.einsum("vk,vkchw->vchw", self.light.to(like), seen)


def _window_of(alpha: Tensor, coc_px: Tensor, psf: HalfKernels, view: _Window, margin_px: int) -> _Window | None:
    """The part of ``view`` that light of a surface (H, W) reaches."""
    covered = alpha.detach() > _LEAST_COVERAGE
    rows, columns = (torch.nonzero(covered.any(axis))[:, 0] for axis in (1, 0))
    if not rows.numel():
        return None
    reach = psf.kernel_size_px(float(coc_px.detach()[covered].abs().max())) // 2
    spans = []
    for found, whole in ((rows, view.rows), (columns, view.columns)):
        start = max(int(found[0]) - margin_px - reach, whole.start)
        stop = min(int(found[-1]) + 1 - margin_px + reach, whole.stop)
        if start >= stop:
            return None
        spans.append(slice(start, stop))
    return _Window(spans[0], spans[1], reach)


def _blur_surface(surface: _Surface, lens: _Lens, window: _Window, margin_px: int) -> Tensor:
    """(views, cells, C + 1, h, w): premultiplied colour and coverage as each cell sees them."""
    where = window.source(margin_px)
    alpha, coc = surface.alpha[where], surface.coc_px[where]
    planes = torch.cat([surface.colour[:, *where] * alpha, alpha[None]])
    on_it = surface.coc_px[surface.alpha.detach() > _LEAST_COVERAGE]
    ladder = coc_ladder(*(float(bound) for bound in on_it.detach().aminmax()))
    if len(ladder) == 1:
        return _convolve(planes[None], on_it.mean()[None], lens, window)
    steps = torch.tensor(ladder, dtype=coc.dtype, device=coc.device)
    shares = _partition(coc.clamp(ladder[0], ladder[-1]), steps)
    with_share = torch.cat([planes, torch.ones_like(alpha)[None]])
    blurred = _convolve((with_share * share for share in shares), steps, lens, window)
    return blurred[:, :, :-1] / blurred[:, :, -1:].clamp_min(1e-6)


def _convolve(cuts: Iterable[Tensor], coc_px: Tensor, lens: _Lens, window: _Window) -> Tensor:
    """Sum of cuts (C, h + 2 reach, w + 2 reach), each blurred by its CoC: (views, cells, C, h, w)."""
    h, w = window.shape
    size = 2 * window.reach_px + 1
    fft_h, fft_w = (_fast_length(n + size - 1) for n in (h, w))
    total: Tensor | None = None
    for cut, kernel in zip(cuts, project(lens.aperture, coc_px, size, lens.cells), strict=True):
        # rows first: those beyond the kernel are zero
        transfer = torch.fft.fft(torch.fft.rfft(kernel, fft_w), fft_h, dim=-2)[:, :, None]
        spectrum = torch.fft.rfft2(cut, (fft_h, fft_w))
        if total is None:
            total = spectrum * transfer
        else:
            total.addcmul_(spectrum, transfer)
    if total is None:
        raise ValueError("expected at least one cut")
    # the kernel's centre lies ``reach`` from its corner, the view ``reach`` inside the cut
    rows = torch.fft.ifft(total, dim=-2)[..., size - 1 : size - 1 + h, :]
    blurred: Tensor = torch.fft.irfft(rows, fft_w)[..., size - 1 : size - 1 + w]
    return blurred


def _partition(coc_px: Tensor, steps: Tensor) -> Tensor:
    """(K, ...) linear interpolation weights of each CoC between ascending ``steps`` (K,) that span it; sum 1."""
    if len(steps) == 1:
        return torch.ones_like(coc_px)[None]
    steps = steps.reshape(-1, *(1,) * coc_px.ndim)
    rising = (coc_px - steps[:-1]) / (steps[1:] - steps[:-1])
    first = torch.ones_like(rising[:1])
    return torch.minimum(torch.cat([first, rising]), torch.cat([1 - rising, first])).clamp(0.0, 1.0)


def _over(behind: Tensor | None, seen: Tensor, window: _Window, view: _Window) -> Tensor:
    """Lay a blurred surface, known in its window, over what is behind, known in the whole view."""
    light, coverage = _widen(seen[:, :, :-1], window, view), _widen(seen[:, :, -1:], window, view)
    return light if behind is None else behind * (1 - coverage) + light


def _within(window: _Window, view: _Window) -> tuple[slice, slice]:
    """The window's rows and columns in the view."""
    return _shifted(window.rows, -view.rows.start, 0), _shifted(window.columns, -view.columns.start, 0)


def _widen(planes: Tensor, window: _Window, view: _Window) -> Tensor:
    """Planes of the window with zeros around, as large as the view."""
    rows, columns = _within(window, view)
    return F.pad(planes, (columns.start, view.shape[1] - columns.stop, rows.start, view.shape[0] - rows.stop))


def _fast_length(least: int) -> int:
    """Smallest even length >= ``least`` with no prime factor above 5: FFTs are fast there."""
    length = least + least % 2
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 2


def layers_from_depth(image: Tensor, coc_px: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut an RGB-D image into layers of equal CoC step, with in-painted background.

    Args:
        image: (B, C, H, W) all-in-focus, linear.
        coc_px: (B, 1, H, W) signed CoC in px; larger is farther.
        count: number of layers K >= 2.

    Returns:
        colour (B, K, C, H, W), alpha (B, K, H, W), coc (B, K): back to front, for :func:`render_layers`.
    """
    far = coc_px.amax((1, 2, 3))
    near = coc_px.amin((1, 2, 3))
    step = ((far - near) / (count - 1)).clamp_min(1e-6)
    centres = far[:, None] - step[:, None] * torch.arange(count, device=image.device)  # (B, K)
    position = (far.reshape(-1, 1, 1, 1) - coc_px) / step.reshape(-1, 1, 1, 1)  # 0 = farthest layer
    colours, alphas = [], []
    for k in range(count):
        # Opaque from this layer on forward; the fraction in between blends two layers, so slopes have no steps.
        alphas.append((position - (k - 1)).clamp(0.0, 1.0) if k else torch.ones_like(position))
        # A surface that goes on into the next layers keeps its own colour there; what lies well in front is an
        # occluder, and the colour behind it is filled from the farther side.
        own = position < k + 1.5
        colours.append(torch.where(own, image, _fill(image, own)))
    return torch.stack(colours, 1), torch.stack(alphas, 1)[:, :, 0], centres


def _fill(image: Tensor, known: Tensor) -> Tensor:
    """Push-pull in-painting (Gortler et al. 1996): average the known pixels down a pyramid, read the holes back up."""
    weight = known.to(image.dtype)
    if min(image.shape[-2:]) <= 2 or bool(known.all()):
        total = (image * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp_min(1e-6)
        return torch.where(known, image, total)
    summed = F.avg_pool2d(image * weight, 2, ceil_mode=True)
    weights = F.avg_pool2d(weight, 2, ceil_mode=True)
    coarse = _fill(summed / weights.clamp_min(1e-6), weights > 0)
    up = F.interpolate(coarse, size=image.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(known, image, up)


def render_dual_pixel(
    image: Tensor,
    coc_px: Tensor,
    psf: HalfKernels,
    *,
    layers: int = 24,
    quality: Quality = "standard",
    cells: Cells | None = None,
) -> tuple[Tensor, Tensor]:
    """All-in-focus image and signed CoC to a dual-pixel pair of the same size.

    Differentiable in image and CoC. Which pixels lie on either side of a depth edge is decided without gradient, so in
    the CoC the result is piecewise smooth, with kinks where a pixel changes cut or a cut has used up the light.

    Args:
        image: (B, C, H, W) linear.
        coc_px: (B, 1, H, W) signed CoC diameter in px, > 0 behind the focus plane.
        psf: aperture split of the camera.
        layers: of ``standard``: how many depth layers; the CoC step between them should stay near 1 px.
        quality: ``standard`` lays blurred layers over one another; ``exact`` keeps surfaces whole, see the module.
        cells: of ``exact``: parts of the aperture in which visibility is judged; default 2 x 2.

    Returns:
        left, right: (B, C, H, W); left + right is the full-aperture view.
    """
    if quality == "exact":
        views = _render_views(image, coc_px, psf, cells or Cells(), halves=True)
        return views[:, 0], views[:, 1]
    image, coc_px, margin = _padded(image, coc_px, psf)
    colour, alpha, centres = layers_from_depth(image, coc_px, layers)
    return render_layers(colour, alpha, centres, psf, margin)


def render_whole(image: Tensor, coc_px: Tensor, psf: HalfKernels, *, cells: Cells | None = None) -> Tensor:
    """The sum of the halves of :func:`render_dual_pixel` of quality ``exact``, as :func:`render_surfaces_whole`.

    Args:
        image: (B, C, H, W) linear.
        coc_px: (B, 1, H, W) signed CoC diameter in px, > 0 behind the focus plane.
        psf: of the camera; its split has no effect.
        cells: parts of the aperture in which visibility is judged; default 2 x 2.

    Returns:
        (B, C, H, W).
    """
    return _render_views(image, coc_px, psf, cells or Cells(), halves=False)[:, 0]


def _padded(image: Tensor, coc_px: Tensor, psf: HalfKernels) -> tuple[Tensor, Tensor, int]:
    """Both with the border that the largest CoC needs, and its width in px."""
    margin = psf.kernel_size_px(float(coc_px.detach().abs().max())) // 2 + 1
    pad = (margin, margin, margin, margin)
    return F.pad(image, pad, mode="replicate"), F.pad(coc_px, pad, mode="replicate"), margin


def _render_views(image: Tensor, coc_px: Tensor, psf: HalfKernels, cells: Cells, *, halves: bool) -> Tensor:
    """(B, views, C, H, W): two halves, or the whole."""
    image, coc_px, margin = _padded(image, coc_px, psf)
    return torch.stack(
        [
            _over_field(psf, _inside(picture, margin), _view_renderer(picture, coc, psf, margin, cells, halves=halves))
            for picture, coc in zip(image, coc_px[:, 0], strict=True)
        ]
    )


def _view_renderer(
    image: Tensor, coc_px: Tensor, psf: HalfKernels, margin_px: int, cells: Cells, *, halves: bool
) -> _Renderer:
    found = surfaces_from_depth(image, coc_px, torn_cells(coc_px.detach()))[::-1]  # front first
    ladder = coc_ladder(*(float(bound) for bound in coc_px.detach().aminmax()))
    steps = torch.tensor(ladder, dtype=coc_px.dtype, device=coc_px.device)
    planes = _cut(found, steps)

    def render(field: tuple[float, float], view: _Window) -> Tensor:
        lens = _Lens.of(psf.aperture(max(map(abs, ladder)), field=field), cells, halves=halves)
        seen = image.new_zeros(*lens.light.shape, image.shape[0], *view.shape)
        left = torch.ones_like(seen[:, :, :1])
        for cut, coc in zip(planes, steps, strict=True):  # a smaller CoC is nearer
            window = _window_of(cut[-1], coc.expand_as(cut[-1]), psf, view, margin_px)
            if window is None:
                continue
            blurred = _convolve([cut[:, *window.source(margin_px)]], coc[None], lens, window)
            light, coverage = blurred[:, :, :-1], blurred[:, :, -1:].clamp_min(0.0)
            taken = torch.minimum(coverage, left[..., *_within(window, view)])
            share = taken / coverage.clamp_min(_LEAST_LIGHT)
            seen = seen + _widen(light * share, window, view)
            left = left - _widen(taken, window, view)
        return lens.gather(seen / (1 - left).clamp_min(_LEAST_LIGHT), image, view)

    return render


def _cut(found: Sequence[Surface], steps: Tensor) -> Tensor:
    """(K, C + 1, H, W) premultiplied colour and coverage at each CoC of what is seen and what is uncovered behind."""
    front = found[0]
    weight = _partition(front.coc_px, steps)[:, None]
    light = front.colour * weight
    for before, surface in pairwise(found):
        uncovered = surface.coc_px.detach() > before.coc_px.detach() + _FLAT_PX
        share = _partition(surface.coc_px.clamp(steps[0], steps[-1]), steps)[:, None] * uncovered
        weight, light = weight + share, light + surface.colour * share
    # of one CoC, before and behind are one
    scale = 1 / weight.clamp_min(1.0)
    return torch.cat([light * scale, weight * scale], 1)
