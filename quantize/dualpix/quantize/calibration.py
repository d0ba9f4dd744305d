"""Calibration and evaluation sets: what they hold, where they came from, and a digest that names them in a manifest.

Convention: a network's inputs are a tuple of float32 tensors of batch 1, as ``forward`` takes them; what they are held
against is said by the network's task (:mod:`dualpix.models.tasks`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.capture.raw import decode
from dualpix.capture.types import FloatImage
from dualpix.models.data.kinds import FRAMES
from dualpix.models.data.rendered import EVALUATION_SEED
from dualpix.models.data.scenes import task_scene
from dualpix.models.networks import NetworkSpec
from dualpix.models.predict.working import working_views
from dualpix.models.tasks import DEFAULT_TASK, Task, task_named
from dualpix.models.tasks.task import EvalSample, eval_sample

Inputs = tuple[Tensor, ...]

CALIBRATION_SEED = EVALUATION_SEED + 1
"""Another seed than the evaluation's: ranges must not be measured on the scenes that judge them."""
HELD_BACK_SEED = EVALUATION_SEED + 2
"""And another for the scenes on which a search must keep its budget without having looked at them."""

LOW_COVERAGE = 0.99
"""Below this share of working values inside the calibrated ranges, a calibration does not represent the work."""
_BINS = 256


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
    """Samples with their truth on which an artefact is compared with the float network."""

    samples: tuple[EvalSample, ...]
    description: str
    task: Task = field(default_factory=lambda: task_named(DEFAULT_TASK))

    def digest(self) -> str:
        """SHA-256 of all inputs and truths."""
        return tensor_digest(t for s in self.samples for t in (*s.inputs, s.truth[self.task.truth]))

    def calibration(self) -> CalibrationSet:
        """The inputs alone."""
        return CalibrationSet(tuple(s.inputs for s in self.samples), self.description)


@dataclass(frozen=True)
class Coverage:
    """How well a calibration set represents the values of one tensor at work."""

    name: str
    inside: float
    """Share of the working values within the calibrated range, 0..1: the rest saturates in int8."""
    overlap: float
    """Common area of the two normalised histograms, 0..1: 1 where the values are distributed alike."""

    @property
    def low(self) -> bool:
        """Whether the calibration should be widened."""
        return self.inside < LOW_COVERAGE


def input_coverage(
    calibration: Sequence[Inputs], working: Sequence[Inputs], names: Sequence[str] = ()
) -> tuple[Coverage, ...]:
    """Per input of a network, how much of what it meets at work the calibration has seen.

    Args:
        calibration: the inputs that set the ranges.
        working: inputs as they come in use, or held-back ones.
        names: of the inputs; ``input 0`` and so on by default.

    Raises:
        DualpixError: an empty set, or sets with different numbers of inputs.
    """
    if not calibration or not working or len(calibration[0]) != len(working[0]):
        found = f"{len(calibration)} calibration and {len(working)} working samples"
        raise DualpixError(found, expected="at least one each, of the same inputs")
    columns = zip(zip(*calibration, strict=True), zip(*working, strict=True), strict=True)
    labels = [*names, *(f"input {i}" for i in range(len(names), len(calibration[0])))]
    return tuple(_coverage(label, seen, met) for label, (seen, met) in zip(labels, columns, strict=True))


def _coverage(name: str, seen: Sequence[Tensor], met: Sequence[Tensor]) -> Coverage:
    known, work = (np.concatenate([t.detach().numpy().ravel() for t in tensors]) for tensors in (seen, met))
    low, high = float(known.min()), float(known.max())
    edges = np.linspace(min(low, float(work.min())), max(high, float(work.max())) + 1e-12, _BINS + 1)
    areas = [np.histogram(values, edges)[0] / values.size for values in (known, work)]
    return Coverage(name, float(np.mean((work >= low) & (work <= high))), float(np.minimum(*areas).sum()))


def rendered_calibration(
    count: int, size_hw: tuple[int, int], spec: NetworkSpec | None = None, *, frames: int = FRAMES
) -> CalibrationSet:
    """``count`` rendered scenes of ``size_hw`` (height, width) px that neither training nor the gate sees.

    Args:
        count: of scenes.
        size_hw: in px, multiples of 32.
        spec: of the network that takes them; by default one of the default task that takes all its inputs.
        frames: of each scene, for networks of focus stacks.
    """
    return _rendered(count, size_hw, CALIBRATION_SEED, spec, frames).calibration()


def rendered_search(
    count: int, size_hw: tuple[int, int], spec: NetworkSpec | None = None, *, frames: int = FRAMES
) -> EvaluationSet:
    """The scenes of :func:`rendered_calibration` with their truth, for a search that needs a task's loss."""
    return _rendered(count, size_hw, CALIBRATION_SEED, spec, frames)


def rendered_held_back(
    count: int, size_hw: tuple[int, int], spec: NetworkSpec | None = None, *, frames: int = FRAMES
) -> EvaluationSet:
    """As :func:`rendered_calibration`: scenes that neither calibration nor the gate sees."""
    return _rendered(count, size_hw, HELD_BACK_SEED, spec, frames)


def rendered_evaluation(
    count: int, size_hw: tuple[int, int], spec: NetworkSpec | None = None, *, frames: int = FRAMES
) -> EvaluationSet:
    """The gate's scenes, otherwise as :func:`rendered_calibration`."""
    return _rendered(count, size_hw, EVALUATION_SEED, spec, frames)


def _rendered(count: int, size_hw: tuple[int, int], seed: int, spec: NetworkSpec | None, frames: int) -> EvaluationSet:
    task = task_named(spec.task if spec else DEFAULT_TASK)
    names = spec.input_names if spec else ()
    scenes = (task_scene(task, index, size_hw, seed, frames=frames) for index in range(count))
    samples = tuple(eval_sample(task, scene, names) for scene in scenes)
    what = f"rendered scenes of {frames} frames" if takes_stacks(task) else "rendered scenes"
    return EvaluationSet(samples, f"{count} {what}, seed {seed}", task)


def takes_stacks(task: Task) -> bool:
    """Whether networks of the task are shown several frames of a scene."""
    return any(given.per_frame for given in task.inputs)


def capture_calibration(
    files: Sequence[Path], size_hw: tuple[int, int], spec: NetworkSpec | None = None
) -> CalibrationSet:
    """Real captures as calibration inputs: shrunk to cover ``size_hw`` (height, width) px, centre cut out.

    Raises:
        DecodeError: a file is no dual-pixel capture.
        DualpixError: a capture is smaller than ``size_hw``, or the network takes no dual-pixel pairs.
    """
    task = task_named(spec.task if spec else DEFAULT_TASK)
    if task.data_task != DEFAULT_TASK:
        raise DualpixError(f"captures to calibrate a network for {task.summary}", expected="rendered scenes alone")
    samples = tuple(_capture_inputs(path, size_hw, spec.input_names if spec else ()) for path in files)
    return CalibrationSet(samples, "captures " + ", ".join(path.name for path in files))


def _capture_inputs(path: Path, size_hw: tuple[int, int], names: Sequence[str]) -> Inputs:
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
    made = task_named(DEFAULT_TASK).inputs_of({"left": left, "right": right, "combined": combined})
    return tuple(made[name] for name in names or made)


def _centre(view: FloatImage, size_hw: tuple[int, int]) -> Tensor:
    """(H, W) or (H, W, 3) -> (1, C, *size_hw), the middle of the view."""
    top, left = ((view.shape[axis] - size_hw[axis]) // 2 for axis in (0, 1))
    if top < 0 or left < 0:  # rounding of the shrunk size lost a row
        view = np.pad(view, ((0, max(0, -2 * top)), (0, max(0, -2 * left)), (0, 0))[: view.ndim], mode="edge")
    top, left = max(0, top), max(0, left)
    cut = view[top : top + size_hw[0], left : left + size_hw[1]]
    channels = cut[None] if cut.ndim == 2 else cut.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(channels, dtype=np.float32))[None]
