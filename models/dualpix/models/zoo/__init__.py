"""The shipped models, one folder each: ``weights.safetensors``, ``card.json``, ``limits.json`` (the gate's limits)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualpix.models.lazy import offered

if TYPE_CHECKING:
    from dualpix.models.zoo.cards import DEFAULT_MODEL, ZOO, known_models
    from dualpix.models.zoo.load import CONFIDENCE, LoadedModel, check_weights, load_model, read_calibration

__all__ = [
    "CONFIDENCE",
    "DEFAULT_MODEL",
    "ZOO",
    "LoadedModel",
    "check_weights",
    "known_models",
    "load_model",
    "read_calibration",
]

if not TYPE_CHECKING:
    __getattr__ = offered(__name__, __all__, "cards", "load")
