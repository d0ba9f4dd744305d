"""Dual-pixel DNG in lossless JPEG tiles, the form Adobe's converter writes; our own writer stores one plain strip."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tests.support import ljpeg

from dualpix.capture.raw.dng import Crop
from dualpix.capture.raw.tiff import ASCII, BYTE, LONG, RATIONAL, SHORT, SRATIONAL, Tag, ifd_bytes

Frame = npt.NDArray[np.uint16]


def write_tiled_dng(path: Path, composite: Frame, half: Frame, crop: Crop, tile_wh: tuple[int, int] = (96, 64)) -> None:
    """Two samples per pixel, black 512, white 14008; the mosaic must divide into whole tiles."""
    height, width = composite.shape
    tile_width, tile_height = tile_wh
    assert width % tile_width == 0 and height % tile_height == 0
    pixels = np.stack([composite, half], axis=-1)
    tiles = [
        ljpeg.encode(
            pixels[top : top + tile_height, left : left + tile_width].reshape(tile_height, -1),
            components=2,
            precision=16,
        )
        for top in range(0, height, tile_height)
        for left in range(0, width, tile_width)
    ]

    def header(starts: list[int]) -> bytes:
        tags = [
            Tag(0x00FE, LONG, [0]),
            Tag(0x0100, LONG, [width]),
            Tag(0x0101, LONG, [height]),
            Tag(0x0102, SHORT, [16, 16]),
            Tag(0x0103, SHORT, [7]),
            Tag(0x0106, SHORT, [32803]),
            Tag(0x010F, ASCII, b"Canon"),
            Tag(0x0110, ASCII, b"Canon EOS 5D Mark IV"),
            Tag(0x0115, SHORT, [2]),
            Tag(0x011C, SHORT, [1]),
            Tag(0x0142, LONG, [tile_width]),
            Tag(0x0143, LONG, [tile_height]),
            Tag(0x0144, LONG, starts),
            Tag(0x0145, LONG, [len(t) for t in tiles]),
            Tag(0x828D, SHORT, [2, 2]),
            Tag(0x828E, BYTE, [0, 1, 1, 2]),
            Tag(0xC612, BYTE, [1, 3, 0, 0]),
            Tag(0xC614, ASCII, b"Canon EOS 5D Mark IV"),
            Tag(0xC619, SHORT, [2, 2]),
            Tag(0xC61A, SHORT, [512] * 8),
            Tag(0xC61D, LONG, [14008, 14008]),
            Tag(0xC61F, LONG, [0, 0]),
            Tag(0xC620, LONG, [crop.width, crop.height]),
            Tag(0xC621, SRATIONAL, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
            Tag(0xC628, RATIONAL, [1, 1, 1]),
            Tag(0xC65A, SHORT, [21]),
            Tag(0xC68D, LONG, [crop.top, crop.left, crop.top + crop.height, crop.left + crop.width]),
        ]
        return struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes(tags, 8)

    first = len(header([0] * len(tiles)))
    starts = [first + sum(map(len, tiles[:k])) for k in range(len(tiles))]
    path.write_bytes(header(starts) + b"".join(tiles))
