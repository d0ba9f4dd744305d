"""What is known of a test camera's body: nothing here is secret."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dualpix.capture.raw.write.dng import SIMULATED_MODEL
from dualpix.capture.types import LensModel


@dataclass(frozen=True)
class Body:
    """What is known of the camera: nothing here is secret."""

    size_hw: tuple[int, int] = (128, 192)
    """Of the decoded half-size view, and of live view."""
    focal_length_mm: float = 50.0
    view_pitch_um: float = 100.0
    f_numbers: tuple[float, ...] = (1.8, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0)
    exposures_s: tuple[float, float] = (1 / 4000, 30.0)
    """Shortest and longest."""
    isos: tuple[float, float] = (100.0, 12800.0)
    min_focus_m: float = 0.4
    disparity_gain: float = 0.21
    make: str = "dualpix"
    model: str = SIMULATED_MODEL
    serial: str = "012345678901"
    firmware: str = "1.0"
    lens: str = "Hidden 50mm F1.8"
    lens_serial: str = "0000112233"
    black_dn: int = 512
    white_dn: int = 16383
    full_well_e: float = 40_000.0
    """Electrons of a cell at white, ISO 100, both halves."""
    read_noise_dn: float = 2.0
    card_frames: int = 1000
    """That fit on the card."""
    exif_step_d: float = 0.1
    """The focus distance in the file is rounded to this many diopters, as coarse as cameras write it."""

    def lens_model(self, f_number: float, diopters: float) -> LensModel:
        """Optics of the view, focused at ``diopters``, which may lie beyond infinity (< 0)."""
        distance = math.inf if diopters == 0 else 1 / diopters
        return LensModel(self.focal_length_mm, f_number, distance, self.view_pitch_um, self.disparity_gain)
