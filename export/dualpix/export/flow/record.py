"""Writing an export down: pictures, reference, ``gate.json``, model card, and the manifest that names them all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from dualpix.capture.files import write_bytes, write_json
from dualpix.capture.pictures.colour_map import Panel, default_limits, figure, save_picture
from dualpix.export import manifest as manifests
from dualpix.export.artefact import type_name
from dualpix.export.flow.card import MODEL_CARD, model_card
from dualpix.export.flow.result import ExportResult, Picture, Run
from dualpix.export.flow.subject import Output, Subject
from dualpix.export.recipes import RECIPES
from dualpix.quantize.calibration import tensor_digest
from dualpix.quantize.score import Outputs

ASSIGNMENT = "assignment.json"
"""Mixed precision that was given, with the sensitivities behind it."""
GATE = "gate.json"
PICTURES = "pictures.json"
REFERENCE = "reference.safetensors"
FLOAT = "float"
"""The float network's output in :data:`REFERENCE`."""

_RERUN_SQNR_DB = {"fp32": 60.0, "fp16": 40.0}
_RERUN_SQNR_INT8_DB = 30.0
"""A later run must repeat the stored output this closely: other processors round int8 another way."""


def write_pictures(
    folder: Path, subject: Subject, references: Sequence[Outputs], runs: Sequence[Run], first: Sequence[Picture]
) -> None:
    """One picture per artefact that ran and per output that is one map: float network, artefact, and difference."""
    shown = list(first)
    for place, (output, values) in enumerate(zip(subject.outputs, references[0], strict=True)):
        if values.ndim == 4 and values.shape[:2] == (1, 1) and output.dtype == "float32":
            shown += [_comparison(subject, place, references[0], run) for run in runs if run.outputs]
    for picture in shown:
        save_picture(folder / picture.name, picture.image)
    write_json(folder / PICTURES, [{"file": p.name, "caption": p.caption} for p in shown])


def _comparison(subject: Subject, place: int, reference: Outputs, run: Run) -> Picture:
    name, output, several = run.recipe.name, subject.outputs[place], len(subject.outputs) > 1
    unit = output.unit
    floating, artefact = (o[place][0, 0].astype(np.float32) for o in (reference, run.outputs[0]))
    limits = default_limits(floating, None, subject.scale)
    panels = [
        *([Panel("scene", subject.scene)] if subject.scene is not None else []),
        Panel("float network", floating, subject.scale, unit, limits=limits),
        Panel(name, artefact, subject.scale, unit, limits=limits),
        Panel("difference", artefact - floating, "diverging", unit),
    ]
    meaning = "; blue is behind the focus plane" if subject.scale == "diverging" else ""
    shown = f"{name}, output '{output.name}'," if several else name
    caption = f"{shown} beside the float network on the first evaluation sample{meaning}."
    file = f"compare-{name}-{output.name}.png" if several else f"compare-{name}.png"
    return Picture(file, figure(panels, columns=2, panel_px=480), caption)


def reference_key(of: str, output: str, several: bool) -> str:
    """Of an output in :data:`REFERENCE`: ``output.RECIPE``, or ``output.RECIPE.NAME`` where there are several."""
    return f"output.{of}.{output}" if several else f"output.{of}"


def write_reference(folder: Path, subject: Subject, references: Sequence[Outputs], runs: Sequence[Run]) -> None:
    """The first sample and what came of it: ``input.NAME``, ``output.float`` and ``output.RECIPE``, see above; what
    states begin with is ``start.NAME``."""
    tensors = {f"input.{name}": t.contiguous() for name, t in zip(subject.input_names, subject.samples[0], strict=True)}
    made = {FLOAT: references[0], **{r.recipe.name: r.outputs[0] for r in runs if r.outputs}}
    for of, arrays in made.items():
        for output, array in zip(subject.outputs, arrays, strict=True):
            key = reference_key(of, output.name, len(subject.outputs) > 1)
            tensors[key] = torch.from_numpy(array).to(getattr(torch, output.dtype)).contiguous()
    tensors |= {f"start.{name}": state.start.contiguous() for name, state in subject.kept.items()}
    write_bytes(folder / REFERENCE, save(tensors))


def write_manifest(result: ExportResult, subject: Subject, runs: Sequence[Run], outputs: Outputs) -> None:
    """``gate.json``, the model card, then ``manifest.json``, which names all of them."""
    folder = result.folder
    gate = result.to_json() | {"limits": subject.limits_source}
    write_json(folder / GATE, gate)
    artefacts = [(r.recipe.name, r.artefact.path) for r in runs if r.artefact]
    manifest = {
        "format": manifests.FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "name": subject.name,
            **subject.facts["model"],
            "parameters": sum(p.numel() for p in subject.module.parameters()),
            "weights_sha256": tensor_digest(t for _, t in sorted(subject.module.state_dict().items())),
        },
        "input": {
            "tensors": _input_entries(subject),
            **subject.facts["input"],
        },
        "outputs": [_output_entry(o, array.shape) for o, array in zip(subject.outputs, outputs, strict=True)],
        "artefacts": manifests.artefact_entries(folder, artefacts),
        "recipes": {r.recipe.name: RECIPES[r.recipe.name].text for r in runs},
        "reference": {
            "file": REFERENCE,
            "rerun_sqnr_db": {
                r.recipe.name: _RERUN_SQNR_DB.get(r.recipe.precision, _RERUN_SQNR_INT8_DB) for r in runs if r.outputs
            },
        },
        "calibration": {"description": subject.calibration.description, "sha256": subject.calibration.digest()},
        "evaluation": {"samples": len(subject.samples), **subject.facts["evaluation"]},
        "versions": manifests.tool_versions(),
        "machine": manifests.machine(),
        "commit": manifests.source_commit(),
        "gate": gate,
    }
    (folder / MODEL_CARD).write_text(model_card(manifest))
    known = {path.name for _, path in artefacts}
    others = sorted(p for p in folder.iterdir() if p.name not in known and not p.name.startswith("."))
    manifests.write_manifest(folder, manifest | {"files": [manifests.file_entry(folder, p) for p in others]})


def _input_entries(subject: Subject) -> list[dict[str, object]]:
    """Name, shape and type of each input; kind, unit and whether there is one a frame, where its task says so."""
    entries: list[dict[str, object]] = []
    for place, (name, tensor) in enumerate(zip(subject.input_names, subject.samples[0], strict=True)):
        entry: dict[str, object] = {"name": name, "shape": list(tensor.shape), "dtype": type_name(tensor.dtype)}
        if subject.input_fields:
            field = subject.input_fields[place]
            unit = {"unit": field.unit} if field.unit else {}
            entry |= {"kind": field.kind, "per_frame": field.per_frame, **unit}
        if name in subject.kept:
            entry["state"] = {"start": f"start.{name}", "next": subject.kept[name].given_by}
        entries.append(entry)
    return entries


def _output_entry(output: Output, shape: tuple[int, ...]) -> dict[str, object]:
    unit, sign = output.unit or manifests.UNSTATED, output.sign or manifests.UNSTATED
    return {"name": output.name, "shape": list(shape), "dtype": output.dtype, "unit": unit, "sign": sign}
