"""Training that survives a kill at any step, and stops before it spoils what it has learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualpix.models.lazy import offered

if TYPE_CHECKING:
    from dualpix.models.train.config import TrainConfig, config_from_json
    from dualpix.models.train.loop import Trainer
    from dualpix.models.train.progress import Listener, NotFiniteError, Progress, TrainingInterruptedError

__all__ = [
    "Listener",
    "NotFiniteError",
    "Progress",
    "TrainConfig",
    "Trainer",
    "TrainingInterruptedError",
    "config_from_json",
]

if not TYPE_CHECKING:
    __getattr__ = offered(__name__, __all__, "config", "progress", "loop")
