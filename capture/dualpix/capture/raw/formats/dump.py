"""Headerless dumps of a phone's dual-pixel stream: their geometry, and their samples.

The stream is Android's hidden ``RAW_DEPTH`` image (format 0x1002, 16-bit little-endian samples) or ``RAW_DEPTH10``
(0x1003, packed like ``ImageFormat.RAW10``: 4 samples in 5 bytes, the high 8 bits of each, then one byte with the low 2
bits, first sample lowest). The two halves are interleaved sample by sample: even columns left, odd columns right, so a
view is half as wide as the dump. Rows may be longer than their samples (the row stride of the image buffer); the last
row may lack that padding, as it does in buffers copied from the phone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError

Samples = npt.NDArray[np.uint16]

_SPELLING = re.compile(r"(\d{1,5})x(\d{1,5})(?:x(\d{1,2}))?(?::(\d{1,6}))?")
_EXPECTED = "WIDTHxHEIGHT, WIDTHxHEIGHTxBITS or either with :ROW_BYTES, as 4032x756 or 4032x756x10:5120"
_MAX_SIDE = 65535
_MIN_VIEW = 4


@dataclass(frozen=True)
class Dump:
    """Geometry of an interleaved dump.

    Raises:
        DecodeError: sizes that no such dump has.
    """

    width: int
    """Samples per row, left and right together: twice the width of a view."""
    height: int
    bits: int = 16
    """16: one sample in two bytes, little-endian; 10: packed, four samples in five bytes."""
    row_stride_bytes: int | None = None
    """Distance of two rows in the file; ``None``: rows follow each other without padding."""

    def __post_init__(self) -> None:
        if self.bits not in (10, 16):
            raise DecodeError(f"a dump of {self.bits}-bit samples", expected="16, or 10 for RAW_DEPTH10")
        step = 4 if self.bits == 10 else 2
        sides = (self.width, self.height)
        if self.width % step or self.width < 2 * _MIN_VIEW or self.height < _MIN_VIEW or max(sides) > _MAX_SIDE:
            raise DecodeError(
                f"a {self.bits}-bit dump of {self.width}x{self.height} samples",
                expected=f"a width divisible by {step} from {2 * _MIN_VIEW}, a height from {_MIN_VIEW}, "
                f"both up to {_MAX_SIDE}",
            )
        if self.row_stride_bytes is not None and self.row_stride_bytes < self.row_bytes:
            raise DecodeError(
                f"a row stride of {self.row_stride_bytes} bytes",
                expected=f"at least {self.row_bytes} for {self.width} samples of {self.bits} bits",
            )

    @classmethod
    def parse(cls, text: str) -> Dump:
        """``"4032x756"``, ``"4032x756x10"``, ``"4032x756x10:5120"`` to a geometry.

        Raises:
            DecodeError: another spelling, or sizes that no dump has.
        """
        match = _SPELLING.fullmatch(text.strip())
        if match is None:
            raise DecodeError(f"dump geometry '{text[:40]}'", expected=_EXPECTED)
        width, height, bits, stride = match.groups()
        return cls(int(width), int(height), int(bits or 16), int(stride) if stride else None)

    @property
    def row_bytes(self) -> int:
        """Bytes of the samples of one row."""
        return self.width * self.bits // 8

    @property
    def stride_bytes(self) -> int:
        """Bytes from one row to the next."""
        return self.row_stride_bytes or self.row_bytes

    @property
    def file_sizes(self) -> tuple[int, int]:
        """The file sizes it may have in bytes: with and without the padding of the last row."""
        return self.stride_bytes * self.height, self.stride_bytes * (self.height - 1) + self.row_bytes

    def check_file_size(self, path: Path) -> None:
        """Compare the file's size with the geometry, before anything is read.

        Raises:
            DecodeError: they do not fit, or the file cannot be asked.
        """
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DecodeError(f"cannot read '{path}': {error.strerror or error}") from error
        if size in self.file_sizes:
            return
        longer, rest = divmod(size, self.height)
        padded = rest == 0 and longer > self.row_bytes and self.row_stride_bytes is None
        raise DecodeError(
            f"'{path.name}' has {size} bytes",
            expected=f"{self.file_sizes[0]} for {self.width}x{self.height} samples of {self.bits} bits"
            + (f" in rows of {self.row_stride_bytes} bytes" if self.row_stride_bytes else ""),
            hint=f"if its rows are padded, add :{longer}" if padded else "give the geometry it was recorded with",
        )

    def samples(self, data: bytes) -> Samples:
        """The samples (height, width) of ``data``, whose length is one of :attr:`file_sizes`."""
        if len(data) < self.stride_bytes * self.height:
            data = data.ljust(self.stride_bytes * self.height, b"\0")
        rows = np.frombuffer(data, np.uint8).reshape(self.height, self.stride_bytes)[:, : self.row_bytes]
        if self.bits == 10:
            return unpack_raw10(rows)
        return np.ascontiguousarray(rows).view("<u2").astype(np.uint16, copy=False)


def unpack_raw10(rows: npt.NDArray[np.uint8]) -> Samples:
    """Rows of packed bytes (H, 5 n) to 10-bit samples (H, 4 n), after the documentation of Android's RAW10."""
    groups = rows.reshape(rows.shape[0], -1, 5)
    low = (groups[..., 4:] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    high = groups[..., :4].astype(np.uint16) << np.uint16(2)
    return np.asarray(high | low, np.uint16).reshape(rows.shape[0], -1)
