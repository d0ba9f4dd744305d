r"""Per-pixel gather: full-aperture views and focus stacks under a generalised Gaussian aperture.

Convention: see :mod:`dualpix.capture.render`; ``R = |c| / 2`` is the radius of the circle of confusion in px. Every
pixel averages its surroundings with the kernel of its **own** CoC::

    I(x) = sum_y w(x - y; R(x)) J(y) / sum_y w(x - y; R(x)),     w(r; R) = exp(-2 (r / R)^p)

over the ``y`` inside the image. With p = 2 this is the Gaussian of standard deviation R / 2 that DfDNet uses, with p
from 2 to 32 the family of FOSSA (arXiv 2603.26658), which tends to a disc of radius R; its factor 1 / R^2 cancels in
the ratio. FOSSA draws p = 2^U(1, 5), takes a window of 15 x 15 px and leaves pixels with R <= 1 px alone:
:meth:`GatherPsf.fossa`.

Light is not spread from where it is but looked up from where it lands, so depth edges are only plausible: a sharp
object keeps a sharp edge in front of blur, but blur does not reach over it, and no halves of an aperture are told
apart. :mod:`dualpix.capture.render.layered` has both; this is what focus-stack networks are trained on, and fast.

:func:`gather_direct` is the formula, a loop over all offsets. :func:`gather` blurs the whole image with the kernels of
a fixed ladder of radii, by FFT, and blends the two around each pixel's own, linearly in R^2, which gives the blend the
second moment of the wanted kernel. Any number of focus distances share the blurred images.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, isfinite, log

import cv2
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dualpix.capture.errors import DualpixError

LADDER_STEP = 0.2
"""Relative step between the radii of :func:`gather`."""

_CUT = 1e-3
"""Weight, against that at the centre, from which on a window may end."""
_NOTHING = 1e-6
_FIRST_RADIUS_PX = 0.4
"""Below it no kernel with p >= 2 reaches a neighbour."""
_LARGEST_EXPONENT = 4.5
"""exp(-2 exp(4.5)) is 0 in float32; farther out, exp would overflow and its gradient be NaN."""


@dataclass(frozen=True)
class GatherPsf:
    """Kernel w(r; R) = exp(-2 (r / R)^p) in a square window.

    Raises:
        DualpixError: a value is out of its range.
    """

    power: float = 2.0
    """p >= 1: 2 is a Gaussian of standard deviation R / 2, 32 nearly a disc of radius R."""
    reach_px: int | None = None
    """Half-width of the window, at least 1; ``None``: as far as the weight exceeds a thousandth of the centre's."""
    sharp_radius_px: float = 0.0
    """Pixels with R up to this keep their value; >= 0."""

    def __post_init__(self) -> None:
        if not (isfinite(self.power) and self.power >= 1):
            raise DualpixError(
                f"PSF power {self.power:g}", expected="a number from 1; 2 is a Gaussian, 32 nearly a disc"
            )
        if self.reach_px is not None and self.reach_px < 1:
            raise DualpixError(f"PSF reach of {self.reach_px} px", expected="at least 1")
        if not self.sharp_radius_px >= 0:
            raise DualpixError(f"sharp radius of {self.sharp_radius_px:g} px", expected="0 or more")

    @classmethod
    def fossa(cls, power: float = 2.0) -> GatherPsf:
        """As published: 15 x 15 window, pixels with R <= 1 px untouched. Fit for CoC up to about 8 px."""
        return cls(power, reach_px=7, sharp_radius_px=1.0)

    def window_px(self, radius_px: float) -> int:
        """Half-width of the window that holds the kernel of ``radius_px``."""
        return self.reach_px or max(1, ceil(radius_px * (-log(_CUT) / 2) ** (1 / self.power)))

    def weights(self, distance_px: Tensor, radius_px: Tensor) -> Tensor:
        """w(r; R), 1 at the centre; distances and radii broadcast. R = 0 is 1 at r = 0 and 0 elsewhere."""
        exponent = self.power * (distance_px.clamp_min(1e-9).log() - radius_px.clamp_min(1e-3).log())
        return torch.exp(-2 * torch.exp(exponent.clamp_max(_LARGEST_EXPONENT)))


def gather(image: Tensor, coc_px: Tensor, psf: GatherPsf | None = None, *, step: float = LADDER_STEP) -> Tensor:
    """Render the full aperture by blending blurred images; of a whole focus stack in one pass.

    Differentiable in both arguments. Cost: 4 FFTs per radius of the ladder that occurs, whatever the blur, and one
    multiply-add per radius and focus distance.

    Args:
        image: (B, C, H, W) all-in-focus, linear.
        coc_px: (B, N, H, W) or (1, N, H, W) CoC in px of each of N focus distances; the sign has no effect.
        psf: kernel; a Gaussian if not given.
        step: relative step between the radii. Against :func:`gather_direct` the error is of second order in it for a
            Gaussian: see the figures in ``tests/capture/render/test_render_gather.py``.

    Returns:
        (B, N, C, H, W).
    """
    psf = psf or GatherPsf()
    radius = coc_px.to(image.dtype).abs() / 2
    squared = radius.square()[:, :, None]  # (B, N, 1, H, W)
    ladder = _ladder(float(radius.detach().amin()), float(radius.detach().amax()), step)
    blur = _Blur(image, psf, ladder[-1])
    views = image.new_zeros(image.shape[0], coc_px.shape[1], *image.shape[1:])
    for k, level in enumerate(ladder):
        share = _share(squared, ladder, k)
        if bool(share.any()):
            views.addcmul_(share, blur(level)[:, None])
    return _keep_sharp(views, image, radius[:, :, None], psf)


def gather_direct(image: Tensor, coc_px: Tensor, psf: GatherPsf | None = None) -> Tensor:
    """The formula itself, offset by offset: the reference for :func:`gather`, and slow.

    Differentiable in both arguments, in the memory of one row of offsets: the others are computed again on the way
    back. Takes (2 window + 1)^2 passes over the image.

    Args:
        image: (B, C, H, W) all-in-focus, linear.
        coc_px: (B, N, H, W) or (1, N, H, W) CoC in px; the sign has no effect.
        psf: kernel; a Gaussian if not given.

    Returns:
        (B, N, C, H, W).
    """
    psf = psf or GatherPsf()
    radius = (coc_px.to(image.dtype).abs() / 2)[:, :, None]  # (B, N, 1, H, W)
    largest = radius.detach().amax()
    reach = psf.window_px(float(largest))
    counted = torch.cat([image, torch.ones_like(image[:, :1])], 1)  # what is outside the image has no weight
    padded = F.pad(counted, (reach, reach, reach, reach))[:, None]

    def row(padded: Tensor, radius: Tensor, dy: int) -> Tensor:
        h, w = radius.shape[-2:]
        total = torch.zeros((), device=image.device, dtype=image.dtype)
        for dx in range(-reach, reach + 1):
            distance = torch.tensor(float(dx * dx + dy * dy), device=image.device, dtype=image.dtype).sqrt()
            if psf.weights(distance, largest) < _NOTHING:
                continue
            shifted = padded[..., reach + dy : reach + dy + h, reach + dx : reach + dx + w]
            total = total + psf.weights(distance, radius) * shifted
        return total

    total = torch.zeros((), device=image.device, dtype=image.dtype)
    for dy in range(-reach, reach + 1):
        total = total + (
            checkpoint(row, padded, radius, dy, use_reentrant=False)
            if torch.is_grad_enabled() and (image.requires_grad or coc_px.requires_grad)
            else row(padded, radius, dy)
        )
    return _keep_sharp(total[:, :, :-1] / total[:, :, -1:], image, radius, psf)


def _keep_sharp(views: Tensor, image: Tensor, radius: Tensor, psf: GatherPsf) -> Tensor:
    """What the kernel's model leaves untouched, untouched."""
    if psf.sharp_radius_px == 0:
        return views
    return torch.where(radius <= psf.sharp_radius_px, image[:, None], views)


def ladder_length(smallest_px: float, largest_px: float, step: float = LADDER_STEP) -> int:
    """How many radii :func:`gather` needs at most for CoC of these absolute sizes."""
    return len(_ladder(smallest_px / 2, largest_px / 2, step))


def _ladder(smallest_px: float, largest_px: float, step: float) -> list[float]:
    """Radii that enclose a range. They lie on one fixed grid, so that a pixel does not depend on others' depth."""
    if not step > 0:
        raise DualpixError(f"step {step:g} between blur radii", expected="a number > 0, about 0.2")

    def rung(radius: float) -> float:
        return log(max(radius, _FIRST_RADIUS_PX) / _FIRST_RADIUS_PX) / log(1 + step)

    first, last = floor(rung(smallest_px)), ceil(rung(largest_px))
    zero = [0.0] if smallest_px < _FIRST_RADIUS_PX else []
    # one more on either side: the ends may be rounded
    return zero + [_FIRST_RADIUS_PX * (1 + step) ** k for k in range(max(0, first - 1), last + 2)]


def _share(squared: Tensor, ladder: list[float], k: int) -> Tensor:
    """Weight of the k-th blurred image: 1 at its own R^2, falling linearly to 0 at its neighbours'."""
    here = ladder[k] ** 2
    share = torch.ones_like(squared)
    if k > 0:
        below = ladder[k - 1] ** 2
        share = torch.minimum(share, (squared - below) / (here - below))
    if k + 1 < len(ladder):
        above = ladder[k + 1] ** 2
        share = torch.minimum(share, (above - squared) / (above - here))
    return share.clamp_min(0)


class _Blur:
    """Blurs one image with kernels of constant radius, each normalised by what of it lies inside the image."""

    def __init__(self, image: Tensor, psf: GatherPsf, largest_px: float) -> None:
        h, w = image.shape[-2:]
        reach = psf.window_px(largest_px)
        self._image, self._psf = image, psf
        self._size = cv2.getOptimalDFTSize(h + reach), cv2.getOptimalDFTSize(w + reach)
        self._spectrum = torch.fft.rfft2(image, self._size)
        self._inside = torch.fft.rfft2(torch.ones_like(image[:1, :1]), self._size)

    def __call__(self, radius_px: float) -> Tensor:
        """(B, C, H, W)."""
        h, w = self._image.shape[-2:]
        if radius_px == 0:
            return self._image
        transfer = self._transfer(radius_px)
        weight = torch.fft.irfft2(self._inside * transfer, self._size)[..., :h, :w]
        blurred: Tensor = torch.fft.irfft2(self._spectrum * transfer, self._size)[..., :h, :w] / weight
        return blurred

    def _transfer(self, radius_px: float) -> Tensor:
        """Spectrum of the kernel on the cyclic grid; real, because the kernel is even."""
        device, dtype = self._image.device, self._image.dtype
        reach = self._psf.window_px(radius_px)
        offset = torch.arange(-reach, reach + 1, device=device)
        distance = (offset[:, None].square() + offset.square()).to(dtype).sqrt()
        kernel = torch.zeros(self._size, device=device, dtype=dtype)
        kernel[offset[:, None] % self._size[0], offset % self._size[1]] = self._psf.weights(
            distance, torch.tensor(radius_px, device=device, dtype=dtype)
        )
        transfer: Tensor = torch.fft.rfft2(kernel / kernel.sum()).real
        return transfer
