"""Is an export still what was measured: digests, and its artefacts run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualpix.models.lazy import offered

if TYPE_CHECKING:
    from dualpix.export.verify.folder import ArtefactCheck, Verification, verify

__all__ = ["ArtefactCheck", "Verification", "verify"]

if not TYPE_CHECKING:
    __getattr__ = offered(__name__, __all__, "folder")
