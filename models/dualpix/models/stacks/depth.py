"""``dualpix depth STACK``: depth of focus stacks, and its error where a truth is given or known.

Metric where the stack says where its frames are focused, else the number of the sharpest frame. By a method that needs
no training; of few frames by the shipped network, or by one that is named, with the method's map beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from rich.markup import escape
from rich.table import Table

from dualpix.capture.command.terminal import figures_table
from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.depth_files import Format
from dualpix.capture.raw.batch.inputs import Job
from dualpix.capture.raw.batch.jobs import Batch, Outcome, run_jobs
from dualpix.capture.stack.depth.focus_depth import FocusDepth, Method, depth_from_focus, index_from_focus
from dualpix.capture.stack.depth.focus_output import NO_METRES_HINT, SIDECAR, Result, check_measured, write_focus_depth
from dualpix.capture.types import FloatImage, FocusStack
from dualpix.models.stacks import notes as stack_notes
from dualpix.models.stacks.reading import AlignedStack, read_aligned, simulated_truth
from dualpix.models.stacks.truth import DepthTruth, read_truth

if TYPE_CHECKING:
    from dualpix.models.stacks.network import StackPrediction

LEAST_FRAMES = 3
"""Of every method but ``argmax``, which two do for."""
MOST_FRAMES_UNASKED = 8
"""With nine, the method is as good as the shipped network on rendered scenes (docs/networks/fossa.md), and sharper."""


class StackNetwork(Protocol):
    """See :func:`dualpix.models.stacks.network.predict_stack`."""

    def __call__(self, stack: FocusStack, *, blur_px_per_d: float | None) -> StackPrediction:
        """Depth, told the blur where the lens is not known."""


@dataclass(frozen=True)
class StackOptions:
    """How the depth of a stack is found."""

    method: Method = "blur"
    f_number: float | None = None
    """Which aperture, where a stack has several; the widest by default."""
    truth: Path | None = None
    """Depth of the stack's size, see :func:`~dualpix.models.stacks.truth.read_truth`."""
    network: StackNetwork | None = None
    """Gives depth and, where it has one, confidence in place of the method, whose map is kept beside."""
    network_name: str = ""
    named: bool = True
    """Whether it was asked for: one that was not gives way to the method where the two contradict one another."""
    lens: Mapping[str, float] = field(default_factory=dict)
    """``focal_length_mm`` and ``pixel_pitch_um`` (of the decoded frames) that the stack lacks or has wrong."""
    also: Sequence[Format] = ()
    """Files for other programs."""


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

    Frames that ``dualpix capture align`` has not aligned are aligned here, to the one that shows most. Without
    distances there is no depth: the number of the sharpest frame is written then.

    Raises:
        DualpixError: the folder is no stack, a frame is damaged or belongs to another one, nothing can be measured, or
            the truth does not fit.
    """
    read = read_aligned(stack_folder, options.f_number)
    stack = replace(read.stack, lens=replace(read.stack.lens, **options.lens))
    truth = _truth_of(stack_folder, read, options.truth)
    started = time.perf_counter()
    by_method = _by_method(stack, options)
    network = options.network if options.named or _suits_a_network(stack) else None
    predicted = None if network is None else network(stack, blur_px_per_d=_found_blur(by_method))
    seconds = round(time.perf_counter() - started, 3)
    result, details, beside = _chosen(stack, by_method, predicted, options)
    if predicted is None or predicted.confidence is None:
        check_measured(stack, result, stack_folder.name)
    elif not options.named:  # whoever names a network may want its guess at a wall
        check_measured(stack, by_method, stack_folder.name)
    details["notes"] = [
        *(stack_notes.strangers(stack, read.alignment) if read.alignment is not None else ()),
        *stack_notes.little_measured(result.measured_fraction),
        *stack_notes.lens_unknown(stack, network=predicted is not None),
        *(stack_notes.beyond_the_sweep(stack, by_method) if isinstance(by_method, FocusDepth) else ()),
        *details["notes"],
    ]
    details |= {"inputs": [stack_folder.name], "seconds": seconds}
    if truth is not None and isinstance(by_method, FocusDepth):
        details["error"] = _errors(stack, by_method, predicted, truth)
    return write_focus_depth(folder, stack, result, details, beside, options.also)


def _by_method(stack: FocusStack, options: StackOptions) -> Result:
    method = options.method
    if options.network is not None and len(stack.frames) < LEAST_FRAMES:
        method = "argmax"
    return depth_from_focus(stack, method) if stack.focus_distance_m is not None else index_from_focus(stack, method)


def _suits_a_network(stack: FocusStack) -> bool:
    """Whether the shipped network is worth its time: of few frames it knows more than the method, of many no more."""
    return stack.focus_distance_m is not None and len(stack.frames) <= MOST_FRAMES_UNASKED


def _found_blur(by_method: Result) -> float | None:
    """Of an unknown lens, in the frames, for a network that has to know it."""
    if isinstance(by_method, FocusDepth) and by_method.blur_source == "found":
        return by_method.blur_px_per_d
    return None


def _chosen(
    stack: FocusStack, by_method: Result, predicted: StackPrediction | None, options: StackOptions
) -> tuple[Result, dict[str, Any], Mapping[str, FloatImage]]:
    """The result that is shown, what is to be told of it, and the maps beside it."""
    if predicted is None or not isinstance(by_method, FocusDepth):
        return by_method, {"notes": []}, {}
    apart, doubts = stack_notes.differs(stack, predicted.depth_m, by_method)
    told: dict[str, Any] = {"network_from_method_d": apart}
    if doubts and not options.named:
        notes = [stack_notes.gave_way(options.network_name, by_method.method)]
        told |= {"model": None, "model_beside": options.network_name, "notes": notes}
        return by_method, told, {f"depth_m_{options.network_name}": predicted.depth_m}
    result = replace(by_method, depth_m=predicted.depth_m, diopters=np.float32(1) / predicted.depth_m)
    if predicted.confidence is not None:
        result = replace(result, confidence=predicted.confidence)
    told |= {
        "method": f"focus stack, {options.network_name}",
        "method_beside": by_method.method,
        "model": options.network_name,
        "confidence_of": "method" if predicted.confidence is None else "network",
        "notes": [*stack_notes.thinned_out(stack, predicted.frames), *doubts],
    }
    return result, told, {f"depth_m_{by_method.method}": by_method.depth_m}


def _errors(
    stack: FocusStack, by_method: FocusDepth, predicted: StackPrediction | None, truth: _Truth
) -> dict[str, Any]:
    """Of the network, of the method, and of the yardstick: the frame in which a pixel is sharpest, as it comes."""
    plain = by_method if by_method.method == "argmax" else depth_from_focus(stack, "argmax")
    maps = {"method": by_method.depth_m, "sharpest_frame": plain.depth_m}
    if predicted is not None:
        maps = {"network": predicted.depth_m, **maps}
    errors: dict[str, Any] = {name: depth_errors(found, truth.depth.depth_m) for name, found in maps.items()}
    return errors | {"truth": truth.source, "truth_unit": truth.depth.unit}


@dataclass(frozen=True)
class _Truth:
    depth: DepthTruth
    source: str
    """``file``, or ``simulated camera``."""


def _truth_of(folder: Path, read: AlignedStack, path: Path | None) -> _Truth | None:
    """That of a file; else, of a simulated camera's capture, the scene that it photographed."""
    stack = read.stack
    if path is None:
        simulated = simulated_truth(folder, read)
        return None if simulated is None else _Truth(DepthTruth(simulated, "m"), "simulated camera")
    if stack.focus_distance_m is None:
        raise DualpixError(
            "--truth was given with a stack that does not say where its frames are focused",
            expected="distances, to have a depth in m",
            hint=f"say them with: {NO_METRES_HINT}",
        )
    return _Truth(read_truth(path, stack.frames.shape[1:3]), "file")


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
            f"{share:.0%}" if share >= stack_notes.LITTLE else f"{share:.1%}",
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
    shown = {"network": "", "method": "the method: ", "sharpest_frame": "the sharpest frame alone: "}
    known = [(name, words) for name, words in shown.items() if name in error]
    first, *others = [_error_text(error[name]) if place == 0 else f"{words}{_error_text(error[name])}"
                      for place, (name, words) in enumerate(known)]  # fmt: skip
    what = "mean error against the scene that was simulated" if error["truth"] == "simulated camera" else "mean error"
    text = f"{what} {first} ({'; '.join(others)})"
    return text + ("; the truth holds integers, read as mm" if error["truth_unit"] == "mm" else "")


def _error_text(error: dict[str, float | None]) -> str:
    relative = "none, all is at infinity" if error["abs_rel"] is None else f"{error['abs_rel']:.3f}"
    return f"{error['mae_d']:.3f} D, AbsRel {relative}"
