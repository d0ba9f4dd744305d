"""``MODEL_CARD.md``: the manifest for people, with the front matter that model hubs read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dualpix.export.bench import EAGER, stored_ratio
from dualpix.export.manifest import UNSTATED, machine_text

MODEL_CARD = "MODEL_CARD.md"
_TAGS = ("executorch", "coreml", "coreai", "on-device", "quantization")


def model_card(manifest: Mapping[str, Any]) -> str:
    """The card of an export folder, from the content of its manifest."""
    model, gate = manifest["model"], manifest["gate"]
    sections = [
        _front_matter(model),
        f"# {_line(model['name'])} for phones",
        _line(model.get("summary") or f"Network `{model.get('network')}`."),
        _artefacts(manifest),
        _input_output(manifest),
        _protocol(manifest),
        _origin(manifest),
        "The gate " + ("passes." if gate["passed"] else "**fails**; see the table.") + " Check this folder with "
        "`dualpix verify`: it hashes every file and runs the artefacts again. That finds accidents; it does not prove "
        "who made the files.",
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _front_matter(model: Mapping[str, Any]) -> str:
    depth = model.get("network") is not None
    lines = [
        "---",
        f"license: {json.dumps(str(model.get('licence') or 'other').lower())}",
        "library_name: dualpix",
        *(["pipeline_tag: depth-estimation"] if depth else []),
        "tags:",
        *(f"- {tag}" for tag in _TAGS),
        "---",
    ]
    return "\n".join(lines)


def _artefacts(manifest: Mapping[str, Any]) -> str:
    metrics: Mapping[str, Any] = manifest["gate"]["float"]["metrics"]
    name = next(iter(metrics), None)
    heads = ["recipe", "file", "MB", "gate", *([_metric_head(name, metrics[name])] if name else [])]
    heads += ["SQNR dB", "structure dB", f"largest gap{gap_unit(manifest['outputs'])}", "× eager (IQR)", "delegated"]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    if name:
        rows.append(f"| float network | | | | {_number(metrics[name]['value'], '.4g')} | | | | | |")
    for entry in manifest["gate"]["recipes"]:
        accuracy = entry["accuracy"] or {}
        gap = accuracy.get("from_float", {})
        share = (entry["delegation"] or {}).get("compute_share")
        cells = [
            entry["recipe"],
            f"`{entry['file']}`" if entry["file"] else "",
            _number(entry["size_bytes"], ".2f", 1e-6),
            entry["outcome"] + (f": {_line(entry['reason'])}" if entry["reason"] else ""),
            *([_number(accuracy.get("metrics", {}).get(name, {}).get("value"), ".4g")] if name else []),
            _number(gap.get("sqnr_db"), ".1f"),
            _number(gap.get("structure_db"), ".1f"),
            _number(gap.get("max_abs"), ".3g"),
            times_faster(manifest["gate"]["benchmark"], entry["recipe"]),
            _number(share, ".0f", 100) + (" %" if share is not None else ""),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(["## Artefacts", "", *rows])


def _input_output(manifest: Mapping[str, Any]) -> str:
    given = manifest["input"]
    lines = [
        f"- input `{t['name']}`: {' x '.join(map(str, t['shape'])) or 'a scalar'}, {t['dtype']}"
        for t in given["tensors"]
    ]
    if "frames" in given:
        lines.append(f"- a stack has {given['frames']} frames: for another number, export again")
    lines += [
        f"- layout: {_line(given['layout'])}",
        f"- normalisation: {_line(given['normalisation'])}",
    ]
    lines += [
        f"- output `{o['name']}`: {' x '.join(map(str, o['shape']))}, {o['dtype']}; unit: {_line(o['unit'])}; "
        f"sign: {_line(o['sign'])}"
        for o in manifest["outputs"]
    ]
    return "\n".join(["## Inputs and output", "", *lines])


def _protocol(manifest: Mapping[str, Any]) -> str:
    evaluation, calibration = manifest["evaluation"], manifest["calibration"]
    bench = manifest["gate"]["benchmark"]
    lines = [
        f"- evaluation: {_line(evaluation['description'])} (sha256 `{evaluation['sha256']}`)",
        f"- protocol: {_line(evaluation['protocol'])}",
        f"- calibration: {_line(calibration['description'])} (sha256 `{calibration['sha256']}`)",
        f"- limits: {_line(manifest['gate']['limits'])}",
        *(f"- {_line(note)}" for note in manifest["gate"]["notes"]),
        *(f"- {r['recipe']}: {_line(note)}" for r in manifest["gate"]["recipes"] for note in r["notes"]),
        f"- latency in `gate.json`: {bench['rounds']} interleaved rounds, {bench['threads']} thread(s) of "
        f"{_line(machine_text(manifest['machine']))}",
        *(f"- {_line(note)}" for note in manifest["gate"].get("speed_notes", ())),
    ]
    return "\n".join(["## Data and protocol", "", *lines])


def _origin(manifest: Mapping[str, Any]) -> str:
    model = manifest["model"]
    lines = [
        f"- licence of the weights: {_line(model.get('licence') or UNSTATED)}",
        f"- origin of the weights: {_line(model.get('weights_origin') or 'unknown')}",
        f"- weights: {model['parameters']} parameters, sha256 `{model['weights_sha256']}`",
        f"- paper: {_line(model.get('paper') or UNSTATED)}",
        f"- training data: {_line(model.get('training_data') or UNSTATED)}",
        f"- exported by: dualpix {manifest['versions']['dualpix']}, {_commit(manifest['commit'])}",
        "- versions: " + ", ".join(f"{name} {v}" for name, v in manifest["versions"].items()),
        f"- made: {manifest['created']}",
    ]
    return "\n".join(["## Origin", "", *lines])


def _commit(commit: str | None) -> str:
    return f"source commit {commit}" if commit else "installed package"


def _metric_head(name: str, score: Mapping[str, Any]) -> str:
    unit = f" {_line(score['unit'])}" if score["unit"] else ""
    return f"{_line(name)}{unit} ({score['better']} is better)"


def gap_unit(outputs: Sequence[Mapping[str, Any]]) -> str:
    """In the heading, where all outputs share one that is known."""
    units = {str(output["unit"]) for output in outputs}
    return f" {_line(*units)}" if len(units) == 1 and UNSTATED not in units else ""


def times_faster(benchmark: Mapping[str, Any], recipe: str, over: str = EAGER) -> str:
    """How many times faster than another, the float network: median over the rounds, and interquartile range."""
    if recipe not in benchmark["latencies"] or over not in benchmark["latencies"]:
        return ""
    ratio = stored_ratio(benchmark, recipe, over)
    return f"{ratio.median:.2f} ({ratio.iqr:.2f})"


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return "" if value is None else format(value * scale, form)


def _line(text: object) -> str:
    """One line that cannot leave its table cell or become markup: names and reasons come from files."""
    plain = " ".join(str(text).split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
