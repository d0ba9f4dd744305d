"""Depths by the blur of neighbouring frames: the ladder of blurs, and which place matches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dualpix.models.blocks.blur_matching import BlurLadder, BlurMatching, Evidence, ExpectedPlace
from dualpix.models.networks.fossa import places_tried

SIDE_PX = 96
TRIED = places_tried()


def texture(seed: int = 1) -> Tensor:
    """(1, 1, H, W) light of every size."""
    g = torch.Generator().manual_seed(seed)
    coarse = [torch.rand(1, 1, SIDE_PX // k, SIDE_PX // k, generator=g) for k in (1, 2, 4, 8)]
    sizes = [torch.nn.functional.interpolate(c, size=(SIDE_PX, SIDE_PX), mode="bilinear") for c in coarse]
    return 0.05 + 0.2 * torch.stack(sizes).sum(0)


def disc_blurred(light: Tensor, circle_px: float) -> Tensor:
    """Through an ideal aperture: a disc, its rim in eight steps a pixel."""
    reach = int(circle_px / 2 + 1)
    fine = (torch.arange((2 * reach + 1) * 8) + 0.5) / 8 - reach - 0.5
    inside = (fine[:, None] ** 2 + fine**2 <= (circle_px / 2) ** 2).float()
    kernel = torch.nn.functional.avg_pool2d(inside[None, None], 8)
    if circle_px < 1:
        return light
    padded = torch.nn.functional.pad(light, (reach,) * 4, mode="replicate")
    return torch.nn.functional.conv2d(padded, kernel / kernel.sum())


def test_each_step_of_the_ladder_has_its_variance_and_keeps_the_light() -> None:
    ladder = BlurLadder()
    spot = torch.zeros(1, 1, 129, 129)
    spot[..., 64, 64] = 1
    x = torch.arange(129.0) - 64
    for level, variance in zip(ladder(spot)[0], ladder.variances, strict=True):
        assert level.sum() == pytest.approx(1, abs=1e-5)
        assert (level.sum(0) * x * x).sum() == pytest.approx(float(variance), abs=1e-3)
    plain = torch.full((2, 1, 24, 32), 0.7)
    assert torch.allclose(ladder(plain), torch.tensor(0.7), atol=1e-6), "borders are no darker"


@given(st.floats(0, 84))
def test_two_steps_make_any_variance(variance: float) -> None:
    matching = BlurMatching(TRIED)
    shares = matching._levels(torch.tensor([[[variance]]]))[0, 0, 0]
    assert shares.sum() == pytest.approx(1, abs=1e-5) and (shares >= 0).all() and (shares > 0).sum() <= 2
    assert (shares * matching.ladder.variances).sum() == pytest.approx(variance, abs=1e-3)


@pytest.mark.parametrize("true", [0.05, 0.2, 0.45, 0.6, 0.8])
@pytest.mark.parametrize("reach_px", [12.0, 24.0])
def test_the_place_whose_blur_fits_matches_best(true: float, reach_px: float) -> None:
    """Of frames that a disc has blurred, whatever their light; nothing is learnt yet."""
    frames = torch.tensor([[0.0, 0.35, 1.0]])
    blurred = [disc_blurred(texture(), reach_px * abs(true - float(place))) for place in frames[0]]
    with torch.no_grad():
        matching = BlurMatching(TRIED)
        for light in (1.0, 0.4):
            stack = matching(light * torch.cat(blurred), frames, torch.full((1, 3), reach_px), (1, 2))
            assert [m.shape[0] for m in stack] == [2, 1]
            for matched in (stack[0], stack[1]):  # neighbours, both pairs together; first and last frame
                bad = matched[..., 6:-6, 6:-6].mean((0, 2, 3))  # off the border
                found = float(TRIED[bad.argmin()])
                step = float((TRIED - true).abs().min())
                assert abs(found - true) <= step + 0.06, (found, bad)


def test_without_a_lens_no_place_is_better_than_another() -> None:
    light = torch.cat([texture(seed) for seed in (1, 2, 3)])
    with torch.no_grad():
        (matched,) = BlurMatching(TRIED)(light, torch.tensor([[0.0, 0.5, 1.0]]), torch.zeros(1, 3))
    assert matched.shape == (2, len(TRIED), SIDE_PX // 2, SIDE_PX // 2)
    assert torch.allclose(matched, matched[:, :1].expand_as(matched), atol=1e-5)


def test_stacks_of_a_batch_are_matched_apart_and_in_full_precision() -> None:
    light = torch.cat([texture(seed) for seed in range(6)])
    place, reach = torch.tensor([[0.0, 0.4, 1.0], [0.0, 0.7, 1.0]]), torch.tensor([[9.0] * 3, [17.0] * 3])
    matching = BlurMatching(TRIED)
    with torch.no_grad():
        (both,) = matching(light, place, reach)
        apart = [matching(light[3 * k : 3 * k + 3], place[k : k + 1], reach[k : k + 1])[0] for k in (0, 1)]
        with torch.autocast("cpu", torch.bfloat16):
            (half,) = matching(light, place, reach)
    assert torch.allclose(both, torch.cat(apart), atol=1e-5)
    assert half.dtype == torch.float32 and torch.equal(half, both)


def test_lens_distances_and_places_get_gradients() -> None:
    matching = BlurMatching(TRIED)
    (matched,) = matching(torch.cat([texture(1), texture(2)]), torch.tensor([[0.0, 1.0]]), torch.full((1, 2), 15.0))
    matched.mean().backward()
    for name, parameter in matching.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs() > 0, name


@settings(max_examples=20)
@given(st.integers(0, len(TRIED) - 1))
def test_expected_place_of_one_sure_score(place: int) -> None:
    scores = torch.zeros(1, len(TRIED), 2, 3)
    scores[:, place] = 50
    found, sure = ExpectedPlace(TRIED)(scores)
    assert torch.allclose(found, TRIED[place], atol=1e-5) and torch.allclose(sure, torch.tensor(1.0))
    unsure = ExpectedPlace(TRIED)(torch.zeros_like(scores))
    assert torch.allclose(unsure[0], TRIED.mean(), atol=1e-5)
    assert torch.allclose(unsure[1], torch.tensor(1 / len(TRIED)), atol=1e-5)


def test_evidence_prefers_the_better_match_before_it_has_learnt() -> None:
    evidence = Evidence(len(TRIED), 8, torch.nn.Identity())
    matches = torch.zeros(2, len(TRIED), 4, 4)
    matches[:, 7] = -2
    with torch.no_grad():
        scores, features = evidence(matches, torch.zeros(2, 8, 1, 1))
        other, _ = evidence(matches + 3, torch.zeros(2, 8, 1, 1))
    assert (scores.argmax(1) == 7).all() and features.shape == (2, 8, 4, 4)
    assert torch.allclose(scores, other, atol=1e-4), "how bad all places are is no score"
    assert torch.equal(scores, evidence.plain(matches)), "nothing is learnt yet"
