"""Adapting without a truth: the captures that are taken, the answers that are not, and what is written."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from tests.support.dddnet import brightening, write_model

from dualpix.capture.cli import root
from dualpix.capture.errors import DualpixError
from dualpix.models.data.rendered import RenderedDataset, RenderSettings
from dualpix.models.predict.working import WorkingViews
from dualpix.models.prepare import network_inputs
from dualpix.models.train import adapt, adapt_pairs
from dualpix.models.train.adapt import AdaptConfig, Judged, match_error, worse
from dualpix.models.train.adapt_pairs import Pair, split_pairs
from dualpix.models.zoo import load_model

GAIN = 0.21
GOOD = Judged(0.002, 0.01, 0.5, 0.02)


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(root, [str(a) for a in args])


def rendered(count: int, size_hw: tuple[int, int] = (64, 96)) -> list[dict[str, torch.Tensor]]:
    config = RenderSettings(size_hw=size_hw, disparity_gain=(GAIN, GAIN * 1.0001), coc_span_px=(6.0, 12.0))
    data = RenderedDataset(count, settings=config, seed=11)
    return [data[index] for index in range(count)]


def pairs_of(samples: list[dict[str, torch.Tensor]]) -> list[Pair]:
    names = ("left", "right", "combined")
    return [Pair(f"{i}.png", {n: sample[n] for n in names}, GAIN) for i, sample in enumerate(samples)]


def write_captures(folder: Path, samples: list[dict[str, torch.Tensor]]) -> Path:
    folder.mkdir()
    for index, sample in enumerate(samples):
        level = 0.4 / float(torch.maximum(sample["left"].max(), sample["right"].max()))
        for name in ("left", "right"):
            codes = np.rint(np.clip(sample[name][0].numpy() * level, 0, 1) * 65535).astype(np.uint16)
            cv2.imwrite(str(folder / f"{index}_{name}.png"), codes)
    return folder


def test_held_out_captures_follow_from_names_alone() -> None:
    pairs = pairs_of(rendered(1) * 11)
    training, held = split_pairs(pairs)
    assert {p.name for p in training} | {p.name for p in held} == {p.name for p in pairs}
    assert len({p.name for p in held}) == 2 and not {p.name for p in training} & {p.name for p in held}
    again = split_pairs([*pairs[::-1], *pairs])
    assert {p.name for p in again[1]} == {p.name for p in held}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (replace(GOOD, difference=0.0015), None),
        (replace(GOOD, difference=0.001995), "the difference of the halves"),
        (replace(GOOD, difference=0.001, relief_px=0.1), "the relief shrank"),
        (replace(GOOD, difference=0.001, restored=0.001), "it gives what it is given"),
        (replace(GOOD, difference=0.001, match=0.0103), "the halves match worse"),
        (replace(GOOD, difference=math.nan), "not finite"),
    ],
)
def test_answers_that_are_no_good_are_told(found: Judged, why: str | None) -> None:
    said = worse(found, GOOD)
    assert said is None if why is None else said is not None and why in said


def test_the_second_opinion_is_best_at_the_true_disparity() -> None:
    for sample in rendered(3, (96, 128)):
        batch = {name: value[None] for name, value in sample.items()}
        true = match_error(batch, batch["disparity_px"])
        assert true < match_error(batch, 0 * batch["disparity_px"])
        assert true < match_error(batch, -batch["disparity_px"])


def test_given_pictures_and_no_depth_do_not_pass_for_an_answer(tmp_path: Path) -> None:
    """The trivial answer makes none of the difference of the halves: all of it is its error."""
    network = brightening(0.0)
    with torch.no_grad():
        for head in network.heads:  # type: ignore[union-attr]
            head.weight.zero_()
            head.bias.zero_()
    model = load_model(write_model(tmp_path / "model", network))
    [pair] = pairs_of(rendered(1))
    found = adapt.judge(model.module.eval(), model.spec, [pair], torch.device("cpu"))
    _, left, right = network_inputs(*(pair.views[name][None] for name in ("left", "right", "combined")))
    whole = 0.5 * float((left - right)[..., 8:-8, 8:-8].abs().mean())
    assert found.difference == pytest.approx(whole, rel=0.02)
    assert found.relief_px == 0 and found.restored == pytest.approx(0, abs=1e-6)


def shown(left: np.ndarray, right: np.ndarray) -> WorkingViews:
    return WorkingViews(left.astype(np.float32), right.astype(np.float32), (left + right).astype(np.float32))


def test_pairs_that_would_teach_something_wrong_are_refused() -> None:
    sample = rendered(1, (128, 160))[0]
    left, right = (sample[name][0].numpy() for name in ("left", "right"))
    adapt_pairs.check_pair(Path("a.png"), shown(left, right))
    with pytest.raises(DualpixError, match=r"'a.png': both halves are the same picture"):
        adapt_pairs.check_pair(Path("a.png"), shown(left, left))
    with pytest.raises(DualpixError, match=r"one half is \d+% and more brighter than the other; expected halves"):
        adapt_pairs.check_pair(Path("a.png"), shown(left, right * np.linspace(0.7, 1.3, 160)))
    with pytest.raises(DualpixError, match="black"):
        adapt_pairs.check_pair(Path("a.png"), shown(0 * left, 0 * right))


def test_a_network_without_a_picture_is_refused_before_captures_are_read(tmp_path: Path) -> None:
    done = run("train", "-o", tmp_path / "o", "--adapt", tmp_path, "--init", "difusenet-compact")
    assert "model 'difusenet-compact' gives no sharp picture that could be blurred again" in str(done.exception)
    assert not (tmp_path / "o").exists()


def test_what_goes_together() -> None:
    assert "--adapt was given without --init" in str(run("train", "-o", "o", "--adapt", "x").exception)
    told = run("train", "-o", "o", "--adapt", "x", "--init", "difusenet-compact", "--data", "procedural")
    assert "--data was given with --adapt" in str(told.exception)
    assert "--disparity-gain was given without --adapt" in str(
        run("train", "-o", "o", "--disparity-gain", "0.2").exception
    )


def test_captures_need_a_gain_and_company(tmp_path: Path) -> None:
    model, samples = write_model(tmp_path / "model"), rendered(2)
    folder = write_captures(tmp_path / "two", samples)
    arguments = ("train", "-o", tmp_path / "o", "--init", model, "--steps", "1", "--adapt")
    assert "nothing says how far the halves" in str(run(*arguments, folder).exception)
    assert "disparity gain 0.9; expected above 0" in str(run(*arguments, folder, "--disparity-gain", "0.9").exception)
    single = write_captures(tmp_path / "one", samples[:1])
    assert "1 capture to adapt to" in str(run(*arguments, single, "--disparity-gain", "0.2").exception)
    assert "is no folder" in str(run(*arguments, tmp_path / "none", "--disparity-gain", "0.2").exception)
    assert not (tmp_path / "o").exists()
    (folder / "dataset.json").write_text('{"camera": "pixel4"}')
    pairs = adapt_pairs.read_pairs([folder], tmp_path / "o", None, lambda done, total: None)
    assert {pair.gain for pair in pairs} == {pairs[0].gain} and 0.15 < pairs[0].gain < 0.3
    assert len(pairs) == 4, "two captures at two working sizes"


def test_nothing_is_written_where_nothing_better_came(tmp_path: Path) -> None:
    """A rate too low to change anything: the figures of the first model are not beaten."""
    model, folder = write_model(tmp_path / "model"), write_captures(tmp_path / "in", rendered(2))
    done = run(
        "train", "-o", tmp_path / "o", "--init", model, "--adapt", folder, "--disparity-gain", GAIN, "--steps", "1",
        "--batch-size", "1", "--crop", "64", "96", "--learning-rate", "1e-12",
    )  # fmt: skip
    assert "nothing better came of it: the difference of the halves is off by" in str(done.exception)
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_a_model_whose_depth_is_scaled_down_finds_its_scale_again(tmp_path: Path) -> None:
    """Of a model that has learnt some scenes, the last layer is scaled to 0.6: captures alone bring most of it back."""
    torch.manual_seed(0)
    samples = rendered(10)
    for index, sample in enumerate(samples):
        config = RenderSettings(size_hw=(64, 96), disparity_gain=(GAIN, GAIN * 1.0001), coc_span_px=(6.0, 12.0))
        samples[index] = RenderedDataset(10, settings=config, seed=11, sharp=True)[index] | sample
    from dualpix.models.networks import build_network, network_spec
    from dualpix.models.networks.spec import training_outputs

    spec, network = network_spec("dddnet"), build_network("dddnet").train()
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    loss, optimiser = spec.loss_for({}), torch.optim.AdamW(network.parameters(), 2e-3)
    for _ in range(250):
        value = loss(training_outputs(network, spec.inputs_of(batch)), batch)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    with torch.no_grad():
        head = network.heads[0]  # type: ignore[union-attr, index]
        head.weight.mul_(0.6)
        head.bias.mul_(0.6)
    model = load_model(write_model(tmp_path / "model", network))
    pairs = pairs_of(samples)
    adapted, record = adapt.adapt(model, pairs, AdaptConfig(steps=100, crop_hw=(64, 96), keep_disparity=0.0))

    def error(module: torch.nn.Module) -> float:
        with torch.no_grad():
            found = module.eval()(*spec.inputs_of(batch))[0]
        return float((found - batch["disparity_px"]).abs().mean())

    assert record["after"]["difference"] < record["before"]["difference"]  # type: ignore[index]
    assert error(adapted) < 0.75 * error(model.module)
    adapt.write_adapted(tmp_path / "out", model, adapted, record)
    assert load_model(tmp_path / "out").card["adapted"]["from"] == "model"
    assert json.loads((tmp_path / "out" / "card.json").read_text())["network"] == "dddnet"
