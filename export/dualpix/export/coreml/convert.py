"""Converting a network to a Core ML program, at several precisions.

======================  ===========  ==============================================  =====================
precision               arithmetic   weights                                         activations
======================  ===========  ==============================================  =====================
``fp32``                float32      float32                                         float32
``fp16``                float16      float16                                         float16
``w8``                  float16      int8, one scale per output channel              float16
``w4-palettized``       float16      4-bit indices into 16 float16 values per layer  float16
``w8a8``                float16      int8, one scale per output channel              int8 around each layer
======================  ===========  ==============================================  =====================

``w8a8`` takes the graph of :func:`~dualpix.quantize.ptq.quantise_static`, whose ranges are measured on the calibration
set: it is already right for siamese networks, and Core ML's own activation quantiser needs ``predict``, hence a Mac.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.export import ExportedProgram

from dualpix.capture.errors import UnknownNameError
from dualpix.export.artefact import BuildRequest, ExportError
from dualpix.export.coreml.rewrite import MOST_AXES, exported_for_coreml, leave_output_float
from dualpix.export.coreml.small import lift_small_weights
from dualpix.export.mixed import kept_float
from dualpix.quantize import graph as passes
from dualpix.quantize.graph.ranks import limit_rank
from dualpix.quantize.graph.resizing import MATRIX
from dualpix.quantize.ptq import quantise_static
from dualpix.quantize.rounding import is_float, islands

PALETTE_BITS = 4
SMALL = 2048
"""Weights of so many values or fewer are left as they are by coremltools: compressed, they would not be smaller."""
_ALL_SMALL = f"weights stay float16: none to be compressed has more than {SMALL} values, coremltools leaves those alone"
_WEIGHTED, _MIL_WEIGHTED = ("aten.conv", "aten.linear."), ("conv", "conv_transpose", "linear")
MINIMUM_TARGET = "iOS17"


@dataclass(frozen=True)
class Precision:
    """How a program stores and computes, and how close it must come to the float network."""

    compute: Literal["float16", "float32"]
    weights: Literal["int8", "palette"] | None
    """How weights are stored; ``None`` as they are computed with."""
    activations_int8: bool
    least_sqnr_db: float
    """Of the interpreted output on the request's inputs against the network's, with int8 activations against the
    quantised network's. Below it the conversion is wrong; what a precision may lose is for the gate to say."""
    least_weight_sqnr_db: float
    """Of each stored weight against the float weight."""
    marks: tuple[str, ...] = ()
    """Operators of which the program must hold at least one each."""


_AFFINE, _PALETTE = "constexpr_affine_dequantize", "constexpr_lut_to_dense"

PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision("float32", None, False, 80.0, 120.0),
    "fp16": Precision("float16", None, False, 35.0, 60.0),
    "w8": Precision("float16", "int8", False, 20.0, 30.0, (_AFFINE,)),
    "w4-palettized": Precision("float16", "palette", False, 6.0, 10.0, (_PALETTE,)),
    "w8a8": Precision("float16", None, True, 12.0, 30.0, (_AFFINE, "quantize", "dequantize")),
}


@dataclass(frozen=True)
class Converted:
    """A converted network, not yet saved."""

    model: Any
    """coremltools' ``MLModel``."""
    graph: ExportedProgram
    """What was converted: one node per operator. With int8 activations it computes what the program must."""
    plain: Any | None = None
    """The same program with uncompressed weights; ``None`` where nothing was compressed afterwards."""
    uncompressed: str = ""
    """Why no weight was compressed although the precision asks for it."""
    islands: frozenset[str] = frozenset()
    """Operators that compute in float32 inside a float16 program."""
    kept: tuple[str, ...] = ()
    """Layers whose activations stay float beside int8 ones."""


def save(model: Any, path: Path) -> None:
    """Write a package. A table of debug handles, that the converter adds and no runtime reads, is left out: it can be
    as large as the weights.
    """
    model.save(str(path))
    (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)


def precision_of(name: str) -> Precision:
    """Look a precision up.

    Raises:
        UnknownNameError: no precision of that name; the message lists the known ones.
    """
    if name not in PRECISIONS:
        raise UnknownNameError("Core ML precision", name, list(PRECISIONS))
    return PRECISIONS[name]


def float_graph(request: BuildRequest) -> ExportedProgram:
    """The network as it is converted: batch norms folded, one node per operator."""
    graph = passes.float_graph(request.module, request.inputs)
    if precision_of(request.precision).weights is not None:
        lift_small_weights(graph)
    return exported_for_coreml(graph, request.inputs)


def convert(request: BuildRequest) -> Converted:
    """Convert ``request.module``; raises whatever the converter raises."""
    precision = precision_of(request.precision)
    if precision.activations_int8:
        graph = passes.float_graph(request.module, request.inputs)
        limit_rank(graph, MOST_AXES)
        keep, names = kept_float(request)
        quantised = quantise_static(graph, request.calibration.samples, keep, request.on_sample)
        passes.describe(quantised)
        leave_output_float(quantised)
        lift_small_weights(quantised)
        exported = exported_for_coreml(quantised, request.inputs)
        return Converted(_converted(exported, request, precision), exported, kept=names)
    exported = float_graph(request)
    wide = _islands(exported, request) if precision.compute == "float16" else frozenset()
    plain = _converted(exported, request, precision, wide)
    if precision.weights is None:
        return Converted(plain, exported, islands=wide)
    layers = weighted_layers(exported)
    kept = {layer.name for layer in layers if request.keep_float(module_path(layer.node)) or MATRIX in layer.held}
    why = "" if any(layer.size > SMALL and layer.name not in kept for layer in layers) else _ALL_SMALL
    return Converted(_compressed(plain, precision, _stored_names(plain, layers, kept)), exported, plain, why, wide)


@dataclass(frozen=True)
class WeightedLayer:
    """A convolution or linear layer with a stored weight."""

    node: torch.fx.Node
    held: str
    """Name of the weight in the network."""
    size: int
    """Its number of values."""

    @property
    def name(self) -> str:
        """Of the call, unique in the graph."""
        return self.node.name


def weighted_layers(exported: ExportedProgram) -> list[WeightedLayer]:
    """The convolutions and linear layers of a graph that is converted, in order."""
    signature = exported.graph_signature
    stored = {**signature.inputs_to_buffers, **signature.inputs_to_parameters}
    layers = []
    for node in exported.graph.nodes:
        if node.op == "call_function" and str(node.target).startswith(_WEIGHTED):
            weight: Any = node.args[1]
            while weight.op == "call_function" and weight.all_input_nodes:  # a quantised weight is restored before use
                weight = weight.all_input_nodes[0]
            if weight.name in stored:
                layers.append(WeightedLayer(node, stored[weight.name], math.prod(weight.meta["val"].shape)))
    return layers


def _stored_names(plain: Any, layers: Sequence[WeightedLayer], kept: Collection[str]) -> list[str]:
    """Names in the program of the weights of the layers that are to be ``kept``.

    By the order of layers: the converter gives operators other names where it completes them (a linear layer without a
    bias) and where they give the output. Small ones may be missing: it folds and merges some (four of
    ``fossa-compact``).
    """
    if not kept:
        return []
    (block,) = plain.get_spec().mlProgram.functions["main"].block_specializations.values()
    names = [o.inputs["weight"].arguments[0].name for o in block.operations if o.type in _MIL_WEIGHTED]
    sizes_of = {output.name: _size(output) for o in block.operations if o.type == "const" for output in o.outputs}
    sizes, wanted = [sizes_of.get(name, 0) for name in names], [layer.size for layer in layers]
    found: dict[int, str] = {}
    for tag, first, last, start, _ in SequenceMatcher(None, wanted, sizes, autojunk=False).get_opcodes():
        if tag == "equal":
            found |= {place: names[start + place - first] for place in range(first, last)}
    if len(found) != len(names) or any(n > SMALL for place, n in enumerate(wanted) if place not in found):
        raise ExportError(
            f"Core ML made {len(names)} layers with weights of {len(layers)}",
            hint="keep no layer in float, or use fp16",
        )
    return [name for place, name in found.items() if layers[place].name in kept]


def _size(output: Any) -> int:
    """Number of values of a constant of the program."""
    return math.prod(d.constant.size for d in output.type.tensorType.dimensions)


def _islands(exported: ExportedProgram, request: BuildRequest) -> frozenset[str]:
    """The operators that must compute in float32, so that those in float16 do not lose what the network compares."""
    graph: Any = exported.module()
    values = frozenset(node.name for node in graph.graph.nodes if is_float(node))
    wide = islands(graph, request.samples(), lambda kept: values.difference(kept))
    operators = (node for node in graph.graph.nodes if node.op == "call_function")
    return frozenset(n.name for n in operators if n.name in wide or any(i.name in wide for i in n.all_input_nodes))


def _narrows(wide: Collection[str]) -> Callable[[Any], bool]:
    """Whether an operation of the program becomes float16: not one of an island, nor a part of one (``sub_3_x``)."""

    def narrows(operation: Any) -> bool:
        parts = str(operation.name).split("_")
        ends = (k for k in range(1, len(parts) + 1) if k == len(parts) or not parts[k].isdigit())
        return not any("_".join(parts[:end]) in wide for end in ends)

    return narrows


def _converted(
    exported: ExportedProgram, request: BuildRequest, precision: Precision, wide: Collection[str] = ()
) -> Any:
    import coremltools as ct

    compute = getattr(ct.precision, precision.compute.upper())
    if wide:
        compute = ct.transform.FP16ComputePrecision(op_selector=_narrows(wide))
    named = zip(request.input_names, request.inputs, strict=True)
    return ct.convert(
        exported,
        inputs=[ct.TensorType(name=n, shape=t.shape, dtype=t.numpy().dtype.type) for n, t in named],
        outputs=[ct.TensorType(name=name) for name in request.output_names],
        minimum_deployment_target=getattr(ct.target, MINIMUM_TARGET),
        compute_precision=compute,
        convert_to="mlprogram",
        skip_model_load=True,
    )


def _compressed(plain: Any, precision: Precision, spared: Sequence[str]) -> Any:
    import coremltools.optimize.coreml as cto

    def config(each: Any) -> Any:
        return cto.OptimizationConfig(global_config=each, op_name_configs=dict.fromkeys(spared))

    if precision.weights == "int8":
        affine = cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel")
        return cto.linear_quantize_weights(plain, config(affine))
    return cto.palettize_weights(plain, config(cto.OpPalettizerConfig(mode="custom", lut_function=palette)))


def module_path(node: torch.fx.Node) -> str:
    """Dotted path of the innermost submodule that made ``node``, the same for each call of a shared one."""
    stack = node.meta.get("nn_module_stack") or {}
    innermost = list(stack.values())[-1][0] if stack else ""
    return re.sub(r"@\d+", "", str(innermost))


def palette(
    weight: npt.NDArray[np.floating[Any]], bits: int = PALETTE_BITS
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.uint8]]:
    """The values that stand for a weight with least squared error: k-means in one dimension (Lloyd 1982).

    Float16 weights have few distinct values, so that the clustering runs on those with their counts: milliseconds
    for a layer of a million weights, and the same result every time.

    Args:
        weight: any shape.
        bits: ``2 ** bits`` values.

    Returns:
        The values (2 ** bits,) ascending, in the weight's type, and the index of each weight (weight.size,).
    """
    values, counts = np.unique(weight, return_counts=True)
    values64, count = values.astype(np.float64), 1 << bits
    mass, moment = (np.concatenate([[0.0], np.cumsum(v)]) for v in (counts, counts * values64))
    # centres start at equal shares of the cube root of the density: near where the best ones end (Panter, Dite 1951)
    share = np.cumsum(np.cbrt(counts * np.gradient(values64) ** 2) if len(values) > 1 else counts)
    centres = values64[np.searchsorted(share, (np.arange(count) + 0.5) / count * share[-1]).clip(max=len(values) - 1)]
    for _ in range(200):
        edges = np.searchsorted(values64, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [len(values)]])
        held, summed = np.diff(mass[bounds]), np.diff(moment[bounds])
        moved = np.where(held > 0, summed / np.maximum(held, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    lut = centres.astype(weight.dtype)
    middles = (centres[1:] + centres[:-1]) / 2
    return lut, np.searchsorted(middles, weight.reshape(-1).astype(np.float64)).astype(np.uint8)
