"""What a choice of float layers costs on the device, and the choices that nothing beats."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dualpix.quantize.emulate import Emulator, Layer
from dualpix.quantize.keep import keep_modules
from dualpix.quantize.search.assignment import FrontierPoint
from dualpix.quantize.search.sweeps import Measure


@dataclass(frozen=True)
class CostModel:
    """What a choice costs on the device."""

    int8_compute: float = 0.55
    """Of a multiply-accumulate in int8, relative to float; measured on XNNPACK, see the README."""


class Prices:
    """What a choice of float layers costs."""

    def __init__(self, emulator: Emulator, cost: CostModel) -> None:
        self._emulator, self._cost = emulator, cost

    def _int8(self, kept: Iterable[str]) -> list[Layer]:
        keep = keep_modules(*kept)
        return [layer for layer in self._emulator.layers if not keep(layer.path)]

    def int8_share(self, kept: Iterable[str]) -> float:
        """Of the network's multiply-accumulates, 0..1."""
        return sum(layer.macs for layer in self._int8(kept)) / max(self._emulator.total_macs, 1)

    def compute(self, kept: Iterable[str]) -> float:
        """Cost of the multiply-accumulates by the cost model, 1 for all in float."""
        return 1.0 - self.int8_share(kept) * (1.0 - self._cost.int8_compute)

    def weight_bytes(self, kept: Iterable[str]) -> int:
        """Of all weights, those of layers in int8 as int8."""
        everything = 4 * self._emulator.other_weights + sum(layer.float_bytes for layer in self._emulator.layers)
        return everything - sum(layer.float_bytes - layer.int8_bytes for layer in self._int8(kept))


def frontier(
    measure: Measure, prices: Prices, paths: frozenset[str], chosen: frozenset[str]
) -> tuple[FrontierPoint, ...]:
    """The best choices that were measured, cheapest first; uniform int8, all ``paths`` and ``chosen`` in any case."""
    known = dict(measure.known) | {paths: measure.float_loss, frozenset(): measure(()), chosen: measure(chosen)}
    priced = sorted(((prices.compute(kept), loss, sorted(kept)) for kept, loss in known.items()))
    points, lowest = [], math.inf
    for compute, loss, kept in priced:
        best, lowest = loss < lowest, min(loss, lowest)
        if best or set(kept) in (paths, set(), chosen):
            size, share = prices.weight_bytes(kept), prices.int8_share(kept)
            points.append(FrontierPoint(tuple(kept), loss, compute, size, share, best))
    return tuple(points)
