"""float16 as XNNPACK computes it on ARM64: numbers below 6e-5 are zero there.

While it runs, XNNPACK has the processor flush what float16 holds only as a subnormal number to zero (FPCR.FZ16 on
ARM64). On x86-64 it computes float16 in float32, where such numbers survive: a program that divides by 4e-6 runs right
on the machine that exports, and gives NaN on a phone. So a float16 graph is run once with small values flushed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from dualpix.export.errors import ExportError
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.keep import module_path
from dualpix.quantize.score import sqnr_db, tensors_of

SMALLEST = 2.0**-14
"""Normal number of float16."""


class _Flushing(fx.Interpreter):
    """Each operator's result, constants included, with what is smaller at zero; keeps the first that is not finite."""

    first_bad: fx.Node | None = None

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        if not isinstance(value, Tensor) or value.dtype is not torch.float16:
            return value
        if self.first_bad is None and not torch.isfinite(value).all():
            self.first_bad = node
        return torch.where(value.abs() < SMALLEST, torch.zeros((), dtype=value.dtype), value)


@torch.no_grad()
def check_flushed(graph: fx.GraphModule, inputs: Inputs, expected: Any, least_db: float) -> None:
    """Whether a float16 graph gives what the network does where small numbers are flushed to zero.

    Args:
        graph: of float16 operators, as it is lowered.
        inputs: real ones.
        expected: what the float network gives for them.
        least_db: SQNR in dB that it must keep.

    Raises:
        ExportError: it gives values that are not finite, or something else; names the layer where that begins.
    """
    run = _Flushing(graph)
    found = run.run(*inputs)
    hint = "keep what it computes above 6e-5, by a factor say, or use xnnpack-fp32"
    said = "in float16 on ARM64, where XNNPACK flushes numbers below 6e-5 to zero, the network gives"
    if not all(torch.isfinite(t).all() for t in tensors_of(found) if t.is_floating_point()):
        bad = run.first_bad
        where = "" if bad is None else f", first in '{module_path(bad) or 'its forward'}' ({bad.name})"
        raise ExportError(f"{said} values that are not finite{where}", hint=hint)
    if (found_db := sqnr_db(expected, found)) < least_db:
        raise ExportError(f"{said} something else: {found_db:.1f} dB", expected=f">= {least_db:g} dB", hint=hint)
