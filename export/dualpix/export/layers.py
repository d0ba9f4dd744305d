"""Which operator of a program is the first to compute something else than the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FAR_DB = 25.0
"""An operator below this is far off by itself."""


@dataclass(frozen=True)
class LayerDifference:
    """One operator's result in the program beside the network's."""

    name: str
    """Of the network's graph: ``conv2d_3``."""
    kind: str
    """Operator of the backend's, or of ATen's: ``conv``, ``conv2d``."""
    module: str
    """Dotted path of the submodule that made it."""
    sqnr_db: float


def first_far(layers: Sequence[LayerDifference]) -> str | None:
    """The first that is far off, in words; None where none is."""
    for layer in layers:
        if layer.sqnr_db < FAR_DB:
            return f"first far off at '{layer.name}' ({layer.kind}{inside(layer.module)}), {layer.sqnr_db:.1f} dB"
    return None


def none_far(layers: Sequence[LayerDifference]) -> str:
    """That none is."""
    return f"no operator of {len(layers)} compared is far off by itself"


def inside(module: str) -> str:
    """``" in 'path'"``, or nothing at the top level."""
    return f" in '{module}'" if module else ""
