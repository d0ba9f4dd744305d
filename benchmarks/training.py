"""How fast the default network trains on whatever device is there: samples a second, share of waiting, peak memory.

    python -m benchmarks.training [--against ANOTHER_CHECKOUT] [--rounds 3] [--json] [-- more options of train]

Each run is the whole command in a process of its own, on kept scenes, and is timed by its own log from the third step
on: what comes before is start-up. With ``--against`` both checkouts run in turn, so that a slow moment hits both.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import click
from rich import box
from rich.console import Console
from rich.table import Table

from dualpix.capture.processor import pytorch_processor

_HERE = Path(__file__).resolve().parent.parent
_AREAS = ("capture", "models", "quantize", "export")
_FIRST = 3
_PROGRAM = """
import sys
from dualpix.capture.cli import main
try:
    main(sys.argv[1:])
finally:
    import json, os
    from pathlib import Path
    status = Path("/proc/self/status")
    peak = int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 if status.is_file() else 0
    import torch
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    Path(os.environ["DUALPIX_PEAK"]).write_text(json.dumps([peak, gpu]))
"""


@dataclass(frozen=True)
class Speed:
    """Of one run."""

    samples_per_s: float
    waiting: float
    """Share of the time for which the training stood still because its data were not there yet."""
    peak_mb: float
    device_peak_mb: float
    """Of a GPU; 0 where there is none."""
    precision: str


def run(checkout: Path, folder: Path, cache: Path, steps: int, batch_size: int, more: tuple[str, ...]) -> Speed:
    """Train once, and read what its log says."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(checkout / area) for area in _AREAS),
        "DUALPIX_PEAK": str(folder / "peak.json"),
    }
    folder.mkdir(parents=True)
    arguments = [
        "train", "-o", str(folder / "run"), "--steps", str(steps), "--batch-size", str(batch_size), "--samples", "64",
        "--scenes", "simple", "--quality", "standard", "--optics", "model", "--cache", str(cache),
        "--eval-samples", "0", "--checkpoint-every", "100000", *more,
    ]  # fmt: skip
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{checkout}: {done.stderr.strip().splitlines()[-1]}")
    with (folder / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    first, last = rows[_FIRST - 1], rows[-1]
    seconds = float(last["seconds"]) - float(first["seconds"])
    waited = float(last["waited_s"]) - float(first["waited_s"])
    peak, device_peak = json.loads((folder / "peak.json").read_text())
    training = json.loads((folder / "run" / "card.json").read_text())["training"]
    precision = training.get("precision", "bfloat16" if training.get("bfloat16") else "float32")
    return Speed(
        (len(rows) - _FIRST) * batch_size / seconds, waited / seconds, peak / 1e6, device_peak / 1e6, precision
    )


@click.command()
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="Checkout to measure in turn.")
@click.option("--steps", type=click.IntRange(_FIRST + 2), default=30)
@click.option("--batch-size", type=click.IntRange(1), default=8)
@click.option("--rounds", type=click.IntRange(1), default=3)
@click.option("--json", "as_json", is_flag=True)
@click.argument("more", nargs=-1)
def main(against: Path | None, steps: int, batch_size: int, rounds: int, as_json: bool, more: tuple[str, ...]) -> None:
    """Measure training; MORE are options of `dualpix train`, after `--`."""
    sides = {"this": _HERE} | ({"against": against.resolve()} if against else {})
    found: dict[str, list[Speed]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(-1, rounds):  # the first round renders the scenes of each side
            for name, checkout in sides.items():
                folder = Path(temporary) / f"{name}{number}"
                speed = run(checkout, folder, Path(temporary) / f"scenes-{name}", steps, batch_size, more)
                if number >= 0:
                    found[name].append(speed)
    record = {
        "class": pytorch_processor().describe()["class"],
        "ratios": [a.samples_per_s / b.samples_per_s for a, b in zip(*found.values(), strict=True)] if against else [],
        **{name: [asdict(speed) for speed in speeds] for name, speeds in found.items()},
    }
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    table = Table("", "samples/s", "waiting", "peak MB", "GPU MB", "precision", box=box.SIMPLE_HEAD)
    for name, speeds in found.items():
        middle = [median(getattr(s, key) for s in speeds) for key in ("samples_per_s", "waiting", "peak_mb")]
        device = f"{median(s.device_peak_mb for s in speeds):.0f}"
        table.add_row(name, f"{middle[0]:.1f}", f"{middle[1]:.1%}", f"{middle[2]:.0f}", device, speeds[0].precision)
    Console().print(table)
    if record["ratios"]:
        shown = ", ".join(f"{ratio:.2f}" for ratio in sorted(record["ratios"]))
        click.echo(f"{record['class']}: this over against, by rounds: {shown}")


if __name__ == "__main__":
    main()
