"""Batch norms in eval mode: a gain and a shift per channel, which become part of the layer before them.

Reason: ``prepare_pt2e`` folds a batch norm once per *call* of its convolution, whoever else reads that. A siamese
encoder is called twice, so its weights would be scaled twice (pytorch/ao PR 2795): 5 dB of signal left before anything
is quantised. And a feature that is taken before its norm would be the one behind it. Here a norm is folded once however
often the pair is called, and only where nothing else reads the layer.

Convention: y = gain * x + shift with gain = weight / sqrt(variance + epsilon), shift = bias - gain * mean.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph.capture import captured, plain_module
from dualpix.quantize.graph.nodes import (
    ATEN,
    Maker,
    argument,
    attribute,
    calls,
    cleaned,
    derived_name,
    is_call,
    is_constant,
    shape_of,
    value_of,
)

_CONVOLUTIONS = ("aten.conv1d.", "aten.conv2d.", "aten.conv3d.")
_TRANSPOSED = ("aten.conv_transpose1d.", "aten.conv_transpose2d.", "aten.conv_transpose3d.")
_LINEAR = "aten.linear."
_LAYERS = (*_CONVOLUTIONS, *_TRANSPOSED, _LINEAR)
_NORMS = (
    ATEN.batch_norm.default,
    ATEN._native_batch_norm_legit_no_training.default,
    ATEN._native_batch_norm_legit.default,
    ATEN._native_batch_norm_legit.no_stats,
    ATEN._native_batch_norm_legit_functional.default,
)
_LAYER_MODULES = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
)  # fmt: skip


@dataclass(frozen=True)
class _Norm:
    """A call of batch norm, in whatever form it was exported."""

    node: fx.Node
    output: fx.Node
    """What the rest of the graph reads."""
    source: fx.Node
    weight: fx.Node | None
    bias: fx.Node | None
    mean: fx.Node | None
    variance: fx.Node | None
    """``None`` where the statistics are those of the input."""
    epsilon: float

    @property
    def parameters(self) -> tuple[fx.Node | None, ...]:
        return self.weight, self.bias, self.mean, self.variance

    @property
    def is_constant(self) -> bool:
        """Whether gain and shift do not depend on the input."""
        known = self.mean is not None and self.variance is not None
        return known and all(p is None or is_constant(p) for p in self.parameters)

    @property
    def layer(self) -> fx.Node | None:
        """The layer that it can be folded into, by every reader's leave."""
        source = self.source
        if not is_call(source, _LAYERS) or len(source.users) != 1 or not self.is_constant:
            return None
        if is_call(source, _LINEAR) and len(shape_of(source)) != 2:  # the norm's channels are not the layer's
            return None
        weights = [argument(source, "weight"), argument(source, "bias")]
        return source if all(w is None or is_constant(w) for w in weights) else None


def _norms(graph: fx.Graph) -> list[_Norm]:
    found = []
    for node in calls(graph, *_NORMS):
        outputs = [u for u in node.users if u.target is operator.getitem]
        if node.target is ATEN.batch_norm.default:
            outputs = [node]
        if len(outputs) != 1 or (outputs[0] is not node and outputs[0].args[1] != 0):
            continue
        names = {declared.name for declared in node.target._schema.arguments}  # type: ignore[union-attr]
        batch = "running_mean" not in names or ("training" in names and argument(node, "training"))
        mean, variance = (None, None) if batch else (argument(node, "running_mean"), argument(node, "running_var"))
        affine = argument(node, "weight"), argument(node, "bias")
        found.append(_Norm(node, outputs[0], node.args[0], *affine, mean, variance, float(argument(node, "eps"))))  # type: ignore[arg-type]
    return found


def fold_batch_norm(module: nn.Module, inputs: Inputs) -> nn.Module:
    """A copy in eval mode with batch norms folded into the layers before them.

    The copy is an ordinary module with ordinary parameters, to be trained or exported again. Which layer a norm belongs
    to is seen from a run, not from how the module is built. Pairs that only a graph can hold apart (one convolution
    with a norm of its own in each branch) stay; :func:`fold_batch_norm_graph` folds those as well.

    Args:
        module: any network; of an exported graph a folded copy comes back.
        inputs: one input, to run the module on.

    Raises:
        DualpixError: the module cannot be copied, or keeps a state.
    """
    plain = plain_module(module)
    if isinstance(plain, fx.GraphModule):
        return fold_batch_norm_graph(plain)
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in plain.modules()):
        return plain
    pairs = _module_pairs(plain, captured(plain, inputs).graph)
    for layer_path, norm_path in pairs.items():
        _fold_module(plain.get_submodule(layer_path), plain.get_submodule(norm_path))
    for old in {plain.get_submodule(norm_path) for norm_path in pairs.values()}:
        _replace(plain, old, nn.Identity())
    return plain


def _module_pairs(module: nn.Module, graph: fx.Graph) -> dict[str, str]:
    """Paths of layers by which every call of a norm is preceded, with that norm, and by no other."""
    norms = {norm.layer: norm for norm in _norms(graph)}
    behind: dict[str | None, set[str | None]] = {}
    before: dict[str | None, set[str | None]] = {}
    for norm in _norms(graph):
        before.setdefault(_norm_path(module, norm), set()).add(_layer_path(module, norm.layer))
    for node in graph.nodes:
        if is_call(node, _LAYERS):
            reader = _norm_path(module, norms[node]) if node in norms else None
            behind.setdefault(_layer_path(module, node), set()).add(reader)
    pairs: dict[str | None, str | None] = {
        layer: next(iter(found)) for layer, found in behind.items() if len(found) == 1 and None not in found
    }
    while lost := [layer for layer, norm in pairs.items() if not before[norm] <= set(pairs)]:
        for layer in lost:
            del pairs[layer]
    return {layer: norm for layer, norm in pairs.items() if layer is not None and norm is not None}


def _layer_path(module: nn.Module, node: fx.Node | None) -> str | None:
    """Of the submodule that owns the layer's weights, and alone does."""
    if node is None:
        return None
    path = _owner(module, _LAYER_MODULES, weight=argument(node, "weight"), bias=argument(node, "bias"))
    if path is None:
        return None
    own = module.get_submodule(path)
    holders = {id(m) for m in module.modules() for p in m._parameters.values() if p is own.weight}
    return path if holders == {id(own)} else None


def _norm_path(module: nn.Module, norm: _Norm) -> str | None:
    names = {"weight": norm.weight, "bias": norm.bias, "running_mean": norm.mean, "running_var": norm.variance}
    return _owner(module, (nn.modules.batchnorm._BatchNorm,), **names)


def _owner(module: nn.Module, kinds: tuple[type[nn.Module], ...], **tensors: fx.Node | None) -> str | None:
    """Path of the submodule of such a kind whose attributes of these names the nodes are."""
    paths: set[str | None] = set()
    for name, node in tensors.items():
        if node is not None:
            path, _, leaf = str(node.target).rpartition(".")
            paths.add(path if is_constant(node) and leaf == name else None)
    found = paths.pop() if len(paths) == 1 else None
    if found is None or found not in dict(module.named_modules(remove_duplicate=False)):
        return None
    return found if isinstance(module.get_submodule(found), kinds) else None


def _fold_module(layer: Any, norm: Any) -> None:
    values = norm.weight, norm.bias, norm.running_mean, norm.running_var
    groups = layer.groups if getattr(layer, "transposed", False) else 0
    weight, bias = _folded(layer.weight, layer.bias, values, norm.eps, transposed_groups=groups)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)


def _replace(module: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in module.modules():
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new


def fold_batch_norm_graph(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Fold every batch norm that follows a layer into new weights, once per pair; changes and returns the graph.

    Calls of the same pair share the folded tensors. A norm that cannot be folded, because something else reads the
    layer too, becomes arithmetic, out of reach of those who would fold it all the same.
    """
    for norm in _norms(graph_module.graph):
        if norm.layer is not None:
            _fold_node(graph_module, norm, norm.layer)
        elif norm.is_constant and is_call(norm.source, _LAYERS):
            _apart(graph_module, norm)
        elif norm.mean is None:
            _of_batch(graph_module, norm)
    return cleaned(graph_module)


def _fold_node(graph_module: fx.GraphModule, norm: _Norm, layer: fx.Node) -> None:
    weight, bias = argument(layer, "weight"), argument(layer, "bias")
    name = derived_name("folded", weight, bias, *norm.parameters)
    groups = argument(layer, "groups") if is_call(layer, _TRANSPOSED) else 0
    values = [None if p is None else value_of(graph_module, p) for p in (weight, bias, *norm.parameters)]
    assert values[0] is not None  # noqa: S101 - a layer has a weight
    folded = _folded(values[0], values[1], values[2:], norm.epsilon, transposed_groups=groups)
    with graph_module.graph.inserting_before(layer):
        new = [attribute(graph_module, name + end, weight, t) for end, t in zip(("", "_bias"), folded, strict=True)]
    layer.args = (layer.args[0], *new, *layer.args[3:])
    layer.kwargs = {k: v for k, v in layer.kwargs.items() if k not in ("weight", "bias")}
    norm.output.replace_all_uses_with(layer)
    graph_module.graph.erase_node(norm.output)
    if norm.node is not norm.output:
        graph_module.graph.erase_node(norm.node)


def _folded(
    weight: Tensor, bias: Tensor | None, norm: Sequence[Tensor | None], epsilon: float, *, transposed_groups: int
) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer with a norm (weight, bias, mean, variance) behind it.

    ``transposed_groups`` is 0 but for a transposed convolution, whose weight is (in, out / groups, ...): torch's own
    function takes its second axis for all output channels (pytorch issue 180995).
    """
    gain, shift, mean, variance = norm
    fuse: Any = fuse_linear_bn_weights if weight.dim() == 2 else fuse_conv_bn_weights
    options = {} if weight.dim() == 2 else {"transpose": bool(transposed_groups)}
    seen = weight
    if transposed_groups:  # (in / groups, out, ...)
        seen = weight.reshape(transposed_groups, -1, *weight.shape[1:]).transpose(0, 1).flatten(1, 2)
    folded, folded_bias = fuse(seen, bias, mean, variance, epsilon, gain, shift, **options)
    if transposed_groups:
        apart = folded.reshape(len(folded), transposed_groups, *weight.shape[1:])
        folded = apart.transpose(0, 1).reshape(weight.shape)
    return folded.detach().clone().contiguous(), folded_bias.detach().clone()


def _gain_and_shift(graph_module: fx.GraphModule, norm: _Norm) -> tuple[Tensor, Tensor]:
    weight, bias, mean, variance = (None if p is None else value_of(graph_module, p) for p in norm.parameters)
    assert mean is not None and variance is not None  # noqa: S101 - by is_constant
    gain = (variance.double() + norm.epsilon).rsqrt() * (1.0 if weight is None else weight.double())
    shift = (0.0 if bias is None else bias.double()) - gain * mean.double()
    return gain.to(mean.dtype), shift.to(mean.dtype)


def _apart(graph_module: fx.GraphModule, norm: _Norm) -> None:
    """A norm whose source is read elsewhere too, as a convolution of each channel with one value; of rows, as a product
    and a sum."""
    graph, rank, channels = graph_module.graph, len(shape_of(norm.source)), shape_of(norm.source)[1]
    gain, shift = _gain_and_shift(graph_module, norm)
    name = derived_name("norm", *(p for p in norm.parameters if p is not None))
    with graph.inserting_before(norm.node):
        make, like = Maker(graph, norm.node), norm.source
        if rank in (3, 4, 5):
            held = attribute(graph_module, name, like, gain.reshape(-1, *[1] * (rank - 1)))
            added = attribute(graph_module, name + "_bias", like, shift)
            convolution = {3: ATEN.conv1d, 4: ATEN.conv2d, 5: ATEN.conv3d}[rank].default
            ones, none = [1] * (rank - 2), [0] * (rank - 2)
            y = make(convolution, norm.source, held, added, ones, none, ones, channels)
        else:
            held = attribute(graph_module, name, like, gain[None])
            added = attribute(graph_module, name + "_bias", like, shift[None])
            y = make(ATEN.add.Tensor, make(ATEN.mul.Tensor, norm.source, held), added)
    norm.output.replace_all_uses_with(y)


def _of_batch(graph_module: fx.GraphModule, norm: _Norm) -> None:
    """A norm by the statistics of its own input, as arithmetic: Core ML's converter knows only stored ones."""
    graph, shape = graph_module.graph, shape_of(norm.source)
    # over the picture alone where the batch is one: the same mean, in the form that XNNPACK takes
    axes = [axis for axis in range(len(shape)) if axis != 1 and not (axis == 0 and shape[0] == 1 and len(shape) > 2)]
    with graph.inserting_before(norm.node):
        make = Maker(graph, norm.node)
        centred = make(ATEN.sub.Tensor, norm.source, make(ATEN.mean.dim, norm.source, axes, True))
        variance = make(ATEN.mean.dim, make(ATEN.mul.Tensor, centred, centred), axes, True)
        y = make(ATEN.mul.Tensor, centred, make(ATEN.rsqrt.default, make(ATEN.add.Tensor, variance, norm.epsilon)))
        for operation, parameter in ((ATEN.mul.Tensor, norm.weight), (ATEN.add.Tensor, norm.bias)):
            if parameter is not None:
                y = make(operation, y, make(ATEN.reshape.default, parameter, [1, -1, *[1] * (len(shape) - 2)]))
    norm.output.replace_all_uses_with(y)
