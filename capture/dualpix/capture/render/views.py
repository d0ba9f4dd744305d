"""One way into all fast renderers.

Convention: see :mod:`dualpix.capture.render`. What each method is good for:

``layered``
    Dual-pixel pair with measured halves and occlusion: the faithful one. Cost per depth layer, whatever the blur.
``integral``
    Dual-pixel pair with rectangular halves and no occlusion (DDDNet). The cheapest pair; gain 0.5.
``gather``
    Full aperture alone, generalised Gaussian, no occlusion (FOSSA, DfDNet). Shares its work over a focus stack.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN, circle_of_confusion_px
from dualpix.capture.render.gather import GatherPsf, gather, ladder_length
from dualpix.capture.render.inputs import MEMORY_LIMIT_BYTES, check_coc, check_depth, check_image, check_memory
from dualpix.capture.render.integral import render_integral
from dualpix.capture.render.layered import render_dual_pixel
from dualpix.capture.render.psf import HalfKernels, PsfModel
from dualpix.capture.types import LensModel, Quality

Method: TypeAlias = Literal["layered", "integral", "gather"]
METHODS: tuple[Method, ...] = get_args(Method)

_MOST_LAYERS = 64


@dataclass(frozen=True)
class RenderedViews:
    """What one exposure records; each (B, C, H, W), linear."""

    combined: Tensor
    """The full aperture."""
    left: Tensor | None = None
    """Half aperture, ``left + right = combined``; ``None`` where the method tells no halves apart."""
    right: Tensor | None = None

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Left and right.

        Raises:
            DualpixError: the method renders the full aperture alone.
        """
        if self.left is None or self.right is None:
            raise DualpixError("method 'gather' renders the full aperture alone", hint="use 'layered' or 'integral'")
        return self.left, self.right


def render(
    image: Tensor,
    *,
    coc_px: Tensor | None = None,
    depth_m: Tensor | None = None,
    lens: LensModel | None = None,
    method: Method = "layered",
    psf: HalfKernels | GatherPsf | None = None,
    layers: int | None = None,
    quality: Quality = "standard",
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> RenderedViews:
    """Render what a camera records of an RGB-D view; differentiable in image and depth, on the device of ``image``.

    Beyond its border the view goes on with its edge values (``gather``: is left out of the average).

    Args:
        image: (B, C, H, W) all-in-focus, linear, float32 or float64.
        coc_px: (B or 1, 1, H, W) signed CoC in px; or else
        depth_m: (B or 1, 1, H, W) in m, > 0, infinity allowed, and
        lens: through which it is seen, its pitch being that of a pixel of ``image``.
        method: see the module.
        psf: ``layered``: aperture split, by default that of ``lens.disparity_gain``, or of a :class:`PsfModel`;
            ``gather``: a :class:`GatherPsf`, by default a Gaussian. ``integral`` has none.
        layers: of ``layered``: how many depth layers; by default one per px of CoC, from 2 to 64.
        quality: of ``layered``, see :func:`~dualpix.capture.render.layered.render_dual_pixel`.
        memory_limit_bytes: what a call may take at most, by an estimate made before anything is allocated.

    Raises:
        DualpixError: holes in the depth, sizes that differ, a lens that focuses within its focal length, a blur larger
            than the image, a PSF of another method, too much memory.

    Warns:
        UnitsWarning: depth or lens look as if they were in another unit.
    """
    check_image(image)
    coc_px = _coc(image, coc_px, depth_m, lens)
    if coc_px.shape[1] != 1:
        raise DualpixError(
            f"CoC of shape {tuple(coc_px.shape)}",
            expected="one channel",
            hint="render_stack takes many focus distances",
        )
    if method == "gather":
        kernel = gather_psf(psf)
        check_gather_memory(image, coc_px, memory_limit_bytes)
        return RenderedViews(gather(image, coc_px, kernel)[:, 0])
    left, right = render_pair(image, coc_px, method, pair_psf(method, psf, lens), layers, quality, memory_limit_bytes)
    return RenderedViews(left + right, left, right)


def render_pair(
    image: Tensor,
    coc_px: Tensor,
    method: Method,
    psf: HalfKernels | None,
    layers: int | None,
    quality: Quality,
    memory_limit_bytes: int,
) -> tuple[Tensor, Tensor]:
    """Left and right (B, C, H, W) of checked inputs; ``psf`` comes from :func:`pair_psf`."""
    low, high = float(coc_px.detach().amin()), float(coc_px.detach().amax())
    layers = layers or min(_MOST_LAYERS, max(2, ceil(high - low) + 1))
    border = ceil(max(abs(low), abs(high)) / 2) + 1
    coc_px = coc_px.expand(image.shape[0], -1, -1, -1)
    if psf is None:
        check_memory(_integral_bytes(image, coc_px, border), memory_limit_bytes, "rendering integral images")
        pad = (border,) * 4
        views = render_integral(F.pad(image, pad, mode="replicate"), F.pad(coc_px, pad, mode="replicate"))
        left, right = (view[..., border:-border, border:-border] for view in views)
        return left, right
    check_memory(_layered_bytes(image, layers, border), memory_limit_bytes, f"rendering {layers} layers")
    return render_dual_pixel(image, coc_px, psf, layers=layers, quality=quality)


def pair_psf(method: Method, psf: HalfKernels | GatherPsf | None, lens: LensModel | None) -> HalfKernels | None:
    """The aperture split of a method that renders pairs; ``None`` for the rectangles of ``integral``.

    Raises:
        DualpixError: the method has no such kernel, or none can have the lens's gain.
        UnknownNameError: there is no such method.
    """
    if method not in METHODS:
        raise UnknownNameError("method", str(method), list(METHODS))
    if method == "gather":
        raise DualpixError("method 'gather' renders the full aperture alone", hint="use 'layered' or 'integral'")
    if isinstance(psf, GatherPsf):
        raise DualpixError(f"a GatherPsf for method '{method}'", expected="the halves of an aperture, as PsfModel")
    if method == "integral":
        if psf is not None:
            raise DualpixError("a PSF for method 'integral'", expected="none: its halves are rectangles")
        return None
    if psf is not None or lens is None:
        return psf or PsfModel()
    if not 0 < lens.disparity_gain <= IDEAL_DISPARITY_GAIN:
        raise DualpixError(
            f"lens disparity_gain is {lens.disparity_gain:g}",
            expected=f"above 0, at most {IDEAL_DISPARITY_GAIN:.3f}, that of ideal half discs",
        )
    return PsfModel(lens.disparity_gain)


def gather_psf(psf: HalfKernels | GatherPsf | None) -> GatherPsf:
    """The kernel of ``gather``.

    Raises:
        DualpixError: it is one of half apertures.
    """
    if psf is not None and not isinstance(psf, GatherPsf):
        raise DualpixError(f"a {type(psf).__name__} for method 'gather'", expected="a GatherPsf")
    return psf or GatherPsf()


def check_gather_memory(image: Tensor, coc_px: Tensor, limit_bytes: int) -> None:
    """Refuse a gather over CoCs (B or 1, N, H, W) that would not fit.

    Raises:
        DualpixError: it would not.
    """
    b, c, h, w = image.shape
    n = coc_px.shape[1]
    planes = (2 * n + 8) * c + 8 * n
    if _needs_gradient(image, coc_px):
        size = coc_px.detach().abs()
        planes += ladder_length(float(size.amin()), float(size.amax())) * (4 * c + 6 * n)
    check_memory(b * h * w * planes * image.element_size(), limit_bytes, f"rendering {b} x {n} views of {w}x{h}")


def _coc(image: Tensor, coc_px: Tensor | None, depth_m: Tensor | None, lens: LensModel | None) -> Tensor:
    if (coc_px is None) == (depth_m is None):
        raise DualpixError(
            "neither coc_px nor depth_m" if coc_px is None else "both coc_px and depth_m", expected="one"
        )
    if coc_px is None and lens is None:
        raise DualpixError("depth_m without a lens", expected="a LensModel", hint="or give coc_px")
    if depth_m is not None and lens is not None:
        coc_px = circle_of_confusion_px(check_depth(depth_m, image, [lens]), lens)
    assert coc_px is not None  # noqa: S101 - both cases are behind us
    return check_coc(coc_px, image)


def _needs_gradient(image: Tensor, coc_px: Tensor) -> bool:
    return torch.is_grad_enabled() and (image.requires_grad or coc_px.requires_grad)


def _integral_bytes(image: Tensor, coc_px: Tensor, border_px: int) -> float:
    """Float64 throughout; for gradients an index and a weight of each of 24 corners are kept."""
    b, c, h, w = image.shape
    planes = 6 * c + 24 + (24 * 4 if _needs_gradient(image, coc_px) else 0)
    return 8.0 * b * (h + 2 * border_px) * (w + 2 * border_px) * planes


def _layered_bytes(image: Tensor, layers: int, border_px: int) -> float:
    """Colours and opacities of all layers, apart and together, their spectra, and the blurred layers of both views."""
    b, c, h, w = image.shape
    grown = (h + 2 * border_px) * (w + 2 * border_px)
    return 12.0 * image.element_size() * b * layers * (c + 1) * grown
