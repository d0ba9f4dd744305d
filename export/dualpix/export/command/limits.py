"""``--limits FILE``: what the gate shall ask, as a user writes it."""

from __future__ import annotations

from pathlib import Path

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.capture.files import read_json
from dualpix.export.recipes import RECIPES
from dualpix.quantize.limits import Limits, parse_limits

LimitsFile = tuple[dict[str, Limits], str]
"""Limits by recipe, and what to call their source."""

_MAX_BYTES = 1 << 20


def read_limits(path: Path, *, has_metric: bool) -> LimitsFile:
    """The limits in a file of the form of a model's ``limits.json``.

    Raises:
        DualpixError: it cannot be read, has another form, names no recipe, or limits a metric where there is none.
    """
    data = read_json(path, _MAX_BYTES, expected="a limits file")
    limits = parse_limits(data if isinstance(data, dict) else {}, f"'{path.name}'")
    for recipe, limit in limits.items():
        if recipe not in RECIPES:
            raise UnknownNameError(f"recipe in '{path.name}'", recipe, list(RECIPES))
        if not has_metric and (limit.metric_loss is not None or limit.metric is not None):
            field = "metric" if limit.metric_loss is None else "metric_loss"
            raise DualpixError(
                f"'{path.name}' limits '{field}' of '{recipe}', and there is no metric",
                expected="sqnr_db, structure_db, relative_rms, mean_abs_error, delegated_compute, size_bytes, speedup",
                hint="give --metric package.module:function",
            )
    return limits, path.name
