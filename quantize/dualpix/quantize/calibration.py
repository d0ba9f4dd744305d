"""Calibration and evaluation sets: what they hold, where they came from, and a digest that names them in a manifest.

Convention: a network's inputs are a tuple of float32 tensors of batch 1, as ``forward`` takes them; disparity is
``x_right - x_left`` in px of the network's grid.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.capture.raw import decode
from dualpix.capture.types import FloatImage
from dualpix.models.data.rendered import EVALUATION_SEED, EvalSample, evaluation_set
from dualpix.models.predict import working_views
from dualpix.models.prepare import network_inputs

Inputs = tuple[Tensor, ...]

CALIBRATION_SEED = EVALUATION_SEED + 1
"""Another seed than the evaluation's: ranges must not be measured on the scenes that judge them."""


def tensor_digest(tensors: Iterable[Tensor]) -> str:
    """SHA-256 over shapes, types and values, in order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class CalibrationSet:
    """Inputs whose activations set the int8 ranges."""

    samples: tuple[Inputs, ...]
    description: str

    def digest(self) -> str:
        """SHA-256 of all inputs."""
        return tensor_digest(t for sample in self.samples for t in sample)

    def __add__(self, other: CalibrationSet) -> CalibrationSet:
        return CalibrationSet(self.samples + other.samples, f"{self.description}; {other.description}")


@dataclass(frozen=True)
class EvaluationSet:
    """Scenes with true disparity on which an artefact is compared with the float network."""

    samples: tuple[EvalSample, ...]
    description: str

    def digest(self) -> str:
        """SHA-256 of all inputs and true disparities."""
        return tensor_digest(t for s in self.samples for t in (*s.inputs, s.disparity_px))


def rendered_calibration(count: int, size_hw: tuple[int, int]) -> CalibrationSet:
    """``count`` rendered scenes of ``size_hw`` (height, width) px that neither training nor the gate sees."""
    scenes = evaluation_set(count, size_hw, CALIBRATION_SEED)
    return CalibrationSet(tuple(s.inputs for s in scenes), f"{count} rendered scenes, seed {CALIBRATION_SEED}")


def rendered_evaluation(count: int, size_hw: tuple[int, int]) -> EvaluationSet:
    """The gate's ``count`` rendered scenes of ``size_hw`` (height, width) px."""
    scenes = evaluation_set(count, size_hw, EVALUATION_SEED)
    return EvaluationSet(tuple(scenes), f"{count} rendered scenes, seed {EVALUATION_SEED}")


def capture_calibration(files: Sequence[Path], size_hw: tuple[int, int]) -> CalibrationSet:
    """Real captures as calibration inputs: shrunk to cover ``size_hw`` (height, width) px, centre cut out.

    Raises:
        DecodeError: a file is no dual-pixel capture.
        DualpixError: a capture is smaller than ``size_hw``.
    """
    samples = tuple(_capture_inputs(path, size_hw) for path in files)
    return CalibrationSet(samples, "captures " + ", ".join(path.name for path in files))


def _capture_inputs(path: Path, size_hw: tuple[int, int]) -> Inputs:
    image = decode(path)
    height, width = image.size_hw if image.baseline == "x" else image.size_hw[::-1]
    shrink = max(size_hw[0] / height, size_hw[1] / width)
    if shrink > 1.0:
        raise DualpixError(
            f"'{path.name}' decodes to {width} x {height} px along the baseline",
            expected=f"at least {size_hw[1]} x {size_hw[0]} px to calibrate with",
            hint="choose a smaller --size",
        )
    views = working_views(image, math.ceil(max(height, width) * shrink))
    left, right, combined = (_centre(v, size_hw) for v in (views.left, views.right, views.combined))
    return network_inputs(left, right, combined)


def _centre(view: FloatImage, size_hw: tuple[int, int]) -> Tensor:
    """(H, W) or (H, W, 3) -> (1, C, *size_hw), the middle of the view."""
    top, left = ((view.shape[axis] - size_hw[axis]) // 2 for axis in (0, 1))
    if top < 0 or left < 0:  # rounding of the shrunk size lost a row
        view = np.pad(view, ((0, max(0, -2 * top)), (0, max(0, -2 * left)), (0, 0))[: view.ndim], mode="edge")
    top, left = max(0, top), max(0, left)
    cut = view[top : top + size_hw[0], left : left + size_hw[1]]
    channels = cut[None] if cut.ndim == 2 else cut.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(channels, dtype=np.float32))[None]
