"""Textured planes through a dual-pixel lens, written as captures: what calibration is tried on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from dualpix.capture import optics
from dualpix.capture.calibrate.psf import model_kernels
from dualpix.capture.types import LensModel

Floats = npt.NDArray[np.float64]

SIZE_HW = (384, 512)
LENS = LensModel(50.0, 4.0, 1.0, pixel_pitch_um=70.0, disparity_gain=0.1)
"""A blur of some pixels for planes from 0.6 to 1.5 m."""


def texture(seed: int = 0, size_hw: tuple[int, int] = SIZE_HW) -> Floats:
    """Linear light with the spectrum of natural pictures, about 0.05 to 0.6."""
    height, width = size_hw
    noise = np.fft.rfft2(np.random.default_rng(seed).normal(size=size_hw))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    picture = np.fft.irfft2(noise / np.maximum(frequency, 1 / height), s=size_hw)
    return np.clip(0.2 * np.exp(0.5 * picture / picture.std()), 0.02, 0.9)


def halves(light: Floats, coc_px: float, gain: float, seed: int = 1) -> tuple[Floats, Floats]:
    """Both views (cyclic), each with the light of ``light``, with a little noise."""
    rng = np.random.default_rng(seed)
    if abs(coc_px) < 0.5:
        return tuple(light + rng.normal(0, 0.001, light.shape) for _ in range(2))  # type: ignore[return-value]
    size = 2 * (int(abs(coc_px)) // 2 + 4) + 1
    kernels = model_kernels(coc_px, gain, 0.05, 0.0, 0.0, size)
    return tuple(convolved(light, k) + rng.normal(0, 0.001, light.shape) for k in kernels)  # type: ignore[return-value]


def convolved(light: Floats, kernel: Floats) -> Floats:
    """Cyclic convolution with a centred kernel."""
    n = kernel.shape[0]
    padded = np.zeros_like(light)
    padded[:n, :n] = kernel
    padded = np.roll(padded, (-(n // 2), -(n // 2)), (0, 1))
    return np.asarray(np.fft.irfft2(np.fft.rfft2(light) * np.fft.rfft2(padded), s=light.shape))


def write_pair(left_path: Path, left: Floats, right: Floats) -> Path:
    """16-bit linear PNG files NAME_l.png and NAME_r.png; returns the left one."""
    for path, view in ((left_path, left), (left_path.with_name(left_path.name.replace("_l.", "_r.")), right)):
        cv2.imwrite(str(path), np.rint(np.clip(view, 0, 1) * 65535).astype(np.uint16))
    return left_path


def write_plane(
    folder: Path, distance_m: float, *, focus_m: float = 1.0, lens: LensModel = LENS, light: Floats | None = None
) -> Path:
    """A capture of a plane at ``distance_m``, its left file."""
    torch.set_num_threads(1)
    coc_px = float(optics.circle_of_confusion_px(distance_m, replace(lens, focus_distance_m=focus_m)))
    views = halves(texture() if light is None else light, coc_px, lens.disparity_gain)
    return write_pair(folder / f"plane_{1000 * distance_m:.0f}_{1000 * focus_m:.0f}_l.png", *views)
