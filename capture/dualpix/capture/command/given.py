"""Which options the user gave to a command: what is given beside something that has no use for it is refused."""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.core import ParameterSource

_UNASKED = (None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def is_given(ctx: click.Context, name: str) -> bool:
    """Whether the user gave the parameter ``name``, be it with the value that it has by default."""
    return ctx.get_parameter_source(name) not in _UNASKED


def given_options(ctx: click.Context, names: Sequence[str]) -> list[str]:
    """Of the parameters ``names``, those that the user gave, as they are spelt on the command line: ``--working-size``.

    Raises:
        KeyError: the command has no such parameter.
    """
    spelt = {p.name: max(p.opts, key=len) for p in ctx.command.params}
    return [spelt[name] for name in names if is_given(ctx, name)]
