"""What a user writes for a source, splits by scene, and pictures with depth rendered on the fly."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.support import rgbd as write
from tests.support.training import OPTIONS, SIZE_HW, Numbered, render, task_named

from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.types import DualPixelImage
from dualpix.models.data.formation import RgbdView, draw_pair, form_pair
from dualpix.models.data.mixture import Mixture
from dualpix.models.data.rendered import RenderSettings, render_sample
from dualpix.models.data.source import Source
from dualpix.models.data.sources import KINDS, SourceOptions, open_source, pairs, split_weight
from dualpix.models.data.split import split
from dualpix.models.data.windows import Window
from dualpix.models.tasks.task import KNOWN

# SOURCE[:weight]


@pytest.mark.parametrize(
    ("text", "source", "weight"),
    [
        ("procedural", "procedural", 1.0),
        ("procedural:0.25", "procedural", 0.25),
        ("data/nyu:2", "data/nyu", 2.0),
        ("data/nyu:.5", "data/nyu", 0.5),
        ("data/nyu:1e-3", "data/nyu", 0.001),
        (r"C:\data\nyu", r"C:\data\nyu", 1.0),
        (r"C:\data\nyu:3", r"C:\data\nyu", 3.0),
        ("C:/data", "C:/data", 1.0),
        ("a:b:c", "a:b:c", 1.0),
        ("a:b:2", "a:b", 2.0),
        ("2024-01-01T10:30:00Z", "2024-01-01T10:30:00Z", 1.0),
    ],
)
def test_only_a_number_at_the_end_is_a_weight(text: str, source: str, weight: float) -> None:
    assert split_weight(text) == (source, weight)


def test_a_folder_whose_name_ends_like_a_weight(tmp_path: Path) -> None:
    (tmp_path / "run:3").mkdir()
    assert split_weight(f"{tmp_path}/run:3") == (f"{tmp_path}/run:3", 1.0)
    assert split_weight(f"{tmp_path}/run:3:0.5") == (f"{tmp_path}/run:3", 0.5)
    (tmp_path / "run").mkdir()
    with pytest.raises(DualpixError, match=r"are both there; expected one of them; write '.*run:3:1' .* '.*run/:3'"):
        split_weight(f"{tmp_path}/run:3")
    assert split_weight(f"{tmp_path}/run/:3") == (f"{tmp_path}/run/", 3.0)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "1e300", "0.00000001"])
def test_weights_out_of_range_are_refused(weight: str) -> None:
    with pytest.raises(DualpixError, match=r"has a weight of .*; expected 0\.0001 to 10000"):
        split_weight(f"procedural:{weight}")


@given(st.text(max_size=30), st.floats(1e-4, 1e4))
def test_any_text_with_a_weight_comes_apart_again(text: str, weight: float) -> None:
    name = f"x{text}"
    assert split_weight(f"{name}:{weight!r}") == (name, weight)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty source"),
        ("nowhere", "no file or folder 'nowhere'; expected 'procedural'"),
        ("x" * 5000, "no file or folder"),
        ("a\0b", "no file or folder"),
        ("rgbd=nowhere", "no file or folder 'nowhere'"),
        (
            "video=.",
            "unknown kind of source 'video'; expected one of: " + ", ".join(sorted(kind.name for kind in KINDS)),
        ),
    ],
)
def test_sources_that_are_none(text: str, words: str) -> None:
    with pytest.raises(DualpixError, match=words) as raised:
        open_source(text, "dual_pixel")
    assert "\n" not in str(raised.value)


def test_a_folder_of_nothing_says_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no data")
    with pytest.raises(DualpixError) as raised:
        open_source(str(tmp_path), "dual_pixel")
    assert all(f"{kind.name}: " in str(raised.value) for kind in KINDS)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("kitchen/rgb", "kitchen/more", "hall"):
        for number in range(2):
            write.write_generic(tmp_path / "rgbd" / name, write.truth(60, 90, seed=number), f"{number}")
    return tmp_path / "rgbd"


def test_a_kind_can_be_named(pictures: Path) -> None:
    by_kind, weight = open_source(f"rgbd={pictures}:0.5", "dual_pixel", OPTIONS)
    assert weight == 0.5 and by_kind.digest() == open_source(str(pictures), "dual_pixel", OPTIONS)[0].digest()
    with pytest.raises(DualpixError, match="holds no focus stack with depth"):
        open_source(f"stacks={pictures}", "focus_stack", OPTIONS)
    with pytest.raises(DualpixError, match=r"\(stacks\) has no samples of the task 'dual_pixel'"):
        open_source(f"stacks={pictures}", "dual_pixel", OPTIONS)


def test_data_need_no_library_of_raws_or_phones(pictures: Path) -> None:
    script = f"""
import sys
for name in ("rawpy", "executorch", "torchao", "coremltools"):
    sys.modules[name] = None
from dualpix.models.data.rendered import RenderSettings
from dualpix.models.data.sources import SourceOptions, open_source
options = SourceOptions(render=RenderSettings(size_hw=(32, 48)))
for text in ("procedural", {str(pictures)!r}):
    for task in ("dual_pixel", "focus_stack", "monocular"):
        source, _ = open_source(text, task, options)
        source.form(source.prepare(0))
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# On the fly


def test_a_picture_alone_keeps_its_light_and_its_depth_inverted(tmp_path: Path) -> None:
    made = write.truth(*SIZE_HW)
    write.write_generic(tmp_path, made)
    source, _ = open_source(str(tmp_path), "monocular", OPTIONS)
    sample = source.form(source.prepare(0))
    known = sample[KNOWN][0].numpy() > 0
    assert (known == ~made.hole).all()
    inverse = sample["inverse_depth_per_m"][0].numpy()
    np.testing.assert_allclose(inverse[known], 1 / made.depth_m[known], rtol=1e-5)
    light = linear_from_srgb(made.image.astype(np.float32) / 255).transpose(2, 0, 1)
    np.testing.assert_allclose(sample["combined"].numpy(), light, atol=1e-5)


def test_what_has_no_pictures_with_depth_is_told(tmp_path: Path) -> None:
    render(tmp_path, "--scenes", "1", "--size", "48", "64", "--coc-span", "6")
    with pytest.raises(
        DualpixError, match=r"no samples of the task 'monocular'; expected a source of: procedural, rgbd"
    ):
        open_source(str(tmp_path), "monocular", OPTIONS)


@pytest.mark.parametrize("task", ["dual_pixel", "focus_stack", "monocular"])
@pytest.mark.parametrize("text", ["procedural", "rgbd"])
def test_samples_follow_from_seed_and_index(text: str, task: str, pictures: Path) -> None:
    named = str(pictures) if text == "rgbd" else text
    source, again = (open_source(named, task, OPTIONS)[0] for _ in range(2))
    other, _ = open_source(named, task, replace(OPTIONS, seed=1))
    assert len(source) == (12 if text == "rgbd" else 6)
    assert isinstance(source, Source)
    first = source.form(source.prepare(2))
    repeated = again.form(again.prepare(2))
    assert all(torch.equal(first[name], repeated[name]) for name in first)
    view = {"dual_pixel": "left", "focus_stack": "frames", "monocular": "combined"}[task]
    for different in (source.form(source.prepare(3)), other.form(other.prepare(2))):
        assert not torch.equal(first[view], different[view])
    assert source.digest() == again.digest() != other.digest()
    assert KNOWN not in first or first[KNOWN].shape == (1, *SIZE_HW)
    assert all(torch.isfinite(v).all() for v in first.values())
    with pytest.raises(IndexError):
        source.prepare(len(source))
    loaded = Mixture((source,), (1.0,), 1, task_named(task), Window((32, 32), 3)).load
    assert loaded(Mixture((source,), (1.0,), 1, task_named(task)).keys(0, 1)[0]).sample[view].shape[-2:] == (32, 32)


def textured(depth_m: np.ndarray) -> RgbdView:
    rng = np.random.default_rng(1)
    image = rng.random((*depth_m.shape, 3)).astype(np.float32)
    return RgbdView(image, depth_m.astype(np.float32), np.ones(depth_m.shape, bool))


def shift_of(left: torch.Tensor, right: torch.Tensor) -> float:
    """x_right - x_left, to a tenth of a pixel, by the phase of the cross spectrum."""
    a, b = (np.fft.rfft(np.asarray(v)[0] - float(v.mean()), axis=1) for v in (left, right))
    cross = (a * np.conj(b)).sum(0)
    use = slice(1, 6)
    frequency = 2 * np.pi * np.arange(len(cross))[use] / left.shape[-1]
    return float(
        np.sum(np.abs(cross[use]) * np.angle(cross[use]) * frequency) / np.sum(np.abs(cross[use]) * frequency**2)
    )


@pytest.mark.parametrize("seed", range(6))
def test_views_of_a_wall_are_shifted_by_the_disparity_that_is_stated(seed: int) -> None:
    settings = RenderSettings(optics="half_disc", coc_span_px=(6.0, 14.0), max_coc_px=14.0)
    prepared = draw_pair(textured(np.full((192, 256), 2.0)), settings, np.random.default_rng(seed))
    sample = form_pair(prepared)
    stated = float(sample["disparity_px"].mean())
    assert float(sample["disparity_px"].std()) < 1e-5
    inside = slice(24, -24)
    assert shift_of(sample["left"][..., inside], sample["right"][..., inside]) == pytest.approx(stated, abs=0.4)
    np.testing.assert_allclose(sample["combined"][1], sample["left"][0] + sample["right"][0], atol=1e-5)


def test_nearer_is_more_negative_and_the_range_is_that_of_the_settings() -> None:
    depth = np.geomspace(0.5, 8.0, 128)[None].repeat(96, 0)
    settings = RenderSettings(size_hw=(96, 128))
    for seed in range(8):
        coc = draw_pair(textured(depth), settings, np.random.default_rng(seed))["coc_px"][0].numpy()
        assert (np.diff(coc, axis=1) >= 0).all() and np.abs(coc).max() <= settings.max_coc_px
        low, high = settings.coc_span_px
        assert 0.5 * low < np.ptp(coc) <= 1.05 * high
        # affine in inverse depth
        middle = slice(8, -8)
        fit = np.polyfit(1 / depth[0][middle], coc[0][middle], 1)
        np.testing.assert_allclose(np.polyval(fit, 1 / depth[0][middle]), coc[0][middle], atol=1e-3)


@pytest.mark.parametrize("dataset", ["nyuv2", "middlebury", "tartanair", "diode"])
def test_any_data_set_of_pictures_with_depth(tmp_path: Path, dataset: str) -> None:
    t = write.truth(480, 640)
    if dataset == "nyuv2":
        write.write_nyuv2(tmp_path, [t, t])
    else:
        getattr(write, f"write_{dataset}")(tmp_path, t)
    source, _ = open_source(str(tmp_path), "dual_pixel", OPTIONS)
    sample = source.form(source.prepare(0))
    assert sample["left"].shape == (1, *SIZE_HW) and 0.5 < float(sample[KNOWN].mean()) <= 1


def test_a_damaged_picture_is_a_sample_that_does_not_read(pictures: Path) -> None:
    damaged = pictures / "hall" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    source, _ = open_source(str(pictures), "dual_pixel", OPTIONS)
    mixed = Mixture((source,), (1.0,), 1, task_named("dual_pixel"))
    loaded = [mixed.load(key) for key in mixed.keys(0, 12)]
    whys = {skip.why for one in loaded for skip in one.skipped}
    assert len(whys) == 1 and str(damaged) in whys.pop()
    assert sum(one.read != one.key.sample for one in loaded) == OPTIONS.renders


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(DualpixError, match="1 frames; expected 2 to 100"):
        SourceOptions(frames=1)
    with pytest.raises(DualpixError, match="unknown way to form stacks 'magic'; expected one of: faithful, published"):
        SourceOptions(stacks="magic")  # type: ignore[arg-type]
    with pytest.raises(DualpixError, match="a window of 4 x 9"):
        Window((4, 9))


# By scene


def scenes(source: Source) -> set[str]:
    return {source.scene_of(index) for index in range(len(source))}


def test_pictures_of_a_folder_are_one_scene(pictures: Path) -> None:
    source, _ = open_source(str(pictures), "dual_pixel", OPTIONS)
    assert scenes(source) == {"kitchen", "kitchen/more", "hall"}
    (pictures / "dataset.json").write_text('{"scene": "sample"}')
    assert len(scenes(open_source(str(pictures), "dual_pixel", OPTIONS)[0])) == 6


@pytest.mark.parametrize("dataset", ["hypersim", "diode", "middlebury", "nyuv2"])
def test_what_a_data_set_calls_a_scene_is_one(tmp_path: Path, dataset: str) -> None:
    t = write.truth()
    if dataset == "hypersim":
        radiance = np.ones((48, 64, 3), np.float16)
        for camera in ("00", "01"):
            copy_renamed(
                tmp_path,
                lambda f: write.write_hypersim(f / "ai_001_001", t, radiance),
                "cam_00",
                f"cam_{camera}",
            )
        expected = {"ai_001_001"}
    elif dataset == "diode":
        for scan in ("scan_00000", "scan_00001"):
            write.write_diode(tmp_path / "indoors" / "scene_00003" / scan, t)
        expected = {"indoors/scene_00003"}
    elif dataset == "middlebury":
        for end in ("-perfect", "-imperfect"):
            write.write_middlebury(tmp_path / f"Adirondack{end}", t)
        expected = {"Adirondack"}
    else:
        write.write_nyuv2(tmp_path, [write.truth(seed=n) for n in range(3)])
        with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "r+") as file:
            names = ("kitchen_0004", "kitchen_0004", "office_0001")
            cells = [
                file.create_dataset(f"#refs#/{n}", data=[[ord(c)] for c in name], dtype="u2")
                for n, name in enumerate(names)
            ]
            file.create_dataset(
                "scenes", data=np.array([[cell.ref for cell in cells]], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype
            )
        expected = {"kitchen_0004", "office_0001"}
    source, _ = open_source(str(tmp_path), "dual_pixel", OPTIONS)
    assert scenes(source) == expected


def copy_renamed(folder: Path, wrote: Callable[[Path], object], old: str, new: str) -> None:
    """What ``wrote`` writes, with another part of its names."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        wrote(Path(made))
        for path in sorted(Path(made).rglob("*")):
            to = folder / path.relative_to(made).as_posix().replace(old, new)
            if path.is_file():
                to.parent.mkdir(parents=True, exist_ok=True)
                path.rename(to)


@given(st.integers(2, 200), st.integers(1, 5), st.floats(0.01, 0.99), st.integers(0, 50))
def test_no_scene_is_on_both_sides(count: int, per_scene: int, share: float, seed: int) -> None:
    source = Numbered("a", count + per_scene, per_scene=per_scene)
    train, held = split(source, share, seed)
    assert len(train) and len(held) and len(train) + len(held) == len(source)
    assert not scenes(train) & scenes(held)
    sides = sorted([*train.indices.tolist(), *held.indices.tolist()])
    assert sides == list(range(len(source)))


@given(st.integers(0, 50), st.floats(0.1, 0.9))
def test_added_samples_move_none(seed: int, share: float) -> None:
    train, held = split(Numbered("a", 100), share, seed)
    more_train, more_held = split(Numbered("a", 160), share, seed)
    assert scenes(train) <= scenes(more_train) and scenes(held) <= scenes(more_held)


def test_about_the_share_is_held_out_and_reads_as_before() -> None:
    train, held = split(Numbered("a", 4000), 0.2, 1)
    assert 0.17 < len(held) / 4000 < 0.23
    assert float(held.prepare(3)["disparity_px"][0, 0, 0]) == held.indices[3]
    assert len({train.digest(), held.digest(), Numbered("a", 4000).digest()}) == 3
    assert isinstance(held, Source) and held.name == "a"
    with pytest.raises(IndexError):
        held.prepare(len(held))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_shares_that_hold_out_none_or_all_are_refused(share: float) -> None:
    with pytest.raises(DualpixError, match="a held-out share of"):
        split(Numbered("a", 9), share, 1)


def test_a_single_scene_cannot_be_split() -> None:
    with pytest.raises(DualpixError, match=r"'a' has a single scene.*--validate SOURCE"):
        split(Numbered("a", 5, per_scene=5), 0.2, 1)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(DualpixError, match="cannot read"):
        open_source(str(tmp_path / "closed"), "dual_pixel")


def test_simple_scenes_stand_beside_the_others() -> None:
    """One training sees measured cameras and splits that no camera has; each source keeps its own kind of scenes."""
    render = RenderSettings(size_hw=(32, 48), coc_span_px=(3.0, 6.0))
    options = SourceOptions(
        seed=3, samples=2, render=replace(render, scenes="varied", quality="exact", optics="cameras")
    )
    (varied, _), (simple, _) = (open_source(t, "dual_pixel", options) for t in ("procedural", "procedural-simple:2"))
    assert varied.digest() != simple.digest()
    found = simple.prepare(1)
    expected = render_sample(replace(render, scenes="simple", quality="standard", optics="model"), 3, 1)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    with pytest.raises(DualpixError, match="no samples of the task 'focus_stack'"):
        open_source("procedural-simple", "focus_stack", options)


def test_large_scenes_are_of_twice_the_size_and_the_same_blur() -> None:
    render = RenderSettings(size_hw=(32, 48), coc_span_px=(3.0, 6.0))
    options = SourceOptions(seed=3, samples=2, render=render)
    large, weight = open_source("procedural-large:3", "dual_pixel", options)
    assert weight == 3 and len(large) == 2
    found = large.prepare(1)
    expected = render_sample(replace(render, size_hw=(64, 96)), 3, 1)
    assert found["left"].shape == (1, 64, 96)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_real_pair_is_not_trained_on_clipped_light() -> None:
    """As methods see captures: of a sum that stopped, the derived half is black in the brightest place."""
    left, right = np.full((32, 48), 0.3, np.float32), np.full((32, 48), 0.3, np.float32)
    saturated = np.zeros((32, 48), np.bool_)
    saturated[8:16, 8:24] = True
    left[saturated], right[saturated] = 0.9, 0.1
    image = DualPixelImage(left, right, left + right, saturated)
    sample = pairs._sample(image, np.zeros((32, 48), np.float32))
    for half in ("left", "right"):
        assert np.allclose(sample[half][0].numpy()[saturated], 0.5)
        assert np.allclose(sample[half][0].numpy()[~saturated], 0.3)
