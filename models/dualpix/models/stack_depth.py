"""``dualpix depth STACK``: depth of focus stacks, and its error where a truth is given.

Metric where the stack says where its frames are focused, else the number of the sharpest frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from dualpix.capture.errors import DualpixError
from dualpix.capture.raw.inputs import Job
from dualpix.capture.raw.jobs import Batch, Outcome, run_jobs
from dualpix.capture.stack.align import Alignment, align_stack
from dualpix.capture.stack.focus_depth import FocusDepth, Method, depth_from_focus, index_from_focus
from dualpix.capture.stack.focus_output import NO_METRES_HINT, SIDECAR, check_measured, write_focus_depth
from dualpix.capture.stack.load import ALIGNED, ALIGNMENT, load_stack
from dualpix.capture.terminal import figures_table
from dualpix.capture.types import FloatImage, FocusStack
from dualpix.models.depth_truth import DepthTruth, read_truth

_LITTLE = 0.1
"""Share of measured pixels below which it is said that most of the map is filled in."""
_MOST_NAMED = 4


@dataclass(frozen=True)
class StackOptions:
    """How the depth of a stack is found."""

    method: Method = "blur"
    f_number: float | None = None
    """Which aperture, where a stack has several; the widest by default."""
    truth: Path | None = None
    """Depth of the stack's size, see :func:`~dualpix.models.depth_truth.read_truth`."""
    network: Callable[[FocusStack], FloatImage] | None = None
    """Gives the depth in place of the method; how sure a pixel is, and the picture in focus, stay the method's."""
    network_name: str = ""


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

    Frames that ``dualpix capture align`` has not aligned are aligned here, to the one at the nearest focus. Without
    distances there is no depth: the number of the sharpest frame is written then.

    Raises:
        DualpixError: the folder is no stack, a frame is damaged or belongs to another one, nothing can be measured, or
            the truth does not fit.
    """
    stack = load_stack(stack_folder, options.f_number)
    truth = _truth_of(stack, options.truth)
    notes: list[str] = []
    if not (stack_folder / ALIGNED / ALIGNMENT).is_file():
        stack, alignment = align_stack(stack)
        notes = _strangers(stack, alignment)
    started = time.perf_counter()
    metric = stack.focus_distance_m is not None
    result = depth_from_focus(stack, options.method) if metric else index_from_focus(stack, options.method)
    details: dict[str, Any] = {}
    if options.network is not None:
        depth = options.network(stack)
        details["model"] = options.network_name
        if isinstance(result, FocusDepth):
            result = replace(result, depth_m=depth, diopters=np.float32(1) / depth)
    seconds = round(time.perf_counter() - started, 3)
    check_measured(stack, result, stack_folder.name)
    if result.measured_fraction < _LITTLE:
        notes.append(f"{result.measured_fraction:.1%} of the pixels were measured, the rest is filled in from them")
    details |= {"inputs": [stack_folder.name], "seconds": seconds, "notes": notes}
    if truth is not None and isinstance(result, FocusDepth):
        # the yardstick: the frame in which a pixel is sharpest, as it comes
        plain = result if options.method == "argmax" and options.network is None else depth_from_focus(stack, "argmax")
        details["error"] = {
            "method": depth_errors(result.depth_m, truth.depth_m),
            "sharpest_frame": depth_errors(plain.depth_m, truth.depth_m),
            "truth_unit": truth.unit,
        }
    return write_focus_depth(folder, stack, result, details)


def _strangers(stack: FocusStack, alignment: Alignment) -> list[str]:
    """Frames that do not match their neighbours although most do: another scene, or a moved camera."""
    odd = [place for place, good in enumerate(alignment.trusted) if not good]
    if not odd or 2 * len(odd) >= len(alignment.trusted):
        return []
    named = ", ".join(f"'{stack.names[place]}'" for place in odd[:_MOST_NAMED])
    return [f"{named} could not be matched with the other frames: look at the stack with dualpix capture verify"]


def _truth_of(stack: FocusStack, path: Path | None) -> DepthTruth | None:
    if path is None:
        return None
    if stack.focus_distance_m is None:
        raise DualpixError(
            "--truth was given with a stack that does not say where its frames are focused",
            expected="distances, to have a depth in m",
            hint=f"say them with: {NO_METRES_HINT}",
        )
    return read_truth(path, stack.frames.shape[1:3])


def depth_errors(depth_m: FloatImage, truth_m: FloatImage) -> dict[str, float | None]:
    """Mean absolute error in diopters and in m, and AbsRel (mean of |depth - truth| / truth), where there is a truth.

    Errors in m leave out pixels at infinity on either side, and are None where that leaves none; diopters have them.

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
        "mae_m": float(error_m.mean()) if finite.any() else None,
        "abs_rel": float((error_m / truth[finite]).mean()) if finite.any() else None,
        "pixels": int(known.sum()),
    }


def table(outcomes: Sequence[Outcome]) -> Table:
    """What was found, for people; below it, what :func:`below_text` says."""
    heads = ("frames", "depth m\np1 / p50 / p99", "measured", "s")
    shown = figures_table(*heads, names=("stack", "result"))
    for outcome in outcomes:
        record = outcome.record
        if record is None:
            shown.add_row(escape(outcome.job.path.name), "", "", "", "", "[red]failed[/red]")
            continue
        share = record["measured_fraction"]
        shown.add_row(
            escape(outcome.job.path.name),
            str(record["frames"]),
            _percentiles_text(record),
            f"{share:.0%}" if share >= _LITTLE else f"{share:.1%}",
            f"{record['seconds']:.1f}",
            escape(str(outcome.job.folder)),
        )
    return shown


def _percentiles_text(record: dict[str, Any]) -> str:
    values = record["depth_m" if record["metric"] else "focus_index"].values()
    text = " / ".join(value if isinstance(value, str) else f"{value:.3g}" for value in values)
    return text if record["metric"] else f"no metres:\nframe {text}"


def below_text(outcomes: Sequence[Outcome]) -> str:
    """Of each stack: what it lacks for metres, doubts, and the error against the truth if one was given."""
    lines = []
    for outcome in outcomes:
        record, name = outcome.record, outcome.job.path.name
        if record is None:
            continue
        if not record["metric"]:
            lines.append(f"{name}: nothing says where the frames are focused; {record['hint']}")
        lines += [f"{name}: {note}" for note in record["notes"]]
        if "error" in record:
            lines.append(_judged_text(record["error"]))
    return "\n".join(lines)


def _judged_text(error: dict[str, Any]) -> str:
    text = (
        f"mean error {_error_text(error['method'])} (the sharpest frame alone: {_error_text(error['sharpest_frame'])})"
    )
    return text + ("; the truth holds integers, read as mm" if error["truth_unit"] == "mm" else "")


def _error_text(error: dict[str, float | None]) -> str:
    relative = "none, all is at infinity" if error["abs_rel"] is None else f"{error['abs_rel']:.3f}"
    return f"{error['mae_d']:.3f} D, AbsRel {relative}"
