from __future__ import annotations

import pytest
import torch

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import (
    LOW_COVERAGE,
    input_coverage,
    rendered_calibration,
    rendered_evaluation,
    rendered_held_back,
    rendered_search,
)


def test_coverage_is_high_for_like_values_and_low_where_the_work_goes_beyond() -> None:
    torch.manual_seed(0)
    seen = [(torch.rand(1, 1, 64, 64), torch.rand(1, 1, 64, 64)) for _ in range(3)]
    met = [(torch.rand(1, 1, 64, 64), 2.0 * torch.rand(1, 1, 64, 64)) for _ in range(3)]
    alike, wider = input_coverage(seen, met, ["image"])
    assert (alike.name, wider.name) == ("image", "input 1")
    assert alike.inside > LOW_COVERAGE and alike.overlap > 0.9 and not alike.low
    assert wider.inside == pytest.approx(0.5, abs=0.02) and wider.overlap == pytest.approx(0.5, abs=0.05) and wider.low


def test_a_gap_inside_the_range_shows_in_the_overlap_alone() -> None:
    seen = [(torch.tensor([0.0] * 50 + [1.0] * 50),)]
    met = [(torch.full((100,), 0.5),)]
    (found,) = input_coverage(seen, met)
    assert found.inside == 1.0 and found.overlap == 0.0


def test_constant_inputs_cover_themselves() -> None:
    (found,) = input_coverage([(torch.ones(8),)], [(torch.ones(8),)])
    assert found.inside == 1.0 and found.overlap == pytest.approx(1.0)


def test_coverage_needs_samples_of_the_same_inputs() -> None:
    one, two = (torch.rand(4),), (torch.rand(4), torch.rand(4))
    for seen, met in (([], [one]), ([one], []), ([one], [two])):
        with pytest.raises(DualpixError, match="samples"):
            input_coverage(seen, met)


def test_calibration_search_held_back_and_gate_are_four_uses_of_three_sets() -> None:
    size = (64, 96)
    calibration, search = rendered_calibration(2, size), rendered_search(2, size)
    assert search.calibration().digest() == calibration.digest()
    sets = [search, rendered_held_back(2, size), rendered_evaluation(2, size)]
    scenes = {s.inputs[1].numpy().tobytes() for each in sets for s in each.samples}
    assert len(scenes) == 6, "no scene is in two sets"
