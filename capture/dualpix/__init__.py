"""Depth from dual-pixel sensors and focus stacks, in Python::

    import dualpix

    shot = dualpix.load("IMG_0001.DNG")
    print(shot.depth().depth_m)
    shot.refocus(at=(640, 480), blur=4).save("refocused.jpg")
    shot.show()

The areas are packages of their own (``dualpix.capture``, ``dualpix.models``, ``dualpix.quantize``,
``dualpix.export``), which lie in several folders of a checkout and in one of an installation. Nothing is imported
before it is asked for: ``import dualpix`` costs milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualpix.capture.errors import DualpixError
    from dualpix.models.shot import Depth, Shot, load

__all__ = ["Depth", "DualpixError", "Shot", "load"]

__path__ = extend_path(__path__, __name__)  # of a checkout: the folders of the other areas on the path
if __spec__ is not None:
    # Import-linter (grimp 3) takes roots below namespace packages alone, and knows those by this. In all but the names
    # below this is one: each area, and whatever others put on the path, stays a package of its own.
    __spec__.has_location = False

# As text, like the commands in capture/cli.py: the arrows between the areas keep pointing one way.
_LAZY = {
    "Depth": "dualpix.models.shot",
    "DualpixError": "dualpix.capture.errors",
    "Shot": "dualpix.models.shot",
    "load": "dualpix.models.shot",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
