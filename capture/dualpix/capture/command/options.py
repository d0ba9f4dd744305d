"""Options that many commands have, spelt and read alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

C = TypeVar("C", bound=Callable[..., object])

FILE = click.Path(path_type=Path)
"""The type of an option or argument that names a file or folder."""


def with_options(command: C, *options: Callable[[C], C]) -> C:
    """Add options to a click command, in the order in which its help shows them."""
    for option in reversed(options):
        command = option(command)
    return command


def json_option(says: str) -> Callable[[C], C]:
    """``--json``, which prints the result for machines; ``says`` is its help."""
    return click.option("--json", "as_json", is_flag=True, help=says)


def camera_options(command: C) -> C:
    """Which camera of a backend, and how it is opened: ``address`` and ``options``."""
    return with_options(
        command,
        click.option("--address", help="Of the camera, where there are several."),
        click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For the backend."),
    )
