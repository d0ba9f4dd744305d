"""``dualpix rig``: two cameras on one holder, from the board to a data set."""

from __future__ import annotations

import click

from dualpix.capture.command.lazy_group import LazyGroup

SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "plan": ("dualpix.capture.rig.commands.plan:command", "Depth error against distance, before anything is built."),
    "board": ("dualpix.capture.rig.commands.calibrate:board_command", "A calibration board to print."),
    "capture": ("dualpix.capture.rig.commands.capture:command", "Both phones by adb at once; the skew is measured."),
    "import": ("dualpix.capture.rig.commands.capture:import_command", "What two cameras took by themselves."),
    "simulate": (
        "dualpix.capture.rig.commands.simulate:simulate_command",
        "Boards and scenes of a simulated rig, with their truth.",
    ),
    "calibrate": ("dualpix.capture.rig.commands.calibrate:calibrate_command", "Pictures of a board to rig.json."),
    "sync": ("dualpix.capture.rig.commands.sync:command", "The skew of two cameras, by a board that moves."),
    "rectify": (
        "dualpix.capture.rig.commands.calibrate:rectify_command",
        "Rectified views, and the map back to camera a.",
    ),
    "label": ("dualpix.models.rig.label_cli:command", "Depth and dual-pixel disparity of camera a, as a data set."),
}
"""Name -> (module:attribute, one-line help shown without importing the module)."""


@click.group("rig", cls=LazyGroup, table=SUBCOMMANDS)
def command() -> None:
    """Label dual-pixel captures with true depth, by a second camera beside the first.

    A SESSION is a folder with the folders a and b: captures of the two cameras, by the same names. Camera a is the one
    that is labelled. See docs/rig.md.
    """
