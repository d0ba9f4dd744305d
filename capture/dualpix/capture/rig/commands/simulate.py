"""``dualpix rig simulate``: boards and scenes of a simulated rig."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_dir, check_output_dir, write_json
from dualpix.capture.rig.calibrate.board import Board, BoardKind
from dualpix.capture.rig.commands.options import board_options, output_option


@click.command("simulate")
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
    from dualpix.capture.rig.simulate.rig import SimulatedRig, truth_json, write_shot

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
