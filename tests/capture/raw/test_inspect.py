"""``dualpix inspect``: the right answer, its reason, and an answer for every file that is none."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cr2 import Shot
from tests.support.dng import write_frame_dng
from tests.support.dump import interleave, write_dump
from tests.support.fixtures import KINDS, Kind, Recipe, suffix, write, write_frames
from tests.support.halves import CROP, sensor_frames
from tests.support.pgm import write_pdcapture

from dualpix.capture.cli import main
from dualpix.capture.errors import DecodeError
from dualpix.capture.raw import DECODERS
from dualpix.capture.raw.formats.dump import Dump
from dualpix.capture.raw.frames.structure import COMPOSITE, HALF, LINEAR, PREVIEW, SHOT, SINGLE, FrameInfo
from dualpix.capture.raw.inspect import Inspection, inspect
from dualpix.capture.raw.inspect_cli import formats_json, formats_table

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """``dualpix inspect ...`` in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "120")

    def call(*args: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["inspect", *map(str, args)])
        seen = capsys.readouterr()
        return int(stopped.value.code or 0), seen.out, seen.err

    return call


def raws(answer: Inspection) -> list[FrameInfo]:
    return [frame for frame in answer.frames if frame.index is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_dual_pixel_raw(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / f"a{suffix(kind)}"
    shot = Shot(orientation=6, iso=800, lens="RF50mm F1.2 L USM", focus_m=(2.94, 2.65))
    truth = write(path, Recipe(kind, shot=shot, black=((512, 514, 515, 517), 509), stated_black=520))
    answer = inspect(path)
    assert answer.dual_pixel and answer.broken is None
    assert [(f.role, f.index) for f in raws(answer)] == [(COMPOSITE, 0), (HALF, 1)]
    height, width = truth.composite.shape
    assert all((f.width, f.height, f.clip) == (width, height, None) for f in raws(answer))
    assert {f.bits for f in raws(answer)} == {16 if kind.startswith("DNG") else 14}
    assert answer.crop == truth.crop and answer.baseline == "y" and answer.meta.orientation == 6
    assert answer.meta.lens_model == shot.lens and answer.meta.iso == 800
    stated = {f.black_source for f in raws(answer)}
    assert stated == ({"metadata"} if kind.startswith("DNG") else {None})
    assert answer.decode.startswith("canon: ")

    measured = inspect(path, levels=True)
    for frame, black in zip(raws(measured), truth.black, strict=True):
        assert frame.black_source == "masked columns" and frame.black == pytest.approx(black, abs=0.3)
        assert frame.clip == (frame.white,) * 4
    assert measured.light_ratio == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "coding", "form"),
    [
        ("CR2", "lossless JPEG", "CR2"),
        ("CR3", "lossless CRX", "CR3"),
        ("C-RAW", "C-RAW, 3 wavelet levels", "CR3 C-RAW"),
        ("DNG-strip", "none", "DNG"),
        ("DNG-tiles-ljpeg", "lossless JPEG", "DNG"),
    ],
)
def test_coding(tmp_path: Path, kind: Kind, coding: str, form: str) -> None:
    path = tmp_path / "a"
    write(path, Recipe(kind))
    answer = inspect(path)
    assert answer.format == form and {f.compression for f in raws(answer)} == {coding}
    assert sum(f.size_bytes or 0 for f in answer.frames if f.role != HALF) < answer.size_bytes


@pytest.mark.parametrize("kind", ["CR2", "CR3"])
def test_an_ordinary_raw_is_an_answer(tmp_path: Path, kind: Kind, run: Run) -> None:
    path = tmp_path / "plain"
    write_frames(path, Recipe(kind), sensor_frames().composite, None)
    answer = inspect(path, levels=True)
    assert not answer.dual_pixel and answer.dual_pixel_raw is False and answer.baseline is None
    assert "turn on Dual Pixel RAW in the camera" in answer.why and answer.decode.startswith("refuse it: one raw")
    assert [f.role for f in answer.frames] == [PREVIEW, SINGLE]
    assert raws(answer)[0].black == pytest.approx([512] * 4, abs=0.3)
    code, out, err = run(path)
    assert code == 0 and "not dual-pixel" in out and not err


def test_the_flag_and_the_structure_disagree(tmp_path: Path) -> None:
    """The frames decide; the flag says what happened to the file."""
    frames, path = sensor_frames(), tmp_path / "a.cr2"
    write_frames(path, Recipe("CR2", shot=Shot(dual=True)), frames.composite, None)
    answer = inspect(path)
    assert not answer.dual_pixel and "flag is on: the second frame was lost" in answer.why
    write_frames(path, Recipe("CR2", shot=Shot(dual=False)), frames.composite, frames.half)
    answer = inspect(path)
    assert answer.dual_pixel and answer.why.endswith("the DualPixelRaw flag is off")


def test_a_roll_holds_separate_shots(tmp_path: Path) -> None:
    path = tmp_path / "roll.cr3"
    frames = sensor_frames()
    write_frames(path, Recipe("CR3"), frames.composite, None)
    data = bytearray(path.read_bytes())
    at = data.find(b"stsz")
    while at >= 0:
        data[at + 12 : at + 16] = struct.pack(">I", 3)
        at = data.find(b"stsz", at + 4)
    path.write_bytes(data)
    answer = inspect(path)
    assert not answer.dual_pixel and answer.why.startswith("a roll of 3 separate shots")
    assert raws(answer)[0].role == SHOT


def test_two_equal_frames_are_no_halves(tmp_path: Path) -> None:
    frames, path = sensor_frames(), tmp_path / "a.cr3"
    write_frames(path, Recipe("CR3"), frames.composite, frames.composite)
    assert inspect(path).dual_pixel  # by its structure
    answer = inspect(path, levels=True)
    assert not answer.dual_pixel and answer.light_ratio == pytest.approx(1.0)
    assert "1.00 of the light" in answer.why and answer.decode.startswith("refuse it")


def test_frames_in_two_files(tmp_path: Path, run: Run) -> None:
    frames = sensor_frames(black=(512, 500))
    write_frame_dng(tmp_path / "a.dng", frames.composite, CROP, black=512)
    alone = inspect(tmp_path / "a.dng")
    assert not alone.dual_pixel and alone.why == "SamplesPerPixel 1"
    write_frame_dng(tmp_path / "a_sub.dng", frames.half, CROP, black=500)
    answer = inspect(tmp_path / "a.dng", levels=True)
    assert answer.dual_pixel and "'a_sub.dng'" in answer.why and answer.decode.startswith("dng-pair: ")
    assert [(f.role, f.index, bool(f.file)) for f in raws(answer)] == [(COMPOSITE, 0, False), (HALF, 1, True)]
    assert [round((f.black or (0,))[0]) for f in raws(answer)] == [512, 500]
    assert answer.light_ratio == pytest.approx(0.5, abs=0.02)
    shutil.move(tmp_path / "a_sub.dng", tmp_path / "other.dng")
    code, out, _ = run(tmp_path / "a.dng", "--sub", tmp_path / "other.dng", "--json")
    assert code == 0 and json.loads(out)[0]["dual_pixel"] is True


def test_what_is_wrong_with_a_file_of_both_halves_is_not_a_right_file_that_it_never_has(tmp_path: Path) -> None:
    half = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
    np.savez(tmp_path / "unequal.npz", left=half, right=half[:10])
    np.savez(tmp_path / "cut.npz", left=half, right=half)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:5000])
    write_dump(tmp_path / "d.raw", half)
    for name, dump, expected in (
        ("unequal.npz", None, "two files of the same form"),
        ("cut.npz", None, "unreadable archive"),
        ("d.raw", Dump(96, 65), "12480 for 96x65 samples"),
    ):
        answer = inspect(tmp_path / name, dump=dump)
        assert answer.decode == "refuse it: damaged" and expected in (answer.broken or ""), name


def test_pairs(tmp_path: Path, run: Run) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(64, 1000, (2, 64, 96), np.uint16)
    for name, view in (("left", left), ("right", right)):
        write_pdcapture(tmp_path / f"T_{name}.pgm", view)
        cv2.imwrite(str(tmp_path / f"{name}.png"), (view // 4).astype(np.uint8))
    answer = inspect(tmp_path / "T_left.pgm")
    assert answer.dual_pixel and answer.format == "PDCapture PGM, 10 bit" and "T_right.pgm" in answer.why
    assert [(f.role, f.width, f.height, f.black, f.white) for f in answer.frames] == [
        ("left view", 96, 64, (64.0,), 1023),
        ("right view", 96, 64, (64.0,), 1023),
    ]
    lone = inspect(tmp_path / "T_right.pgm")
    assert not lone.dual_pixel and "name the left file" in lone.why and lone.broken is None
    given_right = inspect(tmp_path / "right.png", right=tmp_path / "left.png")
    assert given_right.dual_pixel and given_right.decode.startswith("pair: ")
    code, out, _ = run(tmp_path / "T_left.pgm", tmp_path / "T_right.pgm")
    assert code == 0 and "left view" in out and "not dual-pixel" in out


def test_a_dump_with_its_geometry(tmp_path: Path, run: Run) -> None:
    left, right = np.random.default_rng(0).integers(64, 1000, (2, 16, 24), np.uint16)
    write_dump(tmp_path / "a.raw", interleave(left, right))
    code, out, _ = run(tmp_path / "a.raw", "--dump", "48x16", "--json")
    (record,) = json.loads(out)
    assert code == 0 and record["dual_pixel"] and [f["width"] for f in record["frames"]] == [24, 24]
    code, _, err = run(tmp_path / "a.raw")
    assert code == 2 and "neither a raw file nor a picture" in err


@pytest.mark.parametrize("kind", ["CR2", "CR3", "DNG-strip"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.95])
def test_a_cut_file(tmp_path: Path, kind: Kind, keep: float, run: Run) -> None:
    path = tmp_path / f"cut{suffix(kind)}"
    write(path, Recipe(kind))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    answer = inspect(path)
    assert answer.broken and answer.decode == "refuse it: damaged"
    if keep > 0.1:
        assert answer.meta.camera and answer.broken.startswith("cut: its pixel data end at byte")
    code, out, _ = run(path)
    assert code == 2 and "damage" in out


def test_damage_in_the_pixels_shows_when_they_are_read(tmp_path: Path) -> None:
    """By default nothing but headers is read: fast, and blind for the rest."""
    path = tmp_path / "a.cr2"
    write(path, Recipe("CR2"))
    data = bytearray(path.read_bytes())
    data[-len(data) // 4 : -64] = bytes(len(data) // 4 - 64)
    path.write_bytes(data)
    assert inspect(path).broken is None
    assert "damaged" in (inspect(path, levels=True).broken or "")


def test_many_files_and_one_bad(tmp_path: Path, run: Run) -> None:
    write(tmp_path / "a.cr3", Recipe("CR3"))
    (tmp_path / "notes.txt").write_text("nothing to see here")
    code, out, _ = run(tmp_path / "a.cr3", tmp_path / "notes.txt", tmp_path / "gone.cr2", "--json")
    good, bad, gone = json.loads(out)
    assert code == 2 and good["error"] is None and good["dual_pixel"] is True
    assert "neither a raw file nor a picture" in bad["error"] and "no file" in gone["error"]
    code, _, err = run(tmp_path / "gone.cr2")
    assert code == 2 and err.startswith("dualpix: error: no file") and err.count("\n") == 1


def test_json_has_everything(tmp_path: Path, run: Run) -> None:
    write(tmp_path / "a.cr3", Recipe("CR3", shot=Shot(focus_m=(float("inf"), 10.0))))
    code, out, _ = run(tmp_path / "a.cr3", "--levels", "--json")
    (record,) = json.loads(out)
    assert code == 0
    assert {"file", "format", "size_bytes", "dual_pixel", "why", "decode", "frames", "meta", "baseline"} <= set(record)
    assert record["crop"] == {"left": CROP.left, "top": CROP.top, "width": CROP.width, "height": CROP.height}
    assert record["meta"]["focus_distance_upper_m"] == "inf" and record["meta"]["focus_distance_m"] == pytest.approx(20)
    assert record["frames"][1]["clip"] and record["frames"][1]["black_source"] == "masked columns"


def test_what_a_file_says_is_no_markup(tmp_path: Path, run: Run) -> None:
    write(tmp_path / "[red]a.cr2", Recipe("CR2", shot=Shot(lens="[bold]EF[/bold] \x1b[31m50mm [link=x]")))
    code, out, _ = run(tmp_path / "[red]a.cr2")
    assert code == 0 and "[bold]EF[/bold] [31m50mm [link=x]" in out and "[red]a.cr2" in out and "\x1b" not in out


def test_formats_name_every_decoder() -> None:
    records = formats_json()
    assert [record["name"] for record in records] == [decoder.name for decoder in DECODERS]
    assert all(record["summary"] and record["needs"] for record in records)
    assert json.loads(json.dumps(records)) == records
    table = formats_table()
    assert table.row_count == len(DECODERS)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_hostile_headers(
    data: st.DataObject, originals: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Damaged bytes give an answer or a refusal, never another exception, and quickly."""
    name = data.draw(st.sampled_from(sorted(originals)))
    content = bytearray(originals[name])
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, min(len(content), 6000) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"hostile{Path(name).suffix}"
    path.write_bytes(content)
    start = time.monotonic()
    with suppress(DecodeError):
        json.dumps(inspect(path).to_json(), allow_nan=False)
    assert time.monotonic() - start < 5


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    kinds: tuple[Kind, ...] = ("CR2", "CR3", "DNG-strip", "DNG-tiles-ljpeg")
    for kind in kinds:
        write(folder / f"{kind}{suffix(kind)}", Recipe(kind))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_real_headers(shared_data: Callable[[str], Path], run: Run) -> None:
    """Files of real cameras whose pixel data were cut off: all of the header is told, and that they are cut."""
    folder = shared_data("dpraw_fixtures/real_headers")
    answer = inspect(folder / "Canon-R6-pruned.CR3")
    assert answer.format == "CR3 C-RAW" and answer.dual_pixel_raw is False
    assert (answer.meta.camera, answer.meta.lens_model) == ("Canon EOS R6", "RF70-200mm F2.8 L IS USM")
    assert answer.broken == "cut: its pixel data end at byte 5153808, the file has 492016 bytes"
    phone: Any = inspect(folder / "IMG_1361.dng")
    assert not phone.dual_pixel and phone.broken is None and phone.why == "no mosaic: already demosaiced"
    assert LINEAR in {f.role for f in phone.frames}
    assert run(*sorted(folder.iterdir()))[0] == 2
