"""A lossless encoder of Canon's CRX codec (CR3 "raw": no wavelet, four Bayer planes), fast enough for a full sensor.

Written as the mirror of LibRaw's decoder (src/decoders/crx.cpp, crxDecodeTopLine, crxDecodeLine): median edge
prediction, adaptive Golomb-Rice codes, and a run mode where the left and both upper neighbours are equal.

The codec is sequential, but what it adapts to is not: an encoder knows all samples, so predictions, errors and the
places where run mode is checked come from whole arrays. What remains is the recursion of the Golomb parameter, which
:func:`golomb_parameters` solves for many parts at once, and the runs, which are few in a photograph.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from tests.support.bits import pack

Frame = npt.NDArray[np.uint16]
Plane = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
PlaneCoder = Callable[[Plane, int, int], tuple[bytes, bytes]]

# Run-length steps and their bits, as in JPEG-LS (ITU-T T.87, table A.2).
RUN_BITS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15]
ESCAPE_ZEROS, ESCAPE_BITS = 41, 21
MAX_K = 15
_MIN_PART = 64


def encode_track(frame: Frame, bits: int = 14, tiles: int = 1) -> tuple[bytes, int, int]:
    """Encode an RGGB mosaic (H, W): the sample's bytes, the size of its header, and the tile width."""

    def code(plane: Plane, begin: int, end: int) -> tuple[bytes, bytes]:
        data = encode_plane(plane[:, begin:end])
        return data, subband_header(0, len(data), partial=True)

    return assemble_track(frame, bits, -(-frame.shape[1] // 2 // tiles), code)


def assemble_track(frame: Frame, bits: int, tile: int, code: PlaneCoder) -> tuple[bytes, int, int]:
    """As :func:`encode_track`, tile by tile of ``tile`` plane columns.

    ``code(plane, begin, end)`` gives the data and the sub-band headers of the tile with those columns of a plane whose
    samples are centred on 0.
    """
    planes = [frame[row::2, column::2].astype(np.int64) - (1 << (bits - 1)) for row in (0, 1) for column in (0, 1)]
    width = planes[0].shape[1]
    header, body = b"", []
    for index, begin in enumerate(range(0, width, tile)):
        coded = [code(p, begin, min(begin + tile, width)) for p in planes]
        header += struct.pack(">HHIHH", 0xFF01, 8, sum(len(data) for data, _ in coded), index, 0)
        for number, (data, subbands) in enumerate(coded):
            header += struct.pack(">HHIBBBB", 0xFF02, 8, len(data), number << 4 | 8, 0, 0, 0) + subbands
            body.append(data)
    header += bytes(-len(header) % 8)
    return header + b"".join(body), len(header), tile * 2


def subband_header(number: int, size: int, *, partial: bool = False, quantiser: int = 0) -> bytes:
    """Header FF03 of a sub-band without padding; ``quantiser`` is qParam, 4 means steps of 1."""
    return struct.pack(">HHII", 0xFF03, 8, size, number << 28 | partial << 27 | quantiser << 19)


def encode_plane(plane: Plane) -> bytes:
    """Entropy-code a plane of samples centred on 0, at least 2 wide."""
    predicted, adaptation, checked = _neighbourhood(plane)
    lasting = _equal_to_left(plane)
    runs = _find_runs(checked, lasting)
    coded = np.ones(plane.shape, bool)
    for row, start, length in runs:
        coded[row, start : start + length] = False
        if start + length < plane.shape[1]:
            # Behind a run there is no edge to follow: the sample above is the prediction, 0 in the first line.
            predicted[row, start + length] = plane[row - 1, start + length] if row else 0
    error = plane - predicted
    mapped = np.where(error >= 0, 2 * error, -2 * error - 1)
    adapted = np.where(adaptation >= 0, (mapped + adaptation) >> 1, mapped)[coded]
    mapped = mapped[coded]
    values, counts = golomb_codes(mapped, golomb_parameters(adapted))
    width = plane.shape[1]
    before = np.searchsorted(np.flatnonzero(coded), [row * width + start for row, start, _ in runs])
    run_values, run_counts = _run_codes(runs, width)
    values, counts = np.insert(values, before, run_values), np.insert(counts, before, run_counts)
    return pack(values, counts, align=4) + bytes(8)  # the decoder reads whole words ahead


def _neighbourhood(plane: Plane) -> tuple[Plane, Plane, Mask]:
    """Per sample: the prediction outside runs, twice the slope above (-1 where the line ends), where runs may start.

    Beyond the left edge lie the sample above as left and, as the corner, what was left of the line above.
    """
    left, corner, ahead = np.zeros_like(plane), np.zeros_like(plane), np.full_like(plane, -1)
    left[:, 1:] = plane[:, :-1]
    left[1:, 0] = plane[:-1, 0]
    corner[1:, 1:] = plane[:-1, :-1]
    corner[2:, 0] = plane[:-2, 0]
    up = np.zeros_like(plane)
    up[1:] = plane[:-1]
    ahead[1:, :-1] = 2 * np.abs(up[1:, 1:] - up[1:, :-1])
    slope = up - corner
    falling = slope < 0
    predicted = np.where((corner < left) == falling, left + slope, np.where((left < up) != falling, up, left))
    predicted[0] = left[0]
    checked = np.zeros(plane.shape, bool)
    checked[0] = left[0] == 0
    checked[1:, :-1] = (left[1:, :-1] == up[1:, :-1]) & (ahead[1:, :-1] == 0)
    checked[:, -1] = False
    return predicted, ahead, checked


def _equal_to_left(plane: Plane) -> Mask:
    equal = np.zeros(plane.shape, bool)
    equal[:, 1:] = plane[:, 1:] == plane[:, :-1]
    equal[1:, 0] = plane[1:, 0] == plane[:-1, 0]
    equal[0, 0] = plane[0, 0] == 0
    return equal


def _find_runs(checked: Mask, lasting: Mask) -> list[tuple[int, int, int]]:
    """(row, first column, length >= 0) of each place where the coder looks for a run of samples equal to their left."""
    runs = []
    width = checked.shape[1]
    for row in np.flatnonzero(checked.any(axis=1)).tolist():
        ends = np.append(np.flatnonzero(~lasting[row]), width)
        places = np.flatnonzero(checked[row])
        stops = ends[np.searchsorted(ends, places)]
        free = 0
        for start, stop in zip(places.tolist(), stops.tolist(), strict=True):
            if start >= free:
                runs.append((row, start, stop - start))
                free = stop + 1  # the sample that ends a run is coded without looking for another
    return runs


def _run_codes(runs: list[tuple[int, int, int]], width: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    values, counts, step = [], [], 0
    for _, start, length in runs:
        value, count, step = run_code(length, width - start, step)
        values.append(value)
        counts.append(count)
    return np.array(values, np.uint64), np.array(counts, np.int64)


def run_code(length: int, remaining: int, step: int) -> tuple[int, int, int]:
    """Code of a run of ``length`` equal samples of ``remaining`` in the line: value, bits, and the next run step."""
    if length == 0:
        return 0, 1, step
    done, ones = 1, 1
    while length - done >= 1 << RUN_BITS[step] or (length == remaining and done < remaining):
        ones += 1
        done += 1 << RUN_BITS[step]
        if done > remaining:
            return (1 << ones) - 1, ones, step
        step = min(step + 1, 31)
    if length == remaining:
        # The decoder asks for one bit more before it notices that a run of one sample fills the line.
        ones += done == 1
        return (1 << ones) - 1, ones, step
    bits = RUN_BITS[step]
    return ((1 << ones) - 1) << (1 + bits) | (length - done), ones + 1 + bits, max(step - 1, 0)


def golomb_codes(
    mapped: Plane, parameters: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Golomb-Rice codes of mapped errors: values and bits; a long one escapes to its plain value."""
    k = parameters.astype(np.int64)
    zeros = mapped >> k
    escaped = zeros >= ESCAPE_ZEROS
    counts = np.where(escaped, ESCAPE_ZEROS + 1 + ESCAPE_BITS, zeros + 1 + k)
    one = np.int64(1)
    values = np.where(escaped, (one << ESCAPE_BITS) | mapped, (one << k) | (mapped & ((one << k) - 1)))
    return values.astype(np.uint64), counts


def golomb_parameters(adapted: Plane) -> npt.NDArray[np.uint8]:
    """Parameter k before each code, from what the coder adapts to: k grows where the quotient is above 2, and above 5,
    and shrinks where the value is below half of 2^k.

    A recursion, solved in parts side by side: each part starts from a guess, and as long as a part ends otherwise than
    the next one began, that one is done again. It forgets its start within a few codes, so two or three rounds do.
    """
    size = adapted.size
    length = max(math.isqrt(size), _MIN_PART)
    parts = -(-size // length)
    # Each row is one step of all parts. What lies behind the end changes nothing.
    steps = np.ascontiguousarray(np.resize(adapted, parts * length).reshape(parts, length).T).astype(np.int32)
    found = np.empty(steps.shape, np.int8)
    begin, end = np.zeros(parts, np.int32), np.zeros(parts, np.int32)
    todo = np.arange(parts)
    while todo.size:
        k = begin[todo]
        part = steps if todo.size == parts else steps[:, todo]
        result = np.empty(part.shape, np.int8)
        for row, value in enumerate(part):
            result[row] = k
            quotient = value >> k
            k = k - (value < (1 << k >> 1)) + (quotient > 2) + (quotient > 5)
            np.minimum(k, MAX_K, out=k)
        found[:, todo] = result
        end[todo] = k
        todo = 1 + np.flatnonzero(begin[1:] != end[:-1])
        begin[1:] = end[:-1]
    return found.T.reshape(-1)[:size].astype(np.uint8)
