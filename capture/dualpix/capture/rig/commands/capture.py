"""``dualpix rig capture`` and ``dualpix rig import``."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Literal

import click

from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import atomic_dir, write_json
from dualpix.capture.raw.formats.pair import right_name
from dualpix.capture.rig.commands.options import FILE, output_option
from dualpix.capture.rig.pairs.session import SESSION_FILE, SIDES, Skew, captures_in, session_json


@click.command("capture")
@click.option("--a", "serial_a", required=True, help="adb serial of the phone whose captures are labelled.")
@click.option("--b", "serial_b", required=True, help="adb serial of the other.")
@output_option
@click.option("--count", type=click.IntRange(1, 10_000), default=1, help="Pairs.")
@click.option("--every", "every_s", type=click.FloatRange(0, 3600), default=0.0, metavar="S", help="Between pairs.")
@click.option("--focus", "focus_m", type=click.FloatRange(0.02), default=1.0, metavar="M", help="Of both; it stays.")
@click.option("--exposure", "exposure_s", type=click.FloatRange(1e-6, 30), metavar="S", help="[default: metered]")
@click.option("--iso", type=click.FloatRange(1, 1e6), help="[default: metered]")
@click.option("--max-skew-ms", type=click.FloatRange(0), default=20.0, help="Pairs farther apart are taken again.")
@click.option("--tries", type=click.IntRange(1, 20), default=4, help="Of a pair; the last is kept as it is.")
@click.option("--port", help="Of the adb server.")
def command(
    serial_a: str,
    serial_b: str,
    output: Path,
    count: int,
    every_s: float,
    focus_m: float,
    exposure_s: float | None,
    iso: float | None,
    max_skew_ms: float,
    tries: int,
    port: str | None,
) -> None:
    """Release both phones at once, through the companion app, and measure how far apart they were.

    OUTPUT gets a/ and b/ with pairs of the same names, session.json with the skew of each, and again/ with what was
    taken too far apart.
    """
    from dualpix.capture.camera_protocol import Exposure
    from dualpix.capture.rig.pairs.taking import Taken, Taker, write_session

    if (output / SESSION_FILE).exists():
        raise OutputError(f"'{output}' holds a session", expected="a new folder", hint="choose another -o")
    taken: list[Taken] = []
    with Taker((serial_a, serial_b), Exposure(None, exposure_s, iso), 1 / focus_m, port) as taker:
        for index in range(count):
            if index and every_s:
                time.sleep(every_s)
            taken.append(taker.take(output, f"pair{index:04}", max_skew_ms / 1e3, tries))
            write_session(output, taker, taken)
            click.echo(f"{taken[-1].name}: {_said(taken[-1].skew)}")
    late = [one.name for one in taken if one.skew is not None and abs(one.skew.seconds) > max_skew_ms / 1e3]
    if late:
        raise DualpixError(
            f"{len(late)} of {count} pairs stayed more than {max_skew_ms:g} ms apart ('{late[0]}'); all are kept",
            expected="phones that are not busy",
            hint="try again with more --tries, or allow more with --max-skew-ms where nothing moves",
        )


def _said(skew: Skew | None) -> str:
    if skew is None:
        return "skew not known: the phones' timestamps are not of a clock that adb can read"
    return f"b {1e3 * skew.seconds:+.1f} ms after a (+-{1e3 * skew.uncertainty_s:.1f})"


@click.command("import")
@click.argument("folder_a", type=FILE)
@click.argument("folder_b", type=FILE)
@output_option
@click.option("--by", type=click.Choice(["name", "order"]), default="name", help="How pairs are told.")
@click.option("--skew-ms", type=float, help="Of b after a, where it is known, for all pairs.")
def import_command(
    folder_a: Path, folder_b: Path, output: Path, by: Literal["name", "order"], skew_ms: float | None
) -> None:
    """Bring what two cameras took by themselves into one session: FOLDER_A is the camera that is labelled.

    Files are copied as they are. By order, the first of one is the partner of the first of the other, by name.
    """
    for folder in (folder_a, folder_b):
        if not folder.is_dir():
            raise DualpixError(f"'{folder}' is no folder", expected="a folder of captures of one camera")
    found = [captures_in(folder) for folder in (folder_a, folder_b)]
    if by == "name" and (alone := sorted(set(found[0]) ^ set(found[1]))):
        where = folder_a if alone[0] in found[0] else folder_b
        raise DualpixError(
            f"'{alone[0]}' is in '{where}' alone, as are {len(alone) - 1} others",
            expected="the same names in both",
            hint="--by order, or take away what has no partner",
        )
    if len(found[0]) != len(found[1]) or not found[0]:
        raise DualpixError(f"{len(found[0])} and {len(found[1])} captures", expected="as many of one as of the other")
    names = list(found[0]) if by == "name" else [f"pair{n:04}" for n in range(len(found[0]))]
    skew = None if skew_ms is None else Skew(skew_ms / 1e3, 0.0)
    with atomic_dir(output, SESSION_FILE) as session:
        for side, captures in zip(SIDES, found, strict=True):
            (session / side).mkdir()
            for name, (_, path) in zip(names, sorted(captures.items()), strict=True):
                _copy(path, session / side, name if by == "order" else None)
        write_json(
            session / SESSION_FILE,
            session_json({"folder": folder_a.name}, {"folder": folder_b.name}, dict.fromkeys(names, skew)),
        )
    click.echo(f"{output}: {len(names)} pairs")


def _copy(path: Path, folder: Path, name: str | None) -> None:
    right = right_name(path)
    halves = [path, right] if right is not None and right.is_file() else [path]
    for file, half in zip(halves, ("left", "right"), strict=False):
        renamed = file.name if name is None else f"{name}{f'_{half}' if len(halves) == 2 else ''}{file.suffix}"
        try:
            shutil.copyfile(file, folder / renamed)
        except OSError as error:
            raise OutputError(f"cannot copy '{file}': {error.strerror or error}") from error
