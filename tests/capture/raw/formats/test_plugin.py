"""What every decoder of the list says of itself: folder searches and help rest on it."""

from __future__ import annotations

import pytest

from dualpix.capture.raw import DECODERS, WHOLE_SUFFIXES, Decoder


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_suffixes_are_lower_case_with_a_dot(decoder: Decoder) -> None:
    assert decoder.suffixes and all(s == s.lower() and s.startswith(".") for s in decoder.suffixes)
    assert set(decoder.whole_suffixes) <= set(decoder.suffixes)


def test_names_are_told_apart() -> None:
    assert len({decoder.name for decoder in DECODERS}) == len(DECODERS)


def test_no_suffix_is_of_captures_and_of_halves() -> None:
    """A folder search takes a file by its suffix: as it is, or as the left one of a pair."""
    halves = {s for decoder in DECODERS for s in decoder.suffixes if s not in decoder.whole_suffixes}
    assert not halves & WHOLE_SUFFIXES
    assert {".cr2", ".cr3", ".dng", ".npz"} <= WHOLE_SUFFIXES
