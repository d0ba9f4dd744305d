"""Foundation models: pretrained feature extractors that a depth network builds on, frozen, tuned or adapted.

``foundation(name, weights)`` gives one by name; nothing is downloaded. Licences, sources and how to export: the page
``docs/foundation.md``.
"""

from __future__ import annotations

from dualpix.models.foundation.adapters import (
    load_adapters,
    merge_adapters,
    save_adapters,
    unmerge_adapters,
)
from dualpix.models.foundation.registry import (
    FOUNDATIONS,
    IMAGENET,
    FoundationModel,
    FoundationSpec,
    foundation,
    foundation_spec,
)

__all__ = [
    "FOUNDATIONS",
    "IMAGENET",
    "FoundationModel",
    "FoundationSpec",
    "foundation",
    "foundation_spec",
    "load_adapters",
    "merge_adapters",
    "save_adapters",
    "unmerge_adapters",
]
