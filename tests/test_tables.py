"""Tables hold on 80 columns: no figure is cut or broken, names give way by folding, and are no markup."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from dualpix.capture.raw import cli as raw_cli
from dualpix.capture.raw.batch.jobs import Job, Outcome
from dualpix.export.verify import ArtefactCheck, Verification
from dualpix.export.verify import cli as verify_cli
from dualpix.models.predict import cli_run as predict_run
from dualpix.models.stacks import depth as stack_depth
from dualpix.quantize.search import cli_run
from dualpix.quantize.search.assignment import Assignment, LayerSensitivity

NAME = "IMG_20240312_154322_[dual]_pixel"
FOLDER = Path("/home/someone/pictures/results") / NAME
PERCENTILES = {"p1": -12.345, "p50": -1.234, "p99": 15.678}


def outcomes(record: dict[str, Any]) -> list[Outcome]:
    job = Job(Path(f"{NAME}.CR3"), None, FOLDER)
    return [Outcome(job, record, None, "done"), Outcome(job, None, "damaged", "failed")]


def depths() -> Table:
    record = {
        "method": "difusenet-compact at 1008 and 672 px",
        "measured_fraction": 1.0,
        "disparity_percentiles_px": PERCENTILES,
        "depth": {"metric": False, "missing": [1, 2, 3, 4, 5]},
        "seconds": 1234.5,
    }
    return predict_run.table(outcomes(record))


def stacks() -> Table:
    percentiles = {"p1": 0.3521, "p50": 1.234, "p99": 12.345}
    record = {"measured_fraction": 1.0, "frames": 100, "seconds": 1234.5, "metric": True}
    return stack_depth.table(outcomes({**record, "depth_m": percentiles, "percentiles_m": percentiles}))


def decoded() -> Table:
    size = {"width": 8688, "height": 5792, "channels": 3}
    record = {"decoder": "canon-dual-pixel", "size": size, "baseline": "x", "saturated_fraction": 0.0123}
    return raw_cli._table(outcomes(record), FOLDER.parent)


def verified() -> Table:
    file = "difusenet-compact-coreml-delegate-fp16.pte"
    checks = (
        ArtefactCheck("coreml-delegate-fp16", file, None, 40.0, "needs macOS 15 or later to run"),
        ArtefactCheck("xnnpack-int8-dynamic", file, 123.4, 60.0, "interpreted"),
    )
    return verify_cli._table(Verification(Path("x"), 9, checks))


def layers() -> Table:
    path = "dual_pixel.half_attention.stages.3.query.project"
    found = LayerSensitivity(path, macs=10**9, weights=10**6, channels=32, saved=1.234e-2, added=-5.678e-3)
    held: dict[str, Any] = dict.fromkeys(("held_back_float_loss", "held_back_int8_loss", "held_back_loss"))
    losses: dict[str, Any] = {"budget": 0.01, "float_loss": 0.1, "int8_loss": 0.2, "loss": 0.1, **held}
    plan = Assignment((path,), **losses, int8_share=0.9, total_macs=10**9, layers=(found,), frontier=())
    return cli_run.table_of("difusenet-compact", plan)


@pytest.mark.parametrize(
    ("table", "whole", "folded"),
    [
        (depths, ("-12.3 / -1.23 / 15.7", "1234.5", "5 lens data missing", "p1 / p50 / p99", "100%"), f"{NAME}.CR3"),
        (stacks, ("1234.5", "p1 / p50 / p99", "100%"), f"{NAME}.CR3"),
        (decoded, ("canon-dual-pixel", "8688x5792x3", "1.23%"), f"{NAME}.CR3"),
        (verified, ("coreml-delegate-fp16", "123 (≥ 60)"), "difusenet-compact-coreml-delegate-fp16.pte"),
        (layers, ("100.00%", "+1.23e-02", "-5.68e-03", "float"), "dual_pixel.half_attention.stages.3.query.project"),
    ],
)
def test_figures_stay_whole_and_names_fold(table: Any, whole: tuple[str, ...], folded: str) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table())
    lines = console.export_text().splitlines()
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80 and "…" not in text, text
    for figure in whole:
        assert figure in text, (figure, text)
    assert _put_together(lines, folded) == folded, text


def _put_together(lines: list[str], name: str) -> str:
    """The pieces of a folded name, put together: those words of the lines that are parts of it, in order."""
    left, found = name, ""
    for line in lines:
        for word in line.split():
            if len(word) > 1 and left.startswith(word):
                left, found = left[len(word) :], found + word
    return found
