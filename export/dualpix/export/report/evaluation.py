"""The page of an evaluation: a table with intervals, and every scene's picture, the worst first; and of several
evaluations with exports, accuracy against cost.

``dualpix evaluate --json --pictures FOLDER > scores.json`` writes both. Lower is better in all that is compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_json
from dualpix.export.report.charts import Mean, cost_chart, means_chart
from dualpix.export.report.page import Chart, Section, chart_of, data_uri, sections_page
from dualpix.models.networks import build_network
from dualpix.models.zoo.cards import STACK_TASK, find_model, known_models

_MOST_BYTES, _MOST_PICTURE_BYTES, _MOST_PAGE_BYTES = 64 << 20, 16 << 20, 60 << 20
_SIZE_HW = (384, 512)
"""At which work is counted where no export says another."""
_EXPECTED = "what `dualpix evaluate --json` printed"
_FIRST = {
    "mae_px": "mean error, px", "mae_m": "mean error, m", "ai1": "AI(1)", "abs_rel": "AbsRel", "mse": "MSE",
}  # fmt: skip
"""What scenes are sorted by and methods compared by: the first that there is; lower is better."""
_TITLES = {
    **_FIRST, "ai2": "AI(2)", "one_minus_abs_rho": "1-|ρ|", "bad_1px": "off by > 1 px", "edge_mae_px": "near edges, px",
    "mae_diopters": "mean error, 1/m", "rmse_m": "RMSE, m", "delta1": "δ1", "ause": "AUSE", "measured": "measured",
    "psnr_db": "PSNR, dB", "ssim": "SSIM",
}  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """The content of a file that ``dualpix evaluate --json`` wrote."""

    path: Path
    data: str
    title: str
    mean: Mapping[str, Mapping[str, float]]
    interval: Mapping[str, Mapping[str, tuple[float, float]]]
    scenes: Sequence[Mapping[str, Any]]
    record: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The figure that methods are compared by.

        Raises:
            DualpixError: no error that is known here.
        """
        found = next((key for key in _FIRST if any(key in mean for mean in self.mean.values())), None)
        if found is None:
            raise DualpixError(f"'{self.path}' has no error", expected=f"one of {', '.join(_FIRST)}")
        return found

    def means(self, cost: Mapping[str, float] | None = None) -> list[Mean]:
        """Of each method that has it."""
        key = self.key
        return [
            Mean(method, mean[key], self.interval.get(method, {}).get(key), (cost or {}).get(method))
            for method, mean in self.mean.items()
            if key in mean
        ]


def read_evaluation(path: Path) -> Evaluation:
    """What ``dualpix evaluate --json`` printed.

    Raises:
        DualpixError: it is something else, or damaged.
    """
    record = read_json(path, _MOST_BYTES, expected=_EXPECTED)
    try:
        scenes = [dict(scene) for scene in record["scenes"]]
        mean = {str(m): {str(k): float(v) for k, v in of.items()} for m, of in record["mean"].items()}
        interval = {
            str(m): {str(k): (float(v[0]), float(v[1])) for k, v in of.items()}
            for m, of in (record.get("interval_95") or {}).items()
        }
        well_formed = bool(scenes) and all(isinstance(s["scene"], str) and s["method"] in mean for s in scenes)
        found = Evaluation(
            path, str(record["data"]), str(record["protocol"]["title"]), mean, interval, scenes, record
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DualpixError(f"'{path}' is no evaluation ({type(error).__name__})", expected=_EXPECTED) from error
    if not well_formed:
        raise DualpixError(f"'{path}' is damaged", expected=_EXPECTED)
    return found


def evaluation_page(evaluation: Evaluation, pictures: Path | None = None) -> bytes:
    """The page of one evaluation.

    Args:
        evaluation: see :func:`read_evaluation`.
        pictures: folder of ``dualpix evaluate --pictures``.

    Raises:
        DualpixError: it has no error to sort by, or a picture is absurdly large.
    """
    key = evaluation.key
    means = evaluation.means()
    keys = [k for k in _TITLES if any(k in mean for mean in evaluation.mean.values())]
    rows = tuple(
        (method, *(_cell(mean.get(k), evaluation.interval.get(method, {}).get(k)) for k in keys))
        for method, mean in sorted(evaluation.mean.items(), key=lambda item: item[1].get(key, float("inf")))
    )
    count = len({scene["scene"] for scene in evaluation.scenes})
    chart = chart_of(lambda theme: means_chart(means, _FIRST[key], theme), f"{_FIRST[key]} of each method")
    table = Section(
        "Methods",
        f"Means over {count} scene{'s' * (count > 1)}, in brackets their 95 % interval.",
        (chart,),
        ("method", *(_TITLES[k] for k in keys)),
        rows,
    )
    made = Section("How it was made", facts=_facts(evaluation))
    title, subtitle = evaluation.title, f"Evaluation of {', '.join(evaluation.mean)} on {evaluation.data}"
    return sections_page(title, "evaluation report", subtitle, [table, _scenes(evaluation, key, pictures), made])


def _scenes(evaluation: Evaluation, key: str, pictures: Path | None) -> Section:
    """Sorted by the error of the best method, the worst first."""
    methods = sorted(evaluation.mean, key=lambda method: evaluation.mean[method].get(key, math.inf))
    errors: dict[str, dict[str, float | None]] = {}
    for scene in evaluation.scenes:
        errors.setdefault(scene["scene"], {})[scene["method"]] = scene.get(key)
    ordered = sorted(errors.items(), key=lambda item: -(item[1].get(methods[0]) or 0.0))
    rows = tuple((name, *(_cell(of.get(method)) for method in methods)) for name, of in ordered)
    shown, total = [], 0
    for name, of in ordered:
        path = pictures / f"{Path(name.replace('/', '_')).name}.png" if pictures is not None else None
        if path is None or not path.is_file():
            continue
        size = path.stat().st_size
        if size > _MOST_PICTURE_BYTES:
            raise DualpixError(f"'{path}' has {size} bytes", expected=f"at most {_MOST_PICTURE_BYTES}")
        if (total := total + size) > _MOST_PAGE_BYTES:
            break
        told = ", ".join(f"{method} {_cell(of.get(method))}" for method in methods)
        shown.append((data_uri("image/png", path.read_bytes()), f"{name}: {told}"))
    text = f"By the {_FIRST[key]} of {methods[0]}, the worst first."
    if not shown:
        text += " Pictures: dualpix evaluate --pictures FOLDER, then dualpix report SCORES.json --pictures FOLDER."
    elif len(shown) < len(ordered):
        text += f" {len(shown)} of {len(ordered)} have a picture here."
    return Section("Scenes", text, heads=("scene", *methods), rows=rows, pictures=tuple(shown))


def zoo_page(evaluations: Sequence[Evaluation], exports: Sequence[tuple[str, Mapping[str, Any]]]) -> bytes:
    """Accuracy against cost of networks that were scored on one or several sets.

    Args:
        evaluations: one for each set.
        exports: (name of the model, gate) of exports, for what they cost; that of shipped networks without one is
            counted.

    Raises:
        DualpixError: two evaluations are of one set, or nobody knows what any method costs.
    """
    sets = [evaluation.data for evaluation in evaluations]
    if len(set(sets)) < len(sets):
        raise DualpixError(f"two evaluations are of '{max(sets, key=sets.count)}'", expected="one of each set")
    methods = list(dict.fromkeys(method for evaluation in evaluations for method in evaluation.mean))
    costs, size_hw = _costs(exports)
    costs |= {name: work for name in methods if name not in costs and (work := _counted(name, size_hw)) is not None}
    label = f"GMAC at {size_hw[0]} x {size_hw[1]} px"
    charts = []
    for evaluation in evaluations:
        means = evaluation.means(costs)
        if any(mean.cost is not None for mean in means):
            charts.append(_cost_chart(means, f"{evaluation.data}: {_FIRST[evaluation.key]}", label))
    if not charts:
        raise DualpixError(f"nothing says what {', '.join(methods)} cost", expected="exports of them, or shipped names")
    heads = ("method", label, *(f"{e.data}: {_FIRST[e.key]}" for e in evaluations))
    rows = tuple(
        (
            m,
            _cell(costs.get(m)),
            *(_cell(e.mean.get(m, {}).get(e.key), e.interval.get(m, {}).get(e.key)) for e in evaluations),
        )
        for m in methods
    )
    text = (
        "Lower is better both ways. The dotted line joins what no other network beats in both; bars are 95 % intervals."
    )
    sections = [
        Section("Accuracy against cost", text, tuple(charts)),
        Section("Figures", heads=heads, rows=rows),
        Section("Sets", facts=tuple((e.data, e.title) for e in evaluations)),
    ]
    return sections_page("Networks", "accuracy against cost", f"{len(methods)} methods on {', '.join(sets)}", sections)


def _cost_chart(means: Sequence[Mean], what: str, cost: str) -> Chart:
    return chart_of(lambda theme: cost_chart(means, what, cost, theme), f"{what} against {cost}")


def _costs(exports: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[dict[str, float], tuple[int, int]]:
    """GMAC of what was exported, and the size that it is for."""
    costs: dict[str, float] = {}
    sizes = set()
    for name, gate in exports:
        works = [entry["delegation"]["total_macs"] for entry in gate["recipes"] if entry.get("delegation")]
        if works:
            costs[name] = max(works) / 1e9
            sizes.add(tuple(gate["benchmark"].get("size_hw") or _SIZE_HW))
    if len(sizes) > 1:
        told = " and ".join(sorted(f"{size[0]}x{size[1]}" for size in sizes))
        raise DualpixError(f"the exports are for {told} px", expected="one size: work grows with it")
    height, width = next(iter(sizes), _SIZE_HW)
    return costs, (int(height), int(width))


def _counted(method: str, size_hw: tuple[int, int]) -> float | None:
    """GMAC of a shipped network of pairs, whose weights are not needed for it; None of what else there is."""
    if method not in known_models():
        return None
    found = find_model(method)
    multiple = found.spec.size_multiple
    if found.spec.task == STACK_TASK or size_hw[0] % multiple or size_hw[1] % multiple:
        return None
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    fields = [found.spec.of_task().field(name) for name in found.spec.input_names]
    with torch.device("meta"):
        network = build_network(found.network, found.card.get("options")).eval()
        inputs = [torch.empty(1, *field.shape(size_hw)) for field in fields]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    return float(counter.get_total_flops()) / 2e9


def _facts(evaluation: Evaluation) -> tuple[tuple[str, str], ...]:
    told: list[tuple[str, Any]] = list(evaluation.record["protocol"].items())
    told.append(("interval", evaluation.record.get("interval_of")))
    told.append(("versions", ", ".join(f"{n} {v}" for n, v in (evaluation.record.get("versions") or {}).items())))
    shown = [(str(n).replace("_", " "), "; ".join(map(str, v)) if isinstance(v, list) else v) for n, v in told]
    return tuple((name, str(value)[:1000]) for name, value in shown if value)


def _cell(value: float | None, interval: tuple[float, float] | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" + (f" ({interval[0]:.3g} to {interval[1]:.3g})" if interval else "")
