"""Point spread functions of the two half apertures.

Convention: see :mod:`dualpix.capture.render`. The full kernel is a disc of the CoC's diameter with a soft edge. Each
half is the disc times ``1 -/+ g(x)``, with ``g`` a ramp clipped to +-1: a straight ramp is what a microlens with
crosstalk does (gain <= 0.25; Pixel 4 measures 0.21), a steep one tends to the ideal half disc (``4 / (3 pi)`` =
0.424). The slope is solved for, so that the distance of the two centroids is ``gain * CoC`` whatever the softness,
rim and offset. A ramp across the disc is also the model of Abuolaim et al. (ICCV 2021); bright rims and, away from
the image centre, an off-centre split are what the Pixel 4 kernels of Xin et al. (ICCV 2021) show. Both halves carry
the same light: views are flat-fielded.

There are two ways to kernels. :func:`half_kernels` draws every disc in the picture, with an edge of its own: what
:func:`~dualpix.capture.render.layered.render_layers` uses for :class:`PsfModel`. An :class:`Aperture` is a picture of
the lens, in units of its radius, that is drawn once and projected to any CoC: light through the aperture point u lands
``u * CoC / 2`` from the centre and is spread by a Gaussian and by the linear interpolation between pixels, both of
which keep energy and centroid. So the separation of the centroids is exact and smooth in the CoC, a CoC of 0 is a point
(the identity for ``edge_px = 0``), and light behind and in front of focus comes through the same aperture, an
off-centre split included. Discs, generalised Gaussians, Butterworth profiles and measured kernels are all apertures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log, pi, sqrt
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from dualpix.capture.optics import IDEAL_DISPARITY_GAIN

_SUBSAMPLES = 3
_BISECTIONS = 20
_SLOPE_BISECTIONS = 50
_ANTIALIAS = 4
_LEAST_POINTS = 24
_NEGLIGIBLE = 1e-3

Family: TypeAlias = Literal["gaussian", "butterworth"]


@dataclass(frozen=True)
class Aperture:
    """The lens as the two halves of a pixel see it."""

    x: Tensor
    """(M,) position of the columns, evenly spaced, in radii of the CoC's disc; > 0 lands right behind focus."""
    y: Tensor
    """(N,) position of the rows."""
    left: Tensor
    """(N, M) weights >= 0, summing to 0.5."""
    right: Tensor
    """(N, M) weights >= 0, summing to 0.5; ``left + right`` is the full aperture."""
    edge_px: float = 0.0
    """Gaussian sigma by which all light is spread on the sensor, whatever the CoC."""


class HalfKernels(Protocol):
    """What renderers ask of a camera's aperture split.

    ``field`` is the place in the picture, (row, column) as shares of its height and width in [0, 1].
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of places to tell apart in the picture; (1, 1) where it is the same all over."""
        ...

    def kernel_size_px(self, max_coc_px: float) -> int:
        """Odd kernel side that holds CoCs up to ``max_coc_px``."""
        ...

    def kernels(
        self, coc_px: Tensor, size_px: int, *, field: tuple[float, float] = (0.5, 0.5)
    ) -> tuple[Tensor, Tensor]:
        """Left and right kernels (K, size, size) of signed CoCs (K,), each summing to 0.5."""
        ...

    def aperture(self, max_coc_px: float, *, field: tuple[float, float] = (0.5, 0.5)) -> Aperture:
        """The split aperture, sampled finely enough for CoCs up to ``max_coc_px``; float64."""
        ...


@dataclass(frozen=True)
class PsfModel:
    """How a camera splits its aperture."""

    disparity_gain: float = 0.21
    """Distance of the half kernels' centroids over the CoC diameter, in (0, 0.424)."""
    edge_px: float = 0.35
    """Gaussian sigma of the disc's edge at focus: diffraction, aberrations and the pixel's own aperture."""
    edge_relative: float = 0.06
    """Further sigma of the edge, as a share of the CoC radius."""
    rim: float = 0.0
    """Weight at the edge of the disc over that at its centre, minus 1 (spherical aberration); > -1."""
    split_offset: float = 0.0
    """Where the ramp crosses zero, as a share of the CoC radius: 0 on axis, towards +-1 at the side of the field."""

    def __post_init__(self) -> None:
        if not 0.0 < self.disparity_gain <= IDEAL_DISPARITY_GAIN:
            raise ValueError(f"disparity gain {self.disparity_gain}, expected in (0, {IDEAL_DISPARITY_GAIN:.3f}]")

    @property
    def shape(self) -> tuple[int, int]:
        """The same all over the picture."""
        return 1, 1

    def kernel_size_px(self, max_coc_px: float) -> int:
        """Odd kernel side that holds a disc of ``max_coc_px`` with three sigma of edge."""
        radius = max_coc_px / 2
        return 2 * ceil(radius + 3.0 * self._edge_sigma_px(radius)) + 1

    def _edge_sigma_px(self, radius_px: float) -> float:
        return sqrt(self.edge_px**2 + (self.edge_relative * radius_px) ** 2)

    def kernels(
        self, coc_px: Tensor, size_px: int, *, field: tuple[float, float] = (0.5, 0.5)
    ) -> tuple[Tensor, Tensor]:
        """:func:`half_kernels`; the same all over the field."""
        del field
        return half_kernels(coc_px, self, size_px)

    def aperture(self, max_coc_px: float, *, field: tuple[float, float] = (0.5, 0.5)) -> Aperture:
        """The disc with its relative edge, rim and split; the same all over the field."""
        del field
        reach = 1.0 + 3.0 * self.edge_relative
        return _model_aperture(self, _points(reach, max_coc_px))

    def transmission(self, rho: Tensor) -> Tensor:
        """Of the aperture at ``rho`` radii from its centre, unscaled."""
        profile = 1 + self.rim * rho.clamp_max(1.0) ** 2
        if self.edge_relative == 0:
            return profile * (rho <= 1.0)
        return profile * torch.erfc((rho - 1.0) / (sqrt(2.0) * self.edge_relative))


@dataclass(frozen=True)
class RadialPsf:
    """A smooth radial profile, split like :class:`PsfModel`.

    With r over the CoC radius: ``gaussian`` is exp(-r^p), the generalised Gaussian, p = 2 a plain one; ``butterworth``
    is 1 / (1 + r^(2 n)). Either tends to the disc as its order grows.
    """

    family: Family
    order: float
    """p or n; at least 1, of a Butterworth profile at least 2 (or its centroids are not finite)."""
    disparity_gain: float = 0.21
    """Distance of the half kernels' centroids over the CoC diameter."""
    edge_px: float = 0.35
    """Gaussian sigma at focus."""
    split_offset: float = 0.0
    """Where the ramp crosses zero, as a share of the CoC radius."""

    def __post_init__(self) -> None:
        least = 1.0 if self.family == "gaussian" else 2.0
        if not self.order >= least:
            raise ValueError(f"order {self.order} of a {self.family} profile, expected at least {least:g}")
        limit = self._hard_split_gain()
        if not 0.0 < self.disparity_gain <= limit:
            raise ValueError(f"disparity gain {self.disparity_gain}, expected in (0, {limit:.3f}]")

    def transmission(self, rho: Tensor) -> Tensor:
        """Of the aperture at ``rho`` radii from its centre, 1 there."""
        if self.family == "gaussian":
            return torch.exp(-(rho**self.order))
        return 1 / (1 + rho ** (2 * self.order))

    @property
    def shape(self) -> tuple[int, int]:
        """The same all over the picture."""
        return 1, 1

    def kernel_size_px(self, max_coc_px: float) -> int:
        """Odd kernel side, out to a thousandth of the centre's weight."""
        return 2 * ceil(self._reach() * abs(max_coc_px) / 2 + 3.0 * self.edge_px) + 1

    def kernels(
        self, coc_px: Tensor, size_px: int, *, field: tuple[float, float] = (0.5, 0.5)
    ) -> tuple[Tensor, Tensor]:
        """Kernels (K, size, size) of signed CoCs (K,); the same all over the field."""
        return _kernels_of(self.aperture(_largest(coc_px), field=field), coc_px, size_px)

    def aperture(self, max_coc_px: float, *, field: tuple[float, float] = (0.5, 0.5)) -> Aperture:
        """The split profile; the same all over the field."""
        del field
        return _model_aperture(self, _points(self._reach(), max_coc_px))

    def _reach(self) -> float:
        if self.family == "gaussian":
            return float((-log(_NEGLIGIBLE)) ** (1 / self.order))
        return float((1 / _NEGLIGIBLE - 1) ** (1 / (2 * self.order)))

    def _hard_split_gain(self) -> float:
        """Of two halves cut straight: the mean of |x| over the aperture, in radii."""
        rho = torch.linspace(0.0, self._reach(), 4001, dtype=torch.float64)
        weight = self.transmission(rho)
        return float(2 / pi * (weight * rho**2).sum() / (weight * rho).sum())


@dataclass(frozen=True, eq=False)
class PsfGrid:
    """Kernels measured over the field, scaled to other CoCs by resampling, which keeps their energy and centroids."""

    left: Tensor
    """(rows, columns, S, S) with S odd, >= 0, centred on the pixel."""
    right: Tensor
    """(rows, columns, S, S), likewise."""
    reference_coc_px: float | None = None
    """Signed CoC they were measured at; ``None``: :meth:`diameter_px` of the mean, > 0 where the right kernels lie
    further right."""

    def __post_init__(self) -> None:
        shape = tuple(self.left.shape)
        if len(shape) != 4 or shape != tuple(self.right.shape) or shape[2] != shape[3] or shape[2] % 2 == 0:
            raise ValueError(
                f"kernels of {shape} and {tuple(self.right.shape)}, expected both (rows, columns, S, S) with S odd"
            )
        for name in ("left", "right"):
            kernels = getattr(self, name).double()
            light = kernels.sum((2, 3), keepdim=True)
            if not bool(kernels.isfinite().all()) or float(kernels.min()) < 0 or float(light.min()) <= 0:
                raise ValueError(f"{name} kernels: expected finite weights >= 0 with a sum > 0")
            object.__setattr__(self, name, (0.5 * kernels / light).detach().cpu())
        if self.reference_coc_px is None:
            sign = 1.0 if float(self._separation_px().mean()) >= 0 else -1.0
            object.__setattr__(self, "reference_coc_px", sign * float(self.diameter_px().mean()))
        if not abs(self._reference_px) > 1.0:
            raise ValueError(f"kernels measured at a CoC of {self._reference_px:.2f} px, expected beyond +-1 px")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of places over the field."""
        return int(self.left.shape[0]), int(self.left.shape[1])

    def diameter_px(self) -> Tensor:
        """(rows, columns): of the uniform disc with the full kernel's second moment, D = sqrt(8 <r^2>)."""
        full, (y, x) = self.left + self.right, self._axes()
        cx, cy = (full * x).sum((2, 3), keepdim=True), (full * y).sum((2, 3), keepdim=True)
        return (8 * (full * ((x - cx) ** 2 + (y - cy) ** 2)).sum((2, 3))).sqrt()

    def disparity_gain(self) -> Tensor:
        """(rows, columns): distance of the half kernels' centroids over :meth:`diameter_px`, > 0."""
        return self._separation_px().abs() / self.diameter_px()

    def kernel_size_px(self, max_coc_px: float) -> int:
        """Odd kernel side that holds the measured kernels scaled to ``max_coc_px``."""
        return 2 * ceil((self.left.shape[-1] // 2) * abs(max_coc_px / self._reference_px) + 1) + 1

    def kernels(
        self, coc_px: Tensor, size_px: int, *, field: tuple[float, float] = (0.5, 0.5)
    ) -> tuple[Tensor, Tensor]:
        """Kernels (K, size, size) of signed CoCs (K,) at one place, blended from the four measured around it."""
        return _kernels_of(self.aperture(_largest(coc_px), field=field), coc_px, size_px)

    def aperture(self, max_coc_px: float, *, field: tuple[float, float] = (0.5, 0.5)) -> Aperture:
        """The measured kernels around ``field``, blended bilinearly; places are the centres of equal tiles."""
        weights = [_tent(share, count) for share, count in zip(field, self.shape, strict=True)]
        left, right = (torch.einsum("r,c,rcyx->yx", *weights, half) for half in (self.left, self.right))
        # light of one sample spreads over two pixels: samples may not lie farther apart
        finer = max(1, ceil(abs(max_coc_px / self._reference_px)))
        up = _upsampling(left.shape[-1], finer)
        radius = self._reference_px / 2  # < 0 where measured in front of focus: turned over
        axis = (torch.arange(up.shape[0], dtype=torch.float64) - (up.shape[0] - 1) / 2) / finer / radius
        return Aperture(axis, axis, up @ left @ up.T, up @ right @ up.T)

    @property
    def _reference_px(self) -> float:
        return self.reference_coc_px or 0.0  # set on construction

    def _axes(self) -> tuple[Tensor, Tensor]:
        side = self.left.shape[-1]
        x = torch.arange(side, dtype=torch.float64, device=self.left.device) - side // 2
        return x[:, None], x[None, :]

    def _separation_px(self) -> Tensor:
        _, x = self._axes()
        return 2 * ((self.right - self.left) * x).sum((2, 3))


def half_kernels(coc_px: Tensor, psf: PsfModel, size_px: int) -> tuple[Tensor, Tensor]:
    """Left and right kernels for signed CoCs.

    Args:
        coc_px: (K,) signed CoC diameters in px.
        psf: the camera's aperture split.
        size_px: odd kernel side, at least ``psf.kernel_size_px(max |coc|)``.

    Returns:
        left, right: (K, size, size), each summing to 0.5, so their sum is the full kernel.
    """
    n = size_px * _SUBSAMPLES
    axis = (torch.arange(n, dtype=coc_px.dtype, device=coc_px.device) - (n - 1) / 2) / _SUBSAMPLES
    x = axis.reshape(1, 1, n)
    rho = torch.sqrt(axis.reshape(1, n, 1) ** 2 + x**2)
    radius = (coc_px.abs() / 2).reshape(-1, 1, 1)
    sigma = torch.sqrt(psf.edge_px**2 + (psf.edge_relative * radius) ** 2)
    profile = 1 + psf.rim * (rho / radius.clamp_min(0.5)).clamp_max(1.0) ** 2
    disc = profile * torch.erfc((rho - radius) / (sqrt(2.0) * sigma))  # (K, n, n)
    columns = disc.sum(1)  # (K, n): the split depends on x only
    ramp = _ramp(columns, axis - psf.split_offset * coc_px[:, None].abs() / 2, axis, psf.disparity_gain * coc_px.abs())
    # behind the focus plane the right half's light lands right of the centre, in front the rays have crossed
    behind = (coc_px >= 0)[:, None]
    ramp = torch.where(behind, ramp, -ramp)
    left, right = (disc * (1 + side * ramp)[:, None] for side in (-1.0, 1.0))
    return _sample(left, axis, size_px), _sample(right, axis, size_px)


def _ramp(columns: Tensor, from_split: Tensor, axis: Tensor, separation: Tensor) -> Tensor:
    """Clipped ramps g (K, n) that put the centroids of ``1 + g`` and ``1 - g`` ``separation`` apart, by bisection."""
    low = torch.full_like(separation, -14.0)
    high = torch.full_like(separation, 6.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        ramp = (torch.exp(middle)[:, None] * from_split).clamp(-1.0, 1.0)
        plus, minus = columns * (1 + ramp), columns * (1 - ramp)
        apart = _centroid(plus, axis) - _centroid(minus, axis)
        low, high = torch.where(apart < separation, middle, low), torch.where(apart < separation, high, middle)
    slope = torch.where(separation > 0, torch.exp((low + high) / 2), torch.zeros_like(separation))
    return (slope[:, None] * from_split).clamp(-1.0, 1.0)


def _centroid(columns: Tensor, axis: Tensor) -> Tensor:
    return (columns * axis).sum(1) / columns.sum(1).clamp_min(1e-9)


def _sample(fine: Tensor, axis: Tensor, size_px: int) -> Tensor:
    """Fine kernels (K, n, n) onto the pixel grid (K, size, size), summing to 0.5; the weights keep the centroid."""
    pixels = torch.arange(size_px, dtype=axis.dtype, device=axis.device) - size_px // 2
    weights = (1 - (pixels[:, None] - axis[None, :]).abs()).clamp_min(0)
    weights = weights / weights.sum(0, keepdim=True)  # the outermost sub-samples have one neighbour only
    kernel = weights @ fine @ weights.T
    return 0.5 * kernel / kernel.sum((1, 2), keepdim=True)


# ---- apertures and their projection ----


def project(aperture: Aperture, coc_px: Tensor, size_px: int, weights: Tensor) -> Tensor:
    """Light through the aperture as it lands on pixels.

    Args:
        aperture: whose positions and spread are used.
        coc_px: (K,) signed CoC diameters in px.
        size_px: odd kernel side; what falls outside is put on its edge.
        weights: (..., N, M) over the aperture.

    Returns:
        (K, ..., size, size); sums and centroids are those of ``weights``. Differentiable in ``coc_px``.
    """
    pixels = torch.arange(size_px, dtype=coc_px.dtype, device=coc_px.device) - size_px // 2
    columns, rows = (_landing(axis.to(coc_px), coc_px, pixels, aperture.edge_px) for axis in (aperture.x, aperture.y))
    shape = (coc_px.shape[0],) + (1,) * (weights.ndim - 2)
    rows, columns = (m.reshape(*shape, *m.shape[1:]) for m in (rows, columns))
    return rows @ weights.to(coc_px) @ columns.transpose(-1, -2)


def split_cells(weights: Tensor, columns: int, rows: int) -> Tensor:
    """Cut an aperture (N, M) into ``columns * rows`` parts (cells, N, M) of about equal light that sum to it."""
    across = _shares(weights.sum(0), columns)  # (columns, M)
    down = _shares(weights.sum(1), rows)  # (rows, N)
    return torch.einsum("nm,rn,cm->rcnm", weights, down, across).flatten(0, 1)


def _shares(light: Tensor, count: int) -> Tensor:
    """(count, M): how much of each sample belongs to each of ``count`` parts with equal light; sums to 1."""
    upper = light.cumsum(0) / light.sum()
    lower = upper - light / light.sum()
    edges = torch.arange(count, dtype=light.dtype, device=light.device)[:, None] / count
    inside = torch.minimum(upper, edges + 1 / count) - torch.maximum(lower, edges)
    share = inside.clamp_min(0) / (upper - lower).clamp_min(1e-12)
    # a sample without light goes to any part
    return share / share.sum(0).clamp_min(1e-12)


def _landing(axis: Tensor, coc_px: Tensor, pixels: Tensor, sigma_px: float) -> Tensor:
    """(K, size, M): share of the light of aperture position m that lands on each pixel."""
    away = pixels[None, :, None] - axis[None, None, :] * (coc_px / 2)[:, None, None]
    if sigma_px == 0:
        landing = (1 - away.abs()).clamp_min(0)
    else:
        # second difference of the Gaussian's second integral: the Gaussian under the tent of linear interpolation
        landing = (
            _ramp_under_gaussian(away + 1, sigma_px)
            - 2 * _ramp_under_gaussian(away, sigma_px)
            + _ramp_under_gaussian(away - 1, sigma_px)
        )
    return landing / landing.sum(1, keepdim=True).clamp_min(1e-9)


def _ramp_under_gaussian(x: Tensor, sigma: float) -> Tensor:
    t = x / sigma
    return x * 0.5 * (1 + torch.erf(t / sqrt(2.0))) + sigma / sqrt(2 * pi) * torch.exp(-0.5 * t**2)


def _kernels_of(aperture: Aperture, coc_px: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    both = project(aperture, coc_px, size_px, torch.stack([aperture.left, aperture.right]))
    return both[:, 0], both[:, 1]


def _largest(coc_px: Tensor) -> float:
    return float(coc_px.detach().abs().max())


def _points(reach: float, max_coc_px: float) -> int:
    """Samples across the aperture: no more than half a px apart on the sensor."""
    return max(_LEAST_POINTS, ceil(2 * reach * max_coc_px / 8) * 8)


@lru_cache(maxsize=64)
def _model_aperture(psf: PsfModel | RadialPsf, points: int) -> Aperture:
    """Antialiased transmission over a square grid, with the ramp that separates the halves by the wanted gain."""
    reach = 1.0 + 3.0 * psf.edge_relative if isinstance(psf, PsfModel) else psf._reach()
    fine = points * _ANTIALIAS
    at = ((torch.arange(fine, dtype=torch.float64) + 0.5) / fine * 2 - 1) * reach
    light = psf.transmission(torch.hypot(at[:, None], at[None, :]))
    light = light.reshape(points, _ANTIALIAS, points, _ANTIALIAS).mean((1, 3))
    axis = at.reshape(points, _ANTIALIAS).mean(1)
    ramp = _split_ramp(light.sum(0), axis, psf.split_offset, 2 * psf.disparity_gain)
    left, right = (light * (1 + side * ramp) for side in (-1.0, 1.0))
    return Aperture(axis, axis, 0.5 * left / left.sum(), 0.5 * right / right.sum(), psf.edge_px)


def _split_ramp(columns: Tensor, axis: Tensor, offset: float, separation: float) -> Tensor:
    """Clipped ramp g (M,) that puts the centroids of ``1 + g`` and ``1 - g`` ``separation`` radii apart."""

    def ramp(log_slope: float) -> Tensor:
        return (float(torch.tensor(log_slope).exp()) * (axis - offset)).clamp(-1.0, 1.0)

    def apart(g: Tensor) -> float:
        plus, minus = columns * (1 + g), columns * (1 - g)
        return float((plus * axis).sum() / plus.sum() - (minus * axis).sum() / minus.sum())

    low, high = -14.0, 6.0
    for _ in range(_SLOPE_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if apart(ramp(middle)) < separation else (low, middle)
    return ramp((low + high) / 2)


def _tent(share: float, count: int) -> Tensor:
    """(count,) weights of linear interpolation at ``share`` of the field, constant beyond the outermost centres."""
    position = min(max(share * count - 0.5, 0.0), count - 1.0)
    return (1 - (torch.arange(count, dtype=torch.float64) - position).abs()).clamp_min(0)


def _upsampling(side: int, factor: int) -> Tensor:
    """(side * factor + factor - 1, side) linear interpolation; columns sum to 1."""
    count = side * factor + factor - 1
    at = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) / factor
    samples = torch.arange(side, dtype=torch.float64) - side // 2
    return (1 - (at[:, None] - samples[None, :]).abs()).clamp_min(0) / factor
