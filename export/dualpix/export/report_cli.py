"""``dualpix report``: one self-contained HTML page from exported artefacts.

The folder is looked at before what draws the page is imported, which takes seconds.
"""

from __future__ import annotations

from pathlib import Path

import click

from dualpix.capture.files import check_output_dir
from dualpix.capture.terminal import echo_json
from dualpix.export.manifest import verify_manifest

_FILE = click.Path(path_type=Path)


@click.command("report")
@click.argument("folder", type=_FILE)
@click.option("-o", "--output", type=_FILE, default=Path("report.html"), help="HTML file to write.")
@click.option("--json", "as_json", is_flag=True, help="Name and size of the page as JSON on stdout.")
def command(folder: Path, output: Path, as_json: bool) -> None:
    """One self-contained HTML page from the artefacts in FOLDER, which `dualpix export` wrote.

    The artefacts are hashed again first: the page never describes files other than those that were measured.
    """
    verify_manifest(folder)
    check_output_dir(output.parent)
    from dualpix.export.report import write_report

    written = write_report(folder, output)
    size = written.stat().st_size
    if as_json:
        echo_json({"file": str(written), "bytes": size}, indent=None)
    else:
        click.echo(f"wrote {written} ({size} bytes)")
