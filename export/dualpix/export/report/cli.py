"""``dualpix report``: one self-contained HTML page from an export, a training, an evaluation, or several of these.

What is named is looked at before what draws the page is imported, which takes seconds.
"""

from __future__ import annotations

from pathlib import Path

import click

from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import check_output_dir, write_bytes
from dualpix.export.manifest import MANIFEST, verify_manifest

_FILE = click.Path(path_type=Path)
_LOG = "log.csv"


@click.command("report")
@click.argument("results", nargs=-1, type=_FILE, required=True)
@click.option("-o", "--output", type=_FILE, default=Path("report.html"), help="HTML file to write.")
@click.option("--pictures", type=_FILE, help="Of an evaluation: the folder that `dualpix evaluate --pictures` wrote.")
@click.option("--json", "as_json", is_flag=True, help="Name and size of the page as JSON on stdout.")
def command(results: tuple[Path, ...], output: Path, pictures: Path | None, as_json: bool) -> None:
    """One self-contained HTML page.

    RESULTS are one folder of `dualpix export` (its artefacts are hashed again first: the page never describes files
    other than those that were measured), one folder of `dualpix train`, or one file of `dualpix evaluate --json`.
    Several such files, and the exports of the networks in them, become a page of accuracy against cost.
    """
    kinds = [_kind(path) for path in results]
    if pictures is not None and kinds != ["evaluation"]:
        raise DualpixError("--pictures was given without an evaluation", expected="one file of dualpix evaluate --json")
    if pictures is not None and not pictures.is_dir():
        raise DualpixError(f"no folder '{pictures}'", expected="what dualpix evaluate --pictures wrote")
    if len(results) > 1 and (
        wrong := next((p for p, kind in zip(results, kinds, strict=True) if kind == "training"), None)
    ):
        raise DualpixError(
            f"'{wrong}' is a training among several results", expected="one training, or evaluations and exports"
        )
    if len(results) > 1 and "evaluation" not in kinds:
        raise DualpixError(
            f"{len(results)} exports without an evaluation", expected="one export, or evaluations with them"
        )
    if output.is_dir():
        raise OutputError(f"cannot write '{output}': it is a folder", hint="choose another -o")
    written = _write(results, kinds, output, pictures)
    size = written.stat().st_size
    if as_json:
        echo_json({"file": str(written), "bytes": size}, indent=None)
    else:
        click.echo(f"wrote {written} ({size} bytes)")


def _kind(path: Path) -> str:
    """export, training or evaluation.

    Raises:
        DualpixError: it is none of these.
    """
    if path.is_dir() and not (path / MANIFEST).is_file() and (path / _LOG).is_file():
        return "training"
    if path.is_file() and path.suffix.lower() == ".json":
        return "evaluation"
    verify_manifest(path)  # says what is wrong with it
    return "export"


def _write(results: tuple[Path, ...], kinds: list[str], output: Path, pictures: Path | None) -> Path:
    check_output_dir(output.parent)
    if kinds == ["export"]:
        from dualpix.export.report.exported import write_report

        return write_report(results[0], output)
    if kinds == ["training"]:
        from dualpix.export.report.training import training_page

        page = training_page(results[0])
    else:
        from dualpix.export.report.evaluation import evaluation_page, read_evaluation, zoo_page

        evaluations = [read_evaluation(path) for path, kind in zip(results, kinds, strict=True) if kind == "evaluation"]
        manifests = [verify_manifest(path) for path, kind in zip(results, kinds, strict=True) if kind == "export"]
        if len(results) == 1:
            page = evaluation_page(evaluations[0], pictures)
        else:
            page = zoo_page(evaluations, [(str(m["model"]["name"]), m["gate"]) for m in manifests])
    write_bytes(output, page)
    return output
