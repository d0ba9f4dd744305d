"""The camera profile: what was measured of a camera with one lens and aperture, as plain JSON.

Convention: everything lies as the sensor does, whatever way the camera was held, and "left" and "right" are the halves
as the decoder names them before rotation; so a profile made in landscape fits a portrait shot. ``left`` and ``right``
of the shading are the light of a white sheet relative to the brightest place of the same half; ``left_over_right`` is
the ratio of those two maxima.

``profile.schema.json`` beside this file is the published form (JSON Schema 2020-12). Reading checks the same by hand: a
file is bounded in size before it is parsed, every number is finite, every error is one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dualpix.capture.files import parse_json, read_bounded, write_bytes
from dualpix.capture.optics import LENS_RANGES
from dualpix.capture.profiles.entries import MAX_GRID, Entry, ProfileError, infinite, numbers
from dualpix.capture.profiles.facts import GainField, PsfGrid, SensorFacts, read_gain, read_psf, read_sensor
from dualpix.capture.profiles.half_gain import Gain, gain_of
from dualpix.capture.types import ANY_PIXEL, Baseline, CaptureMeta, FloatImage

__all__ = [
    "SCHEMA", "CameraProfile", "HalfNoise", "ProfileError", "Shading", "kept_facts", "parse_profile", "profile_gain",
    "ratio_gain", "read_profile", "write_profile",
]  # fmt: skip

FORMAT = 1
SCHEMA = Path(__file__).with_name("profile.schema.json")
MAX_FILE_BYTES = 16 << 20
MAX_PICTURE = 1 << 16
MAX_NOTES = 32
# Further apart than this, the exit pupil is another one: a third of a stop, and 10 % of the focal length.
_STOP_RATIO, _FOCAL_RATIO = 2 ** (1 / 6) * 1.02, 1.1
_FINE_CELLS = 128


@dataclass(frozen=True)
class Shading:
    """Light of a white sheet in each half."""

    left: FloatImage
    """(gh, gw, C), C = 1 or 3 (R, G, B); 0 < light <= 1, its largest value is 1 in each channel. Centres of equal cells
    that tile the picture."""
    right: FloatImage
    """As ``left``, of its own maximum."""
    left_over_right: tuple[float, ...]
    """Ratio of the two maxima, per channel."""
    residual_rms_percent: float
    """Of log(left / right) that the profile leaves on the sheets it was made of."""
    residual_band_percent: float
    """Of the worst of 16 bands across the baseline."""

    def to_json(self) -> dict[str, Any]:
        """Plain data in the form of the profile's schema."""
        return {
            "rows": self.left.shape[0],
            "columns": self.left.shape[1],
            "channels": self.left.shape[2],
            "left_over_right": [float(f"{r:.6g}") for r in self.left_over_right],
            "residual_percent": {"rms": self.residual_rms_percent, "worst_band": self.residual_band_percent},
            "left": numbers(self.left),
            "right": numbers(self.right),
        }

    def log_ratio(self) -> FloatImage:
        """log(left / right), (gh, gw, C)."""
        return np.asarray(np.log(self.left / self.right * np.array(self.left_over_right)), np.float32)


@dataclass(frozen=True)
class HalfNoise:
    """Variance of a sample = ``shot`` * light + ``read`` ** 2, in the decoder's unit (1.0 = white level)."""

    shot: float
    read: float


@dataclass(frozen=True)
class CameraProfile:
    """Measured facts of one camera with one lens at one aperture; ``None`` where the captures do not say."""

    size_hw: tuple[int, int]
    """(height, width) of the picture in samples, as the sensor lies."""
    shading: Shading | None = None
    baseline: Baseline = "x"
    """Axis of the disparity as the sensor lies."""
    camera: str | None = None
    lens: str | None = None
    f_number: float | None = None
    focal_length_mm: float | None = None
    focus_distance_m: float | None = None
    """May be infinite."""
    sources: tuple[str, ...] = ()
    """Names of the files it was made of."""
    noise: Mapping[str, HalfNoise] | None = None
    """By half: "left", "right"."""
    disparity_gain: float | None = None
    """kappa: disparity = kappa * circle of confusion / pitch; mean over the field."""
    gain: GainField | None = None
    psf: PsfGrid | None = None
    sensor: SensorFacts | None = None
    notes: Mapping[str, str] | None = None
    """How each entry came about, by its name: "gain", "psf", ...; "profile" for all of it."""
    format: int = field(default=FORMAT, init=False)

    def to_json(self) -> dict[str, Any]:
        """Plain data in the form of ``profile.schema.json``; optional entries that are unknown are left out."""
        known: dict[str, Any] = {
            "camera": self.camera,
            "lens": self.lens,
            "f_number": self.f_number,
            "focal_length_mm": self.focal_length_mm,
            "focus_distance_m": infinite(self.focus_distance_m),
            "disparity_gain": self.disparity_gain,
            "noise": {k: {"shot": n.shot, "read": n.read} for k, n in self.noise.items()} if self.noise else None,
            "gain": self.gain.to_json() if self.gain else None,
            "psf": self.psf.to_json() if self.psf else None,
            "sensor": self.sensor.to_json() if self.sensor else None,
            "notes": dict(self.notes) if self.notes else None,
            "shading": self.shading.to_json() if self.shading else None,
        }
        return {
            "format": self.format,
            "picture": {"width": self.size_hw[1], "height": self.size_hw[0]},
            "baseline": self.baseline,
            "sources": list(self.sources),
            **{key: value for key, value in known.items() if value is not None},
        }


def write_profile(path: Path, profile: CameraProfile) -> None:
    """Write ``profile`` as JSON, atomically, one top-level entry a line.

    Raises:
        OutputError: the file cannot be written.
    """
    entries = (
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False, ensure_ascii=False)}"
        for key, value in profile.to_json().items()
    )
    write_bytes(path, ("{\n" + ",\n".join(entries) + "\n}\n").encode())


def read_profile(path: Path) -> CameraProfile:
    """Read a profile of :func:`write_profile`.

    Raises:
        ProfileError: no such file, too large, not JSON, or not of the published form.
    """
    data = read_bounded(path, MAX_FILE_BYTES, f"profile '{path}'", expected="a camera profile", error=ProfileError)
    return parse_profile(data, path.name)


def parse_profile(data: bytes, name: str) -> CameraProfile:
    """A profile from the bytes of its file, ``name`` in errors.

    Raises:
        ProfileError: not JSON, or not of the published form.
    """
    content = parse_json(data, f"'{name}'", "a profile of 'dualpix calibrate'", ProfileError)
    try:
        return _profile(Entry(content, "the profile"))
    except ProfileError as error:
        raise ProfileError(f"'{name}': {error.found}", expected=error.expected, hint=error.hint) from error


def kept_facts(path: Path, profile: CameraProfile) -> CameraProfile:
    """``profile`` with what an earlier one at ``path`` knows besides; without an earlier one, as it is.

    Raises:
        ProfileError: there is a file that is no profile, or one of another camera, picture size or baseline.
    """
    if not path.exists():
        return profile
    earlier = read_profile(path)
    for what, one, other in (
        ("pictures of", _size(earlier.size_hw), _size(profile.size_hw)),
        ("camera", earlier.camera, profile.camera),
        ("baseline", earlier.baseline, profile.baseline),
    ):
        if one and other and one != other and not (what == "camera" and may_be_one_camera(one, other)):
            raise ProfileError(
                f"'{path.name}' is a profile of {what} '{one}'",
                expected=f"'{other}', as the captures",
                hint="name another -o",
            )
    new = {f.name: value for f in fields(profile) if f.init and (value := getattr(profile, f.name)) is not None}
    notes = {**(earlier.notes or {}), **(profile.notes or {})}
    sources = tuple(dict.fromkeys((*earlier.sources, *profile.sources)))
    return replace(earlier, **{**new, "notes": notes or None, "sources": sources})


def may_be_one_camera(first: str | None, second: str | None) -> bool:
    """Whether two names can be one camera's: unknown ones can, and a Pixel of no number can be any of them."""
    if not first or not second or first == second:
        return True
    shorter, longer = sorted((first, second), key=len)
    return shorter == ANY_PIXEL and longer.startswith(f"{ANY_PIXEL} ")


def profile_gain(
    profile: CameraProfile, size_hw: tuple[int, int], meta: CaptureMeta, *, exchanged: bool = False
) -> tuple[Gain, tuple[str, ...]]:
    """The gain of a capture's right half as its sensor lies, and what the user should know about it.

    Args:
        profile: of the camera that took it.
        size_hw: (height, width) of the capture in samples, before rotation.
        meta: of the capture; what both know is compared.
        exchanged: whether the capture's halves have changed names since the decoder named them (``--swap``, rotation).

    Returns:
        The gain, and one line for each thing that differs but may be meant: aperture, focal length, lens.

    Raises:
        ProfileError: made for a picture of another size or by another camera.
    """
    if profile.shading is None:
        raise ProfileError("the profile has no shading", hint="make one of white sheets: dualpix calibrate shading")
    if tuple(size_hw) != profile.size_hw:
        raise ProfileError(
            f"the profile is for pictures of {_size(profile.size_hw)} samples",
            expected=f"{_size(size_hw)} as the capture",
            hint="calibrate with white sheets of the same camera and crop",
        )
    if not may_be_one_camera(profile.camera, meta.camera):
        raise ProfileError(
            f"the profile is of a '{profile.camera}'",
            expected=f"'{meta.camera}' as the capture",
            hint="each camera needs its own",
        )
    ratio = -profile.shading.log_ratio() if exchanged else profile.shading.log_ratio()
    return ratio_gain(ratio), _differences(profile, meta)


def ratio_gain(log_ratio: FloatImage) -> Gain:
    """The gain of a coarse log(left / right) grid (gh, gw, C): finer, cubic inside, straight on at the borders."""
    return gain_of(_fine(log_ratio), "camera profile")


def _differences(profile: CameraProfile, meta: CaptureMeta) -> tuple[str, ...]:
    found = []
    if _apart(profile.f_number, meta.f_number, _STOP_RATIO):
        found.append(f"the profile was made at f/{profile.f_number:g}, this shot at f/{meta.f_number:g}")
    if _apart(profile.focal_length_mm, meta.focal_length_mm, _FOCAL_RATIO):
        found.append(
            f"the profile was made at {profile.focal_length_mm:g} mm, this shot at {meta.focal_length_mm:g} mm"
        )
    if profile.lens and meta.lens_model and profile.lens != meta.lens_model:
        found.append(f"the profile was made with '{profile.lens}', this shot with '{meta.lens_model}'")
    return tuple(f"{text}: left and right may stay unequal" for text in found)


def _apart(one: float | None, other: float | None, ratio: float) -> bool:
    return bool(one and other) and max(one, other) > ratio * min(one, other)  # type: ignore[type-var, operator]


def _size(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"


def _fine(ratio: FloatImage) -> FloatImage:
    """The grid at several times its resolution."""
    rows, columns, channels = ratio.shape
    factor = max(1, -(-_FINE_CELLS // max(rows, columns)))
    # Two cells around, mirrored through the border's: a slope runs on.
    margin = min(2, rows - 1, columns - 1)
    padded = np.pad(ratio, ((margin, margin), (margin, margin), (0, 0)), mode="reflect", reflect_type="odd")
    size = (padded.shape[1] * factor, padded.shape[0] * factor)
    fine = np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_CUBIC), np.float32).reshape(
        size[1], size[0], channels
    )
    return fine[margin * factor : (margin + rows) * factor, margin * factor : (margin + columns) * factor]


_TOP = (
    "format", "picture", "baseline", "sources", "camera", "lens", "f_number", "focal_length_mm", "focus_distance_m",
    "disparity_gain", "noise", "gain", "psf", "sensor", "notes", "shading",
)  # fmt: skip


def _profile(entry: Entry) -> CameraProfile:
    found = entry["format"].value
    if found != FORMAT or isinstance(found, bool):
        raise ProfileError(f"profile format {found!r:.20}", expected=f"{FORMAT}", hint="use the version that wrote it")
    entry.only(*_TOP)
    picture, baseline = entry["picture"], entry["baseline"]
    picture.only("width", "height")
    if baseline.value not in ("x", "y"):
        raise baseline.wrong('"x" or "y"')
    sources = entry["sources"]
    return CameraProfile(
        size_hw=(picture["height"].whole(1, MAX_PICTURE), picture["width"].whole(1, MAX_PICTURE)),
        shading=_shading(entry["shading"]) if entry.has("shading") else None,
        baseline=baseline.value,
        camera=entry["camera"].text() if entry.has("camera") else None,
        lens=entry["lens"].text() if entry.has("lens") else None,
        f_number=_lens_value(entry, "f_number"),
        focal_length_mm=_lens_value(entry, "focal_length_mm"),
        focus_distance_m=entry["focus_distance_m"].distance_m() if entry.has("focus_distance_m") else None,
        sources=tuple(Entry(s, f"{sources.name}[{i}]").text() for i, s in enumerate(sources.items())),
        noise=_noise(entry["noise"]) if entry.has("noise") else None,
        disparity_gain=_lens_value(entry, "disparity_gain"),
        gain=read_gain(entry["gain"]) if entry.has("gain") else None,
        psf=read_psf(entry["psf"]) if entry.has("psf") else None,
        sensor=read_sensor(entry["sensor"]) if entry.has("sensor") else None,
        notes=_notes(entry["notes"]) if entry.has("notes") else None,
    )


def _lens_value(entry: Entry, key: str) -> float | None:
    """A value that some lens can have, or None where there is no such entry."""
    allowed = LENS_RANGES[key]
    return entry[key].number(allowed.low, allowed.high) if entry.has(key) else None


def _notes(entry: Entry) -> dict[str, str]:
    if len(entry.object()) > MAX_NOTES:
        raise entry.wrong(f"at most {MAX_NOTES} entries")
    return {key: entry[key].text(2000) for key in entry.object()}


def _noise(entry: Entry) -> dict[str, HalfNoise]:
    entry.only("left", "right")
    halves = {}
    for half in ("left", "right"):
        entry[half].only("shot", "read")
        halves[half] = HalfNoise(entry[half]["shot"].number(0, 1), entry[half]["read"].number(0, 1))
    return halves


def _shading(entry: Entry) -> Shading:
    entry.only("rows", "columns", "channels", "left_over_right", "residual_percent", "left", "right")
    channels = entry["channels"]
    if channels.value not in (1, 3) or isinstance(channels.value, bool):
        raise channels.wrong("1 or 3")
    shape = (entry["rows"].whole(1, MAX_GRID), entry["columns"].whole(1, MAX_GRID), int(channels.value))
    ratio, residual = entry["left_over_right"], entry["residual_percent"]
    residual.only("rms", "worst_band")
    ratios = ratio.items(shape[2])
    return Shading(
        left=entry["left"].grid(shape, 0, 1, above=True),
        right=entry["right"].grid(shape, 0, 1, above=True),
        left_over_right=tuple(Entry(r, f"{ratio.name}[{i}]").number(0.01, 100) for i, r in enumerate(ratios)),
        residual_rms_percent=residual["rms"].number(0, 1e4),
        residual_band_percent=residual["worst_band"].number(0, 1e4),
    )
