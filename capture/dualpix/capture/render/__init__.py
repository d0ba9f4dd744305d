"""Image formation: all-in-focus layers or RGB-D to dual-pixel pairs and focus stacks (torch, batched, differentiable).

    views = render(image, depth_m=depth_m, lens=lens)                   # .left, .right, .combined
    stack = render_stack(image, depth_m, [0.5, 1.0, 2.0], lens)         # (B, 3, C, H, W)

Convention: circle of confusion (CoC) is a signed diameter in pixels of the rendered view, > 0 behind the focus plane. A
point with CoC ``c`` lands ``kappa * c`` pixels further right in the right view than in the left one, ``kappa`` being
the camera's dual-pixel gain. Light is linear; left + right = the full-aperture view.

:func:`render` and :func:`render_stack` check what they are given; the renderers behind them (``layered``, ``integral``,
``gather``) take tensors as they are. ``raytrace`` is the slow truth they are held against, ``compare`` says how close.
"""

from dualpix.capture.render.from_scene import RenderedPair, render_scene, render_scene_stack, scene_margin_px
from dualpix.capture.render.gather import GatherPsf
from dualpix.capture.render.inputs import UnitsWarning
from dualpix.capture.render.integral import render_integral
from dualpix.capture.render.layered import (
    Cells,
    layers_from_depth,
    render_dual_pixel,
    render_layers,
    render_surfaces,
    render_surfaces_whole,
    render_whole,
)
from dualpix.capture.render.psf import HalfKernels, PsfGrid, PsfModel, RadialPsf, half_kernels
from dualpix.capture.render.raytrace import (
    Surface,
    TracedPair,
    sample_aperture,
    scene_surfaces,
    surfaces_from_depth,
    trace,
)
from dualpix.capture.render.stack import render_dual_pixel_stack, render_stack, stack_coc_px
from dualpix.capture.render.views import METHODS, Method, RenderedViews, render
from dualpix.capture.types import Quality

__all__ = [
    "METHODS",
    "Cells",
    "GatherPsf",
    "HalfKernels",
    "Method",
    "PsfGrid",
    "PsfModel",
    "Quality",
    "RadialPsf",
    "RenderedPair",
    "RenderedViews",
    "Surface",
    "TracedPair",
    "UnitsWarning",
    "half_kernels",
    "layers_from_depth",
    "render",
    "render_dual_pixel",
    "render_dual_pixel_stack",
    "render_integral",
    "render_layers",
    "render_scene",
    "render_scene_stack",
    "render_stack",
    "render_surfaces",
    "render_surfaces_whole",
    "render_whole",
    "sample_aperture",
    "scene_margin_px",
    "scene_surfaces",
    "stack_coc_px",
    "surfaces_from_depth",
    "trace",
]
