"""What a network sees: from linear views to its inputs. Training, prediction and calibration all pass through here.

Convention: views are linear light, (B, C, H, W), baseline along x. One gain per capture brings the mean of the two
halves to ``MEAN_LEVEL``, then a square root compresses the range (shot noise becomes about uniform, as in an Anscombe
transform). The same gain serves both halves, so their difference keeps its meaning.
"""

from __future__ import annotations

import torch
from torch import Tensor

MEAN_LEVEL = 0.18
"""Mean linear level after the gain: photography's mid grey, so that two stops of highlights stay below 1."""
OFFSET = 0.4
"""Subtracted from the root of light: inputs are about centred."""
_FLOOR = 1e-4


def _encode(linear: Tensor, gain: Tensor) -> Tensor:
    return torch.sqrt((linear * gain).clamp(0.0, 4.0)) - OFFSET


def network_inputs(left: Tensor, right: Tensor, combined: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Linear views to network inputs ``(image, left, right)``.

    Args:
        left: (B, 1, H, W) linear left half, any exposure, black at 0; NaN must be gone.
        right: (B, 1, H, W) linear right half, equalised with the left.
        combined: (B, 1 or 3, H, W) linear full-aperture view; one channel is repeated (green-only sensors).

    Returns:
        image (B, 3, H, W), left (B, 1, H, W), right (B, 1, H, W), about in [-0.4, 1.6].
    """
    gain_halves = MEAN_LEVEL / (0.5 * (left + right)).mean((1, 2, 3), keepdim=True).clamp_min(_FLOOR)
    gain_image = MEAN_LEVEL / combined.mean((1, 2, 3), keepdim=True).clamp_min(_FLOOR)
    image = combined.expand(-1, 3, -1, -1) if combined.shape[1] == 1 else combined
    return _encode(image, gain_image), _encode(left, gain_halves), _encode(right, gain_halves)


def stack_inputs(frames: Tensor, focus_distances_m: Tensor) -> tuple[Tensor, Tensor]:
    """A focus stack to network inputs ``(frames, focus_diopters)``.

    Args:
        frames: (B, N, 3, H, W) linear light, any exposure, the same for all frames of a stack but for small errors;
            black at 0, NaN must be gone. One gain per stack, so that what frames differ by stays.
        focus_distances_m: (B, N) from the lens; infinity is allowed.

    Returns:
        frames (B, N, 3, H, W), about in [-0.4, 1.6], and their focus (B, N) in 1/m.
    """
    gain = MEAN_LEVEL / frames.mean((1, 2, 3, 4), keepdim=True).clamp_min(_FLOOR)
    return _encode(frames, gain), 1.0 / focus_distances_m
