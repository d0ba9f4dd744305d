"""The page of a training: curves, what the network makes of scenes it has not seen, how it was made.

A folder of ``dualpix train``, finished or under way: ``log.csv`` has a row for each step.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import cv2

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_bounded, read_json
from dualpix.export.report.charts import error_chart, loss_chart
from dualpix.export.report.page import Section, chart_of, data_uri, sections_page

LOG, CARD, WEIGHTS = "log.csv", "card.json", "weights.safetensors"
_MOST_LOG_BYTES, _MOST_CARD_BYTES = 64 << 20, 1 << 20
_MOST_POINTS = 4000
_SHOWN_SCENES, _SHOWN_HW = 3, (192, 256)
_EXPECTED = "a folder of `dualpix train`"


def training_page(folder: Path) -> bytes:
    """The page of a training.

    Raises:
        DualpixError: ``log.csv`` or ``card.json`` is damaged, or no step was made.
    """
    rows = _read_log(folder / LOG)
    card = _read_card(folder / CARD)
    return sections_page(
        folder.resolve().name,
        "training report",
        _subtitle(card, rows),
        [_curves(rows, card), *_seen(folder, card), *_made(card)],
    )


def _read_log(path: Path) -> list[tuple[int, float, float | None, float]]:
    """(step, loss, error or None, seconds) of each step."""
    data = read_bounded(path, _MOST_LOG_BYTES, f"'{path}'", expected=_EXPECTED)
    rows = []
    try:
        for row in csv.DictReader(io.StringIO(data.decode())):
            error = row.get("eval_error") or row.get("eval_error_px") or ""
            values = int(row["step"]), float(row["loss"]), float(error) if error else None, float(row["seconds"])
            rows.append(values)
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DualpixError(f"'{path}' is damaged ({type(error).__name__}: {error})", expected=_EXPECTED) from error
    if not rows:
        raise DualpixError(f"'{path}' has no step", expected=_EXPECTED, hint="train first")
    return rows


def _read_card(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    card = read_json(path, _MOST_CARD_BYTES, expected=_EXPECTED)
    if not isinstance(card, dict):
        raise DualpixError(f"'{path}' is damaged", expected=_EXPECTED)
    return card


def _subtitle(card: dict[str, Any], rows: list[tuple[int, float, float | None, float]]) -> str:
    state = "finished" if card else "under way"
    network = f"{card.get('network')}, {card.get('parameters', 0):,} parameters, " if card else ""
    return f"{network}{rows[-1][0]} steps in {_time(rows[-1][3])}, {state}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _curves(rows: list[tuple[int, float, float | None, float]], card: dict[str, Any]) -> Section:
    finite = [row for row in rows if math.isfinite(row[1])]
    thinned = finite[:: max(1, len(finite) // _MOST_POINTS)]
    charts = []
    if thinned:
        charts.append(
            chart_of(lambda theme: loss_chart([r[0] for r in thinned], [r[1] for r in thinned], theme), "Loss")
        )
    errors = [(row[0], row[2]) for row in rows if row[2] is not None and math.isfinite(row[2])]
    guess, unit = card.get("eval_error_of_guess"), str(card.get("eval_error_unit") or "")
    if errors:
        steps, values = [step for step, _ in errors], [float(value) for _, value in errors]
        known = float(guess) if isinstance(guess, int | float) else None
        charts.append(chart_of(lambda theme: error_chart(steps, values, known, unit, theme), "Error on held-out data"))
        best = min(errors, key=lambda pair: pair[1])
        text = f"Error held out: {values[-1]:.4g} {unit} at the end, least {best[1]:.4g} at step {best[0]}."
        text += f" A guess without the picture has {known:.4g}." if known is not None else ""
    else:
        text = "Nothing was held out, so nothing tells how good it is on other data."
    lost = len(rows) - len(finite)
    text += f" {lost} steps have a loss that is no number." if lost else ""
    return Section("Curves", text, tuple(charts))


def _seen(folder: Path, card: dict[str, Any]) -> list[Section]:
    """What a finished network makes of rendered scenes, beside their truth."""
    if (
        not (folder / WEIGHTS).is_file()
        or card.get("task", "dual_pixel") != "dual_pixel"
        or ":" in str(card.get("network"))
    ):
        return []
    from dualpix.models.evaluate import comparison_picture, evaluate, rendered, rendered_protocol
    from dualpix.models.evaluate.methods import Choice, methods_for

    protocol = rendered_protocol("")
    pending = rendered(_SHOWN_SCENES, _SHOWN_HW)
    runs = methods_for(protocol, None, Choice((str(folder),), ()))
    shown = []
    for sample, results in evaluate(protocol, pending, runs):
        picture = comparison_picture(sample, results, protocol.unit)
        told = "; ".join(f"{r.score.method} {r.score.figures['mae_px']:.3f} px" for r in results)
        shown.append(
            (
                data_uri("image/png", cv2.imencode(".png", picture[..., ::-1])[1].tobytes()),
                f"{sample.name}: mean error {told}",
            )
        )
    return [
        Section(
            "Scenes it has not seen",
            "Rendered, of seeds kept for evaluation; each row on one scale.",
            pictures=tuple(shown),
        )
    ]


def _made(card: dict[str, Any]) -> list[Section]:
    if not card:
        return []
    facts: list[tuple[str, str]] = []
    training = card.get("training")
    for name, value in {
        **{k: v for k, v in card.items() if k != "training"},
        **(training if isinstance(training, dict) else {}),
    }.items():
        if value not in (None, "", [], {}):
            facts.append((str(name).replace("_", " "), _value(value)))
    return [Section("How it was made", facts=tuple(facts))]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(item)}" for name, item in value.items())[:600]
    if isinstance(value, list):
        return ", ".join(map(_value, value))[:600]
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:600]
