"""What a float network must be before anything is built of it: finite, a function of its inputs, and worth comparing.

A program repeats one recorded pass. A network whose output depends on what ran before it (a buffer that ``forward``
changes, dropout that is left on) is frozen into that pass without a word from any exporter; and where the float
network gives the same value everywhere, an artefact that computes nothing agrees with it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dualpix.capture.errors import DualpixError
from dualpix.export.bound import Positional, own_path
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.score import Accuracy, Metric, Outputs, arrays_of, is_constant, sqnr_db, tensors_of

REPEATS_DB = 100.0
"""Two runs on one input agree at least so far: sums in another order, by several threads, differ less."""
_STATE = "take that state as an input and give it as an output"
_BUFFER = f"{_STATE}: dualpix.export.own.states.states_as_inputs makes a module that does"
_DROPOUT = "switch dropout off: nn.Dropout, or F.dropout(x, p, training=self.training)"
_NOISE = "take the random numbers as an input"
_RANDOM = ("bernoulli", "dropout", "rand", "normal", "uniform", "multinomial", "poisson", "exponential", "rrelu")
"""In the names of operators that draw numbers."""
_UNWRITTEN = "empty"
"""Operators of this name give memory as it lies there."""


def float_outputs(
    module: nn.Module, name: str, samples: Sequence[Inputs], output_names: Sequence[str]
) -> list[Outputs]:
    """What the float network gives for ``samples``, after a look at whether that is worth comparing with.

    Raises:
        DualpixError: its output is not finite, changes from run to run, or is the same value everywhere.
    """
    state = State.of(module)
    first = _run(module, samples[0])
    check_repeats(module, name, samples[0], first, state)
    outputs = [arrays_of(first), *(arrays_of(_run(module, inputs)) for inputs in samples[1:])]
    if len(samples) > 1:
        check_repeats(module, name, samples[0], first, state)
    for place, output in enumerate(output_names):
        if not all(np.isfinite(sample[place]).all() for sample in outputs):
            which = f" as '{output}'" if len(output_names) > 1 else ""
            raise DualpixError(
                f"'{name}' gives values that are not finite{which}", expected="finite outputs on its inputs"
            )
    flat = constant_outputs(outputs, output_names)
    if len(flat) == len(output_names):
        raise DualpixError(
            f"'{name}' gives {_one_value(outputs)}: a constant would agree with it, so that nothing would be measured",
            expected="outputs that differ from place to place, or from input to input",
            hint="give more inputs, like those at work, and trained weights",
        )
    return outputs


def check_metrics(metrics: Sequence[Metric], reference: Accuracy, constant: Accuracy) -> tuple[str, ...]:
    """Whether the float network is better than a constant by each metric; says so where it is not.

    Args:
        metrics: of the task.
        reference: scores of the float network.
        constant: scores of an output that is one value everywhere.

    Raises:
        DualpixError: a metric that is not finite, or by which a constant is better although its direction is a mere
            guess, or although the float network's own output is the target.
    """
    doubts = []
    for metric in metrics:
        found, flat = reference.metrics[metric.name], constant.metrics[metric.name]
        figures = f"{flat.value:.4g} against {found.value:.4g}, and {metric.better} is better"
        if not math.isfinite(found.value):
            raise DualpixError(
                f"metric '{metric.name}' gives {found.value} for the float network", expected="a finite number"
            )
        if flat.beats(found):
            if not metric.stated or not metric.has_truth:
                raise DualpixError(
                    f"by metric '{metric.name}' a constant does better than the float network: {figures}",
                    hint="say --metric-better lower or --metric-better higher",
                )
            doubts.append(f"by metric '{metric.name}' a constant does better than the float network: {figures}")
        elif flat.value == found.value:
            doubts.append(f"metric '{metric.name}' tells the float network not from a constant: {figures}")
    return tuple(doubts)


def constant_outputs(outputs: Sequence[Outputs], names: Sequence[str]) -> tuple[str, ...]:
    """Names of the outputs that are one value everywhere in all samples."""
    return tuple(name for place, name in enumerate(names) if is_constant([sample[place] for sample in outputs]))


def _one_value(outputs: Sequence[Outputs]) -> str:
    values = ", ".join(f"{float(array.flat[0]):g}" for array in outputs[0])
    where = "" if all(array.size == 1 for array in outputs[0]) else " everywhere"
    return f"{values}{where} on " + ("the one input that judges" if len(outputs) == 1 else f"all {len(outputs)} inputs")


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())


def _run(module: nn.Module, inputs: Inputs) -> Any:
    with torch.no_grad():  # what a module keeps of this run must be of use to torch.export: no inference tensors
        return module(*(t.clone() for t in inputs))


@dataclass(frozen=True)
class State:
    """Which tensors and numbers a network holds, so that a change of any is noticed."""

    tensors: Mapping[str, tuple[int, int]]
    """Buffers and parameters by name: identity, and how often it was written."""
    attributes: Mapping[str, Any]
    """Of all submodules: numbers, and tensors that are no buffers."""

    @classmethod
    def of(cls, module: nn.Module) -> State:
        """As it is now."""
        held = [*module.named_buffers(), *module.named_parameters()]
        return cls({name: _mark(t) for name, t in held}, dict(_attributes(module)))

    def changes(self, module: nn.Module) -> str:
        """What differs now, in words; nothing where nothing does."""
        now = State.of(module)
        for kind, before, after in (
            ("buffer", self.tensors, now.tensors),
            ("attribute", self.attributes, now.attributes),
        ):
            names = [name for name in after if before.get(name) != after[name]]
            if names:
                more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
                return f"its {kind} '{names[0]}'{more} changes in forward"
        return ""


def _mark(tensor: Tensor) -> tuple[int, int]:
    return id(tensor), -1 if tensor.is_inference() else tensor._version


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if not name.startswith("_") and name != "training":
                for i, leaf in enumerate(tree_leaves(value)):
                    key = ".".join(filter(None, (path, name))) + (f"[{i}]" if leaf is not value else "")
                    if isinstance(leaf, Tensor):
                        yield key, _mark(leaf)
                    elif isinstance(leaf, int | float | type(None)):
                        yield key, leaf


def check_repeats(module: nn.Module, name: str, inputs: Inputs, first: Any, state: State) -> None:
    """Run ``module`` again and compare.

    Args:
        module: takes the inputs one by one.
        name: of the network, for the message.
        inputs: that it ran on.
        first: what it gave for them before.
        state: of the module, or of the user's module in it, before that.

    Raises:
        DualpixError: it gives something else; names the buffer or attribute that changed, or the operator that is
            random.
    """
    again = _run(module, inputs)
    if all(_repeats(a, b) for a, b in zip(tensors_of(first), tensors_of(again), strict=True)):
        return
    own = module.module if isinstance(module, Positional) else module
    operator, where = _first_difference(module, inputs)
    random = operator if any(sign in operator for sign in _RANDOM) else ""
    changes = "" if random else state.changes(own)
    cure = _BUFFER if changes.startswith("its buffer") else _STATE
    raise DualpixError(
        f"'{name}' gives another output when it runs on the same input again: "
        + (f"'{random}' {where} is random" if random else changes or f"'{operator}' {where} differs"),
        expected="a function of its inputs",
        hint=cure if not random else _DROPOUT if "bernoulli" in random or "dropout" in random else _NOISE,
    )


def check_any_first(fresh: nn.Module, name: str, inputs: Inputs, first: Any, change: str) -> None:
    """Run an unused copy of a module on other inputs before those of the first run, and compare.

    Args:
        fresh: takes the inputs one by one; has not run.
        name: of the network, for the message.
        inputs: of the first run.
        first: what the module gave for them.
        change: what the first run changed in it, in words.

    Raises:
        DualpixError: it gives something else: it keeps what its first input set.
    """
    try:
        _run(fresh, tuple(t * 0.5 if t.is_floating_point() else t.flip(-1) if t.ndim else t for t in inputs))
        after = _run(fresh, inputs)
    except Exception:  # other inputs than the user's need not be any of its
        return
    if not all(_repeats(a, b) for a, b in zip(tensors_of(first), tensors_of(after), strict=True)):
        raise DualpixError(
            f"'{name}' gives another output where another input came first: {change}, and stays",
            expected="a function of its inputs",
            hint="set it in the module before, or compute it from each input anew",
        )


def _repeats(first: Tensor, again: Tensor) -> bool:
    if first.shape != again.shape:
        return False
    if not first.is_floating_point():
        return torch.equal(first, again)
    if _alike(first, again):
        return True
    return sqnr_db(first, again) >= REPEATS_DB


def _first_difference(module: nn.Module, inputs: Inputs) -> tuple[str, str]:
    """The operator at which two runs part, and where it stands."""
    runs = []
    for _ in range(2):
        log = _Log()
        with torch.no_grad(), _told_where(module, log), log:
            module(*(t.clone() for t in inputs))
        runs.append(log.rows)
    for (operator, path, first), (_, _, again) in zip(*runs, strict=False):
        if first != again:
            path = own_path(module, path)
            return operator, f"in '{path}'" if path else "in its forward"
    return "", "in its forward"


class _Log(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operator with the submodule that calls it and a checksum of its result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[tuple[str, str, int]] = []
        self.path: list[str] = [""]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).split(".")[1] if "." in str(func) else str(func)
        if _UNWRITTEN not in name:
            values = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
            check = 0
            for t in values:
                check = zlib.crc32(t.detach().contiguous().numpy().tobytes(), check)
            self.rows.append((name, self.path[-1], check))
        return result


@contextmanager
def _told_where(module: nn.Module, log: _Log) -> Iterator[None]:
    with ExitStack() as hooks:
        for path, part in module.named_modules():
            enter = part.register_forward_pre_hook(lambda part, given, path=path: log.path.append(path))
            leave = part.register_forward_hook(lambda part, given, result: _left(log))
            hooks.callback(enter.remove)
            hooks.callback(leave.remove)
        yield


def _left(log: _Log) -> None:
    log.path.pop()
