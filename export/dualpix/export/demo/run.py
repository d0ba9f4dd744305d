"""The whole way on a simulated camera, from a dual-pixel raw to a measured phone model: what ``dualpix demo`` does.

Nothing in it is special: each stage is what the command of its name does, on files that the stage before wrote.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dualpix.capture.cameras import SimulatedCamera, SimulatedShot
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.files import make_output_dir, write_json
from dualpix.capture.pictures.colour_map import Panel, Rgb, default_limits, figure
from dualpix.capture.pictures.display import to_display
from dualpix.capture.progress import ProgressLine
from dualpix.capture.raw import RawCapture, decode_capture
from dualpix.capture.raw.batch.jobs import DecodeOptions, Job
from dualpix.capture.raw.batch.outputs import write_capture
from dualpix.capture.types import FloatImage
from dualpix.export.command.show import table_of
from dualpix.export.flow import ExportResult, Picture, export_model
from dualpix.export.recipes import DEFAULT_RECIPES
from dualpix.export.report.exported import write_report
from dualpix.models.metrics import affine_invariant_error, mean_absolute_error
from dualpix.models.predict.cli_run import depth_of
from dualpix.models.predict.disparity import match_disparity, predict_disparity
from dualpix.models.zoo import LoadedModel
from dualpix.quantize.calibration import rendered_calibration, rendered_evaluation

_STAGES = ("simulated camera", "decode", "depth", "export", "report")
_SIZE_HW = (384, 512)
PHONE = "phone"
"""The export's folder within the output."""


@dataclass(frozen=True)
class DepthScore:
    """One method on the simulated capture, against the simulator's truth."""

    method: str
    mae_px: float
    ai1: float
    ai2: float
    one_minus_abs_rho: float


@dataclass(frozen=True)
class DemoResult:
    """What the demo found."""

    folder: Path
    scores: tuple[DepthScore, ...]
    export: ExportResult
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The content of ``demo.json``."""
        return {
            "scores": [asdict(s) for s in self.scores],
            "seconds": {k: round(v, 1) for k, v in self.seconds.items()},
            "gate_passed": self.export.passed,
            "machine": dict(self.export.benchmark.machine),
        }


def run_demo(output: Path, *, seed: int, model: LoadedModel) -> DemoResult:
    """Run all stages; their results stand in ``output``.

    Raises:
        OutputError: the folder cannot be written.
    """
    make_output_dir(output)
    seconds: dict[str, float] = {}
    with ProgressLine("demo") as line:
        clock = _Clock(line, seconds)
        clock.start("simulated camera")
        shot = SimulatedCamera().shoot(output / "capture.dng", seed)
        clock.start("decode")
        capture = decode_capture(shot.path)
        write_capture(capture, [shot.path], output / "decoded")
        clock.start("depth")
        depth_of(
            Job(shot.path, None, output / "depth"), DecodeOptions(), lambda image: predict_disparity(image, model), {}
        )
        scores, maps = _against_truth(capture, shot, model)
        clock.start("export")
        result = export_model(
            model,
            output / PHONE,
            DEFAULT_RECIPES,
            rendered_calibration(16, _SIZE_HW),
            rendered_evaluation(8, _SIZE_HW),
            rounds=9,
            pictures=[_against_truth_picture(_comparison(capture, shot, maps), scores)],
        )
        clock.start("report")
        write_report(output / PHONE, output / "report.html")
        clock.stop()
    demo = DemoResult(output, scores, result, seconds)
    write_json(output / "demo.json", demo.to_json())
    return demo


def show(result: DemoResult, *, as_json: bool) -> None:
    """The result on stdout."""
    if as_json:
        echo_json(result.to_json())
        return
    Console().print(_score_table(result.scores))
    Console().print(table_of(result.export))
    for line in result.export.speed_notes:
        click.echo(line)
    verdict, total = "PASS" if result.export.passed else "FAIL", sum(result.seconds.values())
    click.echo(f"gate: {verdict}; {total:.0f} s; open {result.folder / 'report.html'}")


class _Clock:
    """Announces each stage and notes how long it took."""

    def __init__(self, line: ProgressLine, seconds: dict[str, float]) -> None:
        self._line, self._seconds = line, seconds
        self._stage, self._since = "", 0.0

    def start(self, stage: str) -> None:
        self.stop()
        self._line.update(_STAGES.index(stage), len(_STAGES), stage)
        self._stage, self._since = stage, time.monotonic()

    def stop(self) -> None:
        if self._stage:
            self._seconds[self._stage] = time.monotonic() - self._since


def _against_truth(
    capture: RawCapture, shot: SimulatedShot, model: LoadedModel
) -> tuple[tuple[DepthScore, ...], dict[str, FloatImage]]:
    maps = {
        model.name: predict_disparity(capture.image, model).disparity_px,
        "SGBM": match_disparity(capture.image).disparity_px,
    }
    return tuple(_score(name, disparity, shot.disparity_px) for name, disparity in maps.items()), maps


def _score(name: str, disparity_px: FloatImage, truth_px: FloatImage) -> DepthScore:
    affine = affine_invariant_error(disparity_px, truth_px)
    error = mean_absolute_error(disparity_px, truth_px)
    return DepthScore(name, error, affine.ai1, affine.ai2, affine.one_minus_abs_rho)


def _comparison(capture: RawCapture, shot: SimulatedShot, maps: dict[str, FloatImage]) -> Rgb:
    limits = default_limits(shot.disparity_px, None, "diverging")
    panels = [
        Panel("decoded combined view", to_display(capture.image.combined)),
        Panel("true disparity", shot.disparity_px, "diverging", "px", limits=limits),
        *(Panel(name, disparity, "diverging", "px", limits=limits) for name, disparity in maps.items()),
    ]
    return figure(panels, columns=2, panel_px=560)


def _against_truth_picture(image: Rgb, scores: tuple[DepthScore, ...]) -> Picture:
    """The capture's own picture, to stand before those of the export."""
    errors = ", ".join(f"{s.method} {s.mae_px:.2f} px" for s in scores)
    caption = (
        "The simulated capture, decoded from its DNG, and its disparity against the simulator's truth "
        f"(mean absolute error: {errors}); blue is behind the focus plane."
    )
    return Picture("depth-against-truth.png", image, caption)


def _score_table(scores: tuple[DepthScore, ...]) -> Table:
    table = Table(
        "method", "mean error px", "AI(1)", "AI(2)", "1-|ρ|", title="depth of the simulated capture against its truth"
    )
    for s in scores:
        table.add_row(s.method, f"{s.mae_px:.3f}", f"{s.ai1:.4f}", f"{s.ai2:.4f}", f"{s.one_minus_abs_rho:.4f}")
    return table
