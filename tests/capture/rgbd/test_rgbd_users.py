"""RGB-D data as users hold them: turned pictures, times that differ by a millisecond, tables of any spelling.

Every right value follows from how the file was made here; facts of the data sets are from their READMEs and loaders.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
from tests.support import exported
from tests.support import rgbd as write
from tests.support.rgbd import Truth, truth

from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.raw.develop.geometry import as_sensor
from dualpix.capture.rgbd import Intrinsics, RgbdError, RgbdSample, find_rgbd, read_rgbd, survey_rgbd
from dualpix.capture.rgbd.arrays import read_depth_file
from dualpix.capture.rgbd.hypersim import TABLE, RayCamera
from dualpix.capture.rgbd.mat5 import plain_mat5

ORIENTATIONS = range(1, 9)


def only(folder: Path) -> RgbdSample:
    (source,) = find_rgbd(folder)
    return read_rgbd(source)


def light(t: Truth) -> Any:
    return linear_from_srgb(t.image.astype(np.float32) / 255)


# Orientation


def write_turned(path: Path, image: Any, orientation: int) -> None:
    """``image`` is what viewers show."""
    stored = np.ascontiguousarray(as_sensor(image, orientation))
    if path.suffix == ".jpg":
        exported.write_jpeg(path, stored, orientation)
    elif path.suffix == ".png":
        exported.write_png(path, stored, (b"eXIf", exported.exif(orientation)))
    else:
        exported.write_tiff(path, stored, orientation=orientation)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_depth_is_of_the_picture_as_shown(tmp_path: Path, suffix: str, orientation: int) -> None:
    """All eight orientations in all three kinds of picture: the sample is what a viewer shows, and its depth."""
    t = truth()
    smooth = cv2.GaussianBlur(t.image, (0, 0), 3)  # JPEG keeps this
    write_turned(tmp_path / f"a{suffix}", smooth, orientation)
    write.write_plane(tmp_path / "a_depth.png", write.millimetres(t.with_zeros))
    sample = only(tmp_path)
    np.testing.assert_allclose(sample.image, linear_from_srgb(smooth.astype(np.float32) / 255), atol=0.05)
    np.testing.assert_array_equal(sample.valid, ~t.hole)
    np.testing.assert_allclose(sample.depth_m, t.with_zeros, atol=1e-6)
    said = f"'a': the picture is turned by its EXIF orientation {orientation}; depth is "
    expected = (
        "taken to be of the picture as shown, which sizes cannot tell" if orientation < 5 else "of the picture as"
    )
    assert (sample.warnings == ()) if orientation == 1 else sample.warnings[0].startswith(said + expected)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_depth_of_the_picture_as_stored_is_told_by_its_size(tmp_path: Path, suffix: str, orientation: int) -> None:
    t = truth()
    write_turned(tmp_path / "a.png", t.image, orientation)
    stored = np.ascontiguousarray(as_sensor(t.with_zeros, orientation))
    write.write_plane(tmp_path / f"a_depth{suffix}", write.millimetres(stored) if suffix == ".png" else stored)
    sample = only(tmp_path)
    np.testing.assert_allclose(sample.image, light(t), atol=1e-6)
    np.testing.assert_allclose(sample.depth_m, t.with_zeros, atol=1e-6)
    assert "and so is the depth, which has the size of the picture as stored" in sample.warnings[0]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_depth_with_a_tag_of_its_own_is_turned_by_that(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Whatever the picture says: both files say how they are to be shown."""
    t = truth()
    write_turned(tmp_path / "a.jpg", cv2.GaussianBlur(t.image, (0, 0), 3), 3)
    write_turned(tmp_path / f"a_depth{suffix}", write.millimetres(t.with_zeros), orientation)
    sample = only(tmp_path)
    np.testing.assert_allclose(sample.depth_m, t.with_zeros, atol=1e-6)
    assert bool(sample.warnings) == (orientation == 1)


def test_a_square_picture_cannot_tell(tmp_path: Path) -> None:
    t = truth(48, 48)
    write_turned(tmp_path / "a.png", t.image, 6)
    write.write_plane(tmp_path / "a_depth.png", write.millimetres(t.with_zeros))
    sample = only(tmp_path)
    np.testing.assert_allclose(sample.depth_m, t.with_zeros, atol=1e-6)
    assert "which sizes cannot tell" in sample.warnings[0]


def test_a_depth_that_fits_neither_way_is_refused(tmp_path: Path) -> None:
    write_turned(tmp_path / "a.png", truth().image, 6)
    write.write_plane(tmp_path / "a_depth.png", np.full((48, 60), 1500, np.uint16))
    with pytest.raises(RgbdError, match="'a': the depth is 60x48 px, the image 64x48"):
        only(tmp_path)


def test_capital_suffixes_are_pictures_too(tmp_path: Path) -> None:
    t = truth()
    write_turned(tmp_path / "a.jpg", t.image, 1)
    (tmp_path / "a.jpg").rename(tmp_path / "IMG_1.JPG")
    write.write_plane(tmp_path / "IMG_1_depth.png", write.millimetres(t.with_zeros))
    np.testing.assert_array_equal(only(tmp_path).valid, ~t.hole)


# NYUv2


def test_painted_depth_is_not_measured(tmp_path: Path) -> None:
    t = truth(480, 640)
    write.write_nyuv2(tmp_path, [t], raw=True)
    sample = only(tmp_path)
    np.testing.assert_array_equal(sample.valid, ~t.hole)
    np.testing.assert_array_equal(sample.depth_m[~t.hole], t.depth_m[~t.hole])
    assert (sample.depth_m[t.hole] == 0).all() and sample.warnings == ()


def test_a_file_without_raw_depth_says_so(tmp_path: Path) -> None:
    write.write_nyuv2(tmp_path, [truth(24, 32)])
    assert "has no rawDepths: in-painted depth counts as measured" in only(tmp_path).warnings[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rawDepths": np.zeros((1, 8, 8), np.float32)}, r"'rawDepths' is \(1, 8, 8\); expected \(1, 32, 24\)"),
        ({"images": np.zeros((2, 3, 32, 24), np.uint8)}, r"'images' is \(2, 3, 32, 24\) and 'depths' \(1, 32, 24\)"),
        ({"images": np.zeros((1, 3, 32, 24), np.float32)}, "'images' is float32"),
        ({"depths": np.zeros((1, 32, 24), np.complex64)}, "'depths' is complex64"),
        ({"depths": None}, "'depths' is a group or a type"),
    ],
)
def test_other_arrays_in_a_nyu_file(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write.write_nyuv2(tmp_path, [truth(24, 32)], raw=True)
    ((name, value),) = change.items()
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "a") as file:
        del file[name]
        if value is None:
            file.create_group(name)
        else:
            file[name] = value
    with pytest.raises(RgbdError, match=message):
        only(tmp_path)


def test_pictures_that_a_file_cannot_hold_are_not_counted(tmp_path: Path) -> None:
    """1.7 KB that declare a hundred million pictures."""
    path = tmp_path / "nyu.mat"
    with h5py.File(path, "w") as file:
        for name, shape, kind in (("images", (10**8, 3, 64, 48), "u1"), ("depths", (10**8, 64, 48), "f4")):
            file.create_dataset(name, shape, kind, chunks=(1, *shape[1:]))
    with pytest.raises(RgbdError, match="'images' claims 100000000 pictures in a file of"):
        find_rgbd(tmp_path)
    write.write_generic(tmp_path, truth())  # what else is there is used
    survey = survey_rgbd(tmp_path)
    assert [source.dataset for source in survey.sources] == ["generic"]
    assert survey.notes[0].startswith("'nyu.mat' not used: 'nyu.mat': 'images' claims")


# Hypersim


def table(folder: Path, rows: dict[str, dict[str, float]]) -> None:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [",".join(["scene_name", *columns])]
    lines += [",".join([scene, *(str(row.get(name, "")) for name in columns)]) for scene, row in rows.items()]
    (folder / TABLE).write_text("\n".join(lines) + "\n")


def matrix_row(camera: np.ndarray) -> dict[str, float]:
    return {f"M_cam_from_uv_{i}{j}": camera[i, j] for i in range(3) for j in range(3)}


def wall(depth_m: float, size_hw: tuple[int, int] = (48, 64)) -> Truth:
    t = truth(*size_hw)
    return Truth(t.image, np.full(size_hw, depth_m, np.float32), np.zeros(size_hw, bool))


RADIANCE = np.ones((48, 64, 3), np.float16)
# As V-Ray's lens shift and offsets make them: the axis off the middle, the rays' z not the same all over.
TILTED = np.array([[0.609, 0.0, -0.049], [0.0, 0.423, -0.113], [0.02, -0.173, -1.055]])


@pytest.mark.parametrize("degrees", [40.0, 60.0, 90.0])
def test_the_field_of_view_is_that_of_the_table(tmp_path: Path, degrees: float) -> None:
    """A wall at 2 m reads 2 m all over; with 60 degrees for all it would read up to 2.6 m at 90."""
    camera = write.uv_camera(np.radians(degrees), (48, 64))
    write.write_hypersim(tmp_path / "ai_037_002", wall(2.0), RADIANCE, camera)
    row = {"settings_camera_fov": np.radians(degrees), "settings_output_img_width": 64.0}
    table(
        tmp_path, {"ai_001_001": {"settings_camera_fov": 0.3}, "ai_037_002": row | {"settings_output_img_height": 48.0}}
    )
    sample = only(tmp_path)
    np.testing.assert_allclose(sample.depth_m, 2.0, rtol=1.1e-3)  # half floats
    focal = 32 / np.tan(np.radians(degrees / 2))
    assert sample.intrinsics is not None
    np.testing.assert_allclose(
        [sample.intrinsics.fx, sample.intrinsics.fy, sample.intrinsics.cx, sample.intrinsics.cy],
        [focal, focal, 31.5, 23.5],
    )
    assert sample.warnings == ()


@pytest.mark.parametrize("camera", [TILTED, write.uv_camera(1.2, (48, 64))], ids=["tilted", "straight"])
@pytest.mark.parametrize("place", [".", "contrib/mikeroberts3000", "ai_037_002/images", "ai_037_002"])
def test_rays_are_those_of_the_matrix(tmp_path: Path, camera: np.ndarray, place: str) -> None:
    """Wherever above the pictures the table lies; the field of view beside the matrix does not count."""
    t = truth()
    write.write_hypersim(tmp_path / "ai_037_002", t, RADIANCE, camera)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    table(tmp_path / place, {"ai_037_002": {"settings_camera_fov": 0.5, **matrix_row(2.5 * camera)}})
    for root in (tmp_path, tmp_path / "ai_037_002/images"):
        sample = only(root)
        np.testing.assert_allclose(sample.depth_m[~t.hole], t.depth_m[~t.hole], rtol=1.1e-3)
        assert (sample.intrinsics is None) == (camera is TILTED) and sample.warnings == ()


def test_intrinsics_of_a_shifted_camera() -> None:
    """The pixel of the principal point looks along the axis."""
    camera = RayCamera(np.array([[0.5, 0, 0.1], [0, 0.4, -0.06], [0, 0, -1.0]]))
    found = camera.intrinsics((48, 64))
    assert found is not None
    u, v = (2 * found.cx + 1) / 64 - 1, 1 - (2 * found.cy + 1) / 48
    np.testing.assert_allclose(camera.cam_from_uv @ [u, v, 1], [0, 0, -1], atol=1e-12)
    u, v = (2 * (found.cx + found.fx) + 1) / 64 - 1, 1 - (2 * (found.cy + found.fy) + 1) / 48
    np.testing.assert_allclose(camera.cam_from_uv @ [u, v, 1], [1, -1, -1])  # 45 degrees right and down


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, f"60 degrees of horizontal field are assumed: there is no {TABLE} beside or above the scene"),
        ({"ai_001_001": {"settings_camera_fov": 1.0}}, "has no scene 'ai_037_002'"),
        ({"ai_037_002": {"settings_output_img_width": 64}}, "has no field of view for scene 'ai_037_002'"),
        ({"ai_037_002": {"settings_camera_fov": 90.0}}, "has no field of view for scene 'ai_037_002'"),  # radians
    ],
)
def test_what_is_assumed_is_said(tmp_path: Path, rows: dict[str, dict[str, float]] | None, message: str) -> None:
    write.write_hypersim(tmp_path / "ai_037_002", wall(2.0), RADIANCE)
    if rows is not None:
        table(tmp_path, rows)
    sample = only(tmp_path)
    assert message in sample.warnings[0] and "60 degrees" in sample.warnings[0]
    np.testing.assert_allclose(sample.depth_m, 2.0, rtol=1.1e-3)


def test_a_picture_of_another_shape_than_its_camera(tmp_path: Path) -> None:
    write.write_hypersim(tmp_path / "ai_037_002", wall(2.0), RADIANCE)
    size = {"settings_output_img_width": 1024.0, "settings_output_img_height": 512.0}
    table(tmp_path, {"ai_037_002": {"settings_camera_fov": 1.05, **size}})
    assert "the picture is 64x48 px, its camera 1024x512 px" in only(tmp_path).warnings[0]


def test_a_matrix_that_is_no_camera(tmp_path: Path) -> None:
    write.write_hypersim(tmp_path / "ai_037_002", wall(2.0), RADIANCE)
    table(tmp_path, {"ai_037_002": matrix_row(np.zeros((3, 3)))})
    with pytest.raises(RgbdError, match="scene 'ai_037_002': M_cam_from_uv is no camera"):
        only(tmp_path)


# ARKitScenes


def arkit(
    folder: Path,
    t: Truth,
    frames: dict[str, dict[str, str]],
    *,
    images: str = "lowres_wide",
    depths: str = "lowres_depth",
) -> None:
    """Frames by their time; a frame may name another time for one of its files, and "" leaves it out."""
    for time, others in frames.items():
        at = {"image": time, "depth": time, "pincam": time, "confidence": time} | others
        name = {kind: f"40753679_{when}" for kind, when in at.items()}
        if at["image"]:
            write.write_image(folder / images / f"{name['image']}.png", t.image)
        if at["depth"]:
            write.write_plane(folder / depths / f"{name['depth']}.png", write.millimetres(t.depth_m))
        if at["confidence"]:
            sure = np.where(t.hole, 0, 2).astype(np.uint8)
            sure[40:44] = 1
            write.write_plane(folder / "confidence" / f"{name['confidence']}.png", sure)
        if at["pincam"]:
            path = folder / f"{images}_intrinsics" / f"{name['pincam']}.pincam"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("64 48 50.5 51.5 30.25 20.75\n")


def test_files_of_a_frame_may_differ_by_a_millisecond(tmp_path: Path) -> None:
    """As the data set's own loader allows; of three samples none is lost, and confidence 0 is a hole."""
    t = truth()
    frames = {
        "6845.806": {},
        "6845.906": {"pincam": "6845.907"},
        "6846.006": {"pincam": "6846.005", "confidence": "6846.007"},
    }
    arkit(tmp_path / "Training/40753679/40753679_frames", t, frames)
    survey = survey_rgbd(tmp_path)
    assert len(survey.sources) == 3 and survey.notes == ()
    for source in survey.sources:
        sample = read_rgbd(source)
        assert sample.intrinsics == Intrinsics(50.5, 51.5, 30.25, 20.75) and sample.warnings == ()
        np.testing.assert_array_equal(sample.valid, ~t.hole)
        np.testing.assert_allclose(sample.depth_m, t.with_zeros, atol=1e-6)


def test_the_nearer_of_two_times_is_taken(tmp_path: Path) -> None:
    arkit(tmp_path / "v", truth(), {"6845.806": {"pincam": ""}})
    folder = tmp_path / "v/lowres_wide_intrinsics"
    folder.mkdir()
    for time, focal in (("6845.804", 1), ("6845.805", 2), ("6845.807", 3), ("6845.808", 4)):
        (folder / f"40753679_{time}.pincam").write_text(f"64 48 {focal} {focal} 30 20\n")
    sample = only(tmp_path)
    assert sample.intrinsics is not None and sample.intrinsics.fx == 2  # both 1 ms off: the earlier, as the loader
    (folder / "40753679_6845.805.pincam").unlink()
    later = only(tmp_path).intrinsics
    assert later is not None and later.fx == 3
    (folder / "40753679_6845.807.pincam").unlink()
    sample = only(tmp_path)
    assert sample.intrinsics is None and "no .pincam within 1 ms" in sample.warnings[0]


def test_what_cannot_be_used_is_counted_and_named(tmp_path: Path) -> None:
    frames = {"1.000": {}, "1.100": {"depth": ""}, "1.200": {"depth": "1.203"}, "1.300": {"confidence": ""}}
    arkit(tmp_path / "v", truth(), frames)
    survey = survey_rgbd(tmp_path)
    assert [source.name for source in survey.sources] == [f"v/lowres_wide/40753679_{t}" for t in ("1.000", "1.300")]
    assert survey.notes == (
        "'v/lowres_depth/40753679_1.203.png' not used: lowres_depth without a picture within 1 ms",
        "2 files (first 'v/lowres_wide/40753679_1.100.png') not used: lowres_wide without lowres_depth within 1 ms",
    )
    assert "no confidence within 1 ms, so all its depth counts as measured" in read_rgbd(survey.sources[1]).warnings[0]


@pytest.mark.parametrize("images", ["wide", "color"])
def test_the_upsampling_set_has_no_intrinsics(tmp_path: Path, images: str) -> None:
    """``wide``, ``highres_depth``, ``lowres_depth``, ``confidence``: that of the lidar, not of the scanner's depth."""
    t = truth()
    video = tmp_path / "Validation/41069021"
    arkit(video, t, {"305.377": {"pincam": ""}}, images=images, depths="highres_depth")
    write.write_plane(video / "lowres_depth/40753679_305.377.png", np.full((6, 8), 1500, np.uint16))
    sample = only(tmp_path)
    assert sample.name == f"Validation/41069021/{images}/40753679_305.377"
    assert sample.intrinsics is None and sample.warnings == () and sample.valid.all()
    np.testing.assert_allclose(sample.depth_m, t.depth_m, atol=1e-6)


def test_vga_pictures_take_the_depth_at_their_pixels(tmp_path: Path) -> None:
    """640 x 480 beside 1920 x 1440: every third sample, in the middle of its pixel, none of them a mean."""
    t = truth(144, 192)
    small = Truth(t.image[1::3, 1::3], t.depth_m[1::3, 1::3], t.hole[1::3, 1::3])
    video = tmp_path / "Training/41048190"
    arkit(video, small, {"3421.059": {"depth": "", "confidence": ""}}, images="vga_wide")
    write.write_plane(video / "highres_depth/40753679_3421.060.png", write.millimetres(t.with_zeros))
    sample = only(tmp_path)
    np.testing.assert_array_equal(sample.valid, ~small.hole)
    np.testing.assert_allclose(sample.depth_m, small.with_zeros, atol=1e-6)
    assert sample.intrinsics == Intrinsics(50.5, 51.5, 30.25, 20.75)


def test_a_video_in_a_folder_of_frames_is_turned_too(tmp_path: Path) -> None:
    """``3dod`` keeps the frames of VIDEO in ``VIDEO_frames``; the table knows VIDEO."""
    t = truth()
    arkit(tmp_path / "Training/40753679/40753679_frames", t, {"1.000": {}})
    (tmp_path / "metadata.csv").write_text("video_id,sky_direction\n40753679,Down\n")
    sample = only(tmp_path)
    np.testing.assert_array_equal(sample.valid, ~t.hole[::-1, ::-1])
    np.testing.assert_allclose(sample.image, light(t)[::-1, ::-1], atol=1e-6)
    assert sample.intrinsics == Intrinsics(50.5, 51.5, 63 - 30.25, 47 - 20.75)


def test_intrinsics_follow_a_picture_that_was_resized(tmp_path: Path) -> None:
    arkit(tmp_path / "v", truth(), {"1.000": {}})
    (tmp_path / "v/lowres_wide_intrinsics/40753679_1.000.pincam").write_text("128 96 101 103 60.5 41.5\n")
    assert only(tmp_path).intrinsics == Intrinsics(50.5, 51.5, 30.0, 20.5)


def test_confidence_of_another_size_is_refused(tmp_path: Path) -> None:
    arkit(tmp_path / "v", truth(), {"1.000": {}})
    write.write_plane(tmp_path / "v/confidence/40753679_1.000.png", np.full((24, 32), 2, np.uint8))
    with pytest.raises(RgbdError, match=r"is \(24, 32\) \(h, w\), its depth \(48, 64\)"):
        only(tmp_path)


# Lists


LISTS = {
    "comma": "image,depth\nx.png,y.png\n",
    "semicolon": "image;depth\nx.png;y.png\n",
    "comma and blank": "image, depth\nx.png, y.png\n",
    "tab": "image\tdepth\nx.png\ty.png\n",
    "bar": "image|depth\nx.png|y.png\n",
    "blank": "image depth\nx.png y.png\n",
    "quoted": '"image","depth"\n"x.png","y.png"\n',
    "quoted after blanks": '"image", "depth"\n"x.png", "y.png"\n',
    "carriage returns": "image;depth\r\nx.png;y.png\r\n",
    "old mac": "image;depth\rx.png;y.png\r",
    "other order": "note;depth;image\nhall;y.png;x.png\n",
    "capitals": "Image;Depth\nx.png;y.png\n",
    "rgb": "rgb,depth\nx.png,y.png\n",
    "paths": "image_path,depth_path\n./x.png,./y.png\n",
    "words": "RGB file;Depth map\nx.png;y.png\n",
    "separator stated": "sep=;\nimage;depth\nx.png;y.png\n",
    "remarks": "\n# image, depth\n\n# of the hall\nx.png, y.png\n",
    "no header": "x.png;y.png\n",
    "more columns than names": "image;depth;\nx.png;y.png;\n",
    "backslashes": "image;depth\n.\\x.png;.\\y.png\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS.keys())
def test_lists_as_people_and_spreadsheets_write_them(tmp_path: Path, text: str, encoding: str) -> None:
    t = truth()
    write.write_image(tmp_path / "x.png", t.image)
    write.write_plane(tmp_path / "y.png", write.millimetres(t.with_zeros))
    (tmp_path / "index.csv").write_bytes(text.encode(encoding))
    survey = survey_rgbd(tmp_path)
    assert [source.name for source in survey.sources] == ["x"] and survey.notes == ()
    sample = read_rgbd(survey.sources[0])
    np.testing.assert_array_equal(sample.valid, ~t.hole)
    np.testing.assert_allclose(sample.image, light(t), atol=1e-6)


def test_names_of_windows_and_names_that_hold_the_separator(tmp_path: Path) -> None:
    t = truth()
    for name in ("Küche.png", "a;b.png"):
        write.write_image(tmp_path / "fotos" / name, t.image)
    write.write_plane(tmp_path / "z.png", write.millimetres(t.with_zeros))
    rows = 'image;depth\nfotos\\Küche.png;z.png\n"fotos/a;b.png";z.png\n'
    (tmp_path / "index.csv").write_bytes(rows.encode("cp1252"))
    assert [source.name for source in find_rgbd(tmp_path)] == ["fotos/Küche", "fotos/a;b"]
    assert all(read_rgbd(source).valid.any() for source in find_rgbd(tmp_path))


def test_names_count_from_the_searched_folder_too(tmp_path: Path) -> None:
    t = truth()
    write.write_image(tmp_path / "rgb/x.png", t.image)
    write.write_plane(tmp_path / "z/y.png", write.millimetres(t.with_zeros))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/index.csv").write_text("image,depth\nrgb/x.png,z/y.png\n")
    np.testing.assert_array_equal(only(tmp_path).valid, ~t.hole)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,depth\nx.png,y.png\nx.png,\n", r"index\.csv' row 3 lacks a file name; expected columns image,depth"),
        ("image;depth\nx.png\n", r"index\.csv' row 2 lacks a file name"),
        (
            "image,depth\n\nx.png,y.png\na,b.png,y.png\n",
            r"index\.csv' row 4 has 3 cells, the header 2; .* double quotes",
        ),
        ("frame;pose\n1;2\n", r"no RGB-D samples in .*: 'index\.csv' not used: its columns are frame, pose; a list of"),
        ("", r"no RGB-D samples .*'index\.csv' not used: its columns are none"),
        ('image,depth\n"' + "x" * 200_000 + '",y.png\n', r"index\.csv' row 2: field larger than field limit"),
        ("\0\0\0", r"index\.csv' is no text; expected a table in UTF-8"),
    ],
)
def test_a_list_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    write.write_image(tmp_path / "x.png", truth().image)
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(RgbdError, match=message) as caught:
        find_rgbd(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["gone.png", "x" * 300 + ".png", ".", "..", "/"])
def test_a_listed_file_that_is_not_there_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    t = truth()
    write.write_generic(tmp_path, t, "x")
    (tmp_path / "index.csv").write_text(f"image;depth\nx.png;x.depth.png\n{name};x.depth.png\n")
    good, bad = find_rgbd(tmp_path)
    assert read_rgbd(good).valid.any()
    with pytest.raises(RgbdError, match=r"'index\.csv' row 3 names '"):
        read_rgbd(bad)


def test_a_picture_that_is_listed_twice(tmp_path: Path) -> None:
    write.write_generic(tmp_path, truth(), "x")
    write.write_plane(tmp_path / "other.png", write.millimetres(truth().depth_m))
    (tmp_path / "index.csv").write_text("image,depth\nx.png,x.depth.png\nx.png,other.png\nx.png,x.depth.png\n")
    survey = survey_rgbd(tmp_path)
    assert len(survey.sources) == 1
    assert survey.notes == ("'other.png' not used: 'index.csv' lists its picture with another depth before",)


def test_another_table_beside_pairs_is_mentioned(tmp_path: Path) -> None:
    write.write_generic(tmp_path, truth())
    (tmp_path / "index.csv").write_text("frame,pose\n1,2\n")
    survey = survey_rgbd(tmp_path)
    assert len(survey.sources) == 1 and "its columns are frame, pose" in survey.notes[0]


# Files that unpack to more than they say


def mat5(*fields: tuple[bytes, bytes], compressed: bool = False) -> bytes:
    """A MATLAB 5 file with one struct ``data``; fields are names and matrix contents."""

    def element(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)

    names = b"".join(name.ljust(32, b"\0") for name, _ in fields)
    head = element(6, struct.pack("<II", 2, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, b"data")
    body = head + element(5, struct.pack("<i", 32)) + element(1, names) + b"".join(element(14, m) for _, m in fields)
    whole = element(14, body)
    packed = zlib.compress(whole)
    whole = struct.pack("<II", 15, len(packed)) + packed if compressed else whole
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM") + whole


def matrix(kind: int, dims: tuple[int, ...], values: bytes, stored: int = 2) -> bytes:
    def element(code: int, body: bytes) -> bytes:
        return struct.pack("<II", code, len(body)) + body + bytes(-len(body) % 8)

    flags, shape = struct.pack("<II", kind, 0), struct.pack(f"<{len(dims)}i", *dims)
    return element(6, flags) + element(5, shape) + element(1, b"") + element(stored, values)


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_arrays_have_the_values_that_they_claim(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(mat5((b"rgb", matrix(9, (2, 3), bytes(6))), compressed=compressed))
    assert scipy.io.loadmat(path)["data"]["rgb"][0, 0].shape == (2, 3)
    assert plain_mat5(path.read_bytes(), 1 << 20) == mat5((b"rgb", matrix(9, (2, 3), bytes(6))))
    for claim in (matrix(9, (1 << 20, 1 << 10), bytes(6)), matrix(1, (1 << 30, 1), b""), matrix(2, (1 << 30, 1), b"")):
        path.write_bytes(mat5((b"rgb", claim), compressed=compressed))
        with pytest.raises(RgbdError, match="no iBims-1 file, or damaged"):
            only(tmp_path)


def test_a_matlab_file_that_unpacks_without_end(tmp_path: Path) -> None:
    data = mat5((b"rgb", matrix(9, (1 << 14, 1 << 10), bytes(1 << 24))), compressed=True)
    assert len(data) < 1 << 15
    with pytest.raises(ValueError, match="over 1 MiB once unpacked"):
        plain_mat5(data, 1 << 20)


@pytest.mark.parametrize("compression", [8, 32946, 34925])
def test_a_tiff_that_unpacks_to_more_than_its_header_says(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "a_depth.tiff"
    name = "lzma" if compression == 34925 else "zlib"
    tifffile.imwrite(path, np.zeros((512, 512), np.float32), compression=name, metadata=None)
    assert read_depth_file(path).shape == (512, 512)
    data = path.read_bytes()
    for tag in (0x0100, 0x0101, 0x0116):  # width, height, rows of a strip
        for kind in (3, 4):
            data = data.replace(struct.pack("<HHII", tag, kind, 1, 512), struct.pack("<HHII", tag, kind, 1, 16))
    data = data.replace(struct.pack("<HHIH", 0x0103, 3, 1, 8), struct.pack("<HHIH", 0x0103, 3, 1, compression))
    path.write_bytes(data)
    with pytest.raises(RgbdError, match=r"'a_depth\.tiff' unpacks to more than its header says"):
        read_depth_file(path)


@pytest.mark.parametrize(
    ("writer", "victim", "content", "message"),
    [
        (write.write_middlebury, "calib.txt", "cam0=[nan 0 1; 0 1 1; 0 0 1]\ndoffs=0\nbaseline=1\n", "no Middlebury"),
        (write.write_middlebury, "calib.txt", "cam0=[1 0 1; 0 1 1; 0 0 1]\ndoffs=1e999\nbaseline=1\n", "no Middlebury"),
        (write.write_ibims_png, "corridor_01.txt", "1e999 1 1 1\n", "is no calibration"),
    ],
)
def test_calibrations_without_finite_numbers(
    tmp_path: Path, writer: Callable[[Path, Truth], None], victim: str, content: str, message: str
) -> None:
    writer(tmp_path, truth())
    next(tmp_path.rglob(victim)).write_text(content)
    with pytest.raises(DualpixError, match=message):
        only(tmp_path)


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    write.write_diode(tmp_path, truth())
    mask = next(tmp_path.rglob("*_depth_mask.npy"))
    np.save(mask, np.ones((4, 4), np.float32))
    with pytest.raises(RgbdError, match=r"is \(4, 4\) \(h, w\), the depth \(48, 64\)"):
        only(tmp_path)
