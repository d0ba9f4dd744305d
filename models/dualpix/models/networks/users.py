"""Networks of a user's own: ``package.module:factory``, a function that gives an ``nn.Module``.

What the network is for follows from the names of ``forward``'s parameters: they are inputs of a task
(:mod:`dualpix.models.tasks`), ``forward(left, right)`` say. The module may say more by attributes: ``task``,
``size_multiple``, ``paper``, ``output`` (name of what it gives, where it is not the task's first output) and a method
``forward_scales`` that gives predictions for deep supervision, finest first. Where a dual-pixel network knows how sure
it is, ``forward`` gives (disparity_px, confidence), the finest of ``forward_scales`` two channels: disparity and logit.

Naming a function runs its module. A model's card never does: a folder of weights whose card names a function is loaded
only with the function given beside it, ``package.module:factory@FOLDER``.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.models.named import function_name, load_named
from dualpix.models.networks.spec import NetworkSpec
from dualpix.models.tasks import TASKS, Task, task_named

_SIZE_MULTIPLE = 32


def users_spec(text: str) -> NetworkSpec:
    """Import the function that ``text`` names, and find out what its network is for.

    Raises:
        DualpixError: it cannot be imported, fails, or gives no network of any task.
    """
    factory = load_named(text)

    def build(options: dict[str, Any]) -> nn.Module:
        try:
            module = factory(**options)
        except Exception as error:  # the user's code raises anything
            raise DualpixError(
                f"{text}() fails: {type(error).__name__}: {error}", hint="--debug shows the traceback"
            ) from error
        if not isinstance(module, nn.Module):
            raise DualpixError(f"{text}() gives a {type(module).__name__}", expected="an nn.Module")
        return module

    return _spec_of(build({}), text, build)


def _spec_of(module: nn.Module, text: str, build: Any) -> NetworkSpec:
    names = list(inspect.signature(module.forward).parameters)
    task = _task_of(module, names, text)
    inputs = tuple((name, task.field(name).channels) for name in names)
    multiple = getattr(module, "size_multiple", _SIZE_MULTIPLE)
    if type(multiple) is not int or not 1 <= multiple <= 1024:
        raise DualpixError(f"size_multiple of {text}() is {multiple!r:.40}", expected="a whole number of 1 to 1024")
    output = str(getattr(module, "output", task.outputs[0].name))
    if task.output(output) is None:
        known = ", ".join(o.name for o in task.outputs)
        raise DualpixError(f"output '{output}' of {text}()", expected=f"one of the task '{task.name}': {known}")
    paper = str(getattr(module, "paper", f"{function_name(text)}, a network of the user's own"))
    return NetworkSpec(build, inputs, output, multiple, paper, task=task.name)


def _task_of(module: nn.Module, names: list[str], text: str) -> Task:
    said = getattr(module, "task", None)
    tasks = [task_named(said)] if isinstance(said, str) else list(TASKS.values())
    for task in tasks:
        if names and set(names) <= {f.name for f in task.inputs}:
            return task
    known = "; ".join(f"{t.name}: {', '.join(f.name for f in t.inputs)}" for t in tasks)
    raise DualpixError(
        f"forward of {text}() takes ({', '.join(names)})", expected=f"parameters named as inputs of a task ({known})"
    )
