"""Static int8 by post-training quantisation, for XNNPACK: PT2E with the three graph passes of :mod:`.graph`.

Convolutions and linears become int8 with one weight scale per output channel; concatenations become int8 so that their
neighbours stay joined. Additions and products are left to XNNPACK, which runs them in int8 where both sides are: asking
for them by name (``set_global``) also quantises the disparity arithmetic and costs up to 10 dB for no speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from torch import fx, nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph import fold_batch_norm, harmonise_scales, unshare_weights

KeepFloat = Callable[[str], bool]
"""Dotted path of a submodule ("dual_pixel.half_attention.query") -> whether its operators stay float."""

_OPERATORS = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default, torch.ops.aten.cat.default)


def keep_modules(*prefixes: str) -> KeepFloat:
    """Keep the named submodules and all below them in float: ``keep_modules("heads", "fuse_half.weights")``."""
    return lambda path: any(path == p or path.startswith(p + ".") for p in prefixes)


def keep_nothing(path: str) -> bool:
    """Quantise everywhere."""
    return False


def _module_path(node: fx.Node) -> str:
    """Innermost submodule that made ``node``; empty for the top level."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


class _SelectiveQuantizer(XNNPACKQuantizer):  # type: ignore[misc]
    """``XNNPACKQuantizer`` that really leaves the filtered operators alone (its concatenation ignores the filter)."""

    def _annotate_for_quantization_config(self, model: fx.GraphModule) -> fx.GraphModule:
        annotated: fx.GraphModule = super()._annotate_for_quantization_config(model)
        for node in annotated.graph.nodes:
            if not self.filter_fn(node):
                node.meta.pop(Q_ANNOTATION_KEY, None)
        return annotated


def _quantizer(keep_float: KeepFloat) -> XNNPACKQuantizer:
    quantizer: Any = _SelectiveQuantizer()
    config = get_symmetric_quantization_config(is_per_channel=True)
    for operator in _OPERATORS:
        quantizer.set_operator_type(operator, config)
    # The filter is asked about weights too; they belong to no module and follow their operator.
    quantizer.set_filter_function(lambda node: node.op != "call_function" or not keep_float(_module_path(node)))
    return quantizer


def quantise_static(
    module: nn.Module,
    calibration: Sequence[Inputs],
    keep_float: KeepFloat = keep_nothing,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> fx.GraphModule:
    """Quantise ``module`` to static per-channel int8.

    Args:
        module: any network in float32; batch norms are folded in a copy, the module itself is unchanged.
        calibration: inputs of the one size that the result will take; their activations set the ranges.
        keep_float: submodules to leave in float32.
        on_sample: told (done, total) after each calibration sample.

    Returns:
        A graph that computes in emulated int8 and exports with ``torch.export.export(graph, inputs)``.

    Raises:
        DualpixError: no calibration sample.
    """
    if not calibration:
        raise DualpixError("no calibration samples", expected="at least one", hint="ranges are measured on them")
    with torch.no_grad():
        exported = torch.export.export(fold_batch_norm(module), calibration[0]).module()
        prepared = prepare_pt2e(unshare_weights(exported), _quantizer(keep_float))
        for index, inputs in enumerate(calibration):
            prepared(*inputs)
            on_sample(index + 1, len(calibration))
        converted: fx.GraphModule = convert_pt2e(prepared)
    harmonise_scales(converted)
    return converted
