"""Folders and shards of ``dualpix render`` as training data, against the samples they were written from."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.training import render, task_named

from dualpix.capture.errors import DualpixError
from dualpix.capture.synthesis.camera import camera_named
from dualpix.capture.synthesis.sample import RenderedSample, render_sample
from dualpix.capture.synthesis.settings import RenderSettings, SampleSpec
from dualpix.models.data.mixture import Key, Mixture
from dualpix.models.data.source import SampleError, Source
from dualpix.models.data.sources import open_source
from dualpix.models.tasks.task import KNOWN

SIZE = ("--size", 48, 64, "--coc-span", 6, "--seed", 4)
BOTH = (*SIZE, "--stack", 3, "--all-in-focus")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("folder") / "out", "--scenes", 3, *BOTH)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("shards") / "out", "--scenes", 5, *BOTH, "--shards", 2)


def truth(index: int, **settings: Any) -> RenderedSample:
    """The sample that was written."""
    values = {"size_hw": (48, 64), "coc_span_px": 6.0, "seed": 4, "stack": 3, **settings}
    return render_sample(SampleSpec(index), RenderSettings(camera_named("pixel4"), **values))


def opened(path: Path | str, task: str = "dual_pixel") -> Source:
    return open_source(str(path), task)[0]


def copied(path: Path, to: Path) -> Path:
    shutil.copytree(path, to)
    return to


# Right values


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_pairs_are_what_was_rendered(kind: str, request: pytest.FixtureRequest) -> None:
    source = opened(request.getfixturevalue(kind))
    assert len(source) == (3 if kind == "folder" else 5)
    for index in range(3):
        expected, sample = truth(index), source.form(source.prepare(index))
        assert expected.left is not None and expected.right is not None
        for name, view in (("left", expected.left), ("right", expected.right)):
            assert sample[name].shape == (1, 48, 64) and sample[name].dtype == torch.float32
            np.testing.assert_allclose(sample[name][0], np.maximum(view[..., 1], 0), atol=2e-5)
        whole = (expected.left + expected.right).transpose(2, 0, 1)
        np.testing.assert_allclose(sample["combined"], np.maximum(whole, 0), atol=4e-5)
        np.testing.assert_allclose(sample["disparity_px"][0], expected.disparity_px, atol=1e-4)
        np.testing.assert_allclose(sample["sharp"], expected.view.image.transpose(2, 0, 1), atol=2e-5)
        assert (sample[KNOWN] == 1).all()


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_stacks_have_the_farthest_focus_first(kind: str, request: pytest.FixtureRequest) -> None:
    source = opened(request.getfixturevalue(kind), "focus_stack")
    expected, sample = truth(2), source.prepare(2)
    distances = sample["focus_distances_m"]
    assert (distances.diff() < 0).all()
    np.testing.assert_allclose(distances, sorted(expected.stack_focus_m, reverse=True), rtol=1e-6)
    for frame, distance in zip(sample["frames"], distances, strict=True):
        written = expected.stack[int(np.argmin(np.abs(np.array(expected.stack_focus_m) - float(distance))))]
        np.testing.assert_allclose(frame, np.maximum(written.transpose(2, 0, 1), 0), atol=2e-5)
    np.testing.assert_allclose(sample["depth_m"][0], np.minimum(expected.view.depth_m, 1e4), rtol=1e-6)
    assert float(sample["f_number"]) == pytest.approx(expected.lens.f_number, rel=1e-5)
    assert float(sample["focal_length_mm"]) == pytest.approx(expected.lens.focal_length_mm)


def test_a_gain_that_varies_over_the_field_is_in_the_disparity(tmp_path: Path) -> None:
    source = opened(render(tmp_path / "out", "--scenes", 1, *SIZE, "--field"))
    expected = truth(0, stack=0, field=True)
    assert expected.gain is not None and np.ptp(expected.gain) > 0.01
    np.testing.assert_allclose(source.prepare(0)["disparity_px"][0], expected.disparity_px, atol=1e-4)


def test_noise_that_is_in_the_files_is_told(tmp_path: Path, folder: Path) -> None:
    noisy = opened(render(tmp_path / "out", "--scenes", 1, *SIZE, "--noise"))
    assert "rendered with --noise" in noisy.notes[0]  # type: ignore[attr-defined]
    assert opened(folder).notes == ()  # type: ignore[attr-defined]


def test_tiff_views_and_depth(tmp_path: Path, folder: Path) -> None:
    tiffs = render(tmp_path / "out", "--scenes", 1, *BOTH, "--format", "tiff", "--depth-format", "tiff", "--shards", 4)
    for task in ("dual_pixel", "focus_stack"):
        expected, found = opened(folder, task).prepare(0), opened(tiffs, task).prepare(0)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_holes_of_a_depth_camera_are_not_known(tmp_path: Path) -> None:
    from tests.support import rgbd as write

    t = write.truth()
    write.write_generic(tmp_path / "rgbd", t)
    source = opened(render(tmp_path / "out", tmp_path / "rgbd", "--coc-span", 6))
    np.testing.assert_array_equal(source.prepare(0)[KNOWN][0] == 0, t.hole)


def test_one_sample_one_shard_and_a_folder_of_shards(folder: Path, shards: Path) -> None:
    assert len(opened(folder / "000001")) == 1 and len(opened(shards / "shard-000001")) == 2
    alone = opened(shards / "shard-000001" / "samples.tar")
    assert torch.equal(alone.prepare(0)["left"], opened(shards).prepare(2)["left"])
    assert torch.equal(opened(folder / "000001").prepare(0)["left"], opened(folder).prepare(1)["left"])


def test_a_picture_that_was_rendered_several_times_is_one_scene(tmp_path: Path) -> None:
    from tests.support import rgbd as write

    for name in "ab":
        write.write_generic(tmp_path / "rgbd", write.truth(), name)
    source = opened(render(tmp_path / "out", tmp_path / "rgbd", "--count", 4, *SIZE, "--shards", 3))
    scenes = [source.scene_of(index) for index in range(4)]
    assert scenes[0] == scenes[2] != scenes[1] == scenes[3]


# Wrong ones


@pytest.mark.parametrize("task", ["dual_pixel", "focus_stack"])
def test_data_without_the_views_of_a_task_are_refused_with_what_to_render(tmp_path: Path, task: str) -> None:
    options = ("--no-pair", "--stack", 2, "--method", "gather") if task == "dual_pixel" else ()
    out = render(tmp_path / "out", "--scenes", 1, *SIZE, *options)
    words = "no left and right views.*--pair" if task == "dual_pixel" else "no a focus stack.*--stack N"
    with pytest.raises(DualpixError, match=words):
        opened(out, task)


def edit_json(path: Path, **changes: Any) -> None:
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, **changes}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def with_nan(path: Path) -> None:
    depth = np.load(path)
    depth[3, 4] = np.nan
    np.save(path, depth)


def smaller(path: Path) -> None:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert cv2.imwrite(str(path), picture[:40])


SPOILT: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "cut png": ("left.png", cut, "'left.png' is a cut PNG"),
    "no png": ("right.png", Path.unlink, "no 'right.png'"),
    "png of another size": (
        "left.png",
        smaller,
        r"'left.png' of '.*000001' is \(40, 64\) \(h, w\); expected \(48, 64\)",
    ),
    "NaN depth": ("depth.npy", with_nan, "1 depths of .* are NaN, 0 or below"),
    "cut depth": ("depth.npy", cut, "bytes of samples"),
    "pickled depth": ("depth.npy", lambda p: p.write_bytes(pickle.dumps([1.0])), "pickle"),
    "no json": ("sample.json", Path.unlink, "sample.json"),
    "half a json": ("sample.json", cut, "is no JSON"),
    "json list": ("sample.json", lambda p: p.write_text("[1]"), "is a list"),
    "json of no size": ("sample.json", lambda p: edit_json(p, size=7), "states the size 7"),
    "json of a huge size": ("sample.json", lambda p: edit_json(p, size={"width": 10**9, "height": 10**9}), "size"),
    "no lens": ("sample.json", lambda p: edit_json(p, lens=None), "states no lens"),
    "a lens of texts": ("sample.json", lambda p: edit_json(p, lens={"focal_length_mm": "4"}), "focal_length_mm as '4'"),
    "a gain grid of texts": ("sample.json", lambda p: edit_json(p, disparity_gain_grid=[["a"]]), "no grid of gains"),
    "full scale of 0": ("sample.json", lambda p: edit_json(p, full_scale=0), "full_scale as 0"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_sample_is_named_and_another_takes_its_place(folder: Path, tmp_path: Path, how: str) -> None:
    spoilt = copied(folder, tmp_path / "data")
    file, spoil, words = SPOILT[how]
    spoil(spoilt / "000001" / file)
    listed = how != "no json"  # without its json, a folder is no sample
    source = opened(spoilt)
    assert len(source) == (3 if listed else 2)
    if not listed:
        return
    with pytest.raises(SampleError, match=words):
        source.prepare(1)
    mixed = Mixture((source,), (1.0,), 1, task_named("dual_pixel"))
    loaded = mixed.load(Key(0, 0, 1))
    assert loaded.read in (0, 2) and len(loaded.skipped) == 1 and "000001" in loaded.skipped[0].why
    assert "\n" not in loaded.skipped[0].why


def test_frames_and_distances_that_do_not_agree(folder: Path, tmp_path: Path) -> None:
    spoilt = copied(folder, tmp_path / "data")
    (spoilt / "000000" / "frame01.png").unlink()
    with pytest.raises(SampleError, match="2 frames and 3 focus distances"):
        opened(spoilt, "focus_stack").prepare(0)


def test_data_of_which_nothing_reads_are_an_error(folder: Path, tmp_path: Path) -> None:
    spoilt = copied(folder, tmp_path / "data")
    for path in spoilt.rglob("left.png"):
        cut(path)
    with pytest.raises(DualpixError, match=r"none of 3 samples reads: .*'left.png' is a cut PNG"):
        opened(spoilt)


# Tars


def spoilt_tar(shards: Path, tmp_path: Path, change: Callable[[bytes], bytes]) -> Path:
    data = (shards / "shard-000000" / "samples.tar").read_bytes()
    path = tmp_path / "samples.tar"
    path.write_bytes(change(data))
    return path


def test_a_cut_tar_gives_what_is_whole(shards: Path, tmp_path: Path) -> None:
    path = spoilt_tar(shards, tmp_path, lambda data: data[: len(data) - 12_000 - 20_000])
    source = opened(path)
    assert "is cut: it ends after" in source.notes[0]  # type: ignore[attr-defined]
    source.prepare(0)
    with pytest.raises(SampleError, match="'000001"):
        source.prepare(1)
    loaded = Mixture((source,), (1.0,), 1, task_named("dual_pixel")).load(Key(0, 0, 1))
    assert loaded.read == 0 and "000001" in loaded.skipped[0].why


def test_a_member_that_was_cut_after_indexing_is_named(shards: Path, tmp_path: Path) -> None:
    path = spoilt_tar(shards, tmp_path, bytes)
    source = opened(path)
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(SampleError, match=r"'000001.* is cut: '.*samples.tar' ends after 30000 bytes"):
        source.prepare(1)


def test_a_tar_with_a_damaged_header_gives_what_is_before(shards: Path, tmp_path: Path) -> None:
    def damage(data: bytes) -> bytes:
        at = data.index(b"000001.sharp.png")
        return data[:at] + b"\xff" * 512 + data[at + 512 :]

    source = opened(spoilt_tar(shards, tmp_path, damage))
    assert len(source) == 1 and "is damaged at byte" in source.notes[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "holds no sample"),
        (bytes(1024), "holds no sample"),
        (b"no tar at all" * 99, "is no tar"),
        (b"\x1f\x8b" + bytes(600), r"is compressed \(gzip\)"),
    ],
)
def test_what_is_no_plain_tar_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DualpixError, match=words):
        opened(tmp_path / "a.tar")


def repacked(shards: Path, path: Path, form: int, prefix: str) -> Path:
    with tarfile.open(shards / "shard-000000" / "samples.tar") as old, tarfile.open(path, "w", format=form) as new:
        for member in old.getmembers():
            file = old.extractfile(member)
            assert file is not None
            entry = tarfile.TarInfo(prefix + member.name)
            entry.size = member.size
            new.addfile(entry, io.BytesIO(file.read()))
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./", "kitchen/", f"{'long' * 20}/{'name' * 20}/"])
def test_tars_of_other_programs(shards: Path, tmp_path: Path, form: int, prefix: str) -> None:
    path = repacked(shards, tmp_path / "a.tar", form, prefix)
    for index in range(2):
        expected, found = opened(shards).prepare(index), opened(path).prepare(index)
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_names_lead_nowhere(tmp_path: Path) -> None:
    for name in ("../../etc/passwd.left.png", "a/../b.left.png", "a\x1b[31m.left.png"):
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            entry = tarfile.TarInfo(name)
            entry.size = 3
            tar.addfile(entry, io.BytesIO(b"abc"))
        with pytest.raises(DualpixError, match="has a member called"):
            opened(tmp_path / "a.tar")


def test_links_are_no_members(shards: Path, tmp_path: Path) -> None:
    path = repacked(shards, tmp_path / "a.tar", tarfile.GNU_FORMAT, "")
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("000009.left.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert len(opened(path)) == 2


def test_a_member_that_is_there_twice_is_told(shards: Path, tmp_path: Path) -> None:
    data = (shards / "shard-000000" / "samples.tar").read_bytes()
    at = data.index(b"000000.right.png")
    twice = bytearray(data)
    twice[at : at + 16] = b"000000.left.png\0"
    header = tarfile.TarInfo.frombuf(data[at : at + 512], "utf-8", "strict")
    header.name = "000000.left.png"
    twice[at : at + 512] = header.tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / "a.tar").write_bytes(twice)
    with pytest.raises(SampleError, match=r"two members '\.left\.png'"):
        opened(tmp_path / "a.tar").prepare(0)


def test_an_index_has_some_dozen_bytes_a_member(tmp_path: Path) -> None:
    endings = ("left.png", "right.png", "depth.npy", "measured.png", "json")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(2000):
            for ending in endings:
                tar.addfile(tarfile.TarInfo(f"{number:06}.{ending}"))
    from dualpix.models.data.tars import index_tars

    index = index_tars([tmp_path / "a.tar"])
    assert len(index) == 2000 and list(index.members(1999)) == list(endings)
    assert len(pickle.dumps(index)) < 30 * 2000 * len(endings)


def test_digests_change_with_the_files(folder: Path, shards: Path, tmp_path: Path) -> None:
    digests = {opened(folder).digest(), opened(shards).digest(), opened(folder, "focus_stack").digest()}
    other = render(tmp_path / "other", "--scenes", 3, *SIZE, "--stack", 3, "--seed", 5)
    assert len({*digests, opened(other).digest()}) == 4
    assert opened(copied(folder, tmp_path / "copy")).digest() == opened(folder).digest()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 40_000), st.binary(min_size=1, max_size=40), st.integers(0, 40_000))
def test_a_damaged_tar_is_a_refusal_or_samples(
    shards: Path, tmp_path_factory: pytest.TempPathFactory, at: int, new: bytes, end: int
) -> None:
    data = bytearray((shards / "shard-000000" / "samples.tar").read_bytes())
    data[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "damaged.tar"
    path.write_bytes(data[: len(data) - end])
    try:
        source = opened(path)
        for index in range(len(source)):
            assert source.prepare(index)["left"].shape == (1, 48, 64)
    except DualpixError as error:
        assert "\n" not in str(error)
