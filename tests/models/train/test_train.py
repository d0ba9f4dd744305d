"""Training: killed and resumed it gives the curve it would have given; its data depend on seed and index alone."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dualpix.capture.errors import DualpixError
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.render import Quality
from dualpix.models.data.mixture import Mixture, MixtureSampler
from dualpix.models.data.rendered import (
    EVALUATION_SEED,
    Optics,
    RenderedDataset,
    RenderSettings,
    Scenes,
    draw_psf,
    evaluation_set,
    render_sample,
)
from dualpix.models.data.sources import SourceOptions, open_source
from dualpix.models.losses import disparity_loss
from dualpix.models.networks import NETWORKS, build_network
from dualpix.models.tasks.dual_pixel import DUAL_PIXEL
from dualpix.models.train import TrainConfig, Trainer
from dualpix.models.train.cli import command
from dualpix.models.train.feed import data_of
from dualpix.models.zoo import load_model

SMALL = RenderSettings(size_hw=(64, 96), coc_span_px=(3.0, 10.0), max_coc_px=10.0)


def train_command(folder: Path, cache: Path, steps: int) -> list[str]:
    options = {
        "--steps": steps, "--batch-size": 2, "--samples": 6, "--cache": cache, "--checkpoint-every": 1,
        "--evaluate-every": 1000, "--eval-samples": 0, "--workers": 0, "--threads": 1,
    }  # fmt: skip
    command = [sys.executable, "-c", "from dualpix.capture.cli import main; main()", "train", "-o", str(folder)]
    return command + [str(part) for option in options.items() for part in option]


def losses(folder: Path) -> list[tuple[str, str]]:
    with (folder / "log.csv").open() as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def test_killed_run_goes_on_as_if_nothing_happened(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    subprocess.run(train_command(tmp_path / "whole", cache, 8), check=True, capture_output=True)
    broken = subprocess.Popen(train_command(tmp_path / "broken", cache, 8), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    log = tmp_path / "broken" / "log.csv"
    while not (log.is_file() and len(losses(log.parent)) >= 3):
        assert time.monotonic() < deadline and broken.poll() is None
        time.sleep(0.02)
    broken.send_signal(signal.SIGKILL)
    broken.wait()
    assert len(losses(log.parent)) < 8
    done = subprocess.run(train_command(tmp_path / "broken", cache, 8), check=True, capture_output=True, text=True)
    assert "resuming at step" in done.stderr
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    weights = [(tmp_path / run / "weights.safetensors").read_bytes() for run in ("broken", "whole")]
    assert weights[0] == weights[1]
    # the folder is a model
    assert load_model(str(tmp_path / "broken")).card["training"]["steps"] == 8


def children_of(process: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_does_not_outlive_a_training_that_is_killed_while_it_starts(tmp_path: Path) -> None:
    """torch's own watch takes whoever is the parent of a worker when its loop begins for the training."""
    words = train_command(tmp_path / "run", tmp_path / "cache", 8)
    words[words.index("--workers") + 1] = "1"
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 200
    while not any(b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes() for n in children_of(running.pid)):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)  # the worker has been told its task by now, and is importing for seconds
    running.kill()
    running.wait()
    while group_exists(running.pid):
        assert time.monotonic() < deadline, "the worker waits for work that never comes"
        time.sleep(0.1)


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    config = TrainConfig(steps=1, batch_size=1, samples=1, eval_samples=0, crop_hw=None, render=SMALL)
    trainer = Trainer(config, tmp_path, workers=0)
    trainer.run()
    other = Trainer(replace(config, learning_rate=1.0), tmp_path)
    with pytest.raises(DualpixError, match="other settings \\(learning_rate\\)"):
        other.resume()
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(DualpixError, match="does not load"):
        trainer.resume()


def test_training_lowers_the_loss_on_one_batch() -> None:
    torch.manual_seed(0)
    network = build_network("difusenet")
    samples = [render_sample(SMALL, 0, i) for i in range(2)]
    image = torch.stack([s["combined"] for s in samples])
    left, right = torch.stack([s["left"] for s in samples]), torch.stack([s["right"] for s in samples])
    target = torch.stack([s["disparity_px"] for s in samples])
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    history = []
    for _ in range(25):
        loss = disparity_loss(network.forward_scales(image, left, right), target)  # type: ignore[operator]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.6 * history[0]


def test_loss_is_zero_for_the_truth_and_grows_with_the_error() -> None:
    target = torch.linspace(-3, 3, 64 * 96).reshape(1, 1, 64, 96)
    scales = [torch.nn.functional.adaptive_avg_pool2d(target, (64 >> k, 96 >> k)) for k in range(1, 5)]
    assert float(disparity_loss(scales, target)) == pytest.approx(0, abs=1e-5)
    assert float(disparity_loss([s + 0.1 for s in scales], target)) < float(
        disparity_loss([s + 0.5 for s in scales], target)
    )


def test_samples_are_pure_functions_and_survive_the_cache(tmp_path: Path) -> None:
    a, b = render_sample(SMALL, 3, 5), render_sample(SMALL, 3, 5)
    assert torch.equal(a["left"], b["left"]) and torch.equal(a["disparity_px"], b["disparity_px"])
    cached = RenderedDataset(6, settings=SMALL, seed=3, cache_dir=tmp_path)
    first, second = cached[5], cached[5]
    assert torch.equal(second["left"], first["left"].half().float())
    torch.testing.assert_close(second["disparity_px"], a["disparity_px"], rtol=1e-3, atol=1e-3)
    assert torch.allclose(a["left"] + a["right"], a["combined"][1:2], atol=1e-5)
    with pytest.raises(IndexError):
        cached[6]


@pytest.mark.parametrize("scenes", ["simple", "varied"])
@pytest.mark.parametrize("quality", ["standard", "exact"])
def test_kinds_of_scenes_and_of_rendering(scenes: Scenes, quality: Quality) -> None:
    settings = replace(SMALL, scenes=scenes, quality=quality)
    sample = render_sample(settings, 3, 0)
    assert torch.equal(sample["left"], render_sample(settings, 3, 0)["left"])
    assert torch.allclose(sample["left"] + sample["right"], sample["combined"][1:2], atol=1e-5)
    assert sample["disparity_px"].shape == (1, 64, 96) and torch.isfinite(sample["combined"]).all()
    assert settings.digest() != SMALL.digest() or settings == SMALL
    if settings != SMALL:
        assert not torch.allclose(sample["left"], render_sample(SMALL, 3, 0)["left"], atol=1e-3)


@pytest.mark.parametrize("optics", get_args(Optics))
def test_label_is_the_shift_that_the_halves_show(optics: Optics) -> None:
    settings = RenderSettings((96, 128), (5.0, 6.0), 6.0, scenes="varied", quality="exact", optics=optics)
    expected = found = 0.0
    for index in range(8):
        sample = render_sample(settings, 3, index)
        gradient = (sample["combined"][1:2, :, 2:] - sample["combined"][1:2, :, :-2]) / 4
        disparity, difference = sample["disparity_px"][..., 1:-1], (sample["left"] - sample["right"])[..., 1:-1]
        found += float((difference * disparity * gradient).sum())
        expected += float((disparity * gradient).square().sum())
    # The halves differ in shape too, so a shift by least squares is a fifth too large for such small blurs.
    assert 0.8 < found / expected < 1.8


def test_cameras_draw_measured_and_unknown_splits() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_psf(RenderSettings(optics="cameras"), rng) for _ in range(60)]
    gains = [psf.disparity_gain for psf in draws]
    assert min(gains) < 0.08 and max(gains) > 0.3  # a Canon body's, and one that no profile has
    assert sum(abs(psf.split_offset) > 0.6 for psf in draws) > 5  # sides of the Pixel 4's field, beyond the ranges
    assert {draw_psf(RenderSettings(optics="half_disc"), rng).disparity_gain} == {IDEAL_DISPARITY_GAIN}


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(DualpixError, match="unknown scenes 'wild'; expected one of: simple, varied"):
        replace(SMALL, scenes="wild")  # type: ignore[arg-type]


def test_augmentation_keeps_the_meaning_of_the_disparity() -> None:
    # a mirrored pair must still show its disparity: shift measured between the halves equals the label
    sample = render_sample(RenderSettings(size_hw=(64, 96), coc_span_px=(8.0, 8.1), disparity_gain=(0.4, 0.41)), 0, 1)
    seen_mirror = set()
    for seed in range(12):
        out = DUAL_PIXEL.augment(sample, np.random.default_rng(seed))
        mirrored = torch.equal(out["disparity_px"], sample["disparity_px"].flip(-1)) or torch.equal(
            out["disparity_px"], sample["disparity_px"].flip(-1).flip(-2)
        )
        seen_mirror.add(mirrored)
        assert torch.isfinite(out["left"]).all() and out["combined"].shape == (3, 64, 96)
        label = float(out["disparity_px"].mean())
        # a shift of the whole right view towards the label's negative makes the halves agree better than the other way
        shift = round(abs(label)) or 1
        sign = 1 if label > 0 else -1
        right = out["right"] / out["right"].mean() * out["left"].mean()
        good = (out["left"] - right.roll(-sign * shift, -1))[..., 8:-8].square().mean()
        bad = (out["left"] - right.roll(sign * shift, -1))[..., 8:-8].square().mean()
        assert good < bad
    assert seen_mirror == {True, False}


def test_sampler_gives_step_k_the_same_batch_wherever_it_starts() -> None:
    source, weight = open_source("procedural", "dual_pixel", SourceOptions(seed=4, samples=10))
    mixture = Mixture((source,), (weight,), 4, DUAL_PIXEL)
    whole = list(MixtureSampler(mixture, 3, 0, 9))
    assert list(MixtureSampler(mixture, 3, 5, 9)) == whole[5:]
    assert len({key.sample for batch in whole[:3] for key in batch}) == 9  # an epoch repeats nothing


def test_runs_of_other_seeds_can_see_the_same_scenes() -> None:
    first, second = (data_of(TrainConfig(seed=seed, scene_seed=7, samples=16), DUAL_PIXEL, None) for seed in (1, 2))
    drawn = [[key.sample for step in range(2) for key in data.training.keys(step, 8)] for data in (first, second)]
    assert drawn[0] != drawn[1] and sorted(drawn[0]) == sorted(drawn[1]) == list(range(16))
    alone = data_of(TrainConfig(seed=7, samples=16), DUAL_PIXEL, None)
    assert len({data.training.sources[0].digest() for data in (first, second, alone)}) == 1
    with pytest.raises(DualpixError, match="for evaluation"):
        TrainConfig(scene_seed=EVALUATION_SEED)


def test_evaluation_set_is_fixed_and_apart_from_training() -> None:
    a, b = evaluation_set(2, (64, 96)), evaluation_set(2, (64, 96))
    assert torch.equal(a[1].inputs[0], b[1].inputs[0]) and a[0].inputs[0].shape == (1, 3, 64, 96)
    with pytest.raises(DualpixError, match="seeds from there on are for evaluation"):
        TrainConfig(seed=EVALUATION_SEED)


def test_crop_larger_than_the_scene_is_refused() -> None:
    with pytest.raises(DualpixError, match=r"crop \(128, 160\); expected at most the rendered size \(64, 96\)"):
        TrainConfig(render=SMALL)


def test_unknown_network_lists_the_known_ones(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["-o", str(tmp_path), "--network", "nope", "--eval-samples", "0"])
    assert f"unknown network 'nope'; expected one of: {', '.join(sorted(NETWORKS))}" in str(result.exception)


def test_options_must_be_an_object(tmp_path: Path) -> None:
    for text, found in (("[1]", "--options is a list"), ("{", "--options is not JSON")):
        result = CliRunner().invoke(command, ["-o", str(tmp_path), "--options", text])
        assert found in str(result.exception)


def test_card_is_json_a_machine_reads(tmp_path: Path) -> None:
    config = TrainConfig(steps=2, batch_size=1, samples=2, eval_samples=1, evaluate_every=1, crop_hw=None, render=SMALL)
    Trainer(config, tmp_path, workers=0).run()
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["network"] == "difusenet" and card["parameters"] < 2_500_000
    assert float(card["final_eval_error"]) > 0 and card["eval_error_unit"] == "px"


def test_fine_tuning_starts_from_the_weights_of_a_model(tmp_path: Path) -> None:
    config = TrainConfig(steps=1, batch_size=1, samples=1, eval_samples=0, crop_hw=None, render=SMALL)
    tuned = Trainer(replace(config, init="difusenet-compact"), tmp_path, workers=0)
    shipped = load_model("difusenet-compact").module.state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in tuned.network.state_dict().items())
    assert all(torch.equal(value, shipped[name]) for name, value in tuned.average.items())
    other = {"dp_channels": (8, 32)}
    with pytest.raises(DualpixError, match="weights of 'difusenet-compact' do not fit; expected a model of the"):
        Trainer(replace(config, init="difusenet-compact", options=other), tmp_path)
    with pytest.raises(DualpixError, match="unknown model 'mine'"):
        Trainer(replace(config, init="mine"), tmp_path)


def test_log_tells_the_time_spent_waiting_for_data(tmp_path: Path) -> None:
    config = TrainConfig(steps=3, batch_size=1, samples=1, eval_samples=0, crop_hw=None, render=SMALL)
    Trainer(config, tmp_path, workers=0).run()
    with (tmp_path / "log.csv").open() as file:
        waited = [float(row["waited_s"]) for row in csv.DictReader(file)]
    assert 0 < waited[0] < waited[-1]  # without workers, all rendering is waiting


def test_result_can_stay_part_way_to_its_start(tmp_path: Path) -> None:
    config = TrainConfig(
        steps=2, batch_size=1, samples=1, eval_samples=0, crop_hw=None, render=SMALL, init="difusenet-compact"
    )
    shipped = load_model("difusenet-compact").module.state_dict()
    whole = Trainer(config, tmp_path / "whole", workers=0).run().state_dict()
    half = Trainer(replace(config, init_share=0.25), tmp_path / "half", workers=0).run().state_dict()
    moved = [name for name, value in whole.items() if not torch.equal(value, shipped[name])]
    assert moved
    for name in moved:
        if whole[name].dtype.is_floating_point:
            torch.testing.assert_close(half[name], 0.75 * whole[name] + 0.25 * shipped[name])
    with pytest.raises(DualpixError, match=r"a share of 0\.5 of the first weights; expected init"):
        TrainConfig(init_share=0.5)
