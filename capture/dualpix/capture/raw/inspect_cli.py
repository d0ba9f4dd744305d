"""``dualpix inspect``: what is in a file, as a table for people or JSON for machines; and the list of formats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualpix.capture.command.options import FILE, json_option
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError
from dualpix.capture.raw.decoding import DECODERS
from dualpix.capture.raw.formats.dump import Dump
from dualpix.capture.raw.frames.structure import FrameInfo
from dualpix.capture.raw.inspect import Inspection, inspect


@click.command("inspect")
@click.argument("files", nargs=-1, type=FILE, required=True)
@click.option("--right", type=FILE, help="Right file of a pair whose names do not tell, with one left FILE.")
@click.option("--sub", type=FILE, help="DNG of the second frame, with the one FILE that holds the first.")
@click.option("--dump", help="Geometry of one headerless FILE: WIDTHxHEIGHT[xBITS][:ROW_BYTES].")
@click.option("--levels", is_flag=True, help="Unpack the frames: measured black, clip levels, ratio of light.")
@json_option("Answers as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    files: tuple[Path, ...],
    right: Path | None,
    sub: Path | None,
    dump: str | None,
    levels: bool,
    as_json: bool,
) -> None:
    """Say what is in raw files and pictures, and whether they are dual-pixel captures.

    Any CR2, CR3 or DNG, and any picture of a left / right pair. Raw files are read by their headers only, unless
    --levels is given. Exit code 2: a file is damaged, or is nothing that is known here.
    """
    if len(files) != 1 and (right or sub or dump):
        raise click.UsageError("--right, --sub and --dump go with one FILE.")
    geometry = Dump.parse(dump) if dump else None
    answers: list[Inspection | tuple[Path, DualpixError]] = []
    for path in files:
        try:
            answers.append(inspect(path, right=right, sub=sub, dump=geometry, levels=levels))
        except DualpixError as error:
            if (ctx.obj or {}).get("debug") or (len(files) == 1 and not as_json):
                raise
            answers.append((path, error))
    if as_json:
        records = [a.to_json() if isinstance(a, Inspection) else _failure(*a) for a in answers]
        echo_json(records)
    else:
        console = Console()
        for answer in answers:
            for part in _shown(answer):
                console.print(part)
    if any(not isinstance(a, Inspection) or a.broken for a in answers):
        ctx.exit(2)


def formats_json() -> list[dict[str, Any]]:
    """What ``dualpix decode`` takes, in the order the decoders are asked."""
    return [{"name": d.name, "summary": d.summary, "suffixes": list(d.suffixes), "needs": d.needs} for d in DECODERS]


def formats_table() -> Table:
    """:func:`formats_json` for people."""
    table = Table(title="what dualpix decode takes")
    for column in ("decoder", "kind of file", "usual names", "what to give"):
        table.add_column(column, overflow="fold")
    for record in formats_json():
        suffixes = " ".join(record["suffixes"])
        table.add_row(*(Text(text) for text in (record["name"], record["summary"], suffixes, record["needs"])))
    return table


def _failure(path: Path, error: DualpixError) -> dict[str, Any]:
    return {"file": str(path), "error": str(error)}


def _shown(answer: Inspection | tuple[Path, DualpixError]) -> Iterator[Text | Table]:
    """File names and what a file says of itself go through Text: they are no markup."""
    if not isinstance(answer, Inspection):
        yield Text(f"{answer[0]}\n  error: {answer[1]}\n", style="red")
        return
    verdict = (
        ("damaged", "red")
        if answer.broken
        else ("dual-pixel", "green")
        if answer.dual_pixel
        else ("not dual-pixel", "yellow")
    )
    yield Text.assemble((str(answer.path), "bold"), "  ", verdict)
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for label, value in _facts(answer):
        table.add_row(label, Text(value))
    yield table
    if answer.frames:
        yield _frames_table(answer.frames)
    yield Text("")


def _facts(answer: Inspection) -> Iterator[tuple[str, str]]:
    meta = answer.meta
    yield "format", f"{answer.format}, {answer.size_bytes / 1e6:.1f} MB"
    if answer.broken:
        yield "damage", answer.broken
    yield "why", answer.why
    yield "decode would", answer.decode
    if meta.camera or meta.lens_model:
        yield "camera", ", ".join(text for text in (meta.camera, meta.lens_model) if text)
    if shot := ", ".join(_shot(answer)):
        yield "shot", shot
    if answer.crop:
        crop = answer.crop
        yield "picture area", f"{crop.width}x{crop.height} from column {crop.left}, row {crop.top}"
    if answer.baseline:
        yield "disparity", f"along {answer.baseline} of the upright views (orientation {meta.orientation})"
    if sources := {frame.black_source for frame in answer.frames if frame.black_source}:
        yield "black level", "from " + " or ".join(sorted(sources))
    elif answer.frames and not answer.broken:
        yield "black level", "with --levels"
    for warning in answer.warnings:
        yield "warning", warning
    if answer.light_ratio is not None:
        yield "light", f"frame 1 / frame 0 = {answer.light_ratio:.3f}"


def _shot(answer: Inspection) -> Iterator[str]:
    meta = answer.meta
    if meta.date_time:
        yield meta.date_time
    if meta.iso:
        yield f"ISO {meta.iso:g}"
    if meta.exposure_s:
        yield f"1/{1 / meta.exposure_s:.0f} s" if meta.exposure_s < 0.3 else f"{meta.exposure_s:g} s"
    if meta.f_number:
        yield f"f/{meta.f_number:g}"
    if meta.focal_length_mm:
        yield f"{meta.focal_length_mm:g} mm"
    if meta.focus_distance_m is not None:
        yield "focus at " + ("infinity" if math.isinf(meta.focus_distance_m) else f"{meta.focus_distance_m:.3g} m")
    if meta.focus_distance_upper_m is not None and meta.focus_distance_lower_m is not None:
        yield f"recorded {meta.focus_distance_lower_m:g}..{meta.focus_distance_upper_m:g} m"
    if meta.pixel_pitch_um:
        yield f"pixels {meta.pixel_pitch_um:.3g} um"


def _frames_table(frames: Sequence[FrameInfo]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    # widths that keep words and numbers whole on a terminal of 80 columns
    columns = {
        "frame": None,
        "what": 16,
        "size": None,
        "bits": None,
        "coding": 8,
        "black": 13,
        "white": None,
        "clip": 11,
    }
    for column, width in columns.items():
        table.add_column(column, max_width=width)
    for frame in frames:
        cells = (
            frame.index,
            frame.role,
            f"{frame.width}x{frame.height}" if frame.width and frame.height else None,
            frame.bits,
            frame.compression,
            _levels(frame.black) if frame.black else None,
            frame.white,
            _levels(frame.clip) if frame.clip else None,
        )
        table.add_row(*("" if cell is None else str(cell) for cell in cells))
    return table


def _levels(values: Sequence[float]) -> str:
    """One number where all channels agree."""
    shown = [f"{round(v, 1):g}" for v in values]
    return shown[0] if len(set(shown)) == 1 else " ".join(shown)
