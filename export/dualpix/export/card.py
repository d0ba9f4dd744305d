"""``MODEL_CARD.md``: the manifest for people, with the front matter that model hubs read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dualpix.export.manifest import machine_text

MODEL_CARD = "MODEL_CARD.md"
UNSTATED = "not stated"
_TAGS = ("executorch", "coreml", "on-device", "quantization")


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
    truth = manifest["gate"]["float"]["ai1"] is not None
    heads = ["recipe", "file", "MB", "gate", *(["AI(1)"] if truth else []), "SQNR dB", "largest gap", "delegated"]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    if truth:
        rows.append(f"| float network | | | | {manifest['gate']['float']['ai1']:.4f} | | | |")
    for entry in manifest["gate"]["recipes"]:
        accuracy = entry["accuracy"] or {}
        gap = accuracy.get("from_float", {})
        share = (entry["delegation"] or {}).get("compute_share")
        cells = [
            entry["recipe"],
            f"`{entry['file']}`" if entry["file"] else "",
            _number(entry["size_bytes"], ".2f", 1e-6),
            entry["outcome"] + (f": {_line(entry['reason'])}" if entry["reason"] else ""),
            *([_number(accuracy.get("ai1"), ".4f")] if truth else []),
            _number(gap.get("sqnr_db"), ".1f"),
            _number(gap.get("max_abs_px"), ".3g"),
            _number(share, ".0f", 100) + (" %" if share is not None else ""),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(["## Artefacts", "", *rows])


def _input_output(manifest: Mapping[str, Any]) -> str:
    given, output = manifest["input"], manifest["output"]
    lines = [f"- input `{t['name']}`: {' x '.join(map(str, t['shape']))}, {t['dtype']}" for t in given["tensors"]]
    lines += [
        f"- layout: {_line(given['layout'])}",
        f"- normalisation: {_line(given['normalisation'])}",
        f"- output `{output['name']}`: {' x '.join(map(str, output['shape']))}; unit: {_line(output['unit'])}; "
        f"sign: {_line(output['sign'])}",
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
        f"- latency in `gate.json`: {bench['rounds']} interleaved rounds, {bench['threads']} thread(s) of "
        f"{_line(machine_text(manifest['machine']))}",
        *(f"- {_line(note)}" for note in manifest["gate"].get("speed_notes", ())),
    ]
    return "\n".join(["## Data and protocol", "", *lines])


def _origin(manifest: Mapping[str, Any]) -> str:
    model = manifest["model"]
    lines = [
        f"- licence of the weights: {_line(model.get('licence') or UNSTATED)}",
        f"- weights: {model['parameters']} parameters, sha256 `{model['weights_sha256']}`",
        f"- paper: {_line(model.get('paper') or UNSTATED)}",
        f"- training data: {_line(model.get('training_data') or UNSTATED)}",
        f"- source commit: {manifest['commit'] or 'installed package'}",
        "- versions: " + ", ".join(f"{name} {v}" for name, v in manifest["versions"].items()),
        f"- made: {manifest['created']}",
    ]
    return "\n".join(["## Origin", "", *lines])


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return "" if value is None else format(value * scale, form)


def _line(text: object) -> str:
    """One line that cannot leave its table cell or become markup: names and reasons come from files."""
    plain = " ".join(str(text).split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
