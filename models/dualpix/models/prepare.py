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


BLACK = 0.4
"""Taken off the root of light, so that what networks see lies about zero."""
_MOST = 4.0
"""Of light after the gain: what is brighter is white."""


def encode(linear: Tensor, gain: Tensor) -> Tensor:
    """Linear light times ``gain`` as networks see it."""
    return torch.sqrt((linear * gain).clamp(0.0, _MOST)) - BLACK


def decode(encoded: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    """Linear light of what a network sees or gives: :func:`encode` undone, but for what it clipped."""
    return (encoded + BLACK).clamp_min(0.0).square() / gain


def image_gain(combined: Tensor) -> Tensor:
    """(B, 1, 1, 1) of the full-aperture views (B, C, H, W): brings the mean of each to ``MEAN_LEVEL``."""
    return MEAN_LEVEL / combined.mean((1, 2, 3), keepdim=True).clamp_min(_FLOOR)


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
    return image_input(combined), encode(left, gain_halves), encode(right, gain_halves)


def image_input(picture: Tensor) -> Tensor:
    """A linear full-aperture view, or any linear picture, (B, 1 or 3, H, W), to a network's (B, 3, H, W)."""
    return encode(picture.expand(-1, 3, -1, -1) if picture.shape[1] == 1 else picture, image_gain(picture))


def stack_inputs(frames: Tensor, focus_distances_m: Tensor) -> tuple[Tensor, Tensor]:
    """A focus stack to network inputs ``(frames, focus_diopters)``, the farthest focus first.

    Args:
        frames: (B, N, 3, H, W) linear light, any exposure, the same for all frames of a stack but for small errors;
            black at 0, NaN must be gone. One gain per stack, so that what frames differ by stays. In any order.
        focus_distances_m: (B, N) from the lens; infinity is allowed.

    Returns:
        frames (B, N, 3, H, W), about in [-0.4, 1.6], and their focus (B, N) in 1/m, rising.
    """
    focus_diopters, order = (1.0 / focus_distances_m).sort(dim=1, stable=True)
    if not bool((order == torch.arange(order.shape[1], device=order.device)).all()):
        frames = torch.stack([stack[places] for stack, places in zip(frames, order, strict=True)])
    gain = MEAN_LEVEL / frames.mean((1, 2, 3, 4), keepdim=True).clamp_min(_FLOOR)
    return encode(frames, gain), focus_diopters


USUAL_WIDTH_PER_FOCAL = 1.0
"""Of a picture of which nothing is known: 36 mm on 35 mm film, 53 degrees wide."""
_UM_PER_MM = 1000.0
_MM_PER_M = 1000.0
_LEAST_LEFT = 0.05
"""Of 1 - f / s: at 20 focal lengths over 19 a lens is extended to twenty times its length."""


def width_per_focal(width_px: int, focal_length_mm: Tensor, pixel_pitch_um: Tensor) -> Tensor:
    """Width of the picture over its focal length, twice the tangent of half its angle: of what canonical space is made.

    What is as far as the focal length times this looks the same through any lens: a thing of 1 m at that distance is
    as many pixels wide. Depth times it is canonical depth (Yin et al., "Metric3D", ICCV 2023, section 3.1, with the
    picture's width as the canonical focal length, as in FOSSA).

    Args:
        width_px: of the picture that the network sees.
        focal_length_mm: (B,); with ``pixel_pitch_um`` it gives the focal length in px.
        pixel_pitch_um: (B,) of that picture.

    Returns:
        (B,), :data:`USUAL_WIDTH_PER_FOCAL` where one of the two is not above 0 or no number.
    """
    known = (focal_length_mm > 0) & (pixel_pitch_um > 0) & torch.isfinite(focal_length_mm * pixel_pitch_um)
    focal_px = torch.where(known, focal_length_mm, 1.0) * _UM_PER_MM / torch.where(known, pixel_pitch_um, 1.0)
    return torch.where(known, width_px / focal_px, USUAL_WIDTH_PER_FOCAL)


def blur_px_per_diopter(
    focus_diopters: Tensor, focal_length_mm: Tensor, f_number: Tensor, pixel_pitch_um: Tensor
) -> Tensor:
    """Circle of confusion in px, of what is a diopter beside the focus of each frame.

    A thin lens of the focal length f and the aperture A = f / N, focused at s, makes of a point at d a circle of
    ``A f / (1 - f / s) |1 / s - 1 / d|`` on the sensor (:func:`dualpix.capture.optics.circle_of_confusion_mm`).

    Args:
        focus_diopters: (B, N) in 1/m.
        focal_length_mm: (B,)
        f_number: (B,)
        pixel_pitch_um: (B,) of the picture that the network sees.

    Returns:
        (B, N), 0 where one of the three is not above 0 or no number, or where the lens has no focus so near.
    """
    told = focal_length_mm * f_number * pixel_pitch_um
    known = (focal_length_mm > 0) & (f_number > 0) & (pixel_pitch_um > 0) & torch.isfinite(told)
    focal_mm, number, pitch_um = (
        torch.where(known, value, 1.0)[:, None] for value in (focal_length_mm, f_number, pixel_pitch_um)
    )
    left = 1 - focal_mm / _MM_PER_M * focus_diopters
    blur = focal_mm * focal_mm / (number * pitch_um * left.clamp_min(_LEAST_LEFT))  # mm^2 / um = m
    return torch.where(known[:, None] & (left >= _LEAST_LEFT), blur, 0.0)
