"""Which layers stay float where a recipe mixes int8 with float."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from dualpix.export.artefact import BuildRequest
from dualpix.export.mixed import MIXED_BUDGET, kept_float, searched
from dualpix.quantize.calibration import CalibrationSet, Inputs
from dualpix.quantize.keep import KeepFloat, keep_modules, keep_nothing
from dualpix.quantize.ptq import quantise_static
from dualpix.quantize.search.losses import output_loss


class _Estimating(nn.Module):
    """Features that do not change with the contrast, and an estimate that does: the range of a result is nobody's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.spread = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.constant_(self.spread.weight, 1 / 9)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.sigmoid(self.middle(torch.relu(self.first(torch.tanh(x)))))
        y: Tensor = self.spread(x * 2) + 0.1 * seen[:, :1]
        return y


def _scene(gain: float, seed: int) -> Inputs:
    return (gain * torch.rand(1, 1, 16, 24, generator=torch.Generator().manual_seed(seed)),)


def _request(keep_float: KeepFloat = keep_nothing, gains: tuple[float, ...] = (0.5, 0.5, 4.0, 4.0)) -> BuildRequest:
    torch.manual_seed(0)
    samples = tuple(_scene(gain, seed) for seed, gain in enumerate(gains))
    return BuildRequest(
        _Estimating().eval(), "w8a8", Path("a"), samples[0], ("x",), ("y",), CalibrationSet(samples, "scenes"),
        keep_float,
    )  # fmt: skip


def test_what_leaves_the_range_of_half_of_the_samples_stays_float() -> None:
    request = _request()
    keep, kept = kept_float(request)
    assert "spread" in kept and "middle" not in kept
    half = request.calibration.samples[:2]
    loss = output_loss(request.module, request.calibration.samples[2:])
    plain, mixed = (quantise_static(request.module, half, k) for k in (keep_nothing, keep))
    assert loss(lambda inputs: plain(*inputs)) > 0.5, "what a range that others measured does"
    assert loss(lambda inputs: mixed(*inputs)) <= MIXED_BUDGET


def test_what_the_network_names_stays_float_in_any_case() -> None:
    request = _request(keep_modules("first"))
    keep, kept = kept_float(request)
    assert {"first", "spread"} <= set(kept) and keep("first") and keep("spread") and not keep("middle")


def test_nothing_is_searched_where_int8_keeps_the_budget() -> None:
    assignment = searched(_request(gains=(0.5, 0.5, 0.5, 0.5)))
    assert assignment.keep_float == () and all(layer.harm == 0 for layer in assignment.layers)
