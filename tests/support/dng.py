"""Dual-pixel DNG as converters write it: strips or lossless JPEG tiles, 10 to 16 bits.

The product's own writer stores one plain strip of 16 bits; a reader meets more.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tests.support import ljpeg
from tests.support.bits import pack
from tests.support.cr2 import Shot, exif_tags

from dualpix.capture.raw.containers.tiff import ASCII, BYTE, LONG, RATIONAL, SHORT, SRATIONAL, Tag, ifd_bytes
from dualpix.capture.raw.develop.geometry import Crop

Frame = npt.NDArray[np.uint16]
FourLevels = tuple[int, int, int, int]
MODEL = "Canon EOS 5D Mark IV"


def write_tiled_dng(path: Path, composite: Frame, half: Frame, crop: Crop, tile_wh: tuple[int, int] = (96, 64)) -> None:
    """Lossless JPEG tiles, black 512, white 14008: the form Adobe's converter writes."""
    write_dng(path, composite, half, crop, tile_wh=tile_wh)


def write_dng(
    path: Path,
    composite: Frame,
    half: Frame,
    crop: Crop,
    shot: Shot | None = None,
    *,
    tile_wh: tuple[int, int] | None = None,
    compressed: bool = True,
    bits: int = 16,
    black: tuple[FourLevels, FourLevels] = ((512,) * 4, (512,) * 4),
    white: int = 14008,
) -> None:
    """Two samples per pixel. Without ``tile_wh`` one strip; without ``compressed`` plain samples of ``bits`` bits.

    Tiles at the right and at the bottom are filled up with the last column and row; LibRaw misreads a tile wider than
    the whole picture. ``black`` are the levels of frames 0 and 1 in cell order, ``white`` is what the file says of
    both; ``shot`` gives the camera and the exposure.
    """
    shot = shot or Shot()
    height, width = composite.shape
    pixels = np.stack([composite, half], axis=-1)
    tile_width, tile_height = tile_wh or (width, height)
    assert tile_width <= width
    pixels = np.pad(pixels, ((0, -height % tile_height), (0, -width % tile_width), (0, 0)), mode="edge")
    pieces = [
        _coded(pixels[top : top + tile_height, left : left + tile_width].reshape(tile_height, -1), compressed, bits)
        for top in range(0, height, tile_height)
        for left in range(0, width, tile_width)
    ]
    sizes = [len(piece) for piece in pieces]

    def header(starts: list[int], exif_at: int) -> bytes:
        place = (
            [Tag(0x0111, LONG, starts), Tag(0x0116, LONG, [height]), Tag(0x0117, LONG, sizes)]
            if tile_wh is None
            else [
                Tag(0x0142, LONG, [tile_width]),
                Tag(0x0143, LONG, [tile_height]),
                Tag(0x0144, LONG, starts),
                Tag(0x0145, LONG, sizes),
            ]
        )
        coding = [Tag(0x0102, SHORT, [bits, bits]), Tag(0x0103, SHORT, [7 if compressed else 1])]
        levels = [Tag(0xC61A, SHORT, np.transpose(black).ravel().tolist()), Tag(0xC61D, LONG, [white, white])]
        tags = [*_picture_tags((height, width), crop, shot), *coding, *place, *levels, Tag(0x8769, LONG, [exif_at])]
        return struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes(tags, 8)

    exif_at = len(header([0] * len(pieces), 0))
    first = exif_at + len(ifd_bytes(exif_tags(shot), exif_at))
    starts = (first + np.cumsum([0, *sizes[:-1]])).tolist()
    path.write_bytes(header(starts, exif_at) + ifd_bytes(exif_tags(shot), exif_at) + b"".join(pieces))


def _coded(samples: Frame, compressed: bool, bits: int) -> bytes:
    """One strip or tile, (rows, 2 x columns); its length is even, so that every piece starts at a whole word."""
    if compressed:
        data = ljpeg.encode(samples, components=2, precision=bits)
    elif bits == 16:
        data = samples.astype("<u2").tobytes()
    else:  # TIFF fills bytes from the top bit and starts each row at a whole byte
        counts = np.full(samples.shape[1], bits)
        data = b"".join(pack(row.astype(np.uint64), counts) for row in samples)
    return data + bytes(len(data) % 2)


def _picture_tags(size_hw: tuple[int, int], crop: Crop, shot: Shot) -> list[Tag]:
    model = (shot.model or MODEL).encode()
    return [
        Tag(0x00FE, LONG, [0]),
        Tag(0x0100, LONG, [size_hw[1]]),
        Tag(0x0101, LONG, [size_hw[0]]),
        Tag(0x0106, SHORT, [32803]),
        Tag(0x010F, ASCII, b"Canon"),
        Tag(0x0110, ASCII, model),
        Tag(0x0112, SHORT, [shot.orientation]),
        Tag(0x0115, SHORT, [2]),
        Tag(0x011C, SHORT, [1]),
        Tag(0x828D, SHORT, [2, 2]),
        Tag(0x828E, BYTE, [0, 1, 1, 2]),
        Tag(0xC612, BYTE, [1, 3, 0, 0]),
        Tag(0xC614, ASCII, model),
        Tag(0xC619, SHORT, [2, 2]),
        Tag(0xC61F, LONG, [0, 0]),
        Tag(0xC620, LONG, [crop.width, crop.height]),
        Tag(0xC621, SRATIONAL, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
        Tag(0xC628, RATIONAL, [1, 1, 1]),
        Tag(0xC65A, SHORT, [21]),
        Tag(0xC68D, LONG, [crop.top, crop.left, crop.top + crop.height, crop.left + crop.width]),
    ]


def write_frame_dng(
    path: Path,
    frame: Frame,
    crop: Crop,
    *,
    black: int = 512,
    white: int = 14008,
    model: str = "Canon EOS R6m2",
    taken: str = "2024:05:01 12:00:00",
    orientation: int = 1,
    lossless_jpeg: bool = False,
) -> None:
    """One sample per pixel: a plain strip, or one lossless JPEG tile of two interleaved components as dnglab does."""
    height, width = frame.shape
    pixels = ljpeg.encode(frame, components=2, precision=16) if lossless_jpeg else frame.astype("<u2").tobytes()

    def header(exif_at: int, pixels_at: int) -> bytes:
        tags = [
            Tag(0x00FE, LONG, [0]),
            Tag(0x0100, LONG, [width]),
            Tag(0x0101, LONG, [height]),
            Tag(0x0102, SHORT, [16]),
            Tag(0x0103, SHORT, [7 if lossless_jpeg else 1]),
            Tag(0x0106, SHORT, [32803]),
            Tag(0x010F, ASCII, b"Canon"),
            Tag(0x0110, ASCII, model.encode()),
            Tag(0x0112, SHORT, [orientation]),
            Tag(0x0115, SHORT, [1]),
            Tag(0x011C, SHORT, [1]),
            Tag(0x828D, SHORT, [2, 2]),
            Tag(0x828E, BYTE, [0, 1, 1, 2]),
            Tag(0x8769, LONG, [exif_at]),
            Tag(0xC612, BYTE, [1, 3, 0, 0]),
            Tag(0xC614, ASCII, model.encode()),
            Tag(0xC619, SHORT, [2, 2]),
            Tag(0xC61A, SHORT, [black] * 4),
            Tag(0xC61D, LONG, [white]),
            Tag(0xC61F, LONG, [0, 0]),
            Tag(0xC620, LONG, [crop.width, crop.height]),
            Tag(0xC621, SRATIONAL, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
            Tag(0xC628, RATIONAL, [1, 1, 1]),
            Tag(0xC65A, SHORT, [21]),
            Tag(0xC68D, LONG, [crop.top, crop.left, crop.top + crop.height, crop.left + crop.width]),
        ]
        if lossless_jpeg:
            tags += [Tag(0x0142, LONG, [width]), Tag(0x0143, LONG, [height])]
            tags += [Tag(0x0144, LONG, [pixels_at]), Tag(0x0145, LONG, [len(pixels)])]
        else:
            tags += [Tag(0x0111, LONG, [pixels_at]), Tag(0x0116, LONG, [height]), Tag(0x0117, LONG, [len(pixels)])]
        return struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes(tags, 8)

    exif_at = len(header(0, 0))
    exif = ifd_bytes([Tag(0x9003, ASCII, taken.encode()), Tag(0x8827, SHORT, [100])], exif_at)
    path.write_bytes(header(exif_at, exif_at + len(exif)) + exif + pixels)
