"""Whether a sample is one of its task, and the common words of what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from dualpix.models.data.source import SampleError
from dualpix.models.tasks.task import KNOWN, Field, Sample, Task

FEWEST_KNOWN = 0.001
"""Share of the pixels whose truth is known: with less there is nothing to learn from."""
_SHOWN = 4


def checked(sample: Sample, task: Task, named: str) -> Sample:
    """The fields of the task alone, float32 and finite; the truth is 0 where it is not known.

    Args:
        sample: as a source formed it.
        task: whose sample it is.
        named: how messages call it, with its file.

    Raises:
        SampleError: a field is missing, of another shape, or not finite, or hardly any truth is known.
    """
    size_hw = _size_of(sample, task, named)
    frames = _frames_of(sample, task, named)
    kept: Sample = {}
    for field in task.sample:
        if field.name in sample:
            kept[field.name] = _checked_field(sample[field.name], field, size_hw, frames, named)
        elif not field.optional:
            raise SampleError(f"{named} has no {field.name}", expected=_told([f.name for f in task.sample]))
    return _with_truth(kept, task, named)


def _with_truth(sample: Sample, task: Task, named: str) -> Sample:
    """Unknown where the truth is not finite, 0 where it is unknown."""
    truth = sample[task.truth]
    known = sample.get(KNOWN, torch.ones_like(truth))
    usable = torch.isfinite(truth) & (known > 0.5)
    if float(usable.float().mean()) < FEWEST_KNOWN:
        raise SampleError(
            f"{named} has a truth in {int(usable.sum())} of {usable.numel()} pixels",
            expected=f"{task.truth} that is known and finite somewhere",
        )
    sample[task.truth] = torch.where(usable, truth, torch.zeros_like(truth))
    sample[KNOWN] = usable.to(torch.float32)
    return sample


def _checked_field(
    value: torch.Tensor, field: Field, size_hw: tuple[int, int], frames: int, named: str
) -> torch.Tensor:
    wanted = field.shape(size_hw, frames)
    if tuple(value.shape) != wanted:
        raise SampleError(f"{named}: {field.name} is {tuple(value.shape)}", expected=str(wanted))
    value = value.to(torch.float32)
    if field.kind in ("picture", "mask", "scalar") and not bool(torch.isfinite(value).all()):
        bad = int((~torch.isfinite(value)).sum())
        raise SampleError(f"{named}: {bad} values of {field.name} are NaN or infinite", expected="finite values")
    return value


def _size_of(sample: Sample, task: Task, named: str) -> tuple[int, int]:
    for field in task.sample:
        if field.kind != "scalar" and field.name in sample and sample[field.name].ndim >= 2:
            height, width = sample[field.name].shape[-2:]
            return int(height), int(width)
    raise SampleError(f"{named} has no picture", expected=_told([field.name for field in task.sample]))


def _frames_of(sample: Sample, task: Task, named: str) -> int:
    """Number of frames, or 1 for tasks without."""
    counts = {int(sample[f.name].shape[0]) for f in task.sample if f.per_frame and f.name in sample}
    if len(counts) > 1:
        raise SampleError(f"{named} has fields of {_told(map(str, sorted(counts)))} frames", expected="one number")
    return counts.pop() if counts else 1


def _told(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
