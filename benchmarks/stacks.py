"""Depth of focus stacks by each method, on every stack whose depth is known: error, and processor time.

    python -m benchmarks.stacks [-o docs/results/depth]

Stacks are those of :mod:`benchmarks.stack_truths`: rendered ones and captures of the simulated camera always, data sets
where ``DUALPIX_TEST_DATA`` is. The methods take turns on each stack; alignment is theirs in common and not timed. The
last row is a stack of the size that larger ones are reduced to.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
import cv2
import numpy as np
from benchmarks.record import Figure, Result, Row, new_result
from benchmarks.stack_truths import Known, shared_data, sources

from dualpix.capture.stack.depth.focus_depth import METHODS, WORKING_SIDE_PX, FocusDepth, Method, depth_from_focus

NAME = "1-stacks"
RESULTS = Path(__file__).parents[1] / "docs" / "results" / "depth"
COLUMNS = {
    "mean error": "steps",
    "median error": "steps",
    "off by over a step": "%",
    "mean error where measured": "steps",
    "measured": "%",
    "sharp picture, PSNR": "dB",
    "time": "s",
}
_ROUNDS = 3
_CONFIDENT = 0.5
_BORDER_PX = 8


def judged(known: Known, found: FocusDepth) -> dict[str, float]:
    """Figures of one result, by column."""
    error = np.abs(found.diopters - known.truth_d) / known.step_d
    there = np.isfinite(error)
    sure = there & (found.confidence >= _CONFIDENT)
    figures = {
        "mean error": float(error[there].mean()),
        "median error": float(np.median(error[there])),
        "off by over a step": 100 * float(np.mean(error[there] > 1)),
        "measured": 100 * float(sure.sum() / there.sum()),
    }
    if sure.any():
        figures["mean error where measured"] = float(error[sure].mean())
    if known.sharp is not None:
        inside = (slice(_BORDER_PX, -_BORDER_PX),) * 2
        apart = np.clip(found.all_in_focus[inside], 0, 1) - np.clip(known.sharp[inside], 0, 1)
        figures["sharp picture, PSNR"] = -10 * math.log10(float(np.mean(apart**2)))
    return figures


def measured(known: Known, rounds: int = _ROUNDS) -> dict[Method, dict[str, float]]:
    """Figures of each method on one stack; the time is the median of interleaved rounds."""
    times: dict[Method, list[float]] = {method: [] for method in METHODS}
    figures: dict[Method, dict[str, float]] = {}
    for _ in range(rounds):
        for method in METHODS:
            started = time.process_time()
            found = depth_from_focus(known.stack, method)
            times[method].append(time.process_time() - started)
            figures[method] = judged(known, found)
    return {method: {**figures[method], "time": float(np.median(times[method]))} for method in METHODS}


def enlarged(known: Known, side_px: int = WORKING_SIDE_PX) -> Known:
    """The same stack with frames of this long side: what it costs, not how well it is solved."""
    height, width = known.truth_d.shape
    factor = side_px / max(height, width)
    size = round(width * factor), round(height * factor)
    frames = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in known.stack.frames])
    lens = replace(known.stack.lens, pixel_pitch_um=known.stack.lens.pixel_pitch_um / factor)
    truth = cv2.resize(known.truth_d, size, interpolation=cv2.INTER_NEAREST)
    group = f"{len(frames)} frames of {size[0]} x {size[1]} px"
    return Known(group, known.name, replace(known.stack, frames=frames, lens=lens), np.asarray(truth, np.float32))


def rows(found: Mapping[str, Sequence[dict[Method, dict[str, float]]]]) -> list[Row]:
    """A row for each group and method: means over the stacks of the group."""
    return [
        Row(
            f"{group} ({len(stacks)}): {method}",
            {
                column: Figure.of([figures[method][column] for figures in stacks], "mean")
                for column in COLUMNS
                if all(column in figures[method] for figures in stacks)
            },
        )
        for group, stacks in found.items()
        for method in METHODS
    ]


def result(data: Path | None, rounds: int = _ROUNDS, only: str = "") -> Result:
    """Measure all stacks at hand whose group has ``only`` in its name."""
    load, found = os.getloadavg()[0], dict[str, list[dict[Method, dict[str, float]]]]()
    largest: Known | None = None
    with tempfile.TemporaryDirectory() as scratch:
        for source in sources(Path(scratch), data):
            for known in source():
                if only not in known.group:
                    continue
                largest = largest or known
                found.setdefault(known.group, []).append(measured(known, rounds))
                click.echo(f"{known.group}, {known.name}")
    if largest is not None:
        big = enlarged(largest)
        found[big.group] = [{method: {"time": f["time"]} for method, f in measured(big, rounds).items()}]
    notes = (
        "A step is the distance between frames in diopters; known depths only. Time is the processor's, of the method "
        f"alone, median of {rounds} interleaved rounds on one thread; load average at the start {load:.1f} on "
        f"{os.cpu_count()} CPUs."
    )
    command = "DUALPIX_TEST_DATA=DATA python -m benchmarks.stacks" if data else "python -m benchmarks.stacks"
    return new_result("Depth from focus stacks", command, COLUMNS, rows(found), notes=notes)


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the result.")
@click.option("--only", default="", help="Groups with this in their name.")
def main(output: Path, only: str) -> None:
    """Measure every stack and write the result."""
    cv2.setNumThreads(1)
    measured_now = result(shared_data(), only=only)
    for row in measured_now.rows:
        shown = "  ".join(f"{figure.value:8.3f} {COLUMNS[name]}" for name, figure in row.figures.items())
        click.echo(f"{row.label:50} {shown}")
    measured_now.write(output / f"{NAME}.json")


if __name__ == "__main__":
    main()
