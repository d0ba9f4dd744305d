"""Focus stacks that are rendered for training: lists, lenses, both ways of forming frames, and what is kept of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.toy_network import toy_folder
from tests.support.training import OPTIONS, SIZE_HW, task_named

from dualpix.capture import optics
from dualpix.capture.cli import root
from dualpix.capture.errors import DualpixError
from dualpix.capture.types import LensModel
from dualpix.models.data import focus_lists, stack_camera
from dualpix.models.data.focus_lists import FIXED_M, MIXED, PUBLISHED, draw_list, power_spaced
from dualpix.models.data.formation import RgbdView
from dualpix.models.data.kept import KeptStacks
from dualpix.models.data.kinds import StackGenerator
from dualpix.models.data.mixture import Key, Mixture
from dualpix.models.data.published_blur import neighbour_gather
from dualpix.models.data.sources import SourceOptions, open_source
from dualpix.models.data.stack_formation import NEAREST_M, draw_stack, form_stack
from dualpix.models.data.windows import Window
from dualpix.models.evaluate.gaussian_stack import gather_gaussian
from dualpix.models.tasks.task import Sample

GENERATORS: tuple[StackGenerator, ...] = get_args(StackGenerator)


def textured(depth_m: np.ndarray) -> RgbdView:
    image = np.random.default_rng(1).random((*depth_m.shape, 3)).astype(np.float32)
    return RgbdView(image, depth_m.astype(np.float32), np.ones(depth_m.shape, bool))


def lens_of(sample: Sample) -> LensModel:
    return LensModel(*(float(sample[n]) for n in ("focal_length_mm", "f_number")), 1.0, float(sample["pixel_pitch_um"]))


# Lists of distances


def test_power_inverse_lists_are_the_published_ones() -> None:
    np.testing.assert_allclose(power_spaced(0.1, 1.3, 1.0, 5), np.linspace(0.1, 1.3, 5))
    np.testing.assert_allclose(power_spaced(0.1, 1.6, 0.0, 5), np.geomspace(0.1, 1.6, 5), rtol=2e-3)
    # by hand: ((.1^.5 + 1.6^.5) / 2)^2 half-way
    assert power_spaced(0.1, 1.6, 0.5, 3)[1] == pytest.approx(((0.1**0.5 + 1.6**0.5) / 2) ** 2)


def test_fixed_lists_of_five_frames_are_those_that_were_published() -> None:
    rng = np.random.default_rng(0)
    with np.errstate(divide="ignore"):
        lists = {tuple(np.round(1 / focus_lists.fixed(5, rng, (0.1, 9.0)), 2)) for _ in range(60)}
    assert {(7.06, 1.33, 0.86, 0.63, 0.5), (8.1, 4.9, 3.1, 1.7, 0.8), (8.0, 4.7, 3.0, 1.7, 0.8)} < lists
    assert len(lists) == len(FIXED_M)


@given(st.integers(2, 9), st.integers(0, 10**6), st.sampled_from([MIXED, PUBLISHED]))
def test_lists_rise_strictly_and_only_adaptive_ones_know_the_scene(frames: int, seed: int, kinds: object) -> None:
    chosen = MIXED if kinds is MIXED else PUBLISHED
    one, other = (draw_list(chosen, frames, np.random.default_rng(seed), ends) for ends in ((0.2, 1.0), (0.7, 0.7001)))
    for focus in (one, other):
        assert focus.shape == (frames,) and focus[0] >= 0 and (np.diff(focus) > 0).all()
    if not np.array_equal(one, other):
        np.testing.assert_allclose(one, np.linspace(0.2, 1.0, frames))


# What cameras do not do as they say


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_said_distances_keep_their_order_and_the_nearest_frame_is_where_it_was(seed: int) -> None:
    rng, focus = np.random.default_rng(seed), np.array([0.0, 0.3, 0.7, 1.6])
    said = stack_camera.said_focus(focus, rng)
    assert (np.diff(said) > 0).all() and said[0] >= 0 and np.abs(said - focus).max() < 0.25
    lies = stack_camera.draw_misalignment(focus, rng)
    assert lies.scale[-1] == 1.0 and not lies.shift_px[-1].any()
    assert abs(lies.scale[0] - 1) < 0.03


def test_a_frame_that_lies_beside_is_moved_by_what_is_said() -> None:
    y, x = np.mgrid[:64, :80].astype(np.float32)
    frame = np.dstack([np.sin(x / 7), np.cos(y / 9), x * 0]).astype(np.float32)
    shifted = stack_camera.moved(frame, 1.0, np.array([0.5, -0.25]))
    inside = (slice(8, -8), slice(8, -8))  # OpenCV takes samples at whole 32nds of a pixel
    np.testing.assert_allclose(shifted[inside][..., 0], np.sin((x - 0.5) / 7)[inside], atol=6e-3)
    np.testing.assert_allclose(shifted[inside][..., 1], np.cos((y + 0.25) / 9)[inside], atol=6e-3)
    grown = stack_camera.moved(frame, 1.02, np.zeros(2))
    np.testing.assert_allclose(grown[inside][..., 0], np.sin(((x - 39.5) / 1.02 + 39.5) / 7)[inside], atol=6e-3)


def test_lenses_are_those_of_phones_and_of_fifty_millimetres() -> None:
    lenses = [stack_camera.draw_lens(np.random.default_rng(n)) for n in range(200)]
    phones = [lens for lens in lenses if lens.focal_length_mm < 10]
    assert 0.3 < len(phones) / len(lenses) < 0.6
    assert all(3.5 <= optics.aperture_mm(lens) <= 4.0 and 6 <= lens.focal_length_mm <= 7 for lens in phones)
    others = [lens for lens in lenses if lens not in phones]
    assert all(30 <= lens.focal_length_mm <= 60 and 1.4 <= lens.f_number <= 4.0 for lens in others)
    focus = np.array([0.2, 2.0])
    for lens in lenses:
        held = stack_camera.within_blur(lens, focus, (0.0, 2.0), 20.0)
        assert stack_camera.largest_coc_px(held, focus, (0.0, 2.0)) <= 20.01
        assert held.f_number >= 0.999 * lens.f_number and held.pixel_pitch_um <= 2.001 * lens.pixel_pitch_um


# Frames


@pytest.mark.parametrize("power", [2.0, 2.7])
def test_published_blur_is_that_of_the_slow_reference(power: float) -> None:
    rng = np.random.default_rng(3)
    picture = rng.random((40, 50, 3)).astype(np.float32)
    radius = rng.uniform(0.0, 5.0, (2, 40, 50)).astype(np.float32)
    found = neighbour_gather(torch.from_numpy(picture).permute(2, 0, 1), torch.from_numpy(radius), power, 15)
    for one, blurred in zip(radius, found, strict=True):
        if power == 2.0:
            np.testing.assert_allclose(blurred.permute(1, 2, 0), gather_gaussian(picture, one, 15), atol=2e-5)
        np.testing.assert_allclose(blurred[:, 20, 25], by_hand(picture, one, 20, 25, power), atol=2e-5)


def by_hand(picture: np.ndarray, radius: np.ndarray, y: int, x: int, power: float) -> np.ndarray:
    """One pixel of the formula."""
    if radius[y, x] <= 1:
        return np.asarray(picture[y, x])
    total, norm = np.zeros(3), 0.0
    for j in range(max(0, y - 7), min(40, y + 8)):
        for i in range(max(0, x - 7), min(50, x + 8)):
            if (c := radius[j, i]) > 1:
                weight = np.exp(-2 * (np.hypot(j - y, i - x) / c) ** power) / c**2
                total, norm = total + weight * picture[j, i], norm + weight
    return np.asarray(total / norm)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("seed", range(3))
def test_frames_are_sharp_where_they_are_focused(seed: int, generator: StackGenerator) -> None:
    depth = np.geomspace(0.6, 6.0, 160)[None].repeat(120, 0)
    options = SourceOptions(frames=6, stacks=generator, render=replace(OPTIONS.render, size_hw=(120, 160)))
    sample = form_stack(draw_stack(textured(depth), options, np.random.default_rng([seed, 5])))
    frames, focus = sample["frames"].numpy(), sample["focus_distances_m"].numpy()
    assert frames.shape == (6, 3, 120, 160) and (np.diff(focus) < 0).all() and frames.min() >= 0
    lens, depth = lens_of(sample), sample["depth_m"][0, 0].numpy()
    blur = np.stack(
        [np.abs(optics.circle_of_confusion_px(depth, replace(lens, focus_distance_m=d))) for d in focus.tolist()]
    )
    contrast = frames[:, 1].std(1)  # (N, W)
    for blurred, seen in zip(blur.T, contrast.T, strict=True):
        clearly = np.subtract.outer(blurred, blurred) > 2.5
        assert (np.subtract.outer(seen, seen)[clearly] < 0.04).all()
        assert seen[blurred > 6].max(initial=0) < 0.75 * max(seen.max(), 0.2)


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_picture_does_not_tell_how_far_its_scene_is(generator: StackGenerator) -> None:
    options = SourceOptions(
        seed=4, samples=24, frames=2, stacks=generator, render=replace(OPTIONS.render, size_hw=(48, 64))
    )
    source, _ = open_source("procedural", "focus_stack", options)
    nearest = [float(source.form(source.prepare(index))["depth_m"].min()) for index in range(24)]
    assert min(nearest) >= 0.99 * NEAREST_M[0] and np.median(nearest) < 2.0 and max(nearest) > 1.3


def test_a_wall_is_a_sample() -> None:
    for generator in GENERATORS:
        options = SourceOptions(frames=3, stacks=generator, render=replace(OPTIONS.render, size_hw=(48, 64)))
        for seed in range(4):
            sample = form_stack(draw_stack(textured(np.full((48, 64), 2.0)), options, np.random.default_rng(seed)))
            assert (sample["focus_distances_m"].diff() < 0).all() and torch.isfinite(sample["frames"]).all()


# What is kept


@pytest.mark.parametrize("generator", GENERATORS)
def test_stacks_are_formed_once_and_then_read(
    generator: StackGenerator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = replace(OPTIONS, frames=3, stacks=generator)
    plain, _ = open_source("procedural", "focus_stack", options)
    source, _ = open_source("procedural", "focus_stack", replace(options, cache_dir=tmp_path))
    assert isinstance(source, KeptStacks) and not source.forms and source.digest() == plain.digest()
    made, read = source.prepare(1), source.prepare(1)
    assert made.keys() == read.keys() and "sharp" not in read
    assert all(torch.equal(made[name], read[name]) for name in made)
    fresh = plain.form(plain.prepare(1))
    np.testing.assert_allclose(read["frames"], fresh["frames"], atol=2e-3)
    assert torch.equal(read["depth_m"], fresh["depth_m"]) and read["frames"].shape == (3, 3, *SIZE_HW)
    [kept] = tmp_path.rglob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:-9])
    assert torch.equal(source.prepare(1)["frames"], read["frames"])
    assert "is damaged; its scene is rendered anew" in capsys.readouterr().err
    other, _ = open_source("procedural", "focus_stack", replace(options, frames=4, cache_dir=tmp_path))
    assert other.prepare(1)["frames"].shape[0] == 4
    more, _ = open_source("procedural", "focus_stack", replace(options, samples=9, cache_dir=tmp_path))
    assert more.digest() != source.digest() and len(list(tmp_path.iterdir())) == 2  # the same scenes, kept once
    with pytest.raises(IndexError):
        source.prepare(len(source))


# Numbers of frames


def test_each_batch_draws_one_number_of_frames() -> None:
    source, _ = open_source("procedural", "focus_stack", replace(OPTIONS, frames=6, stacks="published"))
    mixed = Mixture((source,), (1.0,), 1, task_named("focus_stack"), Window((32, 32), 6, 2))
    batches = [mixed.keys(step, 2) for step in range(40)]
    numbers = [{key.frames for key in keys} for keys in batches]
    assert all(len(each) == 1 for each in numbers) and set.union(*numbers) == {2, 3, 4, 5, 6}
    batch = mixed.finish([mixed.load(key) for key in batches[0]])
    assert batch["frames"].shape[1] == batch["focus_distances_m"].shape[1] == numbers[0].pop()
    assert (batch["focus_distances_m"].diff(dim=1) < 0).all()
    assert mixed.load(Key(0, 0, 0)).sample["frames"].shape[0] == 6  # what judges sees all
    assert Mixture(mixed.sources, (1.0,), 1, mixed.task, Window((32, 32), 6)).digest() != mixed.digest()
    with pytest.raises(DualpixError, match="7 to 6 frames; expected 2 or more, rising"):
        Window(None, 6, 7)


def test_a_stack_network_is_trained_on_stacks_that_were_rendered_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_folder(tmp_path, monkeypatch)
    words = [
        "train", "-o", "run", "--network", "toynet:stack", "--frames", "2-3", "--samples", "3", "--steps", "2",
        "--batch-size", "2", "--workers", "0", "--size", "64", "96", "--crop", "32", "48", "--eval-samples", "0",
        "--device", "cpu", "--cache", "kept",
    ]  # fmt: skip
    done = CliRunner().invoke(root, [*words, "--render-only"], catch_exceptions=False)
    assert done.exit_code == 0 and "3 samples are kept in 'kept'" in done.output
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.safetensors")}
    assert len(kept) == 3 and not (tmp_path / "run").exists()
    assert CliRunner().invoke(root, words, catch_exceptions=False).exit_code == 0
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.safetensors")}
    training = json.loads((tmp_path / "run" / "card.json").read_text())["training"]
    assert (training["stacks"], training["fewest_frames"], training["frames"]) == ("faithful", 2, 3)


@pytest.mark.parametrize(("text", "words"), [("9-2", "out of range"), ("many", "no number of frames"), ("1", "range")])
def test_numbers_of_frames_that_are_none(text: str, words: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(root, ["train", "-o", str(tmp_path / "run"), "--frames", text])
    assert done.exit_code == 2 and words in done.output
