"""``make bench``: how long decoding and rendering take, beside a reference measured in the same interleaved rounds.

    python -m benchmarks.run [--suite decode-cr2 --suite render] [-o benchmarks/results]

Milliseconds of one machine mean little on another, ratios carry further: each suite has a reference that is measured in
the same rounds, so that a slow moment hits both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import rawpy
import tifffile
import torch
from benchmarks.depth import confidence_suite
from benchmarks.record import Figure, Result, Row, machine_slug, new_result
from benchmarks.render import RENDER_SUITES
from benchmarks.suite import Suite
from benchmarks.training_data import loading_suite
from tests.support.fixtures import Kind, Recipe, suffix, write, write_full_size

from dualpix.capture.progress import ProgressLine
from dualpix.capture.raw import decode_capture, read_planes
from dualpix.capture.raw.develop.layout import LAYOUTS

RESULTS = Path(__file__).parent / "results"
_FLOOR = "LibRaw alone, both frames"
_DUALPIX = [str(Path(sys.executable).with_name("dualpix"))]
_REPORT_PEAK = """
import sys
from pathlib import Path
from dualpix.capture.cli import main
try:
    main(sys.argv[1:])
finally:
    peak_kb = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    print(peak_kb * 1024, file=sys.stderr)
"""
_LOOP = "rawpy, one at a time, mosaics"


def decode_suite(kind: Kind, full_size: bool = True, rounds: int = 7) -> Suite:
    """Decoding one raw; the floor is LibRaw alone unpacking its two frames, one after the other."""

    def build(folder: Path) -> Mapping[str, Callable[[], object]]:
        path = folder / f"capture{suffix(kind)}"
        _write_raw(kind, path, full_size)

        def views(**options: Any) -> None:
            capture = decode_capture(path, **options)
            for name in ("left", "right", "combined"):
                capture.view(name)  # type: ignore[arg-type]

        return {
            _FLOOR: lambda: [libraw_unpack(path, index) for index in (0, 1)],
            "frames, derived half, masks": lambda: read_planes(path),
            "superpixel views, as read": lambda: views(equalise=False),
            "superpixel views, equalised": lambda: views(),
            "rgb views, equalised": lambda: views(layout="rgb"),
        }

    title = f"Decoding one {kind} of {'full' if full_size else 'small'} size to arrays"
    return Suite(title, _FLOOR, rounds, build)


def batch_suite(full_size: bool = True, files: int = 20, rounds: int = 5) -> Suite:
    """The whole command on a folder of raws, beside what one would write with rawpy in an evening."""

    def build(folder: Path) -> Mapping[str, Callable[[], object]]:
        _write_raw("CR3-crop", folder / "first.CR3", full_size)
        shots = folder / "shots"
        shots.mkdir()
        for index in range(files):
            shutil.copyfile(folder / "first.CR3", shots / f"IMG_{index:04}.CR3")
        outputs = (folder / f"out{index}" for index in count())

        def ours(*options: str) -> None:
            output = next(outputs)
            decode_command(shots, output, *options)
            shutil.rmtree(output)

        def loop() -> None:
            output = next(outputs)
            rawpy_loop(sorted(shots.iterdir()), output)
            shutil.rmtree(output)

        plain = ("--layout", "mosaic", "--no-equalise")
        return {
            _LOOP: loop,
            "dualpix, mosaics as read": lambda: ours(*plain),
            "dualpix, mosaics as read, --jobs 2": lambda: ours(*plain, "--jobs", "2"),
            "dualpix, superpixels equalised, --jobs 2": lambda: ours("--jobs", "2"),
        }

    title = f"Decoding {files} CR3 files of {'crop-mode' if full_size else 'small'} size to TIFF, whole command"
    return Suite(title, _LOOP, rounds, build)


def memory_suite(full_size: bool = True, rounds: int = 3) -> Suite:
    """Peak memory of the whole command on one raw, beside one sensor frame as float32."""

    def build(folder: Path) -> Mapping[str, Callable[[], float]]:
        path = folder / "capture.CR2"
        frame_mb = _write_raw("CR2", path, full_size) * 4 / 1e6
        output = folder / "out"
        return {
            "one sensor frame as float32": lambda: frame_mb,
            "dualpix --version": lambda: peak_memory_mb("--version"),
            **{
                f"decode --layout {layout}": partial(
                    peak_memory_mb, "decode", str(path), "-o", str(output), "--layout", layout
                )
                for layout in LAYOUTS
            },
        }

    title = f"Peak memory of decoding one {'full-size' if full_size else 'small'} CR2 to TIFF, whole command"
    return Suite(
        title,
        "one sensor frame as float32",
        rounds,
        build,
        quantity="memory",
        unit="MB",
        sample=lambda run: float(run()),
    )


SUITES: dict[str, Callable[[], Suite]] = {
    "decode-cr2": lambda: decode_suite("CR2"),
    "decode-cr3": lambda: decode_suite("CR3"),
    "decode-batch": batch_suite,
    "decode-memory": memory_suite,
    "depth-confidence": confidence_suite,
    "training-data": loading_suite,
    **RENDER_SUITES,
}


def run_suite(name: str, suite: Suite, on_round: Callable[[int, int], None] = lambda done, total: None) -> Result:
    """Measure a suite: one round to warm up, then interleaved ones."""
    load = os.getloadavg()[0]
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch, _threads(suite.threads):
        runs = suite.build(Path(scratch))
        for done in range(suite.rounds + 1):
            for label, run in runs.items():
                samples.setdefault(label, []).append(suite.sample(run))
            on_round(done, suite.rounds + 1)
    measured = {label: values[1:] for label, values in samples.items()}
    reference = np.asarray(measured[suite.reference])
    rows = []
    for label, values in measured.items():
        figures = {suite.quantity: Figure.of(values)}
        if label != suite.reference:
            figures["times the reference"] = Figure.of((np.asarray(values) / reference).tolist())
        rows.append(Row(label, figures))
    threads = f"{suite.threads} thread{'s' if suite.threads > 1 else ''}" if suite.threads else "threads as installed"
    notes = f"{threads}; reference: {suite.reference}; load average at the start {load:.1f} on {os.cpu_count()} CPUs."
    columns = {suite.quantity: suite.unit, "times the reference": ""}
    return new_result(suite.title, f"python -m benchmarks.run --suite {name}", columns, rows, notes=notes)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = cv2.getNumThreads(), torch.get_num_threads()
    if number is not None:
        cv2.setNumThreads(number)
        torch.set_num_threads(number)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def libraw_unpack(path: Path, index: int) -> None:
    """What any reader of the frame has to wait for."""
    with rawpy.RawPy() as raw:
        raw.set_unpack_params(shot_select=index)
        raw.open_file(str(path))
        raw.unpack()
        assert raw.raw_image is not None


def rawpy_loop(paths: list[Path], output: Path) -> None:
    """Both frames of each file, the difference, three 16-bit TIFFs: no levels, no checks, no metadata."""
    for path in paths:
        folder = output / path.stem
        folder.mkdir(parents=True)
        frames = []
        for index in (0, 1):
            with rawpy.RawPy() as raw:
                raw.set_unpack_params(shot_select=index)
                raw.open_file(str(path))
                raw.unpack()
                frames.append(raw.raw_image_visible.copy())
                black = raw.black_level_per_channel[0]
        other = np.clip(frames[0].astype(np.int32) - frames[1] + black, 0, 65535).astype(np.uint16)
        for name, image in zip(("combined", "left", "right"), (*frames, other), strict=True):
            tifffile.imwrite(folder / f"{name}.tiff", image)


def decode_command(path: Path, output: Path, *options: str) -> None:
    """The command a user types, in a process of its own."""
    subprocess.run([*_DUALPIX, "decode", str(path), "-o", str(output), *options], check=True, capture_output=True)


def peak_memory_mb(*arguments: str) -> float:
    """Largest resident size of one command. The child reads its own: the kernel's sum would include our fork."""
    done = subprocess.run([sys.executable, "-c", _REPORT_PEAK, *arguments], check=True, capture_output=True, text=True)
    return int(done.stderr.split()[-1]) / 1e6


def _write_raw(kind: Kind, path: Path, full_size: bool) -> int:
    """Write a raw; the number of its pixels."""
    truth = write_full_size(kind, path) if full_size else write(path, Recipe(kind))
    return int(truth.composite.size)


@click.command()
@click.option("--suite", "names", type=click.Choice(list(SUITES)), multiple=True, default=list(SUITES))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the result files.")
def main(names: tuple[str, ...], output: Path) -> None:
    """Time the suites and write one result file each."""
    for name in names:
        with ProgressLine(name) as line:
            result = run_suite(name, SUITES[name](), line.update)
        path = output / f"{name}--{machine_slug(result.machine)}.json"
        result.write(path)
        click.echo(f"{result.title}\n{result.notes}")
        for row in result.rows:
            shown = "   ".join(
                f"{f.value:8.3f} {result.columns[column]} (IQR {f.iqr:.3f}) {column}"
                for column, f in row.figures.items()
            )
            click.echo(f"  {row.label:28} {shown}")
        click.echo(f"  -> {path}")


if __name__ == "__main__":
    main()
