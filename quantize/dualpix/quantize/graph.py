"""Graph passes that make static int8 export correct for siamese networks.

Each removes a silent failure of the PT2E flow (torchao 0.18, executorch 1.5.1); the tests show each failure without its
pass. Order: :func:`fold_batch_norm` on the eager module, :func:`unshare_weights` on the exported graph before
``prepare_pt2e``, :func:`harmonise_scales` after ``convert_pt2e``.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_QUANTISE = "quantized_decomposed.quantize_per_tensor"
_DEQUANTISE = "quantized_decomposed.dequantize_per_tensor"

_MOVEMENT = (
    "aten.cat", "aten.slice", "aten.permute", "aten.transpose", "aten.view", "aten.reshape", "aten.flatten",
    "aten.unsqueeze", "aten.squeeze", "aten.pad", "aten.constant_pad_nd", "aten.relu.", "aten.hardtanh", "aten.clamp",
    "aten.max_pool2d", "aten.pixel_shuffle", "aten.pixel_unshuffle", "aten.contiguous", "aten.clone", "aten.split",
    "aten.chunk", "aten.stack", "aten.select",
)  # fmt: skip
"""Operators that pass quantised values through unchanged: their inputs and outputs must share one scale."""


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """A copy in eval mode with every convolution -> batch norm pair of an ``nn.Sequential`` folded into one layer.

    Reason: ``prepare_pt2e`` folds a batch norm once per *call* of its convolution. A siamese encoder is called twice,
    so its weights would be scaled twice (pytorch/ao PR 2795): 5 dB of signal left before anything is quantised. Folding
    the module itself happens once however often it is called.
    """
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
    value = graph_module
    for part in target.split("."):
        value = getattr(value, part)
    if not isinstance(value, Tensor) or value.dim() != 1:
        return target
    name = f"_{target.replace('.', '_')}_use{copy_index}"
    graph_module.register_buffer(name, value.detach().clone())
    return name


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


def _is(node: object, prefix: str) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and str(node.target).startswith(prefix)


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
