"""What a decoder is: the protocol, what it gets and what it gives.

A decoder only reads: it hands out the samples of the two halves as the sensor lies, with their levels, and says what it
knows about them. Naming (``swap``), equalisation, demosaicing and rotation are done once, for all, in
:mod:`dualpix.capture.raw`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from dualpix.capture.raw.containers.images import Picture, read_tagged_picture
from dualpix.capture.raw.develop.levels import Levels
from dualpix.capture.raw.develop.planes import Plane
from dualpix.capture.types import Baseline, CaptureMeta, Mask

if TYPE_CHECKING:
    from dualpix.capture.raw.formats.dump import Dump

Encoding = Literal["auto", "srgb", "linear"]

HEAD_BYTES = 64


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
    sub: Path | None = None
    """The file of the second frame, where a converter wrote the two frames of a raw as two files."""
    dump: Dump | None = None
    """The geometry of a file without a header."""
    levels: Levels = field(default_factory=Levels)
    """Black and white of a pair, where the user states them; in the numbers that the decoder says it reads."""

    @cached_property
    def picture(self) -> Picture:
        """What ``path`` holds, where it is a picture: decoded once, also where a decoder looks at it to refuse it.

        Raises:
            DecodeError: see :func:`~dualpix.capture.raw.containers.images.read_picture`.
        """
        return read_tagged_picture(self.path)


@dataclass(frozen=True)
class SensorViews:
    """Both halves as the sensor lies: neither renamed, equalised, demosaiced nor rotated."""

    left: Plane
    right: Plane
    combined: Plane
    saturated: Mask
    """(H, W) of the planes: the sample clipped in a frame it was made of."""
    meta: CaptureMeta
    """``provenance["left"]`` and ``["right"]`` say where each half came from. Pitch is that of a sample."""
    baseline: Baseline = "x"
    """Axis of the disparity before rotation."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Levels, clip, crop: plain data for the sidecar."""
    frames: Callable[[], Mapping[str, npt.NDArray[np.generic]]] = dict
    """Gives the untouched sensor frames by name, see ``dualpix decode --frames``."""
    white_balance: tuple[float, float, float] | None = None
    """R, G, B multipliers as shot, green = 1."""
    srgb_from_camera: tuple[tuple[float, float, float], ...] | None = None
    """3x3, from white-balanced camera colour to linear sRGB; rows sum to 1."""
    half_assumed: bool = False
    """Neither the file nor a measurement of its camera says which half is the left one."""
    warnings: tuple[str, ...] = ()
    """What the user should know about this file, one line each."""


class Decoder(Protocol):
    """One kind of dual-pixel file. A new camera is a new object of this form in ``dualpix.capture.raw.DECODERS``."""

    name: str
    needs: str
    """What the user has to give, for error messages and help."""
    summary: str
    """What kind of file this is, for ``--list-formats``."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Usual file name endings, lower case with the dot: where to look in a folder, never a reason to refuse."""
        ...

    @property
    def whole_suffixes(self) -> tuple[str, ...]:
        """Those of ``suffixes`` whose one file is a capture, nothing beside it needed. A folder search takes these as
        they are; of the others the left files whose right file is there."""
        ...

    def refuses(self, source: Source) -> str | None:
        """None when the file is of this decoder's kind (it may still be broken), else the reason in a few words."""
        ...

    def decode(self, source: Source) -> SensorViews:
        """Read the capture.

        Raises:
            DecodeError: of this kind, but damaged or without a second half.
        """
        ...
