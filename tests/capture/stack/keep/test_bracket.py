"""Distances that EXIF states are kept, with what is rounded as their error; nothing is made of what tells nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.brackets import META, taken, write_bracket

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.judge.verify import verify
from dualpix.capture.stack.keep.bracket import bracket_focus, focus_bounds
from dualpix.capture.stack.keep.importer import import_stack
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.types import CaptureMeta


def bracket(folder: Path, distances_m: Sequence[float | None], **changes: object) -> Path:
    metas = [
        replace(taken(META, number), focus_distance_m=metres, **changes)  # type: ignore[arg-type]
        for number, metres in enumerate(distances_m)
    ]
    write_bracket(folder, [f"A_{number:02}.JPG" for number in range(len(metas))], metas)
    return folder


def test_stated_distances_are_kept(tmp_path: Path) -> None:
    """As a phone writes them, to the centimetre; half a centimetre at 0.3 m is 0.056 D."""
    stated = [0.30, 0.34, 0.38, 0.42, 0.46, 0.50]
    done = import_stack([bracket(tmp_path / "in", stated)], tmp_path / "out")
    frames = done.record.frames[::-1]
    assert [1 / f.achieved_d for f in frames if f.achieved_d] == pytest.approx(stated, rel=1e-12)
    assert {f.distance_source for f in frames} == {"exif"}
    half = [(1 / (m - 0.005) - 1 / (m + 0.005)) / 2 for m in stated]
    assert [f.uncertainty_d for f in frames] == pytest.approx([h / math.sqrt(3) for h in half])
    assert "as the files state them, rounded to 0.01 m" in done.notes[1] and "bounds" not in " ".join(done.notes)
    assert load_stack(tmp_path / "out").focus_distance_m == pytest.approx(sorted(stated, reverse=True))


def test_the_order_of_taking_does_not_matter_where_all_state_their_own(tmp_path: Path) -> None:
    done = import_stack([bracket(tmp_path / "in", [0.5, 0.3, 0.42, 0.36])], tmp_path / "out")
    assert [f.details["original"] for f in done.record.frames] == ["A_00.JPG", "A_02.JPG", "A_03.JPG", "A_01.JPG"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.12, 8), min_size=3, max_size=20, unique=True), st.sampled_from([0.1, 0.01, 0.001]),
)  # fmt: skip
def test_errors_cover_what_is_rounded(truth_m: list[float], step_m: float) -> None:
    """Whatever the steps, whether distances repeat or not: within 2 standard deviations, which half the digit is."""
    truth_m.sort()
    rounded = [max(step_m, round(m / step_m) * step_m) for m in truth_m]
    try:
        found = bracket_focus([float(f"{m:.6g}") for m in rounded], 50.0)
    except DualpixError:
        assert len({f"{m:.6g}" for m in rounded}) < 2
        return
    if len(set(rounded)) == len(rounded):
        assert found.diopters == pytest.approx([1 / m for m in rounded])
        error = np.abs(np.array(found.diopters) - 1 / np.array(truth_m))
        assert np.all(error < 2.2 * np.array(found.uncertainty_d) + 0.002)


def test_what_is_rounded_in_diopters_is_known_by_it() -> None:
    """As Android's LENS_FOCUS_DISTANCE in steps of 0.1 D, whose metres have any digits."""
    found = bracket_focus([5.0, 2.0, 1.25, 1.0, 1 / 1.2, 1 / 1.5], 50.0)
    assert found.uncertainty_d == pytest.approx([0.05 / math.sqrt(3)] * 6) and "rounded to 0.1 D" in found.note


def test_repeats_of_an_even_bracket_are_on_its_line() -> None:
    truth = np.linspace(1 / 0.3, 1 / 0.8, 12)
    found = bracket_focus([round(1 / d, 1) for d in truth], 50.0)
    assert found.even and np.all(np.diff(found.diopters) < 0)
    assert np.all(np.abs(np.array(found.diopters) - truth) < 2 * np.array(found.uncertainty_d))
    assert "6 different distances that 12 of 12 files state" in found.note


def test_repeats_of_an_uneven_bracket_are_spread_over_what_is_rounded() -> None:
    found = bracket_focus([0.30, 0.34, 0.38, 0.38, 0.42, 1.5], 50.0)
    metres = [1 / d for d in found.diopters]
    assert [metres[i] for i in (0, 1, 4, 5)] == pytest.approx([0.30, 0.34, 0.42, 1.5])
    assert 0.36 < metres[2] < 0.38 < metres[3] < 0.40 and "2 that share one are spread" in found.note


def test_frames_at_infinity_have_places_of_their_own(tmp_path: Path) -> None:
    done = import_stack([bracket(tmp_path / "in", [0.5, 1.0, 2.0, math.inf, math.inf])], tmp_path / "out")
    found = [f.achieved_d or 0.0 for f in done.record.frames]
    assert found[0] == 0 and found[2:] == pytest.approx([0.5, 1.0, 2.0]) and 0 < found[1] < 0.5
    assert load_stack(tmp_path / "out").focus_distance_m is not None


def test_a_frame_that_states_none_stands_between_its_neighbours(tmp_path: Path) -> None:
    done = import_stack([bracket(tmp_path / "in", [0.4, 0.5, None, 1.0])], tmp_path / "out")
    frame = done.record.frames[1]
    assert frame.details["original"] == "A_02.JPG" and frame.achieved_d == pytest.approx(1.5)
    assert frame.distance_source == "bracket" and frame.uncertainty_d == pytest.approx(0.5 / math.sqrt(12))
    assert [f.distance_source for f in done.record.frames].count("exif") == 3
    assert "1 of 4 state none and stand between" in done.notes[1]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ([None] * 4, "no file says where it is focused"),
        ([0.5] * 4, "all that say it are at 0.5 m"),
        ([None, 0.5, None, None], "all that say it are at 0.5 m"),
        ([math.inf] * 4, "all that say it are at inf m"),
    ],
)
def test_a_stack_whose_files_do_not_tell_is_kept_without_metres(
    stated: list[float | None], said: str, tmp_path: Path
) -> None:
    done = import_stack([bracket(tmp_path / "in", stated)], tmp_path / "out")
    assert {f.achieved_d for f in done.record.frames} == {None}
    assert [f.details["original"] for f in done.record.frames] == [f"A_{n:02}.JPG" for n in range(4)]
    assert said in done.notes[1] and "without distances" in done.notes[1] and "--distances" in done.notes[1]


def test_two_brackets_in_one_folder_are_named(tmp_path: Path) -> None:
    source = bracket(tmp_path / "in", [0.3, 0.4, 0.5, 0.3, 0.4, 0.5])
    with pytest.raises(DualpixError, match=r"turns back.*'A_03.JPG' at 0.3 m comes after 'A_02.JPG' at 0.5 m"):
        import_stack([source], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_file_states_comes_before_canon_s_bounds() -> None:
    bounds = {"focus_distance_lower_m": 0.9, "focus_distance_upper_m": 1.2, "focus_distance_m": 1.0}
    assert focus_bounds(CaptureMeta(**bounds, provenance={"focus_distance": "SubjectDistance"})) == 1.0  # type: ignore[arg-type]
    assert focus_bounds(CaptureMeta(**bounds, provenance={"focus_distance": "middle of"})) == (0.9, 1.2)  # type: ignore[arg-type]


def test_an_uncertainty_that_is_given_counts(tmp_path: Path) -> None:
    from dualpix.capture.stack.keep.importer import Given

    done = import_stack([bracket(tmp_path / "in", [0.3, 0.4, 0.5])], tmp_path / "out", Given(uncertainty_d=0.2))
    assert {f.uncertainty_d for f in done.record.frames} == {0.2}
    assert verify(tmp_path / "out").frames == 3
