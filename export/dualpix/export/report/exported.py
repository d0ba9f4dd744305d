"""One self-contained HTML page from an export folder: what there is, how well it does, how fast, made how.

The page holds everything it shows (styles, plots and pictures as data URIs), loads nothing and runs no script, reads
on a phone, and follows the reader's light or dark setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpix.capture.files import read_json, write_bytes
from dualpix.export.bench import EAGER
from dualpix.export.manifest import machine_text, verify_manifest
from dualpix.export.report.charts import Point, latency_chart, search_chart, sensitivity_chart, size_chart
from dualpix.export.report.page import Chart, chart_of, environment
from dualpix.export.report.pictures import pictures_of
from dualpix.export.report.rows import rows
from dualpix.export.report.speed import operator_table, profiles_of, speed_of
from dualpix.quantize.search.assignment import Assignment

_MAX_ASSIGNMENT_BYTES = 16 << 20
ASSIGNMENT = "assignment.json"
_BAND = 0.03


def write_report(folder: Path, output: Path) -> Path:
    """Write the page of the export in ``folder`` to ``output``, after hashing its artefacts again.

    Raises:
        ManifestError: ``folder`` is no export, or an artefact is not the file that was measured.
        DualpixError: ``pictures.json`` names something that cannot be shown; ``profile.json`` or ``assignment.json``
            is damaged, or the profile is of other files.
        OutputError: ``output`` cannot be written.
    """
    manifest = verify_manifest(folder)
    gate = manifest["gate"]
    profiles = profiles_of(folder, manifest)
    page = environment().get_template("exported.html.j2").render(
        manifest=manifest,
        gate=gate,
        size_text=_size_text(manifest["input"]["tensors"]),
        rows=rows(manifest),
        charts=_accuracy_charts(gate),
        chart_text=_chart_text(gate),
        sensitivity=_sensitivity(folder),
        speed=speed_of(profiles),
        tables=[operator_table(p) for p in profiles if p.operators],
        speed_notes=gate.get("speed_notes", ()),
        pictures=pictures_of(folder),
        facts=_facts(manifest),
    )  # fmt: skip
    write_bytes(output, page.encode())
    return output


def _size_text(inputs: list[dict[str, Any]]) -> str:
    """Of the first input."""
    more = f" and {len(inputs) - 1} more" if len(inputs) > 1 else ""
    return f"{inputs[0]['name']} {'×'.join(map(str, inputs[0]['shape'])) or 'a scalar'}{more}"


def _facts(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """The manifest's excerpt, as pairs."""
    bench, model = manifest["gate"]["benchmark"], manifest["model"]
    tensors = ", ".join(_tensor(t) for t in manifest["input"]["tensors"])
    outputs = "; ".join(f"{_tensor(o)}, unit {o['unit']}, sign {o['sign']}" for o in manifest["outputs"])
    paper = f" ({model['paper']})" if model.get("paper") else ""
    facts = [
        ("Model", f"{model['name']}{paper}"),
        ("Licence", model.get("licence") or ""),
        ("Weights", f"sha256 {model['weights_sha256']}; origin {model.get('weights_origin') or 'unknown'}"),
        ("Inputs", f"{tensors}; {manifest['input']['layout']}"),
        ("Normalisation", manifest["input"]["normalisation"]),
        ("Output", outputs),
        ("Calibration", f"{manifest['calibration']['description']}; sha256 {manifest['calibration']['sha256'][:16]}…"),
        ("Evaluation", f"{manifest['evaluation']['description']}; sha256 {manifest['evaluation']['sha256'][:16]}…"),
        ("Protocol", manifest["evaluation"].get("protocol", "")),
        (
            "Timing",
            f"{bench['rounds']} interleaved rounds, {bench['threads']} thread(s); median ± half the IQR; speed ratios "
            f"are of {bench.get('ratios_of', 'wall time')}",
        ),
        ("Machine", machine_text(manifest["machine"])),
        ("Instructions", manifest["machine"].get("features", "")),
        ("Versions", ", ".join(f"{name} {v}" for name, v in manifest["versions"].items())),
        ("Exporter's commit", manifest["commit"] or "installed package"),
        ("Limits", manifest["gate"]["limits"]),
        ("Notes", "; ".join(manifest["gate"]["notes"])),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _error_of(accuracy: dict[str, Any]) -> tuple[str, float | None]:
    """Name and value of the first metric, if it is an error: the charts have what is better below."""
    for name, score in accuracy.get("metrics", {}).items():
        return (name, score["value"]) if score["better"] == "lower" else ("", None)
    return "", None


def _tensor(described: dict[str, Any]) -> str:
    return f"{described['name']} {'×'.join(map(str, described['shape'])) or 'a scalar'} {described['dtype']}"


def _accuracy_charts(gate: dict[str, Any]) -> list[Chart]:
    """Error against latency and against size."""
    metric, value = _error_of(gate["float"])
    what, band = (metric, _BAND) if metric else ("relative difference from float", None)
    latencies = gate["benchmark"]["latencies"]

    def point(name: str, error: float | None, size: int | None) -> Point | None:
        if error is None:
            return None
        latency = latencies.get(name)
        quartiles = tuple(latency["quartiles_s"]) if latency else None
        return Point(name, error, latency["median_s"] if latency else None, quartiles, size, name == EAGER)

    points = [point(EAGER, value if metric else 0.0, None)]
    for entry in gate["recipes"]:
        error = _error_of(entry["accuracy"] or {})[1] if metric else entry.get("relative_rms")
        points.append(point(entry["recipe"], error, entry["size_bytes"]))
    known = [p for p in points if p]
    if len(known) < 2:
        return []
    return [
        chart_of(lambda theme: latency_chart(known, band, what, theme), f"{what} against latency of what ran here"),
        chart_of(lambda theme: size_chart(known, band, what, theme), f"{what} against file size"),
    ]


def _chart_text(gate: dict[str, Any]) -> str:
    metric, _ = _error_of(gate["float"])
    if metric:
        samples = gate["float"]["samples"]
        return f"{metric}, lower is better, on {samples} samples. The band is 3 % above the float network."
    return "Difference from the float network's output, lower is better."


@dataclass(frozen=True)
class Sensitivity:
    """The mixed-precision search."""

    text: str
    charts: tuple[Chart, ...]


def _sensitivity(folder: Path) -> Sensitivity | None:
    path = folder / ASSIGNMENT
    if not path.is_file():
        return None
    data = read_json(path, _MAX_ASSIGNMENT_BYTES, expected="what 'dualpix quantize' wrote", otherwise="cannot be read")
    assignment = Assignment.from_json(data, ASSIGNMENT)
    held = assignment.held_back_loss
    text = (
        f"Budget {assignment.budget:.2%}: {len(assignment.keep_float)} of {len(assignment.layers)} layers stay float, "
        f"{assignment.int8_share:.1%} of the multiply-accumulates run in int8. Loss {assignment.loss:.4g} "
        f"(float {assignment.float_loss:.4g}, all int8 {assignment.int8_loss:.4g})"
    ) + (f"; on data held back from the search {held:.4g}." if held is not None else ".")
    return Sensitivity(
        text,
        (
            chart_of(lambda theme: sensitivity_chart(assignment, theme), "Loss by int8 in each layer alone"),
            chart_of(lambda theme: search_chart(assignment, theme), "Loss against compute of the measured choices"),
        ),
    )
