"""Light comes in here: decoders, optics, image formation, cameras. Importing this package imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualpix.capture.raw import decode as decode
    from dualpix.capture.types import CaptureMeta as CaptureMeta
    from dualpix.capture.types import DualPixelImage as DualPixelImage
    from dualpix.capture.types import LensModel as LensModel

_EXPORTS = {
    "decode": "dualpix.capture.raw",
    "CaptureMeta": "dualpix.capture.types",
    "DualPixelImage": "dualpix.capture.types",
    "LensModel": "dualpix.capture.types",
}
__all__ = ["CaptureMeta", "DualPixelImage", "LensModel", "decode"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        from importlib import import_module

        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
