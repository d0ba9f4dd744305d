"""JPEG files as cameras and phones write them: fill bytes, trailers, second pictures; and every kind of cut."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import exported

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers import jpeg
from dualpix.capture.raw.containers.hints import read_hints
from dualpix.capture.raw.containers.images import read_tagged_picture
from dualpix.capture.rgbd import find_rgbd, read_rgbd
from dualpix.capture.stack.keep.frames import frame_meta, read_light

XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"
XMP_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", 65000, 0) + bytes(65000)
MPF = b"MPF\0II*\0" + struct.pack("<I", 8) + bytes(32)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3)).astype(np.uint8)


def encoded(*settings_: int, seed: int = 0) -> bytes:
    done, data = cv2.imencode(".jpg", picture(seed), settings_)
    assert done
    return data.tobytes()


def segment(marker: int, body: bytes, fill: int = 0) -> bytes:
    return b"\xff" * (1 + fill) + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(data: bytes, *parts: bytes) -> bytes:
    return data[:2] + b"".join(parts) + data[2:]


def exif_segment(orientation: int = 6, fill: int = 0) -> bytes:
    return segment(0xE1, b"Exif\0\0" + exported.exif(orientation), fill)


PLAIN = encoded()
KINDS = {
    "baseline": PLAIN,
    "progressive": encoded(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": encoded(cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    "optimised": encoded(cv2.IMWRITE_JPEG_OPTIMIZE, 1, cv2.IMWRITE_JPEG_QUALITY, 100),
    "gray": cv2.imencode(".jpg", picture()[..., 0])[1].tobytes(),
}
MOTION_PHOTO = struct.pack(">I4s4s", 24, b"ftyp", b"mp42") + bytes(9000) + b"\xff\xd8\xff\xd9moov"
TRAILERS = {
    "a video": MOTION_PHOTO,
    "zeros": bytes(20_000),
    "ones": b"\xff" * 20_000,
    "a second picture (MPF, gain map)": encoded(seed=1),
    "a cut second picture": encoded(seed=1)[:900],
    "Samsung's directory": b"\0\0\x01\x0a" + b"Image_UTC_Data1700000000000" + b"SEFH" + bytes(24) + b"SEFT",
    "one byte": b"\n",
}


@pytest.mark.parametrize("trailer", TRAILERS.values(), ids=TRAILERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_a_complete_picture_is_left(tmp_path: Path, kind: str, trailer: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(KINDS[kind] + trailer)
    expected = cv2.imdecode(np.frombuffer(KINDS[kind], np.uint8), cv2.IMREAD_UNCHANGED)
    found = read_tagged_picture(tmp_path / "a.jpg").samples
    assert np.array_equal(found, expected[..., ::-1] if expected.ndim == 3 else expected)
    assert read_light(tmp_path / "a.jpg").image.shape == (48, 64, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_picture_is_refused_whatever_follows_it(tmp_path: Path, kind: str) -> None:
    data = with_segments(KINDS[kind], exif_segment(), segment(0xE1, XMP_EXTENDED))
    scan = next(s.end for s in jpeg.segments(data) if s.marker == jpeg.SOS)
    for keep in (40, 300, scan - 3, scan + 1, (scan + len(data)) // 2, len(data) - 2):
        for trailer in (b"", bytes(5000)):
            (tmp_path / "a.jpg").write_bytes(data[:keep] + trailer)
            with pytest.raises(DecodeError, match=r"'a.jpg' is a (cut|damaged) JPEG; expected a complete picture"):
                read_tagged_picture(tmp_path / "a.jpg")


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture(tmp_path: Path) -> None:
    """The preview in an EXIF segment is a whole JPEG, and ends with a marker of its own."""
    data = with_segments(PLAIN, segment(0xE1, b"Exif\0\0" + exported.exif(1) + encoded(cv2.IMWRITE_JPEG_QUALITY, 30)))
    (tmp_path / "a.jpg").write_bytes(data[: len(data) - 400])
    with pytest.raises(DecodeError, match="is a cut JPEG"):
        read_tagged_picture(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_tagged_picture(tmp_path / "a.jpg").samples.shape == (48, 64, 3)


@pytest.mark.parametrize("fill", [0, 1, 2, 7, 5000])
def test_fill_bytes_change_nothing(tmp_path: Path, fill: int) -> None:
    """T.81, B.1.1.2: any marker may be preceded by any number of bytes FF."""
    more = b"\xff" * fill
    parts = _parts(with_segments(PLAIN, exif_segment(8)))
    (tmp_path / "a.jpg").write_bytes(PLAIN[:2] + b"".join(more + part for part in parts))
    found = read_tagged_picture(tmp_path / "a.jpg")
    assert found.hints.orientation == 8
    assert np.array_equal(found.samples, picture_of(PLAIN))
    assert frame_meta(tmp_path / "a.jpg").orientation == 8
    assert read_light(tmp_path / "a.jpg").image.shape == (64, 48, 3)


def _parts(data: bytes) -> list[bytes]:
    """Each segment with its marker, the scan's data with its header, and EOI; without SOI."""
    starts = [s.start - (2 if s.marker == jpeg.EOI else 4) for s in jpeg.segments(data)]
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]


def picture_of(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(image[..., ::-1])


@pytest.mark.parametrize(
    "before",
    [[segment(0xE1, XMP)], [segment(0xE1, XMP_EXTENDED)] * 3, [segment(0xE2, MPF)], [segment(0xFE, b"a remark")],
     [segment(0xE0, b"JFIF\0\x01\x02\0\0\x01\0\x01\0\0")], [b"\0\0stray"]],
    ids=["XMP", "extended XMP", "MPF", "COM", "JFIF", "stray bytes"],
)  # fmt: skip
def test_exif_is_found_behind_other_segments(before: list[bytes]) -> None:
    data = with_segments(PLAIN, *before, exif_segment(3))
    assert read_hints(data, "jpeg").orientation == 3


def test_exif_in_a_trailer_says_nothing_of_the_picture() -> None:
    assert read_hints(PLAIN + with_segments(PLAIN, exif_segment(6)), "jpeg").orientation == 1


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(2, len(PLAIN) - 1))
def test_the_walk_ends_and_never_raises(noise: bytes, at: int) -> None:
    for data in (PLAIN[:at], PLAIN[:at] + noise + PLAIN[at:], PLAIN[:2] + noise, b"\xff\xd8" + b"\xff" * at):
        found = list(jpeg.segments(data))
        assert all(2 <= s.start <= s.end <= len(data) for s in found)
        assert [s.marker for s in found].count(jpeg.EOI) <= 1


def test_motion_photos_are_read_as_rgbd(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(PLAIN + MOTION_PHOTO)
    cv2.imwrite(str(tmp_path / "a_depth.png"), np.full((48, 64), 1500, np.uint16))
    assert read_rgbd(find_rgbd(tmp_path)[0]).image.shape[:2] == (48, 64)
