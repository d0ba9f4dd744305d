"""The order of frames: as named, by EXIF time, by name; numbers by value, counters that run over, shell patterns."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.keep.order import TakenOrder, natural_key, taken_order


def ordered(names: list[str], times: list[str | None] | None = None, **how: object) -> tuple[list[str], TakenOrder]:
    found = taken_order([Path(n) for n in names], times or [None] * len(names), **{"named": False, **how})
    return [names[place] for place in found.places], found


@pytest.mark.parametrize(
    "names",
    [
        ["frame_1.jpg", "frame_2.jpg", "frame_9.jpg", "frame_10.jpg", "frame_11.jpg"],
        ["IMG_8.JPG", "img_9.jpg", "IMG_10.JPG", "img_11.jpg"],
        ["2024-05-01 stack 2 (9).tif", "2024-05-01 stack 2 (10).tif", "2024-05-01 stack 10 (1).tif"],
        ["1.png", "02.png", "3.png", "004.png", "10.png"],
        ["PXL_20240501_095959998.jpg", "PXL_20240501_100000001.jpg", "PXL_20240501_100000912.jpg"],
        ["00000IMG_00000_BURST2019_COVER.jpg", "00001IMG_00001_BURST2019.jpg", "00010IMG_00010_BURST2019.jpg"],
        ["20240501_100000_009.jpg", "20240501_100000_010.jpg"],
        ["100CANON/IMG_9998.CR3", "100CANON/IMG_9999.CR3", "101CANON/IMG_0001.CR3"],
        ["a²1.png", "a²2.png", "a²10.png"],
        ["٣.png", "٤.png"],
        ["IMG_1.jpg", "IMG_1b.jpg", "IMG_2.jpg"],
    ],
)
def test_names_sort_by_the_value_of_their_numbers(names: list[str]) -> None:
    assert ordered(sorted(names))[0] == names
    assert ordered(sorted(names, reverse=True))[0] == names


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["IMG_0001.JPG", "IMG_0002.JPG", "IMG_9998.JPG", "IMG_9999.JPG"], "IMG_9998.JPG"),
        (["P5010001.ORF.jpg", "P5010002.ORF.jpg"], "P5010001.ORF.jpg"),
        (["P5010003.JPG", "P5019997.JPG"], "P5019997.JPG"),  # frames may be missing
        (["DSC00001.JPG", "DSC09999.JPG"], "DSC09999.JPG"),
        (["_DSC0001.jpg", "_DSC5000.jpg"], "_DSC0001.jpg"),  # half a counter away: no bracket's way over
        (["PXL_20240501_100000050.jpg", "PXL_20240501_100009850.jpg"], "PXL_20240501_100000050.jpg"),
        (["IMG_0001.JPG", "DSC_9999.JPG"], "DSC_9999.JPG"),
    ],
)
def test_a_counter_that_runs_over_begins_before_it(names: list[str], first: str) -> None:
    found, how = ordered(names)
    assert found[0] == first and how.source == "name"


ROLLED = ["IMG_0001.JPG", "IMG_0002.JPG", "IMG_9998.JPG", "IMG_9999.JPG"]


def test_times_come_before_names() -> None:
    times: list[str | None] = [f"2024-05-01T10:00:{s:02}" for s in (5, 1, 9, 3)]
    found, how = ordered(ROLLED, times)
    assert found == ["IMG_0002.JPG", "IMG_9999.JPG", "IMG_0001.JPG", "IMG_9998.JPG"]
    assert how.source == "time" and "by EXIF time, IMG_0002.JPG to IMG_9998.JPG" in how.note
    assert "2024-05-01 10:00:01 to 2024-05-01 10:00:09" in how.note
    assert "by name it would be IMG_9998.JPG to IMG_0002.JPG" in how.note


def test_fractions_of_a_second_part_equal_seconds() -> None:
    names = ["c.jpg", "b.jpg", "a.jpg"]
    times: list[str | None] = ["2024-05-01T10:00:00.05", "2024-05-01T10:00:00.4", "2024-05-01T10:00:00.512"]
    assert ordered(names, times)[0] == names


def test_equal_times_are_parted_by_name() -> None:
    """A burst without sub-seconds: groups of frames state one second."""
    names = ["IMG_9.jpg", "IMG_10.jpg", "IMG_11.jpg", "IMG_8.jpg"]
    times: list[str | None] = [
        "2024-05-01T10:00:01",
        "2024-05-01T10:00:01",
        "2024-05-01T10:00:00",
        "2024-05-01T10:00:00",
    ]
    found, how = ordered(names, times)
    assert found == ["IMG_8.jpg", "IMG_11.jpg", "IMG_9.jpg", "IMG_10.jpg"]
    assert "equal times by name" in how.note
    found, how = ordered(ROLLED, ["2024-05-01T10:00:01"] * 4)
    assert found[0] == "IMG_9998.JPG" and how.source == "name" and "times are all equal" in how.note


def test_a_fraction_that_only_some_state_is_left_out() -> None:
    times: list[str | None] = ["2024-05-01T10:00:00.9", "2024-05-01T10:00:00", "2024-05-01T10:00:01"]
    assert ordered(["a1.jpg", "a2.jpg", "a3.jpg"], times)[0] == ["a1.jpg", "a2.jpg", "a3.jpg"]


def test_offsets_count_where_all_state_them() -> None:
    """The clock of the phone went back an hour within the bracket."""
    names = ["b.jpg", "a.jpg"]
    assert ordered(names, ["2024-10-27T02:59:59+02:00", "2024-10-27T02:00:01+01:00"])[0] == names
    assert ordered(names, ["2024-10-27T02:59:59+02:00", "2024-10-27T02:00:01"])[0] == names[::-1]


@pytest.mark.parametrize("lost", [None, "", "no time"])
def test_one_frame_without_a_time_leaves_it_to_the_names(lost: str | None) -> None:
    found, how = ordered(["b2.jpg", "b10.jpg"], ["2024-05-01T10:00:09", lost])
    assert found == ["b2.jpg", "b10.jpg"] and "1 of 2 files state no time" in how.note


TIMES: list[str | None] = [f"2024-05-01T10:00:0{s}" for s in (3, 2, 1)]


@pytest.mark.parametrize(
    ("named", "source"),
    [
        (["b.jpg", "c.jpg", "a.jpg"], "given"),
        (["c.jpg", "b.jpg", "a.jpg"], "given"),
        (["IMG_9999.jpg", "IMG_0001.jpg", "IMG_0002.jpg"], "given"),
        (["f_1.jpg", "f_10.jpg", "f_2.jpg"], "time"),  # what bash makes of *
        (["f_1.jpg", "f_2.jpg", "f_10.jpg"], "time"),  # what zsh and file managers do
        (["A.jpg", "b.jpg", "C.jpg"], "time"),  # in a locale without case
        (["B.jpg", "C.jpg", "a.jpg"], "time"),  # in the C locale
        (["f-1.jpg", "f_2.jpg", "f 3.jpg"], "time"),  # a locale that looks at letters and digits first
    ],
)
def test_the_order_of_the_command_line_counts_where_no_shell_made_it(named: list[str], source: str) -> None:
    found, how = ordered(named, TIMES, named=True)
    assert how.source == source
    assert found == (named if source == "given" else named[::-1])
    assert ("--order given keeps" in how.note) == (source == "time")


def test_any_order_can_be_asked_for() -> None:
    names = ["f_1.jpg", "f_10.jpg", "f_2.jpg"]
    assert ordered(names, TIMES, named=True, wanted="given")[0] == names
    assert ordered(names, TIMES, named=True, wanted="name")[0] == ["f_1.jpg", "f_2.jpg", "f_10.jpg"]
    assert ordered(names[::-1], TIMES, named=True, wanted="time")[0] == names
    with pytest.raises(DualpixError, match="a folder has no order"):
        ordered(names, wanted="given")
    with pytest.raises(DualpixError, match="no file states a time"):
        ordered(names, wanted="time")


@given(st.lists(st.text(alphabet="ab_ 019²Ⅷ٣ß.", min_size=1, max_size=12), min_size=1, max_size=8, unique=True))
def test_any_names_have_an_order(names: list[str]) -> None:
    found, _ = ordered(names)
    assert sorted(found) == sorted(names)
    assert len({natural_key(Path("x") / name) for name in names}) == len({Path("x") / name for name in names})
