"""The tasks, by name: what networks are for. A new one is a file that states a :class:`Task` and one entry here."""

from __future__ import annotations

from dualpix.capture.errors import UnknownNameError
from dualpix.models.tasks.dual_pixel import DUAL_PIXEL
from dualpix.models.tasks.dual_pixel_affine import DUAL_PIXEL_AFFINE
from dualpix.models.tasks.focus_stack import FOCUS_STACK
from dualpix.models.tasks.monocular import MONOCULAR
from dualpix.models.tasks.task import Batch, Field, NetworkOutput, Sample, Task, TaskMetric

__all__ = [
    "DEFAULT_TASK", "DUAL_PIXEL", "DUAL_PIXEL_AFFINE", "FOCUS_STACK", "MONOCULAR", "TASKS", "Batch", "Field",
    "NetworkOutput", "Sample", "Task", "TaskMetric", "task_named",
]  # fmt: skip

TASKS: dict[str, Task] = {task.name: task for task in (DUAL_PIXEL, FOCUS_STACK, DUAL_PIXEL_AFFINE, MONOCULAR)}
"""A user's network is of the first one whose inputs it takes."""

DEFAULT_TASK = DUAL_PIXEL.name


def task_named(name: str) -> Task:
    """Look a task up.

    Raises:
        UnknownNameError: no task of that name; the message lists the known ones.
    """
    if name not in TASKS:
        raise UnknownNameError("task", name, list(TASKS))
    return TASKS[name]
