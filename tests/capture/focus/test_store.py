"""Kept calibrations: found again, dated, never overwritten, damage told from absence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.capture.focus.fakes import true_calibration

from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.focus import store

KEPT = true_calibration()


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUALPIX_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_nothing_is_found_where_nothing_was_kept() -> None:
    assert store.find("Body 42", "Lens 50", 50.0) is None
    assert store.everything() == []


def test_newest_of_a_lens_is_found_and_history_stays(data_folder: Path) -> None:
    first = store.save(KEPT)
    second = store.save(true_calibration(jitter=0.02))
    assert first != second
    assert store.history("Body 42", "Lens 50", 50.0) == [first, second]
    found = store.find("Body 42", "Lens 50", 50.0)
    assert found is not None
    assert found.jitter == 0.02
    assert store.read(first) == KEPT
    assert first.parent.parent == data_folder / "lenses"
    assert store.everything() == [second]


def test_body_lens_and_focal_length_are_told_apart() -> None:
    for changed in ({"body": "Body 43"}, {"lens": "Lens 51"}, {"focal_length_mm": 35.0}, {"focal_length_mm": None}):
        store.save(true_calibration(**changed))
        assert store.find("Body 42", "Lens 50", 50.0) is None
    store.save(KEPT)
    assert store.find("Body 42", "Lens 50", 50.0) == KEPT
    assert store.find("Body 42", "Lens 50", None) == true_calibration(focal_length_mm=None)
    assert len(store.everything()) == 5


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/abs", "EF24-70mm f/2.8L II USM", "", "\x00\n", "レンズ", "x" * 900]
)
def test_names_from_devices_stay_inside_the_folder(data_folder: Path, name: str) -> None:
    short = name[:256]
    path = store.save(true_calibration(body=short, lens=short))
    assert path.parent.parent == data_folder / "lenses"
    assert len(path.parent.name) < 120
    assert path.parent.name.isascii()
    assert store.find(short, short, 50.0) is not None


def test_names_that_look_the_same_as_folders_are_two_lenses() -> None:
    store.save(true_calibration(lens="A/B"))
    assert store.find("Body 42", "A-B", 50.0) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON"),
        (b'{"format": 1', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"{}", "has no 'backlash_units'"),
        (b" " * (2 << 20), "has over"),
    ],
)
def test_damage_is_said_not_taken_for_absence(content: bytes, message: str) -> None:
    path = store.save(KEPT)
    path.write_bytes(content)
    with pytest.raises(DualpixError, match=message) as caught:
        store.find("Body 42", "Lens 50", 50.0)
    assert str(path) in str(caught.value)


def test_file_of_another_lens_in_the_folder_is_refused() -> None:
    path = store.save(KEPT)
    path.write_text(json.dumps(true_calibration(lens="Other").to_json()))
    with pytest.raises(DualpixError, match="is the calibration of 'Other'"):
        store.find("Body 42", "Lens 50", 50.0)


def test_folder_that_cannot_be_written(data_folder: Path) -> None:
    data_folder.parent.mkdir(exist_ok=True)
    data_folder.write_text("a file")
    with pytest.raises(OutputError):
        store.save(KEPT)


def test_default_is_the_user_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DUALPIX_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.root().is_relative_to(tmp_path)
    assert store.root().parts[-2:] == ("dualpix", "lenses")
