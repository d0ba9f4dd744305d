"""What a capture costs beyond the camera's own time: moves, settling, exposure and transfer.

    python -m benchmarks.capture [-o benchmarks/results]

Ten frames from each kind of camera, by the real command. Counted is from each frame's arrival, in the journal, to the
next one's; the camera's own time is what the test camera was busy in between.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
from benchmarks.record import Figure, Row, machine_slug, new_result
from tests.support.served import KINDS, TRUTH, camera_arguments

from dualpix.capture.cameras.hidden.truth import read_state

NAME = "capture"
RESULTS = Path(__file__).parent / "results"
_PLAN = ("--near", "0.5", "--far", "4", "--count", "10", "--apertures", "2.8")
_ROUNDS = 3


def intervals_ms(kind: str, seed: int) -> list[tuple[float, float]]:
    """(wall, camera busy) in ms between each frame and the next of one capture."""
    with tempfile.TemporaryDirectory() as name:
        folder, env = Path(name), dict(os.environ)
        command = [sys.executable, "-c", "from dualpix.capture.cli import main; main()", "capture"]
        with camera_arguments(kind, folder, seed, env) as camera:
            subprocess.run(
                [*command, *camera, "-o", str(folder / "stack"), *_PLAN], env=env, check=True, capture_output=True
            )
        events = [json.loads(line) for line in (folder / "stack" / "journal.jsonl").read_text().splitlines()]
        seen = [1e3 * datetime.fromisoformat(e["at"]).timestamp() for e in events if e["event"] == "shot"]
        busy = [1e3 * shot.busy_s for shot in read_state(folder / TRUTH)]
    assert len(seen) == len(busy) == 10, (len(seen), len(busy))
    return [(b - a, d - c) for (a, b), (c, d) in zip(pairwise(seen), pairwise(busy), strict=True)]


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the result.")
def main(output: Path) -> None:
    """Measure all kinds and write the result."""
    rows = []
    for kind in KINDS:
        times = np.array([pair for seed in range(_ROUNDS) for pair in intervals_ms(kind, seed)])
        over = times[:, 0] - times[:, 1]
        figures = {"wall": times[:, 0], "camera": times[:, 1], "overhead": over}
        rows.append(Row(kind, {name: Figure.of([float(v) for v in values]) for name, values in figures.items()}))
        click.echo(f"{kind}: wall {np.median(times[:, 0]):.0f} ms, camera {np.median(times[:, 1]):.0f} ms a frame")
    columns = {"wall": "ms a frame", "camera": "ms a frame", "overhead": "ms a frame"}
    notes = (
        f"{_ROUNDS} captures of 10 stops; libgphoto2, HTTP and adb are the real ones, the cameras behind them are not."
    )
    result = new_result("Capture: overhead", "python -m benchmarks.capture", columns, rows, notes=notes)
    result.write(output / f"{NAME}--{machine_slug(result.machine)}.json")


if __name__ == "__main__":
    main()
