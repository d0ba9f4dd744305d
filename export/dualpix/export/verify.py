"""Is an export folder still what was measured, and does it still do what it did?

Three questions, in this order: does the manifest have its own digest, does every file have the one that the manifest
names (and is there none beside), and does each artefact that can run here, loaded afresh, repeat the output that was
stored with it. This is integrity, not authenticity: it finds damage and mistakes, not a forger, who would write a new
manifest too.

Convention: agreement is a signal-to-noise ratio in dB between the stored and the new output; the manifest names the
lowest one allowed, because another processor rounds another way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dualpix.export.artefact import ExportError, quiet, type_name
from dualpix.export.called import form
from dualpix.export.executorch.probe import run_apart
from dualpix.export.manifest import MANIFEST, ManifestError, check_entry, read_manifest
from dualpix.export.recipes import Recipe, find_recipe
from dualpix.export.record import REFERENCE, reference_key
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.score import sqnr_db, tensors_of

OnStep = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ArtefactCheck:
    """One artefact: its digest was right; ``sqnr_db`` is ``None`` where it was not run again."""

    recipe: str
    file: str
    sqnr_db: float | None
    limit_db: float | None
    note: str = ""
    """Why it was not run, or that it was interpreted."""


@dataclass(frozen=True)
class _Declared:
    """What the manifest says of inputs, output and agreement."""

    inputs: Mapping[str, tuple[tuple[int, ...], str]]
    """(shape, type) by name, in order."""
    output_names: tuple[str, ...]
    limits_db: Mapping[str, float]
    """By recipe; those that ran where they were made."""

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> _Declared:
        try:
            tensors = manifest["input"]["tensors"]
            inputs = {str(t["name"]): (tuple(int(n) for n in t["shape"]), str(t["dtype"])) for t in tensors}
            limits = {str(k): float(v) for k, v in manifest["reference"]["rerun_sqnr_db"].items()}
            outputs = tuple(str(o["name"]) for o in manifest["outputs"])
            if not inputs or not outputs:
                raise ValueError("nothing goes in or comes out")
            return cls(inputs, outputs, limits)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManifestError(f"'{MANIFEST}' lacks inputs, output or reference", hint="export again") from error


@dataclass(frozen=True)
class Verification:
    """What was found right; anything wrong is a :class:`ManifestError`."""

    folder: Path
    files: int
    """Hashed, artefacts among them."""
    artefacts: tuple[ArtefactCheck, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "folder": str(self.folder), "artefacts": [asdict(a) for a in self.artefacts]}


def verify(
    folder: Path,
    *,
    run: bool = True,
    allow_extra: bool = False,
    threads: int = 1,
    on_step: OnStep = lambda done, total, text: None,
) -> Verification:
    """Check the export in ``folder``.

    Args:
        folder: written by ``dualpix export``.
        run: also load each artefact and run it on the stored input.
        allow_extra: leave files alone that the manifest does not name; hidden ones always are.
        threads: of the runtime.
        on_step: told (done, total, text).

    Raises:
        ManifestError: the manifest or a file was changed, is missing, lies outside, or is one too many; or an artefact
            does not load, does not run, or gives something else than it gave.
    """
    manifest = read_manifest(folder)
    entries = [*manifest["artefacts"], *manifest.get("files", ())]
    steps = len(entries) + (len(manifest["artefacts"]) if run else 0)
    for index, entry in enumerate(entries):
        on_step(index + 1, steps, f"hashing {entry['file']}")
        check_entry(folder, entry)
    if not allow_extra:
        _check_nothing_else(folder, {str(entry["file"]) for entry in entries})
    declared, checks = _Declared.of(manifest), []
    for index, entry in enumerate(manifest["artefacts"]):
        if run:
            on_step(len(entries) + index + 1, steps, f"running {entry['file']}")
        checks.append(_check_artefact(folder, declared, entry, run=run, threads=threads))
    return Verification(folder, len(entries), tuple(checks))


def _check_nothing_else(folder: Path, named: set[str]) -> None:
    for path in sorted(folder.iterdir()):
        if path.name not in named | {MANIFEST} and not path.name.startswith("."):
            raise ManifestError(
                f"'{path.name}' in '{folder}' is not in the manifest",
                expected="nothing but the export",
                hint="move it away, or give --allow-extra",
            )


def _check_artefact(
    folder: Path, declared: _Declared, entry: Mapping[str, Any], *, run: bool, threads: int
) -> ArtefactCheck:
    recipe, file = find_recipe(str(entry.get("recipe"))), str(entry["file"])
    limit = declared.limits_db.get(recipe.name)
    if not run:
        return ArtefactCheck(recipe.name, file, None, limit, "not asked for")
    if limit is None:
        return ArtefactCheck(recipe.name, file, None, None, "was not run where it was made")
    try:
        inputs, stored = _reference(folder, declared, recipe.name)
        outputs = _run_again(recipe, folder / file, declared, inputs, threads)
        if outputs is None:
            return ArtefactCheck(recipe.name, file, None, limit, recipe.can_run() or "does not run here")
    except ExportError as error:
        named = str(error) if f"'{file}'" in str(error) else f"'{file}' does not do what it did: {error}"
        raise ManifestError(named) from error
    agreement_db = _agreement_db(file, outputs, stored, limit)
    return ArtefactCheck(recipe.name, file, agreement_db, limit, "interpreted" if recipe.can_run() else "")


def _run_again(
    recipe: Recipe, path: Path, declared: _Declared, inputs: Inputs, threads: int
) -> tuple[Tensor, ...] | None:
    """What the artefact gives now; ``None`` where it cannot be run or interpreted here.

    A program for the runtime is run in a process of its own: its bytes may have been changed, and some changes end the
    process rather than give an error.
    """
    if path.suffix == ".pte" and recipe.can_run() is None:
        return tensors_of(run_apart(path, inputs, threads))
    with quiet():
        predict = recipe.load(path, tuple(declared.inputs), declared.output_names, threads)
    return None if predict is None else tensors_of(predict(inputs))


def _agreement_db(file: str, outputs: tuple[Tensor, ...], stored: tuple[Tensor, ...], limit_db: float) -> float:
    if [t.shape for t in outputs] != [t.shape for t in stored]:
        found, expected = (", ".join(str(tuple(t.shape)) for t in tensors) for tensors in (outputs, stored))
        raise ManifestError(f"'{file}' gives {found}", expected=f"{expected} as stored")
    agreement_db = sqnr_db(stored, outputs)
    if not agreement_db >= limit_db:
        raise ManifestError(
            f"'{file}' gives another output than it gave: {agreement_db:.1f} dB", expected=f"at least {limit_db:g} dB"
        )
    return agreement_db


def _reference(folder: Path, declared: _Declared, recipe: str) -> tuple[Inputs, tuple[Tensor, ...]]:
    """The stored input, and the outputs that ``recipe`` gave."""
    names = declared.output_names
    try:
        tensors = load_file(folder / REFERENCE)
        inputs = tuple(tensors[f"input.{name}"] for name in declared.inputs)
        stored = tuple(tensors[reference_key(recipe, name, len(names) > 1)] for name in names)
    except (OSError, KeyError, SafetensorError) as error:
        raise ManifestError(f"'{REFERENCE}' holds no input and output of '{recipe}'", hint="export again") from error
    for tensor, (name, (shape, dtype)) in zip(inputs, declared.inputs.items(), strict=True):
        if tensor.shape != shape or type_name(tensor.dtype) != dtype:
            raise ManifestError(f"stored input '{name}' is {form(tensor)}", expected=f"{shape} {dtype}")
    return inputs, stored
