"""Input, truth and every method side by side on one scale; and how the error falls with the confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dualpix.capture.pictures.colour_map import Limits, Panel, Rgb, Scale, default_limits, figure, grown
from dualpix.capture.pictures.display import to_display
from dualpix.capture.types import FloatImage
from dualpix.models.evaluate.run import Evaluated
from dualpix.models.evaluate.sample import Prediction, Sample, Unit
from dualpix.models.evaluate.summary import Score

_PANEL_PX = 480
_CURVE_INCHES, _DPI = (6.4, 4.8), 100
_LEAST_PX = 300
_SCALES: dict[Unit, tuple[Scale, str]] = {
    "depth_m": ("depth", "m"), "disparity_px": ("diverging", "px"), "light_field_disparity_px": ("sequential", "px"),
}  # fmt: skip
_SHOWN_FIGURES = (
    ("mae_m", "MAE {:.2f} m"), ("mae_px", "MAE {:.2f} px"), ("ai1", "AI(1) {:.3f}"), ("psnr_db", "{:.2f} dB"),
    ("abs_rel", "AbsRel {:.3f}"),
)  # fmt: skip


def comparison_picture(sample: Sample, results: Sequence[Evaluated], unit: Unit) -> Rgb:
    """One row of panels; maps that are known up to an affine map are compared after the robust fit."""
    if unit == "image":
        shown = [_picture("ground truth", sample.truth)]
        shown += [_picture(_title(result), sample.on_truth(result.prediction.values)) for result in results]
        return _figure(shown)
    scale, name = _SCALES.get(unit, ("sequential", ""))
    limits = default_limits(sample.truth, sample.valid, scale)
    panels = [_input(sample), Panel("ground truth", sample.truth, scale, name, sample.valid, limits)]
    panels += [_result(sample, result, unit, scale, name, limits) for result in results]
    return _figure(panels)


def sparsification_picture(scores: Sequence[Score]) -> Rgb | None:
    """What error is left when the least sure pixels are left out: the mean curve over the scenes, for each method with
    a confidence; dashed the least that could be. None where no method has one."""
    curves: dict[str, list[dict[str, list[float]]]] = {}
    for score in scores:
        if score.figures.get("sparsification") is not None:
            curves.setdefault(score.method, []).append(score.figures["sparsification"])
    if not curves:
        return None
    canvas = Figure(figsize=_CURVE_INCHES, dpi=_DPI, facecolor="white", layout="constrained")
    agg = FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    for place, (method, of_scenes) in enumerate(curves.items()):
        colour = f"C{place}"
        kept, error, oracle = (np.mean([c[name] for c in of_scenes], axis=0) for name in ("kept", "error", "oracle"))
        area = float(np.trapezoid(error - oracle, 1 - kept))
        axes.plot(1 - kept, error, color=colour, label=f"{method}: AUSE {area:.3f}")
        axes.plot(1 - kept, oracle, "--", color=colour, linewidth=1)
    axes.axhline(1, color="0.6", linewidth=1, label="random order")
    axes.set(
        xlabel="share of pixels left out, least sure first",
        ylabel="error of the rest / mean error",
        title="sparsification (dashed: by the error itself)",
        xlim=(0, 1),
        ylim=(0, None),
    )
    axes.legend()
    agg.draw()
    return np.asarray(agg.buffer_rgba(), np.uint8)[..., :3].copy()


def _figure(panels: Sequence[Panel]) -> Rgb:
    """Small scenes are shown in larger pixels, so that titles have room."""
    times = max(1, _LEAST_PX // panels[0].image.shape[1])
    shown = [
        replace(p, image=grown(p.image, times), valid=None if p.valid is None else grown(p.valid, times))
        for p in panels
    ]
    return figure(shown, panel_px=_PANEL_PX)


def _input(sample: Sample) -> Panel:
    if sample.stack is not None:
        middle = sample.stack.frames[len(sample.stack.frames) // 2]
        return Panel(f"{sample.name}: middle frame", to_display(middle))
    assert sample.pair is not None  # noqa: S101 - a sample is a pair or a stack
    shown = to_display(sample.pair.combined)
    return Panel(f"{sample.name}: full aperture", shown if sample.grids else sample.window(shown))


def _result(sample: Sample, result: Evaluated, unit: Unit, scale: Scale, name: str, limits: Limits) -> Panel:
    return Panel(_title(result), _in_unit(sample, result, unit), scale, name, None, limits)


def _in_unit(sample: Sample, result: Evaluated, unit: Unit) -> FloatImage:
    prediction: Prediction = result.prediction
    values, figures = sample.on_truth(prediction.values), result.score.figures
    if prediction.unit == unit and unit != "affine":
        return values
    if unit == "depth_m" and sample.metric is not None:
        return sample.metric.depth_of(values)
    if "scale" in figures and figures["scale"] is not None:
        return np.asarray(figures["scale"] * values + figures["offset"], np.float32)
    return values


def _title(result: Evaluated) -> str:
    figures = result.score.figures
    known = (text.format(figures[name]) for name, text in _SHOWN_FIGURES if figures.get(name) is not None)
    return f"{result.score.method}: {next(known, '')}"


def _picture(title: str, values: FloatImage) -> Panel:
    """Display-referred values as they are."""
    return Panel(title, np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))
