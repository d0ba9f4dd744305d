"""``make bench``: how long decoding and rendering take, beside a reference timed in the same interleaved rounds.

    python -m benchmarks.run [--suite decode --suite render] [-o benchmarks/results]

Milliseconds of one machine mean little on another, ratios carry further: each suite has a reference that is timed in
the same rounds, so that a slow moment hits both.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from benchmarks.record import Figure, Result, Row, machine_slug, new_result

from dualpix.capture.progress import ProgressLine
from dualpix.capture.raw import decode
from dualpix.capture.raw.dng import write_dual_pixel_dng
from dualpix.capture.raw.libraw import read_frame
from dualpix.capture.render import PsfModel, render_dual_pixel, render_integral
from dualpix.export.bench import interleaved

RESULTS = Path(__file__).parent / "results"
CANON_5D4_HW = (4544, 6880)
_COLUMNS = {"time": "s", "times the reference": ""}


@dataclass(frozen=True)
class Suite:
    """Things to time against a reference."""

    title: str
    reference: str
    rounds: int
    build: Callable[[Path], Mapping[str, Callable[[], object]]]
    """A scratch folder -> name -> one run; holds the reference."""


def decode_suite(size_hw: tuple[int, int] = CANON_5D4_HW, rounds: int = 5) -> Suite:
    """Decoding a dual-pixel DNG of a full-frame Canon's size; the floor is LibRaw reading its two frames."""

    def build(folder: Path) -> Mapping[str, Callable[[], object]]:
        path = folder / "capture.dng"
        _write_capture(path, size_hw)
        return {
            "LibRaw alone, both frames": lambda: [read_frame(path, index) for index in (0, 1)],
            "decode, as read": lambda: decode(path, equalise=False),
            "decode, equalised": lambda: decode(path),
        }

    megapixels = size_hw[0] * size_hw[1] / 1e6
    title = f"Decoding a dual-pixel DNG of {size_hw[1]}x{size_hw[0]} ({megapixels:.0f} MP, two frames)"
    return Suite(title, "LibRaw alone, both frames", rounds, build)


def render_suite(size_hw: tuple[int, int] = (384, 512), rounds: int = 7) -> Suite:
    """Rendering a dual-pixel pair from RGB-D: layered with occlusion against the integral image without."""

    def build(_: Path) -> Mapping[str, Callable[[], object]]:
        torch.manual_seed(0)
        image = torch.rand(1, 3, *size_hw)
        ramp = torch.linspace(-20.0, 20.0, size_hw[1]).expand(1, 1, *size_hw).contiguous()
        psf = PsfModel()
        return {
            "integral image": lambda: render_integral(image, ramp),
            "layered, 12 layers": lambda: render_dual_pixel(image, ramp, psf, layers=12),
            "layered, 24 layers": lambda: render_dual_pixel(image, ramp, psf, layers=24),
        }

    return Suite(f"Rendering a pair of {size_hw[1]}x{size_hw[0]}, CoC -20..20 px", "integral image", rounds, build)


SUITES: dict[str, Callable[[], Suite]] = {"decode": decode_suite, "render": render_suite}


def run_suite(name: str, suite: Suite, on_round: Callable[[int, int], None] = lambda done, total: None) -> Result:
    """Time a suite on one thread."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        runs = suite.build(Path(scratch))
        cv2_threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            timed = interleaved(runs, size_hw=(0, 0), rounds=suite.rounds, warmup=1, on_round=on_round)
        finally:
            cv2.setNumThreads(cv2_threads)
    reference = np.asarray(timed.latencies[suite.reference].samples_s)
    rows = []
    for label, latency in timed.latencies.items():
        figures = {"time": Figure.of(latency.samples_s)}
        if label != suite.reference:
            ratios = np.asarray(latency.samples_s) / reference
            figures["times the reference"] = Figure.of(ratios.tolist())
        rows.append(Row(label, figures))
    notes = f"One thread; reference: {suite.reference}; load average at the start {load:.1f} on {os.cpu_count()} CPUs."
    return new_result(suite.title, f"python -m benchmarks.run --suite {name}", _COLUMNS, rows, notes=notes)


def _write_capture(path: Path, size_hw: tuple[int, int]) -> None:
    """A noisy texture in both frames; the time of decoding does not depend on what is seen."""
    height, width = size_hw
    rng = np.random.default_rng(0)
    tile = rng.integers(600, 6000, (min(256, height), min(256, width))).astype(np.uint16)
    half = np.tile(tile, (-(-height // tile.shape[0]), -(-width // tile.shape[1])))[:height, :width]
    noise = rng.integers(0, 40, half.shape, np.uint16)
    write_dual_pixel_dng(path, 2 * half - np.uint16(512) + noise, half, white=16383)


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
