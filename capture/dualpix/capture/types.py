"""The types that travel between areas.

Convention: images are float32 arrays (H, W) or (H, W, 3), linear in light, black-subtracted, 1.0 = white level.
Disparity is ``x_right - x_left`` in pixels of the decoded view, > 0 behind the focus plane (see
:mod:`dualpix.capture.optics`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Baseline = Literal["x", "y"]
Quality = Literal["standard", "exact"]
"""Of a rendered picture at depth edges: "exact" agrees with ray tracing there."""
ANY_PIXEL = "Google Pixel"
"""The camera of a file that any of these phones may have taken."""


@dataclass(frozen=True)
class CaptureMeta:
    """What is known about the shot; ``None`` means the file does not say."""

    camera: str | None = None
    lens_model: str | None = None
    date_time: str | None = None
    """When the picture was taken, ISO 8601 in camera time; with fractions of a second and the offset from UTC where the
    file states them."""
    iso: float | None = None
    exposure_s: float | None = None
    f_number: float | None = None
    focal_length_mm: float | None = None
    focus_distance_m: float | None = None
    """From the lens plane, up to infinity (EXIF SubjectDistance is taken as such). Canon's cameras record bounds only,
    as far as known from the sensor plane; ``provenance["focus_distance"]`` says which it is."""
    focus_distance_upper_m: float | None = None
    """Far bound of the focus distance as the camera recorded it, up to infinity."""
    focus_distance_lower_m: float | None = None
    """Near bound."""
    pixel_pitch_um: float | None = None
    """Of the decoded view, along the baseline: a half-size view has twice the sensor's pitch."""
    pixel_aspect: float = 1.0
    """Extent of a pixel of the decoded view across the baseline over that along it; PDCapture files have 2."""
    disparity_gain: float | None = None
    """kappa: disparity = kappa * circle of confusion / pitch; ``None`` where the camera was not measured."""
    orientation: int = 1
    """EXIF orientation 1..8 of the file. The decoded views are already upright."""
    provenance: dict[str, str] = field(default_factory=dict)
    """Where each half came from, e.g. ``{"left": "frame 1", "right": "derived: frame 0 - frame 1"}``."""

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for a JSON sidecar; infinity, which JSON lacks, is the text "inf"."""
        return {key: "inf" if value == math.inf else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class DualPixelImage:
    """A decoded dual-pixel capture: two half-aperture views and the full-aperture one.

    ``left`` and ``right`` carry the light of one half aperture each, in the unit of ``combined``: where a sensor reads
    the sum (Canon), ``combined = left + right`` and a half seldom exceeds about 0.5; where it reads the halves
    (Pixel), each half has its own range up to 1.0 and ``combined = (left + right) / 2``.
    """

    left: FloatImage
    right: FloatImage
    combined: FloatImage
    saturated: Mask
    """(H, W): True where any contributing sensor value clipped; a derived half is a lower bound there."""
    baseline: Baseline = "x"
    """Axis of the disparity in the upright view: "y" for a portrait shot."""
    meta: CaptureMeta = field(default_factory=CaptureMeta)

    def __post_init__(self) -> None:
        shapes = {a.shape for a in (self.left, self.right, self.combined)}
        if len(shapes) != 1 or self.saturated.shape != self.left.shape[:2]:
            raise ValueError(f"views differ in shape: {sorted(map(str, shapes))}, mask {self.saturated.shape}")

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of the decoded view in pixels."""
        return self.left.shape[0], self.left.shape[1]


@dataclass(frozen=True)
class LensModel:
    """A thin lens focused at a distance, in front of a sensor with dual pixels."""

    focal_length_mm: float
    f_number: float
    focus_distance_m: float
    pixel_pitch_um: float
    disparity_gain: float = 0.424
    """Ideal half disc 4/(3 pi) = 0.424; Pixel 4 measured 0.21 (Xin et al. 2021 kernels)."""


@dataclass(frozen=True)
class FrameLook:
    """How the files of a stack code light, so that what is made of them can be coded and shown like them."""

    curve: Literal["srgb", "linear"] = "linear"
    """Tone curve by which their codes became light."""
    camera: bool = False
    """The light is that of a raw: colours of the sensor, neither balanced nor exposed for display."""
    white_balance: tuple[float, float, float] | None = None
    """R, G, B multipliers of a raw as shot, green = 1; None where it does not say."""
    icc_profile: bytes | None = None
    """Of the pictures, where they are of a known space."""
    floating: bool = False
    """Their samples are floats: light beyond white is kept."""
    gray: bool = False
    """They have one channel."""
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Light of the largest code, R, G, B."""


@dataclass(frozen=True)
class FocusStack:
    """Pictures of one scene focused at different distances, farthest first, as the networks and baselines take them."""

    frames: FloatImage
    """(N, H, W, 3) linear, of equal exposure and one aperture."""
    focus_distance_m: npt.NDArray[np.float64] | None
    """(N,) from the lens plane, up to infinity, strictly falling; None where nothing says where the frames are focused:
    they are in the order in which they were taken then, and which end is the near one is not known."""
    uncertainty_d: npt.NDArray[np.float64] | None
    """(N,) one standard deviation of the focus, in diopters; None with the distances."""
    lens: LensModel
    """Aperture and pixel pitch of ``frames``; its own ``focus_distance_m`` is the first frame's."""
    all_in_focus: FloatImage | None = None
    """(H, W, 3) the frame at a small aperture, if there is one."""
    provenance: tuple[str, ...] = ()
    """(N,) where each distance comes from."""
    names: tuple[str, ...] = ()
    """(N,) of the frames, for messages."""
    look: FrameLook | None = None
    """Of the files; None where there are none."""

    def __post_init__(self) -> None:
        n = self.frames.shape[0]
        distances, errors = self.focus_distance_m, self.uncertainty_d
        if self.frames.ndim != 4 or (distances is None) != (errors is None):
            raise ValueError(f"frames {self.frames.shape}, or distances without their uncertainty")
        if distances is not None and errors is not None and not n == len(distances) == len(errors):
            raise ValueError(f"{n} frames {self.frames.shape}, {len(distances)} distances")

    @property
    def sweep(self) -> npt.NDArray[np.float64]:
        """(N,) where each frame stands in the sweep, rising: its diopters, or its number from 0 where distances are not
        known, which orders frames and says nothing of metres."""
        if self.focus_distance_m is None:
            return np.arange(len(self.frames), dtype=np.float64)
        return np.asarray(1.0 / self.focus_distance_m, np.float64)
