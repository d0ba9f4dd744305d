"""What the file says about the shot: EXIF and Canon's maker notes, in order and in the hands of an enemy."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.cr2 import Shot, write_cr2
from tests.support.cr3 import write_cr3
from tests.support.halves import CROP, sensor_frames

from dualpix.capture import optics
from dualpix.capture.raw.containers.boxes import read_cr3
from dualpix.capture.raw.containers.exif import capture_meta
from dualpix.capture.raw.containers.makernote import CanonNote, cr2_maker_note, cr3_maker_note, read_canon_note
from dualpix.capture.raw.containers.tiff import (
    ASCII,
    LONG,
    RATIONAL,
    SHORT,
    SLONG,
    UNDEFINED,
    Ifd,
    Tag,
    TiffReader,
    ifd_bytes,
)
from dualpix.capture.types import CaptureMeta
from dualpix.models.predict.disparity import lens_of

SHOT = Shot(lens="RF50mm F1.2 L USM", focus_m=(2.94, 2.65))
EMPTY = Ifd({}, 0)


def meta(**tags: object) -> CaptureMeta:
    """From EXIF tags t9206=..., maker note tags n0093=... and tags of the picture p0132=..., as a reader gives them."""
    exif, note, picture = (Ifd({int(k[1:], 16): v for k, v in tags.items() if k[0] == kind}, 0) for kind in "tnp")  # type: ignore[misc]
    return capture_meta(picture, exif, makernote=note, provenance={})


def focus_note(tag: int, at: int, upper_cm: int, lower_cm: int) -> Ifd:
    return Ifd({tag: (0,) * at + (upper_cm, lower_cm)}, 0)


def blob(tags: list[Tag]) -> bytes:
    return struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes(tags, 8)


def test_canon_cr2(tmp_path: Path) -> None:
    """The notes of a CR2 are addressed from the start of the file."""
    frames, path = sensor_frames(), tmp_path / "a.cr2"
    write_cr2(path, frames.composite, frames.half, CROP, SHOT)
    reader = TiffReader(path.read_bytes())
    picture = reader.ifd(reader.first_offset)
    exif_at = picture.integer(0x8769)
    note = cr2_maker_note(reader, exif_at)
    assert note is not None
    assert read_canon_note(note) == CanonNote(2.94, 2.65, dual_pixel_raw=True, quality="RAW", lens_model=SHOT.lens)
    check_shot(capture_meta(picture, reader.ifd(exif_at), makernote=note, provenance={}))


def test_canon_cr3(tmp_path: Path) -> None:
    frames, path = sensor_frames(), tmp_path / "a.cr3"
    write_cr3(path, frames.composite, None, CROP, SHOT)
    blobs = read_cr3(path.read_bytes()).blobs
    note = cr3_maker_note(blobs[b"CMT3"])
    assert note is not None
    assert read_canon_note(note) == CanonNote(2.94, 2.65, dual_pixel_raw=False, quality="RAW", lens_model=SHOT.lens)
    reader = TiffReader(blobs[b"CMT2"])
    check_shot(capture_meta(EMPTY, reader.ifd(reader.first_offset), makernote=note, provenance={}))


def check_shot(read: CaptureMeta) -> None:
    assert read.lens_model == "RF50mm F1.2 L USM"
    assert (read.focus_distance_upper_m, read.focus_distance_lower_m) == (2.94, 2.65)
    assert read.focus_distance_m == pytest.approx(2 / (1 / 2.94 + 1 / 2.65))
    assert read.provenance["focus_distance"].startswith("middle in diopters of Canon's 2.65..2.94 m")
    assert "sensor" in read.provenance["focus_distance"]
    assert read.pixel_pitch_um == pytest.approx(5.36, rel=1e-3)


def test_real_cameras(shared_data: Callable[[str], Path]) -> None:
    """An EOS R6 and an M50, as ExifTool 12.57 reads them: the bounds stand in FileInfo, ShotInfo holds zeros."""
    expected = {
        "Canon-R6-pruned.CR3": CanonNote(2.94, 2.65, False, "C-RAW", "RF70-200mm F2.8 L IS USM"),
        "exiftool_CanonRaw.cr3": CanonNote(0.24, 0.22, False, "RAW", "EF-M15-45mm f/3.5-6.3 IS STM"),
    }
    for name, truth in expected.items():
        data = (shared_data("dpraw_fixtures/real_headers") / name).read_bytes()
        note = cr3_maker_note(read_cr3(data).blobs[b"CMT3"])
        assert note is not None and read_canon_note(note) == truth, name


@pytest.mark.parametrize(("tag", "at"), [(0x0093, 20), (0x0004, 19)], ids=["FileInfo", "ShotInfo"])
@pytest.mark.parametrize(
    ("upper_cm", "lower_cm", "near_far_m"),
    [(294, 265, (2.65, 2.94)), (265, 294, (2.65, 2.94)), (65535, 1234, (12.34, math.inf)), (0, 0, None), (0, 90, None)],
    ids=["usual", "400D order", "infinity", "none", "half"],
)
def test_focus_bounds(tag: int, at: int, upper_cm: int, lower_cm: int, near_far_m: tuple[float, float] | None) -> None:
    note = read_canon_note(focus_note(tag, at, upper_cm, lower_cm))
    assert (note.focus_distance_lower_m, note.focus_distance_upper_m) == (near_far_m or (None, None))


def test_file_info_before_shot_info() -> None:
    tags = {**focus_note(0x0093, 20, 300, 200).tags, **focus_note(0x0004, 19, 900, 800).tags}
    assert read_canon_note(Ifd(tags, 0)).focus_distance_upper_m == 3.0


def test_infinity_is_known_not_unknown() -> None:
    read = meta(t9206=(Fraction(0xFFFFFFFF, 1),))
    assert read.focus_distance_m == math.inf and read.provenance["focus_distance"] == "SubjectDistance: infinity"
    both = meta(n0093=(0,) * 20 + (65535, 65535))
    assert both.focus_distance_m == math.inf
    half = meta(n0093=(0,) * 20 + (65535, 1000))
    assert half.focus_distance_m == pytest.approx(20)  # 0 and 0.1 diopters
    text = json.dumps(both.to_json(), allow_nan=False)
    assert json.loads(text)["focus_distance_upper_m"] == "inf"


def test_a_lens_at_infinity_gives_metric_depth() -> None:
    known = replace(
        meta(t9206=(Fraction(0xFFFFFFFF, 1),)), f_number=2.0, focal_length_mm=50, pixel_pitch_um=10, disparity_gain=0.4
    )
    lens = lens_of(known)
    assert not isinstance(lens, list)
    disparity_px = optics.disparity_px(5.0, lens)
    assert disparity_px < 0 and optics.depth_m(disparity_px, lens) == pytest.approx(5.0)


def test_subject_distance_comes_first() -> None:
    read = meta(t9206=(Fraction(5, 4),), n0093=(0,) * 20 + (294, 265))
    assert read.focus_distance_m == 1.25 and read.provenance["focus_distance"] == "SubjectDistance"
    assert read.focus_distance_upper_m == 2.94


def test_nothing_known() -> None:
    assert meta() == CaptureMeta()


def test_binning_scales_the_pitch_alone() -> None:
    exif = Ifd({0xA20E: (Fraction(25400, 5),), 0xA210: (2,)}, 0)
    pitches = [capture_meta(EMPTY, exif, binning=b, provenance={}).pixel_pitch_um for b in (1, 2)]
    assert pitches == pytest.approx([5.0, 10.0])


@pytest.mark.parametrize(
    ("written", "offset", "read"),
    [
        ("2024:05:06 07:08:09", "+05:30", "2024-05-06T07:08:09+05:30"),
        ("2024:05:06 07:08:09", "-08:00", "2024-05-06T07:08:09-08:00"),
        ("2024:05:06 07:08:09", "Z; rm", "2024-05-06T07:08:09"),
        ("0000:00:00 00:00:00", "", None),
        ("    :  :     :  :  ", "", None),
        ("2024:02:30 07:08:09", "", None),
    ],
)
def test_date_time(written: str, offset: str, read: str | None) -> None:
    assert meta(t9003=written, t9011=offset).date_time == read


@pytest.mark.parametrize(
    ("tags", "read"),
    [
        ({"t9003": "2024:05:06 07:08:09", "t9291": "05"}, "2024-05-06T07:08:09.05"),
        ({"t9003": "2024:05:06 07:08:09", "t9291": "123456", "t9011": "+02:00"}, "2024-05-06T07:08:09.123456+02:00"),
        ({"t9003": "2024:05:06 07:08:09", "t9291": "000"}, "2024-05-06T07:08:09.000"),  # stated, and none
        ({"t9003": "2024:05:06 07:08:09", "t9291": "x"}, "2024-05-06T07:08:09"),
        ({"t9003": "2024:05:06 07:08:09", "t9292": "7"}, "2024-05-06T07:08:09"),  # of the other time
        ({"t9004": "2024:05:06 07:08:09", "t9292": "7", "t9012": "-01:00"}, "2024-05-06T07:08:09.7-01:00"),
        ({"p0132": "2024:05:06 07:08:09", "t9290": "07", "t9010": "+00:00"}, "2024-05-06T07:08:09.07+00:00"),
        ({"t9003": "2024:05:06 07:08:09", "p0132": "2024:05:06 07:08:09", "t9290": "5", "t9010": "+09:00"},
         "2024-05-06T07:08:09.5+09:00"),  # of the same moment
        ({"t9003": "2024:05:06 07:08:09", "p0132": "2024:06:06 07:08:09", "t9290": "5", "t9010": "+09:00"},
         "2024-05-06T07:08:09"),  # edited a month later
    ],
)  # fmt: skip
def test_fractions_of_a_second_and_other_times(tags: dict[str, str], read: str) -> None:
    assert meta(**tags).date_time == read


def test_text_is_fit_for_a_terminal() -> None:
    read = meta(tA434="EF50mm\x1b[31m\x07 f/1.8\n\x9b  II" + "x" * 500)
    assert read.lens_model is not None and read.lens_model.isprintable() and len(read.lens_model) <= 128
    assert read.lens_model.startswith("EF50mm [31m f/1.8 II")
    assert meta(tA434="\x00\x01 \n").lens_model is None
    assert meta(n0095="EF24-70mm f/4L").lens_model == "EF24-70mm f/4L"


def test_names_and_serial_numbers_are_left_alone() -> None:
    secret = {"tA431": "SECRET", "tA435": "SECRET", "tA430": "SECRET", "n0009": "SECRET", "n000C": (12345678,)}
    assert meta(**secret) == CaptureMeta()


def test_a_note_beyond_the_file_is_no_note() -> None:
    """A damaged directory of notes costs the notes, not the picture."""
    exif = ifd_bytes([Tag(0x927C, UNDEFINED, b"x" * 16)], 8)
    data = bytearray(struct.pack("<2sHI", b"II", 42, 8) + exif)
    data[18:22] = struct.pack("<I", 1 << 31)
    assert cr2_maker_note(TiffReader(bytes(data)), 8) is None
    assert cr3_maker_note(None) is None and cr3_maker_note(b"II*\0\xff\xff\xff\xff") is None


NUMBERS = st.one_of(st.integers(-(2**31), 2**32 - 1), st.floats(), st.fractions(max_denominator=1000))
VALUES = st.one_of(st.text(max_size=40), st.binary(max_size=40), st.lists(NUMBERS, max_size=24).map(tuple))
TAGS = [0x829A, 0x829D, 0x8827, 0x8833, 0x9003, 0x9011, 0x9206, 0x920A, 0xA20E, 0xA210, 0xA434, 0x010F, 0x0110, 0x0112]
NOTES = [0x0001, 0x0004, 0x0093, 0x0095, 0x4018]


@given(st.dictionaries(st.sampled_from(TAGS), VALUES), st.dictionaries(st.sampled_from(NOTES), VALUES))
def test_any_tags_give_possible_values(tags: dict[int, object], notes: dict[int, object]) -> None:
    exif, note = Ifd(tags, 0), Ifd(notes, 0)  # type: ignore[arg-type]
    read = capture_meta(exif, exif, makernote=note, provenance={})
    json.dumps(read.to_json(), allow_nan=False)
    for name, value in vars(read).items():
        if isinstance(value, float):
            assert value > 0 and (math.isfinite(value) or name.startswith("focus_distance")), name
        elif isinstance(value, str):
            assert value.isprintable(), name


@given(st.binary(max_size=200), st.integers(0, 60))
def test_any_bytes_as_notes(noise: bytes, at: int) -> None:
    tags = [
        Tag(0x0001, SHORT, [1, 2, 3, 7]),
        Tag(0x4018, SLONG, [0] * 12),
        Tag(0x9206, RATIONAL, [Fraction(1)]),
        Tag(0x0095, ASCII, b"lens"),
        Tag(0x0010, LONG, [1]),
    ]
    data = bytearray(blob(tags))
    data[8 + at : 8 + at + len(noise)] = noise
    note = cr3_maker_note(bytes(data))
    assert note is None or isinstance(read_canon_note(note), CanonNote)
