"""Whose frame is whose: folders, patterns, the command line, times and names, from the files to the record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.brackets import META, scene_frame, taken, write_bracket, write_shot

from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.keep.importer import Given, Imported, import_stack
from dualpix.capture.stack.keep.record import read_record

ENDS = Given(ends_d=(2.5, 0.5))


def originals(done: Imported) -> list[str]:
    """In the order of taking: from the first focus that was given to the last."""
    return [str(frame.details["original"]) for frame in reversed(done.record.frames)]


def test_a_folder_and_a_pattern_are_taken_by_the_value_of_their_numbers(tmp_path: Path) -> None:
    names = [f"frame_{n}.jpg" for n in range(1, 12)]
    files = write_bracket(tmp_path / "in", names, [None] * 11)
    for sources in ([tmp_path / "in"], sorted(files), files):
        done = import_stack(sources, tmp_path / "out", ENDS)
        assert originals(done) == names
        assert "order: by name, numbers by their value, frame_1.jpg to frame_11.jpg" in done.notes[0]


ROLLED = ["IMG_9997.JPG", "IMG_9998.JPG", "IMG_9999.JPG", "IMG_0001.JPG", "IMG_0002.JPG", "IMG_0003.JPG"]


def test_times_order_a_bracket_whose_numbers_ran_over(tmp_path: Path) -> None:
    files = write_bracket(tmp_path / "in", ROLLED, [taken(META, n) for n in range(6)])
    done = import_stack([tmp_path / "in"], tmp_path / "out", ENDS)
    assert originals(done) == ROLLED and "order: by EXIF time" in done.notes[0]
    assert done.record.frames[-1].taken_at == "2024-05-01T10:00:00"
    assert originals(import_stack(sorted(files), tmp_path / "out", ENDS)) == ROLLED


def test_numbers_that_ran_over_without_times(tmp_path: Path) -> None:
    write_bracket(tmp_path / "in", ROLLED, [None] * 6)
    done = import_stack([tmp_path / "in"], tmp_path / "out", ENDS)
    assert originals(done) == ROLLED and "counter ran over" in done.notes[0]


def test_a_burst_within_a_second_is_parted_by_its_fractions(tmp_path: Path) -> None:
    """SubSecTimeOriginal, as phones and fast cameras write it."""
    names = ["c.jpg", "a.jpg", "d.jpg", "b.jpg"]
    write_bracket(tmp_path / "in", names, [taken(META, f"00.{n}5") for n in range(4)])
    done = import_stack([tmp_path / "in"], tmp_path / "out", ENDS)
    assert originals(done) == names and "10:00:00.05 to 2024-05-01 10:00:00.35" in done.notes[0]


def test_png_and_raw_frames_have_times_as_well(tmp_path: Path) -> None:
    names = ["z.png", "y.png", "x.png"]
    write_bracket(tmp_path / "in", names, [taken(META, n) for n in range(3)])
    assert originals(import_stack([tmp_path / "in"], tmp_path / "out", ENDS)) == names


def test_the_user_s_own_order_stays(tmp_path: Path) -> None:
    files = write_bracket(tmp_path / "in", ROLLED, [taken(META, 50 - n) for n in range(6)])  # times run backwards
    done = import_stack(files, tmp_path / "out", ENDS)
    assert originals(done) == ROLLED and done.notes[0].startswith("order: as named")
    assert originals(import_stack(files[::-1], tmp_path / "out", ENDS)) == ROLLED[::-1]


def test_far_to_near_is_as_good_as_near_to_far(tmp_path: Path) -> None:
    write_bracket(tmp_path / "in", ["1.jpg", "2.jpg", "3.jpg"], [None] * 3)
    done = import_stack([tmp_path / "in"], tmp_path / "out", Given(ends_d=(0.5, 2.5)))
    assert [(f.details["original"], f.achieved_d) for f in done.record.frames] == [
        ("1.jpg", 0.5), ("2.jpg", 1.5), ("3.jpg", 2.5),
    ]  # fmt: skip


def test_a_list_of_distances_follows_the_order(tmp_path: Path) -> None:
    names = [f"f{n}.jpg" for n in (9, 10, 11)]
    write_bracket(tmp_path / "in", names, [None] * 3)
    done = import_stack([tmp_path / "in"], tmp_path / "out", Given(diopters=(2.0, 1.2, 0.5)))
    assert originals(done) == names
    with pytest.raises(DualpixError, match="3 frames and 2 distances"):
        import_stack([tmp_path / "in"], tmp_path / "out", Given(diopters=(2.0, 1.2)))


def test_a_frame_that_is_named_twice(tmp_path: Path) -> None:
    path = write_shot(tmp_path / "a.jpg", scene_frame(0))
    with pytest.raises(DualpixError, match=r"a.jpg' is named twice"):
        import_stack([path, path], tmp_path / "out", ENDS)


def test_the_order_is_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bracket(tmp_path / "in", ROLLED, [taken(META, n) for n in range(6)])
    command = ["capture", "import", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--first", "0.4", "--last", "2"]
    for order, said, code in (
        ("name", "by name, whose counter ran over", 0), ("time", "by EXIF time", 0), ("given", "has no order", 2),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--order", order])
        assert (stopped.value.code or 0) == code
        shown = capsys.readouterr()
        assert said in shown.out + shown.err


def test_what_was_said_is_kept_and_said_beside_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bracket(tmp_path / "in", ROLLED, [taken(META, n) for n in range(6)])
    with pytest.raises(SystemExit) as stopped:
        main(["capture", "import", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--json"])
    shown = capsys.readouterr()
    notes = json.loads(shown.out)["plan"]["parameters"]["notes"]
    assert not stopped.value.code and "order: by EXIF time" in notes[0] and f"dualpix: note: {notes[0]}" in shown.err
    assert read_record(tmp_path / "out").plan["parameters"]["notes"] == notes
