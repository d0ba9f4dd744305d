"""The all-in-focus picture has the colours, the exposure, the codes and the profile of the frames it is made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image, ImageCms
from tests.support.plain_stacks import TINT, card, srgb_codes, sweep, write_focus_csv, write_pictures
from tests.support.stack_folders import shoot_stack

from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.raw.containers.hints import profile_tone
from dualpix.capture.stack.depth.focus_depth import depth_from_focus
from dualpix.capture.stack.depth.focus_output import write_focus_depth
from dualpix.capture.stack.judge.aligned import align_folder
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.stack.look import codes_of, shown, srgb_profile
from dualpix.capture.types import FloatImage, FrameLook

DIOPTERS = tuple(float(d) for d in np.linspace(0.5, 2.0, 7))
INSIDE = (slice(8, -8), slice(8, -8))


def made(folder: Path, output: Path) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.uint8], dict[str, object]]:
    """The TIFF, the picture for people in R, G, B, and depth.json of a stack."""
    stack = load_stack(folder)
    record = write_focus_depth(output, stack, depth_from_focus(stack))
    picture = cv2.imread(str(output / "all_in_focus.png"))
    assert picture is not None
    return tifffile.imread(output / "all_in_focus.tiff"), picture[..., ::-1], record


def ratio(image: npt.NDArray[np.generic]) -> float:
    """R / B."""
    return float(np.mean(image[..., 0], dtype=float) / np.mean(image[..., 2], dtype=float))


def test_pictures_keep_their_white_balance_and_exposure(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", sweep())
    write_focus_csv(paths, DIOPTERS)
    frames = np.stack([cv2.imread(str(path))[..., ::-1] for path in paths])
    codes, picture, record = made(tmp_path / "in", tmp_path / "out")
    assert codes.dtype == np.uint16 and codes.shape == frames.shape[1:]
    assert ratio(frames) > 1.25  # a grey world would make it 1
    for image, white in ((codes, 65535), (picture, 255)):
        assert ratio(image) == pytest.approx(ratio(frames), rel=0.003)
        assert image.mean() / white == pytest.approx(frames.mean() / 255, rel=0.01)
    # each half is what the frame shows that is sharp there
    sharp = np.concatenate([frames[1][:, :80], frames[5][:, 80:]], axis=1)
    apart = np.abs(codes[INSIDE] / 257 - sharp[INSIDE])
    assert np.mean(apart <= 1) > 0.9 and apart.mean() < 1
    assert record["all_in_focus"] == {
        "file": "all_in_focus.tiff",
        "codes": "light = srgb_to_linear(code / 65535), as the frames' own codes",
        "profile": True,
    }


def test_codes_of_eight_bits_come_back_to_the_last_one() -> None:
    every = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    light = linear_from_srgb(np.asarray(every / np.float32(255), np.float32))
    look = FrameLook("srgb")
    assert np.array_equal(codes_of(light, look), every.astype(np.uint16) * 257)
    assert np.array_equal(shown(light, look), every)


def test_the_profile_of_the_frames_goes_with_their_codes(tmp_path: Path) -> None:
    """A wide-gamut PNG: its numbers mean what its profile says, and no other."""
    profile = bytearray(srgb_profile())
    at = profile.index(b"rXYZ") + 4  # offset and size of the red colorant
    red = int.from_bytes(profile[at : at + 4], "big") + 8
    profile[red : red + 4] = round(0.515 * 65536).to_bytes(4, "big")  # that of Display P3
    folder = tmp_path / "in"
    folder.mkdir()
    paths = []
    for number, frame in enumerate(sweep()):
        paths.append(folder / f"{number}.png")
        Image.fromarray(srgb_codes(frame)).save(paths[-1], icc_profile=bytes(profile))
    write_focus_csv(paths, DIOPTERS)
    made(folder, tmp_path / "out")
    with tifffile.TiffFile(tmp_path / "out" / "all_in_focus.tiff") as file:
        assert file.pages[0].tags["InterColorProfile"].value == bytes(profile)


def test_pictures_without_a_profile_are_srgb_and_say_so(tmp_path: Path) -> None:
    write_focus_csv(write_pictures(tmp_path / "in", sweep(), ".jpg"), DIOPTERS)
    made(tmp_path / "in", tmp_path / "out")
    with tifffile.TiffFile(tmp_path / "out" / "all_in_focus.tiff") as file:
        profile = file.pages[0].tags["InterColorProfile"].value
    assert profile == srgb_profile() and profile_tone(profile) == "srgb"
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(__import__("io").BytesIO(profile)))


def test_what_says_that_it_is_no_srgb_gets_no_profile(tmp_path: Path) -> None:
    """EXIF ColorSpace 65535: Adobe RGB and others, by cameras that embed nothing."""
    folder = tmp_path / "in"
    folder.mkdir()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 65535
    paths = []
    for number, frame in enumerate(sweep()):
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(srgb_codes(frame)).save(paths[-1], quality=95, exif=exif)
    write_focus_csv(paths, DIOPTERS)
    _, _, record = made(folder, tmp_path / "out")
    assert record["all_in_focus"]["profile"] is False  # type: ignore[index]


def test_gray_pictures_stay_gray(tmp_path: Path) -> None:
    write_focus_csv(write_pictures(tmp_path / "in", sweep(), coded=lambda f: srgb_codes(f)[..., 1]), DIOPTERS)
    codes, _, _ = made(tmp_path / "in", tmp_path / "out")
    assert codes.ndim == 2 and codes.dtype == np.uint16


def test_sixteen_bits_of_linear_light_are_the_frames_codes(tmp_path: Path) -> None:
    def coded(frame: FloatImage) -> npt.NDArray[np.uint16]:
        return np.asarray(np.rint(frame * 65535), np.uint16)

    paths = write_pictures(tmp_path / "in", sweep(), coded=coded)
    write_focus_csv(paths, DIOPTERS)
    codes, picture, record = made(tmp_path / "in", tmp_path / "out")
    sharp = cv2.imread(str(paths[1]), cv2.IMREAD_UNCHANGED)[..., ::-1][8:-8, 8:60].astype(float)
    assert np.median(np.abs(codes[8:-8, 8:60] - sharp)) < 0.01 * 65535
    assert ratio(codes) == pytest.approx(TINT[0] / TINT[2], rel=0.01)
    assert picture.mean() == pytest.approx(srgb_codes(card()).mean(), rel=0.02)  # not brightened
    assert record["all_in_focus"]["codes"].startswith("light = code / 65535")  # type: ignore[index]


def test_light_beyond_white_stays_in_floats(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    paths = []
    for number, frame in enumerate(sweep()):
        frame = frame.copy()
        frame[40:44, 100:104] = 4.0
        paths.append(folder / f"{number}.tiff")
        tifffile.imwrite(paths[-1], frame, photometric="rgb")
    write_focus_csv(paths, DIOPTERS)
    light, _, _ = made(folder, tmp_path / "out")
    assert light.dtype == np.float32 and light.max() == pytest.approx(4.0, rel=0.05)
    assert np.median(light[..., 1]) == pytest.approx(float(np.median(card()[..., 1])), rel=0.02)


def test_raws_are_the_sensors_light(tmp_path: Path) -> None:
    shot = shoot_stack(tmp_path / "desk", seed=3, breathing=0.0)
    stack = load_stack(shot.folder)
    assert stack.look is not None and stack.look.camera and stack.look.white_balance is not None
    record = write_focus_depth(tmp_path / "out", stack, depth_from_focus(stack))
    codes = tifffile.imread(tmp_path / "out" / "all_in_focus.tiff")
    light = stack.frames.mean(axis=0)
    assert codes.mean(axis=(0, 1)) / 65535 == pytest.approx(light.mean(axis=(0, 1)), rel=0.02)
    assert "not white-balanced" in record["all_in_focus"]["codes"]


def test_aligned_frames_look_like_those_they_were_made_of(tmp_path: Path) -> None:
    """They are linear PNG on disk, whatever the user's frames are."""
    from dualpix.capture.stack.keep.importer import Given, import_stack

    write_pictures(tmp_path / "in", sweep(), ".jpg")
    done = import_stack([tmp_path / "in"], tmp_path / "stack", Given(diopters=DIOPTERS))
    align_folder(done.folder)
    stack = load_stack(done.folder)
    assert stack.look is not None and stack.look.curve == "srgb" and stack.look.icc_profile is not None
    codes, picture, _ = made(done.folder, tmp_path / "out")
    assert ratio(picture) == pytest.approx(ratio(np.asarray(codes) / 257), rel=0.005)
    assert ratio(picture) > 1.25
    shutil.rmtree(done.folder / "aligned")
    assert load_stack(done.folder).look == stack.look


def test_the_record_is_json(tmp_path: Path) -> None:
    write_focus_csv(write_pictures(tmp_path / "in", sweep()), DIOPTERS)
    _, _, record = made(tmp_path / "in", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "depth.json").read_text()) == record
