"""Packages that offer names of their modules without importing these: commands answer before torch is there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any


def offered(package: str, names: Collection[str], *modules: str) -> Callable[[str], Any]:
    """The ``__getattr__`` (PEP 562) of a package.

    Args:
        package: its ``__name__``.
        names: its ``__all__``. None may be that of a module of the package: once such is imported, Python finds it.
        modules: of the package, what costs least first. A name comes from the first one that has it.
    """

    def attribute(name: str) -> Any:
        if name in names:
            for module in modules:
                found = import_module(f"{package}.{module}")
                if hasattr(found, name):
                    return getattr(found, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute
