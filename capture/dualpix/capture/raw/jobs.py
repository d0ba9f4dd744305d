"""From what a user names on the command line to the captures to decode: shared by the commands that take raw files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from dualpix.capture.errors import DecodeError
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

    Raises:
        DecodeError: nothing to do, or the files and ``--left`` / ``--right`` contradict each other.
    """
    if left is not None and files:
        raise DecodeError("both FILES and --left were given", expected="one of the two")
    paths = [left] if left is not None else list(files)
    if not paths:
        raise DecodeError("no input", expected="FILES, or --left A --right B")
    if right is not None and len(paths) > 1:
        raise DecodeError(f"--right with {len(paths)} files", expected="one left file")
    partners = {partner for path in paths if (partner := right_name(path)) is not None}
    return [Job(path, right, output / pair_stem(path)) for path in paths if path not in partners]
