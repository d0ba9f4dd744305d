"""A network as the program that coreai-torch converts, at several precisions.

=========  ===========  ======================================================  =====================
precision  arithmetic   weights                                                 activations
=========  ===========  ======================================================  =====================
``fp32``   float32      float32                                                 float32
``fp16``   float16      float16                                                 float16
``w8``     float16      int8, one scale per output channel                      float16
``w4``     float16      4-bit places in palettes of 16 float16 values, one for  float16
                        each 2 output channels; int8 where those hold badly or
                        save little
``w8a8``   float16      int8, one scale per output channel                      int8 around each layer but
                                                                                those that need float16
=========  ===========  ======================================================  =====================

"float16" is float32 where float16 would be wrong without a word, see :mod:`.half`, and in the islands without which
float16 alone would leave less than :data:`~dualpix.quantize.rounding.WANTED_DB`. ``w8a8`` takes the graph of
:func:`~dualpix.quantize.ptq.quantise_static`, whose ranges are measured on the calibration set. Which layers keep
float activations beside those that the network names is searched on that set (:mod:`dualpix.export.mixed`): the range
of a result, which others need not keep, or a comparison that its steps are too coarse for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from dualpix.capture.errors import UnknownNameError
from dualpix.export.artefact import BuildRequest, ExportError
from dualpix.export.coreai.half import rounded_values, to_float16
from dualpix.export.coreai.rewrite import decomposed, rewrite_for_coreai
from dualpix.export.coreai.weights import SMALL, Kind, Stored, register_operators, store_codes, store_weights
from dualpix.export.coreml.rewrite import leave_output_float
from dualpix.export.coreml.small import lift_small_weights
from dualpix.export.mixed import kept_float
from dualpix.quantize import graph as passes
from dualpix.quantize.ptq import quantise_static
from dualpix.quantize.rounding import islands


@dataclass(frozen=True)
class Precision:
    """How a program stores and computes, and how close it must come to the float network."""

    is_float16: bool
    weights: Kind | None
    """How weights are stored; ``None`` as they are computed with."""
    activations_int8: bool
    least_sqnr_db: float
    """Of the program's output on the request's inputs against the network's. Below it the conversion is wrong; what a
    precision may lose is for the gate to say."""
    least_graph_db: float
    """The same against the graph that was converted, run by torch: rounding apart it computes the same."""


PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(False, None, False, 80.0, 80.0),
    "fp16": Precision(True, None, False, 35.0, 40.0),
    "w8": Precision(True, "int8", False, 20.0, 35.0),
    "w4": Precision(True, "palette", False, 6.0, 30.0),
    "w8a8": Precision(True, None, True, 12.0, 20.0),
}


@dataclass(frozen=True)
class Prepared:
    """A network, ready to be converted."""

    graph: fx.GraphModule
    """What the program must compute."""
    program: ExportedProgram
    """The same in operators that the converter has."""
    details: dict[str, Any]
    note: str = ""
    """What the precision left undone."""


def precision_of(name: str) -> Precision:
    """Look a precision up.

    Raises:
        UnknownNameError: no precision of that name; the message lists the known ones.
    """
    if name not in PRECISIONS:
        raise UnknownNameError("Core AI precision", name, list(PRECISIONS))
    return PRECISIONS[name]


def prepare(request: BuildRequest) -> Prepared:
    """The program of ``request.module``; raises whatever torch raises.

    Raises:
        ExportError: the network holds what the converter would change without a word.
    """
    precision = precision_of(request.precision)
    register_operators()
    graph = passes.float_graph(request.module, request.inputs)
    _refuse_repeated(graph, request.output_names)
    details: dict[str, Any] = {}
    note = ""
    if precision.activations_int8:
        keep, kept = kept_float(request)
        details["keep_float"] = list(kept)
        graph = quantise_static(graph, request.calibration.samples, keep, request.on_sample)
        passes.describe(graph)
        leave_output_float(graph)
    if precision.is_float16:
        lift_small_weights(graph)
    if precision.activations_int8:
        details["int8_activations"] = store_codes(graph)
        details["weights_int8_alone"] = len(store_weights(graph, "int8", request.keep_float).layers)
    rewrite_for_coreai(graph)
    if precision.weights is not None:
        stored = store_weights(graph, precision.weights, request.keep_float)
        details |= _counts(stored)
        note = "" if stored.layers else f"weights stay float16: none to be stored has {SMALL} values or more"
    if precision.is_float16:
        to_float16(graph, _islands(graph, request, details))
    with torch.no_grad():
        return Prepared(graph, decomposed(graph, request.inputs), details, note)


def _islands(graph: fx.GraphModule, request: BuildRequest, details: dict[str, Any]) -> frozenset[str]:
    """What stays float32 for the sake of accuracy; beside int8 activations the rounding of float16 is nothing."""
    if precision_of(request.precision).activations_int8:
        return frozenset()
    wide = islands(graph, request.samples(), lambda kept: rounded_values(graph, kept))
    if wide:
        details["float32_islands"] = sorted(wide)
    return wide


def _refuse_repeated(graph: fx.GraphModule, names: Sequence[str]) -> None:
    """The converter makes one output of a tensor that is given twice."""
    (output,) = (n for n in graph.graph.nodes if n.op == "output")
    given: Any = output.args[0]
    seen: dict[object, str] = {}
    for value, name in zip(given if isinstance(given, list | tuple) else (given,), names, strict=True):
        if value in seen:
            raise ExportError(
                f"outputs '{seen[value]}' and '{name}' are one tensor", expected="different ones", hint="give it once"
            )
        seen[value] = name


def _counts(stored: Stored) -> dict[str, Any]:
    kinds = sorted(set(stored.layers.values()))
    counts = {f"weights_{kind}": sum(k == kind for k in stored.layers.values()) for kind in kinds}
    return {**counts, "weights_float16": len(stored.left)}
