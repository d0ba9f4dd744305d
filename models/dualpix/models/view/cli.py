"""``dualpix view``: captures and results as one HTML file."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from pathlib import Path

import click

from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import check_output_dir, make_output_dir, write_bytes
from dualpix.capture.progress import ProgressLine
from dualpix.models.view.find import Subject, find_subjects
from dualpix.models.view.page import MOST_SCENES, page_bytes
from dualpix.models.view.read import read_scene
from dualpix.models.view.scene import Scene

_FILE = click.Path(path_type=Path)
_PAGE_SUFFIXES = (".html", ".htm")
_MARK = b'<meta name="generator" content="dualpix '
_MARK_WITHIN = 4096


@click.command("view")
@click.argument("results", nargs=-1, type=_FILE, required=True)
@click.option("-o", "--output", type=_FILE, help="The page [default: NAME.html here, NAME that of the first RESULT].")
@click.option("--truth", type=_FILE, help="Of one capture: depth, m as floats or mm as integers; or disparity, floats.")
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
def command(results: tuple[Path, ...], output: Path | None, truth: Path | None, show: bool) -> None:
    """One HTML file to look at captures and their depth, without a server and without a network.

    RESULTS are captures as `dualpix depth` takes them, focus stacks, folders that `dualpix depth` or `dualpix decode`
    wrote, or folders of these. Results of one capture are shown together. The capture of a result is taken from what is
    named, else looked for here and near the result.

    The page tells the file's values under the cursor, compares methods, swaps left and right, refocuses where one taps
    (WebGL), and turns the points in space.
    """
    page = _page_path(results[0], output)
    subjects = find_subjects(results)
    if not subjects:
        raise DualpixError(f"'{results[0]}' holds nothing to view", expected="captures, stacks, or results of them")
    if len(subjects) > MOST_SCENES:
        raise DualpixError(f"{len(subjects)} captures for one page", expected=f"at most {MOST_SCENES}")
    if truth is not None and (len(subjects) > 1 or not subjects[0].results):
        found = f"{len(subjects)} captures" if len(subjects) > 1 else "a capture without a result"
        raise DualpixError(f"--truth was given with {found}", expected="results of one capture")
    check_output_dir(page.parent)
    data = page_bytes(_scenes(subjects, truth), len(subjects), _title(subjects))
    make_output_dir(page.parent)
    write_bytes(page, data)
    what = "1 capture" if len(subjects) == 1 else f"{len(subjects)} captures"
    click.echo(f"wrote {page}: {what}, {len(data) / 1e6:.1f} MB")
    if show:
        webbrowser.open(page.resolve().as_uri())


def _scenes(subjects: list[Subject], truth: Path | None) -> Iterator[Scene]:
    with ProgressLine("view") as line:
        for number, subject in enumerate(subjects):
            line.update(number, len(subjects), subject.name, important=False)
            yield read_scene(subject, truth, frames=True)


def _title(subjects: list[Subject]) -> str:
    return subjects[0].name if len(subjects) == 1 else f"{len(subjects)} captures"


def _page_path(first: Path, output: Path | None) -> Path:
    """Where the page goes.

    Raises:
        OutputError: something other than a page of ours stands there, or the name is no page's.
    """
    page = output if output is not None else Path(f"{first.resolve().stem or 'view'}.html")
    if page.suffix.lower() not in _PAGE_SUFFIXES:
        raise OutputError(f"cannot write a page as '{page}'", expected="a name ending in .html")
    if page.is_dir():
        raise OutputError(f"cannot write '{page}': it is a folder", hint="choose another -o")
    if page.is_file():
        with page.open("rb") as file:
            ours = _MARK in file.read(_MARK_WITHIN)
        if not ours:
            raise OutputError(f"'{page}' exists and is no page of dualpix", hint="choose another -o")
    return page
