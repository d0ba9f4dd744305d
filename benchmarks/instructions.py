"""How many instructions one pass of an exported ExecuTorch program takes: a figure that a busy machine does not change.

    apt-get install valgrind gcc libc6-dev qemu-user qemu-user-static debootstrap
    dualpix export dplive -o live/ --recipe xnnpack-int8 --size 384x512
    python -m benchmarks.instructions live/ [MORE ...] [--passes 2] [-o docs/results/live/4-instructions.json]
                                     [--skip-x86 | --skip-arm64]

Arguments are programs for XNNPACK, or folders of exports that have such; ratios are to the first of them. Two ways:

- *x86-64*: callgrind counts what this machine's runtime executes, between requests that a program makes of it.
- *ARM64*: a plugin counts what the runtime of the emulated ARM64 Linux of ``tests/arm64`` executes under QEMU, one core
  that says it is a Cortex-A76.

Convention: the count of a pass is from just before to just after the call, less the count of two marks with nothing
between; the method is loaded, its weights packed, and one pass done before. What is left of Python is the call itself,
some ten thousand instructions. Instructions are not time: one may take a cycle's fraction or hundreds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from benchmarks.record import Figure, Result, Row, new_result
from tests.arm64 import sysroot

from dualpix.capture.errors import DualpixError
from dualpix.capture.progress import ProgressLine
from dualpix.export.manifest import MANIFEST, read_manifest

RESULT = Path(__file__).parents[1] / "docs" / "results" / "live" / "4-instructions.json"
"""Shown in docs/networks/dplive.md."""
ARM64, X86 = "ARM64 instructions", "x86-64 instructions"
COLUMNS = {"work": "GMAC", ARM64: "10^6", "ARM64, to the first": "x", X86: "10^6", "x86-64, to the first": "x"}
_SKIPS = {"ARM64": "--skip-arm64", "x86-64": "--skip-x86"}
COUNTERS = Path(__file__).with_name("counters")
QEMU = "qemu-aarch64"
"""The one that is linked dynamically: Debian's static one was built without plugins."""
_RECIPES, _SUFFIX = "xnnpack", ".pte"
_LIMIT_S = 3600
_MAX_MARKS = 10_000
_CALLGRIND_HEADER = Path("/usr/include/valgrind/callgrind.h")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_CPUINFO = """processor\t: 0
BogoMIPS\t: 100.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""
_MIDR = "0x00000000414fd0b1\n"
"""What Linux says of a Cortex-A76, for a runtime chooses among its kernels by it."""


class CountError(DualpixError):
    """Instructions cannot be counted, or what the counter wrote is not a count."""


@dataclass(frozen=True)
class Program:
    """A ``.pte`` that XNNPACK runs."""

    path: Path
    work_macs: int | None
    """Multiply-accumulates of one pass by the export's manifest; ``None`` where there is none."""

    @property
    def label(self) -> str:
        """Of its row."""
        return self.path.stem


@dataclass(frozen=True)
class Counts:
    """What one of the two ways gave."""

    passes: tuple[tuple[int, ...], ...]
    """By program: instructions of each pass."""
    facts: Mapping[str, str]
    """Of the runtime and the processor that it saw."""


# --- what is counted ----------------------------------------------------------------------------------------------


def programs_of(arguments: Sequence[Path]) -> list[Program]:
    """The programs of files and of folders of exports, in order.

    Raises:
        CountError: a file that is no ``.pte``, or a folder without a program for XNNPACK.
    """
    return [program for argument in arguments for program in _programs_of(argument)]


def _programs_of(argument: Path) -> Iterator[Program]:
    if argument.is_file():
        if argument.suffix != _SUFFIX:
            raise CountError(f"'{argument.name}'", expected=f"a {_SUFFIX} file or the folder of an export")
        works = _works(argument.parent) if (argument.parent / MANIFEST).is_file() else {}
        yield Program(argument, works.get(argument.name))
        return
    works = _works(argument)
    if not works:
        raise CountError(f"'{argument.name}' has no program for XNNPACK", hint="export it with --recipe xnnpack-int8")
    for name, work in works.items():
        yield Program(argument / name, work)


def _works(folder: Path) -> dict[str, int | None]:
    """File -> multiply-accumulates of the programs for XNNPACK in an export."""
    found: dict[str, int | None] = {}
    for entry in read_manifest(folder)["gate"]["recipes"]:
        recipe, name = str(entry["recipe"]), str(entry["file"])
        if recipe.startswith(_RECIPES) and name.endswith(_SUFFIX):
            found[name] = int(entry["delegation"]["total_macs"]) if entry["delegation"] else None
    return found


# --- x86-64: callgrind --------------------------------------------------------------------------------------------


def missing_x86() -> str | None:
    """``None``, or what has to be installed."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "callgrind's counts are of Linux on x86-64"
    return _missing({"valgrind": "valgrind", "gcc": "gcc libc6-dev"}, {_CALLGRIND_HEADER: "valgrind"})


def count_x86(programs: Sequence[Program], passes: int) -> Counts:
    """Instructions under callgrind, all programs in one process.

    Raises:
        CountError: a program does not run, or callgrind gave something else than counts.
    """
    with tempfile.TemporaryDirectory() as scratch:
        marks, dump = Path(scratch) / "marks.so", Path(scratch) / "dump"
        _compile(COUNTERS / "callgrind_marks.c", marks)
        tool = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet", f"--callgrind-out-file={dump}")
        names = [str(program.path.absolute()) for program in programs]
        module = ("-m", "benchmarks.counters.x86_64_passes", str(marks), str(passes))
        facts = _answer([*tool, sys.executable, *module, *names])
        totals = [callgrind_total(_text(Path(f"{dump}.{1 + n}"))) for n in range(len(programs) * (1 + passes))]
    return Counts(tuple(_less_marking(totals[at : at + 1 + passes]) for at in _starts(totals, 1 + passes)), facts)


def callgrind_total(text: str) -> int:
    """Instructions of a dump of callgrind's.

    Raises:
        CountError: it counts other events, has no summary, or more than one.
    """
    events = re.findall(r"^events: (.*)$", text, re.MULTILINE)
    found = re.findall(r"^summary: (\d{1,18})$", text, re.MULTILINE)
    if events != ["Ir"] or len(found) != 1:
        raise CountError(
            f"a dump of events {events} with {len(found)} summaries", expected="one summary of the event Ir"
        )
    return int(found[0])


# --- ARM64: QEMU --------------------------------------------------------------------------------------------------


def missing_arm64() -> str | None:
    """``None``, or what has to be installed."""
    return _missing({QEMU: "qemu-user", "gcc": "gcc libc6-dev"}) or sysroot.missing()


def count_arm64(programs: Sequence[Program], passes: int) -> Counts:
    """Instructions of the guest under QEMU, all programs in one process.

    Raises:
        CountError: a program does not run, or more than one thread did.
        SysrootError: the ARM64 Linux cannot be made.
    """
    made = sysroot.make().folder
    with tempfile.TemporaryDirectory() as scratch:
        plugin, marks = Path(scratch) / "marks.so", Path(scratch) / "marks.txt"
        _compile(COUNTERS / "qemu_marks.c", plugin)
        one_core_root(made / "root", Path(scratch) / "root")
        names = [str(program.path.absolute()) for program in programs]
        emulator = (QEMU, "-plugin", f"{plugin},marks={marks}", "-cpu", sysroot.CPU, "-L", f"{scratch}/root")
        python = ("-E", f"PYTHONPATH={made / 'site'}", str(made / "root/usr/bin/python3"))
        facts = _answer([*emulator, *python, str(COUNTERS / "arm64_passes.py"), str(passes), *names])
        counts = between_marks(_text(marks))
    if len(counts) != len(programs) * (1 + passes):
        raise CountError(f"{len(counts)} counts of {len(programs)} programs", expected=f"{1 + passes} of each")
    return Counts(tuple(_less_marking(counts[at : at + 1 + passes]) for at in _starts(counts, 1 + passes)), facts)


def one_core_root(root: Path, made: Path) -> None:
    """``root`` once more in the new folder ``made``, as links, with a processor of one Cortex-A76.

    QEMU gives the guest a file below its ``-L`` before the machine's own of that name. Without these the runtime takes
    the x86 cores of the machine for cores that it does not know, and starts a thread for each.
    """
    made.mkdir()
    for entry in root.iterdir():
        if entry.name not in ("proc", "sys"):
            (made / entry.name).symlink_to(entry)
    cpus = "sys/devices/system/cpu"
    texts = {f"{cpus}/{which}": "0\n" for which in ("possible", "present", "online")}
    texts |= {"proc/cpuinfo": _CPUINFO, f"{cpus}/cpu0/regs/identification/midr_el1": _MIDR}
    for name, text in texts.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)


def between_marks(text: str) -> list[int]:
    """Instructions between the first and the second mark, the third and the fourth, and so on.

    Raises:
        CountError: something else than marks, an odd number of them, counts that fall, or more than one thread.
    """
    lines = text.splitlines()
    marks = [match for line in lines[:_MAX_MARKS] if (match := re.fullmatch(r"mark (\d{1,9}) (\d{1,18})", line))]
    if not lines or len(marks) != len(lines) or len(marks) % 2:
        raise CountError(f"{len(lines)} lines, {len(marks)} of them marks", expected="pairs of 'mark THREADS COUNT'")
    if threads := {int(match[1]) for match in marks} - {1}:
        raise CountError(f"the program ran in {max(threads)} threads", expected="one: the counter is not locked")
    at = [int(match[2]) for match in marks]
    if at != sorted(at):
        raise CountError("a count that falls", expected="counts since the start of the emulator")
    return [after - before for before, after in zip(at[::2], at[1::2], strict=True)]


# --- both ---------------------------------------------------------------------------------------------------------


def _starts(counts: Sequence[int], step: int) -> range:
    return range(0, len(counts), step)


def _less_marking(counts: Sequence[int]) -> tuple[int, ...]:
    """The passes of one program, whose first count is of nothing."""
    return tuple(count - counts[0] for count in counts[1:])


def _missing(tools: Mapping[str, str], files: Mapping[Path, str] | None = None) -> str | None:
    packages = {package for tool, package in tools.items() if shutil.which(tool) is None}
    packages |= {package for path, package in (files or {}).items() if not path.is_file()}
    return f"cannot count here: apt-get install {' '.join(sorted(packages))}" if packages else None


def _compile(source: Path, library: Path) -> None:
    _ran(["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)])


def _answer(command: Sequence[str]) -> dict[str, str]:
    """The last line that the program of passes says."""
    said = _ran(command).splitlines()
    try:
        answer: Any = json.loads(said[-1])
    except (IndexError, ValueError) as error:
        raise CountError(f"the passes say {said[-1:] or 'nothing'}", expected="a line of JSON") from error
    if "error" in answer:
        raise CountError(str(answer["error"]))
    return {str(name): str(value) for name, value in answer.items()}


def _ran(command: Sequence[str]) -> str:
    """Standard output of a program that ended well."""
    environment = os.environ | _ONE_THREAD
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=False, env=environment,
            cwd=COUNTERS.parents[1],
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CountError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise CountError(f"{Path(command[0]).name} ends with {done.returncode}: {''.join(last)}")
    return done.stdout


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise CountError(f"no counts: {error}") from error


# --- the table ----------------------------------------------------------------------------------------------------


def rows_of(programs: Sequence[Program], x86: Counts | None, arm64: Counts | None) -> list[Row]:
    """A row for each program."""
    rows = []
    for index, program in enumerate(programs):
        figures = {} if program.work_macs is None else {"work": Figure.exact(program.work_macs / 1e9)}
        for counts, column, ratio in ((arm64, ARM64, "ARM64, to the first"), (x86, X86, "x86-64, to the first")):
            if counts is not None:
                figures[column] = _figure([count / 1e6 for count in counts.passes[index]])
                figures[ratio] = Figure.exact(_figure(counts.passes[index]).value / _figure(counts.passes[0]).value)
        rows.append(Row(program.label, figures))
    return rows


def _figure(samples: Sequence[float]) -> Figure:
    """A single pass has no spread."""
    return Figure.of(samples) if len(samples) > 1 else Figure.exact(samples[0])


def notes_of(x86: Counts | None, arm64: Counts | None) -> str:
    """What the figures rest on."""
    text = "One thread, one warm pass before; loading and packing are not in it, the call from Python is."
    if arm64 is not None:
        text += (
            f" ARM64: {_version(QEMU)}, a Cortex-A76 (int8 dot products), ExecuTorch {arm64.facts['executorch']}. "
            "No phone was measured."
        )
    if x86 is not None:
        text += (
            f" x86-64: callgrind of {_version('valgrind')}, which emulates AVX2 at most; the runtime saw the class "
            f"{x86.facts['class']} and took its kernels for that, whatever this machine has."
        )
    return text


def _version(tool: str) -> str:
    return _ran([tool, "--version"]).splitlines()[0]


@click.command()
@click.argument("programs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULT, help="File of the result.")
@click.option("--passes", type=click.IntRange(1, 100), default=2, help="Passes of each program that are counted.")
@click.option("--skip-arm64", is_flag=True, help="Count on x86-64 alone.")
@click.option("--skip-x86", is_flag=True, help="Count on ARM64 alone.")
def main(programs: tuple[Path, ...], output: Path, passes: int, skip_arm64: bool, skip_x86: bool) -> None:
    """Count the instructions of one pass of PROGRAMS: .pte files or folders of exports, the first the reference."""
    try:
        result = measured(programs, passes, arm64=not skip_arm64, x86=not skip_x86)
    except (DualpixError, sysroot.SysrootError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    result.write(output)
    for row in result.rows:
        click.echo(f"{row.label}: " + ", ".join(f"{name} {f.value:.4g}" for name, f in row.figures.items()))
    click.echo(f"-> {output}")


def measured(arguments: Sequence[Path], passes: int, *, arm64: bool, x86: bool) -> Result:
    """The table of files and folders of exports.

    Raises:
        CountError: a tool is missing, a program cannot be counted, or neither way is asked for.
        SysrootError: the ARM64 Linux cannot be made.
    """
    if not (arm64 or x86):
        raise CountError("both ways are skipped", hint="leave out --skip-arm64 or --skip-x86")
    programs = programs_of(arguments)
    if reason := (missing_x86() if x86 else None) or (missing_arm64() if arm64 else None):
        raise CountError(reason)
    with ProgressLine("instructions") as line:
        line.update(0, 2, "ARM64")
        on_arm64 = count_arm64(programs, passes) if arm64 else None
        line.update(1, 2, "x86-64")
        on_x86 = count_x86(programs, passes) if x86 else None
    return table(arguments, programs, on_x86, on_arm64)


def table(arguments: Sequence[Path], programs: Sequence[Program], x86: Counts | None, arm64: Counts | None) -> Result:
    """The result of what was counted; columns are of the ways that were asked for."""
    counted = {"ARM64": arm64, "x86-64": x86}
    skipped = [way for way, counts in counted.items() if counts is None]
    passes = next(len(counts.passes[0]) for counts in counted.values() if counts is not None)
    words = [*(argument.name for argument in arguments), f"--passes {passes}", *(_SKIPS[way] for way in skipped)]
    columns = {name: unit for name, unit in COLUMNS.items() if not name.startswith(tuple(skipped))}
    command = f"python -m benchmarks.instructions {' '.join(words)}"
    return new_result(
        "Instructions of one pass", command, columns, rows_of(programs, x86, arm64), notes=notes_of(x86, arm64)
    )


if __name__ == "__main__":
    main()
