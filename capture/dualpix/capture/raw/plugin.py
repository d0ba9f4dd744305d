"""What a decoder is: the protocol, what it gets and what it gives.

A decoder only reads: it hands out the two halves as the sensor lies, black-subtracted and scaled, and says what it
knows about them. Naming (``swap``), equalisation and rotation are done once, for all, in :mod:`dualpix.capture.raw`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from dualpix.capture.types import Baseline, CaptureMeta, FloatImage, Mask

Encoding = Literal["auto", "srgb", "linear"]

HEAD_BYTES = 64
# The largest dual-pixel sensors have about 50 megapixels; the bound is checked before anything is allocated.
MAX_PIXELS = 256_000_000


@dataclass(frozen=True)
class Source:
    """One capture to decode: its file, or the left file of a pair."""

    path: Path
    head: bytes
    """The first :data:`HEAD_BYTES` bytes of ``path``."""
    right: Path | None = None
    """The right file where the user named it; a pair decoder otherwise looks beside ``path``."""
    encoding: Encoding = "auto"
    """Tone curve of a generic pair; the raw decoders know theirs."""
    baseline: Baseline | None = None
    """Axis of the disparity of a pair where the user said so."""


@dataclass(frozen=True)
class SensorViews:
    """Both halves as the sensor lies: neither renamed, equalised nor rotated."""

    left: FloatImage
    right: FloatImage
    combined: FloatImage
    saturated: Mask
    meta: CaptureMeta
    """``provenance["left"]`` and ``["right"]`` say where each half came from."""
    baseline: Baseline = "x"
    """Axis of the disparity before rotation."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Levels, clip, crop: plain data for the sidecar."""
    frames: Callable[[], Mapping[str, npt.NDArray[np.generic]]] = dict
    """Gives the untouched sensor frames by name, see ``dualpix decode --frames``."""


class Decoder(Protocol):
    """One kind of dual-pixel file. A new camera is a new object of this form in ``dualpix.capture.raw.DECODERS``."""

    name: str
    needs: str
    """What the user has to give, for error messages and help."""

    def refuses(self, source: Source) -> str | None:
        """None when the file is of this decoder's kind (it may still be broken), else the reason in a few words."""
        ...

    def decode(self, source: Source) -> SensorViews:
        """Read the capture.

        Raises:
            DecodeError: of this kind, but damaged or without a second half.
        """
        ...
