"""The result folder: every format gives the light back, nothing clips unsaid, and the sidecar keeps to its schema."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import jsonschema
import numpy as np
import numpy.typing as npt
import pytest
import rawpy
import tifffile
from click.testing import CliRunner
from PIL import Image
from tests.support.halves import CROP, sensor_frames
from tests.support.pgm import write_pdcapture

from dualpix.capture.errors import OutputError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.raw import RawCapture, decode, decode_capture
from dualpix.capture.raw.batch.output_settings import OutputSettings, output_options
from dualpix.capture.raw.batch.outputs import read_schema, write_capture
from dualpix.capture.raw.develop.geometry import as_sensor
from dualpix.capture.raw.write.dng import write_dual_pixel_dng
from dualpix.capture.raw.write.preview import Look, disparity_preview, reduced, wiggle_frames, write_animation
from dualpix.capture.types import CaptureMeta

Light = npt.NDArray[np.float64]
META = CaptureMeta(camera="Acme One", iso=100, pixel_pitch_um=10.72, disparity_gain=0.3)
VIEWS = ("left", "right", "combined")


def shoot(folder: Path, *, orientation: int = 1, **frames: Any) -> Path:
    truth = sensor_frames(**{"highlight": 1.6, **frames})
    path = folder / f"shot{orientation}.dng"
    meta = CaptureMeta(**{**META.__dict__, "orientation": orientation})
    neutral = (0.5, 1.0, 0.75)
    write_dual_pixel_dng(path, truth.composite, truth.half, white=16383, crop=CROP, meta=meta, as_shot_neutral=neutral)
    return path


def light_of(folder: Path, name: str, record: Mapping[str, Any]) -> Light:
    """The light of a written view, by what the sidecar says and with libraries that are not ours."""
    samples = record["samples"]
    entry = next(f for f in record["files"] if f.get("view") == name)
    path = folder / entry["name"]
    if samples["format"] == "npz":
        with np.load(path) as arrays:
            stored = arrays[entry["array"]]
    elif samples["format"] == "png":
        stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        stored = stored[..., ::-1] if stored.ndim == 3 else stored
    else:
        stored = tifffile.imread(path)
    assert stored.dtype.itemsize * 8 == samples["bit_depth"]
    if samples["type"] == "float":
        return stored.astype(np.float64)
    share = (stored.astype(np.float64) - samples["black"]) / (samples["white"] - samples["black"])
    if samples["curve"] == "srgb":
        share = linear_from_srgb(share.astype(np.float32)).astype(np.float64)
    return share * samples["full_scale"]


@pytest.mark.parametrize(
    ("form", "bits", "relative", "absolute"),
    [
        ("tiff", 8, 0.02, 4e-4),
        ("tiff", 16, 0.0, 0.51 / 65535),
        ("tiff", 32, 0.0, 0.0),
        ("png", 8, 0.02, 4e-4),
        ("png", 16, 0.0, 0.51 / 65535),
        ("npz", 16, 2**-11, 1e-7),
        ("npz", 32, 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("layout", ["superpixel", "green"])
def test_the_light_comes_back(
    tmp_path: Path, form: Any, bits: int, relative: float, absolute: float, layout: Any
) -> None:
    capture = decode_capture(shoot(tmp_path), layout=layout)
    record = write_capture(capture, [Path("shot.dng")], tmp_path / "out", OutputSettings(form, bits))
    assert (record["samples"]["format"], record["samples"]["bit_depth"]) == (form, bits)
    scale = record["samples"]["full_scale"]
    for name in VIEWS:
        light = light_of(tmp_path / "out", name, record)
        truth = capture.view(name).astype(np.float64)
        if record["samples"]["type"] == "integer":
            truth = np.maximum(truth, 0)
        assert light.shape == truth.shape
        assert np.all(np.abs(light - truth) <= relative * np.abs(truth) + absolute * scale)


@pytest.mark.parametrize("layout", ["superpixel", "mosaic", "green", "rgb"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_every_layout_is_written_upright(tmp_path: Path, layout: Any, orientation: int) -> None:
    capture = decode_capture(shoot(tmp_path, orientation=orientation), layout=layout)
    record = write_capture(capture, [Path("shot.dng")], tmp_path / "out")
    size = record["size"]
    assert (size["height"] > size["width"]) == (orientation == 6) == (record["baseline"] == "y")
    for name in VIEWS:
        light = light_of(tmp_path / "out", name, record)
        assert light.shape == capture.shape
        assert np.abs(light - np.maximum(capture.view(name), 0)).max() <= record["samples"]["full_scale"] / 65535
    assert record["layout"] == layout
    assert record["cfa"] == ({1: "RGGB", 6: "GRBG"}[orientation] if layout == "mosaic" else None)
    assert record["colour"] == {"superpixel": "camera", "rgb": "srgb"}.get(layout)
    preview = cv2.imread(str(tmp_path / "out" / "preview.png"))
    assert preview.shape[0] == size["height"] // (2 if layout == "mosaic" else 1) and preview.max() > 200


def test_one_full_scale_holds_all_views_whichever_is_brightest(tmp_path: Path) -> None:
    """The right half of this pair is half as bright, so equalising lifts it above the white level."""
    rng = np.random.default_rng(0)
    left = (20000 + 30000 * cv2.GaussianBlur(rng.random((120, 160)), (0, 0), 2)).astype(np.uint16)
    right = (left * 0.5).astype(np.uint16)
    right[40:50, 40:60] = 60000
    for side, picture in (("left", left), ("right", right)):
        cv2.imwrite(str(tmp_path / f"p_{side}.png"), picture)
    capture = decode_capture(tmp_path / "p_left.png")
    record = write_capture(capture, [Path("p_left.png")], tmp_path / "out")
    scale = record["samples"]["full_scale"]
    peak = max(float(capture.view(name).max()) for name in VIEWS)
    assert capture.view("right").max() == peak > capture.view("combined").max()
    assert peak <= scale < peak + 0.001 and scale > 1.3
    for name in VIEWS:  # those written before the right one too
        assert np.abs(light_of(tmp_path / "out", name, record) - capture.view(name)).max() <= 0.51 / 65535 * scale
    alone = write_capture(capture, [Path("p_left.png")], tmp_path / "left", OutputSettings(views=("left",)))
    assert alone["samples"]["full_scale"] == 1.0


def test_noise_below_black_is_counted_where_it_is_clipped(tmp_path: Path) -> None:
    capture = decode_capture(shoot(tmp_path, full=12.0, highlight=0.0, read_noise=8.0))
    for form, kept in (("tiff", False), ("npz", True)):
        record = write_capture(capture, [Path("s")], tmp_path / form, OutputSettings(form))
        for entry in record["files"][:3]:
            negative = int((capture.view(entry["view"]) < -0.5 / 65535).sum())
            assert negative > 100
            assert entry["clipped_below"] == (0 if kept else negative)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_mosaic_dng_opens_in_libraw_with_the_right_light(tmp_path: Path, orientation: int) -> None:
    capture = decode_capture(shoot(tmp_path, orientation=orientation, read_noise=20.0, full=800.0), layout="mosaic")
    record = write_capture(capture, [Path("s")], tmp_path / "out", OutputSettings("dng"))
    scale = record["samples"]["full_scale"]
    for name in VIEWS:
        view = as_sensor(capture.view(name), orientation)
        with rawpy.imread(str(tmp_path / "out" / f"{name}.dng")) as raw:
            assert raw.raw_image.shape == view.shape == (CROP.height, CROP.width)
            assert raw.black_level_per_channel == [4096] * 4 and raw.white_level == 65535
            assert raw.raw_pattern.tolist() == [[0, 1], [3, 2]] and raw.color_desc == b"RGBG"
            light = (raw.raw_image.astype(np.float64) - 4096) / (65535 - 4096) * scale
            assert np.abs(light - view).max() <= 0.51 / 61439 * scale
            red, green, blue = raw.camera_whitebalance[:3]
            assert (red / green, blue / green) == pytest.approx((2.0, 4 / 3), rel=1e-3)
            shown = raw.postprocess(half_size=True, use_camera_wb=True)
        assert shown.shape[:2] == tuple(n // 2 for n in capture.size_hw)
    assert all(f["clipped_below"] == 0 for f in record["files"] if f["what"] == "view")


@pytest.mark.parametrize("layout", ["superpixel", "rgb", "green"])
def test_a_developed_dng_is_linear_raw(tmp_path: Path, layout: Any) -> None:
    capture = decode_capture(shoot(tmp_path, orientation=6), layout=layout)
    record = write_capture(capture, [Path("s")], tmp_path / "out", OutputSettings("dng", views=("left",)))
    view = as_sensor(capture.view("left"), 6)
    with rawpy.imread(str(tmp_path / "out" / "left.dng")) as raw:
        stored = raw.raw_image.reshape(*view.shape[:2], -1)[..., : capture.channels].reshape(view.shape)
        light = (stored.astype(np.float64) - 4096) / (65535 - 4096) * record["samples"]["full_scale"]
        assert np.abs(light - view).max() <= 0.51 / 61439 * record["samples"]["full_scale"]
        shown = raw.postprocess(use_camera_wb=True, no_auto_bright=True)
        assert shown.shape[:2] == capture.size_hw
    with tifffile.TiffFile(tmp_path / "out" / "left.dng") as file:
        tags = file.pages[0].tags
        assert tags["PhotometricInterpretation"].value == 34892 and tags["Orientation"].value == 6


def test_8_bit_views_come_back_through_our_own_decoder(tmp_path: Path) -> None:
    """8 bits mean sRGB on both sides, so a decoded folder is an exported pair like any other."""
    capture = decode_capture(shoot(tmp_path, highlight=0.0), equalise=False)
    record = write_capture(capture, [Path("s")], tmp_path / "out", OutputSettings("png", 8))
    again = decode(tmp_path / "out" / "left.png", equalise=False)
    light = capture.view("left")
    assert record["samples"]["full_scale"] == 1.0
    assert np.abs(again.left - np.clip(light, 0, 1)).max() < 0.005
    assert np.median(np.abs(again.left - light)) < 0.001


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"format": "png", "bit_depth": 32},
            "png with 32 bits; expected 8 or 16 bits for png; or 32 bits as tiff or npz",
        ),
        ({"format": "dng", "bit_depth": 8}, "dng with 8 bits; expected 16 bits for dng; or 8 bits as tiff or png"),
        ({"format": "bmp"}, "no format 'bmp'; expected one of tiff, png, npz, dng"),
        ({"views": ("left", "top")}, "no view 'top'; expected one or more of left, right, combined, disparity-preview"),
        ({"views": ()}, "views ''; expected one or more of"),
        ({"views": ("left", "left")}, "views 'left,left'; expected one or more of left, right, .* each once"),
        ({"wiggle": "mp4"}, "no animation format 'mp4'; expected gif or webp"),
    ],
)
def test_unsuitable_settings_are_refused_in_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputError, match=message) as raised:
        OutputSettings(**wrong)
    assert "\n" not in str(raised.value)


def test_settings_travel_to_other_processes_and_come_from_the_options() -> None:
    taken: dict[str, Any] = {}

    @click.command()
    @output_options
    def command(**options: Any) -> None:
        taken["settings"] = OutputSettings.taken_from(options)
        taken["rest"] = options

    words = ["--format", "png", "--bit-depth", "8", "--views", "left, disparity-preview", "--wiggle", "webp"]
    result = CliRunner().invoke(command, [*words, "--layout", "rgb"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    settings = OutputSettings("png", 8, ("left", "disparity-preview"), "webp")
    assert taken["settings"] == settings == pickle.loads(pickle.dumps(settings))  # noqa: S301 - our own
    assert taken["rest"] == {"layout": "rgb", "colour": "auto"}
    CliRunner().invoke(command, [], catch_exceptions=False)
    assert taken["settings"] == OutputSettings("tiff", 16, VIEWS)


@pytest.mark.parametrize("layout", ["superpixel", "mosaic"])
def test_pictures_for_people_do_not_depend_on_the_format(tmp_path: Path, layout: Any) -> None:
    capture = decode_capture(shoot(tmp_path), layout=layout)
    for form in ("tiff", "png", "npz", "dng"):
        settings = OutputSettings(form, views=(*VIEWS, "disparity-preview"), wiggle="gif")  # type: ignore[arg-type]
        write_capture(capture, [Path("s")], tmp_path / form, settings)
        for name in ("preview.png", "disparity-preview.png", "wiggle.gif", "saturated.png"):
            assert (tmp_path / form / name).read_bytes() == (tmp_path / "tiff" / name).read_bytes()


def test_only_what_was_asked_for_is_written(tmp_path: Path) -> None:
    capture = decode_capture(shoot(tmp_path))
    always = {"saturated.png", "preview.png", "decode.json"}
    for settings, extra in (
        (OutputSettings(views=("right",)), {"right.tiff"}),
        (OutputSettings("npz", views=("left", "right")), {"views.npz"}),
        (OutputSettings("npz", views=("disparity-preview",)), {"disparity-preview.png"}),
        (
            OutputSettings("png", wiggle="webp", frames=True),
            {f"{n}.png" for n in VIEWS} | {"wiggle.webp", "frames.npz"},
        ),
    ):
        record = write_capture(capture, [Path("s")], tmp_path / "out", settings)
        there = {path.name for path in (tmp_path / "out").iterdir()}
        assert there == always | extra == {f["name"] for f in record["files"]} | {"decode.json"}


def test_the_same_capture_gives_the_same_bytes(tmp_path: Path) -> None:
    path = shoot(tmp_path)
    everything = (*VIEWS, "disparity-preview")
    for form, wiggle in (("tiff", "gif"), ("npz", "webp"), ("dng", None)):
        folders = [tmp_path / f"{form}{i}" for i in range(2)]
        for folder in folders:
            settings = OutputSettings(form, views=everything, wiggle=wiggle, frames=True)  # type: ignore[arg-type]
            write_capture(decode_capture(path), [path], folder, settings, {"seed": 1})
        for first in folders[0].iterdir():
            assert first.read_bytes() == (folders[1] / first.name).read_bytes(), first.name


def captures(folder: Path) -> dict[str, Callable[[], RawCapture]]:
    rng = np.random.default_rng(0)
    for side in ("left", "right"):
        write_pdcapture(folder / f"p_{side}.pgm", rng.integers(64, 900, (60, 160)))
        cv2.imwrite(str(folder / f"q_{side}.png"), rng.integers(0, 255, (60, 80, 3), np.uint8))
    raws = {orientation: shoot(folder, orientation=orientation) for orientation in (1, 6)}
    layouts: tuple[Any, ...] = ("superpixel", "mosaic", "rgb")
    return {
        **{f"{name}{o}": partial(decode_capture, path, layout=name) for name in layouts for o, path in raws.items()},
        "pgm": partial(decode_capture, folder / "p_left.pgm"),
        "pair": partial(decode_capture, folder / "q_left.png", layout="rgb"),
    }


def test_sidecars_of_all_kinds_keep_to_the_published_schema(tmp_path: Path) -> None:
    schema = read_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    request = {"options": {"layout": "rgb"}, "inputs": [{"name": "a", "mtime_ns": 1}]}
    for name, capture in captures(tmp_path).items():
        for form in ("tiff", "npz"):
            settings = OutputSettings(form, views=(*VIEWS, "disparity-preview"), wiggle="gif", frames=True)  # type: ignore[arg-type]
            write_capture(capture(), [Path(name)], tmp_path / "out", settings, request)
            record = json.loads((tmp_path / "out" / "decode.json").read_text())
            assert [e.message for e in validator.iter_errors(record)] == []
            assert record["request"] == request and record["inputs"] == [name]
    assert record["warnings"] and "mosaics" in record["warnings"][0]  # the layout a pair does not have
    for broken in (
        {**record, "new_key": 1},
        {k: v for k, v in record.items() if k != "samples"},
        record | {"cfa": "RGBG"},
    ):
        assert not validator.is_valid(broken)


def test_real_sidecars_keep_to_the_published_schema(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    validator = jsonschema.Draft202012Validator(read_schema())
    for name in (
        "dpraw_fixtures/dpraw_small.CR2",
        "dpraw_fixtures/dpraw_small.CR3",
        "dpraw_fixtures/dpraw_tile_lj.DNG",
    ):
        path = shared_data(name)
        write_capture(decode_capture(path), [path], tmp_path / path.name, OutputSettings("npz", frames=True))
        validator.validate(json.loads((tmp_path / path.name / "decode.json").read_text()))


def test_frames_are_the_sensor_s_own(tmp_path: Path) -> None:
    truth = sensor_frames(highlight=1.6)
    write_capture(decode_capture(shoot(tmp_path)), [Path("s")], tmp_path / "out", OutputSettings(frames=True))
    with np.load(tmp_path / "out" / "frames.npz") as frames:
        assert np.array_equal(frames["frame0"], truth.composite)
        assert np.array_equal(frames["frame1"], truth.half)
        assert frames["other"].dtype == np.int32


@pytest.mark.parametrize("form", ["tiff", "png"])
def test_writing_takes_little_more_memory_than_one_view(tmp_path: Path, form: Any) -> None:
    """A full-size RGB view is three floats a sample; the rest of the command must fit beside it."""
    rng = np.random.default_rng(0)
    composite = rng.integers(600, 9000, (3000, 4200), np.uint16)
    write_dual_pixel_dng(tmp_path / "big.dng", composite, composite // 2 + 256, white=16383)
    capture = decode_capture(tmp_path / "big.dng", layout="rgb")
    del composite
    frame_bytes = 3000 * 4200 * 4
    tracemalloc.start()
    write_capture(capture, [Path("big.dng")], tmp_path / "out", OutputSettings(form, views=("left", "combined")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 3.0 * frame_bytes < peak < 4.5 * frame_bytes


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_animation_goes_round_for_ever_equally_bright(tmp_path: Path, kind: Any, orientation: int) -> None:
    capture = decode_capture(shoot(tmp_path, orientation=orientation, disparity_px=12.0, highlight=0.0))
    write_capture(capture, [Path("s")], tmp_path / "out", OutputSettings(wiggle=kind))
    frames = []
    with Image.open(tmp_path / "out" / f"wiggle.{kind}") as animation:
        assert animation.info["loop"] == 0 and animation.n_frames == 4
        for index in range(4):
            animation.seek(index)
            frames.append(np.asarray(animation.convert("RGB"), np.float32))
    assert frames[0].shape[:2] == capture.size_hw
    means = [float(frame.mean()) for frame in frames]
    assert max(means) - min(means) < 3.0 and 40 < means[0] < 220
    (dx, dy), _ = cv2.phaseCorrelate(frames[0][..., 1], frames[2][..., 1])
    moved = (dx, dy) if orientation == 1 else (dy, dx)
    assert moved == pytest.approx((6.0, 0.0), abs=0.5)  # sensor pixels halved; the right half lies to the right


def test_gray_animations_lose_nothing(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0.02, 1.0, 256, dtype=np.float32), (32, 1))
    views = {"combined": ramp, "left": ramp[:, ::-1] / 2, "right": ramp}
    frames = wiggle_frames(views, Look((1.0, 1.0, 1.0), 1.0))
    assert np.array_equal(frames[0][:, ::-1], frames[1]) and np.array_equal(frames[1], frames[2])
    write_animation(tmp_path / "a.gif", frames[:2], "gif")
    with Image.open(tmp_path / "a.gif") as animation:
        for index in range(2):
            animation.seek(index)
            assert np.array_equal(np.asarray(animation.convert("RGB")), frames[index])


@pytest.mark.parametrize("baseline", ["x", "y"])
@pytest.mark.parametrize("shift", [-3, 3])
def test_the_disparity_picture_is_blue_behind_and_red_in_front(baseline: Any, shift: int) -> None:
    rng = np.random.default_rng(1)
    left = cv2.GaussianBlur(rng.random((160, 200), np.float32), (0, 0), 1.5) * 2
    right = np.roll(left, shift, axis=1)
    saturated = np.zeros((320, 400), bool)
    saturated[140:180, 180:220] = True
    if baseline == "y":
        left, right, saturated = left.T.copy(), right.T.copy(), saturated.T.copy()
    picture = disparity_preview(left, right, saturated, baseline, 400).astype(int)
    top, side = 34, 14  # title and margin of the figure
    shown = picture[top : top + left.shape[0], side : side + left.shape[1]]
    blue_over_red = shown[..., 2] - shown[..., 0]
    middle = np.median(blue_over_red) * np.sign(shift)
    assert middle > 30
    height, width = left.shape
    clipped = shown[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4]
    assert np.abs(clipped - 128).max() <= 2


def test_previews_are_reduced_to_square_pixels_by_whole_cells() -> None:
    colours = {"R": 0.9, "G": 0.5, "B": 0.1}
    for cfa in ("RGGB", "GRBG", "GBRG", "BGGR"):
        mosaic = np.tile(np.array([colours[c] for c in cfa], np.float32).reshape(2, 2), (40, 60))
        small = reduced(mosaic, cfa=cfa, pixel_aspect=1.0, baseline="x")
        assert small.shape == (40, 60, 3) and np.allclose(small, [0.9, 0.5, 0.1])
    tall = np.zeros((756, 2016), np.float32)
    assert reduced(tall, cfa=None, pixel_aspect=2.0, baseline="x").shape == (1512, 2016)
    assert reduced(tall, cfa=None, pixel_aspect=2.0, baseline="y").shape == (378, 2016)
    assert reduced(np.zeros((3000, 6048, 3), np.float32), cfa=None, pixel_aspect=1.0, baseline="x").shape == (
        1000,
        2016,
        3,
    )
