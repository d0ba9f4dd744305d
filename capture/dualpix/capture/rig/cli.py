"""``dualpix rig``: two cameras on one holder, from the board to a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from dualpix.capture.command.lazy_group import LazyGroup
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_dir, check_output_dir, make_output_dir, write_bytes, write_json
from dualpix.capture.rig.board import Board, BoardKind
from dualpix.capture.rig.options import FILE, board_options, json_option, output_option, rig_option, skew_option

SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "plan": ("dualpix.capture.rig.plan_cli:command", "Depth error against distance, before anything is built."),
    "board": ("dualpix.capture.rig.cli:board_command", "A calibration board to print."),
    "capture": ("dualpix.capture.rig.capture_cli:command", "Both phones by adb at once; the skew is measured."),
    "import": ("dualpix.capture.rig.capture_cli:import_command", "What two cameras took by themselves."),
    "simulate": ("dualpix.capture.rig.cli:simulate_command", "Boards and scenes of a simulated rig, with their truth."),
    "calibrate": ("dualpix.capture.rig.cli:calibrate_command", "Pictures of a board to rig.json."),
    "sync": ("dualpix.capture.rig.sync_cli:command", "The skew of two cameras, by a board that moves."),
    "rectify": ("dualpix.capture.rig.cli:rectify_command", "Rectified views, and the map back to camera a."),
    "label": ("dualpix.models.rig.label_cli:command", "Depth and dual-pixel disparity of camera a, as a data set."),
}
"""Name -> (module:attribute, one-line help shown without importing the module)."""


@click.group("rig", cls=LazyGroup, table=SUBCOMMANDS)
def command() -> None:
    """Label dual-pixel captures with true depth, by a second camera beside the first.

    A SESSION is a folder with the folders a and b: captures of the two cameras, by the same names. Camera a is the one
    that is labelled. See docs/rig.md.
    """


@command.command("board")
@board_options
@click.option("-o", "--output", type=FILE, required=True, help="The picture to write, .png.")
@click.option("--dpi", type=click.IntRange(50, 2400), default=300, help="Of the print.")
def board_command(kind: BoardKind, squares: tuple[int, int], square_mm: float, output: Path, dpi: int) -> None:
    """Draw a calibration board. Print it at 100 %, glue it to something flat, and measure a square."""
    board = Board(kind, squares, square_mm / 1e3)
    square_px = max(8, round(square_mm / 25.4 * dpi))
    from dualpix.capture.rig.encode import png_bytes

    make_output_dir(output.parent)
    write_bytes(output, png_bytes(board.picture(square_px, square_px // 2)))
    width, height = (1e3 * side for side in board.size_m)
    click.echo(f"{output}: {kind} of {board}, {width:.1f} x {height:.1f} mm at {dpi} dpi")


@command.command("simulate")
@output_option
@board_options
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, help="Of the rig and what it sees.")
@click.option("--boards", type=click.IntRange(0, 1000), default=24, help="Pairs of a board.")
@click.option("--scenes", type=click.IntRange(0, 100_000), default=4, help="Pairs of scenes.")
@click.option("--first-scene", type=click.IntRange(0, 100_000), default=0, help="Number of the first one.")
@click.option("--size", "size_hw", type=(int, int), default=(480, 640), metavar="H W", help="Of the views.")
@click.option("--baseline-mm", type=click.FloatRange(1, 1000), default=25.0)
@click.option("--mount", type=click.Choice(["0", "180"]), default="180", help="Turn of camera b.")
def simulate_command(
    output: Path,
    kind: BoardKind,
    squares: tuple[int, int],
    square_mm: float,
    seed: int,
    boards: int,
    scenes: int,
    first_scene: int,
    size_hw: tuple[int, int],
    baseline_mm: float,
    mount: str,
) -> None:
    """Write OUTPUT/boards and OUTPUT/scenes as a rig of two simulated phones would, and what is true of both.

    OUTPUT/truth.json has the rig's true geometry and lens, scenes/truth the depth of camera a and what b cannot see.
    """
    from dualpix.capture.rig.simulated import SimulatedRig, truth_json, write_shot

    if min(size_hw) < 96 or max(size_hw) > 4096:
        raise DualpixError(f"views of {size_hw[1]}x{size_hw[0]}", expected="96 to 4096 px")
    board = Board(kind, squares, square_mm / 1e3)
    rig = SimulatedRig.from_seed(seed, size_hw, baseline_mm=baseline_mm, mount_deg=int(mount))
    check_output_dir(output)
    with atomic_dir(output, "truth.json") as folder:
        for index, shot in enumerate(rig.board_shots(board, boards, seed)):
            write_shot(folder / "boards", f"board{index:03}", shot, truth=False)
        for index in range(first_scene, first_scene + scenes):
            shot = rig.shoot(rig.scene(seed * 100_003 + index), np.random.default_rng([seed, index, 95]))
            write_shot(folder / "scenes", f"scene{index:03}", shot)
        write_json(folder / "truth.json", truth_json(rig))
    click.echo(f"{output}: {boards} pairs of a board, {scenes} of scenes")


@command.command("calibrate")
@click.argument("session", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, metavar="RIG.json", help="The rig to write.")
@board_options
@skew_option
@click.option("--k3", "third_radial", is_flag=True, help="Also fit the third radial coefficient: for wide lenses.")
@json_option
def calibrate_command(
    session: Path,
    output: Path,
    kind: BoardKind,
    squares: tuple[int, int],
    square_mm: float,
    max_skew_ms: float,
    third_radial: bool,
    as_json: bool,
) -> None:
    """Find how the two cameras of SESSION stand to each other, and how sure that is.

    SESSION/a and SESSION/b hold 20 to 40 pairs of one board, held all over both pictures and tilted to all sides. A
    picture of where it was, RIG.png, is written beside RIG.json; where boards are missing it shows where to hold them,
    and nothing else is written.
    """
    from dualpix.capture.pictures.colour_map import save_picture
    from dualpix.capture.progress import ProgressLine
    from dualpix.capture.rig import coverage
    from dualpix.capture.rig.calibration import CoverageError, calibrate, coverages_of, find_boards
    from dualpix.capture.rig.session import read_session
    from dualpix.capture.rig.store import rig_json, rig_of, write_rig

    make_output_dir(output.parent)
    pairs = read_session(session)
    board = Board(kind, squares, square_mm / 1e3)
    with ProgressLine("looking for boards", silent=as_json) as line:
        sighting = find_boards(board, pairs, max_skew_s=max_skew_ms / 1e3, report=line.update)
    try:
        solution = calibrate(sighting, third_radial=third_radial)
    except CoverageError as error:
        shown = output.with_suffix(".png")
        save_picture(shown, error.picture)
        raise DualpixError(
            error.found, expected=error.expected, hint=f"{error.hint or 'add pairs'}: '{shown}' shows where"
        ) from error
    save_picture(output.with_suffix(".png"), coverage.picture(coverages_of(sighting)))
    rig = rig_of(sighting, solution)
    write_rig(output, rig)
    for text in sighting.left_out:
        click.echo(f"dualpix: left out, the board was not seen: {text}", err=True)
    said = rig_json(rig)
    if as_json:
        echo_json({key: value for key, value in said.items() if key != "covariance"})
        return
    click.echo(_summary(said, output))


@command.command("rectify")
@click.argument("session", type=FILE)
@rig_option
@output_option
@skew_option
@json_option
def rectify_command(session: Path, rig_file: Path, output: Path, max_skew_ms: float, as_json: bool) -> None:
    """Write both views of each pair as if the cameras stood side by side, with rows that meet.

    OUTPUT/NAME_a.png and NAME_b.png are for eyes and for other people's stereo; map_a.npy (H, W, 2) says for each pixel
    of camera a's own view where it lies in them, so that a result comes back to pixels that were never resampled.
    """
    from dualpix.capture.rig.checks import check_pair
    from dualpix.capture.rig.encode import npy_bytes, png_bytes
    from dualpix.capture.rig.rectify import rectification
    from dualpix.capture.rig.session import check_skew, read_session, read_view
    from dualpix.capture.rig.store import read_rig
    from dualpix.capture.rig.views import check_fits

    rig = read_rig(rig_file)
    frame = rectification(rig.geometry)
    pairs = read_session(session)
    rows: list[dict[str, Any]] = []
    with atomic_dir(output, "rectified.json") as folder:
        for pair in pairs:
            check_skew(pair, max_skew_ms / 1e3)
            views = check_fits(rig, read_view(pair.a), "a"), check_fits(rig, read_view(pair.b), "b")
            found = check_pair(pair.name, views[0].gray, views[1].gray, frame)
            for side, view in zip("ab", views, strict=True):
                write_bytes(folder / f"{pair.name}_{side}.png", png_bytes(frame.rectified(view.gray, side)))
            rows.append({"name": pair.name, "rows_px": None if found is None else round(found.offset_px, 3)})
        write_bytes(folder / "map_a.npy", npy_bytes(frame.of_view(rig.geometry.a.size_hw)[0]))
        record = {
            "focal_px": frame.focal_px,
            "centre_px": frame.centre.tolist(),
            "width": frame.size_hw[1],
            "height": frame.size_hw[0],
            "baseline_mm": 1e3 * rig.geometry.baseline_m,
            "baseline_angle_deg": rig.geometry.baseline_angle_deg,
            "dual_pixel_axis": rig.dual_pixel_axis,
            "axis_angle_deg": rig.axis_angle_deg,
            "mount_deg": rig.geometry.mount_deg,
            "pairs": rows,
        }
        write_json(folder / "rectified.json", record)
    if as_json:
        echo_json(record)
        return
    offsets = [row["rows_px"] for row in rows if row["rows_px"] is not None]
    meet = f"rows meet to {max(offsets):.2f} px" if offsets else "too little to see in them to tell whether rows meet"
    click.echo(
        f"{output}: {len(rows)} pairs of {frame.size_hw[1]}x{frame.size_hw[0]} px; {meet}{_angle(rig.axis_angle_deg)}"
    )


def _summary(said: dict[str, Any], output: Path) -> str:
    share = 100 * said["baseline_sigma_mm"] / said["baseline_mm"]
    return (
        f"{output}: {said['pairs']} pairs fit to {said['rms_px']:.3f} px; baseline {said['baseline_mm']:.3f} mm "
        f"(+-{share:.3f} %), pose +-{said['rotation_sigma_deg']:.4f} degrees, "
        f"b turned by {said['roll_deg']:.2f} degrees" + _angle(said["axis_angle_deg"])
    )


def _angle(axis_angle_deg: float | None) -> str:
    return "" if axis_angle_deg is None else f"; baseline {axis_angle_deg:.2f} degrees from the dual-pixel axis"
