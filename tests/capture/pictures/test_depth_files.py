"""Depth as files of other programs: read back by independent readers, with distances between points that are known.

Open3D and COLMAP's bindings read the same files where they are installed (``pip install open3d-cpu pycolmap``).
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import laspy
import numpy as np
import numpy.typing as npt
import OpenEXR
import pytest
import trimesh
from PIL import Image

from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.depth_files import FORMATS, DepthPicture, check_formats, write_depth_files
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.pictures.points import Pinhole, write_ply
from dualpix.capture.rgbd.exr import read_exr

PINHOLE = Pinhole(200.0, 200.0, 31.5, 23.5)
LEFT_TOP, RIGHT_BOTTOM, BEHIND = (10, 4), (40, 44), (20, 60)
"""(row, column) of three points that are looked for: two on the board, 1 m away, one on the wall, 2 m away."""


@pytest.fixture(scope="module")
def shown() -> DepthPicture:
    """A board 1 m away in front of a wall 2 m away; a hole, something far and something at infinity."""
    depth = np.full((48, 64), 2.0, np.float32)
    depth[5:45, 2:50] = 1.0
    depth[0, 0], depth[0, 1], depth[0, 2] = np.nan, np.inf, 70.0
    confidence = np.linspace(0.5, 1, depth.size, dtype=np.float32).reshape(depth.shape)
    confidence[47] = 0.1
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[..., 0], rgb[..., 1], rgb[..., 2] = np.arange(64) * 4, np.arange(48)[:, None] * 5, 100
    measured = (confidence >= 0.5) & ~np.isnan(depth)
    light = linear_from_srgb(rgb.astype(np.float32) / np.float32(255))
    return DepthPicture(depth, confidence, measured, light, rgb, PINHOLE)


def place(row_column: tuple[int, int], depth_m: float) -> npt.NDArray[np.float64]:
    """Of a pixel in space, by the definition of a pinhole: x right, y down, z away, m."""
    row, column = row_column
    return np.array([(column - 31.5) / 200 * depth_m, (row - 23.5) / 200 * depth_m, depth_m])


def check_distances(points: npt.NDArray[Any], colours: npt.NDArray[Any] | None, shown: DepthPicture) -> None:
    """Of a cloud in the camera's axes: the three points are in it, as far apart as they are, with their colours."""
    found = []
    for at, depth in ((LEFT_TOP, 1.0), (RIGHT_BOTTOM, 1.0), (BEHIND, 2.0)):
        away = np.linalg.norm(points - place(at, depth), axis=1)
        assert away.min() < 1e-4
        found.append(points[away.argmin()])
        if colours is not None:
            assert np.array_equal(np.rint(colours[away.argmin()]), shown.rgb[at])
    assert np.linalg.norm(found[0] - found[1]) == pytest.approx(np.hypot(0.15, 0.2), abs=1e-4)  # 30 and 40 px, 1 m away
    assert np.linalg.norm(found[1] - found[2]) == pytest.approx(
        np.linalg.norm([28.5 / 100 - 12.5 / 200, -3.5 / 100 - 16.5 / 200, 1]), abs=1e-4
    )


def ply_of(shown: DepthPicture, path: Path) -> Path:
    chosen = shown.in_space
    points = PINHOLE.points(shown.depth_m, chosen)
    write_ply(path, points, shown.rgb[chosen], shown.confidence[chosen], ("x right, y down, z from the lens, in m",))
    return path


def test_a_png_has_whole_millimetres(shown: DepthPicture, tmp_path: Path) -> None:
    told, lacking = write_depth_files(tmp_path, ["png"], replace(shown, depth_m=shown.depth_m + np.float32(0.0004)))
    assert not lacking
    for codes in (
        cv2.imread(str(tmp_path / "depth_mm.png"), cv2.IMREAD_UNCHANGED),
        np.asarray(Image.open(tmp_path / "depth_mm.png")).astype(np.uint16),
    ):
        assert codes.dtype == np.uint16 and codes.shape == (48, 64)
        assert codes[0, :4].tolist() == [0, 0, 0, 2000] and codes[10, 10] == 1000 and not codes[47].any()
    assert told["depth_mm.png"]["beyond"] == 2  # 70 m and infinity
    assert told["depth_mm.png"]["pixels"] == 48 * 64 - 64 - 3


def test_an_exr_has_light_and_z(shown: DepthPicture, tmp_path: Path) -> None:
    write_depth_files(tmp_path, ["exr"], replace(shown, pixel_width_over_height=0.5))
    path = tmp_path / "depth.exr"
    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = {name: np.array(channel.pixels) for name, channel in file.channels().items()}
    with OpenEXR.File(str(path), header_only=True) as file:
        assert file.header()["pixelAspectRatio"] == 0.5  # the dictionary is emptied with the file
    assert set(channels) == {"R", "G", "B", "Z", "confidence.Y"}
    assert channels["Z"].dtype == np.float32 and channels["R"].dtype == np.float16
    np.testing.assert_array_equal(channels["Z"], shown.depth_m)  # NaN and infinity among them
    np.testing.assert_array_equal(channels["confidence.Y"], shown.confidence)
    for index, name in enumerate("RGB"):
        np.testing.assert_allclose(channels[name], shown.light[..., index], rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(read_exr(path), shown.depth_m)  # as `dualpix render` reads it
    if "OpenEXR:                     YES" in cv2.getBuildInformation():  # wheels before 5.0.0
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (48, 64, 3)


def test_a_surface_is_torn_where_the_depth_jumps(shown: DepthPicture, tmp_path: Path) -> None:
    told, _ = write_depth_files(tmp_path, ["glb"], shown)
    scene = trimesh.load_scene(tmp_path / "surface.glb")
    (mesh,) = scene.geometry.values()
    assert len(mesh.vertices) == told["surface.glb"]["vertices"] == np.count_nonzero(shown.in_space)
    camera = mesh.vertices * [1, -1, -1]  # glTF: y up, towards the viewer is +z
    check_distances(camera, None, shown)
    depth_of_faces = camera[mesh.faces, 2]
    assert np.ptp(depth_of_faces, axis=1).max() < 1e-6  # none from the board to the wall
    # two triangles for each cell of the board, and of the wall without the row, the pixels and the edge that lack
    assert np.count_nonzero(depth_of_faces[:, 0] == 1) == 2 * 39 * 47
    assert (mesh.face_normals[:, 2] > 0.99).all()  # seen from the camera
    texture = mesh.visual.material.baseColorTexture
    assert texture.size == (64, 48)
    at = np.argmin(np.linalg.norm(camera - place(LEFT_TOP, 1.0), axis=1))
    column, row = mesh.visual.uv[at] * [64, -48] + [-0.5, 47.5]
    assert (row, column) == pytest.approx(LEFT_TOP, abs=1e-3)
    assert np.allclose(np.asarray(texture)[LEFT_TOP], shown.rgb[LEFT_TOP], atol=12)  # JPEG


def test_a_large_surface_is_thinned_out(tmp_path: Path) -> None:
    depth = np.full((1200, 1600), 1.5, np.float32)
    even = np.ones_like(depth)
    shown = DepthPicture(
        depth, even, even > 0, even, np.zeros((1200, 1600, 3), np.uint8), Pinhole(2e3, 2e3, 799.5, 599.5)
    )
    told, _ = write_depth_files(tmp_path, ["glb"], shown)
    assert told["surface.glb"]["every_pixel"] == 3 and told["surface.glb"]["vertices"] == 400 * 534
    assert (tmp_path / "surface.glb").stat().st_size < 12e6


def test_las_has_z_up_colours_and_confidence(shown: DepthPicture, tmp_path: Path) -> None:
    told, _ = write_depth_files(tmp_path, ["las"], shown)
    points = laspy.read(tmp_path / "points.las")
    assert len(points) == told["points.las"]["points"] == np.count_nonzero(shown.in_space)
    camera = np.stack([points.x, -np.asarray(points.z), points.y], axis=1)
    colours = np.stack([points.red, points.green, points.blue], axis=1) / 257
    check_distances(camera, colours, shown)
    np.testing.assert_array_equal(np.asarray(points.confidence), shown.confidence[shown.in_space])


def test_trimesh_reads_the_ply(shown: DepthPicture, tmp_path: Path) -> None:
    cloud = trimesh.load(ply_of(shown, tmp_path / "points.ply"))
    check_distances(np.asarray(cloud.vertices), np.asarray(cloud.colors)[:, :3].astype(float), shown)


def test_open3d_reads_ply_png_and_glb(shown: DepthPicture, tmp_path: Path) -> None:
    o3d = pytest.importorskip("open3d")
    cloud = o3d.io.read_point_cloud(str(ply_of(shown, tmp_path / "points.ply")))
    check_distances(np.asarray(cloud.points), np.asarray(cloud.colors) * 255, shown)
    write_depth_files(tmp_path, ["png", "glb"], shown)
    depth = o3d.io.read_image(str(tmp_path / "depth_mm.png"))
    intrinsic = o3d.camera.PinholeCameraIntrinsic(64, 48, 200, 200, 31.5, 23.5)
    check_distances(np.asarray(o3d.geometry.PointCloud.create_from_depth_image(depth, intrinsic).points), None, shown)
    surface = o3d.io.read_triangle_mesh(str(tmp_path / "surface.glb"))
    check_distances(np.asarray(surface.vertices) * [1, -1, -1], None, shown)


def test_colmap_reads_the_ply(shown: DepthPicture, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    read = pycolmap.Reconstruction()
    read.import_PLY(str(ply_of(shown, tmp_path / "points.ply")))
    points = read.points3D.values()
    check_distances(np.array([p.xyz for p in points]), np.array([p.color for p in points], float), shown)


def test_what_cannot_be_written_is_said(shown: DepthPicture, tmp_path: Path) -> None:
    told, lacking = write_depth_files(tmp_path, FORMATS, None)
    assert not told and len(lacking) == 4 and all("needs metres" in line for line in lacking)
    told, lacking = write_depth_files(tmp_path, FORMATS, replace(shown, pinhole=None))
    assert set(told) == {"depth_mm.png", "depth.exr"} and all("focal length" in line for line in lacking)
    told, lacking = write_depth_files(tmp_path, ["glb", "las"], replace(shown, measured=np.zeros_like(shown.measured)))
    assert not told and all("nothing has metres" in line for line in lacking)
    assert {p.name for p in tmp_path.iterdir()} == {"depth_mm.png", "depth.exr"}


@pytest.mark.parametrize(("name", "module"), [("exr", "OpenEXR"), ("glb", "trimesh"), ("las", "laspy")])
def test_a_missing_package_is_named_before_any_work(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DualpixError, match=rf"pip install 'dualpix\[{name}\]'"):
        check_formats([name])  # type: ignore[list-item]
    with pytest.raises(SystemExit) as stopped:
        main(["depth", "nothing.dng", "-o", str(tmp_path / "out"), "--also", name])
    assert stopped.value.code == 2 and module in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_depth_writes_them_of_captures_and_stacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as stopped:
            main([*words, "-o", str(tmp_path / "out"), *(f"--also={name}" for name in FORMATS)])
        assert not stopped.value.code, capsys.readouterr().err
        record: dict[str, Any] = json.loads((tmp_path / "out" / name_of[words[1]] / "depth.json").read_text())
        return record

    rng = np.random.default_rng(0)
    base = cv2.GaussianBlur(rng.uniform(0, 255, (96, 128)).astype(np.float32), (0, 0), 1.2)
    base = np.clip((base - 127) * 3 + 127, 0, 255).astype(np.uint8)
    for side, shift in (("left", -1), ("right", 1)):
        cv2.imwrite(str(tmp_path / f"shot_{side}.png"), np.roll(base, shift, 1))
    pair, desk = str(tmp_path / "shot_left.png"), str(tmp_path / "desk")
    name_of = {pair: "shot", desk: "desk"}
    lens = ("--focal-length-mm=50", "--f-number=2.8", "--focus-distance-m=1.5", "--pixel-pitch-um=46.8")
    record = run("depth", pair, "--method=sgbm", *lens, "--disparity-gain=0.21")
    folder = tmp_path / "out" / "shot"
    assert set(record["files"]) == {"depth_mm.png", "depth.exr", "surface.glb", "points.las"}
    depth = cv2.imread(str(folder / "depth_mm.png"), cv2.IMREAD_UNCHANGED)
    stated = read_exr(folder / "depth.exr")
    known = (depth > 0) & np.isfinite(stated)
    assert known.mean() > 0.3 and np.abs(depth[known] / 1000 - stated[known]).max() <= 5.1e-4
    record = run("depth", pair, "--method=sgbm")  # no lens, no metres
    assert not record["files"] and sum(f["code"] == "not_written" for f in record["findings"]) == 4
    assert not list(folder.glob("depth_mm*"))
    with pytest.raises(SystemExit):
        main(["capture", "--camera=sim", "--near=0.5", "--far=3", "--count=3", "--apertures=2.8", "-o", desk])
    record = run("depth", desk, "--stack-method=sharpness")
    assert set(record["files"]) == {"depth_mm.png", "depth.exr", "surface.glb", "points.las"}
    depth_m = np.load(tmp_path / "out" / "desk" / "depth_m.npy")
    np.testing.assert_array_equal(read_exr(tmp_path / "out" / "desk" / "depth.exr"), depth_m)
