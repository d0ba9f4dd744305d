"""From a module to the float graph that every backend starts from.

Whatever a user's module does on the way, the graph changes nothing (no tensor in place, no input, no buffer), computes
what depends on weights alone once, and leaves the order of tensors in memory to the backend.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph.constants import fold_constants
from dualpix.quantize.graph.nodes import ATEN, calls, cleaned, is_call

_VIEWS = ("aten.view.default", "aten._unsafe_view.default")
"""Of memory in a certain order. The second is what a reshape behind a copy is traced to."""
_IDENTITIES = ("aten.alias.", "aten.detach.", "aten.lift_fresh_copy.", "aten.contiguous.", "aten.clone.")
_CASTS = ("aten._to_copy.", "aten.to.")


def plain_inputs(inputs: Inputs) -> Inputs:
    """Copies in the order of axes in memory that a program takes, whatever made the inputs; values are the same."""
    return tuple(t.detach().clone(memory_format=torch.contiguous_format) for t in inputs)


def run_eager(module: nn.Module, inputs: Inputs) -> Any:
    """What the float module itself gives; the inputs stay as they are even where its forward changes them."""
    with torch.no_grad():
        return module(*plain_inputs(inputs))


def plain_module(module: nn.Module) -> nn.Module:
    """A copy in eval mode whose weights are ordinary parameters.

    Weight norm, spectral norm and other parametrizations compute a weight anew in each call. Exported like that, a
    convolution has no constant weight and stays outside the delegate.

    Raises:
        DualpixError: the module cannot be copied.
    """
    with torch.no_grad():
        for part in module.modules():
            for hook in _norm_hooks(part):  # a weight with a history cannot be copied
                hook_weight = hook.compute_weight(part, *([False] if isinstance(hook, SpectralNorm) else []))
                setattr(part, hook.name, hook_weight)
    try:
        plain = copy.deepcopy(module)
    except Exception as error:  # the user's module raises anything
        raise DualpixError(
            f"the network cannot be copied: {type(error).__name__}: {error}",
            expected="a module that copy.deepcopy takes",
        ) from error
    if isinstance(plain, fx.GraphModule):
        return plain
    plain.eval()
    for part in list(plain.modules()):
        for hook in _norm_hooks(part):
            (remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm)(part, hook.name)
        if parametrize.is_parametrized(part):
            _remove_parametrizations(part)
    return plain


@torch.enable_grad()
def _remove_parametrizations(part: nn.Module) -> None:
    """Of a copy, whose weights become parameters even while no gradients are recorded.

    A parametrized module has a class of its own that computes the weight, and torch 2.13 removes it from that class;
    but a copy shares the class with the module that it was made of, which would lose its weight.
    """
    shared = type(part)
    part.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
    for name in list(part.parametrizations):  # type: ignore[arg-type]
        parametrize.remove_parametrizations(part, name)


def _norm_hooks(part: nn.Module) -> list[Any]:
    """Of ``torch.nn.utils.weight_norm`` and ``spectral_norm``, which came before parametrizations."""
    return [hook for hook in part._forward_pre_hooks.values() if isinstance(hook, WeightNorm | SpectralNorm)]


def captured(module: nn.Module, inputs: Inputs) -> fx.GraphModule:
    """``module`` in eval mode as a float graph without side effects.

    Args:
        module: any network, or a graph; it is unchanged.
        inputs: one input of the size that the graph will take.

    Raises:
        DualpixError: the module cannot be copied, or what it gives depends on a buffer that it changes.
    """
    exported = torch.export.export(plain_module(module), plain_inputs(inputs))
    if _changes_in_place(exported):
        exported = exported.run_decompositions({})
    graph_module: fx.GraphModule = exported.module(check_guards=False)
    _drop_side_effects(graph_module)
    _drop_memory_order(graph_module)
    fold_constants(graph_module)
    return graph_module


def _changes_in_place(exported: ExportedProgram) -> bool:
    schemas = [n.target._schema for n in exported.graph.nodes if hasattr(n.target, "_schema")]
    return any(schema.is_mutable for schema in schemas)


def _drop_side_effects(graph_module: fx.GraphModule) -> None:
    """A program gives its output and nothing else: inputs that the module changed in place, and buffers that it counts
    calls in, are not written back."""
    graph, changed = graph_module.graph, []
    for node in calls(graph, ATEN.copy_.default):
        target = node.args[0]
        if isinstance(target, fx.Node) and target.op in ("placeholder", "get_attr") and not node.users:
            changed += [str(target.target)] if target.op == "get_attr" else []
            graph.erase_node(node)
    cleaned(graph_module)
    read = {str(n.target) for n in graph.nodes if n.op == "get_attr"}
    for name in changed:
        if name in read:
            raise DualpixError(
                f"the network's output depends on its buffer '{name}', which it changes in each call",
                expected="an output that depends on the inputs alone",
                hint="take the state as an input and give the new one back",
            )


def _drop_memory_order(graph_module: fx.GraphModule) -> None:
    """Leave out what only moves or names a tensor: copies, channels-last order, dropout that does nothing.

    Reason: backends choose the order themselves. XNNPACK's runtime takes a channels-last tensor for a contiguous one
    without an error, and Core ML's converter refuses the order. ``view``, which needs a certain order, becomes
    ``reshape``. Weights, too, are held contiguous.
    """
    graph = graph_module.graph
    for node in list(graph.nodes):
        if is_call(node, _IDENTITIES) or _same_type(node) or (is_call(node, "aten.dropout.") and not node.args[2]):
            node.replace_all_uses_with(node.args[0])
        elif is_call(node, _VIEWS):
            node.target = ATEN.reshape.default
    for name, tensor in [*graph_module.named_parameters(), *graph_module.named_buffers()]:
        if tensor.dim() and not tensor.is_contiguous():
            path, _, leaf = name.rpartition(".")
            owner, value = graph_module.get_submodule(path), tensor.detach().contiguous()
            setattr(owner, leaf, nn.Parameter(value) if isinstance(tensor, nn.Parameter) else value)
    cleaned(graph_module)


def _same_type(node: fx.Node) -> bool:
    """Whether ``node`` is a cast to the type that its input has."""
    return is_call(node, _CASTS) and node.meta["val"].dtype == node.args[0].meta["val"].dtype  # type: ignore[union-attr]
