"""Brackets that a camera took by itself, with an uncertainty that covers the truth."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support.stack_folders import STOPS_D, shoot_stack

from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.raw.containers.tiff import LONG, SHORT, UNDEFINED, Tag, ifd_bytes
from dualpix.capture.raw.write.metadata import exif_tags, picture_tags
from dualpix.capture.stack.judge.verify import verify
from dualpix.capture.stack.keep.bracket import bracket_focus
from dualpix.capture.stack.keep.frames import frame_meta
from dualpix.capture.stack.keep.importer import Given, import_stack
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.stack.keep.record import read_record
from dualpix.capture.types import CaptureMeta

Bounds = tuple[float, float]


def canon_jpeg(path: Path, bounds_cm: tuple[int, int] | None, second: int, *, f_number: float = 5.6) -> None:
    """A JPEG with EXIF and, in Canon's notes, the far and near bound of the focus distance (FileInfo 20, 21)."""
    meta = CaptureMeta(
        camera="Canon EOS R6", f_number=f_number, exposure_s=0.02, iso=200, focal_length_mm=50,
        date_time=f"2026-11-21T10:00:{second:02}",
    )  # fmt: skip
    info = [0] * 20 + list(bounds_cm or (0, 0)) + [0] * 4
    picture = picture_tags(meta, "")
    exif = exif_tags(meta, (6.0, 6.0), srgb=True)

    def block(exif_at: int, note_at: int) -> bytes:
        note = Tag(0x927C, UNDEFINED, ifd_bytes([Tag(0x0093, SHORT, info)], note_at))
        head = struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes([*picture, Tag(0x8769, LONG, [exif_at])], 8)
        return head + ifd_bytes([*exif, note], exif_at)

    exif_at = len(struct.pack("<2sHI", b"II", 42, 8)) + len(ifd_bytes([*picture, Tag(0x8769, LONG, [0])], 8))
    whole = block(exif_at, 0)
    # the notes are the last value of the directory, since their tag comes after all other long ones
    marker = ifd_bytes([Tag(0x0093, SHORT, info)], 0)[:10]
    whole = block(exif_at, whole.index(marker))
    app1 = b"Exif\0\0" + whole
    rng = np.random.default_rng(second)
    done, jpeg = cv2.imencode(".jpg", rng.integers(30, 220, (48, 64, 3)).astype(np.uint8))
    assert done
    data = jpeg.tobytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + data[2:])


def coarse_bounds_m(diopters: Sequence[float], focal_mm: float, grain_d: float) -> list[Bounds]:
    """Bounds as cameras write them: counted from the sensor, on a grid, to the centimetre."""
    out = []
    f = focal_mm / 1000
    for d in diopters:
        u = 1 / d
        at_sensor = 1 / (u + u * f / (u - f))
        low = math.floor(at_sensor / grain_d) * grain_d
        far = math.inf if low <= 0 else round(1 / low, 2)
        out.append((round(1 / (low + grain_d), 2), far))
    return out


def test_a_bracket_of_jpegs_by_canon_s_notes(tmp_path: Path) -> None:
    truth = np.linspace(2.0, 0.4, 9)
    source = tmp_path / "in"
    source.mkdir()
    for number, (near, far) in enumerate(coarse_bounds_m(list(truth), 50, 0.12)):
        # names do not sort in the order of taking; times do
        bounds = (65535 if math.isinf(far) else round(far * 100), round(near * 100))
        canon_jpeg(source / f"IMG_{(number * 7) % 10:04}.jpg", bounds, number)
    assert frame_meta(source / "IMG_0000.jpg").focus_distance_lower_m is not None
    done = import_stack([source], tmp_path / "out")
    frames = done.record.frames
    assert np.all(np.diff([f.achieved_d for f in frames]) > 0)
    assert {f.distance_source for f in frames} == {"bracket"}
    found = np.array([f.achieved_d for f in frames])[::-1]
    sigma = np.array([f.uncertainty_d for f in frames])[::-1]
    assert np.all(np.abs(found - truth) < 2 * sigma)
    assert "by EXIF time" in done.notes[0]
    assert "even in diopters" in done.notes[1] and "standard deviation" in done.notes[1]
    assert frames[0].focus_distance_upper_m is not None and frames[0].taken_at == "2026-11-21T10:00:08"
    assert (frames[0].f_number, frames[0].exposure_s, frames[0].iso) == (5.6, 0.02, 200)
    for frame in frames:
        data = (tmp_path / "out" / frame.files[0]).read_bytes()
        assert data == (source / frame.details["original"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == frame.sha256[0]
    assert read_record(tmp_path / "out") == done.record
    stack = load_stack(tmp_path / "out")
    assert (stack.lens.focal_length_mm, stack.lens.f_number) == (50, 5.6)
    assert stack.lens.pixel_pitch_um == pytest.approx(6.0)


def test_a_bracket_of_raws_verifies(tmp_path: Path) -> None:
    shot = shoot_stack(tmp_path / "shot")
    done = import_stack(sorted((tmp_path / "shot").glob("*.dng")), tmp_path / "out")
    found = [f.achieved_d for f in done.record.frames]
    sigma = [f.uncertainty_d for f in done.record.frames]
    assert np.all(np.abs(np.array(found) - STOPS_D) < 2 * np.array(sigma))
    assert max(sigma) < 0.1  # the file has 0.1 D steps
    result = verify(tmp_path / "out")
    assert {f.code for f in result.findings if f.severity != "note"} <= {"uncertain"}
    assert len(shot.truth) == 9


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1.0, 4.0), st.floats(0.05, 0.6), st.integers(4, 25), st.floats(0.02, 0.2),
    st.sampled_from([24.0, 50.0, 100.0]),
)  # fmt: skip
def test_stated_uncertainty_covers_even_brackets(
    near: float, far: float, count: int, grain: float, focal_mm: float
) -> None:
    truth = np.linspace(near, far, count)
    assume(near * focal_mm / 1000 < 0.2)
    found = bracket_focus(coarse_bounds_m(list(truth), focal_mm, grain), focal_mm)
    assert np.all(np.abs(np.array(found.diopters) - truth) < 3 * np.array(found.uncertainty_d))


def test_frames_at_infinity_and_frames_that_say_nothing_are_on_the_line() -> None:
    truth = np.linspace(2.0, 0.0, 11)
    written: list[Bounds | float | None] = list(coarse_bounds_m(list(truth[:-1]), 50, 0.1))
    written[4] = None
    found = bracket_focus([*written, (math.inf, math.inf)], 50.0)
    assert found.even and np.all(np.abs(np.array(found.diopters) - truth) < 0.15)


def test_uneven_steps_are_taken_frame_by_frame() -> None:
    truth = [2.0, 1.9, 1.0, 0.95, 0.2]
    found = bracket_focus([(1 / (d + 0.01), 1 / (d - 0.01)) for d in truth], None)
    assert not found.even
    assert found.diopters == pytest.approx(truth)
    assert "not even" in found.note
    assert all(0.004 < sigma < 0.02 for sigma in found.uncertainty_d)


@pytest.mark.parametrize(
    ("written", "message"),
    [([None, None, None], "0 of 3 frames"), ([1.0, 1.0, 1.0], "too coarse"), ([1.0, 0.3, 1.0, 0.2], "too coarse")],
)
def test_distances_that_tell_nothing_are_refused(written: list[float | None], message: str) -> None:
    with pytest.raises(DualpixError, match=message):
        bracket_focus(written, 50.0)


def plain_pictures(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        cv2.imwrite(str(folder / f"IMG_{number + 8}.png"), rng.integers(20, 230, (40, 48, 3)).astype(np.uint8))
    return [folder / f"IMG_{number + 8}.png" for number in range(count)]


def test_a_list_of_distances_and_two_ends(tmp_path: Path) -> None:
    files = plain_pictures(tmp_path / "in", 4)  # IMG_8 ... IMG_11: 10 comes after 9
    given_list = Given(
        diopters=(2.0, 1.0, 0.5, 0.0), uncertainty_d=0.03, f_number=4.0, focal_length_mm=35.0, pixel_pitch_um=5
    )
    done = import_stack(files, tmp_path / "list", given_list)
    by_name = {f.details["original"]: f for f in done.record.frames}
    assert [by_name[path.name].achieved_d for path in files] == [2.0, 1.0, 0.5, 0.0]
    assert {f.uncertainty_d for f in done.record.frames} == {0.03}
    lens = load_stack(tmp_path / "list").lens
    assert (lens.focal_length_mm, lens.f_number, lens.pixel_pitch_um) == (35, 4, 5)
    ends = import_stack(files, tmp_path / "ends", Given(ends_d=(2.0, 0.5)))
    by_name = {f.details["original"]: f for f in ends.record.frames}
    assert [by_name[path.name].achieved_d for path in files] == pytest.approx([2.0, 1.5, 1.0, 0.5])
    with pytest.raises(DualpixError, match="4 frames and 3 distances"):
        import_stack(files, tmp_path / "wrong", Given(diopters=(1.0, 2.0, 3.0)))


def test_what_cannot_be_imported_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    files = plain_pictures(tmp_path / "in", 3)
    with pytest.raises(DualpixError, match="two focus frames"):
        import_stack(files[:1], tmp_path / "out", Given(diopters=(1.0,)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DualpixError, match="no frames in"):
        import_stack([tmp_path / "empty"], tmp_path / "out")
    files[1].write_bytes(files[1].read_bytes()[:300])
    with pytest.raises(DecodeError, match="cut PNG"):
        import_stack(files, tmp_path / "out", Given(diopters=(1.0, 0.5, 0.2)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "in"]
    shot = shoot_stack(tmp_path / "shot", diopters=(0.5, 1.0))
    with pytest.raises(DualpixError, match="is a stack already"):
        import_stack([shot.folder], tmp_path / "out")


def test_frames_of_several_brackets_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number in range(4):
        canon_jpeg(source / f"{number}.jpg", (200 + 10 * number, 190 + 10 * number), number, f_number=4 + number // 2)
    with pytest.raises(DualpixError, match=r"2 apertures: 4.0, 5.0"):
        import_stack([source], tmp_path / "out")
