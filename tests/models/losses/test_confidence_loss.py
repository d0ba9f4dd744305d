"""The loss of a learned confidence: values by hand, and what it may not teach."""

from __future__ import annotations

import math

import pytest
import torch

from dualpix.models.confidence.evidence import Tolerance
from dualpix.models.losses import (
    CONFIDENCE_WEIGHT,
    confidence_loss,
    disparity_and_confidence_loss,
    disparity_loss,
)


def _map(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def test_it_is_the_cross_entropy_of_being_within_the_stated_error() -> None:
    # at 4 px the tolerance is 0.2 + 0.1 * 4 = 0.6 px, at -1 px it is 0.3 px
    logit, disparity_px = _map(2.0, 2.0, -1.0, -1.0), _map(4.0, 4.0, -1.0, -1.0)
    error_px = _map(0.59, 0.61, 0.29, 0.31)
    right, wrong = math.log1p(math.exp(-2.0)), math.log1p(math.exp(2.0))
    missed, unsure = math.log1p(math.exp(1.0)), math.log1p(math.exp(-1.0))
    by_hand = (right + wrong + missed + unsure) / 4
    assert float(confidence_loss(logit, error_px, disparity_px)) == pytest.approx(by_hand, rel=1e-12)
    # twice as fine a grid: disparities, errors and the fixed part of the tolerance are twice as many pixels
    finer = confidence_loss(logit, 2 * error_px, 2 * disparity_px, tolerance=Tolerance().scaled(2.0))
    assert float(finer) == pytest.approx(by_hand, rel=1e-12)


def test_it_is_least_at_the_share_that_is_right() -> None:
    error_px = _map(0.0, 0.0, 0.0, 1.0)  # three of four
    logits = [math.log(p / (1 - p)) for p in (0.6, 0.75, 0.9)]
    losses = [float(confidence_loss(_map(*[z] * 4), error_px, _map(0, 0, 0, 0))) for z in logits]
    assert min(losses) == losses[1]


def test_holes_count_for_nothing_whatever_they_hold() -> None:
    known = _map(1, 0, 1)
    first = confidence_loss(_map(1, 9, -1), _map(0.1, math.nan, 3), _map(0, 0, 0), known)
    second = confidence_loss(_map(1, 9, -1), _map(0.1, 0.0, 3), _map(0, 0, 0), known)
    assert float(first) == float(second) == pytest.approx(math.log1p(math.exp(-1.0)), rel=1e-12)
    assert float(confidence_loss(_map(1, 2, 3), _map(0, 0, 0), _map(0, 0, 0), torch.zeros_like(known))) == 0


def test_the_confidence_teaches_the_disparity_nothing() -> None:
    draw = torch.Generator().manual_seed(7)
    target = torch.randn((2, 1, 32, 48), generator=draw) * 3
    finest = torch.randn((2, 2, 16, 24), generator=draw).requires_grad_()
    coarse = torch.randn((2, 1, 8, 12), generator=draw)
    disparity_and_confidence_loss([finest, coarse], {"disparity_px": target}).backward()  # type: ignore[no-untyped-call]
    alone = finest.detach()[:, :1].clone().requires_grad_()
    disparity_loss([alone, coarse], target).backward()  # type: ignore[no-untyped-call]
    assert finest.grad is not None and alone.grad is not None
    assert torch.equal(finest.grad[:, :1], alone.grad), "the disparity's gradient is that of its own loss"
    assert float(finest.grad[:, 1:].abs().min()) > 0, "each logit learns"


def test_both_losses_add_up_with_the_truth_at_the_scale_of_the_prediction() -> None:
    target = torch.full((1, 1, 4, 8), 2.0)
    target[..., 4:] = -2.0
    known = torch.ones_like(target)
    known[..., 6:] = 0.0
    target[..., 6:] = math.nan
    disparity_px = torch.tensor([2.3, 2.5, -2.0, 0.0]).expand(1, 1, 2, 4)  # tolerances 0.43, 0.45 and 0.4 px
    logit = torch.tensor([3.0, -1.0, 2.0, 5.0]).expand(1, 1, 2, 4)
    batch = {"disparity_px": target, "known": known}
    total = float(disparity_and_confidence_loss([torch.cat([disparity_px, logit], 1)], batch))
    # off by 0.3 (right), 0.5 (wrong), 0 (right), and a hole
    by_hand = (math.log1p(math.exp(-3.0)) + math.log1p(math.exp(-1.0)) + math.log1p(math.exp(-2.0))) / 3
    expected = float(disparity_loss([disparity_px], target, known)) + CONFIDENCE_WEIGHT * by_hand
    assert total == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_finest_prediction_of_other_channels_is_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 2, h, w\): disparity and logit"):
        disparity_and_confidence_loss([torch.ones(1, channels, 8, 8)], {"disparity_px": torch.ones(1, 1, 16, 16)})
    with pytest.raises(ValueError, match="the first prediction is None"):
        disparity_and_confidence_loss([], {"disparity_px": torch.ones(1, 1, 16, 16)})
