"""A metric of the user's own: ``--metric package.module:function``.

The function is called as ``function(outputs, targets)`` and gives one finite number. Both are lists with one entry per
evaluation sample: a float64 array of the output's shape, or a dictionary of them by name where the module has several
outputs. Targets are the truth that came with the evaluation data; where there is none, the float network's outputs.

Lower is better unless the function has an attribute ``better = "higher"`` or the user says so; an attribute ``unit``
is shown. Where nobody has said, a direction in which a constant does better than the float network is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.export.own.factory import kind_of
from dualpix.models.named import function_name, load_named
from dualpix.quantize.score import Array, Better, Metric, Outputs

_DIRECTIONS = ("lower", "higher")


def own_metric(
    text: str, names: Sequence[str], truths: Sequence[Mapping[str, Array]] = (), better: Better | None = None
) -> Metric:
    """The metric that ``text`` names.

    Args:
        text: ``package.module:function``.
        names: of the module's outputs.
        truths: by output, one entry per evaluation sample; without any the float network's outputs are the target.
        better: what the user says; ``None`` leaves it to the function.

    Raises:
        DualpixError: it cannot be imported, or says of itself what is neither "lower" nor "higher". Measuring raises
            one where the function fails or gives no number.
    """
    function = load_named(text)
    stated = better or getattr(function, "better", None)
    if stated not in (*_DIRECTIONS, None):
        raise DualpixError(f"{text}.better is {stated!r}", expected="'lower' or 'higher'")

    def measure(outputs: Sequence[Outputs], references: Sequence[Outputs]) -> float:
        given = [_shown(sample, names) for sample in outputs]
        targets: list[Any] = [_shown(sample, names) for sample in references]
        if truths:
            targets = [dict(t) if len(names) > 1 else t[names[0]] for t in truths]
        try:
            value = function(given, targets)
        except Exception as error:  # the user's code raises anything
            raise DualpixError(
                f"metric {text} fails: {type(error).__name__}: {error}", hint="--debug shows the traceback"
            ) from error
        return _number(value, text)

    return Metric(
        function_name(text),
        measure,
        cast(Better, stated or "lower"),
        str(getattr(function, "unit", "")),
        has_truth=bool(truths),
        stated=stated is not None,
    )


def _shown(sample: Outputs, names: Sequence[str]) -> Any:
    copies = [array.copy() for array in sample]  # it is the user's: writing into it changes nothing of ours
    return dict(zip(names, copies, strict=True)) if len(names) > 1 else copies[0]


def _number(value: Any, text: str) -> float:
    try:
        return float(np.asarray(value.detach() if hasattr(value, "detach") else value).reshape(()))
    except (TypeError, ValueError) as error:
        raise DualpixError(f"metric {text} gives {kind_of(value)}", expected="one number") from error
