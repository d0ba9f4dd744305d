"""One self-contained HTML page from an export folder: what there is, how well it does, how fast, made how.

The page holds everything it shows (styles, plots and pictures as data URIs), loads nothing and runs no script, reads
on a phone, and follows the reader's light or dark setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_json, write_bytes
from dualpix.export.bench import EAGER
from dualpix.export.card import gap_unit
from dualpix.export.flow import PICTURES
from dualpix.export.manifest import machine_text, verify_manifest
from dualpix.export.profile.result import Profile, read_profiles
from dualpix.export.report_charts import (
    Point,
    latency_chart,
    roofline_chart,
    search_chart,
    sensitivity_chart,
    size_chart,
    threads_chart,
)
from dualpix.export.report_page import Chart, chart_of, data_uri, environment
from dualpix.quantize.search.assignment import Assignment

_MAX_PICTURE_BYTES = 16 << 20
_MAX_ASSIGNMENT_BYTES = 16 << 20
_MAX_LISTING_BYTES = 1 << 20
_SHOWN_OPERATORS = 15
_BAND = 0.03
_BASELINE = "xnnpack-fp32"
PROFILE, ASSIGNMENT = "profile.json", "assignment.json"
_SIGNS = {True: "pass", False: "fail"}
_NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Row:
    """One line of the artefact table, ready to print."""

    name: str
    file: str
    text: str
    status: str
    """"pass", "partial" (not run here, or interpreted), "fail" or "reference": chooses the colour."""
    outcome: str
    reason: str
    cells: tuple[tuple[str, str], ...]
    """(heading, value)."""
    checks: tuple[tuple[str, str, str, str], ...]
    """(name, measured, limit, "pass", "fail" or "not judged")."""


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
    page = environment().get_template("report.html.j2").render(
        manifest=manifest,
        gate=gate,
        size_text=_size_text(manifest["input"]["tensors"]),
        rows=_rows(manifest),
        charts=_accuracy_charts(gate),
        chart_text=_chart_text(gate),
        sensitivity=_sensitivity(folder),
        speed=_speed(profiles),
        tables=[_operator_table(p) for p in profiles if p.operators],
        speed_notes=gate.get("speed_notes", ()),
        pictures=pictures_of(folder),
        facts=_facts(manifest),
    )  # fmt: skip
    write_bytes(output, page.encode())
    return output


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return "–" if value is None else format(value * scale, form)


def _with_unit(value: float | None, form: str, unit: str) -> str:
    return _number(value, form) + (unit if value is not None else "")


def _percent(value: float | None, form: str) -> str:
    return "–" if value is None else format(value * 100, form) + " %"


def _size_text(inputs: list[dict[str, Any]]) -> str:
    """Of the first input."""
    more = f" and {len(inputs) - 1} more" if len(inputs) > 1 else ""
    return f"{inputs[0]['name']} {'×'.join(map(str, inputs[0]['shape'])) or 'a scalar'}{more}"


def _time(gate: dict[str, Any], name: str) -> str:
    latency = gate["benchmark"]["latencies"].get(name)
    if latency is None:
        return "–"
    low, high = latency["quartiles_s"]
    return f"{latency['median_s'] * 1e3:.1f} ± {(high - low) * 500:.1f} ms"


def _rows(manifest: dict[str, Any]) -> list[Row]:
    gate = manifest["gate"]
    figures = (("Latency", _time(gate, EAGER)), *_metrics(gate["float"]))
    cells = tuple((name, value) for name, value in figures if value != "–")
    reference = Row(
        "float network", "PyTorch, eager", "what every artefact is held against", "reference", "", "", cells, ()
    )
    return [reference, *(_row(manifest, entry) for entry in gate["recipes"])]


def _metrics(accuracy: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, _number(score["value"], ".4g") + (f" {score['unit']}" if score["unit"] else ""))
        for name, score in accuracy.get("metrics", {}).items()
    ]


def _row(manifest: dict[str, Any], entry: dict[str, Any]) -> Row:
    gate = manifest["gate"]
    accuracy, delegation, name = entry["accuracy"] or {}, entry["delegation"] or {}, entry["recipe"]
    gap, unit = accuracy.get("from_float", {}), gap_unit(manifest["outputs"])
    speedup = {over: _speed_figures(found) for over, found in entry["speedup"].items()}
    cells = [
        ("Size", "–" if entry["size_bytes"] is None else f"{entry['size_bytes'] / 1e6:.2f} MB"),
        ("Latency", _time(gate, name)),
        *((f"Speed over {over}", _ratio_text(speedup[over])) for over in (EAGER, _BASELINE) if over in speedup),
        ("Delegated compute", _number(delegation.get("compute_share"), ".1f", 100) + (" %" if delegation else "")),
        *_metrics(accuracy),
        (f"Loss of {next(iter(accuracy.get('metrics', {})), '')}", _percent(entry["metric_loss"], "+z.2f")),
        ("Relative difference", _percent(entry.get("relative_rms"), ".2f")),
        ("SQNR", _with_unit(gap.get("sqnr_db"), ".1f", " dB")),
        ("Structure", _with_unit(gap.get("structure_db"), ".1f", " dB")),
        ("Largest gap", _with_unit(gap.get("max_abs"), ".3g", unit)),
        *(
            (f"SQNR of {output}", _with_unit(of["sqnr_db"], ".1f", " dB"))
            for output, of in accuracy.get("outputs", {}).items()
        ),
    ]
    checks = tuple(
        (
            c["name"].replace("_", " ") + (f" of {c['of']}" if c["of"] else ""),
            _number(c["measured"], ".4g"),
            f"{c['relation']} {c['limit']:.4g}",
            _SIGNS[c["passed"]],
        )
        for c in entry["checks"]
    )
    checks += tuple(
        (f"speedup over {over}", _number(found["median"], ".4g"), _limit_text(found), _NOT_JUDGED)
        for over, found in speedup.items()
        if found.get("why_not")
    )
    ran = bool(accuracy) and not entry.get("emulated")
    status = "fail" if not entry["passed"] else "pass" if ran else "partial"
    text = str(manifest["recipes"].get(entry["recipe"], ""))
    shown = tuple((head, value) for head, value in cells if value not in ("–", ""))
    reason = "; ".join(filter(None, (entry["reason"], *entry["notes"])))
    return Row(entry["recipe"], entry["file"] or "", text, status, entry["outcome"], reason, shown, checks)


def _speed_figures(found: Any) -> dict[str, Any]:
    """Exports of 0.1.0 have the median alone."""
    return found if isinstance(found, dict) else {"median": found}


def _ratio_text(found: dict[str, Any]) -> str:
    low, high = found.get("quartiles", (None, None))
    return f"{found['median']:.2f} ×" + (f" (IQR {high - low:.2f})" if low is not None else "")


def _limit_text(found: dict[str, Any]) -> str:
    return _number(found.get("limit"), ".4g") if found.get("limit") is None else f">= {found['limit']:.4g}"


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


def profiles_of(folder: Path, manifest: dict[str, Any]) -> tuple[Profile, ...]:
    """The profiles in ``profile.json`` of ``folder``, if there is one.

    Raises:
        DualpixError: it is damaged, or of files other than the manifest's.
    """
    path = folder / PROFILE
    if not path.is_file():
        return ()
    digests = {str(entry["file"]): entry["sha256"] for entry in manifest["artefacts"]}
    profiles = read_profiles(path)
    for profile in profiles:
        if profile.subject.sha256 and digests.get(profile.subject.file) != profile.subject.sha256:
            raise DualpixError(f"'{PROFILE}' is of another '{profile.subject.file}'", hint="profile again")
    return profiles


@dataclass(frozen=True)
class Speed:
    """The profiles as a table, and the thread sweep."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: str
    charts: tuple[Chart, ...]


def _speed(profiles: tuple[Profile, ...]) -> Speed | None:
    if not profiles:
        return None
    others = tuple(dict.fromkeys(other for p in profiles for other in p.ratios))
    heads = ("Recipe", "Threads", "Load", "First", "p50", "p90", "p99", "Memory", "Arena")
    names = {p.subject.file: p.subject.recipe or p.subject.file for p in profiles}
    rows = []
    for p in profiles:
        times = (_three_digits(t) for t in (p.load_s, p.first_s, p.p50_s, p.p90_s, p.p99_s))
        peak = p.memory.peak_rss_bytes if p.memory.peak_rss_bytes is not None else p.memory.pss_bytes
        memory = (peak, p.memory.arena_bytes)
        ratios = (p.ratio_text(other) if other in p.ratios else "–" for other in others)
        cells = (*times, *(_number(b, ".3g", 1e-6) for b in memory), *ratios)
        rows.append((names[p.subject.file], str(p.settings.threads), *cells))
    places = "; ".join(dict.fromkeys(p.target.text for p in profiles))
    kinds = " and ".join(dict.fromkeys(p.ratios_of or "wall time" for p in profiles if p.ratios))
    text = f"{places}; {profiles[0].settings.runs} runs in turn" + (f", ratios of {kinds}" if kinds else "")
    charts: tuple[Chart, ...] = ()
    if len({p.settings.threads for p in profiles}) > 1:
        charts = (chart_of(lambda theme: threads_chart(profiles, theme), "Latency against the number of threads"),)
    return Speed((*heads, *(f"× {names.get(other, other)}" for other in others)), tuple(rows), text, charts)


def _three_digits(seconds: float | None) -> str:
    """Milliseconds."""
    return _number(seconds, ".0f" if (seconds or 0.0) >= 0.1 else ".3g", 1e3)


@dataclass(frozen=True)
class OperatorRow:
    """One operator, ready to print."""

    layer: str
    kernel: str
    source: str
    cells: tuple[str, ...]
    percent: float
    """Length of its bar."""


@dataclass(frozen=True)
class OperatorTable:
    """The operators of one file."""

    title: str
    text: str
    first: tuple[OperatorRow, ...]
    others: tuple[OperatorRow, ...]
    charts: tuple[Chart, ...]


def _operator_table(profile: Profile) -> OperatorTable:
    operators = sorted(profile.operators or (), key=lambda o: -o.median_s)
    longest = max((o.median_s for o in operators), default=0.0) or 1.0
    peaks, trace = profile.peaks, profile.trace
    rows = []
    for o in operators:
        least = peaks.least_s(o) if peaks else None
        roof = "–" if least is None or not o.median_s else f"{least / o.median_s:.0%}"
        work = (_number(o.macs, ".2f", 1e-6), _number(o.bytes, ".3f", 1e-6))
        cells = (f"{o.median_s * 1e3:.3f}", f"{o.share:.1%}", *work, roof)
        rows.append(OperatorRow(o.module or f"({o.kind})", o.name, o.source or "", cells, 100 * o.median_s / longest))
    text = ""
    if trace:
        text = (
            f"{len(rows)} operators take {trace.operators_s * 1e3:.2f} ms of the {trace.total_s * 1e3:.2f} ms of one "
            f"execute event, {trace.coverage:.1%}."
        )
    charts: tuple[Chart, ...] = ()
    if peaks and any(o.macs for o in operators):
        charts = (chart_of(lambda theme: roofline_chart(operators, peaks, theme), "Roofline of the operators"),)
    title = f"{profile.subject.file}, {profile.settings.threads} thread(s)"
    return OperatorTable(title, text, tuple(rows[:_SHOWN_OPERATORS]), tuple(rows[_SHOWN_OPERATORS:]), charts)


def pictures_of(folder: Path) -> list[tuple[Markup, str]]:
    """(data URI, caption) of each picture that ``pictures.json`` in ``folder`` lists.

    Raises:
        DualpixError: an entry that is no PNG inside the folder, or too large.
    """
    listing = folder / PICTURES
    if not listing.is_file():
        return []
    data = read_json(listing, _MAX_LISTING_BYTES, expected="a list of pictures", otherwise="cannot be read")
    try:
        entries = [(str(e["file"]), str(e["caption"])) for e in data]
    except (KeyError, TypeError) as error:
        raise DualpixError(f"'{listing}' cannot be read", expected='[{"file": ..., "caption": ...}, ...]') from error
    return [(_picture(folder, name), caption) for name, caption in entries]


def _picture(folder: Path, name: str) -> Markup:
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        inside = False
    if not inside or path.suffix != ".png":
        raise DualpixError(f"'{PICTURES}' names '{name[:80]}'", expected="a PNG file inside the folder")
    if path.stat().st_size > _MAX_PICTURE_BYTES:
        raise DualpixError(f"'{name}' has {path.stat().st_size} bytes", expected=f"at most {_MAX_PICTURE_BYTES}")
    return data_uri("image/png", path.read_bytes())
