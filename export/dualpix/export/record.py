"""Writing an export down: pictures, reference, ``gate.json``, model card, and the manifest that names them all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from dualpix.capture.colour_map import Panel, default_limits, figure, save_picture
from dualpix.capture.files import write_bytes, write_json
from dualpix.export import manifest as manifests
from dualpix.export.card import MODEL_CARD, model_card
from dualpix.export.recipes import RECIPES
from dualpix.export.result import ExportResult, Picture, Run
from dualpix.export.subject import Subject
from dualpix.quantize.calibration import tensor_digest
from dualpix.quantize.gate import Array

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
    folder: Path, subject: Subject, references: Sequence[Array], runs: Sequence[Run], first: Sequence[Picture]
) -> None:
    """One picture per artefact that ran, where the output is one map: float network, artefact, and their difference."""
    shown = list(first)
    if references[0].ndim == 4 and references[0].shape[:2] == (1, 1):
        shown += [_comparison(subject, references[0], run) for run in runs if run.outputs]
    for picture in shown:
        save_picture(folder / picture.name, picture.image)
    write_json(folder / PICTURES, [{"file": p.name, "caption": p.caption} for p in shown])


def _comparison(subject: Subject, reference: Array, run: Run) -> Picture:
    name, unit = run.recipe.name, subject.unit
    floating, artefact = reference[0, 0].astype(np.float32), run.outputs[0][0, 0].astype(np.float32)
    limits = default_limits(floating, None, subject.scale)
    panels = [
        *([Panel("scene", subject.scene)] if subject.scene is not None else []),
        Panel("float network", floating, subject.scale, unit, limits=limits),
        Panel(name, artefact, subject.scale, unit, limits=limits),
        Panel("difference", artefact - floating, "diverging", unit),
    ]
    meaning = "; blue is behind the focus plane" if subject.scale == "diverging" else ""
    caption = f"{name} beside the float network on the first evaluation sample{meaning}."
    return Picture(f"compare-{name}.png", figure(panels, columns=2, panel_px=480), caption)


def write_reference(folder: Path, subject: Subject, references: Sequence[Array], runs: Sequence[Run]) -> None:
    """The first sample and what came of it: ``input.NAME``, ``output.float`` and ``output.RECIPE``, float32."""
    tensors = {f"input.{name}": t.contiguous() for name, t in zip(subject.input_names, subject.samples[0], strict=True)}
    tensors |= {f"output.{FLOAT}": torch.from_numpy(references[0].astype(np.float32))}
    tensors |= {f"output.{r.recipe.name}": torch.from_numpy(r.outputs[0].astype(np.float32)) for r in runs if r.outputs}
    write_bytes(folder / REFERENCE, save(tensors))


def write_manifest(result: ExportResult, subject: Subject, runs: Sequence[Run], output_shape: tuple[int, ...]) -> None:
    """``gate.json``, the model card, then ``manifest.json``, which names all of them."""
    folder = result.folder
    gate = result.to_json() | {"limits": subject.limits_source}
    write_json(folder / GATE, gate)
    inputs = zip(subject.input_names, subject.samples[0], strict=True)
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
            "tensors": [{"name": name, "shape": list(t.shape), "dtype": "float32"} for name, t in inputs],
            **subject.facts["input"],
        },
        "output": {"name": subject.output_name, "shape": list(output_shape), **subject.facts["output"]},
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
