"""The table of an export's artefacts: figures, checks and verdict of each, ready to print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dualpix.export.bench import EAGER
from dualpix.export.flow.card import gap_unit
from dualpix.export.report.text import number, percent, with_unit

_BASELINE = "xnnpack-fp32"
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


def rows(manifest: dict[str, Any]) -> list[Row]:
    """The float network, and every recipe."""
    gate = manifest["gate"]
    figures = (("Latency", _time(gate, EAGER)), *_metrics(gate["float"]))
    cells = tuple((name, value) for name, value in figures if value != "–")
    reference = Row(
        "float network", "PyTorch, eager", "what every artefact is held against", "reference", "", "", cells, ()
    )
    return [reference, *(_row(manifest, entry) for entry in gate["recipes"])]


def _row(manifest: dict[str, Any], entry: dict[str, Any]) -> Row:
    gate = manifest["gate"]
    accuracy, delegation, name = entry["accuracy"] or {}, entry["delegation"] or {}, entry["recipe"]
    gap, unit = accuracy.get("from_float", {}), gap_unit(manifest["outputs"])
    speedup = {over: _speed_figures(found) for over, found in entry["speedup"].items()}
    cells = [
        ("Size", "–" if entry["size_bytes"] is None else f"{entry['size_bytes'] / 1e6:.2f} MB"),
        ("Latency", _time(gate, name)),
        *((f"Speed over {over}", _ratio_text(speedup[over])) for over in (EAGER, _BASELINE) if over in speedup),
        ("Delegated compute", number(delegation.get("compute_share"), ".1f", 100) + (" %" if delegation else "")),
        *_metrics(accuracy),
        (f"Loss of {next(iter(accuracy.get('metrics', {})), '')}", percent(entry["metric_loss"], "+z.2f")),
        ("Relative difference", percent(entry.get("relative_rms"), ".2f")),
        ("SQNR", with_unit(gap.get("sqnr_db"), ".1f", " dB")),
        ("Structure", with_unit(gap.get("structure_db"), ".1f", " dB")),
        ("Largest gap", with_unit(gap.get("max_abs"), ".3g", unit)),
        *(
            (f"SQNR of {output}", with_unit(of["sqnr_db"], ".1f", " dB"))
            for output, of in accuracy.get("outputs", {}).items()
        ),
    ]
    checks = tuple(
        (
            c["name"].replace("_", " ") + (f" of {c['of']}" if c["of"] else ""),
            number(c["measured"], ".4g"),
            f"{c['relation']} {c['limit']:.4g}",
            _SIGNS[c["passed"]],
        )
        for c in entry["checks"]
    )
    checks += tuple(
        (f"speedup over {over}", number(found["median"], ".4g"), _limit_text(found), _NOT_JUDGED)
        for over, found in speedup.items()
        if found.get("why_not")
    )
    ran = bool(accuracy) and not entry.get("emulated")
    status = "fail" if not entry["passed"] else "pass" if ran else "partial"
    text = str(manifest["recipes"].get(entry["recipe"], ""))
    shown = tuple((head, value) for head, value in cells if value not in ("–", ""))
    reason = "; ".join(filter(None, (entry["reason"], *entry["notes"])))
    return Row(entry["recipe"], entry["file"] or "", text, status, entry["outcome"], reason, shown, checks)


def _metrics(accuracy: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, number(score["value"], ".4g") + (f" {score['unit']}" if score["unit"] else ""))
        for name, score in accuracy.get("metrics", {}).items()
    ]


def _time(gate: dict[str, Any], name: str) -> str:
    latency = gate["benchmark"]["latencies"].get(name)
    if latency is None:
        return "–"
    low, high = latency["quartiles_s"]
    return f"{latency['median_s'] * 1e3:.1f} ± {(high - low) * 500:.1f} ms"


def _speed_figures(found: Any) -> dict[str, Any]:
    """Exports of 0.1.0 have the median alone."""
    return found if isinstance(found, dict) else {"median": found}


def _ratio_text(found: dict[str, Any]) -> str:
    low, high = found.get("quartiles", (None, None))
    return f"{found['median']:.2f} ×" + (f" (IQR {high - low:.2f})" if low is not None else "")


def _limit_text(found: dict[str, Any]) -> str:
    return number(found.get("limit"), ".4g") if found.get("limit") is None else f">= {found['limit']:.4g}"
