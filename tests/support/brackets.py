"""Brackets as cameras leave them: files with EXIF, of a small scene that comes into focus from left to right."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from dualpix.capture.raw.write.metadata import exif_block, exif_tags, picture_tags
from dualpix.capture.types import CaptureMeta

META = CaptureMeta(
    camera="NIKON CORPORATION NIKON Z 8", f_number=2.8, exposure_s=0.01, iso=100, focal_length_mm=105.0,
    date_time="2024-05-01T10:00:00",
)  # fmt: skip
SIZE_HW = (96, 144)


def scene_frame(place: float, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """(H, W, 3) uint8: a texture whose three thirds are sharp at the places 0, 1/2 and 1 of a sweep."""
    height, width = size_hw
    rng = np.random.default_rng(7)
    coarse = cv2.GaussianBlur(rng.standard_normal((height, width, 3)).astype(np.float32), (0, 0), 8)
    texture = 128 + 40 * coarse / coarse.std() + rng.uniform(-40, 40, coarse.shape).astype(np.float32)
    out = np.empty_like(texture)
    for third in range(3):
        sigma = 0.3 + 4.0 * abs(place - third / 2)
        columns = slice(third * width // 3, (third + 1) * width // 3)
        out[:, columns] = cv2.GaussianBlur(texture, (0, 0), sigma)[:, columns]
    return np.asarray(np.clip(np.rint(out), 0, 255), np.uint8)


def taken(meta: CaptureMeta, seconds: float | str) -> CaptureMeta:
    """At so many seconds past ten; a text keeps its digits."""
    whole = f"{seconds:02}" if isinstance(seconds, int) else str(seconds)
    return replace(meta, date_time=f"2024-05-01T10:00:{whole}")


def write_shot(path: Path, image: np.ndarray, meta: CaptureMeta | None = META, orientation: int = 1) -> Path:
    """A JPEG, PNG or TIFF with its EXIF; None writes none."""
    suffix = path.suffix.lower()
    settings = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix in (".jpg", ".jpeg") else []
    done, data = cv2.imencode(suffix, image[..., ::-1], settings)
    assert done
    body = data.tobytes()
    if meta is not None:
        block = exif_block(picture_tags(meta, "", orientation), exif_tags(meta, None, srgb=True))
        body = _with_exif(body, block, suffix)
    path.write_bytes(body)
    return path


def _with_exif(body: bytes, block: bytes, suffix: str) -> bytes:
    if suffix in (".jpg", ".jpeg"):
        return body[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block + body[2:]
    assert suffix == ".png"
    import zlib

    chunk = b"eXIf" + block
    return body[:33] + struct.pack(">I", len(block)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + body[33:]


def write_bracket(
    folder: Path, names: Sequence[str], metas: Sequence[CaptureMeta | None], orientations: Sequence[int] | None = None
) -> list[Path]:
    """Frames of one sweep in the order given; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(names)
    return [
        write_shot(
            folder / name, scene_frame(number / (count - 1)), metas[number], orientations[number] if orientations else 1
        )
        for number, name in enumerate(names)
    ]
