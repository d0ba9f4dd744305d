"""Arrays and pictures as the bytes of their files."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import OutputError


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """``array`` as a ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def png_bytes(samples: npt.NDArray[Any]) -> bytes:
    """uint8 or uint16 (H, W) or (H, W, 3) in R, G, B as a PNG file."""
    shown = samples[..., ::-1] if samples.ndim == 3 else samples
    done, data = cv2.imencode(".png", np.ascontiguousarray(shown))
    if not done:
        raise OutputError(f"cannot encode a picture of {samples.shape} as PNG")
    return data.tobytes()
