"""A network's own confidence: through padding, sizes and axes like its disparity, and weighed with the evidence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docs.make_confidence import Sampled, calibration_of
from tests.support.pairs import NOTHING, shifted
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import DualPixelImage, FloatImage
from dualpix.models.confidence import Calibration
from dualpix.models.confidence.evidence import TERMS, Tolerance, gather_evidence, logit_of
from dualpix.models.losses import disparity_and_confidence_loss
from dualpix.models.networks.spec import confidence_output
from dualpix.models.predict.disparity import network_estimator, predict_disparity, run_estimator
from dualpix.models.predict.judge import Estimate, evidence_of
from dualpix.models.tasks.dual_pixel import DUAL_PIXEL
from dualpix.models.zoo import CONFIDENCE, DEFAULT_MODEL, ZOO, LoadedModel, load_model, read_calibration

WITHOUT = "difusenet-compact"
"""A network that gives no confidence of its own."""
PLAIN = json.loads((ZOO / WITHOUT / CONFIDENCE).read_text())
Forward = Callable[..., Any]


@pytest.fixture(scope="module")
def network() -> LoadedModel:
    return load_model(WITHOUT)


def giving(network: LoadedModel, forward: Forward) -> LoadedModel:
    """The shipped model's name and calibration with another function of (image, left, right)."""
    return replace(network, module=forward)  # type: ignore[arg-type]


def found_by(forward: Forward, network: LoadedModel, image: DualPixelImage, sizes: Sequence[int]) -> Estimate:
    return run_estimator(image, network_estimator(giving(network, forward)), "n", sizes, "median")


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


# --- what a network gives ---


def test_the_second_of_two_maps_is_the_confidence() -> None:
    disparity, other = torch.zeros(1, 1, 4, 6), torch.ones(1, 1, 4, 6)
    assert confidence_output((disparity, other)) is other and confidence_output([disparity, other]) is other
    assert confidence_output(disparity) is None and confidence_output((disparity,)) is None
    sharp = torch.ones(1, 3, 4, 6)
    assert confidence_output((disparity, sharp)) is None and confidence_output((disparity, other, sharp)) is other


def test_it_comes_through_padding_and_cropping_where_the_disparity_does(network: LoadedModel) -> None:
    """70 x 101 px: neither side is a multiple of 32. A confidence that is the left view itself says where it lies."""
    rng = np.random.default_rng(3)
    left, right, combined = (0.2 + 0.6 * rng.random((70, 101), np.float32) for _ in range(3))
    image = DualPixelImage(left, right, combined, np.zeros(left.shape, bool))

    def forward(image: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return left, left.sigmoid()

    found = found_by(forward, network, image, [101])
    assert found.learned is not None and found.learned.shape == (70, 101)
    assert np.allclose(found.learned, found.result.disparity_px, atol=1e-4)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_portrait_capture_has_it_on_its_own_axes(axis: str, network: LoadedModel) -> None:
    def forward(image: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        ramp = torch.linspace(-3.0, 3.0, left.shape[-1]).expand_as(left)
        return left * 0, ramp.sigmoid()

    view = shifted(0.5).left  # 192 x 256 along x
    upright = view if axis == "x" else view.T.copy()
    image = DualPixelImage(upright, upright, upright, np.zeros(upright.shape, bool), axis)  # type: ignore[arg-type]
    found = found_by(forward, network, image, [256])
    assert found.learned is not None and found.learned.shape == upright.shape
    along_x = found.learned if axis == "x" else found.learned.T
    assert np.allclose(along_x, np.linspace(-3, 3, 256, dtype=np.float32), atol=1e-4)


def test_several_sizes_are_merged_as_logits_and_scaled_by_nothing(network: LoadedModel) -> None:
    """By the median, like disparities: 1 at 256 px, 3 at 160 px and 2 at 96 px is 2 in pixels of any size."""
    of_width = {256: 1.0, 160: 3.0, 96: 2.0}

    def forward(image: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        value = of_width[left.shape[-1]]
        return torch.zeros_like(left), torch.full_like(left, sigmoid(value))

    found = found_by(forward, network, shifted(0.5), [256, 160, 96])
    assert found.learned is not None and np.allclose(found.learned, 2.0, atol=1e-4)


def test_the_logit_is_bounded() -> None:
    shares = np.array([[0.0, sigmoid(-2.0), 0.5, sigmoid(2.0), 1.0]], np.float32)
    assert np.allclose(logit_of(shares), [[-6, -2, 0, 2, 6]], atol=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5, 4.0])
def test_what_is_no_share_is_refused(value: float, network: LoadedModel) -> None:
    broken = giving(network, lambda image, left, right: (left * 0, left * 0 + value))
    with pytest.raises(DualpixError, match=r"gives confidences of \S+ to \S+ of this capture; expected 0 to 1"):
        predict_disparity(shifted(0.5), broken)


# --- how it counts ---


def test_it_is_one_more_term_of_the_evidence() -> None:
    image = shifted(0.5)
    learned = np.full(image.left.shape, 1.5, np.float32)
    without = gather_evidence(image.left, image.right, np.zeros_like(image.left)).terms(Tolerance())
    beside = gather_evidence(image.left, image.right, np.zeros_like(image.left), learned=learned).terms(Tolerance())
    assert set(beside) - set(without) == {"learned"} <= set(TERMS) and np.allclose(beside["learned"], 1.5)
    assert all(np.array_equal(beside[name], without[name]) for name in without)


def test_that_a_network_is_sure_counts_little_where_nothing_can_be_measured() -> None:
    striped = NOTHING["stripes along the baseline"][0]()
    for logit, kept in ((4.0, 0.5), (-4.0, 1.0)):
        learned, none = np.full(striped.left.shape, logit, np.float32), np.zeros_like(striped.left)
        evidence = gather_evidence(striped.left, striped.right, none, learned=learned)
        assert np.median(evidence.terms(Tolerance())["learned"] / logit) <= kept
        shown = shifted(0.5)
        beside = gather_evidence(shown.left, shown.right, none, learned=learned).terms(Tolerance())["learned"]
        assert np.allclose(beside, logit)


def test_networks_without_one_are_judged_as_before_bit_for_bit(network: LoadedModel) -> None:
    """A second output changes nothing either, as long as no calibration has a weight for it."""
    image = shifted(1.0)
    plain = predict_disparity(image, network)
    assert evidence_of(image, found_by(network.module, network, image, [256]), "centre").learned is None
    with_second = giving(network, lambda *views: (network.module(*views), torch.full_like(views[1], 0.01)))
    beside = predict_disparity(image, with_second)
    assert np.array_equal(plain.disparity_px, beside.disparity_px)
    assert np.array_equal(plain.judged.confidence, beside.judged.confidence)
    assert np.array_equal(plain.judged.error_px, beside.judged.error_px)


def calibrated(weight: float) -> dict[str, Any]:
    """The shipped calibration with a weight of the learned term beside."""
    content: dict[str, Any] = json.loads(json.dumps(PLAIN))
    for key in ("one_size", "several_sizes"):
        content[f"{key}_learned"] = {**content[key], "weights": {**content[key]["weights"], "learned": weight}}
    return content


def with_confidence(network: LoadedModel, folder: Path, logit: float) -> LoadedModel:
    """The shipped network, which says of each pixel that it is as sure as ``logit``."""

    def forward(*views: Tensor) -> tuple[Tensor, Tensor]:
        return network.module(*views), torch.full_like(views[1], sigmoid(logit))

    return replace(network, module=forward, folder=folder, name=folder.name)  # type: ignore[arg-type]


def test_a_calibration_weighs_it_with_what_the_views_say(network: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / CONFIDENCE).write_text(json.dumps(calibrated(0.8)))
    image = shifted(1.0)
    even, sure, unsure = (predict_disparity(image, with_confidence(network, tmp_path, z)) for z in (0.0, 1.5, -4.0))
    plain = predict_disparity(image, network)
    # a logit of 0 says nothing
    assert np.allclose(even.judged.confidence, plain.judged.confidence, atol=1e-5)
    assert np.median(unsure.judged.confidence) < 0.4 < np.median(plain.judged.confidence)
    assert sure.judged.confidence.mean() >= plain.judged.confidence.mean()
    assert np.array_equal(unsure.disparity_px, plain.disparity_px)
    assert sure.judged.findings == ()


def test_the_plain_calibration_serves_networks_without_one(network: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / CONFIDENCE).write_text(json.dumps(calibrated(0.8)))
    mine = replace(network, folder=tmp_path, name=tmp_path.name)
    for sizes in (1, 2):
        plain, learned = (mine.calibration(sizes, learned=says)[0] for says in (False, True))
        assert "learned" not in plain.weights and learned.weights["learned"] == 0.8
    assert predict_disparity(shifted(1.0), mine).judged.findings == ()


def test_another_networks_calibration_is_taken_without_its_learned_term(network: LoadedModel, tmp_path: Path) -> None:
    """Sure of itself means one thing in one network and another in the next."""
    mine = with_confidence(network, tmp_path, -5.0)  # its folder has no confidence.json
    default = replace(network, folder=ZOO / DEFAULT_MODEL, name=DEFAULT_MODEL)
    judged, plain = (predict_disparity(shifted(1.0), model).judged for model in (mine, default))
    assert [f.code for f in judged.findings] == ["other_calibration"]
    assert np.array_equal(judged.confidence, plain.confidence)


@pytest.mark.parametrize("sizes", [1, 2])
def test_the_shipped_calibrations_are_read_as_they_were(sizes: int) -> None:
    path = ZOO / WITHOUT / CONFIDENCE
    key = "several_sizes" if sizes > 1 else "one_size"
    assert read_calibration(path, sizes).to_json() == PLAIN[key]


def test_a_calibration_without_its_evidence_is_an_error_of_ours() -> None:
    image = shifted(0.5)
    evidence = gather_evidence(image.left, image.right, np.zeros_like(image.left))
    calibration = Calibration(Tolerance(), 0.0, {"learned": 1.0}, (0.0, 1.0), (0.0, 1.0), (1.0, 0.5), {})
    with pytest.raises(ValueError, match="weights are for"):
        calibration.score(evidence)


# --- how it is taught ---


def test_the_task_takes_a_finest_prediction_of_two_channels() -> None:
    draw = torch.Generator().manual_seed(1)
    batch = {"disparity_px": torch.randn((2, 1, 32, 48), generator=draw)}
    predictions = [torch.randn((2, 2, 16, 24), generator=draw), torch.randn((2, 1, 8, 12), generator=draw)]
    assert float(DUAL_PIXEL.loss(predictions, batch)) == float(disparity_and_confidence_loss(predictions, batch))
    with pytest.raises(ValueError, match=r"expected \(B, 1, h, w\)"):
        DUAL_PIXEL.loss([torch.zeros(2, 3, 16, 24)], batch)


def test_training_finds_out_where_it_is_wrong() -> None:
    """A network that cannot match, of a scene whose right half it cannot know: it learns to say so, on other noise."""
    torch.manual_seed(0)
    head = nn.Conv2d(1, 1, 1)
    optimiser = torch.optim.Adam(head.parameters(), 0.2)
    draw = torch.Generator().manual_seed(2)
    place = torch.cat([torch.full((1, 1, 32, 32), -1.0), torch.full((1, 1, 32, 32), 1.0)], dim=-1)

    def truth() -> Tensor:
        return torch.where(place > 0, torch.randn((1, 1, 32, 64), generator=draw) * 3, torch.full_like(place, 0.1))

    disparity = torch.zeros_like(place)
    for _ in range(100):
        prediction = torch.cat([disparity, head(place)], 1)
        loss = disparity_and_confidence_loss([prediction], {"disparity_px": truth()})
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    said = head(place).sigmoid().detach()
    share: FloatImage = (truth()[..., 32:].abs() <= 0.2).float().mean().numpy()
    assert float(said[..., :32].min()) > 0.97
    assert float(said[..., 32:].mean()) == pytest.approx(float(share), abs=0.05)


def test_a_calibration_is_made_with_and_without_it() -> None:
    """Of errors that only the learned term knows of, the one that weighs it is worth more."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(3):
        terms = rng.normal(size=(4000, 2))
        share = 1 / (1 + np.exp(-(0.2 + 0.4 * terms[:, 0] + 1.5 * terms[:, 1])))
        error = np.where(rng.random(4000) < share, 0.5, 3.0)
        made.append(Sampled(("support", "learned"), terms, error))
    beside = calibration_of({"method": "n"}, *made)
    alone = calibration_of({"method": "n"}, *(part.without("learned") for part in made))
    assert beside.weights == pytest.approx({"support": 0.4, "learned": 1.5}, abs=0.15)
    assert set(alone.weights) == {"support"} and alone.weights["support"] == pytest.approx(0.25, abs=0.1)
    with_it, without = (c.provenance["check"] for c in (beside, alone))
    assert with_it["right"] == without["right"] and with_it["ause"] < without["ause"] - 0.1
    assert with_it["expected_calibration_error"] < 0.05
