"""Canon's maker notes in a DNG: in tag 0x927C as copied or rewritten, or in Adobe's DNGPrivateData."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.cr2 import MODEL, Shot, camera_tags
from tests.support.tiffs import ASCII, SHORT, UNDEFINED, Form, Tags, directory, dng_tags, write_tiff

from dualpix.capture.raw import decode
from dualpix.capture.raw.frames.structure import read_structure
from dualpix.capture.raw.inspect import inspect
from dualpix.capture.stack.keep.frames import frame_meta

SHOT = Shot(lens="RF50mm F1.2 L USM", focus_m=(1.2, 1.1))
PIXELS = np.stack([np.arange(48 * 64).reshape(48, 64) % 997 + 1024, np.arange(48 * 64).reshape(48, 64) % 499 + 768], -1)
MIDDLE_M = 2 / (1 / 1.2 + 1 / 1.1)
CAMERA_OFFSET = 0x2A4
"""Where the notes lay in the camera's own file."""


def notes(at: int, order: str, shot: Shot = SHOT, footer: int | None = None) -> bytes:
    """Canon's directory whose offsets count from a file in which it lies at ``at``."""
    tags: Tags = {
        tag.number: (tag.kind, list(tag.values) if not isinstance(tag.values, bytes) else tag.values)
        for tag in camera_tags(shot, MODEL, 0x80000349, True, quality=4, new=True)
    }
    block = directory(tags, at, Form(order=order))
    end = b"" if footer is None else {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", footer)
    return block + end


def write_dng(path: Path, form: Form, exif: Tags, private: bytes | None = None, make: str = "Canon") -> None:
    further: dict[str, Any] = {} if private is None else {"xC634": (1, private)}
    tags = dng_tags(make=make, model=MODEL, black=(SHORT, [512, 512]), white=[14000, 14000], **further)
    write_tiff(path, PIXELS.astype(np.uint16), tags, form, exif={0x8827: (SHORT, [100]), **exif})


def place_of_notes(path: Path, block: bytes) -> int:
    return path.read_bytes().index(block)


def adobe(block: bytes, order: str, original: int) -> bytes:
    """As Adobe's converter keeps the notes, behind a record of another name and odd length."""
    record = {"<": b"II", ">": b"MM"}[order] + struct.pack(">I", original) + block
    return b"Adobe\0" + b"Xyz " + struct.pack(">I", 3) + b"abc\0" + b"MakN" + struct.pack(">I", len(record)) + record


@pytest.mark.parametrize("note_order", ["<", ">"])
@pytest.mark.parametrize("form", [Form(), Form(order=">"), Form(big=True)], ids=["II", "MM", "BigTIFF"])
def test_notes_whose_offsets_count_from_the_dng(form: Form, note_order: str, tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    block = notes(0, note_order)
    write_dng(path, form, {0x927C: (UNDEFINED, block)})
    rewritten = notes(place_of_notes(path, block), note_order)
    write_dng(path, form, {0x927C: (UNDEFINED, rewritten)})
    check(path)


@pytest.mark.parametrize("note_order", ["<", ">"])
@pytest.mark.parametrize("form", [Form(), Form(order=">")], ids=["II", "MM"])
@pytest.mark.parametrize("footer", [CAMERA_OFFSET, None], ids=["footer", "no footer"])
def test_notes_copied_with_the_offsets_of_the_camera(
    form: Form, note_order: str, footer: int | None, tmp_path: Path
) -> None:
    write_dng(tmp_path / "a.dng", form, {0x927C: (UNDEFINED, notes(CAMERA_OFFSET, note_order, footer=footer))})
    check(tmp_path / "a.dng")


@pytest.mark.parametrize("note_order", ["<", ">"])
@pytest.mark.parametrize("form", [Form(), Form(order=">")], ids=["II", "MM"])
def test_notes_in_the_private_data_of_adobe(form: Form, note_order: str, tmp_path: Path) -> None:
    private = adobe(notes(CAMERA_OFFSET, note_order), note_order, CAMERA_OFFSET)
    write_dng(tmp_path / "a.dng", form, {}, private)
    check(tmp_path / "a.dng")


def check(path: Path) -> None:
    """Focus, lens and flag as from the camera's own file, in every command."""
    meta = decode(path, equalise=False).meta
    assert meta.focus_distance_m == pytest.approx(MIDDLE_M) and meta.lens_model == SHOT.lens
    assert (meta.focus_distance_lower_m, meta.focus_distance_upper_m) == (1.1, 1.2)
    assert meta.provenance["focus_distance"].startswith("middle in diopters of Canon's 1.1..1.2 m")
    answer = inspect(path)
    assert answer.meta.focus_distance_m == pytest.approx(MIDDLE_M) and answer.dual_pixel_raw is True
    assert frame_meta(path).focus_distance_m == pytest.approx(MIDDLE_M)


def test_infinity_names_the_halves_of_a_dng_too(tmp_path: Path) -> None:
    shot = replace(SHOT, focus_m=(math.inf, math.inf))
    write_dng(tmp_path / "a.dng", Form(), {}, adobe(notes(CAMERA_OFFSET, "<", shot), "<", CAMERA_OFFSET))
    meta = decode(tmp_path / "a.dng").meta
    assert meta.focus_distance_m == math.inf and "focused on the farthest thing" in meta.provenance["naming"]


def test_a_stated_subject_distance_comes_first(tmp_path: Path) -> None:
    exif: Tags = {0x9206: (5, [3]), 0x927C: (UNDEFINED, notes(CAMERA_OFFSET, "<"))}
    write_dng(tmp_path / "a.dng", Form(), exif)
    assert decode(tmp_path / "a.dng").meta.focus_distance_m == 3.0


def test_notes_of_other_makers_are_not_read_as_canons(tmp_path: Path) -> None:
    write_dng(tmp_path / "a.dng", Form(), {0x927C: (UNDEFINED, notes(CAMERA_OFFSET, "<"))}, make="Nikon")
    assert decode(tmp_path / "a.dng").meta.focus_distance_m is None
    assert inspect(tmp_path / "a.dng").dual_pixel_raw is None


@pytest.mark.parametrize(
    "private",
    [
        b"",
        b"Adobe\0",
        b"Adobe\0MakN\xff\xff\xff\xff",
        b"Adobe\0MakN\0\0\0\6II\0\0\0\0",
        b"Ricoh\0MakN",
        b"Adobe\0" * 40,
    ],
)
def test_private_data_without_notes(private: bytes, tmp_path: Path) -> None:
    write_dng(tmp_path / "a.dng", Form(), {0x010E: (ASCII, b"x")}, private or b"\0")
    assert decode(tmp_path / "a.dng").meta.focus_distance_m is None


@given(at=st.integers(0, 400), new=st.binary(min_size=1, max_size=12), private=st.booleans())
def test_damaged_notes_cost_nothing_but_themselves(
    at: int, new: bytes, private: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    block = bytearray(notes(CAMERA_OFFSET, "<", footer=CAMERA_OFFSET))
    block[at : at + len(new)] = new
    path = tmp_path_factory.mktemp("n") / "a.dng"
    kept = adobe(bytes(block), "<", CAMERA_OFFSET) if private else None
    write_dng(path, Form(), {} if private else {0x927C: (UNDEFINED, bytes(block))}, kept)
    data = path.read_bytes()
    assert read_structure(data[:64], data).dual
