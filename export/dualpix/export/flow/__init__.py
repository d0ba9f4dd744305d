"""The export flow: what goes in, what is built, compared, measured and judged, and how it is written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualpix.models.lazy import offered

if TYPE_CHECKING:
    from dualpix.export.flow.record import GATE, PICTURES
    from dualpix.export.flow.result import ExportResult, Picture, RecipeResult
    from dualpix.export.flow.run import export_model, limits_of, outputs_of, run_export
    from dualpix.export.flow.subject import Options, Subject

__all__ = [
    "GATE",
    "PICTURES",
    "ExportResult",
    "Options",
    "Picture",
    "RecipeResult",
    "Subject",
    "export_model",
    "limits_of",
    "outputs_of",
    "run_export",
]

if not TYPE_CHECKING:
    __getattr__ = offered(__name__, __all__, "result", "subject", "record", "run")
