"""``dualpix profile``: what exported files cost on a target.

What is asked is looked at before torch and the runtime are imported: a wrong argument is answered at once.
"""

from __future__ import annotations

from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Column, Table

from dualpix.capture.command.given import given_options
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.files import check_output_dir
from dualpix.capture.progress import ProgressLine
from dualpix.export.bench import EAGER
from dualpix.export.errors import ProfileError
from dualpix.export.executorch.file import check_program_file
from dualpix.export.profile.result import Operator, Profile, document, write_profiles
from dualpix.export.profile.target import PROGRAM, ProfileRequest, check_place, files_at, find_profiler
from dualpix.models.zoo.cards import model_folder

_FILE = click.Path(path_type=Path)
_SUFFIXES = {"apple": ".mlpackage"}
_SHOWN = 20
_NOT_ON = {"adb": ("eager", "operators"), "apple": ("eager", "inputs", "threads")}
_WHERE = {"adb": "on the host", "apple": "on the host: Core ML chooses its threads, and its inputs are random"}


class _Threads(click.ParamType[tuple[int, ...]]):
    name = "N,N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            counts = tuple(dict.fromkeys(int(v) for v in str(value).split(",")))
        except ValueError:
            counts = ()
        if not counts or not all(1 <= n <= 1024 for n in counts):
            self.fail(f"'{value}' is no list of thread counts, such as 1,2", param, ctx)
        return counts


@click.command("profile")
@click.argument("paths", metavar="FILE_OR_EXPORT_DIR...", nargs=-1, required=True, type=_FILE)
@click.option("--on", "place", default="host", metavar="TARGET", help="host, adb:SERIAL or apple.")
@click.option("--threads", type=_Threads(), default="1", help="Thread counts, one after the other.")
@click.option("--runs", type=click.IntRange(1, 10_000), default=30, help="Timed runs.")
@click.option("--warmup", type=click.IntRange(0, 1000), default=3, help="Runs before, not timed.")
@click.option("--operators", is_flag=True, help="Time of every operator, from runs with the event tracer on.")
@click.option(
    "--eager", metavar="MODEL", help="Also run this model's float network in PyTorch, in turn with the files."
)
@click.option(
    "--inputs", type=_FILE, help="safetensors file with the inputs, in the order of their names; else random."
)
@click.option(
    "-o", "--output", type=_FILE, help="Write the profiles as JSON, e.g. profile.json in the export's folder."
)
@click.option("--json", "as_json", is_flag=True, help="The profiles as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    paths: tuple[Path, ...],
    place: str,
    threads: tuple[int, ...],
    runs: int,
    warmup: int,
    operators: bool,
    eager: str | None,
    inputs: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Load time, latency, memory and operators of exported files.

    Several files are run in turn (A B A B), so that their ratios hold on a busy machine. A folder stands for the files
    that `dualpix export` wrote into it; their digests are checked first.
    """
    _check_of_place(ctx, check_place(place)[0])
    suffix = _SUFFIXES.get(place, PROGRAM)
    files = tuple(dict.fromkeys(f for path in paths for f in files_at(path, suffix)))
    request = ProfileRequest(files, threads, warmup, runs, operators, eager, inputs)
    _check_named(request, suffix, output)
    profiler, address = find_profiler(place)
    with ProgressLine("profile") as line:
        profiles = profiler(request, address, line.update)
    if output:
        write_profiles(output, profiles)
    if as_json:
        echo_json(document(profiles))
        return
    show(profiles)
    if output:
        click.echo(f"wrote {output}")


def _check_of_place(ctx: click.Context, place: str) -> None:
    """Refuse what a place would silently do without.

    Raises:
        ProfileError: there is such an option.
    """
    if given := given_options(ctx, _NOT_ON.get(place, ())):
        raise ProfileError(f"{given[0]} was given with --on {place}", expected=f"it {_WHERE[place]}")


def _check_named(request: ProfileRequest, suffix: str, output: Path | None) -> None:
    """Whether what is named is there."""
    for file in request.files if suffix == PROGRAM else ():
        check_program_file(file)
    if request.eager is not None:
        model_folder(request.eager)
    if request.inputs is not None and not request.inputs.is_file():
        raise ProfileError(f"'{request.inputs}' is no file", expected="a safetensors file")
    if output is not None:
        check_output_dir(output.parent)


def show(profiles: tuple[Profile, ...]) -> None:
    """The profiles as tables for people, on stdout."""
    console = Console()
    console.print(latency_table(profiles), markup=False)
    for line in ratio_lines(profiles):
        console.print(line, markup=False, highlight=False)
    if times := dict.fromkeys(p.ratios_of or "wall time" for p in profiles if p.ratios):
        console.print(f"ratios: median (IQR) over the rounds, of {' and '.join(times)}", markup=False, highlight=False)
    for where in dict.fromkeys(p.target for p in profiles):
        console.print(where.text, markup=False, highlight=False)
    for profile in profiles:
        if profile.operators:
            console.print()
            console.print(operator_table(profile), markup=False)
            console.print(trace_text(profile), markup=False, highlight=False)


def latency_table(profiles: tuple[Profile, ...]) -> Table:
    """One row per file and thread count, narrow enough for a terminal of 80 columns."""
    heads = ("thr", "load", "first", "p50", "p90", "p99", "peak", "arena", "deleg")
    columns = (Column(h, justify="right", no_wrap=True) for h in heads)
    title = "times in ms, memory in MB"
    table = Table(Column("file", overflow="fold"), *columns, title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for p in profiles:
        times = (_ms(t) for t in (p.load_s, p.first_s, p.p50_s, p.p90_s, p.p99_s))
        peak = p.memory.peak_rss_bytes if p.memory.peak_rss_bytes is not None else p.memory.pss_bytes
        share = p.delegated.macs if p.delegated else None
        cells = (*times, _mb(peak), _mb(p.memory.arena_bytes), "" if share is None else f"{share:.0%}")
        table.add_row(p.subject.file, str(p.settings.threads), *cells)
    return table


def ratio_lines(profiles: tuple[Profile, ...]) -> list[str]:
    """Who is how many times faster than whom, and the interquartile range of that."""
    return [
        f"{p.subject.file}, {p.settings.threads} thread(s): "
        + ", ".join(f"{p.ratio_text(other)} times as fast as {_short(other)}" for other in p.ratios)
        for p in profiles
        if p.ratios
    ]


def operator_table(profile: Profile, shown: int = _SHOWN) -> Table:
    """The operators that take the most time, the rest in one row."""
    rows = sorted(profile.operators or (), key=lambda o: -o.median_s)
    title = f"{profile.subject.file}, {profile.settings.threads} thread(s)"
    numbers = (Column(h, justify="right", no_wrap=True) for h in ("ms", "share", "MMAC", "MB", "peak"))
    columns = (Column("layer", overflow="fold"), Column("kernel", overflow="fold"), *numbers)
    table = Table(*columns, title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for o in rows[:shown]:
        work = ("" if o.macs is None else f"{o.macs / 1e6:.1f}", _mb(o.bytes), roof_text(profile, o))
        layer = "\n".join(filter(None, (o.module or f"({o.kind})", Path(o.source or "").name)))
        table.add_row(layer, o.name, _ms(o.median_s), f"{o.share:.1%}", *work)
    if rest := rows[shown:]:
        macs, moved = sum(o.macs or 0 for o in rest) / 1e6, sum(o.bytes or 0 for o in rest)
        share, seconds = sum(o.share for o in rest), sum(o.median_s for o in rest)
        table.add_row(f"{len(rest)} others", "", _ms(seconds), f"{share:.1%}", f"{macs:.1f}", _mb(moved), "")
    return table


def roof_text(profile: Profile, operator: Operator) -> str:
    """How near to the roofline: the least time that the measured peaks allow, of the time it took."""
    least = profile.peaks.least_s(operator) if profile.peaks else None
    return "" if least is None or not operator.median_s else f"{least / operator.median_s:.0%}"


def trace_text(profile: Profile) -> str:
    """What the operators add up to, and the peaks they are held against."""
    trace, peaks = profile.trace, profile.peaks
    assert trace is not None  # noqa: S101 - operators come with it
    text = (
        f"operators {_ms(trace.operators_s)} ms of {_ms(trace.total_s)} ms = {trace.coverage:.1%} of the execute event"
    )
    if peaks:
        text += f"; peaks: {peaks.macs_per_s / 1e9:.1f} GMAC/s float32, {peaks.bytes_per_s / 1e9:.1f} GB/s"
    return text


def _short(name: str) -> str:
    return name if name == EAGER else Path(name).stem


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.3g}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def _mb(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.3g}"
