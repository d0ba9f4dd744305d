"""The type of command-line options that state a value of a lens: numbers that some lens can have, in one line else."""

from __future__ import annotations

from typing import Any

import click

from dualpix.capture.optics import check_lens_value


class LensNumber(click.types.FloatParamType):
    """A number within :data:`~dualpix.capture.optics.LENS_RANGES`; NaN is none."""

    def __init__(self, field: str) -> None:
        self.field = field

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number.

        Raises:
            DualpixError: no lens has it.
        """
        number = super().convert(value, param, ctx)
        shown = param.opts[0] if param is not None else self.field
        return check_lens_value(self.field, number, shown)
