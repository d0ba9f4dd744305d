"""The ``dualpix`` command: a lazy group, so ``dualpix --help`` and ``dualpix decode`` import no torch.

A new subcommand is one line in ``COMMANDS``. The table names modules as text: the areas above this one are imported
only when their command is asked for, so the arrows between areas keep pointing one way.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.metadata import version
from typing import NoReturn

import click

from dualpix.capture.command.lazy_group import LazyGroup
from dualpix.capture.command.terminal import drop_output, flush_output, prepare_output, reason_not_written
from dualpix.capture.errors import DualpixError

# name -> (module:attribute, one-line help shown without importing the module)
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("dualpix.export.demo.cli:command", "The whole way on a simulated camera: raw, depth, export, report."),
    "decode": ("dualpix.capture.raw.cli:command", "Dual-pixel raws to left / right / combined views."),
    "inspect": ("dualpix.capture.raw.inspect_cli:command", "What is in a file: frames, levels, dual-pixel or why not."),
    "calibrate": ("dualpix.capture.calibrate.cli:command", "White sheets, planes and PSFs to a camera profile."),
    "cameras": ("dualpix.capture.cameras.cli:command", "Which cameras are connected, and what each can do."),
    "capture": ("dualpix.capture.stack.cli:command", "Focus-bracketed stacks: plan, calibrate, shoot, verify, align."),
    "render": ("dualpix.capture.synthesis.cli:command", "RGB-D pictures or procedural scenes to dual-pixel data."),
    "rig": ("dualpix.capture.rig.cli:command", "Two phones on a holder: calibrate, rectify, label with true depth."),
    "depth": ("dualpix.models.predict.cli:command", "Depth of dual-pixel captures and of focus stacks."),
    "view": ("dualpix.models.view.cli:command", "Captures and their depth as one HTML page to look at and refocus."),
    "refocus": ("dualpix.models.view.refocus_cli:command", "Focus a picture anew by its depth; also as animation."),
    "evaluate": ("dualpix.models.evaluate.cli:command", "Score networks and SGBM on data with ground truth."),
    "train": ("dualpix.models.train.cli:command", "Train a network on rendered scenes; resumes after a kill."),
    "ensemble": ("dualpix.models.zoo.ensemble_cli:command", "Several networks as one: the mean of what they say."),
    "quantize": ("dualpix.quantize.search.cli:command", "Which layers may be int8 within a budget of accuracy."),
    "export": ("dualpix.export.command.cli:command", "Quantise, export and gate a network for phones."),
    "verify": ("dualpix.export.verify.cli:command", "Check exported artefacts again: digests, and what they compute."),
    "profile": ("dualpix.export.profile.cli:command", "Latency, memory and operators, on this host or a device."),
    "android": ("dualpix.export.android.cli:command", "Install the app on a phone; capture and measure with it."),
    "report": ("dualpix.export.report.cli:command", "One self-contained HTML page from exported artefacts."),
}


@click.group(
    cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(version("dualpix"), prog_name="dualpix")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def root(ctx: click.Context, debug: bool) -> None:
    """Depth from dual-pixel sensors and focus stacks, from the raw file to the phone."""
    ctx.obj = {"debug": debug}


def main(args: list[str] | None = None) -> None:
    """Entry point: every user error becomes one line on stderr and exit code 2, lost output among them."""
    argv = sys.argv[1:] if args is None else args
    prepare_output()
    try:
        _run(argv)
    except DualpixError as error:
        if "--debug" in argv:
            raise
        _end(str(error))
    except OSError as error:
        reason = reason_not_written(error)
        drop_output()
        if reason is None or "--debug" in argv:
            raise
        _end(reason)


def _run(argv: list[str]) -> None:
    try:
        root.main(args=argv, prog_name="dualpix")
    except SystemExit:
        flush_output()
        raise


def _end(reason: str) -> NoReturn:
    with suppress(OSError):  # stderr may be full as well
        click.echo(f"dualpix: error: {reason}", err=True)
    sys.exit(2)
