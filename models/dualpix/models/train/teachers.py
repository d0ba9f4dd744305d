"""Distillation: beside the truth a network learns from what others say of the same windows.

Convention: disparity in px of the network's input grid, (B, 1, H, W). Several teachers give the mean of their maps; how
much a pixel counts is the mean of their confidences, 1 for a teacher that gives none. They see the very windows of the
step, augmented, and compute in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import sha256_of_file
from dualpix.models.losses import taught_disparity_loss
from dualpix.models.networks.spec import NetworkSpec, confidence_output, first_output
from dualpix.models.tasks import DUAL_PIXEL, Batch
from dualpix.models.train.config import TrainConfig
from dualpix.models.zoo import LoadedModel, load_model


class Teachers:
    """Those of a run, and what is learnt from them."""

    def __init__(self, models: Sequence[LoadedModel], weight: float, device: torch.device) -> None:
        self.models = tuple(models)
        self._weight = weight
        self._networks = [model.module.to(device).eval() for model in models]

    @torch.no_grad()
    def maps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Disparity and its weight, 0 to 1, of a batch of the task."""
        given = {name: value.float() for name, value in batch.items()}
        disparities, confidences = [], []
        for model, network in zip(self.models, self._networks, strict=True):
            outputs = network(*model.spec.inputs_of(given))
            disparity, confidence = first_output(outputs), confidence_output(outputs)
            disparities.append(disparity)
            confidences.append(torch.ones_like(disparity) if confidence is None else confidence)
        return torch.stack(disparities).mean(0), torch.stack(confidences).mean(0)

    def loss(self, predictions: Sequence[Tensor], batch: Batch) -> Tensor:
        """What to add to the loss against the truth; the first channel of each prediction is its disparity."""
        disparity, confidence = (value.to(predictions[0].device) for value in self.maps(batch))
        return self._weight * taught_disparity_loss([p[:, :1] for p in predictions], disparity, confidence)

    def told(self) -> list[str]:
        """Which they were, for the card."""
        files = [model.folder / "weights.safetensors" for model in self.models]
        return [
            f"{model.name}, SHA-256 {sha256_of_file(file)}" if file.is_file() else model.name
            for model, file in zip(self.models, files, strict=True)
        ]


def teachers_of(config: TrainConfig, spec: NetworkSpec, device: torch.device) -> Teachers | None:
    """The teachers of a run; None where it has none.

    Raises:
        UnknownNameError: no model of that name.
        DualpixError: a model that does not load, gives no disparity in px or takes other windows; or the network that
            learns gives none.
    """
    if not config.teachers:
        return None
    if (spec.task, spec.output) != (DUAL_PIXEL.name, "disparity_px"):
        raise DualpixError(
            f"a teacher for network '{config.network}', which gives {spec.output}",
            expected="one that gives disparity_px",
        )
    models = [load_model(name) for name in config.teachers]
    seen = config.crop_hw or config.render.size_hw
    for model in models:
        if (model.spec.task, model.spec.output) != (DUAL_PIXEL.name, "disparity_px"):
            raise DualpixError(
                f"teacher '{model.name}' gives {model.spec.output}", expected="a model that gives disparity_px of pairs"
            )
        if any(side % model.spec.size_multiple for side in seen):
            raise DualpixError(
                f"windows of {seen[0]} x {seen[1]} px for the teacher '{model.name}'",
                expected=f"multiples of {model.spec.size_multiple} px",
            )
    return Teachers(models, config.teacher_weight, device)
