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
_FLOOR = 1e-4


def _encode(linear: Tensor, gain: Tensor) -> Tensor:
    return torch.sqrt((linear * gain).clamp(0.0, 4.0)) - 0.4


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
