"""RGB-D readers against files written as each data set documents them, holes, and everything that may be wrong."""

from __future__ import annotations

import builtins
import csv
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import rgbd as write
from tests.support.rgbd import Truth, truth

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.rgbd import (
    FILLS,
    Fill,
    Intrinsics,
    RgbdError,
    RgbdSample,
    fill_holes,
    find_rgbd,
    planar_depth,
    read_rgbd,
)
from dualpix.capture.rgbd.arrays import read_npy, read_pfm


def only(folder: Path, **more: str) -> RgbdSample:
    (source,) = find_rgbd(folder, **more)
    return read_rgbd(source)


def check(sample: RgbdSample, t: Truth, source: str, *, tolerance_m: float = 6e-4) -> None:
    """The sample is the truth, holes included."""
    assert sample.source == source and sample.size_hw == t.depth_m.shape
    assert sample.image.dtype == sample.depth_m.dtype == np.float32
    np.testing.assert_allclose(sample.image, linear_from_srgb(t.image.astype(np.float32) / 255), atol=1e-6)
    np.testing.assert_array_equal(sample.valid, ~t.hole)
    np.testing.assert_allclose(sample.depth_m[~t.hole], t.depth_m[~t.hole], atol=tolerance_m)
    assert (sample.depth_m[t.hole] == 0).all()
    assert sample.hole_fraction == pytest.approx(t.hole.mean())


# Formats


def test_nyuv2(tmp_path: Path) -> None:
    truths = [truth(480, 640, seed=1), truth(480, 640, seed=2)]
    write.write_nyuv2(tmp_path, truths)
    sources = find_rgbd(tmp_path)
    assert [source.name for source in sources] == [f"nyu_depth_v2_labeled/{k:04}" for k in (0, 1)]
    for source, t in zip(sources, truths, strict=True):
        check(read_rgbd(source), t, "nyuv2")
    assert read_rgbd(sources[1]).intrinsics == Intrinsics(518.8579, 519.4696, 325.5824, 253.7362)
    assert find_rgbd(tmp_path / "nyu_depth_v2_labeled.mat") == sources  # the file itself


def test_hypersim_is_planar_and_exposed(tmp_path: Path) -> None:
    t = truth()
    radiance = (np.random.default_rng(0).uniform(0, 9, (48, 64, 3))).astype(np.float16)
    radiance[5, 5] = np.nan
    write.write_hypersim(tmp_path / "ai_001_001", t, radiance)
    sample = only(tmp_path)
    assert sample.name == "ai_001_001/images/scene_cam_00_final_hdf5/frame.0000"
    np.testing.assert_array_equal(sample.valid, ~t.hole)
    np.testing.assert_allclose(sample.depth_m[sample.valid], t.depth_m[sample.valid], rtol=2e-3)  # half floats
    assert np.isfinite(sample.image).all() and (sample.image[5, 5] == 0).all()
    luminance = sample.image @ np.array([0.3, 0.59, 0.11], np.float32)
    assert np.percentile(luminance, 90) ** (1 / 2.2) == pytest.approx(0.8, abs=0.01)
    ratio = sample.image / np.maximum(radiance.astype(np.float32), 1e-3)
    assert np.nanstd(ratio[10:]) < 1e-3 * np.nanmean(ratio[10:])  # linear: one factor


@pytest.mark.parametrize("sky", ["Up", "Left", "Down", "Right"])
def test_arkitscenes_is_turned_upright(tmp_path: Path, sky: str) -> None:
    t = truth()
    write.write_arkitscenes(tmp_path, t, "41069021", sky)
    sample = only(tmp_path)
    check(sample, t, "arkitscenes")
    camera = sample.intrinsics
    assert camera is not None
    assert {camera.fx, camera.fy} == {50.5, 51.5} and (camera.fx == 50.5) == (sky in ("Up", "Down"))
    stored_hw = (48, 64) if sky in ("Up", "Down") else (64, 48)
    # the principal point is the same point of the scene: turned with the picture that marks it
    marked = np.zeros(stored_hw)
    marked[21, 30] = 1
    turns = {"Up": 0, "Left": 3, "Down": 2, "Right": 1}[sky]
    y, x = (int(v[0]) for v in np.nonzero(np.rot90(marked, turns)))
    assert abs(camera.cx - x) <= 0.26 and abs(camera.cy - y) <= 0.26


@pytest.mark.parametrize("write_it", [write.write_ibims_mat, write.write_ibims_png])
def test_ibims(tmp_path: Path, write_it: Callable[[Path, Truth], None]) -> None:
    t = truth()
    write_it(tmp_path / "ibims", t)
    sample = only(tmp_path)
    check(sample, t, "ibims")
    assert sample.intrinsics == Intrinsics(50, 51, 31, 23)


def test_middlebury(tmp_path: Path) -> None:
    t = truth()
    write.write_middlebury(tmp_path / "Adirondack-perfect", t)
    sample = only(tmp_path)
    check(sample, t, "middlebury")
    assert sample.intrinsics == Intrinsics(994.978, 994.978, 311.193, 254.877)


def test_diode_sky_is_far(tmp_path: Path) -> None:
    t = truth()
    write.write_diode(tmp_path / "in", t)
    check(only(tmp_path / "in"), t, "diode")
    write.write_diode(tmp_path / "out", t, outdoor=True)
    outdoor = only(tmp_path / "out")
    assert np.isinf(outdoor.depth_m[:2]).all() and outdoor.valid[:2].all()  # reaches the top: sky
    np.testing.assert_array_equal(outdoor.valid[2:], ~t.hole[2:])  # the other hole is one
    assert outdoor.intrinsics is None


def test_tartanair(tmp_path: Path) -> None:
    t = truth()
    write.write_tartanair(tmp_path / "abandonedfactory", t)
    sample = only(tmp_path)
    assert sample.source == "tartanair" and sample.valid.all()
    np.testing.assert_array_equal(np.isinf(sample.depth_m), t.hole)
    np.testing.assert_array_equal(sample.depth_m[~t.hole], t.depth_m[~t.hole])
    assert sample.intrinsics == Intrinsics(32, 32, 32, 24)


def test_generic_names(tmp_path: Path) -> None:
    t = truth()
    for name, image, depth in (
        ("1", "a.png", "a.depth.png"),
        ("2", "a.png", "a_depth.npy"),
        ("3", "rgb/a.png", "depth/a.tiff"),
        ("4", "images/a.png", "depths/a.pfm"),
        ("5", "a.png", "a-depth.tif"),
    ):
        folder = tmp_path / name
        write.write_image(folder / image, t.image)
        path = folder / depth
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".pfm":
            write.write_pfm(path, t.with_zeros, big_endian=True)
        elif path.suffix == ".npy":
            np.save(path, np.where(t.hole, np.nan, t.depth_m))
        elif path.suffix == ".tiff":
            tifffile.imwrite(path, np.where(t.hole, -1, t.depth_m).astype(np.float32))
        else:
            write.write_plane(path, write.millimetres(t.with_zeros))
        check(only(folder), t, "generic")
    assert len(find_rgbd(tmp_path)) == 5


def test_generic_index(tmp_path: Path) -> None:
    t = truth()
    write.write_image(tmp_path / "photos/IMG 1.png", t.image)
    write.write_plane(tmp_path / "z/scan.png", write.millimetres(t.with_zeros))
    (tmp_path / "index.csv").write_text("image,depth,note\nphotos/IMG 1.png,z/scan.png,hall\n")
    sample = only(tmp_path)
    check(sample, t, "generic")
    assert sample.name == "photos/IMG 1"
    (tmp_path / "index.csv").write_text("image,depth\nphotos/IMG 1.png,\n")
    with pytest.raises(RgbdError, match="row 2 lacks a file name"):
        find_rgbd(tmp_path)


def test_a_linear_float_image_stays_linear(tmp_path: Path) -> None:
    t = truth()
    light = np.random.default_rng(0).uniform(0, 2, (48, 64, 3)).astype(np.float32)
    assert cv2.imwrite(str(tmp_path / "a.tiff"), light[..., ::-1])
    write.write_plane(tmp_path / "a_depth.png", write.millimetres(t.with_zeros))
    np.testing.assert_array_equal(only(tmp_path).image, light)


def test_a_mixed_folder_and_one_data_set(tmp_path: Path) -> None:
    t = truth()
    write.write_generic(tmp_path / "own", t)
    write.write_tartanair(tmp_path / "t", t)
    write.write_ibims_png(tmp_path / "i", t)
    write.write_generic(tmp_path / ".hidden", t)
    write.write_generic(tmp_path / "result/000000", t)
    (tmp_path / "result/manifest.json").write_text("{}")
    assert [source.dataset for source in find_rgbd(tmp_path)] == ["ibims", "tartanair", "generic"]
    assert [source.dataset for source in find_rgbd(tmp_path, "tartanair")] == ["tartanair"]
    with pytest.raises(UnknownNameError, match="unknown RGB-D format 'nyu'; expected one of: arkitscenes, diode"):
        find_rgbd(tmp_path, "nyu")


def test_real_samples(shared_data: Callable[[str], Path]) -> None:
    """Every file of the folder reads through the generic reader, with the ranges that its table states."""
    folder = shared_data("rgbd")
    with (folder / "index.csv").open() as file:
        table = {(row["source"], row["id"]): row for row in csv.DictReader(file)}
    sources = find_rgbd(folder)
    assert len(sources) >= 30 and {source.dataset for source in sources} == {"generic"}
    for source in sources[::5]:
        sample = read_rgbd(source)
        row = table[source.image.parent.name, source.image.stem]
        assert sample.size_hw == (int(row["height"]), int(row["width"]))
        assert 1 - sample.hole_fraction == pytest.approx(float(row["valid_fraction"]), abs=2e-3)
        assert np.median(sample.depth_m[sample.valid]) * 1000 == pytest.approx(float(row["z_mm_p50"]), rel=0.01)
        filled = fill_holes(sample.depth_m, sample.valid)
        assert (filled.depth_m > 0).all() and filled.fraction == pytest.approx(sample.hole_fraction)


# Geometry


@given(st.integers(0, 3), st.integers(2, 40), st.integers(2, 40))
def test_turning_intrinsics_turns_projections(turns: int, height: int, width: int) -> None:
    camera = Intrinsics(30.0, 40.0, 0.3 * width, 0.6 * height)
    turned = camera.turned(turns, (height, width))
    x, y, z = 0.11, -0.07, 1.3
    u, v = camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy
    for _ in range(turns):
        u, v, x, y, height, width = v, width - 1 - u, y, -x, width, height
    assert turned.fx * x / z + turned.cx == pytest.approx(u)
    assert turned.fy * y / z + turned.cy == pytest.approx(v)


def test_planar_depth_of_a_wall() -> None:
    camera = Intrinsics(50, 60, 31.5, 20)
    x, y = (np.arange(64) - camera.cx) / camera.fx, (np.arange(48) - camera.cy) / camera.fy
    distance = 2.5 * np.sqrt(1 + x[None] ** 2 + y[:, None] ** 2)
    np.testing.assert_allclose(planar_depth(distance.astype(np.float32), camera), 2.5, rtol=1e-6)


# Holes


@pytest.mark.parametrize("how", FILLS)
def test_measured_depth_is_untouched(how: Fill) -> None:
    t = truth()
    filled = fill_holes(t.with_zeros, ~t.hole, how)
    np.testing.assert_array_equal(filled.depth_m[~t.hole], t.depth_m[~t.hole])
    assert (filled.depth_m > 0).all() and np.isfinite(filled.depth_m).all()
    assert filled.fraction == pytest.approx(t.hole.mean())


def test_a_shadow_belongs_to_the_background() -> None:
    """Beside a near object at 0.8 m on a wall at 3 m."""
    depth = np.full((40, 60), 3.0, np.float32)
    depth[:, 20:35] = 0.8
    hole = np.zeros_like(depth, bool)
    hole[:, 35:41] = True
    far, nearest, smooth = (fill_holes(depth, ~hole, how).depth_m[:, 35:41] for how in ("far", "nearest", "smooth"))
    np.testing.assert_allclose(far, 3.0)
    np.testing.assert_allclose(nearest[:, :3], 0.8)  # cuts the hole in the middle
    assert (smooth[:, 1] < 2.0).all() and (np.diff(smooth, axis=1) >= -1e-3).all()  # ramps


@pytest.mark.parametrize("how", FILLS)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.98))
def test_fills_stay_within_what_was_measured(how: Fill, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.3, 20, (17, 23)).astype(np.float32)
    valid = rng.random(depth.shape) < share
    valid[rng.integers(17), rng.integers(23)] = True
    depth[(rng.random(depth.shape) < 0.05) & valid] = np.inf
    filled = fill_holes(np.where(valid, depth, 0), valid, how).depth_m
    assert (filled >= depth[valid].min() * (1 - 1e-4)).all()
    finite = filled[np.isfinite(filled)]
    if np.isfinite(depth[valid]).all():
        assert finite.size == filled.size and (finite <= depth[valid].max() * (1 + 1e-4)).all()


def test_no_depth_at_all() -> None:
    with pytest.raises(ValueError, match="no pixel is valid"):
        fill_holes(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))


# What may be wrong


def pair(folder: Path, depth: np.ndarray, name: str = "a_depth.npy") -> Path:
    write.write_image(folder / "a.png", truth().image)
    write.write_plane(folder / name, depth)
    return folder


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (np.full((48, 64), 1500.0, np.float32), "median depth is 1500 m.* as mm it would be 1.5 m.*--depth-unit"),
        (np.full((48, 64), 85.0), "median depth is 85 m, all of them whole numbers"),
        (np.full((48, 64), 2, np.uint16), "median depth is 2 mm; as m it would be 2 m"),
        (np.full((48, 63), 2.0), "the depth is 63x48 px, the image 64x48; expected the depth of each pixel"),
        (np.full((48, 64), np.nan), "only 0 % of the pixels have a depth"),
        (np.zeros((48, 64)), "only 0 % of the pixels have a depth"),
        (np.full((48, 64), -1.0), "only 0 % of the pixels have a depth"),
        (np.ones((48, 64, 3)), "has 3 channels; expected one depth per pixel"),
        (np.ones(48 * 64), "no plane of numbers"),
        (np.full((48, 64), "far"), "no plane of numbers"),
    ],
    ids=["mm as m", "whole mm", "m as mm", "sizes", "nan", "zero", "negative", "rgb", "flat", "text"],
)
def test_depth_that_cannot_be(tmp_path: Path, depth: np.ndarray, message: str) -> None:
    with pytest.raises(RgbdError, match=message):
        only(pair(tmp_path, depth))


def test_the_unit_that_the_user_states_counts(tmp_path: Path) -> None:
    (source,) = find_rgbd(pair(tmp_path, np.full((48, 64), 1500.0)))
    assert np.median(read_rgbd(source, "mm").depth_m) == pytest.approx(1.5)
    stated = read_rgbd(source, "m")
    assert np.median(stated.depth_m) == 1500 and "median depth is 1500 m" in stated.warnings[0]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return builtins.eval, (f"__import__('pathlib').Path({str(marker)!r}).touch()",)

    path = tmp_path / "a_depth.npy"
    np.save(path, np.array([[Trap()]], dtype=object), allow_pickle=True)
    with pytest.raises(RgbdError, match="holds Python objects, never unpickled here"):
        read_npy(path)
    assert not marker.exists()


@pytest.mark.parametrize("cut", [0, 5, 60, 130, 500])
def test_damaged_npy(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones((48, 64), np.float32))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RgbdError, match=r"damaged|complete"):
        read_npy(path)


def test_absurd_sizes_take_no_memory(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (900000, 900000), }"
    npy = tmp_path / "a.npy"
    npy.write_bytes(b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n")
    with pytest.raises(DualpixError):
        read_npy(npy)
    pfm = tmp_path / "a.pfm"
    pfm.write_bytes(b"Pf\n900000 900000\n-1\n" + bytes(64))
    with pytest.raises(DualpixError, match="claims 900000x900000 pixels"):
        read_pfm(pfm)


@pytest.mark.parametrize(
    "data",
    [b"", b"P5 2 2 -1 ", b"Pf\n4 4\n0\n" + bytes(64), b"Pf\n4 4\n-1\n" + bytes(63), b"Pf\n4 4\n--\n" + bytes(64)],
)
def test_damaged_pfm(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.pfm"
    path.write_bytes(data)
    with pytest.raises(RgbdError):
        read_pfm(path)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), suffix=st.sampled_from([".npy", ".pfm", ".tiff", ".png", ".exr"]))
def test_nonsense_gives_our_own_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    folder = tmp_path_factory.mktemp("n")
    write.write_image(folder / "a.png", truth().image)
    start = {".npy": b"\x93NUMPY\x01\x00", ".pfm": b"Pf\n", ".tiff": b"II*\0"}.get(suffix, b"")
    (folder / f"a_depth{suffix}").write_bytes(start + data)
    (source,) = find_rgbd(folder)
    with pytest.raises(DualpixError):
        read_rgbd(source)


def test_damaged_hdf5_and_mat(tmp_path: Path) -> None:
    t = truth()
    write.write_hypersim(tmp_path / "h", t, np.ones((48, 64, 3), np.float16))
    depth = next((tmp_path / "h").rglob("*.depth_meters.hdf5"))
    depth.write_bytes(depth.read_bytes()[:700])
    with pytest.raises(RgbdError, match="is damaged or lacks an array"):
        only(tmp_path / "h")
    write.write_ibims_mat(tmp_path / "i", t)
    mat = tmp_path / "i/corridor_01.mat"
    mat.write_bytes(mat.read_bytes()[:900])
    with pytest.raises(RgbdError, match="no iBims-1 file, or damaged"):
        only(tmp_path / "i")


@pytest.mark.parametrize(("module", "name"), [("h5py", "nyuv2"), ("scipy.io", "ibims")])
def test_a_library_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    if name == "nyuv2":
        write.write_nyuv2(tmp_path, [truth()])
    else:
        write.write_ibims_mat(tmp_path, truth())
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RgbdError, match=r"which is not installed; pip install 'dualpix\[rgbd\]'"):
        only(tmp_path)


def test_folders_without_samples(tmp_path: Path) -> None:
    with pytest.raises(RgbdError, match=r"no RGB-D samples in .*NAME_depth\.png"):
        find_rgbd(tmp_path)
    with pytest.raises(RgbdError, match="no file or folder"):
        find_rgbd(tmp_path / "nowhere")


def test_eight_bits_are_no_depth(tmp_path: Path) -> None:
    with pytest.raises(RgbdError, match="has 8 bits, which cannot hold depth"):
        only(pair(tmp_path, np.full((48, 64), 200, np.uint8), "a_depth.png"))
