"""The type of command-line options that state a value of a lens: numbers that some lens can have, in one line else."""

from __future__ import annotations

import click

from dualpix.capture.optics import check_lens_value


class LensNumber(click.ParamType):
    """A number within :data:`~dualpix.capture.optics.LENS_RANGES`; NaN is none."""

    name = "float"

    def __init__(self, field: str) -> None:
        self.field = field

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number.

        Raises:
            DualpixError: no lens has it.
        """
        number: float = click.FLOAT.convert(value, param, ctx)
        shown = param.opts[0] if param is not None else self.field
        return check_lens_value(self.field, number, shown)
