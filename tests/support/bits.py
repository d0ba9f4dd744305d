"""Variable-length codes to bytes, most significant bit first, in numpy: what both raw codecs end in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]
_PART = 1 << 21  # codes packed at once: bounds the temporaries of a full-size frame


def pack(values: Words, counts: npt.NDArray[np.integer], *, pad_bit: int = 0, align: int = 1) -> bytes:
    """Concatenate the ``counts[i]`` (0..64) low bits of ``values[i]``.

    The last byte is filled up with ``pad_bit``, then zero bytes follow up to a multiple of ``align`` bytes. Bits of a
    value above its count must be 0.
    """
    total = int(counts.sum(dtype=np.int64))
    words = np.zeros(total // 64 + 2, np.uint64)
    at = 0
    for begin in range(0, values.size, _PART):
        part = counts[begin : begin + _PART].astype(np.int64)
        at = _place(words, at, values[begin : begin + _PART], part)
    size = (total + 7) // 8
    packed = words.astype(">u8").view(np.uint8)[:size].copy()
    if pad_bit and total % 8:
        packed[-1] |= (1 << (8 - total % 8)) - 1
    return packed.tobytes() + bytes(-size % align)


def _place(words: Words, at: int, values: Words, counts: Counts) -> int:
    """Or the codes into ``words`` from bit ``at`` on; returns the bit behind the last one."""
    kept = counts > 0
    if not kept.all():
        values, counts = values[kept], counts[kept]
    if not values.size:
        return at
    end = at + np.cumsum(counts)
    start = end - counts
    word, room = start >> 6, 64 - (start & 63) - counts
    high = np.where(room >= 0, values << np.maximum(room, 0).astype(np.uint64), 0)
    split = np.flatnonzero(room < 0)
    spill = -room[split]
    high[split] = values[split] >> spill.astype(np.uint64)
    first = np.flatnonzero(np.r_[True, word[1:] != word[:-1]])
    words[word[first]] |= np.bitwise_or.reduceat(high, first)
    # At most one code reaches from one word into the next.
    words[word[split] + 1] |= values[split] << (64 - spill).astype(np.uint64)
    return int(end[-1])
