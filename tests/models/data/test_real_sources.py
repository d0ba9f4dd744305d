"""Real pairs and focus stacks with truth: right values, what says the optics, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from tests.capture.rgbd.test_exr import file_of
from tests.support.plain_stacks import sweep, write_focus_csv, write_pictures
from tests.support.stack_folders import shoot_stack
from tests.support.training import task_named

from dualpix.capture import optics
from dualpix.capture.cameras import SimulatedCamera, SimulatedSensor
from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.profiles import load_profile
from dualpix.capture.stack.keep.ddff import DDFF_BASELINE_M, DDFF_FOCAL_PX, ddff_distances_m
from dualpix.capture.stack.keep.export import export_stack
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.types import LensModel
from dualpix.models.data.mixture import Key, Mixture
from dualpix.models.data.source import SampleError, Source
from dualpix.models.data.sources import open_source
from dualpix.models.data.windows import Window
from dualpix.models.tasks.task import KNOWN

SIZE_HW = (40, 60)
LENS = {
    "focal_length_mm": 50.0, "f_number": 4.0, "focus_distance_m": 1.0, "pixel_pitch_um": 47.0, "disparity_gain": 0.06,
}  # fmt: skip


def opened(path: Path, task: str = "dual_pixel") -> Source:
    return open_source(str(path), task)[0]


def write_pair(folder: Path, name: str, seed: int = 0, ends: tuple[str, str] = ("_left", "_right")) -> np.ndarray:
    """16-bit linear halves; returns the left one, (H, W) light."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    halves = cv2.GaussianBlur(rng.uniform(0.1, 0.5, (*SIZE_HW, 2)), (0, 0), 1.5)
    for end, half in zip(ends, (halves[..., 0], halves[..., 1]), strict=True):
        assert cv2.imwrite(str(folder / f"{name}{end}.png"), np.rint(half * 65535).astype(np.uint16))
    return halves[..., 0].astype(np.float32)


def depth_map(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.4, 6.0, SIZE_HW).astype(np.float32)


# Pairs


def test_disparity_in_px_is_taken_as_it_is(tmp_path: Path) -> None:
    left = write_pair(tmp_path, "desk")
    disparity = np.linspace(-4, 5, 60, dtype=np.float32)[None].repeat(40, 0)
    disparity[:3] = np.nan
    np.save(tmp_path / "desk_disparity_px.npy", disparity)
    sample = opened(tmp_path).prepare(0)
    np.testing.assert_array_equal(sample["disparity_px"][0, 3:], disparity[3:])
    assert (sample[KNOWN][0, :3] == 0).all() and (sample[KNOWN][0, 3:] == 1).all()
    np.testing.assert_allclose(sample["left"][0], left, atol=2e-5)
    assert sample["combined"].shape == (3, *SIZE_HW)


@pytest.mark.parametrize("ending", ["_depth.npy", "_depth_mm.png", "_depth.tiff"])
def test_depth_becomes_disparity_by_the_optics_that_are_said(tmp_path: Path, ending: str) -> None:
    write_pair(tmp_path, "desk", ends=("_l", "_r"))
    depth = depth_map()
    depth[5] = 0
    stored = np.rint(depth * 1000).astype(np.uint16) if ending.endswith("png") else depth
    path = tmp_path / f"desk{ending}"
    np.save(path, stored) if ending.endswith("npy") else cv2.imwrite(str(path), stored)
    (tmp_path / "dataset.json").write_text(json.dumps({**LENS, "depth_range_m": [0.5, 5]}))
    sample = opened(tmp_path).prepare(0)
    known = (depth >= 0.5) & (depth < 5)
    np.testing.assert_array_equal(sample[KNOWN][0] > 0, known)
    expected = optics.disparity_px(depth[known], LensModel(**LENS))
    np.testing.assert_allclose(sample["disparity_px"][0][sample[KNOWN][0] > 0], expected, atol=3e-3)
    assert (sample["disparity_px"][sample[KNOWN] == 0] == 0).all()


def test_a_camera_profile_gives_lens_and_gain_over_the_field(tmp_path: Path) -> None:
    write_pair(tmp_path, "desk", ends=("_l", "_r"))
    np.save(tmp_path / "desk_depth.npy", depth_map())
    (tmp_path / "dataset.json").write_text('{"camera": "canon-r6m2-rf50"}')
    sample = opened(tmp_path).prepare(0)
    profile = load_profile("canon-r6m2-rf50")
    assert profile.gain is not None
    slope = profile.gain.slope_px_per_diopter * 60 / profile.gain.view_width_px
    gain = cv2.resize(profile.gain.relative, (60, 40), interpolation=cv2.INTER_LINEAR)
    expected = slope * gain * (1 / profile.gain.focus_distance_m - 1 / depth_map())
    np.testing.assert_allclose(sample["disparity_px"][0], expected, rtol=0.02, atol=1e-3)


def test_a_raw_with_depth_brings_its_own_optics(tmp_path: Path) -> None:
    camera = SimulatedCamera(sensor=SimulatedSensor(size_hw=(256, 384)))
    shot = camera.shoot(tmp_path / "IMG_1.DNG", 2)
    np.save(tmp_path / "IMG_1_depth.npy", shot.depth_m)
    (tmp_path / "dataset.json").write_text(json.dumps({"disparity_gain": camera.lens.disparity_gain}))
    sample = opened(tmp_path).prepare(0)
    np.testing.assert_allclose(sample["disparity_px"][0], shot.disparity_px, atol=0.02)
    assert sample["combined"].shape == (3, *shot.depth_m.shape)


def test_folders_of_halves_and_truths(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for side in ("left", "right"):
            write_pair(tmp_path / "tmp", name, seed=ord(name))
            (tmp_path / side).mkdir(exist_ok=True)
            (tmp_path / "tmp" / f"{name}_{side}.png").rename(tmp_path / side / f"{name}.png")
        (tmp_path / "disparity_px").mkdir(exist_ok=True)
        np.save(tmp_path / "disparity_px" / f"{name}.npy", np.full(SIZE_HW, float(ord(name) - 96), np.float32))
    source = opened(tmp_path)
    assert [float(source.prepare(index)["disparity_px"].mean()) for index in range(2)] == [1.0, 2.0]


def test_a_vertical_baseline_is_laid_along_x(tmp_path: Path) -> None:
    left = write_pair(tmp_path, "desk")
    disparity = np.random.default_rng(2).uniform(-3, 3, SIZE_HW).astype(np.float32)
    np.save(tmp_path / "desk_disparity_px.npy", disparity)
    (tmp_path / "dataset.json").write_text('{"baseline": "y"}')
    sample = opened(tmp_path).prepare(0)
    np.testing.assert_array_equal(sample["disparity_px"][0], disparity.T)
    np.testing.assert_allclose(sample["left"][0], left.T, atol=2e-5)


@pytest.mark.parametrize("name", ["desk_gt_defocus.png", "desk_merged_depth.png"])
def test_a_truth_up_to_an_affine_map_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    write_pair(tmp_path, "desk")
    assert cv2.imwrite(str(tmp_path / name), np.full(SIZE_HW, 90, np.uint8))
    with pytest.raises(DualpixError, match=f"'{name}' is known up to an affine map only.*NAME_disparity_px.npy"):
        opened(tmp_path)


def test_eight_bits_are_no_depth(tmp_path: Path) -> None:
    write_pair(tmp_path, "desk")
    assert cv2.imwrite(str(tmp_path / "desk_depth.png"), np.full(SIZE_HW, 90, np.uint8))
    with pytest.raises(DualpixError, match="has 8 bits, which cannot hold depth in m or mm"):
        opened(tmp_path)


def test_depth_without_optics_says_what_lacks(tmp_path: Path) -> None:
    write_pair(tmp_path, "desk")
    np.save(tmp_path / "desk_depth.npy", depth_map())
    lacks = (
        "nothing says focal_length_mm, f_number, focus_distance_m, pixel_pitch_um, disparity_gain; expected them, or"
    )
    with pytest.raises(DualpixError, match=lacks):
        opened(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({k: v for k, v in LENS.items() if k != "focus_distance_m"}))
    with pytest.raises(DualpixError, match="nothing says focus_distance_m; expected"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        (np.zeros((9, 9), np.float32), r"is \(9, 9\) \(h, w\)"),
        (np.full(SIZE_HW, 300, np.float32), "disparities up to 300 px"),
        (np.ones(SIZE_HW, np.int32), "holds int32"),
    ],
)
def test_disparities_that_can_hardly_be_in_px(tmp_path: Path, truth: np.ndarray, words: str) -> None:
    write_pair(tmp_path, "desk")
    np.save(tmp_path / "desk_disparity_px.npy", truth)
    with pytest.raises(DualpixError, match=words):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("[1]", "holds a list"),
        ('{"camra": "pixel4"}', "has 'camra'; expected one of: baseline, camera"),
        ('{"f_number": "4"}', "f_number is '4'"),
        ('{"f_number": 4000}', "f_number is 4000; expected 0.5 to 256"),
        ('{"baseline": "z"}', "baseline is 'z'; expected one of: x, y"),
        ('{"depth_range_m": [3, 1]}', r"depth_range_m is \[3, 1\]"),
        ('{"camera": "leica"}', "unknown camera profile 'leica'"),
        ("{", "is no JSON"),
    ],
)
def test_descriptions_that_say_nothing_sensible(tmp_path: Path, said: str, words: str) -> None:
    write_pair(tmp_path, "desk")
    np.save(tmp_path / "desk_depth.npy", depth_map())
    (tmp_path / "dataset.json").write_text(said)
    with pytest.raises(DualpixError, match=words):
        opened(tmp_path)


def test_a_pair_that_does_not_read_is_skipped(tmp_path: Path) -> None:
    for name in "abc":
        write_pair(tmp_path, name, seed=ord(name))
        np.save(tmp_path / f"{name}_disparity_px.npy", np.zeros(SIZE_HW, np.float32))
    path = tmp_path / "b_right.png"
    path.write_bytes(path.read_bytes()[:-50])
    loaded = Mixture((opened(tmp_path),), (1.0,), 1, task_named("dual_pixel")).load(Key(0, 0, 1))
    assert loaded.read in (0, 2) and "b_left.png" in loaded.skipped[0].why


def test_real_pairs_give_back_the_metres_that_evaluation_has(shared_data: Any, tmp_path: Path) -> None:
    from dualpix.models.evaluate import PROTOCOLS

    folder = shared_data("canon_r6m2_dp119")
    for path in folder.glob("box_001*"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "dataset.json").write_text('{"camera": "canon-r6m2-rf50", "depth_range_m": [0.25, 10]}')
    [pending] = PROTOCOLS["dp119"].read(tmp_path)
    scene = pending.load()
    sample = opened(tmp_path).prepare(0)
    assert scene.metric is not None
    depth = scene.metric.depth_of(sample["disparity_px"][0].numpy())
    np.testing.assert_allclose(depth[scene.valid], scene.metric.depth_m[scene.valid], rtol=1e-4)
    np.testing.assert_array_equal(sample[KNOWN][0] > 0, scene.valid)


# Focus stacks


def write_stack(folder: Path, frames: int = 5) -> np.ndarray:
    """A sweep with ``focus.csv`` and ``depth.npy``; returns the depth."""
    paths = write_pictures(folder, sweep(frames))
    write_focus_csv(paths, list(np.linspace(0.5, 2.5, frames)))
    depth = np.random.default_rng(1).uniform(0.4, 2, (96, 160)).astype(np.float32)
    depth[:4] = np.nan
    np.save(folder / "depth.npy", depth)
    return depth


def test_a_folder_of_frames_with_depth(tmp_path: Path) -> None:
    depth = write_stack(tmp_path / "room" / "one")
    write_stack(tmp_path / "room" / "two")
    source = opened(tmp_path, "focus_stack")
    sample = source.prepare(0)
    assert len(source) == 2 and source.scene_of(0) == source.scene_of(1) == "room"
    assert sample["frames"].shape == (5, 3, 96, 160)
    np.testing.assert_allclose(sample["focus_distances_m"], 1 / np.linspace(0.5, 2.5, 5), rtol=1e-5)
    np.testing.assert_array_equal(sample[KNOWN][0] > 0, np.isfinite(depth))
    np.testing.assert_allclose(sample["depth_m"][0, 4:], depth[4:])
    mixed = Mixture((source,), (1.0,), 1, task_named("focus_stack"), Window((64, 64), 3))
    batch = mixed.finish([mixed.load(key) for key in mixed.keys(0, 2)])
    assert batch["frames"].shape == (2, 3, 3, 64, 64) and batch["focus_distances_m"].shape == (2, 3)
    assert (batch["focus_distances_m"].diff(dim=1) < 0).all()


@pytest.mark.parametrize("layout", ["capture", "plain", "zedd", "ddff"])
def test_captures_of_ours_and_what_they_are_exported_to(tmp_path: Path, layout: str) -> None:
    shot = shoot_stack(tmp_path / "shot", diopters=(0.5, 1.0, 2.0))
    folder = tmp_path / "data" / "desk"
    if layout == "capture":
        shutil.copytree(shot.folder, folder)
    else:
        export_stack(shot.folder, folder, layout)
    height, width = load_stack(shot.folder).frames.shape[1:3]
    depth = np.random.default_rng(3).uniform(0.5, 3, (height, width)).astype(np.float32)
    if layout == "ddff":
        (file,) = folder.glob("*.h5")
        with h5py.File(file, "r+") as opened_file:
            key = next(name for name in opened_file if name.startswith("stack_"))
            opened_file[key.replace("stack_", "disp_")] = (DDFF_FOCAL_PX * DDFF_BASELINE_M / depth)[None]
    else:
        scene = next((path.parent for path in folder.rglob("focus_stack")), folder)
        np.save(scene / "depth.npy", depth)
    source = opened(tmp_path / "data", "focus_stack")
    sample = source.prepare(0)
    assert len(source) == 1 and sample["frames"].shape == (3, 3, height, width)
    np.testing.assert_allclose(sample["focus_distances_m"], [2.0, 1.0, 0.5], rtol=2e-3)
    np.testing.assert_allclose(sample["depth_m"][0], depth, rtol=1e-5)


def test_frames_are_chosen_with_their_distances(tmp_path: Path) -> None:
    write_stack(tmp_path / "one", frames=7)
    source = opened(tmp_path, "focus_stack")
    whole = source.prepare(0)
    of_frame = {round(float(d), 4): frame for d, frame in zip(whole["focus_distances_m"], whole["frames"], strict=True)}
    mixed = Mixture((source,), (1.0,), 1, task_named("focus_stack"), Window(None, 4))
    seen = set()
    for epoch in range(6):
        sample = mixed.load(Key(epoch, 0, 0)).sample
        for distance, frame in zip(sample["focus_distances_m"], sample["frames"], strict=True):
            np.testing.assert_array_equal(frame, of_frame[round(float(distance), 4)])
        seen.add(tuple(sample["focus_distances_m"].tolist()))
    assert len(seen) > 1
    with pytest.raises(DualpixError, match="has 7 frames; expected 8 or more"):
        Mixture((source,), (1.0,), 1, task_named("focus_stack"), Window(None, 8)).load(Key(0, 0, 0))


def test_frames_without_distances_are_refused(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "a", sweep(4))
    (tmp_path / "a" / "focus.csv").write_text("file,diopters\n" + "".join(f"{path.name},\n" for path in paths))
    np.save(tmp_path / "a" / "depth.npy", np.ones((96, 160), np.float32))
    with pytest.raises(DualpixError, match=r"nothing says where the frames in .* are focused"):
        opened(tmp_path, "focus_stack")


def test_depth_of_another_size_is_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "a")
    np.save(tmp_path / "a" / "depth.npy", np.ones((9, 9), np.float32))
    with pytest.raises(DualpixError, match=r"is \(9, 9\) \(h, w\); expected the size of the frames, \(96, 160\)"):
        opened(tmp_path, "focus_stack")


def test_stacks_of_a_ddff_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(1, 255, (3, 10, 24, 32, 3)).astype(np.uint8)
    disparity = rng.uniform(0.02, 0.28, (3, 24, 32)).astype(np.float32)
    disparity[:, 0] = 0
    with h5py.File(tmp_path / "ddff-dataset-trainval.h5", "w") as file:
        file["stack_train"], file["disp_train"] = codes, disparity
        file["stack_test"] = codes  # without a truth
    source = opened(tmp_path / "ddff-dataset-trainval.h5", "focus_stack")
    assert len(source) == len(opened(tmp_path, "focus_stack")) == 3
    sample = source.prepare(1)
    np.testing.assert_allclose(sample["focus_distances_m"], ddff_distances_m(10)[::-1], rtol=1e-5)
    light = linear_from_srgb(codes[1, ::-1].astype(np.float32) / 255)
    np.testing.assert_allclose(sample["frames"], light.transpose(0, 3, 1, 2), atol=1e-5)
    known = sample[KNOWN][0] > 0
    np.testing.assert_array_equal(known, disparity[1] > 0)
    np.testing.assert_allclose(
        sample["depth_m"][0][known], DDFF_FOCAL_PX * DDFF_BASELINE_M / disparity[1][known.numpy()], rtol=1e-5
    )


def test_flat_folders_of_defocusnet(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 255, (2, 5, 24, 32, 3)).astype(np.uint8)
    depth = rng.uniform(0.1, 3, (2, 24, 32)).astype(np.float32)
    for stack in range(2):
        for number in range(5):
            assert cv2.imwrite(str(tmp_path / f"{stack:06}_{number + 1:02}All.tif"), frames[stack, number, ..., ::-1])
        assert cv2.imwrite(str(tmp_path / f"{stack:06}Dpt.tiff"), depth[stack])
    sample = opened(tmp_path, "focus_stack").prepare(1)
    np.testing.assert_allclose(sample["focus_distances_m"], [1.5, 0.7, 0.3, 0.15, 0.1], rtol=1e-6)
    light = linear_from_srgb(frames[1, ::-1].astype(np.float32) / 255)
    np.testing.assert_allclose(sample["frames"], light.transpose(0, 3, 1, 2), atol=1e-5)
    np.testing.assert_allclose(sample["depth_m"][0], depth[1])
    assert float(sample["f_number"]) == 1.0


def test_depth_of_renderers_comes_as_openexr(tmp_path: Path) -> None:
    for number in range(5):
        assert cv2.imwrite(str(tmp_path / f"000000_{number + 1:02}All.tif"), np.full((18, 5, 3), 90, np.uint8))
    (tmp_path / "000000Dpt.exr").write_bytes(file_of("ZIP"))
    sample = opened(tmp_path, "focus_stack").prepare(0)
    assert float(sample["depth_m"][0, 2, 3]) == 1e4  # infinitely far
    assert float(sample["depth_m"][0, 17, 4]) == 0.5 + 89 / 16


def test_a_stack_that_does_not_read_is_skipped(tmp_path: Path) -> None:
    for name in "ab":
        write_stack(tmp_path / name)
    frame = tmp_path / "a" / "02.png"
    frame.write_bytes(frame.read_bytes()[:-80])
    source = opened(tmp_path, "focus_stack")
    with pytest.raises(SampleError, match=r"02\.png"):
        source.prepare(0)
    loaded = Mixture((source,), (1.0,), 1, task_named("focus_stack")).load(Key(0, 0, 0))
    assert loaded.read == 1 and len(loaded.skipped) == 1


def test_captures_without_a_truth_are_told_what_they_lack(tmp_path: Path) -> None:
    write_pair(tmp_path / "pairs", "desk")
    with pytest.raises(
        DualpixError, match=r"holds pairs without a truth; expected captures with NAME_disparity_px\.npy"
    ):
        opened(tmp_path / "pairs")
    write_stack(tmp_path / "stacks" / "a")
    (tmp_path / "stacks" / "a" / "depth.npy").unlink()
    with pytest.raises(
        DualpixError, match=r"holds focus stacks without a depth; expected focus stacks with depth\.npy"
    ):
        opened(tmp_path / "stacks", "focus_stack")
