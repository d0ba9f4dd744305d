"""A lens with steps and a small live view of targets at known distances; time passes only where it is waited for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dualpix.capture.camera_protocol import CameraError, CameraInfo, Direction
from dualpix.capture.cameras.hidden.lens import HiddenLens, LensTruth
from dualpix.capture.focus.calibrate import Target
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.types import FloatImage

TARGETS_D = (0.28, 0.62, 0.98, 1.35, 1.75, 2.2)
_PATCH = (24, 40)
_COLUMNS = 3


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def seen_patches(
    rng: np.random.Generator, count: int, widest_px: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Textures at rising blur: diameters (L,) and pictures (L, count, h, w)."""
    diameters = np.concatenate([np.arange(0, 6, 0.5), np.geomspace(6, widest_px + 6, 24)])
    fy, fx = np.fft.fftfreq(_PATCH[0])[:, None], np.fft.rfftfreq(_PATCH[1])[None]
    spectra = np.fft.rfft2(rng.normal(0, 1, (count, *_PATCH)))
    # a pixel's own softness, and a Gaussian with the second moment of the disc
    spread = (diameters / 4) ** 2 + 0.6**2
    blur = np.exp(-2 * np.pi**2 * (fy**2 + fx**2)[None] * spread[:, None, None])
    pictures = np.fft.irfft2(blur[:, None] * spectra[None], _PATCH)
    return diameters, np.asarray(0.4 + 0.12 * pictures / pictures[0].std(), np.float32)


@dataclass
class FakeDrive:
    """A FocusDrive over a HiddenLens."""

    lens: HiddenLens
    clock: Clock = field(default_factory=Clock)
    seed: int = 0
    targets_d: tuple[float, ...] = TARGETS_D
    px_per_diopter: float = 14.0
    noise: float = 0.004
    picture_s: float = 0.003
    flicker: float = 0.0
    looks: int = 0
    fail_at_drive: int | None = None
    lose_drives: frozenset[int] = frozenset()
    """Numbers of the steps that the lens does not take, though told to."""
    drives: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([self.seed, 3])
        widest = self.px_per_diopter * 4
        self._diameters, self._pictures = seen_patches(self._rng, len(self.targets_d), widest)
        self._focus_d = np.array(self.targets_d)

    @property
    def info(self) -> CameraInfo:
        return CameraInfo("fake", "here", "Maker", "Body", "42", lens="Lens 50", focal_length_mm=50.0)

    @property
    def step_sizes(self) -> tuple[int, ...]:
        return tuple(sorted(self.lens.truth.sizes))

    def drive(self, direction: Direction, size: int) -> None:
        self.drives += 1
        if self.drives == self.fail_at_drive:
            raise CameraError("step refused")
        if self.drives not in self.lose_drives:
            self.lens.drive(direction, size)

    def live_view(self) -> FloatImage:
        self.looks += 1
        self.clock.sleep(self.picture_s)
        blur = np.abs(self.lens.diopters - self._focus_d) * self.px_per_diopter
        place = np.interp(blur, self._diameters, np.arange(len(self._diameters)))
        low = np.minimum(place.astype(int), len(self._diameters) - 2)
        share = (place - low).astype(np.float32)[:, None, None]
        number = np.arange(len(blur))
        patches = (1 - share) * self._pictures[low, number] + share * self._pictures[low + 1, number]
        rows = -(-len(patches) // _COLUMNS)
        picture = np.full((rows * _COLUMNS, *_PATCH), 0.4, np.float32)
        picture[: len(patches)] = patches
        joined = picture.reshape(rows, _COLUMNS, *_PATCH).transpose(0, 2, 1, 3).reshape(rows * _PATCH[0], -1)
        joined = joined * np.float32(1 + self.flicker * self._rng.standard_normal())
        noisy = joined + self._rng.standard_normal(joined.shape, np.float32) * np.float32(self.noise)
        return np.asarray(np.rint(np.clip(noisy, 0, 1) * 255) / 255, np.float32)

    def targets(self) -> list[Target]:
        rows = -(-len(self.targets_d) // _COLUMNS)
        out = []
        for number, diopters in enumerate(self.targets_d):
            row, column = divmod(number, _COLUMNS)
            out.append(Target(1 / diopters, (column / _COLUMNS, row / rows, 1 / _COLUMNS, 1 / rows)))
        return out


def make_drive(truth: LensTruth | None = None, seed: int = 0, **settings: object) -> FakeDrive:
    clock = Clock()
    truth = truth or LensTruth()
    lens = HiddenLens(truth, seed, min(400.0, truth.end / 2), clock)
    return FakeDrive(lens, clock, seed, **settings)  # type: ignore[arg-type]


def true_calibration(truth: LensTruth | None = None, **changes: object) -> LensCalibration:
    """What a perfect calibration of the lens would say: the glass lags behind the motor by half the backlash."""
    truth = truth or LensTruth()
    a, b, c = truth.coefficients
    unit, lag = truth.sizes[1], truth.backlash / 2
    values: dict[str, object] = {
        "body": "Body 42",
        "lens": "Lens 50",
        "focal_length_mm": 50.0,
        "coefficients": (a - b * lag + c * lag**2, (b - 2 * c * lag) * unit, c * unit**2),
        "covariance": ((0.0,) * 3,) * 3,
        "units_per_step": {size: travel / unit for size, travel in truth.sizes.items()},
        "jitter": truth.jitter,
        "travel_units": truth.end / unit,
        "backlash_units": truth.backlash / unit,
        "residual_d": 0.0,
        "points": ((50.0, 0.4), (200.0, 1.7)),
        "made_at": "2026-01-02T03:04:05+00:00",
        "method": "the truth",
        **changes,
    }
    return LensCalibration(**values)  # type: ignore[arg-type]
