"""How the files of a stack code light, and pictures made of their light that are coded and shown like them.

Convention: light is that of :mod:`.keep.frames`. Codes of a picture became light by a curve; the same curve takes the
light back, so that a pixel taken from one frame comes out with that frame's code, whatever colour space its profile
names.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageCms

from dualpix.capture.pictures.display import srgb_from_linear, to_display
from dualpix.capture.types import FloatImage, FrameLook

_NEUTRAL = (1.0, 1.0, 1.0)
_EXIF_IFD, _COLOR_SPACE, _UNCALIBRATED = 0x8769, 0xA001, 0xFFFF
_ICC_DATE, _ICC_SPACE = slice(24, 36), slice(16, 20)
_ICC_SPACES = {False: b"RGB ", True: b"GRAY"}
_MOST_PROFILE_BYTES = 4 << 20


def picture_look(path: Path, samples: npt.NDArray[Any], curve: Literal["srgb", "linear"]) -> FrameLook:
    """Of a picture file, from its samples (H, W) or (H, W, C) as stored and the curve by which they became light."""
    gray = samples.ndim == 2
    profile, calibrated = _profile_of(path)
    if profile is not None and profile[_ICC_SPACE] != _ICC_SPACES[gray]:
        profile = None  # of codes that were converted while reading
    elif profile is None and curve == "srgb" and calibrated and not gray:
        profile = srgb_profile()
    return FrameLook(curve, icc_profile=profile, floating=samples.dtype.kind == "f", gray=gray)


def raw_look(path: Path) -> FrameLook:
    """Of a raw file."""
    return FrameLook(camera=True, white_balance=_as_shot(path))


def srgb_profile() -> bytes:
    """An ICC profile of sRGB, without the date at which it was made."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_ICC_DATE] = bytes(12)
    return bytes(profile)


def codes_of(light: FloatImage, look: FrameLook) -> npt.NDArray[np.uint16] | FloatImage:
    """(H, W, 3), or (H, W) of gray pictures: 16-bit codes like those of the files, or floats where they have floats.

    The codes of 8-bit files c come out as 257 c.
    """
    share = _share(light, look)
    share = share[..., 1] if look.gray else share
    if look.floating:
        return _coded(share, look)
    return np.asarray(np.rint(_coded(np.clip(share, 0, 1), look) * 65535), np.uint16)


def shown(light: FloatImage, look: FrameLook | None) -> npt.NDArray[np.uint8]:
    """(H, W, 3) sRGB for people: pictures as their files show them, raws with the white balance as shot."""
    if look is None or look.camera:
        return to_display(light, white_balance=look.white_balance if look else None)
    return to_display(_share(light, look), white_balance=_NEUTRAL, exposure=1.0)


def meaning_of(look: FrameLook) -> str:
    """The way from a code that :func:`codes_of` gives to light, in one line."""
    code = "value" if look.floating else "code / 65535"
    if look.camera:
        return f"linear light = {code}; 1.0 = white level, R, G, B of the sensor, not white-balanced"
    curve = f"srgb_to_linear({code})" if look.curve == "srgb" else code
    return f"light = {curve}, as the frames' own codes"


def write_coded(path: Path, light: FloatImage, look: FrameLook) -> None:
    """Write light (H, W, 3) as a TIFF with the codes and the profile of the files."""
    tifffile.imwrite(
        path,
        codes_of(light, look),
        photometric="minisblack" if look.gray else "rgb",
        compression="zlib",
        iccprofile=look.icc_profile,
        description=meaning_of(look),
        software="dualpix",
        metadata=None,
    )


def _share(light: FloatImage, look: FrameLook) -> FloatImage:
    """Of the light of the largest code."""
    return np.asarray(light / np.array(look.white, np.float32), np.float32)


def _coded(share: FloatImage, look: FrameLook) -> FloatImage:
    return srgb_from_linear(share) if look.curve == "srgb" else np.asarray(share, np.float32)


def _profile_of(path: Path) -> tuple[bytes | None, bool]:
    """The ICC profile, and whether the file leaves open that its codes are sRGB."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                profile = picture.info.get("icc_profile")
                space = picture.getexif().get_ifd(_EXIF_IFD).get(_COLOR_SPACE)
    except Exception:  # remarks of a picture that reads well: whatever Pillow trips over, there are none
        return None, True
    known = isinstance(profile, bytes) and _ICC_SPACE.stop < len(profile) <= _MOST_PROFILE_BYTES
    return (profile if known else None), space != _UNCALIBRATED


def _as_shot(path: Path) -> tuple[float, float, float] | None:
    import rawpy  # here: training reads pictures where LibRaw is not installed

    raw = rawpy.RawPy()
    try:
        raw.open_file(str(path))
        red, green, blue = (float(value) for value in raw.camera_whitebalance[:3])
    except rawpy.LibRawError:
        return None
    finally:
        raw.close()
    if not all(np.isfinite(value) and value > 0 for value in (red, green, blue)):
        return None
    return red / green, 1.0, blue / green
