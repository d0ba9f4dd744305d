"""The plots of the report, each once for a light and once for a dark page.

Every function gives a matplotlib figure on a transparent ground. Text is never cut off or printed over other text where
there is room for it: labels are placed one after the other beside their points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dualpix.export.profile.result import Operator, Peaks, Profile
from dualpix.quantize.search.assignment import Assignment

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")

_INK = {"light": "#26323d", "dark": "#d7dee5"}
_BLUE = {"light": "#0b62a4", "dark": "#6db3f2"}
_ORANGE = {"light": "#b4460a", "dark": "#ff9e5e"}
_GREY = {"light": "#8a96a1", "dark": "#75828e"}
_BARS = 24
_MEDIANS = 100
"""Points of a running median."""
_PLACES = (
    (9, 5, "left"),
    (9, -11, "left"),
    (-9, 5, "right"),
    (-9, -11, "right"),
    (0, 13, "center"),
    (0, -20, "center"),
)
"""Offsets in points from a marker where its label may stand, in order of preference."""


@dataclass(frozen=True)
class Point:
    """One network in the accuracy plots."""

    name: str
    error: float
    latency_s: float | None
    """``None`` where it did not run here."""
    quartiles_s: tuple[float, float] | None
    size_bytes: int | None
    reference: bool = False


def latency_chart(points: Sequence[Point], band: float | None, what: str, theme: Theme) -> Figure:
    """Error against latency, the area of a marker in proportion to the file's size; a line joins the best choices.

    Args:
        points: those that ran here.
        band: relative increase of the reference's error that is shaded; ``None`` shades nothing.
        what: label of the error.
        theme: of the page.
    """
    figure, axes = _axes(theme)
    timed = [p for p in points if p.latency_s is not None]
    largest = max((p.size_bytes or 0 for p in timed), default=0) or 1
    for p in timed:
        median = (p.latency_s or 0.0) * 1e3
        low, high = (q * 1e3 for q in p.quartiles_s or (median / 1e3, median / 1e3))
        colour = (_BLUE if p.reference else _ORANGE)[theme]
        area = 60 + 600 * (p.size_bytes or 0) / largest
        axes.errorbar(median, p.error, xerr=[[median - low], [high - median]], color=colour, capsize=3, lw=1)
        face = "none" if p.reference else colour
        axes.scatter(median, p.error, s=area, facecolor=face, edgecolor=colour, alpha=0.8, zorder=3)
    _front(axes, [((p.latency_s or 0.0) * 1e3, p.error) for p in timed], theme)
    _band(axes, points, band, theme)
    axes.set(xlabel="latency, ms (median, quartiles)", ylabel=what)
    # the bars of a busy machine may reach far beyond; they are cut rather than the points pressed together
    axes.set_xlim(0, 1.35e3 * max([1e-6, *(p.latency_s or 0.0 for p in timed)]))
    _limits(axes, points, band)
    _labels(figure, axes, [(p.name, (p.latency_s or 0.0) * 1e3, p.error) for p in timed], theme)
    return figure


def size_chart(points: Sequence[Point], band: float | None, what: str, theme: Theme) -> Figure:
    """Error against file size, hollow where the file was interpreted rather than run; see :func:`latency_chart`."""
    figure, axes = _axes(theme)
    sized = [p for p in points if p.size_bytes]
    for p in sized:
        colour = _ORANGE[theme]
        face = colour if p.latency_s is not None else "none"
        axes.scatter((p.size_bytes or 0) / 1e6, p.error, s=80, facecolor=face, edgecolor=colour, zorder=3)
    _front(axes, [((p.size_bytes or 0) / 1e6, p.error) for p in sized], theme)
    _band(axes, points, band, theme)
    axes.set(xlabel="file size, MB", ylabel=what)
    axes.set_xlim(0, 1.25 * max([1e-3, *((p.size_bytes or 0) / 1e6 for p in sized)]))
    _limits(axes, points, band)
    _labels(figure, axes, [(p.name, (p.size_bytes or 0) / 1e6, p.error) for p in sized], theme)
    return figure


def sensitivity_chart(assignment: Assignment, theme: Theme) -> Figure:
    """The layers that int8 harms most, those kept float in orange."""
    worst = sorted((s for s in assignment.layers if np.isfinite(s.harm)), key=lambda s: -s.harm)[:_BARS][::-1]
    kept = set(assignment.keep_float)
    figure, axes = _axes(theme, height=0.9 + 0.24 * len(worst))
    colours = [(_ORANGE if s.path in kept else _BLUE)[theme] for s in worst]
    axes.barh([s.path or "(network)" for s in worst], [s.harm for s in worst], color=colours, height=0.65)
    axes.set_xlabel("loss by int8 in this layer alone (orange: kept float)")
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="y", visible=False)
    return figure


def search_chart(assignment: Assignment, theme: Theme) -> Figure:
    """Loss against the cost of the multiply-accumulates of the choices that the search measured."""
    figure, axes = _axes(theme)
    best = sorted((p.compute, p.loss) for p in assignment.frontier if p.best and np.isfinite(p.loss))
    if best:
        axes.plot(*zip(*best, strict=True), color=_BLUE[theme], marker="o", ms=5, lw=1.2)
    named = []
    for p in assignment.frontier:
        if not np.isfinite(p.loss):
            continue
        chosen = set(p.keep_float) == set(assignment.keep_float)
        ends = "int8" if not p.keep_float else "float" if p.int8_share == 0 else ""
        if chosen or ends:
            axes.scatter(p.compute, p.loss, s=70, color=(_ORANGE if chosen else _BLUE)[theme], zorder=3)
            named.append(("chosen" if chosen else ends, p.compute, p.loss))
    allowed = assignment.float_loss * (1 + assignment.budget)
    if assignment.float_loss > 0:
        axes.axhline(allowed, color=_GREY[theme], ls="--", lw=1)
    axes.set(xlabel="cost of the multiply-accumulates (1: all float)", ylabel="loss (dashed: the budget)")
    axes.margins(x=0.12, y=0.15)
    _labels(figure, axes, named, theme)
    return figure


def roofline_chart(operators: Sequence[Operator], peaks: Peaks, theme: Theme) -> Figure:
    """What each operator reached against its arithmetic intensity, below the roof that was measured."""
    figure, axes = _axes(theme)
    shown = [o for o in operators if o.macs and o.bytes and o.median_s > 0]
    intensity = np.array([(o.macs or 0) / (o.bytes or 1) for o in shown])
    reached = np.array([(o.macs or 0) / o.median_s / 1e9 for o in shown])
    if shown:
        sizes = [20 + 900 * o.share for o in shown]
        axes.scatter(intensity, reached, s=sizes, color=_ORANGE[theme], alpha=0.6, edgecolor="none")
        low, high = float(intensity.min()) / 2, max(float(intensity.max()) * 2, 1.0)
        x = np.geomspace(low, high, 100)
        roof = np.minimum(peaks.macs_per_s, x * peaks.bytes_per_s) / 1e9
        axes.plot(x, roof, color=_BLUE[theme], lw=1.5)
        axes.set(xscale="log", yscale="log", xlim=(low, high))
        first = sorted(range(len(shown)), key=lambda i: -shown[i].share)[:6]
        _labels(figure, axes, [(shown[i].module or shown[i].kind, intensity[i], reached[i]) for i in first], theme)
    axes.set(xlabel="multiply-accumulates per byte", ylabel="GMAC/s")
    return figure


def threads_chart(profiles: Sequence[Profile], theme: Theme) -> Figure:
    """Median latency against the number of threads, a line per file."""
    figure, axes = _axes(theme, height=3.0)
    ends = []
    for name in dict.fromkeys(p.subject.file for p in profiles):
        row = sorted((p.settings.threads, (p.p50_s or 0.0) * 1e3) for p in profiles if p.subject.file == name)
        colour = (_BLUE if not next(p for p in profiles if p.subject.file == name).subject.sha256 else _ORANGE)[theme]
        axes.plot(*zip(*row, strict=True), marker="o", color=colour)
        ends.append((name, *row[-1]))
    axes.set(xlabel="threads", ylabel="latency, ms (median)")
    axes.set_ylim(bottom=0)
    axes.set_xticks(sorted({p.settings.threads for p in profiles}))
    axes.margins(x=0.35)
    _labels(figure, axes, ends, theme)
    return figure


def _axes(theme: Theme, height: float = 3.8) -> tuple[Figure, Any]:
    ink = _INK[theme]
    figure = Figure(figsize=(6.4, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.tick_params(colors=ink, which="both")
    for item in (axes.xaxis.label, axes.yaxis.label):
        item.set_color(ink)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=ink)
    axes.grid(color=ink, alpha=0.15)
    axes.set_axisbelow(True)
    return figure, axes


def _front(axes: Any, points: Sequence[tuple[float, float]], theme: Theme) -> None:
    """A step line through the points that no other point beats in both."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not best or y < best[-1][1]:
            best.append((x, y))
    if len(best) > 1:
        axes.step(*zip(*best, strict=True), where="post", color=_GREY[theme], lw=1, ls=":", zorder=1)


def _band(axes: Any, points: Sequence[Point], band: float | None, theme: Theme) -> None:
    reference = next((p.error for p in points if p.reference), None)
    if band and reference is not None:
        axes.axhspan(reference, reference * (1 + band), color=_BLUE[theme], alpha=0.12, lw=0)


def _limits(axes: Any, points: Sequence[Point], band: float | None) -> None:
    errors = [p.error for p in points] or [0.0]
    reference = next((p.error for p in points if p.reference), None)
    if band and reference is not None:
        errors += [reference * (1 + band)]
    positive = [e for e in errors if e > 0]
    if not band and positive and max(positive) > 30 * min(positive):
        axes.set_yscale("symlog", linthresh=min(positive))
        axes.set_ylim(0, 3 * max(positive))
        return
    reach = max(max(errors) - min(errors), 0.05 * max(errors), 1e-9)
    axes.set_ylim(min(errors) - 0.3 * reach, max(errors) + 0.3 * reach)


def _labels(figure: Figure, axes: Any, named: Sequence[tuple[str, float, float]], theme: Theme) -> None:
    """Each name beside its point where it covers no label set before, and stays within the axes where it can."""
    taken: list[Any] = []
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    for name, x, y in named:
        if not name:
            continue
        for index, (dx, dy, align) in enumerate(_PLACES):
            text = axes.annotate(name, (x, y), (dx, dy), textcoords="offset points", ha=align)
            text.set(color=_INK[theme], fontsize=8.5)
            box = text.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 + 20
            if (inside and not any(box.overlaps(other) for other in taken)) or index == len(_PLACES) - 1:
                taken.append(box)
                break
            text.remove()


def loss_chart(steps: Sequence[int], losses: Sequence[float], theme: Theme) -> Figure:
    """The loss of every step, and its running median, without which the noise of batches hides the course."""
    figure, axes = _axes(theme, height=3.0)
    values = np.asarray(losses, np.float64)
    width = max(1, len(values) // _MEDIANS)
    ends = range(width, len(values) + 1, width)
    axes.plot(steps, values, color=_GREY[theme], lw=0.5, alpha=0.5)
    middle = [float(np.median(values[end - width : end])) for end in ends]
    axes.plot([steps[end - 1 - width // 2] for end in ends], middle, color=_BLUE[theme], lw=1.8)
    if values.min() > 0:
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel=f"loss (line: median of {width})" if width > 1 else "loss")
    return figure


def error_chart(steps: Sequence[int], errors: Sequence[float], guess: float | None, unit: str, theme: Theme) -> Figure:
    """The error on held-out data at each evaluation; dashed what a guess without the picture has."""
    figure, axes = _axes(theme, height=3.0)
    axes.plot(steps, errors, color=_ORANGE[theme], marker="o", ms=4)
    best = int(np.argmin(errors))
    named = [(f"{errors[best]:.4g}", float(steps[best]), float(errors[best]))]
    if guess is not None:
        axes.axhline(guess, color=_GREY[theme], ls="--", lw=1)
        named.append(("a guess", float(steps[0]), guess))
    axes.set(xlabel="step", ylabel=f"error held out{f', {unit}' if unit else ''}")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.1, y=0.15)
    _labels(figure, axes, named, theme)
    return figure


@dataclass(frozen=True)
class Mean:
    """A method's mean error over scenes."""

    name: str
    error: float
    interval: tuple[float, float] | None
    """95 %; None of one scene."""
    cost: float | None = None


def means_chart(means: Sequence[Mean], what: str, theme: Theme) -> Figure:
    """Mean errors with their 95 % intervals, a line for each method, the best on top."""
    figure, axes = _axes(theme, height=1.0 + 0.45 * len(means))
    ordered = sorted(means, key=lambda mean: -mean.error)
    for place, mean in enumerate(ordered):
        low, high = mean.interval or (mean.error, mean.error)
        axes.plot([low, high], [place, place], color=_BLUE[theme], lw=2.5, solid_capstyle="round")
        axes.scatter(mean.error, place, color=_ORANGE[theme], s=50, zorder=3)
    axes.set_yticks(range(len(ordered)), [mean.name for mean in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set(xlabel=f"{what} (line: 95 % interval of the mean)")
    return figure


def cost_chart(means: Sequence[Mean], what: str, cost: str, theme: Theme) -> Figure:
    """Mean error against what a method costs; the dotted line joins those that no other beats in both."""
    figure, axes = _axes(theme)
    shown = [(mean, mean.cost) for mean in means if mean.cost is not None]
    for mean, at in shown:
        low, high = mean.interval or (mean.error, mean.error)
        axes.plot([at, at], [low, high], color=_BLUE[theme], lw=1.5)
        axes.scatter(at, mean.error, color=_ORANGE[theme], s=60, zorder=3)
    _front(axes, [(at, mean.error) for mean, at in shown], theme)
    costs = [at for _, at in shown]
    if min(costs) > 0 and max(costs) > 5 * min(costs):
        axes.set_xscale("log")
    axes.set(xlabel=cost, ylabel=what)
    axes.margins(x=0.25, y=0.15)
    _labels(figure, axes, [(mean.name, at, mean.error) for mean, at in shown], theme)
    return figure
