"""Weights that several calls share, between the float graph and ``prepare_pt2e``."""

from __future__ import annotations

from torch import Tensor, fx

from dualpix.quantize.graph.nodes import value_of


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
                own = graph.get_attr(_own_name(graph_module, node, copy_index))
                own.meta = dict(node.meta)
            user.replace_input_with(node, own)
    graph.lint()
    graph_module.recompile()
    return graph_module


def _own_name(graph_module: fx.GraphModule, node: fx.Node, copy_index: int) -> str:
    """The tensor of ``node`` itself for a weight; for a vector (a bias) the name of a newly registered copy."""
    target, value = str(node.target), value_of(graph_module, node)
    if not isinstance(value, Tensor) or value.dim() != 1:
        return target
    name = f"_{target.replace('.', '_')}_use{copy_index}"
    graph_module.register_buffer(name, value.detach().clone())
    return name
