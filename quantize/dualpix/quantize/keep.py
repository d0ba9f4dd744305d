"""Which layers stay float, by their dotted paths. Imports no tools of quantisation: running a program asks, too."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

KeepFloat = Callable[[str], bool]
"""Dotted path of a submodule ("dual_pixel.half_attention.query") -> whether its operators stay float."""


def keep_modules(*prefixes: str) -> KeepFloat:
    """Keep the named submodules and all below them in float: ``keep_modules("heads", "fuse_half.weights")``."""
    return lambda path: any(path == p or path.startswith(p + ".") for p in prefixes)


def keep_nothing(path: str) -> bool:
    """Quantise everywhere."""
    return False


def module_path(node: fx.Node) -> str:
    """Innermost submodule that made ``node`` of an exported graph; empty for the top level."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""
