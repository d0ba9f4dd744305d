"""Post-training quantisation for XNNPACK: PT2E with the graph passes of :mod:`.graph`, and 4-bit linears by torchao.

* :func:`quantise_static`: int8 convolutions and linears, one weight scale per output channel, ranges measured once;
* :func:`quantise_dynamic`: int8 linears whose input range is taken from each input anew (attention, transformers);
* :func:`quantise_linear_4w8da`: linears with 4-bit weights in groups, int8 inputs with a scale per token.

Concatenations become int8 where they join int8 neighbours. Additions and products are left to XNNPACK, which runs them
in int8 where both sides are: asking for them by name (``set_global``) also quantises the disparity arithmetic and costs
up to 10 dB for no speed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer_utils import QuantizationConfig
from torch import Tensor, fx, nn
from torchao.quantization.pt2e.observer import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY, QuantizationAnnotation

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph import (
    add_offsets_in_float,
    float_graph,
    fold_batch_norm,
    harmonise_scales,
    limit_requantisation,
    unshare_weights,
)
from dualpix.quantize.graph.nodes import argument, is_call, is_constant
from dualpix.quantize.keep import KeepFloat, keep_nothing, module_path
from dualpix.quantize.kinds import Observer

GROUP = 32
"""Weights that share a scale in :func:`quantise_linear_4w8da`; a linear's inputs must be a multiple of it."""

_CONV, _LINEAR, _CAT = torch.ops.aten.conv2d.default, torch.ops.aten.linear.default, torch.ops.aten.cat.default
_RELU6 = (torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default, torch.ops.aten.relu6.default)
_ACTIVATIONS = ("input_activation", "output_activation")
_THROUGH = tuple(
    f"aten.{n}." for n in ("relu", "hardtanh", "max_pool2d", "view", "reshape", "permute", "slice", "clone")
)
_INT4: torch.dtype = getattr(torch, "int4")  # noqa: B009 - torch's type stubs do not know it
_PERCENTILE = 0.9999
SCALE_FLOOR = 2**-60
"""Keeps the product of two scales a normal float32. The quantizer's own floor, 2**-12, has no reason in XNNPACK (see
:func:`~.graph.limit_requantisation`) and makes the result depend on the unit: depth in kilometres would be one code."""


class PercentileObserver(HistogramObserver):  # type: ignore[misc]
    """The range that holds 99.99 % of the values: robust to single outliers, blind to what they are worth."""

    def _non_linear_param_search(self) -> tuple[Tensor, Tensor]:
        share = torch.cumsum(self.histogram, 0) / self.histogram.sum().clamp_min(1)
        edges = torch.linspace(0.0, 1.0, self.bins + 1) * (self.max_val - self.min_val) + self.min_val
        low = edges[int(torch.searchsorted(share, 1.0 - _PERCENTILE))]
        high = edges[min(self.bins, int(torch.searchsorted(share, _PERCENTILE)) + 1)]
        return low, high


_OBSERVERS: dict[str, Any] = {
    "histogram": HistogramObserver,
    "percentile": PercentileObserver,
    "moving_average": MovingAverageMinMaxObserver,
    "minmax": MinMaxObserver,
}


class _SelectiveQuantizer(XNNPACKQuantizer):  # type: ignore[misc]
    """``XNNPACKQuantizer`` that leaves filtered operators alone, and concatenations that join nothing in int8.

    Patterns with batch norm are left out: it has been folded, and compiling them takes a second per network. The range
    of a layer that ends in ReLU6 is measured after it, as the base class does for ReLU alone.
    """

    SUPPORTED_PATTERNS = [p for p in XNNPACKQuantizer.SUPPORTED_PATTERNS if "bn" not in p.name]  # noqa: RUF012

    def _annotate_for_quantization_config(self, model: fx.GraphModule) -> fx.GraphModule:
        annotated: fx.GraphModule = super()._annotate_for_quantization_config(model)
        for node in annotated.graph.nodes:
            if not self.filter_fn(node):
                node.meta.pop(Q_ANNOTATION_KEY, None)
        for node in reversed(annotated.graph.nodes):
            if node.target is _CAT and not (_reads_int8(node) and _feeds_int8(node)):
                node.meta.pop(Q_ANNOTATION_KEY, None)
        for node in annotated.graph.nodes:
            if node.target in _RELU6 and self.filter_fn(node):
                _measure_after(node)
        return annotated


def _measure_after(activation: fx.Node) -> None:
    """Move the quantisation of a layer's result behind the activation that alone reads it.

    Before a ReLU6 it has to cover what the activation cuts off: of 256 codes a dozen are left for 0 to 6. XNNPACK
    computes layer and activation as one.
    """
    layer = activation.all_input_nodes[0]
    made = annotation(layer)
    if layer.target in (_CONV, _LINEAR) and made and made.output_qspec is not None and len(layer.users) == 1:
        activation.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(output_qspec=made.output_qspec, _annotated=True)
        made.output_qspec = None


def annotation(node: fx.Node) -> Any:
    """What a quantizer wrote on ``node``; ``None`` where it stays float."""
    return node.meta.get(Q_ANNOTATION_KEY)


def _passes_codes(node: fx.Node) -> bool:
    return node.op == "call_function" and str(node.target).startswith(_THROUGH)


def _reads_int8(node: fx.Node) -> bool:
    """Whether an int8 operator made one of the inputs, directly or through operators that only move values."""
    return any(
        (annotation(x) and annotation(x).output_qspec is not None) or (_passes_codes(x) and _reads_int8(x))
        for x in node.all_input_nodes
    )


def _feeds_int8(node: fx.Node) -> bool:
    """Whether an int8 operator reads the result, directly or through operators that only move values."""
    return any(
        (annotation(user) and node in annotation(user).input_qspec_map) or (_passes_codes(user) and _feeds_int8(user))
        for user in node.users
    )


def _with_observer(config: QuantizationConfig, observer: Observer) -> QuantizationConfig:
    """``config`` with activations measured by ``observer``, and scales of any size."""
    kind = _OBSERVERS[observer].with_args(eps=SCALE_FLOOR)
    swap = {name: replace(getattr(config, name), observer_or_fake_quant_ctr=kind) for name in _ACTIVATIONS}
    return _with_small_weights(replace(config, **swap))


def _with_small_weights(config: QuantizationConfig) -> QuantizationConfig:
    """``config`` with weights' scales of any size."""
    kind = PerChannelMinMaxObserver.with_args(eps=SCALE_FLOOR)
    return replace(config, weight=replace(config.weight, observer_or_fake_quant_ctr=kind))


def static_quantizer(keep_float: KeepFloat, observer: Observer = "histogram", *, is_qat: bool = False) -> Any:
    """The quantizer of static int8: convolutions, linears and concatenations but those ``keep_float`` names.

    Raises:
        UnknownNameError: no such observer.
    """
    if observer not in _OBSERVERS:
        raise UnknownNameError("observer", observer, list(_OBSERVERS))
    config = get_symmetric_quantization_config(is_per_channel=True, is_qat=is_qat)
    return _quantizer(
        dict.fromkeys((_CONV, _LINEAR, _CAT), config if is_qat else _with_observer(config, observer)), keep_float
    )


def _quantizer(configs: dict[Any, QuantizationConfig], keep_float: KeepFloat) -> Any:
    quantizer = _SelectiveQuantizer()
    for operator, config in configs.items():
        quantizer.set_operator_type(operator, config)

    def is_asked_for(node: fx.Node) -> bool:
        # The filter is asked about weights too; they belong to no module and follow their operator.
        return node.op != "call_function" or not (keep_float(module_path(node)) or _computes_its_weight(node))

    quantizer.set_filter_function(is_asked_for)
    return quantizer


def _computes_its_weight(node: fx.Node) -> bool:
    """Whether a layer's weight comes out of the network itself: scales of one per channel are for stored ones."""
    return is_call(node, ("aten.conv", "aten.linear.")) and not is_constant(argument(node, "weight"))


def exported_graph(module: nn.Module, inputs: Inputs) -> fx.GraphModule:
    """The float graph that quantisation starts from: batch norms folded, weights unshared."""
    return unshare_weights(float_graph(fold_batch_norm(module, inputs), inputs))


def quantise_static(
    module: nn.Module,
    calibration: Sequence[Inputs],
    keep_float: KeepFloat = keep_nothing,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
    observer: Observer = "histogram",
) -> fx.GraphModule:
    """Quantise ``module`` to static per-channel int8.

    Args:
        module: any network in float32; batch norms are folded in a copy, the module itself is unchanged.
        calibration: inputs of the one size that the result will take; their activations set the ranges.
        keep_float: submodules to leave in float32.
        on_sample: told (done, total) after each calibration sample.
        observer: what decides the range of an activation.

    Returns:
        A graph that computes in emulated int8 and exports with ``torch.export.export(graph, inputs)``.

    Raises:
        DualpixError: no calibration sample.
        UnknownNameError: no such observer.
    """
    _check_calibration(calibration)
    quantizer = static_quantizer(keep_float, observer)
    return _prepare_and_convert(module, quantizer, calibration, on_sample)


def quantise_dynamic(
    module: nn.Module,
    inputs: Inputs,
    keep_float: KeepFloat = keep_nothing,
    calibration: Sequence[Inputs] = (),
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> fx.GraphModule:
    """Quantise linears to int8 with input ranges taken at run time: nothing to calibrate, nothing to clip.

    Args:
        module: any network in float32; it is unchanged.
        inputs: one input of the size that the result will take.
        keep_float: submodules to leave in float32.
        calibration: where given, convolutions and concatenations become static int8 with ranges measured on it.
        on_sample: told (done, total) after each calibration sample.

    Returns:
        A graph that computes in emulated int8 and exports with ``torch.export.export(graph, inputs)``.

    Raises:
        DualpixError: the network has no linear to quantise and no calibration sample is given.
    """
    dynamic = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    configs = {_LINEAR: _with_small_weights(dynamic)}
    if calibration:
        static = _with_observer(get_symmetric_quantization_config(is_per_channel=True), "histogram")
        configs |= {_CONV: static, _CAT: static}
    elif not any(isinstance(m, nn.Linear) and not keep_float(name) for name, m in module.named_modules()):
        raise DualpixError("the network has no linear layer to quantise", hint="give calibration samples, or use int8")
    return _prepare_and_convert(module, _quantizer(configs, keep_float), calibration or (inputs,), on_sample)


def quantise_linear_4w8da(module: nn.Module, keep_float: KeepFloat = keep_nothing) -> nn.Module:
    """A copy of ``module`` whose linears have 4-bit weights (groups of :data:`GROUP`) and int8 inputs.

    Linears whose inputs are no multiple of the group stay float. The loss is large without training for it: about
    20 dB on vision transformers; the size falls to an eighth.

    Raises:
        DualpixError: no linear fits.
    """
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    def fits(part: nn.Module, name: str) -> bool:
        return isinstance(part, nn.Linear) and part.in_features % GROUP == 0 and not keep_float(name)

    quantised = copy.deepcopy(module).eval()
    if not any(fits(part, name) for name, part in quantised.named_modules()):
        raise DualpixError(
            "the network has no linear layer to quantise",
            expected=f"one whose inputs are a multiple of {GROUP}",
            hint="use int8",
        )
    quantize_(quantised, Int8DynamicActivationIntxWeightConfig(_INT4, PerGroup(GROUP)), fits)
    return quantised


def _check_calibration(calibration: Sequence[Inputs]) -> None:
    if not calibration:
        raise DualpixError("no calibration samples", expected="at least one", hint="ranges are measured on them")


def _prepare_and_convert(
    module: nn.Module, quantizer: Any, calibration: Sequence[Inputs], on_sample: Callable[[int, int], None]
) -> fx.GraphModule:
    with torch.no_grad():
        graph = exported_graph(module, calibration[0])
        add_offsets_in_float(graph, calibration)
        prepared = prepare_pt2e(graph, quantizer)
        for index, inputs in enumerate(calibration):
            prepared(*inputs)
            on_sample(index + 1, len(calibration))
        converted: fx.GraphModule = convert_pt2e(prepared)
    while harmonise_scales(converted) + limit_requantisation(converted):
        continue  # a raised scale may be shared, and a shared one too low for another layer
    return converted
