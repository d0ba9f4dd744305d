"""Running an exported artefact again, on the input and against the output that were stored with it."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dualpix.export.artefact import ExportError, quiet, type_name
from dualpix.export.executorch.probe import run_apart
from dualpix.export.flow.record import REFERENCE, reference_key
from dualpix.export.manifest import Declared, ManifestError
from dualpix.export.own.called import form
from dualpix.export.recipes import Recipe
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.score import sqnr_db, tensors_of


def agreement_of(folder: Path, declared: Declared, recipe: Recipe, file: str, threads: int) -> float | None:
    """Agreement in dB of what an artefact gives now with what it gave; ``None`` where it cannot be run here.

    Raises:
        ManifestError: it does not load or run, or gives something else.
    """
    try:
        inputs, stored = reference_of(folder, declared, recipe.name)
        outputs = _run_again(recipe, folder / file, declared, inputs, threads)
    except ExportError as error:
        named = str(error) if f"'{file}'" in str(error) else f"'{file}' does not do what it did: {error}"
        raise ManifestError(named) from error
    return None if outputs is None else _agreement_db(file, outputs, stored, declared.limits_db[recipe.name])


def _run_again(
    recipe: Recipe, path: Path, declared: Declared, inputs: Inputs, threads: int
) -> tuple[Tensor, ...] | None:
    """What the artefact gives now; ``None`` where it cannot be run or interpreted here.

    A program for the runtime is run in a process of its own: its bytes may have been changed, and some changes end the
    process rather than give an error.
    """
    if path.suffix == ".pte" and recipe.can_run() is None:
        return tensors_of(run_apart(path, inputs, threads))
    if path.suffix == ".aimodel" and recipe.can_run() is None:
        from dualpix.export.coreai import Names
        from dualpix.export.coreai import run_apart as run_asset_apart

        return run_asset_apart(path, Names(tuple(declared.inputs), declared.output_names), inputs)
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


def reference_of(folder: Path, declared: Declared, recipe: str) -> tuple[Inputs, tuple[Tensor, ...]]:
    """The stored input, and the outputs that ``recipe`` gave.

    Raises:
        ManifestError: they are not in the file, or are of another form than the manifest says.
    """
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
