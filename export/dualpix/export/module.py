"""Exporting any ``nn.Module``: no task, no truth, so artefacts are judged by their difference from the float network.

The module takes float32 tensors and gives one float32 tensor. Nothing else is asked of it, and none of our networks,
data or metrics takes part.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.export.flow import ExportResult, Options, Subject, run_export
from dualpix.export.subject import OnStep, check_weights
from dualpix.quantize.calibration import CalibrationSet, Inputs, tensor_digest
from dualpix.quantize.gate import Accuracy, Array, Difference, Limits, parse_limits
from dualpix.quantize.graph import run_eager
from dualpix.quantize.ptq import KeepFloat, keep_nothing

if TYPE_CHECKING:
    from dualpix.quantize.sensitivity import Assignment

_SPEC = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<factory>[A-Za-z_]\w*)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MAX_LIMITS_BYTES = 1 << 20
_UNKNOWN = "as the module takes it"


@dataclass(frozen=True)
class Foreign:
    """A module with inputs it runs on, as a user's factory gave them."""

    name: str
    module: nn.Module
    inputs: tuple[Inputs, ...]

    def split(self) -> tuple[tuple[Inputs, ...], tuple[Inputs, ...]]:
        """(to calibrate, to judge): two halves, the odd one to the first; a single input serves for both."""
        middle = (len(self.inputs) + 1) // 2
        return self.inputs[:middle], self.inputs[middle:] or self.inputs


def export_module(
    module: nn.Module,
    calibration_inputs: Sequence[Inputs],
    out: Path,
    recipes: Sequence[str],
    *,
    evaluation_inputs: Sequence[Inputs] = (),
    name: str = "model",
    input_names: Sequence[str] = (),
    output_name: str = "output",
    threads: int = 1,
    rounds: int = 15,
    limits: tuple[Mapping[str, Limits], str] | None = None,
    keep_float: KeepFloat = keep_nothing,
    budget: float | None = None,
    assignment: Assignment | None = None,
    licence: str | None = None,
    on_step: OnStep = lambda text: None,
) -> ExportResult:
    """Export any ``module`` by every recipe into ``out`` and judge the artefacts by their difference from it.

    Args:
        module: takes float32 tensors, gives one float32 tensor; it is put into eval mode.
        calibration_inputs: example inputs, one tuple of tensors a sample, all of the one size that artefacts take.
        out: folder of the artefacts, ``manifest.json``, ``gate.json`` and the model card.
        recipes: names out of :data:`~dualpix.export.recipes.RECIPES`.
        evaluation_inputs: what artefacts are compared on; the calibration's where none are given.
        name: stem of the files.
        input_names: of the artefacts; "input_0", ... where none are given.
        output_name: of the artefacts.
        threads: of the runtime and of the eager module.
        rounds: of the latency measurement.
        limits: by recipe, and where they came from; ``None`` takes those of the recipes.
        keep_float: submodules that stay float in int8.
        budget: relative loss allowed for mixed precision.
        assignment: mixed precision found before.
        licence: of the weights, for the manifest.
        on_step: told what is being done.

    Raises:
        UnknownNameError: an unknown recipe.
        DualpixError: the module does not run on its inputs, gives something else than one tensor, has weights that are
            not finite, or the folder cannot be written.
    """
    _check_name(name)
    module.eval()
    judged = tuple(evaluation_inputs) or tuple(calibration_inputs)
    _check_inputs(name, [*calibration_inputs, *judged])
    check_weights(module, name)
    _check_runs(name, module, judged[0])
    names = tuple(input_names) or tuple(f"input_{i}" for i in range(len(judged[0])))
    if len(names) != len(judged[0]):
        raise DualpixError(f"{len(names)} input names", expected=f"{len(judged[0])}, one for each input of '{name}'")
    own_limits, source = limits or ({}, "those of the recipes")
    seen = "calibration sees none of them" if evaluation_inputs else "calibration saw the same"
    subject = Subject(
        name=name,
        module=module,
        input_names=names,
        output_name=output_name,
        calibration=CalibrationSet(tuple(calibration_inputs), f"{len(calibration_inputs)} example inputs"),
        samples=judged,
        score=difference_score,
        limits=own_limits,
        limits_source=source,
        facts={
            "model": {
                "network": None,
                "class": f"{type(module).__module__}.{type(module).__qualname__}",
                "summary": f"Module {type(module).__qualname__}, exported with its example inputs.",
                "licence": licence,
            },
            "input": {"layout": _UNKNOWN, "normalisation": _UNKNOWN},
            "output": {"unit": "the module's own", "sign": "the module's own"},
            "evaluation": {
                "description": f"{len(judged)} example inputs",
                "sha256": tensor_digest(t for sample in judged for t in sample),
                "protocol": f"difference from the float network's output on the same inputs; {seen}",
            },
        },
        keep_float=keep_float,
    )
    return run_export(subject, out, recipes, Options(threads, rounds, on_step, budget, assignment))


def difference_score(outputs: Sequence[Array], references: Sequence[Array]) -> Accuracy:
    """Difference from the float network alone; scores against a truth are NaN, because there is none."""
    finite = all(np.isfinite(o).all() for o in outputs)
    gap = Difference.between(outputs, references) if finite else Difference(math.inf, math.inf, -math.inf)
    return Accuracy(math.nan, math.nan, math.nan, gap, len(outputs))


def read_limits(path: Path, *, has_truth: bool) -> tuple[dict[str, Limits], str]:
    """Limits by recipe from a file of the form of a model's ``limits.json``, and what to call their source.

    Raises:
        DualpixError: it cannot be read, has another form, or asks for a score that needs a truth there is not.
    """
    try:
        if path.stat().st_size > _MAX_LIMITS_BYTES:
            raise DualpixError(f"'{path}' has {path.stat().st_size} bytes", expected="a limits file")
        data = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DualpixError(f"'{path}' does not read: {error}", expected="a limits file") from error
    limits = parse_limits(data if isinstance(data, dict) else {}, f"'{path.name}'")
    for recipe, limit in limits.items():
        if not has_truth and limit.ai1_increase is not None:
            raise DualpixError(
                f"'{path.name}' limits 'ai1_increase' of '{recipe}', which needs true disparity",
                expected="sqnr_db, relative_rms, delegated_compute, size_bytes or speedup for your own module",
            )
    return limits, path.name


def is_factory(text: str) -> bool:
    """Whether ``text`` has the form ``package.module:factory``."""
    return _SPEC.fullmatch(text) is not None


def load_factory(text: str) -> Foreign:
    """Import ``package.module`` (the working folder comes first), call ``factory()`` and check what it gives.

    This runs the user's own code, as ``python -m package.module`` would.

    Args:
        text: ``package.module:factory``; the factory gives (module, inputs) or (module, list of inputs), inputs being a
            tensor or a tuple of tensors.

    Raises:
        DualpixError: it cannot be imported or called, or gives something else.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise DualpixError(f"'{text}'", expected="package.module:factory")
    factory = _import(match["module"], match["factory"])
    try:
        made = factory()
    except Exception as error:  # the user's code raises anything
        raise DualpixError(
            f"{text}() fails: {type(error).__name__}: {error}", hint="--debug shows the traceback"
        ) from error
    form = "(module, inputs) or (module, list of inputs), each a tensor or a tuple of tensors"
    if not isinstance(made, tuple | list) or len(made) != 2 or not isinstance(made[0], nn.Module):
        raise DualpixError(f"{text}() gives {_kind(made)}", expected=form)
    samples = made[1] if isinstance(made[1], list) else [made[1]]
    inputs = tuple(_inputs(sample, text, form) for sample in samples)
    if not inputs:
        raise DualpixError(f"{text}() gives no inputs", expected=form)
    return Foreign(match["factory"], made[0], inputs)


def _import(module: str, name: str) -> Callable[[], Any]:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # the user's module raises anything
        raise DualpixError(
            f"'{module}' cannot be imported: {type(error).__name__}: {error}",
            expected="a module that Python finds from the working folder",
        ) from error
    if not callable(factory):
        raise DualpixError(f"'{module}' has no function '{name}'", expected="package.module:factory")
    made: Callable[[], Any] = factory
    return made


def _inputs(sample: Any, text: str, form: str) -> Inputs:
    tensors = (sample,) if isinstance(sample, Tensor) else sample
    if not isinstance(tensors, tuple) or not tensors or not all(isinstance(t, Tensor) for t in tensors):
        raise DualpixError(f"{text}() gives {_kind(sample)} as inputs", expected=form)
    return tensors


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise DualpixError(f"name '{name}'", expected="letters, digits, '_', '-' and '.', to be part of a file name")


def _check_inputs(name: str, samples: Sequence[Inputs]) -> None:
    if not samples:
        raise DualpixError(f"no example inputs for '{name}'", expected="at least one")
    for tensor in (t for sample in samples for t in sample):
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or not tensor.numel():
            raise DualpixError(
                f"an input of '{name}' is {tensor.dtype} on {tensor.device} of shape {tuple(tensor.shape)}",
                expected="float32 tensors on the CPU",
            )
        if not torch.isfinite(tensor).all():
            raise DualpixError(f"an input of '{name}' holds values that are not finite", expected="finite inputs")


def _check_runs(name: str, module: nn.Module, inputs: Inputs) -> None:
    try:
        output = run_eager(module, inputs)
    except Exception as error:  # the user's module raises anything
        shapes = ", ".join(str(tuple(t.shape)) for t in inputs)
        raise DualpixError(
            f"'{name}' does not run on its example inputs {shapes}: {type(error).__name__}: {error}",
            expected="inputs that its forward takes",
        ) from error
    if not isinstance(output, Tensor) or output.dtype != torch.float32:
        found = f"a tensor of {output.dtype}" if isinstance(output, Tensor) else _kind(output)
        raise DualpixError(
            f"'{name}' gives {found}", expected="one float32 tensor", hint="wrap it in a module that gives one"
        )


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of ({', '.join(type(v).__name__ for v in value)})"
    return f"a {type(value).__name__}"
