"""Tasks: what they state holds together, holes do not count, and the truth itself scores perfectly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualpix.capture.errors import UnknownNameError
from dualpix.models.data.scenes import task_scene
from dualpix.models.losses import affine_invariant_loss, depth_loss, disparity_loss
from dualpix.models.tasks import DUAL_PIXEL, DUAL_PIXEL_AFFINE, FOCUS_STACK, TASKS, Batch, Task, task_named
from dualpix.models.tasks.task import KNOWN, eval_sample

SIZE = (64, 96)


@pytest.fixture(scope="module", params=sorted(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    return task_named(request.param)


@pytest.fixture(scope="module")
def batch(task: Task) -> Batch:
    return {name: value[None] for name, value in task_scene(task, 0, SIZE).items()}


def test_samples_and_inputs_are_as_the_task_states_them(task: Task, batch: Batch) -> None:
    frames = batch["frames"].shape[1] if "frames" in batch else 1
    for field in task.sample:
        assert field.optional or field.name in batch
        if field.name in batch:
            assert tuple(batch[field.name].shape[1:]) == field.shape(SIZE, frames), field.name
    if "focus_distances_m" in batch:
        assert (batch["focus_distances_m"].diff() < 0).all(), "the farthest focus comes first"
    made = task.inputs_of(batch)
    assert list(made) == [field.name for field in task.inputs]
    for field in task.inputs:
        assert tuple(made[field.name].shape) == (1, *field.shape(SIZE, frames)), field.name
        assert torch.isfinite(made[field.name]).all()


def test_the_truth_has_no_loss_and_perfect_scores(task: Task, batch: Batch) -> None:
    truth = batch[task.truth]
    if task is DUAL_PIXEL_AFFINE:  # disparity falls as inverse depth rises
        truth = -0.3 * truth + 7.0
    assert float(task.loss([truth], batch)) == pytest.approx(0.0, abs=2e-4)  # a root's floor
    assert float(task.error(truth, batch)) == pytest.approx(0.0, abs=1e-6)
    sample = {name: value[0].numpy() for name, value in batch.items()}
    found = task.scores({task.outputs[0].name: truth[0].numpy()}, sample)
    assert list(found) == [metric.name for metric in task.metrics]
    for metric in task.metrics:
        assert found[metric.name] == pytest.approx(0.0 if metric.better == "lower" else 1.0, abs=1e-6)


def test_who_knows_nothing_is_worse_than_the_truth_and_of_its_form(task: Task, batch: Batch) -> None:
    guess = task.guess(batch)
    assert guess.shape == batch[task.truth].shape and torch.isfinite(guess).all()
    assert float(task.error(guess, batch)) > 0.01 and float(task.loss([guess], batch)) > 0.01


def test_augmentation_is_a_function_of_the_generator_and_leaves_the_sample(task: Task, batch: Batch) -> None:
    sample = {name: value[0] for name, value in batch.items()}
    before = {name: value.clone() for name, value in sample.items()}
    first, second = (task.augment(sample, np.random.default_rng(5)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in sample)
    assert all(torch.equal(sample[name], before[name]) for name in sample)
    assert any(not torch.equal(first[name], sample[name]) for name in sample)


@given(seed=st.integers(0, 100))
def test_what_lies_in_a_hole_does_not_matter(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    target = torch.rand((2, 1, 16, 24), generator=draw) * 4 + 0.5
    known = (torch.rand(target.shape, generator=draw) > 0.4).float()
    guess = torch.rand((2, 1, 8, 12), generator=draw) * 4 + 0.5
    for loss in (disparity_loss, depth_loss, affine_invariant_loss):
        filled = torch.where(known > 0, target, torch.tensor(3.0))
        other = torch.where(known > 0, target, torch.tensor(77.0))
        assert float(loss([guess], filled, known)) == pytest.approx(float(loss([guess], other, known)), rel=1e-6)
        everywhere = torch.ones_like(known)
        assert float(loss([guess], target, everywhere)) == pytest.approx(float(loss([guess], target)), rel=1e-5)


def test_a_sample_without_any_truth_has_no_loss_and_finite_gradients() -> None:
    guess = torch.ones((1, 1, 8, 8), requires_grad=True)
    target = torch.ones(1, 1, 16, 16) * 2
    for loss in (disparity_loss, depth_loss, affine_invariant_loss):
        value = loss([guess], target, torch.zeros_like(target))
        value.backward()  # type: ignore[no-untyped-call]
        assert float(value.detach()) == pytest.approx(0, abs=2e-4)
        assert guess.grad is not None and torch.isfinite(guess.grad).all()


def test_too_many_predictions_are_refused() -> None:
    for loss in (disparity_loss, depth_loss):
        for count in (0, 6):
            with pytest.raises(ValueError, match=f"{count} predictions, expected 1 to 5"):
                loss([torch.ones(1, 1, 8, 8)] * count, torch.ones(1, 1, 8, 8))


def test_depth_scores_are_those_computed_by_hand() -> None:
    truth = np.array([[[1.0, 2.0], [4.0, np.inf]]], np.float32)
    found = np.array([[[1.1, 2.0], [8.0, 3.0]]], np.float32)
    scores = FOCUS_STACK.scores({"depth_m": found}, {"depth_m": truth})
    assert scores["AbsRel"] == pytest.approx((0.1 + 0 + 1) / 3, rel=1e-6)
    assert scores["MAE 1/m"] == pytest.approx((1 - 1 / 1.1 + 0 + 0.125) / 3, rel=1e-6)
    assert scores["δ<1.25"] == pytest.approx(2 / 3)
    known = np.array([[[1.0, 0.0], [0.0, 1.0]]], np.float32)
    assert FOCUS_STACK.scores({"depth_m": found}, {"depth_m": truth, KNOWN: known})["AbsRel"] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="no pixel has a truth"):
        FOCUS_STACK.scores({"depth_m": found}, {"depth_m": np.zeros_like(truth)})


def test_a_network_gets_the_inputs_that_it_names_in_its_order() -> None:
    sample = task_scene(DUAL_PIXEL, 1, SIZE)
    both = eval_sample(DUAL_PIXEL, sample)
    turned = eval_sample(DUAL_PIXEL, sample, ("right", "left"))
    assert len(both.inputs) == 3 and len(turned.inputs) == 2
    assert torch.equal(turned.inputs[0], both.inputs[2]) and torch.equal(turned.inputs[1], both.inputs[1])


def test_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(
        UnknownNameError,
        match="unknown task 'mono'; expected one of: dual_pixel, dual_pixel_affine, focus_stack, monocular",
    ):
        task_named("mono")
