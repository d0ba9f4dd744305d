"""A lossless JPEG encoder (ITU-T T.81 process 14, SOF3, predictor 1) in the flavour of Canon CR2 and DNG tiles.

Interleaved components, one scan, no restart markers, one Huffman table shared by all components.
"""

from __future__ import annotations

import heapq
import struct
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from tests.support.bits import pack

Samples = npt.NDArray[np.uint16]


def encode(
    frame: Samples,
    *,
    components: int = 4,
    slices: tuple[int, int, int] | None = None,
    precision: int = 14,
    rows: int = 0,
) -> bytes:
    """Encode a mosaic (H, W).

    ``slices`` is CR2's tag 0xC640: n columns of the first width, then one of the last. ``rows`` is the height in the
    JPEG header where it differs from H (Canon writes two sensor rows as one).
    """
    height, width = frame.shape
    stream = frame.ravel()
    if slices is not None:
        count, first, last = slices
        assert count * first + last == width
        edges = [first * k for k in range(count + 1)] + [width]
        stream = np.concatenate([frame[:, a:b].ravel() for a, b in pairwise(edges)])
    rows = rows or height
    columns = stream.size // rows // components
    values = stream.reshape(rows, columns, components).astype(np.int32)
    difference = np.empty_like(values)
    difference[:, 1:] = values[:, 1:] - values[:, :-1]
    difference[1:, 0] = values[1:, 0] - values[:-1, 0]
    difference[0, 0] = values[0, 0] - (1 << (precision - 1))
    difference = difference.astype(np.int16).astype(np.int32)  # the standard's arithmetic is modulo 2^16
    body, table = _entropy(difference.ravel())
    frame_header = struct.pack(">BHHB", precision, rows, columns, components)
    frame_header += b"".join(bytes([c + 1, 0x11, 0]) for c in range(components))
    scan = bytes([components]) + b"".join(bytes([c + 1, 0]) for c in range(components)) + bytes([1, 0, 0])
    return (
        b"\xff\xd8"
        + _segment(0xC4, b"\0" + table)
        + _segment(0xC3, frame_header)
        + _segment(0xDA, scan)
        + body
        + b"\xff\xd9"
    )


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _entropy(difference: npt.NDArray[np.int32]) -> tuple[bytes, bytes]:
    """The stuffed entropy-coded bytes and the Huffman table (16 counts and the symbols)."""
    magnitude = np.abs(difference)
    # The exponent of a float is the place of the leading bit.
    category = np.frexp(magnitude.astype(np.float32))[1].astype(np.uint8)
    lengths = code_lengths(np.bincount(category, minlength=17))
    symbols = sorted(lengths, key=lambda s: (lengths[s], s))
    codes, sizes = np.zeros(17, np.uint64), np.zeros(17, np.uint8)
    code, previous = 0, 0
    for symbol in symbols:
        code <<= lengths[symbol] - previous
        codes[symbol], sizes[symbol], previous = code, lengths[symbol], lengths[symbol]
        code += 1
    # Category 16 stands for the difference 32768 alone and has no bits of its own.
    own = np.where(category < 16, category, 0).astype(np.uint8)
    extra = np.where(difference < 0, difference + (1 << own.astype(np.int32)) - 1, difference)
    extra[own == 0] = 0
    body = pack(codes[category] << own.astype(np.uint64) | extra.astype(np.uint64), sizes[category] + own, pad_bit=1)
    counts = bytes(sum(1 for s in symbols if lengths[s] == n) for n in range(1, 17))
    return body.replace(b"\xff", b"\xff\0"), counts + bytes(symbols)


def code_lengths(frequency: npt.NDArray[np.integer]) -> dict[int, int]:
    """Huffman code lengths, 1..16, of the symbols that occur; the all-ones code stays free, as JPEG demands."""
    weights = {symbol: int(n) for symbol, n in enumerate(frequency) if n}
    while max((lengths := _huffman(weights)).values()) > 16:
        weights = {symbol: (n + 1) // 2 for symbol, n in weights.items()}  # flatter: rare symbols move up
    return lengths


def _huffman(weights: dict[int, int]) -> dict[int, int]:
    heap = [(n, symbol, (symbol,)) for symbol, n in weights.items()]
    heap.append((0, 999, (999,)))  # a dummy for the all-ones code
    heapq.heapify(heap)
    depth = {symbol: 0 for _, _, (symbol,) in heap}
    while len(heap) > 1:
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        members = first[2] + second[2]
        for symbol in members:
            depth[symbol] += 1
        heapq.heappush(heap, (first[0] + second[0], min(first[1], second[1]), members))
    # The dummy is among the deepest leaves: in canonical order it comes last and takes the all-ones code.
    del depth[999]
    return depth
