"""Cameras to render through: profiles that ship with the package, and those measured by ``dualpix calibrate``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualpix.capture.profiles import load_profile, profile_names
from dualpix.capture.profiles.profile import CameraProfile, ProfileError

CAMERAS = tuple(profile_names())
_UM_PER_MM = 1000.0
# What shipped profiles leave open: data sheet of the Pixel 4's main camera; picture widths typical of the generic ones.
_LEFT_OPEN: dict[str, dict[str, float]] = {
    "pixel4": {"focal_length_mm": 4.38, "f_number": 1.73, "width_mm": 5.645},
    "generic-phone": {"width_mm": 5.6},
    "generic-full-frame": {"width_mm": 36.0},
}


@dataclass(frozen=True)
class RenderCamera:
    """What a renderer needs to know of a camera."""

    name: str
    focal_length_mm: float
    f_number: float
    sensor_width_mm: float
    disparity_gain: float
    """kappa: disparity = kappa * circle of confusion; mean over the field."""
    profile: CameraProfile = field(compare=False, repr=False)
    """Blur and sensor; carried along, so that other machines need no file."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the digest of the profile for all that it says."""
        text = json.dumps(self.profile.to_json(), sort_keys=True, allow_nan=False)
        return {
            "name": self.name,
            "focal_length_mm": self.focal_length_mm,
            "f_number": self.f_number,
            "sensor_width_mm": self.sensor_width_mm,
            "disparity_gain": self.disparity_gain,
            "profile_sha256": hashlib.sha256(text.encode()).hexdigest(),
        }


def camera_named(name: str) -> RenderCamera:
    """The camera of a shipped profile, or of a profile's file.

    Raises:
        UnknownNameError: no profile of that name ships.
        ProfileError: the file cannot be read, or lacks what rendering needs.
    """
    path = Path(name)
    profile = load_profile(path if name not in CAMERAS and path.is_file() else name)
    gain = profile.gain
    pitch_um = gain.pixel_pitch_um if gain else None
    known = {
        "focal_length_mm": profile.focal_length_mm,
        "f_number": profile.f_number,
        "disparity_gain": profile.disparity_gain,
        "width_mm": pitch_um * gain.view_width_px / _UM_PER_MM if gain and pitch_um else None,
    }
    values = {**_LEFT_OPEN.get(name, {}), **{key: value for key, value in known.items() if value is not None}}
    if missing := [key for key in known if key not in values]:
        named = ["gain.pixel_pitch_um" if key == "width_mm" else key for key in missing]
        raise ProfileError(
            f"the profile '{path.name}' lacks {', '.join(named)}",
            expected="a profile with optics and gain",
            hint="make it with 'dualpix calibrate gain'",
        )
    return RenderCamera(
        name if name in CAMERAS else profile.camera or path.stem,
        values["focal_length_mm"],
        values["f_number"],
        values["width_mm"],
        values["disparity_gain"],
        profile,
    )
