"""A lossless encoder of Canon's CRX codec (CR3 "raw": no wavelet, four Bayer planes).

Written as the mirror of LibRaw's decoder (src/decoders/crx.cpp, crxDecodeTopLine, crxDecodeLine): median edge
prediction, adaptive Golomb-Rice codes, and a run mode where the left and both upper neighbours are equal.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

# Run-length steps and their bits, as in JPEG-LS (ITU-T T.87, table A.2).
_RUN_BITS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15]
_ESCAPE_ZEROS, _ESCAPE_BITS = 41, 21


class _PlaneEncoder:
    """State of one plane: the bits so far, the Golomb parameter and the run step."""

    def __init__(self) -> None:
        self.bits: list[str] = []
        self.k = 0
        self.step = 0

    def put(self, value: int, count: int) -> None:
        if count:
            self.bits.append(f"{value:0{count}b}")

    def error(self, difference: int) -> int:
        """Golomb-Rice code of a prediction error; returns the mapped value the adaptation works with."""
        mapped = 2 * difference if difference >= 0 else -2 * difference - 1
        zeros = mapped >> self.k
        if zeros >= _ESCAPE_ZEROS:
            self.put(1, _ESCAPE_ZEROS + 1)
            self.put(mapped, _ESCAPE_BITS)
        else:
            self.put(1, zeros + 1)
            self.put(mapped & ((1 << self.k) - 1), self.k)
        return mapped

    def adapt(self, mapped: int) -> None:
        k = self.k - (mapped < ((1 << self.k) >> 1)) + ((mapped >> self.k) > 2) + ((mapped >> self.k) > 5)
        self.k = min(k, 15)

    def run(self, length: int, remaining: int) -> None:
        """A run of ``length`` equal samples of ``remaining`` in the line."""
        if length == 0:
            self.put(0, 1)
            return
        self.put(1, 1)
        done = 1
        while length == remaining:
            self.put(1, 1)
            if done == remaining:
                return
            done += 1 << _RUN_BITS[self.step]
            if done > remaining:
                return
            self.step = min(self.step + 1, 31)
            if done == remaining:
                return
        while length - done >= 1 << _RUN_BITS[self.step]:
            self.put(1, 1)
            done += 1 << _RUN_BITS[self.step]
            self.step = min(self.step + 1, 31)
        self.put(0, 1)
        self.put(length - done, _RUN_BITS[self.step])
        self.step = max(self.step - 1, 0)

    def first_line(self, line: list[int]) -> None:
        left, at, width = 0, 0, len(line)
        while width - at > 1:
            if left == 0:
                length = _run_length(line, at, 0)
                self.run(length, width - at)
                at += length
                if at == width:
                    return
            self.adapt(self.error(line[at] - left))
            left = line[at]
            at += 1
        if at < width:
            self.adapt(self.error(line[at] - left))

    def line(self, line: list[int], above: list[int], corner: int) -> None:
        left, at, width = above[0], 0, len(line)
        while width - at > 1:
            up, next_up = above[at], above[at + 1]
            if left != up or left != next_up:
                mapped = self.error(line[at] - _predict(corner, left, up))
                self.adapt((mapped + abs(2 * (next_up - up))) >> 1)
                corner = up
            else:
                length = _run_length(line, at, left)
                self.run(length, width - at)
                at += length
                if at == width:
                    return
                up = above[at]
                corner = above[at - 1] if length else corner
                mapped = self.error(line[at] - up)
                if at + 1 < width:
                    mapped = (mapped + abs(2 * (above[at + 1] - up))) >> 1
                    corner = up
                self.adapt(mapped)
            left = line[at]
            at += 1
        if at < width:
            self.adapt(self.error(line[at] - _predict(corner, left, above[at])))

    def data(self) -> bytes:
        text = "".join(self.bits)
        text += "0" * (-len(text) % 32)
        packed = int(text, 2).to_bytes(len(text) // 8, "big") if text else b""
        return packed + bytes(8)  # the decoder reads whole words ahead


def encode_track(frame: npt.NDArray[np.uint16], bits: int = 14, tiles: int = 1) -> tuple[bytes, int, int]:
    """Encode an RGGB mosaic (H, W): the sample's bytes, the size of its header, and the tile width."""
    planes = [frame[row::2, column::2] for row in (0, 1) for column in (0, 1)]
    tile = -(-planes[0].shape[1] // tiles)
    header, body = b"", b""
    for index in range(tiles):
        coded = [
            _encode_plane(p[:, index * tile : (index + 1) * tile].astype(np.int64) - (1 << (bits - 1))) for p in planes
        ]
        header += struct.pack(">HHIHH", 0xFF01, 8, sum(map(len, coded)), index, 0)
        for number, data in enumerate(coded):
            header += struct.pack(">HHIBBBB", 0xFF02, 8, len(data), number << 4 | 8, 0, 0, 0)
            header += struct.pack(">HHII", 0xFF03, 8, len(data), 0x08000000)
            body += data
    header += bytes(-len(header) % 8)
    return header + body, len(header), tile * 2


def _encode_plane(plane: npt.NDArray[np.int64]) -> bytes:
    encoder = _PlaneEncoder()
    lines = plane.tolist()
    encoder.first_line(lines[0])
    for number in range(1, len(lines)):
        # The decoder's virtual left neighbour of a line is the first sample two lines above, 0 where there is none.
        corner = lines[number - 2][0] if number > 1 else 0
        encoder.line(lines[number], lines[number - 1], corner)
    return encoder.data()


def _run_length(line: list[int], at: int, value: int) -> int:
    end = at
    while end < len(line) and line[end] == value:
        end += 1
    return end - at


def _predict(corner: int, left: int, up: int) -> int:
    slope = up - corner
    falling = slope < 0
    if (corner < left) == falling:
        return left + slope
    return up if (left < up) != falling else left
