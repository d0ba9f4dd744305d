"""``dualpix report``: one self-contained HTML page from exported artefacts."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dualpix.export.report import write_report

_FILE = click.Path(path_type=Path)


@click.command("report")
@click.argument("folder", type=_FILE)
@click.option("-o", "--output", type=_FILE, default=Path("report.html"), help="HTML file to write.")
@click.option("--json", "as_json", is_flag=True, help="Name and size of the page as JSON on stdout.")
def command(folder: Path, output: Path, as_json: bool) -> None:
    """One self-contained HTML page from the artefacts in FOLDER, which `dualpix export` wrote.

    The artefacts are hashed again first: the page never describes files other than those that were measured.
    """
    written = write_report(folder, output)
    size = written.stat().st_size
    click.echo(json.dumps({"file": str(written), "bytes": size}) if as_json else f"wrote {written} ({size} bytes)")
