"""``dualpix render``: what is written, that it follows from the seed alone, and what bad input costs."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from tests.support import rgbd as write
from tests.support.rgbd import truth

from dualpix.capture import optics
from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError
from dualpix.capture.profiles.facts import GainField, SensorFacts
from dualpix.capture.profiles.profile import CameraProfile, HalfNoise, write_profile
from dualpix.capture.rgbd import find_rgbd
from dualpix.capture.synthesis.camera import CAMERAS, camera_named
from dualpix.capture.synthesis.contact_sheet import contact_sheet
from dualpix.capture.synthesis.sample import RenderedSample, render_sample
from dualpix.capture.synthesis.settings import RenderSettings, SampleSpec
from dualpix.capture.types import LensModel

SMALL = ("--size", "48", "64", "--coc-span", "6")


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["render", *map(str, arguments)])
    return int(stopped.value.code or 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def light_of(path: Path) -> np.ndarray:
    about = json.loads((path.parent / "sample.json").read_text())
    codes = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert codes.dtype == np.uint16
    return codes[..., ::-1] / 65535 * about["full_scale"]


def folder_of_pairs(folder: Path, count: int = 3) -> Path:
    for index in range(count):
        write.write_generic(folder, truth(seed=index), f"p{index}")
    return folder


def pictured(tmp_path: Path, **more: Any) -> RenderedSample:
    (source,) = find_rgbd(folder_of_pairs(tmp_path / "in", 1))
    settings = RenderSettings(camera_named("pixel4"), **more)
    return render_sample(SampleSpec(0, source), settings)


# What is written


def test_a_folder_says_what_it_holds(tmp_path: Path) -> None:
    assert run("--scenes", 2, "-o", tmp_path / "o", *SMALL, "--stack", 3, "--all-in-focus") == 0
    folder = tmp_path / "o/000001"
    names = {"left.png", "right.png", "sharp.png", "depth.npy", "measured.png", "sample.json", "render.json"}
    assert {path.name for path in folder.iterdir()} == names | {f"frame0{n}.png" for n in range(3)}
    about = json.loads((folder / "sample.json").read_text())
    depth = np.load(folder / "depth.npy", allow_pickle=False)
    assert depth.dtype == np.float32 and depth.shape == (48, 64)
    lens = LensModel(**about["lens"])
    coc = optics.circle_of_confusion_px(depth, lens)
    assert [coc.min(), coc.max()] == pytest.approx(about["coc_px"], abs=1e-4)
    assert 1.0 < coc.max() - coc.min() <= 6.0 + 1e-4  # the span of the whole scene, which reaches beyond the picture
    # left + right is the full aperture: about as bright as the sharp picture, smoother
    full, sharp = light_of(folder / "left.png") + light_of(folder / "right.png"), light_of(folder / "sharp.png")
    assert full.mean() == pytest.approx(sharp.mean(), rel=0.05)
    assert about["stack_focus_distance_m"] == sorted(about["stack_focus_distance_m"])


def test_the_manifest_has_the_digest_of_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--scenes", 2, "-o", tmp_path, *SMALL, "--json") == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert json.loads(capsys.readouterr().out) == manifest
    assert manifest["samples"] == 2 and manifest["failed"] == [] and manifest["settings"]["coc_span_px"] == 6
    for entry in manifest["files"]:
        data = (tmp_path / entry["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    on_disk = {name for name in contents(tmp_path) if not name.endswith(("render.json", "manifest.json"))}
    assert on_disk == {entry["name"] for entry in manifest["files"]}


def test_tiff_holds_the_same_light(tmp_path: Path) -> None:
    for kind in ("png", "tiff"):
        assert run("--scenes", 1, "-o", tmp_path / kind, *SMALL, "--format", kind, "--depth-format", "tiff") == 0
    assert run("--scenes", 1, "-o", tmp_path / "npy", *SMALL) == 0
    tiff = tifffile.imread(tmp_path / "tiff/000000/left.tiff")
    png = cv2.imread(str(tmp_path / "png/000000/left.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    np.testing.assert_array_equal(tiff, png)
    depth = tifffile.imread(tmp_path / "png/000000/depth.tiff")
    np.testing.assert_array_equal(depth, np.load(tmp_path / "npy/000000/depth.npy"))


def test_shards_are_webdataset(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    folder = folder_of_pairs(tmp_path / "in", 5)
    assert run(folder, "-o", tmp_path / "o", *SMALL, "--shards", 2, "--stack", 2) == 0
    assert run(folder, "-o", tmp_path / "f", *SMALL, "--stack", 2) == 0
    pattern = str(tmp_path / "o/shard-{000000..000002}/samples.tar")
    samples = list(webdataset.WebDataset(pattern, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"{k:06}" for k in range(5)]
    for sample in samples:
        assert {"left.png", "right.png", "frame01.png", "depth.npy", "measured.png", "json"} <= set(sample)
        one = tmp_path / "f" / sample["__key__"]
        assert sample["left.png"] == (one / "left.png").read_bytes()  # the same bytes as in a folder
        assert sample["json"] == (one / "sample.json").read_bytes()
        np.testing.assert_array_equal(np.load(io.BytesIO(sample["depth.npy"])), np.load(one / "depth.npy"))
    decoded = next(iter(webdataset.WebDataset(pattern, shardshuffle=False).decode()))
    assert decoded["json"]["index"] == 0 and decoded["depth.npy"].shape == (48, 64)
    with tarfile.open(tmp_path / "o/shard-000000/samples.tar") as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_a_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "pages/sheet.png"
    assert run(folder_of_pairs(tmp_path / "in", 2), *SMALL, "--contact-sheet", sheet) == 0
    assert "2 samples" in capsys.readouterr().out
    picture = cv2.imread(str(sheet))
    assert picture.shape[1] > 8 * 300 and picture.shape[0] > 2 * 225
    assert picture.std() > 20
    with pytest.raises(ValueError, match="rows of"):
        contact_sheet([])


# A sample is a function of seed, index and input


def test_seed_and_index_decide(tmp_path: Path) -> None:
    for name, seed, count in (("a", 1, 3), ("b", 1, 2), ("c", 2, 2)):
        assert run("--scenes", count, "-o", tmp_path / name, *SMALL, "--noise", "--seed", seed) == 0
    a, b, c = (contents(tmp_path / name) for name in "abc")
    views = [name for name in b if name.endswith("left.png")]
    assert len(views) == 2 and all(a[name] == b[name] for name in views)  # whatever else was rendered
    assert all(b[name] != c[name] for name in views) and len({a[name] for name in a if "left" in name}) == 3


def test_processes_give_the_same_files(tmp_path: Path) -> None:
    folder = folder_of_pairs(tmp_path / "in", 3)
    for jobs in (1, 2):
        assert run(folder, "-o", tmp_path / str(jobs), *SMALL, "--noise", "-j", jobs) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.slow
def test_a_cluster_gives_the_same_files(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    folder = folder_of_pairs(tmp_path / "in", 3)
    assert run(folder, "-o", tmp_path / "here", *SMALL, "--shards", 2) == 0
    with distributed.LocalCluster(
        2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=logging.CRITICAL
    ) as cluster:
        options = (*SMALL, "--shards", "2", "--cluster", cluster.scheduler_address)
        assert run(folder, "-o", tmp_path / "there", *options) == 0
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_resume_does_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of_pairs(tmp_path / "in", 3)
    arguments = (folder, "-o", tmp_path / "o", *SMALL)
    assert run(*arguments) == 0
    before = contents(tmp_path / "o")
    (tmp_path / "o/000001/left.png").unlink()
    capsys.readouterr()
    assert run(*arguments, "--resume") == 0
    assert "1 done, 2 skipped" in capsys.readouterr().err
    assert contents(tmp_path / "o") == before
    assert run(*arguments, "--resume", "--seed", 5) == 0  # asks for something else
    assert "3 done" in capsys.readouterr().err
    write.write_generic(folder, truth(seed=9), "p2")  # another input
    assert run(*arguments, "--resume", "--seed", 5) == 0
    assert "1 done, 2 skipped" in capsys.readouterr().err


def test_more_samples_than_pictures(tmp_path: Path) -> None:
    folder = folder_of_pairs(tmp_path / "in", 2)
    assert run(folder, "-o", tmp_path / "o", *SMALL, "--count", 5) == 0
    about = [json.loads((tmp_path / f"o/{k:06}/sample.json").read_text()) for k in range(5)]
    assert [entry["name"] for entry in about] == ["p0", "p1", "p0", "p1", "p0"]
    assert len({entry["lens"]["focus_distance_m"] for entry in about}) == 5


# Physics


def test_a_view_of_a_real_lens(tmp_path: Path) -> None:
    """Without a span the lens is the camera's own: the pitch follows from the sensor's and the picture's width."""
    sample = pictured(tmp_path, focus_distance_m=2.0)
    camera = camera_named("pixel4")
    assert sample.lens == LensModel(4.38, 1.73, 2.0, camera.sensor_width_mm * 1000 / 64, 0.21)


def flat_wall(folder: Path, depth_m: float, texture_px: float) -> SampleSpec:
    """A textured wall at one depth."""
    noise = np.random.default_rng(0).normal(128, 400, (96, 128, 3)).astype(np.float32)
    image = np.clip(cv2.GaussianBlur(noise, (0, 0), texture_px), 0, 255).astype(np.uint8)
    write.write_image(folder / "wall.png", image)
    write.write_plane(folder / "wall_depth.npy", np.full((96, 128), depth_m, np.float32))
    (source,) = find_rgbd(folder)
    return SampleSpec(0, source)


@pytest.mark.parametrize("method", ["layered", "integral"])
def test_in_focus_is_sharp_and_halves_are_equal(tmp_path: Path, method: Any) -> None:
    settings = RenderSettings(camera_named("generic-full-frame"), method=method, focus_distance_m=2.0)
    sample = render_sample(flat_wall(tmp_path, 2.0, 3.0), settings)
    assert sample.left is not None and sample.right is not None
    np.testing.assert_allclose(sample.left, sample.right, atol=1e-5)
    # the lens's own edge, 0.35 px, softens the finest speckles
    np.testing.assert_allclose((sample.left + sample.right)[4:-4, 4:-4], sample.view.image[4:-4, 4:-4], atol=0.04)


@pytest.mark.parametrize("depth_m", [1.2, 4.5])
def test_disparity_is_where_the_truth_says(tmp_path: Path, depth_m: float) -> None:
    wide_open = replace(camera_named("generic-full-frame"), f_number=0.6)  # blur that shows in a picture of 128 px
    sample = render_sample(flat_wall(tmp_path, depth_m, 5.0), RenderSettings(wide_open, focus_distance_m=2.0))
    assert sample.left is not None and sample.right is not None
    truth_px = float(np.median(sample.disparity_px))
    assert (truth_px > 0) == (depth_m > 2.0) and abs(truth_px) > 0.5
    assert _shift(sample.left.mean(2), sample.right.mean(2)) == pytest.approx(truth_px, rel=0.1)


def _shift(left: np.ndarray, right: np.ndarray) -> float:
    """x of the right picture's content minus that of the left: one least-squares step, for smooth pictures."""
    inside = (slice(12, -12), slice(12, -12))
    slope = np.gradient((left + right) / 2, axis=1)[inside]
    return float((slope * (left - right)[inside]).sum() / (slope**2).sum())


def test_gather_renders_stacks(tmp_path: Path) -> None:
    sample = pictured(tmp_path, method="gather", pair=False, stack=3, coc_span_px=8.0)
    assert sample.left is None and len(sample.stack) == 3
    sharpness = [float(np.abs(np.diff(frame, axis=1)).mean()) for frame in sample.stack]
    sharp = float(np.abs(np.diff(sample.view.image, axis=1)).mean())
    assert all(value < sharp for value in sharpness)


@pytest.mark.parametrize("name", ["pixel4", "generic-full-frame"])
def test_noise_has_the_variance_of_the_camera(tmp_path: Path, name: str) -> None:
    camera = camera_named(name)
    even = replace(camera, profile=replace(camera.profile, shading=None))
    (source,) = find_rgbd(folder_of_pairs(tmp_path, 1))
    clean, noisy = (
        render_sample(SampleSpec(0, source), RenderSettings(even, noise=noise, coc_span_px=5.0, stack=2))
        for noise in (False, True)
    )
    assert clean.left is not None and noisy.left is not None and camera.profile.noise and camera.profile.sensor
    noise, sensor = camera.profile.noise["left"], camera.profile.sensor
    own_range = 2.0 if sensor.readout == "halves" else 1.0  # of a half, up to white
    step = 1 / (sensor.white_dn - sensor.black_dn)
    variance = (noise.shot * clean.left * own_range + noise.read**2 + step**2 / 12) / own_range**2
    unclipped = (clean.left > 0.01) & (clean.left < 0.45)
    assert np.std(((noisy.left - clean.left) / np.sqrt(variance))[unclipped]) == pytest.approx(1.0, abs=0.04)
    assert 0 < np.abs(noisy.stack[0] - clean.stack[0])[clean.stack[0] < 0.9].mean() < 0.02


def test_noise_brings_the_shading_of_the_profile(tmp_path: Path) -> None:
    """Light falls off to the sides as the left half's does: the right one is equalised to it."""
    clean, noisy = (pictured(tmp_path / str(noise), noise=noise, coc_span_px=5.0) for noise in (False, True))
    shading = camera_named("pixel4").profile.shading
    assert shading is not None and clean.left is not None and clean.right is not None
    assert noisy.left is not None and noisy.right is not None
    sheet = cv2.resize(shading.left[..., 0], (64, 48), interpolation=cv2.INTER_LINEAR)
    for seen, light in ((noisy.left, clean.left), (noisy.right, clean.right)):
        ratio = (seen / np.maximum(light, 0.02)).mean(axis=2)[light.min(axis=2) > 0.05]
        shade = sheet[light.min(axis=2) > 0.05]
        assert np.std(shade) > 0.03 and np.corrcoef(ratio, shade)[0, 1] > 0.9


def test_light_beyond_white_is_marked(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    picture = np.full((48, 64, 3), 0.2, np.float32)
    picture[16:32, 20:44] = 1.0
    write.write_image(folder / "lamp.png", np.rint(picture * 255).astype(np.uint8))
    write.write_plane(folder / "lamp_depth.npy", np.full((48, 64), 2.0, np.float32))
    camera = camera_named("generic-full-frame")
    even = replace(camera, profile=replace(camera.profile, shading=None))
    (source,) = find_rgbd(folder)
    settings = RenderSettings(even, focus_distance_m=2.0, noise=True)
    sample = render_sample(SampleSpec(0, source), settings)
    assert sample.saturated is not None and sample.saturated.shape == (48, 64)
    lamp = np.zeros((48, 64), bool)
    lamp[16:32, 20:44] = True
    assert sample.saturated[lamp].mean() > 0.3 and not sample.saturated[~lamp].any()
    assert render_sample(SampleSpec(0, source), replace(settings, noise=False)).saturated is None
    assert run(folder, "-o", tmp_path / "o", "--focus", "2", "--noise") == 0
    written = cv2.imread(str(tmp_path / "o/000000/saturated.png"), cv2.IMREAD_UNCHANGED)
    assert written.shape == (48, 64) and set(np.unique(written)) <= {0, 255}


def test_noise_needs_a_sensor() -> None:
    camera = camera_named("pixel4")
    with pytest.raises(DualpixError, match=r"does not say what sensor.*without --noise"):
        RenderSettings(replace(camera, profile=replace(camera.profile, sensor=None)), noise=True)


def test_the_field_changes_the_gain_over_the_picture(tmp_path: Path) -> None:
    """Halves of a wall behind focus move apart by the gain of where they are: more in the middle of an RF 50 mm."""
    wide_open = replace(camera_named("canon-r6m2-rf50"), f_number=0.5)
    wall = flat_wall(tmp_path, 4.5, 5.0)
    sample = render_sample(wall, RenderSettings(wide_open, focus_distance_m=2.0, field=True))
    assert sample.gain is not None and sample.left is not None and sample.right is not None
    assert sample.gain.mean() == pytest.approx(wide_open.disparity_gain, rel=1e-3)
    truth_px, left, right = sample.disparity_px, sample.left.mean(2), sample.right.mean(2)
    for columns in (slice(0, 48), slice(40, 88), slice(80, 128)):
        expected = float(truth_px[12:-12, columns].mean())
        assert _shift(left[:, columns], right[:, columns]) == pytest.approx(expected, rel=0.2)
    assert truth_px[48, 64] > 1.2 * truth_px[48, 4]


def test_a_crop_keeps_depth_as_measured(tmp_path: Path) -> None:
    sample = pictured(tmp_path, size_hw=(30, 30), coc_span_px=4.0)
    t = truth(seed=0)
    known = sample.view.depth_m[sample.view.measured]
    assert sample.view.depth_m.shape == (30, 30)
    assert np.isin(np.rint(known * 1000), np.rint(t.depth_m * 1000)).all()  # no depths between surfaces


def test_filled_share_is_reported(tmp_path: Path) -> None:
    folder = folder_of_pairs(tmp_path / "in", 1)
    assert run(folder, "-o", tmp_path / "o", "--coc-span", 6) == 0
    about = json.loads((tmp_path / "o/000000/sample.json").read_text())
    assert about["filled_fraction"] == pytest.approx(truth().hole.mean(), abs=1e-6)
    measured = cv2.imread(str(tmp_path / "o/000000/measured.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(measured == 0, truth().hole)


def test_real_pictures(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    sources = find_rgbd(shared_data("rgbd"))[::9]
    settings = RenderSettings(camera_named("pixel4"), size_hw=(120, 160), coc_span_px=10)
    for index, source in enumerate(sources):
        sample = render_sample(SampleSpec(index, source), settings)
        assert sample.left is not None and np.isfinite(sample.left).all() and sample.left.max() < 1.01


def test_a_camera_from_its_profile(tmp_path: Path) -> None:
    gain = GainField(3.2, np.ones((2, 2), np.float32), 1.0, False, 0.02, 768, pixel_pitch_um=46.7)
    whole = CameraProfile(
        (512, 768), camera="A", focal_length_mm=50.0, f_number=4.0, disparity_gain=0.06, gain=gain,
        noise=dict.fromkeys(("left", "right"), HalfNoise(2e-4, 1e-3)),
        sensor=SensorFacts("halves", "bayer", 14, 1024.0, 16383.0),
    )  # fmt: skip
    write_profile(tmp_path / "a.json", whole)
    camera = camera_named(str(tmp_path / "a.json"))
    assert (camera.name, camera.focal_length_mm, camera.f_number, camera.disparity_gain) == ("A", 50.0, 4.0, 0.06)
    assert camera.sensor_width_mm == pytest.approx(768 * 0.0467)
    digest = camera.to_json()["profile_sha256"]
    write_profile(tmp_path / "a.json", replace(whole, notes={"profile": "again"}))
    assert camera_named(str(tmp_path / "a.json")).to_json()["profile_sha256"] != digest  # --resume sees the change
    write_profile(tmp_path / "b.json", replace(whole, f_number=None))
    with pytest.raises(DualpixError, match=r"the profile 'b\.json' lacks f_number.*dualpix calibrate gain"):
        camera_named(str(tmp_path / "b.json"))


def test_help_and_options_need_no_torch() -> None:
    code = "import sys, dualpix.capture.synthesis.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Bad input


def test_an_unreadable_file_in_the_middle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of_pairs(tmp_path / "in", 4)
    (folder / "p1.depth.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    write.write_plane(folder / "p2.depth.png", np.full((48, 60), 1500, np.uint16))
    assert run(folder, "-o", tmp_path / "o", *SMALL) == 2
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"000000", "000003", "manifest.json"}
    errors = capsys.readouterr().err
    assert "'p1.depth.png' is a cut PNG" in errors and "'p2': the depth is 60x48 px, the image 64x48" in errors
    failed = json.loads((tmp_path / "o/manifest.json").read_text())["failed"]
    assert [entry["key"] for entry in failed] == ["000001", "000002"]
    assert run(folder, "-o", tmp_path / "s", *SMALL, "--shards", 3) == 2  # left out of their shard
    with tarfile.open(tmp_path / "s/shard-000000/samples.tar") as tar:
        assert {name.split(".")[0] for name in tar.getnames()} == {"000000"}
    assert json.loads((tmp_path / "s/manifest.json").read_text())["samples"] == 2
    assert run(folder, "-o", tmp_path / "s", *SMALL, "--shards", 3, "--resume") == 2  # still says so


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["IN", "--focus", "0.004"], "focus distance 0.004 m is within the focal length of 4.38 mm"),
        (["IN", "--focus", "near"], None),
        (
            ["IN", "--camera", "iphone"],
            "unknown camera profile 'iphone'; expected one of: canon-r6m2-rf50, generic-full-frame",
        ),
        (["IN", "--coc-span", "0"], "a circle of confusion span of 0 px; expected a number above 0"),
        (["IN", "--coc-span", "nan"], "a circle of confusion span of nan px"),
        (["IN", "--coc-span", "400"], "the blur reaches .* expected at most 24 px"),
        (["IN", "--stack", "1"], "a focus stack of 1 frames; expected 0, or 2 to 100"),
        (["IN", "--no-pair"], "nothing to render"),
        (["IN", "--method", "gather"], "tells no halves apart"),
        (["IN", "--camera", "generic-phone", "--field"], "the profile of 'generic-phone' has one blur all over"),
        (["IN", "--method", "integral", "--field"], "--field with the renderer 'integral'; expected layered"),
        (["IN", "--size", "2", "2"], "a size of 2 x 2 px"),
        (["IN", "--scenes", "2"], "both INPUTS and --scenes were given"),
        (["--scenes", "2", "--count", "3"], "--count with --scenes"),
        (
            ["--scenes", "1", "--camera", "generic-full-frame", "--use", "macro"],
            "the blur reaches .* bound the blur with --coc-span",
        ),
        (["IN", "--camera", "none.json"], "cannot read profile 'none.json'"),
        ([], "no input; expected folders of RGB-D data, or --scenes N"),
        (["EMPTY"], "no RGB-D samples in"),
        (["NOWHERE"], "no file or folder"),
    ],
    ids=lambda value: " ".join(value)[:24] if isinstance(value, list) else "",
)
def test_bad_arguments(
    arguments: list[str], message: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "EMPTY").mkdir()
    folder_of_pairs(tmp_path / "IN", 1)
    known = {name: str(tmp_path / name) for name in ("IN", "EMPTY", "NOWHERE")}
    assert run(*[known.get(word, word) for word in arguments], "-o", tmp_path / "o") == 2
    error = capsys.readouterr().err
    if message is not None:
        assert error.startswith("dualpix: error: ") and re.search(message, error), error
    assert not (tmp_path / "o").exists() or not any((tmp_path / "o").iterdir())


def test_depth_in_mm_given_as_m(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write.write_image(tmp_path / "a.png", truth().image)
    write.write_plane(tmp_path / "a_depth.npy", truth().depth_m * 1000)
    assert run(tmp_path, "-o", tmp_path / "o", *SMALL) == 2
    assert "say it with --depth-unit" in capsys.readouterr().err
    assert run(tmp_path, "-o", tmp_path / "o", *SMALL, "--depth-unit", "mm") == 0
    assert run(tmp_path, "-o", tmp_path / "o", *SMALL, "--depth-unit", "m") == 0
    assert "dualpix: warning: 'a': the median depth is" in capsys.readouterr().err


def test_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--scenes", 1) == 2
    assert "no output was named; give -o FOLDER or --contact-sheet" in capsys.readouterr().err
    (tmp_path / "o/000000").mkdir(parents=True)
    (tmp_path / "o/000000/mine.txt").touch()
    assert run("--scenes", 1, "-o", tmp_path / "o", *SMALL) == 2
    assert "exists and is no earlier result" in capsys.readouterr().err


def test_formats_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list-formats") == 0
    shown = capsys.readouterr().out
    assert all(
        name in shown for name in ("nyuv2", "hypersim", "arkitscenes", "ibims", "middlebury", "diode", "generic")
    )


def test_settings_are_checked() -> None:
    settings = RenderSettings(camera_named(CAMERAS[0]))
    with pytest.raises(DualpixError, match="focus_distance_m is -1"):
        replace(settings, focus_distance_m=-1.0)
    with pytest.raises(DualpixError, match="focus_distance_m is nan"):
        replace(settings, focus_distance_m=math.nan)


# Outputs


DUALPIX = [sys.executable, "-c", "from dualpix.capture.cli import main; main()"]


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_kills_leave_nothing_behind_after_the_next_run(tmp_path: Path, kills: int) -> None:
    """SIGKILL at any moment, processes and all; the run after them ends as if there had been none."""
    folder, out, sheet = folder_of_pairs(tmp_path / "in", 4), tmp_path / "out", tmp_path / "sheets/page.png"
    words = [folder, "-o", out, *SMALL, "--stack", 2, "--jobs", 2, "--contact-sheet", sheet]
    command = [*DUALPIX, "render", *map(str, words)]
    rng = np.random.default_rng(0)
    for number in range(kills):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = time.monotonic()
        while not any(tmp_path.glob("out/*")) and running.poll() is None and time.monotonic() - begun < 60:
            time.sleep(0.01)  # importing takes seconds, and a kill in it shows nothing
        time.sleep(float(rng.uniform(0, 1.5)))
        running.kill()
        running.wait()
        assert number or out.is_dir()
    assert run(*words, "--resume") == 0
    assert hidden(tmp_path) == []
    assert run(folder, "-o", tmp_path / "whole", *SMALL, "--stack", 2) == 0
    ours, whole = contents(out), contents(tmp_path / "whole")
    assert ours.keys() == whole.keys()
    assert all(ours[name] == data for name, data in whole.items() if not name.endswith((".json",)))
    assert json.loads(ours["manifest.json"])["files"] == json.loads(whole["manifest.json"])["files"]


def test_what_a_kill_left_of_a_manifest_or_a_page_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files in the making, of a process that is no more, in both folders that are written to."""
    folder, out, sheets = folder_of_pairs(tmp_path / "in", 1), tmp_path / "out", tmp_path / "sheets"
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom dualpix.capture.files import atomic_path\n"
        "kept = []\nfor name in sys.argv[1:]:\n    Path(name).parent.mkdir(exist_ok=True)\n"
        "    block = atomic_path(Path(name)); block.__enter__().write_text('half')\n    kept.append(block)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    names = [str(out / "manifest.json"), str(sheets / "page.png")]
    assert subprocess.run([sys.executable, "-c", code, *names], check=False).returncode == -9
    assert len(hidden(tmp_path)) == 2
    assert run(folder, "-o", out, *SMALL, "--contact-sheet", sheets / "page.png") == 0
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "FILE"], r"cannot write to output folder '.*file': '.*file': Not a directory"),
        (["-o", "FILE/deeper"], r"'.*file': Not a directory; expected a folder that can be created"),
        (["--contact-sheet", "FILE/page.png"], "Not a directory"),
        (["--contact-sheet", "FOLDER"], "it is a folder; name a PNG file"),
        (["-o", "x" * 300], "File name too long"),
    ],
)
def test_outputs_are_looked_at_before_the_inputs(
    tmp_path: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    monkeypatch.setattr("dualpix.capture.synthesis.sample.render_sample", lambda *_: pytest.fail("work was begun"))
    named = [word.replace("FILE", "file").replace("FOLDER", "folder") for word in words]
    assert run(*named, "--scenes", 1, *SMALL) == 2
    assert re.search(message, capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
def test_a_folder_that_is_read_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o555)
    assert run("--scenes", 1, *SMALL, "-o", tmp_path / "o") == 2
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["--json"], [], ["--list-formats"]])
def test_a_full_standard_output_is_told_in_a_line(tmp_path: Path, words: list[str]) -> None:
    command = [*DUALPIX, "render", "--scenes", "1", "-o", str(tmp_path / "o"), *SMALL, *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    error = done.stderr.splitlines()[-1]
    assert error == "dualpix: error: cannot write to standard output: No space left on device"
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    if words in ([], ["--json"]):  # the results are there
        assert json.loads((tmp_path / "o/manifest.json").read_text())["samples"] == 1


def test_a_disk_that_is_full_leaves_no_half_result(tmp_path: Path) -> None:
    """No file may become larger than 8 KiB here: what a full disk does to the view that is too large."""
    code = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from dualpix.capture.cli import main\nimport dualpix.capture.synthesis.sample\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\nmain()\n"
    )
    command = [sys.executable, "-c", code, "render", "--scenes", "1", "-o", str(tmp_path / "o"), *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(r"dualpix: error: cannot write '.*/o/000000': File too large", done.stderr), done.stderr
    assert list((tmp_path / "o").iterdir()) == []


def test_focus_at_infinity_is_written_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has no infinity: it is the text "inf", in the sample, its settings and on standard output."""
    folder = folder_of_pairs(tmp_path / "in", 1)

    def refuse(text: str) -> float:
        raise AssertionError(text)

    assert run(folder, "-o", tmp_path / "o", "--size", 48, 64, "--focus", "inf", "--coc-span", 3, "--json") == 0
    manifest = json.loads(capsys.readouterr().out, parse_constant=refuse)
    about = json.loads((tmp_path / "o/000000/sample.json").read_text(), parse_constant=refuse)
    assert manifest["settings"]["focus_distance_m"] == about["lens"]["focus_distance_m"] == "inf"
    assert run(folder, "-o", tmp_path / "o", "--size", 48, 64, "--focus", "inf", "--coc-span", 3, "--resume") == 0
    assert "done before" in capsys.readouterr().out


# What is said of the inputs


def test_warnings_of_many_samples_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for scene in ("ai_001_001", "ai_001_002", "ai_001_003"):
        write.write_hypersim(tmp_path / "in" / scene, truth(), np.ones((48, 64, 3), np.float16))
    assert run(tmp_path / "in", "-o", tmp_path / "o", *SMALL) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert re.search(r"'ai_001_001/.*': 60 degrees .* are assumed: .* \(and 2 more samples\)", warnings[0])
    about = json.loads((tmp_path / "o/000001/sample.json").read_text())
    assert "60 degrees of horizontal field are assumed" in about["warnings"][0]


def test_what_is_not_used_is_said_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write.write_arkitscenes(tmp_path / "in", truth(), "41069021", "Up")
    write.write_image(tmp_path / "in/Validation/41069021/wide/41069021_9.999.png", truth().image)
    assert run(tmp_path / "in", "-o", tmp_path / "o", *SMALL) == 0
    said = "'Validation/41069021/wide/41069021_9.999.png' not used: wide without highres_depth within 1 ms"
    assert f"dualpix: warning: {said}" in capsys.readouterr().err


def test_a_table_that_changes_is_a_reason_to_render_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--resume`` keeps what was made of the same files: the camera table is one of them."""
    folder = tmp_path / "in"
    write.write_hypersim(folder / "ai_001_001", truth(), np.ones((48, 64, 3), np.float16))
    words = (folder, "-o", tmp_path / "o", *SMALL, "--resume")
    depths = []
    for field in (None, 0.5):
        if field is not None:
            (folder / "metadata_camera_parameters.csv").write_text(
                f"scene_name,settings_camera_fov\nai_001_001,{field}\n"
            )
        assert run(*words) == 0
        depths.append(np.load(tmp_path / "o/000000/depth.npy"))
    assert np.abs(depths[1] - depths[0]).max() > 0.05
    capsys.readouterr()
    assert run(*words) == 0 and "done before" in capsys.readouterr().out


def test_a_flat_wall_keeps_the_aperture(tmp_path: Path) -> None:
    """Half floats round a wall at 2 m to 2 m +- 1 mm: no aperture spreads that over 6 px."""
    rounding = np.random.default_rng(0).uniform(-1e-3, 1e-3, (48, 64)).astype(np.float32)
    write.write_image(tmp_path / "in/a.png", truth().image)
    write.write_plane(tmp_path / "in/a_depth.npy", 2.0 + rounding)
    (source,) = find_rgbd(tmp_path / "in")
    camera = camera_named("pixel4")
    sample = render_sample(SampleSpec(0, source), RenderSettings(camera, focus_distance_m=1.5, coc_span_px=6.0))
    assert sample.lens.f_number == camera.f_number
    assert "depths differ by less than 1%: the lens keeps its aperture" in sample.view.warnings[0]
