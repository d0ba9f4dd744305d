"""Folders of pictures with ``focus.csv``, or without a word about focus, of a card that is sharp in one frame each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.pictures.display import srgb_from_linear
from dualpix.capture.stack.keep.layouts import FOCUS_CSV
from dualpix.capture.types import FloatImage

Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32]
FRAMES, SIZE_HW = 7, (96, 160)
TINT = (0.8, 0.6, 0.45)
"""Light of the card, R, G, B: its R / B is far from grey."""


def card(seed: int = 0, size_hw: tuple[int, int] = SIZE_HW) -> FloatImage:
    """(H, W, 3) linear: a fine texture of one tint."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.random(size_hw, np.float32), (0, 0), 1.0)
    texture = 0.2 + 0.7 * (texture - texture.min()) / np.ptp(texture)
    return np.asarray(texture[..., None] * np.array(TINT, np.float32), np.float32)


def sweep(count: int = FRAMES, noise: float = 0.002) -> FloatImage:
    """(N, H, W, 3) linear: the left half is sharp in frame 1, the right half in frame N - 2."""
    sharp, rng = card(), np.random.default_rng(1)
    frames = np.empty((count, *sharp.shape), np.float32)
    middle = sharp.shape[1] // 2
    for number in range(count):
        for half, focus in ((slice(0, middle), 1), (slice(middle, None), count - 2)):
            frames[number, :, half] = cv2.GaussianBlur(sharp, (0, 0), 0.3 + 0.8 * abs(number - focus))[:, half]
    return np.asarray(np.clip(frames + rng.normal(0, noise, frames.shape), 0, 1), np.float32)


def srgb_codes(light: FloatImage) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(srgb_from_linear(np.clip(light, 0, 1)) * 255), np.uint8)


def write_pictures(
    folder: Path,
    frames: Sequence[npt.NDArray[np.float32]],
    suffix: str = ".png",
    coded: Callable[[FloatImage], Codes] = srgb_codes,
) -> list[Path]:
    """Frames 00, 01, ... in a folder that is made."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:02}{suffix}" for number in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        codes = coded(frame)
        assert cv2.imwrite(str(path), codes[..., ::-1] if codes.ndim == 3 else codes)
    return paths


def write_focus_csv(paths: Sequence[Path], diopters: Sequence[float]) -> Path:
    """The table beside them."""
    rows = [f"{path.name},{focus}" for path, focus in zip(paths, diopters, strict=True)]
    table = paths[0].parent / FOCUS_CSV
    table.write_text("\n".join(["file,diopters", *rows]) + "\n")
    return table
