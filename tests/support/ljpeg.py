"""A lossless JPEG encoder (ITU-T T.81 process 14, SOF3, predictor 1) in the flavour of Canon CR2 and DNG tiles.

Interleaved components, one scan, no restart markers, one Huffman table shared by all components.
"""

from __future__ import annotations

import heapq
import struct
from itertools import pairwise

import numpy as np
import numpy.typing as npt

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
    values = stream.reshape(rows, columns, components).astype(np.int64)
    difference = np.empty_like(values)
    difference[:, 1:] = values[:, 1:] - values[:, :-1]
    difference[1:, 0] = values[1:, 0] - values[:-1, 0]
    difference[0, 0] = values[0, 0] - (1 << (precision - 1))
    difference = (difference + 32768) % 65536 - 32768  # the standard's arithmetic is modulo 2^16
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


def _entropy(difference: npt.NDArray[np.int64]) -> tuple[bytes, bytes]:
    """The stuffed entropy-coded bytes and the Huffman table (16 counts and the symbols)."""
    magnitude = np.abs(difference)
    category = np.where(magnitude > 0, np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int64) + 1, 0)
    lengths = code_lengths(np.bincount(category, minlength=17))
    symbols = sorted(lengths, key=lambda s: (lengths[s], s))
    codes, code, previous = {}, 0, 0
    for symbol in symbols:
        code <<= lengths[symbol] - previous
        codes[symbol], previous = code, lengths[symbol]
        code += 1
    bits = []
    for value, kind in zip(difference.tolist(), category.tolist(), strict=True):
        bits.append(f"{codes[kind]:0{lengths[kind]}b}")
        if kind and kind < 16:
            bits.append(f"{value if value > 0 else value + (1 << kind) - 1:0{kind}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    packed = int(text, 2).to_bytes(len(text) // 8, "big")
    counts = bytes(sum(1 for s in symbols if lengths[s] == n) for n in range(1, 17))
    return packed.replace(b"\xff", b"\xff\0"), counts + bytes(symbols)


def code_lengths(frequency: npt.NDArray[np.int64]) -> dict[int, int]:
    """Huffman code lengths of the symbols that occur; a dummy symbol keeps the all-ones code free, as JPEG demands."""
    heap = [(int(n), symbol, (symbol,)) for symbol, n in enumerate(frequency) if n]
    heap.append((0, 999, (999,)))
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
    assert max(depth.values()) <= 16
    return depth
