"""Options of a camera are read alike by all back ends, and the only camera that is there is taken."""

from __future__ import annotations

import re

import pytest

from dualpix.capture.cameras.opening import focal_length_of, missing_extra, only_one, refuse_unknown, yes_or_no
from dualpix.capture.errors import DualpixError


def test_options_that_are_known_pass_and_the_first_other_one_is_named() -> None:
    refuse_unknown({"port": "1", "keep": "yes"}, ("port", "keep"), "camera 'x'")
    with pytest.raises(DualpixError, match="unknown option 'colour' of camera 'x'; expected port, keep"):
        refuse_unknown({"port": "1", "size": "2", "colour": "red"}, ("port", "keep"), "camera 'x'")


@pytest.mark.parametrize(
    ("given", "default", "found"), [({}, True, True), ({}, False, False), ({"a": "no"}, True, False)]
)
def test_a_switch_is_yes_or_no(given: dict[str, str], default: bool, found: bool) -> None:
    assert yes_or_no(given, "a", default=default) is found
    with pytest.raises(DualpixError, match="a=maybe; expected yes or no"):
        yes_or_no({"a": "maybe"}, "a", default=default)


@pytest.mark.parametrize(("text", "mm"), [("35", 35.0), ("1", 1.0), ("5000", 5000.0), ("10.5", 10.5)])
def test_a_focal_length_in_millimetres(text: str, mm: float) -> None:
    assert focal_length_of({"focal_length_mm": text}) == mm
    assert focal_length_of({}) is None


@pytest.mark.parametrize("text", ["0.5", "5001", "-35", "wide", "", "nan", "35mm"])
def test_a_focal_length_that_no_lens_has(text: str) -> None:
    with pytest.raises(DualpixError, match=re.escape(f"focal length '{text}'; expected millimetres")):
        focal_length_of({"focal_length_mm": text})


def test_the_only_one_is_taken_and_several_are_listed() -> None:
    assert only_one({}, "cameras on USB") is None
    assert only_one({"usb:001,002": 7}, "cameras on USB") == 7
    with pytest.raises(DualpixError, match=r"2 cameras on USB: a, b.*choose one with --address"):
        only_one({"a": 1, "b": 2}, "cameras on USB")


def test_a_missing_package_says_what_to_install() -> None:
    assert "pip install 'dualpix[canon]'" in str(missing_extra("gphoto2", "canon"))
