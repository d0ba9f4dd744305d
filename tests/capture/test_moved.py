"""Modules that moved answer under their old names, and say the new ones."""

from __future__ import annotations

from importlib import import_module

import pytest

import dualpix.capture.calibrate.profile
import dualpix.capture.cameras.android_device
import dualpix.capture.cameras.android_protocol
import dualpix.capture.cameras.protocol
import dualpix.capture.npy
import dualpix.capture.raw.dng
import dualpix.capture.sensor

MOVED = [
    ("calibrate.profile", "profiles.profile", "read_profile"),
    ("cameras.android_device", "cameras.android.device", "AdbServer"),
    ("cameras.android_protocol", "cameras.android.protocol", "parse_line"),
    ("cameras.protocol", "camera_protocol", "Camera"),
    ("npy", "arrays.npy", "read_npy"),
    ("raw.dng", "raw.write.dng", "write_dual_pixel_dng"),
    ("raw.dng", "raw.write.dng", "Crop"),
    ("sensor", "synthesis.sensor", "expose"),
]


@pytest.mark.parametrize(("old", "new", "name"), MOVED)
def test_an_old_name_gives_the_same_object_and_a_warning(old: str, new: str, name: str) -> None:
    before = import_module(f"dualpix.capture.{old}")
    with pytest.warns(DeprecationWarning, match=f"import {name} from dualpix.capture.{new}") as seen:
        found = getattr(before, name)
    assert found is getattr(import_module(f"dualpix.capture.{new}"), name)
    assert seen[0].filename == __file__


def test_what_never_was_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        getattr(dualpix.capture.npy, "nothing_of_this_name")  # noqa: B009
    assert not hasattr(dualpix.capture.sensor, "__wrapped__")
