"""Headerless RAW_DEPTH dumps: left and right interleaved by sample, 16-bit little-endian or Android's RAW10 packing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.integer]


def interleave(left: Samples, right: Samples) -> npt.NDArray[np.uint16]:
    """(H, W) and (H, W) -> (H, 2 W): even columns left."""
    return np.stack([left, right], axis=-1).reshape(left.shape[0], -1).astype(np.uint16)


def stretch(raw: Samples) -> npt.NDArray[np.uint16]:
    """10-bit samples to 16 bits the way PDCapture does."""
    return (raw.astype(np.uint32) * 65535 // 1023).astype(np.uint16)


def pack_raw10(samples: Samples) -> npt.NDArray[np.uint8]:
    """(H, 4 n) 10-bit samples -> (H, 5 n) bytes, written bit by bit after Android's table of RAW10."""
    height, width = samples.shape
    packed = np.zeros((height, width // 4 * 5), np.uint8)
    for place in range(4):
        packed[:, place::5] = samples[:, place::4] >> 2
        packed[:, 4::5] |= ((samples[:, place::4] & 3) << (2 * place)).astype(np.uint8)
    return packed


def write_dump(
    path: Path, samples: Samples, *, bits: int = 16, stride_bytes: int | None = None, pad_last_row: bool = True
) -> None:
    """Write interleaved samples; padding bytes are 0xEE, which no reader may take for samples."""
    rows = pack_raw10(samples) if bits == 10 else np.ascontiguousarray(samples.astype("<u2")).view(np.uint8)
    stride = stride_bytes or rows.shape[1]
    padded = np.full((rows.shape[0], stride), 0xEE, np.uint8)
    padded[:, : rows.shape[1]] = rows
    data = padded.tobytes()
    path.write_bytes(data if pad_last_row else data[: len(data) - stride + rows.shape[1]])
