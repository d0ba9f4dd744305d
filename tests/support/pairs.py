"""Pairs of halves whose disparity is known, or that have none: what users hold, made of nothing."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from scipy import ndimage

from dualpix.capture.types import CaptureMeta, DualPixelImage, FloatImage

SIZE_HW = (192, 256)
NOISE = 0.004


def capture_of_halves(left: np.ndarray, right: np.ndarray, saturated: np.ndarray | None = None) -> DualPixelImage:
    left, right = (np.asarray(view, np.float32) for view in (left, right))
    mask = np.zeros(left.shape, bool) if saturated is None else saturated
    return DualPixelImage(left, right, (left + right) / 2, mask, "x", CaptureMeta())


def texture(seed: int, size_hw: tuple[int, int] = SIZE_HW, sigma_px: float = 2.0) -> FloatImage:
    """Smooth random light, 0.1 ... 0.9."""
    noise = np.random.default_rng(seed).random(size_hw, np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma_px)
    low, high = float(smooth.min()), float(smooth.max())
    return 0.1 + 0.8 * (smooth - low) / (high - low)


def moved(view: FloatImage, dx_px: float, dy_px: float = 0.0) -> FloatImage:
    """By splines of fifth order, to 0.002 px: OpenCV's cubic moves by 0.19 px where 0.15 are asked for."""
    return np.asarray(ndimage.shift(view, (dy_px, dx_px), order=5, mode="reflect"), np.float32)


def noise(seed: int, size_hw: tuple[int, int] = SIZE_HW, sigma: float = NOISE) -> FloatImage:
    return np.random.default_rng(seed).normal(0, sigma, size_hw).astype(np.float32)


def shifted(dx_px: float, dy_px: float = 0.0, seed: int = 0, sigma: float = NOISE) -> DualPixelImage:
    """A textured plane: x_right - x_left = dx_px everywhere."""
    view = texture(seed)
    return capture_of_halves(
        moved(view, -dx_px / 2, -dy_px / 2) + noise(seed + 1, sigma=sigma),
        moved(view, dx_px / 2, dy_px / 2) + noise(seed + 2, sigma=sigma),
    )


def _even(level: float, sigma: float) -> DualPixelImage:
    return capture_of_halves(level + noise(1, sigma=sigma), level + noise(2, sigma=sigma))


def _vignetted() -> DualPixelImage:
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in SIZE_HW), indexing="ij")
    light = 0.5 * (1 - 0.2 * (x**2 + y**2))
    return capture_of_halves(light + noise(1), light + noise(2))


def _rows() -> DualPixelImage:
    light = np.repeat(0.6 * np.random.default_rng(3).random((SIZE_HW[0], 1), np.float32), SIZE_HW[1], 1)
    return capture_of_halves(light + noise(1), light + noise(2))


def _jpeg() -> DualPixelImage:
    def through(view: FloatImage) -> np.ndarray:
        codes = np.clip(view * 255, 0, 255).astype(np.uint8)
        return cv2.imdecode(cv2.imencode(".jpg", codes, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 0) / np.float32(255)

    return capture_of_halves(through(0.4 + noise(1, sigma=0.02)), through(0.4 + noise(2, sigma=0.02)))


NOTHING: dict[str, tuple[Callable[[], DualPixelImage], str]] = {
    "grey card": (lambda: _even(0.4, NOISE), "no_texture"),
    "noisy grey card": (lambda: _even(0.4, 0.05), "no_texture"),
    "noise in the dark": (
        lambda: capture_of_halves(*(np.maximum(noise(k, sigma=1e-3), 0) for k in (1, 2))),
        "no_texture",
    ),
    "vignetted grey card": (_vignetted, "no_texture"),
    "grey card as JPEG": (_jpeg, "no_texture"),
    "stripes along the baseline": (_rows, "no_texture"),
    "white noise": (lambda: capture_of_halves(*np.random.default_rng(0).random((2, *SIZE_HW))), "no_texture"),
    "two scenes": (lambda: capture_of_halves(texture(1) + noise(1), texture(2) + noise(2)), "unrelated"),
    "a negative": (lambda: capture_of_halves(texture(1) + noise(1), 1 - texture(1) + noise(2)), "unrelated"),
    "mirrored": (lambda: capture_of_halves(texture(1) + noise(1), texture(1)[:, ::-1] + noise(2)), "unrelated"),
    "40 px": (lambda: shifted(40.0), "beyond_reach"),
    "-40 px": (lambda: shifted(-40.0), "beyond_reach"),
    "25 px": (lambda: shifted(25.0), "beyond_reach"),
    "6 px across": (lambda: shifted(0.0, 6.0), "across_baseline"),
    "black": (lambda: capture_of_halves(np.zeros(SIZE_HW), np.zeros(SIZE_HW)), "no_light"),
    "white": (lambda: capture_of_halves(np.ones(SIZE_HW), np.ones(SIZE_HW), np.ones(SIZE_HW, bool)), "no_light"),
    "left half black": (lambda: capture_of_halves(np.zeros(SIZE_HW), texture(1) + noise(1)), "one_half_dark"),
    "right half dark": (lambda: capture_of_halves(texture(1) + noise(1), 0.005 * texture(1)), "one_half_dark"),
    "one picture twice": (lambda: capture_of_halves(*[texture(1) + noise(1)] * 2), "same_picture"),
    "one picture, dimmed": (
        lambda: capture_of_halves(texture(1) + noise(1), 0.8 * (texture(1) + noise(1))),
        "same_picture",
    ),
}
"""What nothing can be measured in, and the code of the finding that says why."""
