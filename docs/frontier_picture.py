"""Accuracy against cost of the networks for pairs, drawn from the zoo's table; see :mod:`docs.make_zoo_table`.

Convention: errors are means over a set's scenes, lower is better; cost is multiply-accumulates at the size that the
table's title names. What has no such count, the classical methods, is a line across.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from benchmarks.record import Result
from docs.glossary_pictures import BLUE, GREY, INK, canvas, drawn, soften

from dualpix.capture.pictures.colour_map import Rgb

WORK = "work"
RENDERED = ("rendered:phone", "rendered:fullframe", "rendered:macro")
_ERRORS = (": MAE", ": AI(1)")
_CLASSICAL = ("sgbm", "zncc")
_PANEL_IN, _HEIGHT_IN = 3.1, 3.0
_SMALL: Mapping[str, Any] = {"fontsize": 8, "color": GREY, "va": "bottom"}


def panels(result: Result) -> dict[str, dict[str, float]]:
    """{what is shown: {method: error}}: rendered sets as the geometric mean of their errors, each other set for itself.

    A method that lacks a set is not in its panel.
    """
    rendered = [name for name in result.columns if name.startswith(RENDERED) and "edge" not in name]
    others = [name for name in result.columns if name.endswith(_ERRORS) and not name.startswith("rendered")]
    shown = {f"{name} ({unit})" if (unit := result.columns[name]) else name: [name] for name in others}
    if rendered:
        shown = {f"{len(rendered)} rendered sets: MAE (px)": rendered, **shown}
    found = {}
    for title, names in shown.items():
        rows = {row.label: [row.figures[n].value for n in names if n in row.figures] for row in result.rows}
        found[title] = {
            label: float(np.exp(np.mean(np.log(values)))) for label, values in rows.items() if len(values) == len(names)
        }
    return found


def frontier(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Those of {name: (cost, error)} that nothing cheaper, or as cheap, is better than; cheapest first."""
    best, kept = np.inf, []
    for name, (_, error) in sorted(points.items(), key=lambda item: item[1]):  # by cost
        if error < best:
            best, kept = error, [*kept, name]
    return kept


def draw(result: Result) -> Rgb:
    """The picture: a panel for each set of data.

    Raises:
        ValueError: no network of the table has its work counted.
    """
    works = {row.label: row.figures[WORK].value for row in result.rows if WORK in row.figures}
    if not works:
        raise ValueError("no work in the table: give make_zoo_table exports of the networks")
    shown = panels(result)
    figure = canvas(_PANEL_IN * len(shown), _HEIGHT_IN)
    for place, (title, errors) in enumerate(shown.items()):
        _panel(figure.add_subplot(1, len(shown), place + 1), title, errors, works)
    return drawn(figure)


def _panel(axes: Any, title: str, errors: Mapping[str, float], works: Mapping[str, float]) -> None:
    points = {name: (works[name], errors[name]) for name in works if name in errors}
    top = 1.15 * max(error for name, error in errors.items() if name in points or name == _CLASSICAL[0])
    for method in _CLASSICAL:
        if errors.get(method, np.inf) <= top:
            axes.axhline(errors[method], color=GREY, lw=1, ls="--")
            axes.text(0.99, errors[method], method, transform=axes.get_yaxis_transform(), **_SMALL, ha="right")
        elif method in errors:  # far above all others
            words = f"{method}: {errors[method]:.2g}"
            axes.text(0.99, 0.99, words, transform=axes.transAxes, **{**_SMALL, "va": "top"}, ha="right")
    kept = frontier(points)
    axes.step(*zip(*(points[name] for name in kept), strict=True), where="post", color=BLUE, lw=1)
    for name, (work, error) in points.items():
        best = name in kept
        axes.plot(work, error, "o", color=BLUE if best else GREY, ms=5)
        place = (3, -11 - 9 * (kept.index(name) % 2)) if best else (3, 5)  # below the line of the best, and above it
        axes.annotate(
            name.removesuffix("-compact"),
            (work, error),
            xytext=place,
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_xscale("log")
    ticks = (1, 2, 3, 6)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="GMAC", xlim=(1, 12), ylim=(0, top))
    soften(axes)
