"""The export recipes, as data: which backend builds the file and with which precision.

A new backend is one module with the functions of :class:`~dualpix.export.artefact.Backend` and its rows in
:data:`RECIPES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from dualpix.capture.errors import UnknownNameError
from dualpix.quantize.limits import Limits

if TYPE_CHECKING:  # the command line looks names up before it imports torch
    from dualpix.export.artefact import Artefact, Backend, BuildRequest
    from dualpix.quantize.score import Predict

Precision = Literal[
    "fp32", "fp16", "int8", "int8-mixed", "int8-dynamic", "4w8da", "w8", "w4", "w4-palettized", "w8a8"
]  # fmt: skip
"""int8, w8a8: weights and activations; w8, w4: weights alone; 4w8da: 4-bit weights, activations int8 at run time."""


@dataclass(frozen=True)
class _House:
    """What a precision may lose where nobody has said."""

    structure_db: float
    metric_loss: float


_HOUSE: dict[Precision, _House] = {
    "fp32": _House(40, 0.001),
    "fp16": _House(20, 0.01),
    "int8": _House(10, 0.03),
    "int8-mixed": _House(12, 0.03),
    "int8-dynamic": _House(10, 0.03),
    "4w8da": _House(6, 0.1),
    "w8": _House(12, 0.01),
    "w4": _House(6, 0.1),
    "w4-palettized": _House(6, 0.1),
    "w8a8": _House(10, 0.01),
}
_DELEGATED_COMPUTE = 0.95
_PTE, _PACKAGE, _ASSET = ".pte", ".mlpackage", ".aimodel"


@dataclass(frozen=True)
class Recipe:
    """One way to export a network."""

    name: str
    backend: str
    """Module of the backend; imported when the recipe is used."""
    precision: Precision
    suffix: str
    sqnr_db: float
    """Lowest signal-to-noise ratio against the float network, where a model's limits say nothing of this recipe."""
    text: str
    default: bool = False
    """Whether ``dualpix export`` makes it unasked."""

    @property
    def limits(self) -> Limits:
        """What is asked of an artefact where no limits file names this recipe."""
        house = _HOUSE[self.precision]
        share = _DELEGATED_COMPUTE if self.suffix == _PTE else None
        return Limits(house.metric_loss, sqnr_db=self.sqnr_db, structure_db=house.structure_db, delegated_compute=share)

    def build(self, request: BuildRequest) -> Artefact:
        """Build, write and check the artefact; see :class:`~dualpix.export.artefact.BuildRequest`."""
        return self.module().build(request)

    def module(self) -> Backend:
        """The backend, imported."""
        return cast("Backend", import_module(self.backend))

    def can_build(self) -> str | None:
        """``None``, or why nothing can be produced here."""
        return self._ask("can_build")

    def can_run(self) -> str | None:
        """``None``, or why the product does not run here."""
        return self._ask("can_run")

    def load(
        self, path: Path, input_names: tuple[str, ...], output_names: tuple[str, ...], threads: int = 1
    ) -> Predict | None:
        """A file of this recipe, ready to run; ``None`` where that cannot be done here."""
        return self._runner().load(path, input_names, output_names, threads)

    def _runner(self) -> Backend:
        """What runs the file: the backend, or the part of it that is enough for that."""
        return cast("Backend", import_module(_RUNNERS.get(self.backend, self.backend)))

    def _ask(self, question: Literal["can_build", "can_run"]) -> str | None:
        from dualpix.export.quiet import quiet

        try:
            with quiet():
                asked = self._runner() if question == "can_run" else self.module()
                answer: str | None = getattr(asked, question)()
        except ImportError as error:
            return f"{error.name or error} cannot be imported"
        return answer


_XNNPACK, _VULKAN, _DELEGATE, _QNN = (
    f"dualpix.export.executorch.{name}" for name in ("xnnpack", "vulkan", "coreml_delegate", "qnn")
)
_RUNNERS = {_XNNPACK: "dualpix.export.executorch.runner"}
"""Where a backend brings tools that running does not need."""
_COREML, _COREAI = "dualpix.export.coreml", "dualpix.export.coreai"

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("xnnpack-fp32", _XNNPACK, "fp32", _PTE, 60, "CPU of Android, iOS, Linux; float32", True),
        Recipe("xnnpack-fp16", _XNNPACK, "fp16", _PTE, 40, "CPU; float16"),
        Recipe("xnnpack-int8", _XNNPACK, "int8", _PTE, 15, "CPU; static int8 per channel", True),
        Recipe("xnnpack-int8-mixed", _XNNPACK, "int8-mixed", _PTE, 20, "CPU; int8, sensitive layers float"),
        Recipe("xnnpack-int8-dynamic", _XNNPACK, "int8-dynamic", _PTE, 15, "CPU; linears int8 at run time"),
        Recipe("xnnpack-4w8da", _XNNPACK, "4w8da", _PTE, 8, "CPU; linears 4 bit, activations int8 at run time"),
        Recipe("vulkan-fp32", _VULKAN, "fp32", _PTE, 60, "GPU of Android; float32"),
        Recipe("vulkan-fp16", _VULKAN, "fp16", _PTE, 40, "GPU of Android; float16"),
        Recipe("coreml-fp16", _COREML, "fp16", _PACKAGE, 40, "Core ML, Neural Engine; float16", True),
        Recipe("coreml-fp32", _COREML, "fp32", _PACKAGE, 60, "Core ML, CPU and GPU; float32"),
        Recipe("coreml-w8", _COREML, "w8", _PACKAGE, 20, "Core ML; float16 with int8 weights", True),
        Recipe("coreml-w4-palettized", _COREML, "w4-palettized", _PACKAGE, 8, "Core ML; weights of 16 values each"),
        Recipe("coreml-w8a8", _COREML, "w8a8", _PACKAGE, 15, "Core ML; int8 weights and activations"),
        Recipe("coreml-delegate-fp16", _DELEGATE, "fp16", _PTE, 40, "ExecuTorch on Core ML; float16"),
        Recipe("coreai-fp32", _COREAI, "fp32", _ASSET, 60, "Core AI; float32"),
        Recipe("coreai-fp16", _COREAI, "fp16", _ASSET, 40, "Core AI; float16"),
        Recipe("coreai-w8", _COREAI, "w8", _ASSET, 20, "Core AI; float16 with int8 weights"),
        Recipe("coreai-w4", _COREAI, "w4", _ASSET, 8, "Core AI; weights of 16 values per 2 channels"),
        Recipe("coreai-w8a8", _COREAI, "w8a8", _ASSET, 15, "Core AI; int8 weights and activations"),
        Recipe("qnn-fp16", _QNN, "fp16", _PTE, 40, "Qualcomm Hexagon; float16"),
        Recipe("qnn-int8", _QNN, "int8", _PTE, 15, "Qualcomm Hexagon; int8"),
    )
}
DEFAULT_RECIPES = tuple(recipe.name for recipe in RECIPES.values() if recipe.default)


def find_recipe(name: str) -> Recipe:
    """Look a recipe up.

    Raises:
        UnknownNameError: no recipe of that name; the message lists the known ones.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, list(RECIPES))
    return RECIPES[name]
