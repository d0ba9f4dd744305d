"""What only a test may know: the calibration of a hidden lens, from its truth."""

from __future__ import annotations

from dualpix.capture.cameras.hidden.lens import LensTruth
from dualpix.capture.focus.calibration import LensCalibration


def known_calibration(truth: LensTruth, *, body: str = "body", lens: str = "lens") -> LensCalibration:
    """As measuring without any error would give it; the steps scatter nevertheless.

    Counted from the far stop, where the glass leans on the near end of the slack, the motor is half a slack ahead.
    """
    unit, half = truth.sizes[min(truth.sizes)], truth.backlash / 2
    a, b, c = truth.coefficients
    coefficients = (a - b * half + c * half**2, (b - 2 * c * half) * unit, c * unit**2)
    nothing = (0.0, 0.0, 0.0)
    return LensCalibration(
        body=body, lens=lens, focal_length_mm=50.0, coefficients=coefficients, covariance=(nothing, nothing, nothing),
        units_per_step={size: way / unit for size, way in truth.sizes.items()}, jitter=truth.jitter,
        travel_units=truth.end / unit, backlash_units=truth.backlash / unit, residual_d=0.001,
        points=((0.0, coefficients[0]),), made_at="2026-01-01T00:00:00+00:00", method="the truth",
    )  # fmt: skip
