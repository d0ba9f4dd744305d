"""What a sensor adds to the light of a sample: exposure, noise, clipping, and the 8 bits of an export.

Convention: views are linear light (..., H, W), float32, black at 0. Noise is drawn on the device of the view from a
generator that is seeded with one number, so that a sample is a function of that number, the device and the version of
PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from dualpix.capture.pictures.display import linear_from_srgb

_LEVEL = (0.06, 0.5)
"""Of the mean of the full-aperture view, relative to its white level; log-uniform."""


@dataclass(frozen=True)
class Exposure:
    """One capture's sensor, drawn at random."""

    gain: float
    shot: float
    """Variance of the noise per unit of light."""
    read: float
    """Deviation of the noise in the dark."""
    clip: float
    """White level."""
    gamma_8bit: bool
    """Whether the view went through 8 bits in sRGB."""
    noise: torch.Generator

    @classmethod
    def draw(cls, rng: np.random.Generator, mean: float, device: torch.device) -> Exposure:
        """For a view whose mean is ``mean``."""
        gain = float(np.exp(rng.uniform(*np.log(_LEVEL)))) / max(mean, 1e-4)
        shot, read = float(np.exp(rng.uniform(-12.0, -7.0))), float(np.exp(rng.uniform(-9.0, -6.0)))
        clip = 1.0 if rng.random() < 0.7 else float(rng.uniform(0.5, 1.0))
        gamma_8bit = bool(rng.random() < 0.2)
        noise = torch.Generator(device).manual_seed(int(rng.integers(1 << 62)))
        return cls(gain, shot, read, clip, gamma_8bit, noise)

    def expose(self, view: Tensor, share: float = 1.0) -> Tensor:
        """The view as the sensor records it.

        Args:
            view: linear light.
            share: white level of the view relative to the full aperture's: a half has 0.5.
        """
        linear = (view * self.gain).clamp_max(self.clip * share)
        grain = torch.randn(linear.shape, generator=self.noise, device=linear.device)
        noisy = linear + grain * torch.sqrt(self.shot * linear.clamp_min(0) + self.read**2)
        return share * through_srgb_8bit(noisy / share) if self.gamma_8bit else noisy


def through_srgb_8bit(linear: Tensor) -> Tensor:
    """sRGB encoding, 8 bits, and back: what a JPEG or an 8-bit export leaves of a linear view.

    As :mod:`dualpix.capture.pictures.display` does it, on the device of the view.
    """
    held = linear.clamp(0.0, 1.0)
    code = torch.where(held <= 0.0031308, held * 12.92, 1.055 * held ** (1 / 2.4) - 0.055)
    return _linear_of_code(held.device)[torch.round(code * 255).long()]


@cache
def _linear_of_code(device: torch.device) -> Tensor:
    return torch.from_numpy(linear_from_srgb(np.arange(256, dtype=np.float32) / np.float32(255))).to(device)
