"""The lossy form of Canon's CRX codec (C-RAW): three levels of the integer 5/3 wavelet, quantised sub-bands.

Written as the mirror of LibRaw's decoder (src/decoders/crx.cpp: crxIdwt53Filter*, crxDecode*NoRefPrevLine). The wavelet
is the reversible 5/3 lifting of JPEG 2000 (ITU-T T.800, annex F) with symmetric extension, along y before along x. With
a quantiser of 4 (steps of 1) the codec is lossless; 6 more double the step. The average band stays unquantised here.

The transform runs over the whole plane; a tile holds its part of each sub-band and the coefficients of its neighbours
which its edge columns need.
"""

from __future__ import annotations

import numpy as np
from tests.support import crx
from tests.support.bits import pack

LEVELS = 3
_UNIT = 4
_STEPS = (0x28, 0x2D, 0x33, 0x39, 0x40, 0x48)


def encode_track(frame: crx.Frame, bits: int, tiles: int, quantiser: int) -> tuple[bytes, int, int]:
    """As :func:`tests.support.crx.encode_track`; ``quantiser`` is the qParam of all sub-bands but the average."""
    columns = frame.shape[1] // 2
    tile = columns if tiles == 1 else -(-columns // tiles // 8) * 8

    def code(plane: crx.Plane, begin: int, end: int) -> tuple[bytes, bytes]:
        bands = [band[:, part] for band, part in zip(transform(plane), _parts(plane.shape[1], begin, end), strict=True)]
        step = quantiser_step(quantiser)
        coded = [crx.encode_plane(bands[0]), *(encode_band(quantised(band, step)) for band in bands[1:])]
        headers = [
            crx.subband_header(number, len(data), quantiser=quantiser if number else _UNIT)
            for number, data in enumerate(coded)
        ]
        return b"".join(coded), b"".join(headers)

    return crx.assemble_track(frame, bits, tile, code)


def quantiser_step(quantiser: int) -> int:
    """The step of a qParam, 4..35."""
    return _STEPS[quantiser % 6] >> (6 - quantiser // 6)


def quantised(band: crx.Plane, step: int) -> crx.Plane:
    """The nearest multiples of ``step``, in steps."""
    return (2 * band + step) // (2 * step)


def transform(plane: crx.Plane) -> list[crx.Plane]:
    """The average band and, from the coarsest level on, the bands high in x, high in y and high in both."""
    details: list[crx.Plane] = []
    for _ in range(LEVELS):
        low, high = split(plane, 0)
        (plane, high_x), (high_y, both) = split(low, 1), split(high, 1)
        details = [high_x, high_y, both, *details]
    return [plane, *details]


def split(samples: crx.Plane, axis: int) -> tuple[crx.Plane, crx.Plane]:
    """Low and high half of one axis: high[i] = x[2i+1] - (x[2i] + x[2i+2]) / 2, low[i] = x[2i] + the mean high / 2."""
    x = np.moveaxis(samples, axis, 0)
    even, odd = x[0::2], x[1::2]
    following = even[1:] if len(x) % 2 else np.concatenate([even[1:], even[-1:]])
    high = odd - ((even[: len(odd)] + following) >> 1)
    around = np.concatenate([high[:1], high, high[-1:]])
    low = even + ((around[: len(even)] + around[1 : len(even) + 1] + 2) >> 2)
    return np.moveaxis(low, 0, axis), np.moveaxis(high, 0, axis)


def _parts(width: int, begin: int, end: int) -> list[slice]:
    """The columns of each sub-band that the tile of the plane's columns begin..end stores.

    One more at the right in every band, and one more at the left in those high in x, as LibRaw's exCoefNumTbl has it
    for tiles of a multiple of eight columns.
    """
    parts: list[slice] = []
    for level in range(1, LEVELS + 1):
        stop = None if end == width else (end >> level) + 1
        low, high = slice(begin >> level, stop), slice(max((begin >> level) - 1, 0), stop)
        parts = [high, low, high, *parts]
    return [parts[1], *parts]


def encode_band(band: crx.Plane) -> bytes:
    """Entropy-code a sub-band of details, at least 2 wide: values as they are, with runs of zeros."""
    coder = _BandCoder(band.shape[1])
    for row in band.tolist():
        coder.line(row)
    return coder.data()


class _BandCoder:
    """k adapts to the values of the line and to the k of the line above."""

    def __init__(self, width: int) -> None:
        self.codes: list[tuple[int, int]] = []
        self.k = self.step = 0
        self.above: list[int] | None = None
        self.k_above = [0] * width

    def line(self, line: list[int]) -> None:
        width, at, left = len(line), 0, 0
        above = self.above
        up = [0] * (width + 1) if above is None else [*above, 0]
        while at < width:
            behind_run = False
            if at < width - 1 and not (left or up[at] or up[at + 1]):
                length = self._run(line, at)
                self.k_above[at : at + length] = [0] * length
                at += length
                behind_run = True
                if at == width:
                    break
            left = line[at]
            # Behind a run the value cannot be 0, which makes room for one more.
            mapped = (2 * left if left >= 0 else -2 * left - 1) - behind_run
            self._put(mapped)
            self._adapt(mapped, None if above is None or at == width - 1 else self.k_above[at + 1])
            self.k_above[at] = self.k
            at += 1
        self.above = line

    def data(self) -> bytes:
        values, counts = zip(*self.codes, strict=True)
        return pack(np.array(values, np.uint64), np.array(counts, np.int64), align=4) + bytes(8)

    def _run(self, line: list[int], at: int) -> int:
        end = at
        while end < len(line) and line[end] == 0:
            end += 1
        value, count, self.step = crx.run_code(end - at, len(line) - at, self.step)
        self.codes.append((value, count))
        return end - at

    def _put(self, mapped: int) -> None:
        zeros = mapped >> self.k
        if zeros >= crx.ESCAPE_ZEROS:
            self.codes.append((1 << crx.ESCAPE_BITS | mapped, crx.ESCAPE_ZEROS + 1 + crx.ESCAPE_BITS))
        else:
            self.codes.append((1 << self.k | mapped & ((1 << self.k) - 1), zeros + 1 + self.k))

    def _adapt(self, mapped: int, k_above: int | None) -> None:
        quotient = mapped >> self.k
        self.k += (quotient > 2) + (quotient > 5) - (mapped < (1 << self.k >> 1))
        if k_above is not None and k_above - self.k > 1:
            self.k += 1
        else:
            self.k = min(self.k, crx.MAX_K)
