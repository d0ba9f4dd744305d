"""The frames of a Dual Pixel RAW as two DNG files: exact, found by name, and every pair that is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support.cr2 import write_cr2
from tests.support.dng import write_frame_dng
from tests.support.halves import CROP, SensorFrames, sensor_frames, shift_between

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw import decode, decode_capture
from dualpix.capture.raw.develop.geometry import Crop
from dualpix.capture.raw.formats.dng_pair import sub_name
from dualpix.capture.raw.inspect import inspect
from dualpix.capture.raw.write.dng import write_dual_pixel_dng


@pytest.fixture(scope="module")
def truth() -> SensorFrames:
    return sensor_frames(black=(512, 500), highlight=2.0)


def write_pair(folder: Path, truth: SensorFrames, main: str = "IMG.dng", sub: str = "IMG_sub.dng") -> Path:
    write_frame_dng(folder / main, truth.composite, CROP, black=512)
    write_frame_dng(folder / sub, truth.half, CROP, black=500)
    return folder / main


@pytest.mark.parametrize("lossless_jpeg", [False, True])
def test_both_frames_and_the_derived_half_are_exact(tmp_path: Path, truth: SensorFrames, lossless_jpeg: bool) -> None:
    write_frame_dng(tmp_path / "IMG.DNG", truth.composite, CROP, black=512, lossless_jpeg=lossless_jpeg)
    write_frame_dng(tmp_path / "IMG_sub.DNG", truth.half, CROP, black=500, lossless_jpeg=lossless_jpeg)
    capture = decode_capture(tmp_path / "IMG.DNG", equalise=False)
    frames = capture.frames()
    assert capture.decoder == "dng-pair"
    assert np.array_equal(frames["frame0"], truth.composite) and np.array_equal(frames["frame1"], truth.half)
    assert np.array_equal(frames["other"], truth.composite.astype(np.int32) - truth.half - 12)
    assert capture.details["black_source"] == {"frame0": "masked columns", "frame1": "masked columns"}
    assert capture.details["black"]["frame1"] == pytest.approx([500] * 4, abs=0.5)
    provenance = capture.meta.provenance
    assert (provenance["frame 0"], provenance["frame 1"]) == ("file IMG.DNG", "file IMG_sub.DNG")
    assert provenance["left"].startswith("frame 1 (assumed")


def test_it_is_the_two_sample_dng_of_the_same_frames(tmp_path: Path, truth: SensorFrames) -> None:
    pair = decode_capture(write_pair(tmp_path, truth))
    write_dual_pixel_dng(tmp_path / "both.dng", truth.composite, truth.half, white=14008, black=(512, 500), crop=CROP)
    both = decode_capture(tmp_path / "both.dng")
    for name in ("left", "right", "combined", "saturated"):
        assert np.array_equal(getattr(pair.image, name), getattr(both.image, name)), name
    shift = shift_between(pair.image.left, pair.image.right)
    assert shift[0] == pytest.approx(3.0, abs=0.2)
    assert pair.image.saturated.any()


@pytest.mark.parametrize(
    ("main", "sub"),
    [
        ("IMG.dng", "IMG_sub.dng"),
        ("IMG.DNG", "IMG-sub.DNG"),
        ("IMG.dng", "IMG_dp.dng"),
        ("IMG.dng", "IMG_1.dng"),
        ("IMG.dng", "IMG-1.dng"),
        ("IMG_main.dng", "IMG_sub.dng"),
        ("IMG_frame0.dng", "IMG_frame1.dng"),
        ("IMG.composite.dng", "IMG.half.dng"),
    ],
)
def test_names_that_tell(tmp_path: Path, main: str, sub: str) -> None:
    for name in (main, sub, "IMG_2.dng", "other_sub.dng"):
        (tmp_path / name).touch()
    assert sub_name(tmp_path / main) == tmp_path / sub
    assert sub_name(tmp_path / sub) is None


@pytest.mark.parametrize("name", ["IMG_0001.dng", "_main.dng", "IMG.CR2", "x" * 300 + ".dng"])
def test_names_that_do_not(tmp_path: Path, name: str) -> None:
    (tmp_path / "IMG_0002.dng").touch()
    assert sub_name(tmp_path / name) is None


def test_the_sub_file_can_be_given(tmp_path: Path, truth: SensorFrames) -> None:
    main = write_pair(tmp_path, truth, sub="DPDATA-of-it.dng")
    with pytest.raises(DecodeError, match=r"'IMG.dng' holds one frame, the second photodiode is missing"):
        decode(main)
    frames = decode_capture(main, sub=tmp_path / "DPDATA-of-it.dng").frames()
    assert np.array_equal(frames["frame1"], truth.half)


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_portrait(tmp_path: Path, truth: SensorFrames, orientation: int) -> None:
    for name, frame in (("IMG.dng", truth.composite), ("IMG_sub.dng", truth.half)):
        write_frame_dng(tmp_path / name, frame, CROP, orientation=orientation)
    image = decode(tmp_path / "IMG.dng")
    assert (image.baseline, image.size_hw) == ("y", (CROP.width // 2, CROP.height // 2))
    assert shift_between(image.left, image.right)[1] == pytest.approx(3.0, abs=0.2)


def test_a_dng_of_two_samples_is_no_main_file(tmp_path: Path, truth: SensorFrames) -> None:
    main = tmp_path / "IMG.dng"
    write_dual_pixel_dng(main, truth.composite, truth.half, white=16383, crop=CROP)
    write_frame_dng(tmp_path / "IMG_sub.dng", truth.half, CROP)
    assert decode_capture(main).decoder == "canon"
    with pytest.raises(DecodeError, match=r"'IMG.dng' holds 2 samples per pixel.*leave out --sub"):
        decode(main, sub=tmp_path / "IMG_sub.dng")


def test_frames_that_do_not_belong_together(tmp_path: Path, truth: SensorFrames) -> None:
    main = write_pair(tmp_path, truth)
    sub = tmp_path / "IMG_sub.dng"
    write_frame_dng(sub, truth.half, CROP, taken="2024:05:01 12:00:09")
    with pytest.raises(DecodeError, match=r"\(2024:05:01 12:00:00\) and 'IMG_sub.dng' \(.*09\) are different shots"):
        decode(main)
    write_frame_dng(sub, truth.half, CROP, model="Canon EOS R8")
    with pytest.raises(DecodeError, match=r"different shots.*--sub"):
        decode(main)
    write_frame_dng(sub, truth.half, Crop(24, 16, 128, 128))
    with pytest.raises(DecodeError, match="different crops"):
        decode(main)
    write_frame_dng(sub, truth.half[:-2], CROP)
    with pytest.raises(DecodeError, match=r"frames of \(192, 288\) and \(190, 288\)"):
        decode(main)
    write_frame_dng(sub, truth.composite, CROP)
    with pytest.raises(DecodeError, match="both frames are the same picture"):
        decode(main)
    with pytest.raises(DecodeError, match=r"frame 1 has [12]\.\d+ of the light of frame 0"):
        write_frame_dng(sub, truth.half, CROP)
        decode(sub, sub=main)


def test_other_files_as_sub(tmp_path: Path, truth: SensorFrames) -> None:
    main = write_pair(tmp_path, truth)
    write_cr2(tmp_path / "b.CR2", truth.composite, truth.half, CROP)
    with pytest.raises(DecodeError, match=r"'b.CR2' is not a DNG"):
        decode(main, sub=tmp_path / "b.CR2")
    with pytest.raises(DecodeError, match=r"'b.CR2' is not a DNG"):
        decode(tmp_path / "b.CR2", sub=main)
    (tmp_path / "t.dng").write_bytes(b"hello, world")
    with pytest.raises(DecodeError, match="no TIFF header"):
        decode(main, sub=tmp_path / "t.dng")
    (tmp_path / "t.dng").write_bytes(b"")
    with pytest.raises(DecodeError, match="cannot read"):
        decode(main, sub=tmp_path / "t.dng")
    with pytest.raises(DecodeError, match=r"cannot read '.*gone.dng'"):
        decode(main, sub=tmp_path / "gone.dng")
    with pytest.raises(DecodeError, match="both a sub file and a right file"):
        decode(main, sub=tmp_path / "IMG_sub.dng", right=main)


@pytest.mark.parametrize("lossless_jpeg", [False, True])
@pytest.mark.parametrize("keep", [0.01, 0.3, 0.99])
@pytest.mark.parametrize("which", ["IMG.dng", "IMG_sub.dng"])
def test_a_cut_file(tmp_path: Path, truth: SensorFrames, which: str, keep: float, lossless_jpeg: bool) -> None:
    for name, frame in (("IMG.dng", truth.composite), ("IMG_sub.dng", truth.half)):
        write_frame_dng(tmp_path / name, frame, CROP, lossless_jpeg=lossless_jpeg)
    data = (tmp_path / which).read_bytes()
    (tmp_path / which).write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DecodeError):
        decode(tmp_path / "IMG.dng", sub=tmp_path / "IMG_sub.dng")


def test_a_main_file_that_is_no_dng_any_more(tmp_path: Path, truth: SensorFrames) -> None:
    """One changed tag number: a TIFF with a mosaic, and nothing that says what its levels are."""
    main = write_pair(tmp_path, truth)
    version = (0xC612).to_bytes(2, "little") + (1).to_bytes(2, "little") + (4).to_bytes(4, "little")
    data = main.read_bytes()
    assert data.count(version) == 1
    main.write_bytes(data.replace(version, (0xC611).to_bytes(2, "little") + version[2:]))
    with pytest.raises(DecodeError, match="one picture, its other half is not named"):
        decode(main)
    assert not inspect(main).dual_pixel


def test_a_strip_that_is_listed_too_short(tmp_path: Path, truth: SensorFrames) -> None:
    main = write_pair(tmp_path, truth)
    data = main.read_bytes()
    listed = (truth.composite.nbytes).to_bytes(4, "little")
    assert data.count(listed) == 1
    main.write_bytes(data.replace(listed, (1000).to_bytes(4, "little")))
    with pytest.raises(DecodeError, match=r"1000 bytes of pixels are listed, 110592 are needed"):
        decode(main)
