"""``dualpix decode``: dual-pixel raws to left / right / combined views."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from dualpix.capture.files import make_output_dir
from dualpix.capture.raw.jobs import DecodeOptions, Job, Outcome, decode_options, jobs_of, run_jobs
from dualpix.capture.raw.outputs import write_capture

_FILE = click.Path(path_type=Path)


@click.command("decode")
@click.argument("files", nargs=-1, type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Folder; each capture becomes a folder in it.")
@click.option("--left", type=_FILE, help="Left file of a pair whose names do not tell.")
@click.option("--right", type=_FILE, help="Right file of a pair: with --left, or with one left FILE.")
@decode_options
@click.option("--frames", is_flag=True, help="Also write frames.npz: the untouched sensor frames.")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    files: tuple[Path, ...],
    output: Path,
    left: Path | None,
    right: Path | None,
    frames: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Decode dual-pixel captures to left, right and combined views.

    FILES are Canon Dual Pixel RAW (CR2, CR3, DNG), Google PDCapture or Pixel 4 pairs, or any exported left / right
    pair, named by its left file. Each becomes OUTPUT/NAME/ with left.tiff, right.tiff, combined.tiff (16-bit, linear),
    saturated.png, preview.png and decode.json.
    """
    jobs = jobs_of(files, left, right, output)
    make_output_dir(output)
    # A single bad file fails as itself; with --debug the first one does, for its traceback.
    stop_at_once = bool((ctx.obj or {}).get("debug")) or (len(jobs) == 1 and not as_json)
    options = DecodeOptions(**settings)
    outcomes = run_jobs("decoding", jobs, lambda job: _decode(job, options, frames), stop_at_once=stop_at_once)
    if as_json:
        click.echo(json.dumps([o.to_json() for o in outcomes], indent=2, ensure_ascii=False))
    else:
        Console().print(_table(outcomes, output))
    if any(o.error for o in outcomes):
        ctx.exit(2)


def _decode(job: Job, options: DecodeOptions, frames: bool) -> dict[str, Any]:
    inputs = [job.path, *([job.right] if job.right else [])]
    return write_capture(options.decode(job), inputs, job.folder, frames=frames)


def _table(outcomes: list[Outcome], output: Path) -> Table:
    file, result = (Column(name, overflow="fold") for name in ("file", "result"))
    table = Table(file, "decoder", "view", "axis", "clipped", result, title=f"written to {output}")
    for outcome in outcomes:
        record = outcome.record
        if record is None:
            table.add_row(outcome.job.path.name, "", "", "", "", "[red]failed[/red]")
            continue
        size = record["size"]
        table.add_row(
            outcome.job.path.name,
            record["decoder"],
            f"{size['width']}x{size['height']}x{size['channels']}",
            record["baseline"],
            f"{100 * record['saturated_fraction']:.2f}%",
            outcome.job.folder.name,
        )
    return table
