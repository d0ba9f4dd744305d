"""Camera profiles that ship with the package: derived numbers, each with how it came about.

============================ =========================================================================
pixel4                       Google Pixel 4, measured on the captures of Xin et al. (ICCV 2021)
canon-r6m2-rf50              Canon EOS R6 Mark II, RF50mm at f/4, measured on flats of DP119 (ICCV 2025)
generic-phone                typical values, measured on no camera
generic-full-frame           typical values, measured on no camera
============================ =========================================================================

``docs/make_profiles.py`` makes them. What a profile means for image formation is in :mod:`.blur` (kernels) and
:func:`lens_model`; sensors are :mod:`dualpix.capture.synthesis.sensor`.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from dualpix.capture.errors import UnknownNameError
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN, check_lens
from dualpix.capture.profiles.entries import ProfileError
from dualpix.capture.profiles.profile import CameraProfile, parse_profile, read_profile
from dualpix.capture.types import LensModel

__all__ = ["gain_at", "lens_model", "load_profile", "profile_names"]


def profile_names() -> list[str]:
    """Names of the profiles that ship, sorted."""
    return sorted(
        entry.name.removesuffix(".json")
        for entry in resources.files(__name__).iterdir()
        if entry.name.endswith(".json") and not entry.name.endswith(".schema.json")
    )


def load_profile(name: str | Path) -> CameraProfile:
    """A shipped profile by its name, or one's own by the path of its ``.json`` file.

    Raises:
        UnknownNameError: no shipped profile has that name.
        ProfileError: the file is no profile.
    """
    if isinstance(name, Path) or name.endswith(".json"):
        return read_profile(Path(name))
    if name not in profile_names():
        raise UnknownNameError("camera profile", name, profile_names())
    return parse_profile((resources.files(__name__) / f"{name}.json").read_bytes(), f"{name}.json")


def gain_at(profile: CameraProfile, f_number: float) -> float | None:
    """The profile's disparity gain at another aperture than it was measured at; None where it was not measured.

    Scaled by the ratio of the f-numbers, as that of a ramp across the aperture is, and at most that of two half discs.
    """
    if profile.disparity_gain is None or profile.f_number is None:
        return profile.disparity_gain
    return min(IDEAL_DISPARITY_GAIN, profile.disparity_gain * profile.f_number / f_number)


def lens_model(
    profile: CameraProfile,
    *,
    pixel_pitch_um: float | None = None,
    focal_length_mm: float | None = None,
    f_number: float | None = None,
    focus_distance_m: float | None = None,
) -> LensModel:
    """The profile's lens with its disparity gain (:func:`gain_at`); arguments override what it knows.

    Raises:
        ProfileError: the profile does not know a value and it was not given.
        DualpixError: physically impossible.
    """
    known = {
        "focal_length_mm": focal_length_mm or profile.focal_length_mm,
        "f_number": f_number or profile.f_number,
        "focus_distance_m": focus_distance_m or profile.focus_distance_m,
        "pixel_pitch_um": pixel_pitch_um or (profile.gain.pixel_pitch_um if profile.gain else None),
    }
    known["disparity_gain"] = gain_at(profile, known["f_number"]) if known["f_number"] else profile.disparity_gain
    values = {name: value for name, value in known.items() if value is not None}
    missing = sorted(set(known) - set(values))
    if missing:
        raise ProfileError(f"the profile does not say {', '.join(missing)}", hint="give what is missing")
    return check_lens(LensModel(**values))
