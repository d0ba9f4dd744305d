"""What XNNPACK is given of a graph: what its partitioner asks for, less what the backend then computes wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from torch import fx

from dualpix.quantize.graph.resizing import is_by_ratio
from dualpix.quantize.graph.xnnpack import MOST_AXES


def partitioner() -> Any:
    """executorch's partitioner for XNNPACK with our exceptions; what is left out runs on the runtime's own kernels."""
    return XnnpackPartitioner(configs=[_careful(config) for config in ALL_PARTITIONER_CONFIGS])


def _careful(config: Any) -> Any:
    """A subclass of a partitioner's config that also asks :func:`_is_right`."""

    def check_constraints(self: Any, node: fx.Node, ep: Any) -> bool:
        return _is_right(node) and config.check_constraints(self, node, ep)

    return type(config.__name__, (config,), {"check_constraints": check_constraints})


def _is_right(node: fx.Node) -> bool:
    if any(value.dim() > MOST_AXES for value in _values(node)):
        return False  # the file would not load: Failed to define tensor
    exception = _EXCEPTIONS.get(getattr(node.target, "__name__", ""))
    return exception is None or not exception(node)


def _values(node: fx.Node) -> list[torch.Tensor]:
    values = [n.meta.get("val") for n in (node, *node.all_input_nodes)]
    return [v for v in values if isinstance(v, torch.Tensor)]


_EXCEPTIONS: dict[str, Callable[[fx.Node], bool]] = {
    # XNNPACK resizes by sizes alone and drops the factor
    "upsample_bilinear2d.vec": lambda node: not is_by_ratio(node),
    "aten.upsample_bilinear2d.vec": lambda node: not is_by_ratio(node),
}
