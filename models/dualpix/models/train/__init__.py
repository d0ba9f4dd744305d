"""Training that survives a kill at any step, and stops before it spoils what it has learnt."""

from dualpix.models.train.config import TrainConfig, config_from_json
from dualpix.models.train.loop import Listener, NotFiniteError, Progress, Trainer, TrainingInterruptedError

__all__ = [
    "Listener", "NotFiniteError", "Progress", "TrainConfig", "Trainer", "TrainingInterruptedError", "config_from_json",
]  # fmt: skip
