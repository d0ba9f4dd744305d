"""Dual-pixel raws to left, right and combined views: one decoder per maker, one result type, one error family.

What the package offers stands in :mod:`.decoding`, and is offered here.
"""

from __future__ import annotations

from dualpix.capture.raw.decoding import (
    DECODERS,
    WHOLE_SUFFIXES,
    Decoder,
    Levels,
    RawCapture,
    decode,
    decode_capture,
    find_decoder,
    opened,
    read_planes,
)

__all__ = [
    "DECODERS",
    "WHOLE_SUFFIXES",
    "Decoder",
    "Levels",
    "RawCapture",
    "decode",
    "decode_capture",
    "find_decoder",
    "opened",
    "read_planes",
]
