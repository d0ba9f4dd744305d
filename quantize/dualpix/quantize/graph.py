"""Graph passes that make XNNPACK programs of siamese networks right, loadable and fast.

Each removes a silent or late failure of the PT2E flow (torchao 0.18, executorch 1.5.1), or an operator that XNNPACK is
slow at; the tests show each failure without its pass. In the order of use:

1. on the float graph, by :func:`rewrite_for_xnnpack`: fold batch norm, softmax on three axes, attention as batched
   products, layer norm not in float16, narrow convolutions joined and widened;
2. :func:`unshare_weights` before ``prepare_pt2e``;
3. on the int8 graph after ``convert_pt2e``: :func:`harmonise_scales`, then :func:`tidy_for_xnnpack` before lowering.

:func:`fold_batch_norm` does the first step on a module rather than a graph.

Convention: tensors are (B, C, H, W); a graph is what ``torch.export.export(...).module()`` gives, of fixed shapes.
"""

from __future__ import annotations

import copy
import hashlib
import math
import operator
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

_ATEN: Any = torch.ops.aten
_CODES: Any = torch.ops.quantized_decomposed
_QUANTISE = "quantized_decomposed.quantize_per_tensor.default"
_DEQUANTISE = "quantized_decomposed.dequantize_per_tensor.default"

_MOVEMENT = (
    "aten.cat", "aten.slice", "aten.permute", "aten.transpose", "aten.view", "aten.reshape", "aten.flatten",
    "aten.unsqueeze", "aten.squeeze", "aten.pad", "aten.constant_pad_nd", "aten.relu.", "aten.hardtanh", "aten.clamp",
    "aten.max_pool2d", "aten.pixel_shuffle", "aten.pixel_unshuffle", "aten.contiguous", "aten.clone", "aten.split",
    "aten.chunk", "aten.stack", "aten.select",
)  # fmt: skip
"""Operators that pass quantised values through unchanged: their inputs and outputs must share one scale."""

_REORDERING = ("aten.permute", "aten.transpose", "aten.view", "aten.reshape", "aten.flatten")
"""Movement of one tensor as a whole, which costs a quarter in int8."""

_LANES = 16
"""Output channels that XNNPACK's matrix kernels compute at once; a convolution with fewer pays for all of them."""


# ---------------------------------------------------------------------------------------------------------------------
# the float module and graph


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """A copy in eval mode with every convolution -> batch norm pair folded into one layer.

    Reason: ``prepare_pt2e`` folds a batch norm once per *call* of its convolution. A siamese encoder is called twice,
    so its weights would be scaled twice (pytorch/ao PR 2795): 5 dB of signal left before anything is quantised. Folding
    happens once however often the pair is called.

    Pairs are found in ``nn.Sequential``; for networks that call the two by hand :func:`fold_batch_norm_graph` finds
    them on the exported graph. An exported graph comes back as a copy, with that done.
    """
    if isinstance(module, fx.GraphModule):
        return fold_batch_norm_graph(copy.deepcopy(module))
    folded = copy.deepcopy(module).eval()
    for sequence in folded.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for first, second in pairwise(list(sequence._modules)):
            convolution, norm = sequence._modules[first], sequence._modules[second]
            if isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
                transposed = isinstance(convolution, nn.ConvTranspose2d)
                sequence._modules[first] = fuse_conv_bn_eval(convolution, norm, transpose=transposed)
                sequence._modules[second] = nn.Identity()
    return folded


def rewrite_for_xnnpack(
    graph_module: fx.GraphModule, kind: Callable[[fx.Node], Hashable] = lambda node: None
) -> fx.GraphModule:
    """All rewrites of the float graph, none of which changes what it computes; changes and returns the graph.

    Args:
        graph_module: an exported float graph.
        kind: convolutions of different kinds (one to be quantised, the other not) are not joined.
    """
    fold_batch_norm_graph(graph_module)
    attention_as_products(graph_module)
    softmax_on_three_axes(graph_module)
    layer_norm_in_float32(graph_module)
    join_narrow_convolutions(graph_module, kind)
    widen_narrow_convolutions(graph_module)
    return graph_module


def fold_batch_norm_graph(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Fold every batch norm that follows a convolution into new weights, once per pair; changes and returns the graph.

    Reason: see :func:`fold_batch_norm`. Calls of the same pair share the folded tensors.
    """
    graph = graph_module.graph
    for norm in _calls(graph, _ATEN.batch_norm.default):
        convolution = _arguments(norm)[0]
        if not (_is(convolution, "aten.conv2d.") or _is(convolution, "aten.conv_transpose2d.")):
            continue
        parameters = [*(convolution.args[1:2]), _argument(convolution, 2), *norm.args[1:5]]
        if len(convolution.users) != 1 or norm.args[5] or not all(p is None or _constant(p) for p in parameters):
            continue
        names = [None if p is None else str(p.target) for p in parameters]
        weight = _name("folded", *names)
        bias = weight + "_bias"
        if not hasattr(graph_module, weight):
            values = [None if name is None else _value(graph_module, name) for name in names]
            folded = _folded(values, float(_arguments(norm)[7]), transposed=_is(convolution, "aten.conv_transpose2d."))
            graph_module.register_buffer(weight, folded[0])
            graph_module.register_buffer(bias, folded[1])
        with graph.inserting_before(convolution):
            new = [_attribute(graph, name, like) for name, like in ((weight, parameters[0]), (bias, norm))]
        convolution.args = (convolution.args[0], *new, *convolution.args[3:])
        norm.replace_all_uses_with(convolution)
    return _cleaned(graph_module)


def _folded(values: Sequence[Tensor | None], epsilon: float, *, transposed: bool) -> tuple[Tensor, Tensor]:
    weight, bias, gain, shift, mean, variance = values
    pair: Any = fuse_conv_bn_weights(weight, bias, mean, variance, epsilon, gain, shift, transposed)  # type: ignore[arg-type]
    return pair[0].detach().clone(), pair[1].detach().clone()


def softmax_on_three_axes(graph_module: fx.GraphModule) -> int:
    """Rewrite softmax on other than the last of three axes to (1, rows, values); changes the graph.

    Reason: XNNPACK takes the softmax of the innermost axis in memory. Beside a convolution a 4-D tensor lies in
    channels-last order, and the result is that of another axis: no error, 8 to 20 dB of signal left, in float32 too.
    A softmax over another axis than the last is not delegated at all.

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in [*_calls(graph, _ATEN.softmax.int), *_calls(graph, _ATEN._softmax.default)]:
        shape = list(_shape(node))
        rank, axis = len(shape), int(_arguments(node)[1]) % len(shape)
        if rank < 3 or (rank == 3 and axis == 2):
            continue
        order = [i for i in range(rank) if i != axis] + [axis]
        back = [order.index(i) for i in range(rank)]
        with graph.inserting_before(node):
            make = _Maker(graph, node)
            x = node.args[0] if axis == rank - 1 else make(_ATEN.permute.default, node.args[0], order)
            x = make(_ATEN.reshape.default, x, [1, -1, shape[axis]])
            x = make(node.target, x, 2, *node.args[2:])
            x = make(_ATEN.reshape.default, x, [shape[i] for i in order])
            x = x if axis == rank - 1 else make(_ATEN.permute.default, x, back)
        node.replace_all_uses_with(x)
        changed += 1
    _cleaned(graph_module)
    return changed


def layer_norm_in_float32(graph_module: fx.GraphModule) -> int:
    """Let a float16 layer norm compute in float32; changes the graph.

    Reason: XNNPACK does not take it, and the runtime's own kernel adds a row up in float16: of 384 values 3 dB of
    signal are left, without an error (of 64 values all of it).

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in _calls(graph, _ATEN.layer_norm.default):
        if node.meta["val"].dtype != torch.float16:
            continue
        with graph.inserting_before(node):
            node.args = tuple(
                graph.call_function(_ATEN.to.dtype, (x, torch.float32)) if isinstance(x, fx.Node) else x
                for x in node.args
            )
        with graph.inserting_after(node):
            half = graph.call_function(_ATEN.to.dtype, (node, torch.float16))
        half.meta = dict(node.meta)
        node.replace_all_uses_with(half, lambda user, half=half: user is not half)  # type: ignore[misc]
        changed += 1
    _cleaned(graph_module)
    return changed


def attention_as_products(graph_module: fx.GraphModule) -> int:
    """Rewrite ``scaled_dot_product_attention`` to two batched products on 3-D tensors; changes the graph.

    Reason: its own decomposition masks rows of minus infinity with operators that no delegate takes, which doubles the
    time of a vision transformer. Calls with a mask, with dropout, or causal ones are left alone.

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in _calls(graph, _ATEN.scaled_dot_product_attention.default):
        query, key, value = _arguments(node)[:3]
        shape, tokens = list(_shape(query)), _shape(key)[-2]
        plain = all(_argument(node, i, name) in (None, 0.0, False) for i, name in enumerate(_SDPA_OPTIONS, start=3))
        if not plain or list(_shape(key)[:-2]) != shape[:-2] or list(_shape(value)[:-2]) != shape[:-2]:
            continue
        scale = node.kwargs.get("scale")
        name = f"_{node.name}_scale"
        factor = shape[-1] ** -0.5 if scale is None else float(scale)  # type: ignore[arg-type]
        graph_module.register_buffer(name, torch.tensor(factor, dtype=query.meta["val"].dtype))
        with graph.inserting_before(node):
            make = _Maker(graph, node)
            q, k, v = (make(_ATEN.reshape.default, x, [-1, *_shape(x)[-2:]]) for x in (query, key, value))
            scores = make(_ATEN.mul.Tensor, q, _attribute(graph, name, node))
            scores = make(_ATEN.bmm.default, scores, make(_ATEN.permute.default, k, [0, 2, 1]))
            weights = make(_ATEN.softmax.int, scores, -1)
            weights.meta["val"] = query.meta["val"].new_empty(math.prod(shape[:-2]), shape[-2], tokens)
            out = make(_ATEN.reshape.default, make(_ATEN.bmm.default, weights, v), [*shape[:-1], _shape(value)[-1]])
        node.replace_all_uses_with(out)
        graph.erase_node(node)  # dropout makes it look as if it had an effect: it would not be cleaned away
        changed += 1
    _cleaned(graph_module)
    return changed


_SDPA_OPTIONS = ("attn_mask", "dropout_p", "is_causal")


def join_narrow_convolutions(
    graph_module: fx.GraphModule, kind: Callable[[fx.Node], Hashable] = lambda node: None
) -> int:
    """Join convolutions of one input that have few output channels each into one; changes the graph.

    Reason: three maps of one channel cost XNNPACK three times sixteen channels.

    Returns:
        How many convolutions were joined into others.
    """
    graph, joined = graph_module.graph, 0
    groups: dict[Hashable, list[fx.Node]] = {}
    for node in _calls(graph, _ATEN.conv2d.default):
        weight = _argument(node, 1)
        if _groups(node) == 1 and _constant(weight) and _shape(node)[1] < _LANES:
            kernel = tuple(_value(graph_module, str(weight.target)).shape[2:])
            key = (node.args[0], kernel, str(node.args[3:]), kind(node), _argument(node, 2) is None)
            groups.setdefault(key, []).append(node)
    for members in groups.values():
        channels = [int(_shape(n)[1]) for n in members]
        if len(members) < 2 or sum(channels) > _LANES:
            continue
        _join(graph_module, members, channels)
        joined += len(members) - 1
    _cleaned(graph_module)
    return joined


def _join(graph_module: fx.GraphModule, members: list[fx.Node], channels: list[int]) -> None:
    graph, first = graph_module.graph, members[0]
    with graph.inserting_before(first):
        make = _Maker(graph, first)
        parameters: list[fx.Node | None] = []
        for index in (1, 2):
            parts = [_argument(n, index) for n in members]
            if parts[0] is None:
                parameters.append(None)
                continue
            name = _name("joined", *(str(p.target) for p in parts))
            if not hasattr(graph_module, name):
                value = torch.cat([_value(graph_module, str(p.target)) for p in parts])
                graph_module.register_buffer(name, value.detach())
            parameters.append(_attribute(graph, name, parts[0]))
        whole = make(first.target, first.args[0], *parameters, *first.args[3:])
        whole.meta["val"] = torch.cat([n.meta["val"] for n in members], 1)
        starts = [sum(channels[:i]) for i in range(len(channels))]
        pieces = [make(_ATEN.slice.Tensor, whole, 1, s, s + c) for s, c in zip(starts, channels, strict=True)]
    for node, piece in zip(members, pieces, strict=True):
        piece.meta = dict(node.meta)
        node.replace_all_uses_with(piece)


def widen_narrow_convolutions(graph_module: fx.GraphModule) -> int:
    """Let convolutions of few output channels compute a tile of pixels at once; changes the graph.

    A 3x3 convolution with one output channel is the same as a 6x6 one with stride 4 whose 16 output channels are the
    pixels of a 4x4 tile, followed by a pixel shuffle. It multiplies by many zeros and still takes a quarter of the
    time, because XNNPACK computes 16 channels at once whether they are asked for or not.

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in _calls(graph, _ATEN.conv2d.default):
        weight, bias = _argument(node, 1), _argument(node, 2)
        if not _constant(weight) or not (bias is None or _constant(bias)):
            continue
        tile = _best_tile(node, _value(graph_module, str(weight.target)).shape)
        if tile == 1:
            continue
        name = _name(f"wide{tile}", str(weight.target), None if bias is None else str(bias.target))
        if not hasattr(graph_module, name):
            graph_module.register_buffer(name, _tiled(_value(graph_module, str(weight.target)), tile))
            if bias is not None:
                repeated = _value(graph_module, str(bias.target)).detach().repeat_interleave(tile**2)
                graph_module.register_buffer(name + "_bias", repeated)
        with graph.inserting_before(node):
            make = _Maker(graph, node)
            wide = _attribute(graph, name, weight)
            wide_bias = None if bias is None else _attribute(graph, name + "_bias", bias)
            padding = _argument(node, 4) or [0, 0]
            y = make(_ATEN.conv2d.default, node.args[0], wide, wide_bias, [tile, tile], padding)
            y = make(_ATEN.pixel_shuffle.default, y, tile)
        node.replace_all_uses_with(y)
        changed += 1
    _cleaned(graph_module)
    return changed


def _best_tile(node: fx.Node, weight: torch.Size) -> int:
    """Side of the tile of pixels that costs the least; 1: leave the convolution alone."""
    stride, dilation = _argument(node, 3) or [1, 1], _argument(node, 5) or [1, 1]
    channels, _, high, wide = weight
    if _groups(node) != 1 or {*stride, *dilation} != {1}:
        return 1
    if high * wide < 4:  # a 1x1 convolution is a matrix product: its tile would be a sparse one
        return 1
    h, w = (int(s) for s in _shape(node)[2:])

    def cost(tile: int) -> float:
        return math.ceil(channels * tile**2 / _LANES) * (high + tile - 1) * (wide + tile - 1) / tile**2

    fitting = [t for t in (1, 2, 4) if h % t == 0 and w % t == 0 and channels * t**2 <= _LANES]
    return min(fitting or [1], key=cost)


def _tiled(weight: Tensor, tile: int) -> Tensor:
    """(O, I, kh, kw) -> (O t^2, I, kh + t - 1, kw + t - 1): the filter once per pixel of the tile, shifted to it."""
    out, inner, high, wide = weight.shape
    tiled = weight.new_zeros(out, tile, tile, inner, high + tile - 1, wide + tile - 1)
    for row in range(tile):
        for column in range(tile):
            tiled[:, row, column, :, row : row + high, column : column + wide] = weight.detach()
    return tiled.reshape(out * tile**2, inner, high + tile - 1, wide + tile - 1)


# ---------------------------------------------------------------------------------------------------------------------
# between the float graph and prepare_pt2e


def unshare_weights(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Give every use of a weight its own node, every use of a bias its own tensor; changes and returns the graph.

    Reasons, both met by a siamese encoder, whose convolutions are called twice:

    * ``XNNPACKQuantizer`` marks the weight *node* as done and skips every later convolution that shares it; the file
      then has float weights between quantised activations and does not load (``Failed to create convolution node``).
    * XNNPACK stores a bias as int32 in units of (input scale x weight scale), once per *tensor*: the second call would
      read the bias in the units of the first call's input. No error, a wrong result (0.5 dB on a small siamese net).
      Weights do not depend on the input's scale and stay one tensor, so the file does not grow.
    """
    graph = graph_module.graph
    for node in list(graph.nodes):
        if node.op != "get_attr":
            continue
        for copy_index, user in enumerate(list(node.users)[1:], start=1):
            with graph.inserting_before(user):
                own = graph.get_attr(_own_name(graph_module, str(node.target), copy_index))
                own.meta = dict(node.meta)
            user.replace_input_with(node, own)
    graph.lint()
    graph_module.recompile()
    return graph_module


def _own_name(graph_module: fx.GraphModule, target: str, copy_index: int) -> str:
    """``target`` itself for a weight; for a vector (a bias) the name of a newly registered copy."""
    value = _value(graph_module, target)
    if not isinstance(value, Tensor) or value.dim() != 1:
        return target
    name = f"_{target.replace('.', '_')}_use{copy_index}"
    graph_module.register_buffer(name, value.detach().clone())
    return name


# ---------------------------------------------------------------------------------------------------------------------
# after convert_pt2e


@dataclass(frozen=True)
class _Range:
    """The real interval an int8 grid covers; always holds zero, which padding needs to be exact."""

    low: float
    high: float

    @classmethod
    def around(cls, quantisers: Iterable[fx.Node]) -> _Range:
        """The union of what the quantise nodes cover."""
        low, high = 0.0, 0.0
        for node in quantisers:
            scale, zero, code_min, code_max = (float(a) for a in node.args[1:5])  # type: ignore[arg-type]
            low, high = min(low, (code_min - zero) * scale), max(high, (code_max - zero) * scale)
        return cls(low, high)

    def grid(self, code_min: int, code_max: int) -> tuple[float, int]:
        """(scale, zero point) that spread the codes over the range."""
        scale = (self.high - self.low) / (code_max - code_min)
        return scale, max(code_min, min(code_max, round(code_min - self.low / scale)))


class _Groups:
    """Union-find over quantise nodes that must share a scale."""

    def __init__(self) -> None:
        self._parent: dict[fx.Node, fx.Node] = {}

    def root(self, node: fx.Node) -> fx.Node:
        while self._parent.setdefault(node, node) is not node:
            node = self._parent[node]
        return node

    def join(self, nodes: list[fx.Node]) -> None:
        for other in nodes[1:]:
            self._parent[self.root(other)] = self.root(nodes[0])

    def members(self) -> list[list[fx.Node]]:
        groups: dict[fx.Node, list[fx.Node]] = {}
        for node in list(self._parent):
            groups.setdefault(self.root(node), []).append(node)
        return list(groups.values())


def _quantiser_before(node: fx.Node) -> fx.Node | None:
    """The quantise node whose value a dequantise node ``node`` restores."""
    if not _is(node, _DEQUANTISE) or not _is(node.args[0], _QUANTISE):
        return None
    return node.args[0]  # type: ignore[return-value]


def _quantisers_after(node: fx.Node) -> list[fx.Node]:
    found: list[fx.Node] = []
    for user in node.users:
        if _is(user, _QUANTISE):
            found.append(user)
        elif user.target is operator.getitem:
            found += _quantisers_after(user)
    return found


def _movement_groups(graph: fx.Graph) -> list[list[fx.Node]]:
    groups = _Groups()
    for node in graph.nodes:
        if node.op != "call_function" or not str(node.target).startswith(_MOVEMENT):
            continue
        before, after = [_quantiser_before(x) for x in node.all_input_nodes], _quantisers_after(node)
        if after and all(q is not None for q in before):
            groups.join([q for q in before if q is not None] + after)
    return groups.members()


def harmonise_scales(graph_module: fx.GraphModule) -> int:
    """Give quantised values that only move (cat, slice, view, ...) one scale; changes the graph.

    Reason: XNNPACK's quantised movement operators copy codes, so every input and output must mean the same by a code;
    where observers measured each edge for itself the file does not load (``Failed to create cat2 node``). The widest
    range of a group wins: nothing clips that did not clip before.

    Returns:
        How many quantise nodes were in groups that had more than one scale.
    """
    changed = 0
    for group in _movement_groups(graph_module.graph):
        if len({(q.args[1], q.args[2]) for q in group}) < 2:
            continue
        code_min, code_max = group[0].args[3:5]
        grid = _Range.around(group).grid(code_min, code_max)  # type: ignore[arg-type]
        for quantiser in group:
            for node in [quantiser, *(u for u in quantiser.users if _is(u, _DEQUANTISE))]:
                node.args = (node.args[0], *grid, *node.args[3:])
        changed += len(group)
    graph_module.recompile()
    return changed


def tidy_for_xnnpack(graph_module: fx.GraphModule) -> fx.GraphModule:
    """All rewrites of a graph that is to be lowered, quantised or not; changes and returns it."""
    constant_products_as_linear(graph_module)
    share_quantised_sums(graph_module)
    join_codes(graph_module)
    move_codes(graph_module)
    return _with_own_dequantisers(graph_module)


def _with_own_dequantisers(graph_module: fx.GraphModule) -> fx.GraphModule:
    """A dequantise node for each reader: the partitioner marks them as part of the operator that reads them, and a
    second, float reader would take the codes for values (``Failed to create cat node``)."""
    graph = graph_module.graph
    for node in list(graph.nodes):
        quantiser = _quantiser_before(node)
        if quantiser is not None:
            for user in list(node.users)[1:]:
                user.replace_input_with(node, _restored(graph, quantiser))
    return _cleaned(graph_module)


def constant_products_as_linear(graph_module: fx.GraphModule) -> int:
    """Rewrite a batched product with one constant matrix for the whole batch to a linear layer; changes the graph.

    Reason: expanding the constant stays outside the delegate, and the batched product reads it once per batch entry.
    On the int8 graph: before quantisation the linear layer would become int8, and its inputs are often weights of an
    attention. Sums and differences with the expanded constant take the constant itself.

    Returns:
        How many products were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in [*_calls(graph, _ATEN.add.Tensor), *_calls(graph, _ATEN.sub.Tensor)]:
        left, right = _arguments(node)[:2]
        if _is(right, "aten.expand.") and isinstance(left, fx.Node) and _shape(left) == _shape(node):
            node.args = (left, right.args[0], *node.args[2:])
    for node in _calls(graph, _ATEN.bmm.default):
        expand = _argument(node, 1)
        if not _is(expand, "aten.expand.") or not _constant(expand.args[0]):
            continue
        source: Any = expand.args[0]
        value = _value(graph_module, str(source.target))
        if value.dim() != 3 or value.shape[0] != 1:
            continue
        name = f"_{str(source.target).replace('.', '_')}_rows"
        if not hasattr(graph_module, name):
            graph_module.register_buffer(name, value[0].detach().T.contiguous())
        with graph.inserting_before(node):
            make = _Maker(graph, node)
            linear = make(_ATEN.linear.default, node.args[0], _attribute(graph, name, source))
        node.replace_all_uses_with(linear)
        changed += 1
    _cleaned(graph_module)
    return changed


def share_quantised_sums(graph_module: fx.GraphModule) -> int:
    """Let every reader of an int8 sum read it in int8; changes the graph.

    Reason: a residual sum that one convolution reads in int8 and something else in float is computed in float, four
    times slower, and converted. Its error is that of one more rounding to the same grid.

    Returns:
        How many sums became int8.
    """
    graph, changed = graph_module.graph, 0
    for node in _calls(graph, _ATEN.add.Tensor):
        quantisers = [u for u in node.users if _is(u, _QUANTISE)]
        others = [u for u in node.users if not _is(u, _QUANTISE)]
        if len(quantisers) != 1 or not others or not all(_is(x, _DEQUANTISE) for x in node.all_input_nodes):
            continue
        node.append(quantisers[0])  # before every reader of the sum
        for user in others:
            user.replace_input_with(node, _restored(graph, quantisers[0]))
        changed += 1
    _cleaned(graph_module)
    return changed


def join_codes(graph_module: fx.GraphModule) -> int:
    """Concatenate int8 codes rather than float values that become int8 after it; changes the graph.

    The inputs take the grid of the result, and those that have a grid already share one with it; see
    :func:`harmonise_scales`.

    Returns:
        How many concatenations became int8.
    """
    graph, changed = graph_module.graph, 0
    for node in _calls(graph, _ATEN.cat.default):
        grids = {str(u.args[1:]) for u in node.users if _is(u, _QUANTISE)}
        floats = [x for x in node.all_input_nodes if not _is(x, _DEQUANTISE)]
        if len(grids) != 1 or not floats or not all(_is(u, _QUANTISE) for u in node.users):
            continue
        for x in floats:
            _round_before(graph, node, x, next(iter(node.users)))
        changed += 1
    _cleaned(graph_module)
    harmonise_scales(graph_module)
    return changed


def move_codes(graph_module: fx.GraphModule) -> int:
    """Reorder and pad int8 codes rather than the float values they stand for; changes the graph, not what it computes.

    Reasons: reordering costs a quarter. Padding with zeros that reads int8 and is read in float does not load (``Failed
    to create StaticConstantPad node``): a pass of executorch makes its output int8 and leaves its input float.

    Returns:
        How many movements became int8.
    """
    graph, changed = graph_module.graph, 0
    for node in list(graph.nodes):  # read int8, written float: quantise behind it
        source = _padded(node) or _reordered(node)
        quantiser = _quantiser_before(source) if source is not None else None
        if quantiser is None or any(_is(u, _QUANTISE) for u in node.users):
            continue
        users = list(node.users)
        with graph.inserting_after(node):
            codes = graph.call_function(quantiser.target, (node, *quantiser.args[1:]), dict(quantiser.kwargs))  # type: ignore[arg-type]
        codes.meta = dict(node.meta)
        for user in users:
            user.replace_input_with(node, _restored(graph, codes))
        changed += 1
    for node in reversed(list(graph.nodes)):  # read float, written int8: quantise before it
        source = _reordered(node)
        if source is None or _is(source, _DEQUANTISE) or len(node.users) != 1:
            continue
        user = next(iter(node.users))
        if _is(user, _QUANTISE) and len(source.users) == 1:
            _round_before(graph, node, source, user)
            changed += 1
    _cleaned(graph_module)
    return changed


def _reordered(node: fx.Node) -> fx.Node | None:
    """What ``node`` reorders, if it does only that."""
    if node.op != "call_function" or not str(node.target).startswith(_REORDERING) or len(node.all_input_nodes) != 1:
        return None
    return node.all_input_nodes[0]


def _padded(node: fx.Node) -> fx.Node | None:
    """What ``node`` pads with zeros, if it does that."""
    if not (_is(node, "aten.pad.") or _is(node, "aten.constant_pad_nd.")):
        return None
    mode, value = (_argument(node, 2, "mode") or "constant", _argument(node, 3, "value"))
    if _is(node, "aten.constant_pad_nd."):
        mode, value = "constant", _argument(node, 2, "value")
    source: fx.Node = _argument(node, 0)
    return source if mode == "constant" and not value else None


def _restored(graph: fx.Graph, quantiser: fx.Node) -> fx.Node:
    """A dequantise node of its own behind ``quantiser``: the partitioner marks them by what reads them."""
    dequantise = _CODES.dequantize_per_tensor.default
    with graph.inserting_after(quantiser):
        node = graph.call_function(dequantise, (quantiser, *quantiser.args[1:]))
    node.meta = dict(quantiser.meta)
    return node


def _round_before(graph: fx.Graph, node: fx.Node, source: fx.Node, like: fx.Node) -> None:
    """Let ``node`` read ``source`` rounded to the grid of the quantise node ``like``."""
    with graph.inserting_before(node):
        codes = graph.call_function(like.target, (source, *like.args[1:]))  # type: ignore[arg-type]
    codes.meta = dict(source.meta)
    node.replace_input_with(source, _restored(graph, codes))


# ---------------------------------------------------------------------------------------------------------------------
# helpers


class _Maker:
    """Creates nodes at the graph's insertion point that belong to the same submodule as ``like``."""

    def __init__(self, graph: fx.Graph, like: fx.Node) -> None:
        self._graph, self._like = graph, like

    def __call__(self, target: Any, *arguments: Any) -> fx.Node:
        node = self._graph.call_function(target, arguments)
        node.meta = dict(self._like.meta)
        return node


def _calls(graph: fx.Graph, target: Any) -> list[fx.Node]:
    return [n for n in graph.nodes if n.op == "call_function" and n.target is target]


def _is(node: object, prefix: str) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and str(node.target).startswith(prefix)


def _constant(node: object) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"


def _arguments(node: fx.Node) -> tuple[Any, ...]:
    return node.args


def _argument(node: fx.Node, index: int, name: str = "") -> Any:
    return node.args[index] if index < len(node.args) else node.kwargs.get(name)


def _groups(node: fx.Node) -> int:
    return int(_argument(node, 6) or 1)


def _shape(node: object) -> torch.Size:
    value: Tensor = node.meta["val"]  # type: ignore[attr-defined]
    return value.shape


def _value(graph_module: fx.GraphModule, target: str) -> Tensor:
    value: Any = graph_module
    for part in target.split("."):
        value = getattr(value, part)
    tensor: Tensor = value
    return tensor


def _name(prefix: str, *sources: str | None) -> str:
    """Of a tensor made from ``sources``: the same for the same ones."""
    digest = hashlib.sha256("|".join(map(str, sources)).encode()).hexdigest()[:8]
    return f"_{prefix}_{str(sources[0]).replace('.', '_')}_{digest}"


def _attribute(graph: fx.Graph, name: str, like: object) -> fx.Node:
    node = graph.get_attr(name)
    node.meta = dict(like.meta)  # type: ignore[attr-defined]
    return node


def _cleaned(graph_module: fx.GraphModule) -> fx.GraphModule:
    """The graph without unused nodes, the module without the tensors they held, which would end up in the file."""
    graph_module.graph.eliminate_dead_code()
    graph_module.graph.lint()
    graph_module.recompile()
    used = {str(n.target) for n in graph_module.graph.nodes if n.op == "get_attr"}
    held = [*graph_module.named_parameters(remove_duplicate=False), *graph_module.named_buffers(remove_duplicate=False)]
    inside = tuple(f"{name}." for name in used)  # of submodules that the graph calls as a whole
    for name in {name for name, _ in held if not name.startswith(inside)} - used:
        path, _, leaf = name.rpartition(".")
        delattr(graph_module.get_submodule(path), leaf)
    return graph_module
