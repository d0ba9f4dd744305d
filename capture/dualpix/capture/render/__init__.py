"""Image formation: all-in-focus layers or RGB-D to dual-pixel pairs (torch, batched, differentiable).

Convention: circle of confusion (CoC) is a signed diameter in pixels of the rendered view, > 0 behind the focus plane. A
point with CoC ``c`` lands ``kappa * c`` pixels further right in the right view than in the left one, ``kappa`` being
the camera's dual-pixel gain. Light is linear; left + right = the full-aperture view.
"""

from dualpix.capture.render.from_scene import RenderedPair, render_scene, scene_margin_px
from dualpix.capture.render.integral import render_integral
from dualpix.capture.render.layered import layers_from_depth, render_dual_pixel, render_layers
from dualpix.capture.render.psf import PsfModel, half_kernels

__all__ = [
    "PsfModel",
    "RenderedPair",
    "half_kernels",
    "layers_from_depth",
    "render_dual_pixel",
    "render_integral",
    "render_layers",
    "render_scene",
    "scene_margin_px",
]
