"""From what a user names on the command line to the captures to decode: shared by the commands that take raw files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from dualpix.capture.errors import DecodeError, DualpixError, OutputError
from dualpix.capture.progress import ProgressLine
from dualpix.capture.raw import RawCapture, decode_capture
from dualpix.capture.raw.pair import pair_stem, right_name
from dualpix.capture.raw.plugin import Encoding
from dualpix.capture.types import Baseline

_FILE = click.Path(path_type=Path)
C = TypeVar("C", bound=Callable[..., object])


@dataclass(frozen=True)
class Job:
    """One capture and the folder of its results."""

    path: Path
    right: Path | None
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a job: the content of its sidecar, or the error."""

    job: Job
    record: dict[str, Any] | None
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """One entry of ``--json``."""
        output = str(self.job.folder) if self.record else None
        return {"file": str(self.job.path), "output": output, "error": self.error, "result": self.record}


@dataclass(frozen=True)
class DecodeOptions:
    """How to decode, as :func:`decode_options` asks it of the user."""

    swap: bool = False
    flat_field: tuple[Path, Path] | None = None
    equalise: bool = True
    encoding: Encoding = "auto"
    baseline: Baseline | None = None

    def decode(self, job: Job) -> RawCapture:
        """Decode one capture. Raises DecodeError."""
        return decode_capture(
            job.path,
            right=job.right,
            swap=self.swap,
            flat_field=self.flat_field,
            equalise=self.equalise,
            encoding=self.encoding,
            baseline=self.baseline,
        )


def decode_options(command: C) -> C:
    """Add the options of :class:`DecodeOptions` to a click command."""
    options = (
        click.option("--swap", is_flag=True, help="Exchange the halves (far things must have x_right - x_left > 0)."),
        click.option(
            "--flat-field", type=_FILE, nargs=2, metavar="L R", help="White sheet; a raw with both halves twice."
        ),
        click.option("--equalise/--no-equalise", default=True, help="Make both halves equally bright."),
        click.option(
            "--encoding", type=click.Choice(["auto", "srgb", "linear"]), default="auto", help="Of exported pairs."
        ),
        click.option(
            "--baseline", type=click.Choice(["x", "y"]), help="Disparity axis of an exported pair [default: x]."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def jobs_of(files: Sequence[Path], left: Path | None, right: Path | None, output: Path) -> list[Job]:
    """One job per capture; the right files of pairs that were listed too (``*.png``) are not captures of their own.

    A capture becomes the folder of its stem. Where another file of that stem comes first (``IMG_1.CR3`` after
    ``IMG_1.DNG``), its suffix joins the name: ``IMG_1_CR3``.

    Raises:
        DecodeError: nothing to do, or the files and ``--left`` / ``--right`` contradict each other.
        OutputError: two captures of one name.
    """
    if left is not None and files:
        raise DecodeError("both FILES and --left were given", expected="one of the two")
    paths = [left] if left is not None else list(files)
    if not paths:
        raise DecodeError("no input", expected="FILES, or --left A --right B")
    if right is not None and len(paths) > 1:
        raise DecodeError(f"--right with {len(paths)} files", expected="one left file")
    partners = {partner for path in paths if (partner := right_name(path)) is not None}
    jobs: dict[Path, Job] = {}
    for path in paths:
        if path in partners:
            continue
        folder = output / pair_stem(path)
        if folder in jobs and path.suffix != jobs[folder].path.suffix:
            folder = folder.with_name(f"{folder.name}_{path.suffix.lstrip('.')}")
        if folder in jobs:
            raise OutputError(
                f"'{path}' and '{jobs[folder].path}' both become '{folder}'", hint="decode one of them with another -o"
            )
        jobs[folder] = Job(path, right, folder)
    return list(jobs.values())


def run_jobs(
    what: str, jobs: Sequence[Job], work: Callable[[Job], dict[str, Any]], *, stop_at_once: bool
) -> list[Outcome]:
    """Do all jobs; one bad file does not stop the others unless ``stop_at_once``.

    Args:
        what: the activity, for the progress line.
        jobs: the captures.
        work: does one and returns the content of its sidecar.
        stop_at_once: raise the first error instead of printing it and going on.
    """
    outcomes = []
    with ProgressLine(what) as line:
        for index, job in enumerate(jobs):
            line.update(index, len(jobs), job.path.name, important=len(jobs) > 1)
            try:
                outcomes.append(Outcome(job, work(job), None))
            except DualpixError as error:
                if stop_at_once:
                    raise
                click.echo(f"dualpix: error: {error}", err=True)
                outcomes.append(Outcome(job, None, str(error)))
        line.update(len(jobs), len(jobs), important=False)
    return outcomes
