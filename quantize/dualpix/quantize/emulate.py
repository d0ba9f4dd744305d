"""Any choice of int8 layers of a network, computed in emulated int8, after one calibration.

``prepare_pt2e`` and ``convert_pt2e`` take seconds and a calibration per choice. Ranges of activations do not depend on
the choice (observers see float values), so they are measured once, per tensor; a choice is then the float graph with
``quantise -> dequantise`` put where the quantizer itself asks for it, which takes milliseconds to build, and runs at
nearly the speed of float because each pair is one fused operator.

Convention: a *layer* is a submodule with weights (all convolutions and linears it runs, however often it is called).
"""

from __future__ import annotations

import copy
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchao.quantization.pt2e.quantizer.quantizer import (
    Q_ANNOTATION_KEY,
    QuantizationSpec,
    SharedQuantizationSpec,
)

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph import harmonise_scales
from dualpix.quantize.keep import KeepFloat, keep_nothing, module_path
from dualpix.quantize.kinds import Observer
from dualpix.quantize.ptq import (
    SCALE_FLOOR,
    annotation,
    exported_graph,
    static_quantizer,
)

_QUANTISE = torch.ops.quantized_decomposed.quantize_per_tensor.default
_DEQUANTISE = torch.ops.quantized_decomposed.dequantize_per_tensor.default
_CODES = (-128, 127, torch.int8)
_WEIGHT_MAX = 127
_WEIGHTED = ("aten.conv", "aten.linear.")
_PRODUCTS = ("aten.bmm.", "aten.mm.", "aten.matmul.")

Grid = tuple[float, int]
"""(scale, zero point) of an activation."""


@dataclass(frozen=True)
class Layer:
    """A submodule whose convolutions and linears can be int8."""

    path: str
    """Dotted; empty for operators of the network's own ``forward``."""
    macs: int
    """Multiply-accumulates of one inference, over all calls."""
    weights: int
    channels: int
    """Output channels: each has a scale and, of its own, a bias."""

    @property
    def float_bytes(self) -> int:
        """Of the weights in float32, without biases, which stay 4 bytes each."""
        return 4 * self.weights

    @property
    def int8_bytes(self) -> int:
        """Of the weights in int8 with one float32 scale per output channel."""
        return self.weights + 4 * self.channels


@dataclass(frozen=True)
class ActivationCoverage:
    """How much of what a layer reads at work its calibrated range holds."""

    path: str
    inside: float
    """0..1; the rest saturates."""


class Emulator:
    """A network calibrated once; :meth:`graph` gives it with any choice of layers in emulated int8.

    Args:
        module: any network in float32; it is unchanged.
        calibration: inputs of one size; their activations set the ranges.
        observer: what decides the range of an activation.
        on_sample: told (done, total) after each calibration sample.

    Raises:
        DualpixError: no calibration sample.
        UnknownNameError: no such observer.
    """

    def __init__(
        self,
        module: nn.Module,
        calibration: Sequence[Inputs],
        observer: Observer = "histogram",
        on_sample: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        if not calibration:
            raise DualpixError("no calibration samples", expected="at least one", hint="ranges are measured on them")
        self._observer = observer
        with torch.no_grad():
            self._float = exported_graph(module, calibration[0])
            static_quantizer(keep_nothing, observer).transform_for_annotation(self._float)
            self._annotate(keep_nothing)
            self._grids = self._measure(calibration, on_sample)
            self._weights = {n.name: self._int8_weight(n) for n in self._float.graph.nodes if _weight_spec(n)}
        self.layers = self._layers()
        self.total_macs = sum(macs_of(n) for n in self._float.graph.nodes)
        """Of one inference, with the products of attention, which stay float."""
        self.other_weights = sum(p.numel() for p in module.parameters()) - sum(layer.weights for layer in self.layers)

    def _annotate(self, keep_float: KeepFloat) -> None:
        for node in self._float.graph.nodes:
            node.meta.pop(Q_ANNOTATION_KEY, None)
        static_quantizer(keep_float, self._observer).annotate(self._float)

    def _measure(self, calibration: Sequence[Inputs], on_sample: Callable[[int, int], None]) -> dict[str, Grid]:
        observers = {
            node.name: _observer(spec)
            for node in self._float.graph.nodes
            if (spec := _plain_spec(node, self._float.graph)) is not None
        }
        for index, inputs in enumerate(calibration):
            _Watch(self._float, observers).run(*inputs)
            on_sample(index + 1, len(calibration))
        return {name: _grid(observer) for name, observer in observers.items()}

    def _int8_weight(self, node: fx.Node) -> str:
        """Register the weight of ``node`` as int8 rounds it; the name of the buffer."""
        source = node.args[1]
        assert isinstance(source, fx.Node)  # noqa: S101 - by _weight_spec
        name = "_int8_" + str(source.target).replace(".", "_")
        if not hasattr(self._float, name):
            weight = operator.attrgetter(str(source.target))(self._float).detach()
            self._float.register_buffer(name, rounded_weight(weight))
        return name

    def _layers(self) -> tuple[Layer, ...]:
        self._annotate(keep_nothing)
        uses: dict[str, list[fx.Node]] = {}
        for node in self._float.graph.nodes:
            if _weight_spec(node):
                uses.setdefault(module_path(node), []).append(node)
        return tuple(self._layer(path, nodes) for path, nodes in uses.items())

    def _layer(self, path: str, nodes: Sequence[fx.Node]) -> Layer:
        shapes = {str(n.args[1].target): _value(n.args[1]).shape for n in nodes}  # type: ignore[union-attr]
        return Layer(
            path,
            macs=sum(macs_of(n) for n in nodes),
            weights=sum(math.prod(shape) for shape in shapes.values()),
            channels=sum(shape[0] for shape in shapes.values()),
        )

    def graph(self, keep_float: KeepFloat = keep_nothing, *, trainable: bool = False) -> fx.GraphModule:
        """The network in emulated int8 but for the submodules that ``keep_float`` names; takes the same inputs.

        ``trainable`` rounds weights in each forward pass, so that the float weights behind them can be trained
        (straight-through gradients), and gives all calls of a shared layer one bias again.
        """
        self._annotate(keep_float)
        graph = copy.deepcopy(self._float.graph)
        copies = {node.name: node for node in graph.nodes}
        for node in self._float.graph.nodes:
            if annotation(node) is None:
                continue
            own = copies[node.name]
            if _weight_spec(node):
                with graph.inserting_before(own):
                    weight = (
                        graph.call_function(rounded_weight, (own.args[1],))
                        if trainable
                        else graph.get_attr(self._weights[node.name])
                    )
                own.args = (own.args[0], weight, *own.args[2:])
            for source in annotation(node).input_qspec_map:
                # quantised where it was made, it is so for every reader
                if source.name in self._grids and not _made_int8(source):
                    self._insert(graph, copies[source.name], [own], own)
            if _made_int8(node):
                self._insert(graph, own, list(own.users), own.next)
        if trainable:
            _tie_biases(graph)
        emulated = fx.GraphModule(self._float, graph)
        harmonise_scales(emulated)
        _fuse(emulated.graph)
        emulated.recompile()
        return emulated

    def coverage(self, working: Sequence[Inputs]) -> tuple[ActivationCoverage, ...]:
        """Per layer, the share of the activations it reads at work that its int8 range holds; the worst first.

        Args:
            working: inputs as they come in use, or held-back ones.

        Raises:
            DualpixError: no sample.
        """
        if not working:
            raise DualpixError("no working samples", expected="at least one")
        counts = {name: _Inside(*_interval(grid)) for name, grid in self._grids.items()}
        with torch.no_grad():
            for inputs in working:
                _Watch(self._float, counts).run(*inputs)
        self._annotate(keep_nothing)
        worst: dict[str, float] = {}
        for node in self._float.graph.nodes:
            if _weight_spec(node):
                share = counts[node.args[0].name].share
                worst[module_path(node)] = min(share, worst.get(module_path(node), 1.0))
        return tuple(ActivationCoverage(path, share) for path, share in sorted(worst.items(), key=lambda item: item[1]))

    def _insert(self, graph: fx.Graph, source: fx.Node, readers: Sequence[fx.Node], before: fx.Node) -> None:
        grid = self._grids[source.name]
        with graph.inserting_before(before):
            codes = graph.call_function(_QUANTISE, (source, *grid, *_CODES))
            restored = graph.call_function(_DEQUANTISE, (codes, *grid, *_CODES))
        for reader in readers:
            reader.replace_input_with(source, restored)


def rounded_weight(weight: Tensor) -> Tensor:
    """``weight`` (out, ...) as symmetric int8 with a scale per output channel gives it back; as torchao rounds it."""
    extent = weight.detach().flatten(1).abs().amax(1)
    scale = (extent / _WEIGHT_MAX).clamp_min(SCALE_FLOOR)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -_WEIGHT_MAX, _WEIGHT_MAX)


def _tie_biases(graph: fx.Graph) -> None:
    """Give all operators that share a weight the bias of the first."""
    first: dict[str, fx.Node] = {}
    for node in graph.nodes:
        if node.op == "call_function" and str(node.target).startswith(_WEIGHTED) and len(node.args) > 2:
            weight, bias = (_attribute(argument) for argument in node.args[1:3])
            if weight is not None and bias is not None:
                node.replace_input_with(bias, first.setdefault(str(weight.target), bias))


def _attribute(node: Any) -> fx.Node | None:
    """The ``get_attr`` node behind a weight, rounded or not."""
    while isinstance(node, fx.Node) and node.target is rounded_weight:
        node = node.args[0]
    return node if isinstance(node, fx.Node) and node.op == "get_attr" else None


def _fuse(graph: fx.Graph) -> None:
    """Make each quantise -> dequantise pair one operator."""
    for node in list(graph.nodes):
        if node.target is not _DEQUANTISE:
            continue
        codes = node.args[0]
        with graph.inserting_before(node):
            fused = graph.call_function(torch.fake_quantize_per_tensor_affine, (codes.args[0], *node.args[1:5]))
        node.replace_all_uses_with(fused)
        graph.erase_node(node)
        if not codes.users:
            graph.erase_node(codes)


class _Inside:
    """Counts the values inside an interval."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high, self._inside, self._all = low, high, 0, 0

    def __call__(self, value: Tensor) -> None:
        self._inside += int(((value >= self._low) & (value <= self._high)).sum())
        self._all += value.numel()

    @property
    def share(self) -> float:
        return self._inside / max(self._all, 1)


def _interval(grid: Grid) -> tuple[float, float]:
    """What the codes of a grid cover, with the half step that still rounds into it."""
    scale, zero = grid
    return (_CODES[0] - zero - 0.5) * scale, (_CODES[1] - zero + 0.5) * scale


class _Watch(fx.Interpreter):
    """Runs a graph and shows the named values to their observers."""

    def __init__(self, graph: fx.GraphModule, observers: Mapping[str, Any]) -> None:
        super().__init__(graph)
        self._observers = observers

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and observe its value."""
        value = super().run_node(n)
        if n.name in self._observers:
            self._observers[n.name](value.detach())
        return value


def _made_int8(node: fx.Node) -> bool:
    return annotation(node) is not None and annotation(node).output_qspec is not None


def _weight_spec(node: fx.Node) -> QuantizationSpec | None:
    """The quantizer's wish for the weight of ``node``; ``None`` where it has none."""
    if not (node.op == "call_function" and str(node.target).startswith(_WEIGHTED) and annotation(node)):
        return None
    spec = annotation(node).input_qspec_map.get(node.args[1])
    return spec if isinstance(spec, QuantizationSpec) else None


def _plain_spec(node: fx.Node, graph: fx.Graph) -> QuantizationSpec | None:
    """How the activation of ``node`` is quantised by it or a reader; ``None`` where it never is."""
    if node.op == "get_attr" or not isinstance(_value(node), Tensor) or not _value(node).is_floating_point():
        return None
    wishes = [annotation(node).output_qspec] if annotation(node) else []
    wishes += [annotation(user).input_qspec_map.get(node) for user in node.users if annotation(user)]
    if all(wish is None for wish in wishes):
        return None
    plain = [wish for wish in wishes if isinstance(wish, QuantizationSpec)]
    return plain[0] if plain else _any_activation_spec(graph)


def _any_activation_spec(graph: fx.Graph) -> QuantizationSpec:
    """Of an activation that shares the scale of another: all are measured alike."""
    specs: Iterator[Any] = itertools.chain.from_iterable(
        annotation(n).input_qspec_map.items() for n in graph.nodes if annotation(n)
    )
    return next(
        spec for source, spec in specs if source.op != "get_attr" and not isinstance(spec, SharedQuantizationSpec)
    )


def _observer(spec: QuantizationSpec) -> Any:
    options = {"dtype": spec.dtype, "quant_min": spec.quant_min, "quant_max": spec.quant_max, "qscheme": spec.qscheme}
    if spec.ch_axis is not None:
        options["ch_axis"] = spec.ch_axis
    return spec.observer_or_fake_quant_ctr(**options)


def _grid(observer: Any) -> Grid:
    scale, zero = observer.calculate_qparams()
    return float(scale), int(zero)


def _value(node: Any) -> Any:
    return node.meta.get("val") if isinstance(node, fx.Node) else None


def macs_of(node: fx.Node) -> int:
    """Multiply-accumulates of a convolution, linear or matrix product of an exported graph; 0 for every other node."""
    name = str(node.target)
    if node.op != "call_function" or not name.startswith((*_WEIGHTED, *_PRODUCTS)):
        return 0
    first, second, result = _value(node.args[0]), _value(node.args[1]), _value(node)
    if name.startswith(_PRODUCTS):
        return int(result.numel() * first.shape[-1])
    if name.startswith("aten.linear."):
        return int(result.numel() * second.shape[-1])
    # each output value, or input value of a transposed convolution, meets one filter: all weights but the leading axis
    over = first if "transpose" in name else result
    return int(over.numel() * (second.numel() // second.shape[0]))
