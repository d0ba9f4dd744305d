"""Many captures from one command: what the commands that take raw files share.

A command asks :func:`jobs_of` what there is to do, gives each job its request (:func:`.resume.with_requests`) and hands
them to :func:`run_jobs`, which works in this process, in several, or on a cluster, and says what became of each.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import click

from dualpix.capture.command.options import FILE, C, with_options
from dualpix.capture.files import remove_leftovers
from dualpix.capture.progress import Pace, ProgressLine
from dualpix.capture.raw.batch.inputs import Job, find_jobs
from dualpix.capture.raw.batch.pool import Answer, Work, attempt, cpu_count, run_in_processes
from dualpix.capture.raw.batch.resume import earlier_result
from dualpix.capture.raw.decoding import RawCapture, decode_capture, find_decoder, opened
from dualpix.capture.raw.develop.layout import Colour, Layout
from dualpix.capture.raw.develop.levels import Levels
from dualpix.capture.raw.develop.naming import FocusedOn
from dualpix.capture.raw.formats.dump import Dump
from dualpix.capture.raw.formats.plugin import Encoding, Source
from dualpix.capture.types import Baseline

__all__ = [
    "Batch", "DecodeOptions", "Job", "Outcome", "Work", "baseline_option", "batch_options", "decode_options", "jobs_of",
    "levels_options", "pair_options", "resume_option", "run_jobs",
]  # fmt: skip

_MAX_PROCESSES = 256
Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of a job: the content of its sidecar, or the error."""

    job: Job
    record: dict[str, Any] | None
    error: str | None
    status: Status

    def to_json(self) -> dict[str, Any]:
        """One entry of ``--json``."""
        output = str(self.job.folder) if self.record else None
        return {
            "file": str(self.job.path),
            "status": self.status,
            "output": output,
            "error": self.error,
            "result": self.record,
        }


@dataclass(frozen=True)
class Batch:
    """How to go about many jobs; nothing here changes their results."""

    jobs: int = 1
    """Processes; 0: as many as CPUs. One works in the process that asks."""
    resume: bool = False
    """Skip what an earlier run has done already."""
    cluster: str | None = None
    """Address or scheduler file of a dask.distributed scheduler."""


@dataclass(frozen=True)
class DecodeOptions:
    """How to decode, as :func:`decode_options` asks it of the user."""

    swap: bool = False
    focused_on: FocusedOn | None = None
    flat_field: tuple[Path, Path] | None = None
    shading: Path | None = None
    equalise: bool = True
    encoding: Encoding = "auto"
    black: float | None = None
    white: float | None = None
    baseline: Baseline | None = None
    dump: Dump | None = None
    layout: Layout = "superpixel"
    colour: Colour = "auto"

    def __post_init__(self) -> None:
        Levels(self.black, self.white)  # refuses what cannot be before any file is read

    def check(self, job: Job) -> None:
        """Whether the files are there and some decoder takes them; reads their first bytes alone.

        Raises:
            DecodeError: they are not, or none does.
        """
        levels = Levels(self.black, self.white)
        source = Source(job.path, b"", job.right, self.encoding, self.baseline, job.sub, self.dump, levels)
        find_decoder(opened(source))

    def decode(self, job: Job) -> RawCapture:
        """Decode one capture. Raises DecodeError."""
        return decode_capture(
            job.path,
            right=job.right,
            sub=job.sub,
            dump=self.dump,
            swap=self.swap,
            focused_on=self.focused_on,
            flat_field=self.flat_field,
            shading=self.shading,
            equalise=self.equalise,
            encoding=self.encoding,
            levels=Levels(self.black, self.white),
            baseline=self.baseline,
            layout=self.layout,
            colour=self.colour,
        )


def decode_options(command: C) -> C:
    """Add the options of :class:`DecodeOptions` to a click command, but for ``layout`` and ``colour``."""
    return with_options(
        command,
        click.option("--swap", is_flag=True, help="Exchange the halves (far things must have x_right - x_left > 0)."),
        click.option(
            "--focused-on",
            type=click.Choice(get_args(FocusedOn)),
            help="What the lens was focused on: lets the sign of the disparity decide which half is which.",
        ),
        click.option(
            "--flat-field", type=FILE, nargs=2, metavar="L R", help="White sheet; a raw with both halves twice."
        ),
        click.option("--shading", type=FILE, help="Profile of `dualpix calibrate shading`, instead of --flat-field."),
        click.option("--equalise/--no-equalise", default=True, help="Make both halves equally bright."),
        click.option(
            "--encoding", type=click.Choice(["auto", "srgb", "linear"]), default="auto", help="Of exported pairs."
        ),
        levels_options,
        baseline_option,
        click.option(
            "--dump",
            metavar="WxH[xBITS][:ROW_BYTES]",
            callback=lambda _, __, text: None if text is None else Dump.parse(text),
            help="Geometry of headerless interleaved dumps.",
        ),
    )


def pair_options(command: C) -> C:
    """Add ``--left`` and ``--right`` to a click command: files of a pair, see :func:`jobs_of`."""
    return with_options(
        command,
        click.option("--left", type=FILE, help="Left file of a pair whose names do not tell."),
        click.option("--right", type=FILE, help="Right file of a pair: with --left, or with one left FILE."),
    )


def baseline_option(command: C) -> C:
    """Add ``--baseline`` to a click command."""
    says = "Disparity axis of an exported pair [default: x]."
    return with_options(command, click.option("--baseline", type=click.Choice(["x", "y"]), help=says))


def levels_options(command: C) -> C:
    """Add ``--black`` and ``--white`` to a click command: the values of :class:`.develop.levels.Levels`."""
    return with_options(
        command,
        click.option("--black", type=float, help="Code of no light in an exported pair, where the file lacks it [0]."),
        click.option("--white", type=float, help="Code of full light in it [the largest of its samples' type]."),
    )


def resume_option(command: C) -> C:
    """Add ``--resume`` to a click command."""
    return with_options(
        command, click.option("--resume", is_flag=True, help="Skip what an earlier run has done already.")
    )


def batch_options(command: C) -> C:
    """Add the options of :class:`Batch` to a click command."""
    return with_options(
        command,
        click.option(
            "-j", "--jobs", type=click.IntRange(0, _MAX_PROCESSES), default=1,
            help="Processes, each with the memory of one capture; 0: as many as CPUs.",
        ),
        resume_option,
        click.option("--cluster", metavar="ADDRESS", help="Scheduler of dask.distributed, or its scheduler file."),
    )  # fmt: skip


def jobs_of(
    files: Sequence[Path],
    left: Path | None,
    right: Path | None,
    output: Path,
    *,
    sub: Path | None = None,
    dumps: bool = False,
) -> list[Job]:
    """As :func:`.inputs.find_jobs`, with its notes shown to the user."""
    jobs, notes = find_jobs(files, left, right, output, sub=sub, dumps=dumps)
    for note in notes:
        click.echo(f"dualpix: {note}", err=True)
    return jobs


def run_jobs(
    what: str,
    jobs: Sequence[Job],
    work: Work,
    *,
    sidecar: str,
    batch: Batch | None = None,
    stop_at_once: bool = False,
    tell_warnings: bool = True,
) -> list[Outcome]:
    """Do all jobs; one bad file does not stop the others unless ``stop_at_once``.

    Unfinished folders that killed runs left beside the results are removed. Results of finished jobs stay, whatever
    happens to the rest.

    Args:
        what: the activity, for the progress line.
        jobs: the captures.
        work: does one and returns the content of its sidecar.
        sidecar: the file that every result has.
        batch: in how many processes or where; whether to skip what is done.
        stop_at_once: work in this process and let the first error through instead of printing it and going on.
        tell_warnings: print the warnings of each record; else the caller does.

    Returns:
        One outcome per job, in the order of ``jobs``.

    Raises:
        DualpixError: the cluster cannot be reached; with ``stop_at_once`` also what ``work`` raises.
    """
    batch = batch or Batch()
    outcomes = _earlier(jobs, sidecar) if batch.resume else {}
    todo = [index for index in range(len(jobs)) if index not in outcomes]
    pace = Pace(len(todo))
    with _no_leftovers(jobs), ProgressLine(what) as line:
        line.update(len(outcomes), len(jobs), important=False)
        answers = _answers(work, [jobs[index] for index in todo], batch, sidecar, stop_at_once, line)
        try:
            with closing(answers):
                for position, answer in answers:
                    outcome = _outcome(jobs[todo[position]], answer, line, tell_warnings)
                    outcomes[todo[position]] = outcome
                    pace.step()
                    line.update(len(outcomes), len(jobs), _step_text(outcome, pace, line), important=len(jobs) > 1)
        except KeyboardInterrupt:
            line.say(f"dualpix: stopped, {len(outcomes)} of {len(jobs)} done; --resume goes on from here")
            raise
        ordered = [outcomes[index] for index in range(len(jobs))]
        if len(jobs) > 1:
            line.say(f"{what}: {_summary(ordered, pace)}")
    return ordered


def _earlier(jobs: Sequence[Job], sidecar: str) -> dict[int, Outcome]:
    """The jobs that need not be done, by index."""
    records = ((index, earlier_result(job.folder, job.request, sidecar)) for index, job in enumerate(jobs))
    return {index: Outcome(jobs[index], record, None, "skipped") for index, record in records if record is not None}


@contextmanager
def _no_leftovers(jobs: Sequence[Job]) -> Iterator[None]:
    """Of earlier runs at the start; of workers that died at the end."""
    parents = {job.folder.parent for job in jobs}
    for parent in parents:
        remove_leftovers(parent)
    try:
        yield
    finally:
        for parent in parents:
            remove_leftovers(parent)


def _answers(
    work: Work, jobs: Sequence[Job], batch: Batch, sidecar: str, stop_at_once: bool, line: ProgressLine
) -> Generator[tuple[int, Answer], None, None]:
    processes = min(batch.jobs or cpu_count(), len(jobs))
    if not jobs:
        return
    if batch.cluster is not None and not stop_at_once:
        from dualpix.capture.raw.batch.cluster import run_on_cluster

        yield from run_on_cluster(work, jobs, batch.cluster, sidecar, line.say)
    elif processes > 1 and not stop_at_once:
        yield from run_in_processes(work, jobs, processes)
    else:
        for index, job in enumerate(jobs):
            yield index, Answer(work(job)) if stop_at_once else attempt(work, job)


def _outcome(job: Job, answer: Answer, line: ProgressLine, tell_warnings: bool) -> Outcome:
    if answer.error is None:
        for warning in (answer.record or {}).get("warnings", ()) if tell_warnings else ():
            line.say(f"dualpix: warning: '{job.path.name}': {warning}")
        return Outcome(job, answer.record, None, "done")
    line.say(f"dualpix: error: {answer.error}")
    return Outcome(job, None, answer.error, "failed")


def _step_text(outcome: Outcome, pace: Pace, line: ProgressLine) -> str:
    left = "" if line.shows_time_left else f", {pace.time_left} left"
    return f"{outcome.job.path.name}, {pace.per_second:.3g}/s{left}"


def _summary(outcomes: Sequence[Outcome], pace: Pace) -> str:
    count = Counter(outcome.status for outcome in outcomes)
    parts = [f"{count[status]} {status}" for status in ("done", "skipped", "failed") if count[status]]
    speed = f" ({pace.per_second:.3g}/s)" if pace.done else ""
    return f"{', '.join(parts)} in {pace.seconds:.1f} s{speed}{_peak_memory()}"


def _peak_memory() -> str:
    """Of the largest process here, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return f", at most {max(peaks) * unit_bytes / 2**20:.0f} MiB per process"
