"""``dualpix verify``: is an export folder still what was measured?"""

from __future__ import annotations

from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Column, Table

from dualpix.capture.command.terminal import echo_json
from dualpix.capture.progress import ProgressLine
from dualpix.export.verify.folder import Verification, verify


@click.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--run/--no-run", default=True, help="Load each artefact and run it on the stored input.")
@click.option("--allow-extra", is_flag=True, help="Files that the manifest does not name are no error.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, help="Of the runtime.")
@click.option("--json", "as_json", is_flag=True, help="What was checked as JSON on stdout.")
def command(folder: Path, run: bool, allow_extra: bool, threads: int, as_json: bool) -> None:
    """Hash everything that `dualpix export` wrote into FOLDER and run its artefacts again.

    Exit code 2 with one line for a changed, missing or foreign file, a changed manifest, or an artefact that gives
    another output than it gave. This finds damage and mistakes; it does not prove who made the files.
    """
    with ProgressLine("verify") as line:
        result = verify(folder, run=run, allow_extra=allow_extra, threads=threads, on_step=line.update)
    if as_json:
        echo_json(result.to_json())
        return
    Console().print(_table(result))
    ran = sum(a.sqnr_db is not None for a in result.artefacts)
    click.echo(
        f"{result.files} files are what the manifest names; {ran} of {len(result.artefacts)} artefacts ran again and "
        "gave what they gave (integrity, not authenticity)"
    )


def _table(result: Verification) -> Table:
    recipe, agreement = Column("recipe", no_wrap=True), Column("agreement\ndB", justify="right", no_wrap=True)
    file, note = Column("file", overflow="fold", min_width=12), Column("note", overflow="fold")
    table = Table(recipe, file, agreement, note, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for a in result.artefacts:
        decibels = "" if a.sqnr_db is None else f"{a.sqnr_db:.0f} (≥ {a.limit_db:g})"
        table.add_row(a.recipe, a.file, decibels, a.note)
    return table
