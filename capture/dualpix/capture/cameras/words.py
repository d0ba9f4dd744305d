"""What cameras say in words, as numbers: apertures, times, the names of lenses.

Convention: a word that is no number is None. Values of an exposure are compared in stops: an aperture counts double,
because light goes with the square of the f-number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from dualpix.capture.camera_protocol import CameraError


def number(text: str | None) -> float | None:
    """``2.8``, ``f/2.8``, ``f2.8``, ``1/60``, ``0.5``; None for words."""
    match = re.fullmatch(r"(?:f/?)?(\d{1,6}(?:\.\d{1,4})?)(?:/(\d{1,6}))?", (text or "").strip().lower())
    if match is None or (match[2] is not None and int(match[2]) == 0):
        return None
    return float(match[1]) / float(match[2] or 1)


def prime_mm(lens: str | None) -> float | None:
    """The focal length in a lens's name, where it is one: ``RF50mm F1.2 L USM``, not ``RF24-105mm``."""
    match = re.search(r"(?<![\d.\-])(\d{1,4}(?:\.\d)?) ?mm", lens or "")
    return float(match[1]) if match else None


def nearest(
    setting: str,
    wanted: float,
    words: Sequence[str],
    value_of: Callable[[str], float | None] = number,
    *,
    is_aperture: bool,
    hint: str,
) -> str:
    """The word that is the value, within a sixth of a stop, which is what rounded names of exposures need.

    Args:
        setting: the camera's name for it, for errors.
        wanted: f-number, seconds or ISO.
        words: that the camera offers.
        value_of: a word.
        is_aperture: whether it goes with the square.
        hint: what to do where nothing is offered.

    Raises:
        CameraError: there is none.
    """
    if not wanted > 0:
        raise CameraError(f"{setting} {wanted:g}", expected="above 0")
    known = {word: value for word in words if (value := value_of(word))}
    if not known:
        raise CameraError(f"the camera does not let '{setting}' be set", hint=hint)
    stops = 2 if is_aperture else 1
    best = min(known, key=lambda word: abs(math.log2(known[word] / wanted)))
    if abs(stops * math.log2(known[best] / wanted)) > 1 / 6:
        raise CameraError(f"the camera has no {setting} {wanted:g}", expected="one of " + ", ".join(known))
    return best
