"""Maps as text in a page: the values of a float map, to the last digit that is shown, in few bytes.

A page shows a value with a fixed number of decimals, or of significant digits. So whole numbers are stored that say
just those digits: what the page prints is what Python prints of the file's value. A page has no room for every pixel of
a large map, so every n-th pixel of every n-th row is kept, **unchanged**: no value is ever an average.

Codes are whole numbers that rise with the value:

``fixed``
    ``round(value * 10^digits)``, half to even.
``significant``
    of a positive value m * 10^e with 1 <= m < 10, rounded to ``digits`` significant digits: ``e * 9 * 10^(digits-1) +
    (m * 10^(digits-1) - 10^(digits-1))``: all decimal numbers of so many digits, counted up.

``NAN_CODE`` and ``INFINITY_CODE`` stand for no value and for infinity. The codes of a map are predicted from their
neighbours, ``left + above - above left`` (Wu and Memon 1997 call it the planar predictor; smooth maps leave next to
nothing), differences are folded to 0, 1, 2, ... (-1 is 1, 1 is 2), their four bytes stored plane by plane, low one
first, and deflated (RFC 1950), which browsers inflate themselves. Sums wrap in 32 bits, on both sides alike.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage

Codes = npt.NDArray[np.int32]

INFINITY_CODE = 2**31 - 1
NAN_CODE = -(2**31)
_LARGEST_CODE = 2**31 - 2
_LEVEL = 6
_MOST_STRIDE = 64
_SAMPLE_PX = 256


@dataclass(frozen=True)
class Digits:
    """How many digits of a value are told."""

    kind: Literal["fixed", "significant"]
    digits: int
    """Decimals, 0 to 6; or significant digits, 1 to 7."""

    def text(self, value: float) -> str:
        """The value as the page prints it."""
        if np.isnan(value):
            return "not measured"
        if np.isinf(value):
            return "∞"
        if self.kind == "fixed":
            return f"{value:.{self.digits}f}"
        rounded = float(f"{value:.{self.digits - 1}e}")
        return f"{rounded:.{max(0, self.digits - 1 - math.floor(math.log10(rounded)))}f}"

    def codes(self, values: FloatImage) -> Codes:
        """Of values (H, W); of ``significant`` ones, those that are not above 0 count as none.

        Raises:
            ValueError: a fixed-point value has no code in 32 bits.
        """
        exact = values.astype(np.float64)
        coded = self._fixed(exact) if self.kind == "fixed" else self._significant(exact)
        known = np.isfinite(coded)
        if known.any() and np.abs(coded[known]).max() > _LARGEST_CODE:
            raise ValueError(f"a value beyond {_LARGEST_CODE} codes of {self.digits} decimals")
        codes = np.where(known, coded, 0).astype(np.int32)
        codes[np.isnan(coded)] = NAN_CODE
        codes[np.isinf(coded)] = INFINITY_CODE
        return codes

    def _fixed(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.rint(values * 10.0**self.digits))

    def _significant(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        steps = 10.0 ** (self.digits - 1)
        positive = np.where(values > 0, values, np.nan)
        finite = np.where(np.isinf(positive), 1.0, positive)
        exponent = np.floor(np.log10(finite))
        exponent += np.where(finite / 10.0**exponent >= 10, 1, 0)  # log10 may round across a power of ten
        exponent -= np.where(finite / 10.0**exponent < 1, 1, 0)
        shift = self.digits - 1 - exponent
        # powers of ten below 1 are no doubles: divided by, halves stay halves
        scaled = np.where(shift >= 0, finite * 10.0 ** np.maximum(shift, 0), finite / 10.0 ** np.maximum(-shift, 0))
        mantissa = np.rint(scaled)  # 10 * steps is the next decade's first
        coded = exponent * 9 * steps + mantissa - steps
        return np.where(np.isinf(positive), np.inf, coded)

    def values(self, codes: Codes) -> FloatImage:
        """What the codes say; the inverse of :meth:`codes` to the told digits."""
        exact = codes.astype(np.float64)
        if self.kind == "fixed":
            values = exact / 10.0**self.digits
        else:
            steps = 10.0 ** (self.digits - 1)
            exponent = np.floor(exact / (9 * steps))
            with np.errstate(over="ignore"):  # of the two codes that are no numbers
                values = (exact - exponent * 9 * steps + steps) * 10.0 ** (exponent - self.digits + 1)
        values[codes == NAN_CODE] = np.nan
        values[codes == INFINITY_CODE] = np.inf
        return values.astype(np.float32)


@dataclass(frozen=True)
class CodedMap:
    """A map as it stands in a page."""

    shape: tuple[int, int]
    """(rows, columns) that are kept."""
    stride: int
    """1: all pixels; 2: every other one, and so on, from the first."""
    digits: Digits
    data: bytes
    """Deflated."""

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        return {
            "rows": self.shape[0],
            "columns": self.shape[1],
            "stride": self.stride,
            "digits": {"kind": self.digits.kind, "count": self.digits.digits},
            "data": base64.b64encode(self.data).decode(),
        }


def coded(values: FloatImage, digits: Digits, most_bytes: int, least_stride: int = 1) -> CodedMap:
    """A map (H, W) with as many of its pixels as ``most_bytes`` hold.

    Args:
        values: NaN and infinity are allowed.
        digits: that are told of each.
        most_bytes: of the deflated data.
        least_stride: from which on strides are tried.
    """
    stride = _likely_stride(values, digits, most_bytes, least_stride)
    while True:
        kept = values[::stride, ::stride]
        data = _packed(digits.codes(kept))
        if len(data) <= most_bytes or stride >= _MOST_STRIDE:
            return CodedMap((kept.shape[0], kept.shape[1]), stride, digits, data)
        stride += 1


def _likely_stride(values: FloatImage, digits: Digits, most_bytes: int, least_stride: int) -> int:
    """By what the middle of the map takes."""
    for stride in range(least_stride, _MOST_STRIDE):
        kept = values[::stride, ::stride]
        rows, columns = (slice(max(0, (n - _SAMPLE_PX) // 2), (n + _SAMPLE_PX) // 2) for n in kept.shape)
        sample = kept[rows, columns]
        if len(_packed(digits.codes(sample))) * (kept.size / sample.size) <= most_bytes:
            return stride
    return _MOST_STRIDE


def unpacked(coded_map: CodedMap) -> Codes:
    """The codes of a map: what the page does, for tests and other readers."""
    rows, columns = coded_map.shape
    planes = np.frombuffer(zlib.decompress(coded_map.data), np.uint8).reshape(4, rows, columns).astype(np.uint32)
    folded = planes[0] | planes[1] << np.uint32(8) | planes[2] << np.uint32(16) | planes[3] << np.uint32(24)
    differences = (folded >> np.uint32(1)) ^ (np.uint32(0) - (folded & np.uint32(1)))
    return np.asarray(differences.cumsum(0, dtype=np.uint32).cumsum(1, dtype=np.uint32).view(np.int32))


def _packed(codes: Codes) -> bytes:
    around = np.pad(codes.view(np.uint32), ((1, 0), (1, 0)))
    differences = (around[1:, 1:] - (around[:-1, 1:] + around[1:, :-1] - around[:-1, :-1])).view(np.int32)
    folded = ((differences << 1) ^ (differences >> 31)).view(np.uint32)
    planes = b"".join((folded >> np.uint32(8 * byte)).astype(np.uint8).tobytes() for byte in range(4))
    return zlib.compress(planes, _LEVEL)
