"""``dualpix depth STACK``: metric depth of focus stacks, and its error where a truth is given."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Column, Table

from dualpix.capture.errors import DualpixError
from dualpix.capture.raw.inputs import Job
from dualpix.capture.raw.jobs import Batch, Outcome, run_jobs
from dualpix.capture.stack.align import align_stack
from dualpix.capture.stack.focus_depth import SIDECAR, Method, depth_from_focus, write_focus_depth
from dualpix.capture.stack.load import ALIGNED, ALIGNMENT, load_stack
from dualpix.capture.stack.record import JOURNAL, STACK
from dualpix.capture.types import FloatImage
from dualpix.models.depth_truth import read_truth

_LISTING = "focus.csv"


@dataclass(frozen=True)
class StackOptions:
    """How the depth of a stack is found."""

    method: Method = "blur"
    f_number: float | None = None
    """Which aperture, where a stack has several; the widest by default."""
    truth: Path | None = None
    """Depth of the stack's size, see :func:`~dualpix.models.depth_truth.read_truth`."""


def is_stack(path: Path) -> bool:
    """Whether a folder is a focus stack rather than a folder of captures."""
    return path.is_dir() and any((path / name).is_file() for name in (STACK, JOURNAL, _LISTING))


def run_stacks(
    stacks: Sequence[Path], output: Path, options: StackOptions, *, resume: bool, strict: bool
) -> list[Outcome]:
    """Find and write the depth of each stack, as ``OUTPUT/NAME/``.

    Args:
        stacks: folders.
        output: folder of the results.
        options: how.
        resume: skip those whose result is there.
        strict: let the first error through.

    Raises:
        DualpixError: two stacks of one name, or with ``strict`` what is wrong with a stack.
    """
    jobs = [Job(path, None, output / path.resolve().name) for path in stacks]
    if len({job.folder for job in jobs}) < len(jobs):
        raise DualpixError("two stacks have the same name", expected="one result folder each", hint="give them apart")
    return run_jobs(
        "depth",
        jobs,
        lambda job: depth_of_stack(job.path, job.folder, options),
        sidecar=SIDECAR,
        batch=Batch(resume=resume),
        stop_at_once=strict,
    )


def depth_of_stack(stack_folder: Path, folder: Path, options: StackOptions) -> dict[str, Any]:
    """Depth from focus of one stack, written to ``folder``; returns the content of its ``depth.json``.

    Frames that ``dualpix capture align`` has not aligned are aligned here, to the one at the nearest focus.

    Raises:
        DualpixError: the folder is no stack, a frame is damaged, or the truth does not fit it.
    """
    stack = load_stack(stack_folder, options.f_number)
    if not (stack_folder / ALIGNED / ALIGNMENT).is_file():
        stack, _ = align_stack(stack)
    truth = None if options.truth is None else read_truth(options.truth, stack.frames.shape[1:3])
    started = time.perf_counter()
    result = depth_from_focus(stack, options.method)
    details: dict[str, Any] = {"inputs": [stack_folder.name], "seconds": round(time.perf_counter() - started, 3)}
    if truth is not None:
        # the yardstick: the frame in which a pixel is sharpest, as it comes
        plain = result if options.method == "argmax" else depth_from_focus(stack, "argmax")
        details["error"] = {
            "method": depth_errors(result.depth_m, truth.depth_m),
            "sharpest_frame": depth_errors(plain.depth_m, truth.depth_m),
            "truth_unit": truth.unit,
        }
    return write_focus_depth(folder, stack, result, details)


def depth_errors(depth_m: FloatImage, truth_m: FloatImage) -> dict[str, float]:
    """Mean absolute error in diopters and in m, and AbsRel (mean of |depth - truth| / truth), where there is a truth.

    Errors in m leave out pixels at infinity on either side; diopters have them.

    Raises:
        DualpixError: there is no truth at all.
    """
    known = truth_m > 0
    if not known.any():
        raise DualpixError("the truth is empty", expected="depths above 0")
    with np.errstate(divide="ignore"):
        diopters = np.abs(1 / depth_m[known] - 1 / truth_m[known])
    found, truth = depth_m[known], truth_m[known]
    finite = np.isfinite(found) & np.isfinite(truth)
    error_m = np.abs(found[finite] - truth[finite])
    return {
        "mae_d": float(diopters.mean()),
        "mae_m": float(error_m.mean()) if finite.any() else float("inf"),
        "abs_rel": float((error_m / truth[finite]).mean()) if finite.any() else float("inf"),
        "pixels": int(known.sum()),
    }


def table(outcomes: Sequence[Outcome]) -> Table:
    """What was found, for people; below it, what :func:`errors_text` says."""
    stack, result = (Column(name, overflow="fold") for name in ("stack", "result"))
    shown = Table(stack, "frames", "depth m\np1 / p50 / p99", "measured", "s", result)
    for outcome in outcomes:
        record = outcome.record
        if record is None:
            shown.add_row(outcome.job.path.name, "", "", "", "", "[red]failed[/red]")
            continue
        depth = " / ".join(value if isinstance(value, str) else f"{value:.3g}" for value in record["depth_m"].values())
        shown.add_row(
            outcome.job.path.name,
            str(record["frames"]),
            depth,
            f"{record['measured_fraction']:.0%}",
            f"{record['seconds']:.1f}",
            str(outcome.job.folder),
        )
    return shown


def errors_text(outcomes: Sequence[Outcome]) -> str:
    """The error against the truth, if one was given."""
    judged = [outcome.record["error"] for outcome in outcomes if outcome.record and "error" in outcome.record]
    return "\n".join(
        f"mean error {_error_text(error['method'])} (the sharpest frame alone: {_error_text(error['sharpest_frame'])})"
        + ("; the truth holds integers, read as mm" if error["truth_unit"] == "mm" else "")
        for error in judged
    )


def _error_text(error: dict[str, float]) -> str:
    return f"{error['mae_d']:.3f} D, AbsRel {error['abs_rel']:.3f}"
