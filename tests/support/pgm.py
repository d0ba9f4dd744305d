"""PGM files as Google's PDCapture app writes them: one header line, big-endian, 10 bits stretched to 16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt


def write_pdcapture(path: Path, raw: npt.NDArray[np.integer]) -> None:
    """Write 10-bit samples (H, W), 0..1023."""
    stretched = (raw.astype(np.uint32) * 65535 // 1023).astype(">u2")
    height, width = raw.shape
    path.write_bytes(f"P5 {width} {height} 65535 ".encode() + stretched.tobytes())
