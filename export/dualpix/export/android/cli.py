"""``dualpix android``: the app on a phone, over adb. ``adbutils`` is optional: ``pip install 'dualpix[android]'``."""

from __future__ import annotations

from pathlib import Path

import click

from dualpix.capture.command.terminal import echo_json
from dualpix.capture.progress import ProgressLine

_FILE = click.Path(path_type=Path)
_ADDRESS = click.option("--address", metavar="SERIAL", help="Of the phone, where there are several ('adb devices').")


@click.group("android", context_settings={"show_default": True})
def command() -> None:
    """Put the app on a phone, take focus stacks with it, and measure networks there.

    The phone needs USB debugging. The app is built by `python android_demo/build_apk.py`, or with Android Studio.
    """


@command.command("install")
@click.argument("apk", type=_FILE)
@_ADDRESS
def install_command(apk: Path, address: str | None) -> None:
    """Put the app on the phone, over an older one of the same signer."""
    from dualpix.export.android.phone import check_apk, connect, install

    check_apk(apk)
    with ProgressLine("install") as line:
        line.update(0, 1, apk.name)
        facts = install(connect(address), apk)
        line.update(1, 1, "done")
    click.echo(f"installed '{apk.name}' on {facts.model or facts.serial} ({', '.join(facts.abis) or 'unknown ABI'})")


@command.command(
    "capture",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def capture_command(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """The same as `dualpix capture --camera android`, with its options."""
    from dualpix.capture.stack.cli import command as capture

    ctx.exit(capture.main(["--camera", "android", *arguments], prog_name=ctx.command_path, standalone_mode=False) or 0)


@command.command("bench")
@click.argument("paths", metavar="FILE_OR_EXPORT_DIR...", nargs=-1, required=True, type=_FILE)
@_ADDRESS
@click.option("--threads", default="1,2,4", metavar="N,N", help="Thread counts, one after the other.")
@click.option("--runs", type=click.IntRange(1, 10_000), default=30, help="Timed runs.")
@click.option("--warmup", type=click.IntRange(0, 1000), default=3, help="Runs before, not timed.")
@click.option("--inputs", type=_FILE, help="safetensors file; else what the export stored, or random values.")
@click.option("--max-abs", type=click.FloatRange(0, 1e9), help="Largest difference from the expected output.")
@click.option("--timeout", "limit_s", type=click.FloatRange(0.1, 86_400), default=900.0, help="Seconds for one file.")
@click.option("-o", "--output", type=_FILE, help="Write the profiles as JSON.")
@click.option("--json", "as_json", is_flag=True, help="The profiles as JSON on stdout.")
def bench_command(
    paths: tuple[Path, ...],
    address: str | None,
    threads: str,
    runs: int,
    warmup: int,
    inputs: Path | None,
    max_abs: float | None,
    limit_s: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Load time, latency, memory and heat of .pte files on the phone, once their output there is right.

    The profiles are those of `dualpix profile`. A folder stands for the .pte files that `dualpix export` wrote into it.
    """
    from dualpix.export.android.phone import connect
    from dualpix.export.executorch.file import check_program_file
    from dualpix.export.profile.cli import show
    from dualpix.export.profile.result import document, write_profiles
    from dualpix.export.profile.target import PROGRAM, ProfileRequest, files_at

    counts = _counts(threads)
    files = tuple(dict.fromkeys(file for path in paths for file in files_at(path, PROGRAM)))
    for file in files:
        check_program_file(file)
    request = ProfileRequest(files, counts, warmup, runs, inputs=inputs)
    phone = connect(address)
    from dualpix.export.android.bench import bench_on, make_cases  # torch: once the files and the phone are there

    with ProgressLine("bench") as line:
        line.update(0, 1 + len(files), "expected outputs")
        cases = make_cases(files, inputs, max_abs)
        profiles = bench_on(phone, cases, request, limit_s=limit_s, on_step=line.update)
    if output:
        write_profiles(output, profiles)
    if as_json:
        echo_json(document(profiles))
        return
    show(profiles)
    worst = max(p.max_abs_error or 0.0 for p in profiles)
    click.echo(f"outputs verified on the phone: off by at most {worst:.2g}")
    if heat := {(p.thermal.before, p.thermal.after) for p in profiles if p.thermal}:
        click.echo("heat: " + ", ".join(f"{before} -> {after}" for before, after in sorted(heat)))
    if output:
        click.echo(f"wrote {output}")


def _counts(text: str) -> tuple[int, ...]:
    from dualpix.export.android.protocol import MAX_THREAD_COUNTS, MAX_THREADS

    words = [word.strip() for word in text.split(",")]
    counts = tuple(dict.fromkeys(int(w) for w in words if w.isdecimal() and len(w) < 5))
    good = all(w.isdecimal() for w in words) and 1 <= len(counts) <= MAX_THREAD_COUNTS
    if not good or not all(1 <= n <= MAX_THREADS for n in counts):
        raise click.BadParameter(f"'{text}' is no list of thread counts, such as 1,2,4", param_hint="--threads")
    return counts
