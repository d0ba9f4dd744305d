"""What a written package must hold, and what it must compute, before it counts as written."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from dualpix.export.artefact import BuildRequest, ExportError
from dualpix.export.coreml.convert import Converted, float_graph, module_path, precision_of, weighted_layers
from dualpix.export.coreml.forms import as_core_ml_takes
from dualpix.export.coreml.interpret import Interpreter
from dualpix.export.coreml.package import Operation, PackageError, Reference, read_spec
from dualpix.export.layers import LayerDifference, first_far, inside, none_far
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph import run_eager
from dualpix.quantize.score import EXACT_SQNR_DB, Predict, sqnr_db, tensors_of

_WEIGHTED = {"conv", "conv_transpose", "linear"}
_CONSTANTS = ("const", "constexpr_")
_LARGEST_HALF, _LEAST_HALF = 65504.0, 6.1e-5
"""Of float16's normal numbers."""


def check_package(path: Path, request: BuildRequest, converted: Converted) -> dict[str, int]:
    """Read a package back and compare its structure with the request.

    Returns:
        How often each operator occurs, constants apart.

    Raises:
        ExportError: a name, a shape, the number of weighted layers or the weights' type is not what was asked for.
    """
    try:
        spec, _ = read_spec(path)
        block = next(iter(spec.mlProgram.functions["main"].block_specializations.values()))
    except (PackageError, StopIteration) as error:
        raise ExportError(f"'{path.name}' cannot be read back: {error}") from error
    inputs = {i.name: tuple(i.type.multiArrayType.shape) for i in spec.description.input}
    asked = {name: tuple(t.shape) for name, t in zip(request.input_names, request.inputs, strict=True)}
    outputs = [o.name for o in spec.description.output]
    if inputs != asked or sorted(outputs) != sorted(request.output_names):
        names = ", ".join(request.output_names)
        raise ExportError(f"'{path.name}' takes {inputs}, gives {outputs}", expected=f"{asked}, {names}")
    every = Counter(str(o.type) for o in block.operations)
    operators = {name: count for name, count in every.items() if not name.startswith(_CONSTANTS)}
    weighted = sum(count for name, count in operators.items() if name in _WEIGHTED)
    if weighted < len(weighted_layers(converted.graph)) and weighted < (layers := _distinct_layers(converted.graph)):
        raise ExportError(f"'{path.name}' has {weighted} weighted operators", expected=f"at least {layers}")
    for mark in precision_of(request.precision).marks:
        if not every[mark] and not converted.uncompressed:
            raise ExportError(f"'{path.name}' has no '{mark}'", expected=f"a program of precision {request.precision}")
    return dict(sorted(operators.items()))


def _distinct_layers(exported: ExportedProgram) -> int:
    """Weighted layers, those that compute the same from the same counted once: the converter joins them.

    Two layer norms of one tensor begin with the same mean, and that is a weighted layer here.
    """
    stored = {**exported.graph_signature.inputs_to_buffers, **exported.graph_signature.inputs_to_parameters}
    tensors = {**exported.constants, **exported.state_dict}
    values: dict[fx.Node, str] = {}
    for node in exported.graph.nodes:
        if node.name in stored:
            tensor = tensors[stored[node.name]].detach().contiguous()
            content = tensor.flatten().view(torch.uint8).numpy().tobytes()
            key = f"{tensor.dtype}{tuple(tensor.shape)}{hashlib.sha256(content).hexdigest()}"
        elif node.op == "call_function":
            key = f"{node.target}{fx.map_arg((node.args, node.kwargs), lambda used: values[used])}"
        else:
            key = node.name
        values[node] = hashlib.sha256(key.encode()).hexdigest()
    return len({values[layer.node] for layer in weighted_layers(exported)})


@dataclass(frozen=True)
class Numerics:
    """How far the interpreted package is from the float network on the request's inputs."""

    sqnr_db: float
    max_abs: float
    from_graph_db: float | None
    """SQNR against the quantised graph that was converted; ``None`` where the float network itself was."""
    least_weight_sqnr_db: float | None
    """Of the worst stored weight against the uncompressed one; ``None`` where they were not compared."""


def check_numerics(
    path: Path, request: BuildRequest, plain: Path | None = None, graph: ExportedProgram | None = None
) -> Numerics:
    """Interpret a package on the request's inputs and compare the output with the network's.

    Args:
        path: the saved package.
        request: what it was made from; its precision sets the limits.
        plain: the same program with uncompressed weights; every weight is then compared, too. A wrong weight of one
            layer may hide behind the loss of all others in the output, not behind its own.
        graph: the quantised graph it was converted from, which it is then held against in place of the network.

    Raises:
        ExportError: the output or a weight is further away than the precision explains; names the operator where the
            values part.
        PackageError: the package is damaged or holds what the interpreter does not model.
    """
    precision, interpreter = precision_of(request.precision), Interpreter(path)
    expected = run_eager(request.module, request.inputs)
    output, wanted = _run(interpreter, request), tensors_of(expected)
    if [t.shape for t in output] != [t.shape for t in wanted]:
        shapes = (", ".join(str(tuple(t.shape)) for t in tensors) for tensors in (output, wanted))
        raise ExportError(f"'{path.name}' gives {next(shapes)}", expected=next(shapes))
    worst = None if plain is None else _check_weights(interpreter, Interpreter(plain), precision.least_weight_sqnr_db)
    with torch.no_grad():
        from_graph = None if graph is None else sqnr_db(graph.module()(*request.inputs), output)
    sqnr = sqnr_db(expected, output)
    judged = sqnr if from_graph is None else from_graph
    if not judged >= precision.least_sqnr_db and precision.compute == "float16":
        _check_range(path, request)
    if not judged >= precision.least_sqnr_db:
        layers = layer_differences(interpreter, request, graph)
        where = first_far(layers) or none_far(layers)
        raise ExportError(
            f"'{path.name}' computes something else: {judged:.1f} dB from the network; {where}",
            expected=f"at least {precision.least_sqnr_db:g} dB for {request.precision}",
        )
    gaps = (float((o.double() - w.double()).abs().max()) for o, w in zip(output, wanted, strict=True))
    return Numerics(sqnr, max(gaps), from_graph, worst)


def interpreted(path: Path, input_names: Sequence[str], output_names: Sequence[str]) -> Predict:
    """A function that interprets the saved package.

    Raises:
        PackageError: the package is damaged or holds what the interpreter does not model.
    """
    interpreter = Interpreter(path)

    def predict(inputs: Inputs) -> Any:
        given = interpreter(dict(zip(input_names, as_core_ml_takes(inputs), strict=True)))
        return given[output_names[0]] if len(output_names) == 1 else tuple(given[name] for name in output_names)

    return predict


def layer_differences(
    interpreter: Interpreter, request: BuildRequest, graph: ExportedProgram | None = None
) -> tuple[LayerDifference, ...]:
    """Each operator's result in the program against the eager network's (or ``graph``'s), in program order.

    Only results that keep their name through the conversion are compared; the converter renames what it fuses.
    """
    recorder = _Recorder((graph or float_graph(request)).module())
    with torch.no_grad():
        recorder.run(*request.inputs)
    kept: dict[str, Tensor] = {}
    _run(interpreter, request, kept)
    found = []
    for step in interpreter.steps:
        name = step.name.removesuffix("_cast_fp16")
        eager, value = recorder.values.get(name), kept.get(step.name)
        if eager is not None and value is not None and eager.shape == value.shape and eager.is_floating_point():
            difference = sqnr_db(eager, value)
            found.append(LayerDifference(name, step.kind, recorder.modules[name], difference))
    return tuple(found)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what every node gives."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Tensor] = {}
        self.modules: dict[str, str] = {}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, Tensor):
            self.values[n.name], self.modules[n.name] = result.detach().clone(), module_path(n)
        return result


def _run(interpreter: Interpreter, request: BuildRequest, keep: dict[str, Tensor] | None = None) -> tuple[Tensor, ...]:
    given = interpreter(dict(zip(request.input_names, request.inputs, strict=True)), keep)
    return tuple(given[name] for name in request.output_names)


def _check_range(path: Path, request: BuildRequest) -> None:
    """Whether the network's own values fit into float16.

    Raises:
        ExportError: one does not; names the input or the layer.
    """
    recorder = _Recorder(float_graph(request).module())
    with torch.no_grad():
        recorder.run(*request.inputs)
    inputs = {f"input '{name}'": t for name, t in zip(request.input_names, request.inputs, strict=True)}
    layers = {f"'{name}'{inside(recorder.modules[name])}": v for name, v in recorder.values.items()}
    for where, value in (inputs | layers).items():
        largest = float(value.abs().max()) if value.is_floating_point() and value.numel() else 0.0
        if largest > _LARGEST_HALF or 0.0 < largest < _LEAST_HALF:
            raise ExportError(
                f"'{path.name}' computes something else: {where} holds values up to {largest:.6g}",
                expected=f"{_LEAST_HALF:.2g} to {_LARGEST_HALF:g}, what float16 holds",
                hint="choose another unit for it, or a recipe of float32",
            )


def _weight(step: Operation, interpreter: Interpreter) -> Tensor | None:
    operand = step.inputs.get("weight", (None,))[0]
    value = interpreter.constant(operand.name) if isinstance(operand, Reference) else operand
    return value if isinstance(value, Tensor) else None


def _check_weights(stored: Interpreter, plain: Interpreter, least_db: float) -> float:
    """The worst weight's figure, held against the limit."""
    mine, others = ([s for s in i.steps if s.kind in _WEIGHTED] for i in (stored, plain))
    if [s.kind for s in mine] != [s.kind for s in others]:
        raise ExportError("compressing the weights changed the program", expected="the same layers in the same order")
    worst = EXACT_SQNR_DB
    for step, other in zip(mine, others, strict=True):
        weight, expected = _weight(step, stored), _weight(other, plain)
        if weight is None or expected is None or weight.shape != expected.shape:
            raise ExportError(f"the weight of '{step.name}' has another shape than before it was compressed")
        figure = sqnr_db(expected, weight)
        if not figure >= least_db:
            raise ExportError(
                f"the weight of '{step.name}' is {figure:.1f} dB from the network's",
                expected=f"at least {least_db:g} dB",
            )
        worst = min(worst, figure)
    return worst
