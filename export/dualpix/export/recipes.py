"""The export recipes, as data: which backend builds the file and with which precision.

A new backend is one module with ``build(request: BuildRequest) -> Artefact`` and its rows in :data:`RECIPES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from dualpix.capture.errors import UnknownNameError
from dualpix.export.artefact import Artefact, BuildRequest


@dataclass(frozen=True)
class Recipe:
    """One way to export a network."""

    name: str
    backend: str
    """Module with ``build``; imported when the recipe is used."""
    precision: Literal["fp32", "fp16", "int8", "w8"]
    """int8: weights and activations; w8: weights only."""
    suffix: str
    text: str

    def build(self, request: BuildRequest) -> Artefact:
        """Build, write and check the artefact; see :class:`~dualpix.export.artefact.BuildRequest`."""
        artefact = import_module(self.backend).build(request)
        assert isinstance(artefact, Artefact)  # noqa: S101 - our own backends
        return artefact


_EXECUTORCH, _COREML = "dualpix.export.executorch.xnnpack", "dualpix.export.coreml"

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("xnnpack-fp32", _EXECUTORCH, "fp32", ".pte", "ExecuTorch, XNNPACK, float32: Android, iOS, Linux"),
        Recipe("xnnpack-int8", _EXECUTORCH, "int8", ".pte", "ExecuTorch, XNNPACK, static per-channel int8"),
        Recipe("coreml-fp16", _COREML, "fp16", ".mlpackage", "Core ML program, float16: iOS 17, Neural Engine"),
        Recipe("coreml-w8", _COREML, "w8", ".mlpackage", "Core ML program, float16 with int8 weights: iOS 17"),
    )
}


def find_recipe(name: str) -> Recipe:
    """Look a recipe up.

    Raises:
        UnknownNameError: no recipe of that name; the message lists the known ones.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, list(RECIPES))
    return RECIPES[name]
