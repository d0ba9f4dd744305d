"""Graph passes that make programs of a network right, loadable and fast.

Each removes a silent or late failure of the tools underneath (torch 2.13, torchao 0.18, executorch 1.5.1, coremltools
9.0), or an operator that XNNPACK is slow at; the tests show each failure without its pass. In the order of use:

1. :func:`float_graph`: the network without side effects, batch norms folded, in operators that all backends understand;
2. for XNNPACK, :func:`rewrite_for_xnnpack`: softmax on three axes, attention as batched products, layer norm not in
   float16, narrow convolutions joined and widened;
3. :func:`unshare_weights` before ``prepare_pt2e``;
4. on the int8 graph after ``convert_pt2e``: :func:`harmonise_scales`, then :func:`tidy_for_xnnpack` before lowering.

:func:`fold_batch_norm` folds in a module rather than a graph.

Convention: tensors are (B, C, H, W); a graph is what ``torch.export.export(...).module()`` gives, of fixed shapes.
"""

from dualpix.quantize.graph.batch_norm import fold_batch_norm, fold_batch_norm_graph
from dualpix.quantize.graph.capture import plain_inputs, plain_module, run_eager
from dualpix.quantize.graph.codes import (
    constant_products_as_linear,
    join_codes,
    move_codes,
    share_quantised_sums,
    tidy_for_xnnpack,
)
from dualpix.quantize.graph.constants import fold_constants
from dualpix.quantize.graph.narrow import join_narrow_convolutions, widen_narrow_convolutions
from dualpix.quantize.graph.nodes import describe
from dualpix.quantize.graph.offsets import add_offsets_in_float
from dualpix.quantize.graph.portable import float_graph, give_batch_axis, spell_out_factors, spell_out_padding
from dualpix.quantize.graph.scales import harmonise_scales, limit_requantisation
from dualpix.quantize.graph.sharing import unshare_weights
from dualpix.quantize.graph.xnnpack import (
    attention_as_products,
    layer_norm_in_float32,
    rewrite_for_xnnpack,
    softmax_on_three_axes,
)

__all__ = [
    "add_offsets_in_float", "attention_as_products", "constant_products_as_linear", "describe", "float_graph",
    "fold_batch_norm", "fold_batch_norm_graph", "fold_constants", "give_batch_axis", "harmonise_scales",
    "join_codes", "join_narrow_convolutions", "layer_norm_in_float32", "limit_requantisation", "move_codes",
    "plain_inputs", "plain_module", "rewrite_for_xnnpack", "run_eager", "share_quantised_sums",
    "softmax_on_three_axes", "spell_out_factors", "spell_out_padding", "tidy_for_xnnpack", "unshare_weights",
    "widen_narrow_convolutions",
]  # fmt: skip
