"""What cameras say in words: numbers, lenses, and the nearest exposure that they offer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpix.capture.camera_protocol import CameraError
from dualpix.capture.cameras.words import nearest, number, prime_mm

APERTURES = ("1.8", "2", "2.2", "2.5", "2.8", "f/4", "f5.6")
BY_HAND = "switch it to M"


@pytest.mark.parametrize(
    ("text", "value"),
    [("2.8", 2.8), ("f/2.8", 2.8), ("F2.8", 2.8), (" 1/60 ", 1 / 60), ("0.5", 0.5), ("12800", 12800.0)],
)
def test_numbers(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", [None, "", "auto", "bulb", "1/0", "-2", "1e3", "2.8.1", 'f"4', "1/60 s"])
def test_words_that_are_no_numbers(text: str | None) -> None:
    assert number(text) is None


@pytest.mark.parametrize(
    ("lens", "mm"), [("RF50mm F1.2 L USM", 50.0), ("EF 85 mm", 85.0), ("RF24-105mm F4", None), (None, None)]
)
def test_the_focal_length_in_a_prime_s_name(lens: str | None, mm: float | None) -> None:
    assert prime_mm(lens) == mm


def test_the_word_within_a_sixth_of_a_stop() -> None:
    # 1/3 stops are 12 % apart as f-numbers, so f/2.9 (0.10 stops off) is f/2.8 and f/3.1 (0.29) is none
    assert nearest("av", 2.9, APERTURES, is_aperture=True, hint=BY_HAND) == "2.8"
    assert nearest("av", 4.0, APERTURES, is_aperture=True, hint=BY_HAND) == "f/4"
    with pytest.raises(CameraError, match=r"the camera has no av 3\.1; expected one of 1\.8, 2"):
        nearest("av", 3.1, APERTURES, is_aperture=True, hint=BY_HAND)


def test_a_time_counts_once_where_an_aperture_counts_twice() -> None:
    # a tenth of the value is 0.14 stops of time, within a sixth, and 0.28 of aperture, beyond
    assert nearest("tv", 1.1, ["1"], is_aperture=False, hint=BY_HAND) == "1"
    with pytest.raises(CameraError):
        nearest("av", 1.1, ["1"], is_aperture=True, hint=BY_HAND)


@pytest.mark.parametrize("wanted", [0.0, -1.0, float("nan")])
def test_what_is_no_exposure_is_refused(wanted: float) -> None:
    with pytest.raises(CameraError, match="expected above 0"):
        nearest("iso", wanted, ["100"], is_aperture=False, hint=BY_HAND)


def test_nothing_to_choose_from_says_what_to_switch() -> None:
    with pytest.raises(CameraError, match=f"does not let 'iso' be set.*{BY_HAND}"):
        nearest("iso", 100.0, ["auto"], is_aperture=False, hint=BY_HAND)


@given(st.sampled_from(["100", "200", "1/60", "1/4000", "30", "0.3"]))
def test_every_word_is_the_nearest_to_its_own_value(word: str) -> None:
    value = number(word)
    assert value is not None
    words = ["100", "200", "1/60", "1/4000", "30", "0.3", "auto"]
    assert nearest("x", value, words, is_aperture=False, hint=BY_HAND) == word
