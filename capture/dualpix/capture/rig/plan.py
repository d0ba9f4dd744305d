"""How well a rig would know depth, before it is built.

Convention: inverse depth has the error of the match over focal length times baseline, whatever the distance:
``s_q = s_px / (f_px B)``; depth has ``s_q d^2``, and the dual-pixel disparity that it becomes
``s_q`` times :func:`~dualpix.capture.optics.disparity_px_per_diopter`, the same everywhere. Distances in m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.colour_map import Rgb
from dualpix.capture.rig.geometry import Array
from dualpix.capture.types import LensModel

MATCH_SIGMA_PX = 0.15
"""Median of the stated uncertainty on simulated scenes with noise (docs/rig.md)."""
_MOST_SHARE = 0.5
_POINTS = 200


@dataclass(frozen=True)
class RigPlan:
    """Two cameras side by side."""

    focal_px: float
    width_px: int
    baseline_m: float
    near_m: float
    far_m: float
    sigma_px: float = MATCH_SIGMA_PX
    lens: LensModel | None = None
    """Of camera a, for the error of its dual-pixel disparity."""

    def __post_init__(self) -> None:
        if not 0 < self.near_m < self.far_m:
            raise DualpixError(f"a range from {self.near_m:g} m to {self.far_m:g} m", expected="near below far")
        if self.disparity_px(self.near_m) > _MOST_SHARE * self.width_px:
            raise DualpixError(
                f"at {self.near_m:g} m the pictures are {self.disparity_px(self.near_m):.0f} px apart, "
                f"of {self.width_px}",
                expected=f"at most {100 * _MOST_SHARE:.0f} % of the width",
                hint="take a shorter baseline, or stay farther away",
            )

    def disparity_px(self, depth_m: float) -> float:
        """Of the stereo pair."""
        return self.focal_px * self.baseline_m / depth_m

    @property
    def inverse_depth_sigma(self) -> float:
        """1/m, the same at all distances."""
        return self.sigma_px / (self.focal_px * self.baseline_m)

    def depth_sigma_m(self, depth_m: Array) -> Array:
        """One standard deviation."""
        return np.asarray(self.inverse_depth_sigma * np.asarray(depth_m) ** 2)

    @property
    def disparity_sigma_px(self) -> float | None:
        """Of the dual-pixel disparity; None without a lens."""
        if self.lens is None:
            return None
        return self.inverse_depth_sigma * abs(optics.disparity_px_per_diopter(self.lens))

    def shared(self, depth_m: float) -> float:
        """Part of a's picture that b sees as well."""
        return max(0.0, 1 - self.disparity_px(depth_m) / self.width_px)

    def table(self) -> list[dict[str, float]]:
        """At round inverse depths over the range."""
        rows = []
        for depth in 1 / np.linspace(1 / self.near_m, 1 / self.far_m, 6):
            sigma = float(self.depth_sigma_m(depth))
            rows.append(
                {
                    "depth_m": round(float(depth), 4),
                    "disparity_px": round(self.disparity_px(float(depth)), 2),
                    "depth_sigma_m": float(f"{sigma:.3g}"),
                    "depth_sigma_percent": round(100 * sigma / float(depth), 3),
                    "shared": round(self.shared(float(depth)), 3),
                }
            )
        return rows


def picture(plan: RigPlan) -> Rgb:
    """Depth error over distance, for the baseline and for half and twice of it."""
    canvas = Figure(figsize=(7.2, 4.2), dpi=100, facecolor="white")
    agg = FigureCanvasAgg(canvas)
    axes = canvas.add_axes((0.11, 0.13, 0.85, 0.75))
    depth = np.geomspace(plan.near_m, plan.far_m, _POINTS)
    for factor, style in ((0.5, ":"), (1.0, "-"), (2.0, "--")):
        percent = 100 * plan.depth_sigma_m(depth) / factor / depth
        axes.loglog(depth, percent, style, color="#2166ac", label=f"baseline {1e3 * factor * plan.baseline_m:g} mm")
    axes.set_xlabel("distance (m)")
    axes.set_ylabel("depth error, 1 sigma (% of distance)")
    extra = plan.disparity_sigma_px
    title = f"f = {plan.focal_px:.0f} px, match to {plan.sigma_px:g} px"
    axes.set_title(title + ("" if extra is None else f"; dual-pixel disparity to {extra:.3g} px"), fontsize=11)
    for axis, most in ((axes.xaxis, 10), (axes.yaxis, 6)):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=most))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="both", color="#dddddd")
    axes.legend()
    agg.draw()
    return np.asarray(agg.buffer_rgba(), np.uint8)[..., :3].copy()
