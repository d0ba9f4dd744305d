"""``dualpix rig sync``: the skew of two cameras, by a board that moves."""

from __future__ import annotations

import math
from pathlib import Path

import click

from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.calibrate.board import Board, BoardKind
from dualpix.capture.rig.commands.options import FILE, board_options, json_option, rig_option, skew_option


@click.command("sync")
@click.argument("session", type=FILE)
@rig_option
@board_options
@click.option("--interval", "interval_s", type=click.FloatRange(1e-4, 3600), required=True, metavar="S")
@skew_option
@json_option
def command(
    session: Path,
    rig_file: Path,
    kind: BoardKind,
    squares: tuple[int, int],
    square_mm: float,
    interval_s: float,
    max_skew_ms: float,
    as_json: bool,
) -> None:
    """Measure by how much camera b is later than a: SESSION holds pairs of a board in motion, --interval apart.

    Exit code 2 where it surely is more than --max-skew-ms.
    """
    from dualpix.capture.rig.calibrate.calibration import find_boards
    from dualpix.capture.rig.calibrate.store import read_rig
    from dualpix.capture.rig.calibrate.sync import skew_of
    from dualpix.capture.rig.pairs.session import read_session

    rig = read_rig(rig_file)
    board = Board(kind, squares, square_mm / 1e3)
    sighting = find_boards(board, read_session(session), max_skew_s=math.inf)
    if sighting.left_out:
        raise DualpixError(
            f"the board is not seen by both in {sighting.left_out[0]}", expected="one in every pair: they are counted"
        )
    if sighting.sizes != (rig.geometry.a.size_hw, rig.geometry.b.size_hw):
        raise DualpixError(f"pictures of {sighting.sizes} px (h, w)", expected="those of the calibration")
    skew = skew_of(board, sighting.pairs, rig.geometry, interval_s)
    if as_json:
        echo_json({"skew_s": skew.seconds, "uncertainty_s": skew.uncertainty_s, "pairs": len(sighting.pairs)})
    else:
        click.echo(f"b {1e3 * skew.seconds:+.2f} ms after a (+-{1e3 * skew.uncertainty_s:.2f})")
    if abs(skew.seconds) - skew.uncertainty_s > max_skew_ms / 1e3:
        raise DualpixError(
            f"camera b is {abs(1e3 * skew.seconds):.1f} ms {'later' if skew.seconds > 0 else 'earlier'} than a",
            expected=f"at most {max_skew_ms:g} ms",
            hint="trigger both by one switch, or photograph what does not move",
        )
