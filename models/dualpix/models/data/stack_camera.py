"""The camera that takes a rendered focus stack: its lens, and what it does not do as it says.

Convention: distances in m from the lens, focus in diopters. A camera focuses where it likes; what it *says* of its
distances has an error, and frames that were aligned lie a little beside one another still.

What the errors are like was measured on the simulated cameras, whose truth is known (``dualpix capture --camera sim``,
``dualpix capture align``): distances are off by 0.001 to 0.007 D in common, by up to 0.5 % of the diopters, and by
0.002 D from frame to frame; what is left of breathing is a magnification of up to 0.001 per diopter, a third of a pixel
in the corners of a view of 192 px. Lenses that are calibrated less well than these are drawn too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture import optics
from dualpix.capture.types import LensModel
from dualpix.models.data.focus_lists import Diopters

_UM_PER_MM = 1000.0
PUBLISHED_F_NUMBERS = (1.0, 1.4, 2.0, 2.8, 4.0)
PUBLISHED_FOCAL_MM = (31.0, 55.0)
"""On 36 mm: from Hypersim's intrinsics, 60 degrees wide, to the 50 mm of the benchmarks."""
FULL_FRAME_MM = 36.0
_MOST_SMALLER = 2.0
_MOST_F_NUMBER = 22.0


@dataclass(frozen=True)
class LensKind:
    """Lenses of one sort, all ranges drawn uniformly but for the logarithmic ones that say so."""

    share: float
    focal_length_mm: tuple[float, float]
    f_number: tuple[float, float] | None
    """Log-uniform; None where the aperture is given."""
    aperture_mm: tuple[float, float] | None
    sensor_width_mm: tuple[float, float]
    picture_width_px: tuple[float, float]
    """Log-uniform: of the picture that a sample is a window of."""


LENSES: tuple[LensKind, ...] = (
    LensKind(0.45, (6.0, 7.0), None, (3.5, 4.0), (8.8, 10.2), (384.0, 1280.0)),
    LensKind(0.35, (35.0, 60.0), (1.4, 4.0), None, (36.0, 36.0), (224.0, 720.0)),
    LensKind(0.20, (30.0, 60.0), (1.4, 4.0), None, (22.3, 24.0), (224.0, 720.0)),
)
"""A phone's main camera; lenses of about 50 mm on full frame and on APS-C."""


def draw_lens(rng: np.random.Generator) -> LensModel:
    """A lens of one of ``LENSES``; its focus is not drawn."""
    kind = LENSES[int(rng.choice(len(LENSES), p=[kind.share for kind in LENSES]))]
    focal = float(rng.uniform(*kind.focal_length_mm))
    if kind.aperture_mm is not None:
        f_number = focal / float(rng.uniform(*kind.aperture_mm))
    else:
        assert kind.f_number is not None  # noqa: S101 - one of the two is given
        f_number = float(np.exp(rng.uniform(*np.log(kind.f_number))))
    width = float(np.exp(rng.uniform(*np.log(kind.picture_width_px))))
    pitch = float(rng.uniform(*kind.sensor_width_mm)) * _UM_PER_MM / width
    return LensModel(focal, f_number, 1.0, pitch)


def published_lens(rng: np.random.Generator, size_hw: tuple[int, int]) -> LensModel:
    """A lens of the published generators: 36 mm on the longer side of the very sample, one of five f-numbers."""
    f_number = float(rng.choice(PUBLISHED_F_NUMBERS))
    pitch = FULL_FRAME_MM * _UM_PER_MM / max(size_hw)
    return LensModel(float(rng.uniform(*PUBLISHED_FOCAL_MM)), f_number, 1.0, pitch)


def largest_coc_px(lens: LensModel, focus_d: Diopters, ends_d: tuple[float, float]) -> float:
    """Of frames focused at (N,) diopters, on a scene between two ends in diopters."""
    return max(abs(coc) for focus in focus_d for coc in coc_ends_px(lens, float(focus), ends_d))


def coc_ends_px(lens: LensModel, focus_d: float, ends_d: tuple[float, float]) -> tuple[float, float]:
    """Signed circle of confusion of the far and of the near end of a scene."""
    focused = replace(lens, focus_distance_m=_metres(focus_d))
    far, near = (float(optics.circle_of_confusion_px(_metres(end), focused)) for end in ends_d)
    return far, near


def within_blur(lens: LensModel, focus_d: Diopters, ends_d: tuple[float, float], most_px: float) -> LensModel:
    """The lens, whose blur is at most so many px: on a picture of down to half the size, and then stopped down.

    Like a photographer's and a network's own choice: who has much blur looks at a smaller picture.
    """
    worst = largest_coc_px(lens, focus_d, ends_d)
    if worst <= most_px:
        return lens
    smaller = min(worst / most_px, _MOST_SMALLER)
    f_number = lens.f_number * worst / most_px / smaller
    return replace(lens, pixel_pitch_um=lens.pixel_pitch_um * smaller, f_number=min(f_number, _MOST_F_NUMBER))


def _metres(diopters: float) -> float:
    return float(np.inf) if diopters <= 0 else 1 / diopters


# --- what cameras do not do as they say ---------------------------------------------------------------------------


@dataclass(frozen=True)
class CameraErrors:
    """Standard deviations; each sample draws how careful its camera is as a factor, log-uniformly."""

    common_d: float = 0.004
    """Of all distances of a stack, in diopters."""
    relative: float = 0.003
    """Of all distances of a stack, as a part of the diopters."""
    frame_d: float = 0.002
    """Of each frame."""
    breathing: float = 0.0007
    """What is left of it: magnification per diopter."""
    shift_px: float = 0.05
    """What is left of motion, of each frame."""
    careless: tuple[float, float] = (0.5, 5.0)


MEASURED = CameraErrors()


@dataclass(frozen=True)
class Misalignment:
    """How (N,) frames lie to the picture that the truth is of."""

    scale: npt.NDArray[np.float64]
    shift_px: npt.NDArray[np.float64]
    """(N, 2) x, y."""

    @staticmethod
    def none(frames: int) -> Misalignment:
        """All lie where they should."""
        return Misalignment(np.ones(frames), np.zeros((frames, 2)))


def said_focus(focus_d: Diopters, rng: np.random.Generator, errors: CameraErrors = MEASURED) -> Diopters:
    """(N,) what a camera says of frames that are focused at (N,) diopters; as strictly rising, none below 0."""
    careless = float(np.exp(rng.uniform(*np.log(errors.careless))))
    common, relative = rng.normal(0.0, careless, 2)
    each = careless * errors.frame_d * rng.standard_normal(len(focus_d))
    said = focus_d * (1 + errors.relative * relative) + errors.common_d * common
    apart = np.diff(focus_d).min(initial=np.inf) / 3  # errors that change the order are seen, and mended, by capture
    return np.asarray(np.maximum(np.sort(said + np.clip(each, -apart, apart)), 0.0), np.float64)


def draw_misalignment(focus_d: Diopters, rng: np.random.Generator, errors: CameraErrors = MEASURED) -> Misalignment:
    """What alignment leaves: magnification in proportion to the diopters from the nearest frame, which the others are
    aligned to, and a shift of each frame but that one."""
    careless = float(np.exp(rng.uniform(*np.log(errors.careless))))
    slope = errors.breathing * careless * float(rng.standard_normal())
    shift = errors.shift_px * careless * rng.standard_normal((len(focus_d), 2))
    shift[-1] = 0.0
    return Misalignment(1 + slope * (focus_d - focus_d[-1]), shift)


def moved(frame: npt.NDArray[np.float32], scale: float, shift_px: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """(H, W, C) enlarged about its centre and shifted, by cubic interpolation as alignment does it."""
    if scale == 1.0 and not shift_px.any():
        return frame
    height, width = frame.shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.column_stack([scale * np.eye(2), (1 - scale) * centre + shift_px])
    return np.asarray(
        cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )
