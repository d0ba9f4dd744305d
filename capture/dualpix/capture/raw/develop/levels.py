"""Black and white of samples that do not say them: what the user states, and what a look at the samples suggests.

An exported pair has no levels of its own: black is taken as 0 and white as the largest code of its samples (the largest
integer, or 1.0). Crops of raw data, as research sets have them, break that in silence: 14-bit samples above a black
level of 1024 in a 16-bit PNG, or counts in a float TIFF. The signs are looked for here; they are no proof, so they make
a warning and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError

Samples = npt.NDArray[Any]

_LARGEST = 1e9
_BITS = (8, 10, 12, 14)
# Merged bursts go a little beyond their white: those of a Pixel 4 up to 16464 of 14 bits.
_OVER = 1.01
# A black level is a sixteenth to a sixty-fourth of the range (1024 of 14 bits, 64 of 10, 256 of 14).
_LEAST_BLACK = 1 / 64
# The least samples but for a thousandth: dead pixels and noise lie below black.
_DARKEST = 0.001
# Without a black level only a range that is used to its end is a sign: else the picture may just be dark.
_FULL = 0.75
_LOOKED_AT = 1_000_000
_FAR_APART, _ENOUGH_SAMPLES, _PER_CODE = 4, 1000, 4
_FLOATS_ABOVE_WHITE = 0.1
_FLOAT_WHITES = (255, 1023, 4095, 16383, 65535)


@dataclass(frozen=True)
class Levels:
    """Codes of no light and of full light as the user states them; None is left to the decoder.

    Raises:
        DecodeError: no such levels exist.
    """

    black: float | None = None
    white: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("black", self.black), ("white", self.white)):
            if value is not None and not (math.isfinite(value) and 0 <= value <= _LARGEST):
                raise DecodeError(f"--{name} {value:g}", expected=f"a code of the samples, 0 to {_LARGEST:g}")
        if self.black is not None and self.white is not None and self.black >= self.white:
            raise DecodeError(f"--black {self.black:g} and --white {self.white:g}", expected="black below white")

    @property
    def are_stated(self) -> bool:
        """Whether the user said anything."""
        return self.black is not None or self.white is not None

    def over(self, black: float, white: float) -> tuple[float, float]:
        """Black and white: those that are stated, else these.

        Raises:
            DecodeError: the stated one does not fit the other.
        """
        found = black if self.black is None else self.black, white if self.white is None else self.white
        if not found[0] < found[1]:
            raise DecodeError(
                f"black {found[0]:g} and white {found[1]:g}", expected="black below white", hint="state both"
            )
        return found

    def origin(self, otherwise: str) -> str:
        """Who says so, for the provenance."""
        said = [name for name, value in (("black", self.black), ("white", self.white)) if value is not None]
        return {0: otherwise, 1: f"{''.join(said)} as given, the other {otherwise}", 2: "as given"}[len(said)]


def not_of_raws(levels: Levels) -> tuple[str, ...]:
    """The warning for a raw, which knows its levels, where the user states some for the pairs beside it."""
    said = "--black and --white are of exported pairs: the levels of the raw itself were kept"
    return (said,) if levels.are_stated else ()


def range_warnings(halves: tuple[Samples, Samples], white: float, levels: Levels, *, linear: bool) -> tuple[str, ...]:
    """What the samples of a pair tell about levels that nobody stated: nothing, or one line.

    Args:
        halves: as stored.
        white: the one that was taken.
        levels: those that the user stated.
        linear: no tone curve is assumed; display-referred integers have no black level.
    """
    if halves[0].dtype.kind == "f":
        return _float_warnings(halves, levels)
    if not linear or halves[0].dtype != np.uint16 or white > np.iinfo(np.uint16).max:
        return ()
    step = max(halves[0].size // _LOOKED_AT, 1)  # some rows tell as much as all; the brightest sample is one of all
    first, second = (np.bincount(half[::step].ravel(), minlength=1 << 16) for half in halves)
    counts = first + second
    codes, samples = np.flatnonzero(counts), int(counts.sum())
    peak = int(max(half.max() for half in halves))
    low = int(np.searchsorted(np.cumsum(counts), _DARKEST * samples, side="right"))
    bits = next((bits for bits in _BITS if peak <= _OVER * ((1 << bits) - 1)), 16)
    top = (1 << bits) - 1 if levels.white is None else levels.white
    short = levels.white is None and white > _OVER * top
    are_counts = short or levels.white is not None or _is_coarse(codes, samples)
    raised = levels.black is None and low >= _LEAST_BLACK * top and are_counts
    if not raised and not (short and peak >= _FULL * top):
        return ()
    signs = f"counts of {bits} bits" if short or bits < 16 else "counts of fewer bits stretched to 16"
    signs += f" above a black level, which is often {_usual_black(low, bits)}" if raised else ""
    advice = [f"--black {_usual_black(low, bits)}"] if raised else []
    advice += [f"--white {top:g}"] if short else []
    black = 0 if levels.black is None else levels.black
    return (
        f"the samples lie between {low} and {peak}, as {signs}; black {black:g} and white {white:g} were taken: "
        f"if so, give {' '.join(advice)}",
    )


def _float_warnings(halves: tuple[Samples, Samples], levels: Levels) -> tuple[str, ...]:
    if levels.white is not None:
        return ()
    above = sum(int(np.count_nonzero(half > _OVER)) for half in halves) / sum(half.size for half in halves)
    if above < _FLOATS_ABOVE_WHITE:
        return ()
    low, peak = min(float(half.min()) for half in halves), max(float(half.max()) for half in halves)
    white = next((white for white in _FLOAT_WHITES if peak <= _OVER * white), math.ceil(peak))
    return (
        f"the floats range from {low:.6g} to {peak:.6g}, {100 * above:.0f} % of them above white, which is 1.0: "
        f"if they are counts, say --white {white} (and --black, if there is a black level)",
    )


def _is_coarse(codes: npt.NDArray[np.intp], samples: int) -> bool:
    """Fewer bits moved or stretched to 16: codes in use lie apart, although there are samples enough for others."""
    enough = samples >= max(_ENOUGH_SAMPLES, _PER_CODE * codes.size)
    return enough and codes.size > 1 and int(np.diff(codes).min()) >= _FAR_APART


def _usual_black(low: int, bits: int) -> int:
    """A black level for samples of so many bits whose darkest is ``low``: the power of two that it is close to, for
    converters are set to one up to an eighth of their range, and noise and light move the darkest a little; else a
    sixteenth, which is that of Google's phones; else ``low`` itself."""
    nearest, sixteenth = 1 << round(math.log2(low)), 1 << (bits - 4)
    close = 0.9 * nearest <= low <= 1.1 * nearest and nearest <= 2 * sixteenth
    return nearest if close else min(sixteenth, low)
