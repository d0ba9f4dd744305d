"""Whether an artefact is fast enough: ratios of times, judged where a limit says something of them, reported elsewhere.

Convention: a ratio is the other's time over ours, 3 is three times as fast; one ratio a round, the rounds interleaved.

A healthy machine must not be told that an artefact is slow, so a ratio is **judged** only if

- both sides are timed in processor time with one thread: wall time is also that of other programs, and the processor
  time of several threads counts those that wait for each other;
- both sides run with all the instructions of one known class of processors (:mod:`dualpix.capture.processor`), and the
  limits name that class: the same files are 4.6 times as fast as PyTorch with AVX-512 VNNI and 2.05 times with AVX2;
- the rounds tell on which side of the limit their median lies: the limit is outside of its 95 % interval.

The interval is that of the sign test, from the k-th smallest to the k-th largest ratio: true for any distribution, with
outliers of any size, and the same at every call, which a bootstrap of a median of nine is not. Fewer than six rounds
have none. Everything else is reported, with the reason why it was not judged.

Limits by class, ``"any"`` for every processor::

    {"x86-64-avx512-vnni": {"xnnpack-fp32": 1.25, "eager": 2.0}, "x86-64-avx2": {"eager": 1.0}}

Limits without a class (``{"eager": 3.0}``, as files were before classes) still load; of which processors they hold is
not known, so what they limit is reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.processor import UNKNOWN

CONFIDENCE = 0.95
ANY = "any"
"""In place of a class: on every processor whose class is known."""
NO_CLASS = ""
"""In place of a class: limits of a file that names none."""

_MAX_RATIO = 1e9

SpeedLimits = Mapping[str, Mapping[str, float]]
"""Class -> other candidate -> lowest ratio over it."""

HOUSE_SPEED: Mapping[str, SpeedLimits] = {
    "xnnpack-fp32": {"x86-64-avx512-vnni": {"eager": 0.9}, "x86-64-avx2": {"eager": 0.5}},
    "xnnpack-int8": {
        "x86-64-avx512-vnni": {"xnnpack-fp32": 1.25, "eager": 2.0},
        "x86-64-avx2": {"xnnpack-fp32": 1.25, "eager": 1.0},
    },
}
"""By recipe, on the classes on which the shipped network was measured (384 x 512 px, one thread): 1.8 to 2.3, 2.4 and
4.5 to 5.5 on an EPYC of Zen 5; .97, 2.09 and 2.05 on an EPYC that has AVX2 alone. Processors of a class differ in the
width of their units: Zen 4 computes with AVX-512 at half the rate of Zen 5, Zen 1 with AVX2 at half that of Zen 3. The
programs are slower there, PyTorch hardly: held to AVX2 it takes 5 to 10 % longer on Zen 5. So a limit over PyTorch is
about half of what was measured, or less; int8 over float32 depends less on it."""


@dataclass(frozen=True)
class Ratio:
    """How many times faster than another, over the rounds."""

    samples: tuple[float, ...]
    """One a round, at least one."""

    @property
    def median(self) -> float:
        """Over the rounds."""
        return float(np.median(self.samples))

    @property
    def quartiles(self) -> tuple[float, float]:
        """25 % and 75 %, by linear interpolation."""
        low, high = (float(v) for v in np.percentile(self.samples, (25, 75)))
        return low, high

    @property
    def iqr(self) -> float:
        """Interquartile range."""
        low, high = self.quartiles
        return high - low

    @property
    def interval(self) -> tuple[float, float] | None:
        """In which the median lies with 95 % confidence; ``None`` where the rounds are too few."""
        return median_interval(self.samples)

    def __str__(self) -> str:
        return f"{self.median:.3g} (IQR {self.iqr:.2g})"


def median_interval(samples: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """The narrowest pair of order statistics, as far from one end as from the other, that holds the median.

    Of n independent samples fewer than k lie below the median with the probability of fewer than k heads in n throws of
    a coin, whatever their distribution (Conover, Practical Nonparametric Statistics, 3.2).

    Returns:
        (low, high), or ``None`` where not even the smallest and the largest sample hold it with that confidence.
    """
    n, ordered = len(samples), sorted(samples)
    outside, k = 0.0, 0
    while k < n // 2 and 2 * (outside + math.comb(n, k) / 2**n) <= 1 - confidence:
        outside += math.comb(n, k) / 2**n
        k += 1
    return (ordered[k - 1], ordered[n - k]) if k else None


@dataclass(frozen=True)
class Timing:
    """How fast one artefact was beside the others of its benchmark."""

    ratios: Mapping[str, Ratio]
    """Over each other candidate."""
    class_name: str | None
    """Of the processor, whole, as the artefact's runtime uses it."""
    class_of: Mapping[str, str | None]
    """With which each other candidate ran."""
    held_by: tuple[str, ...] = ()
    """Settings for which a class of the others is another one."""
    unfit: str = ""
    """Why the times can be judged on no machine; empty where they can."""


@dataclass(frozen=True)
class SpeedCheck:
    """A ratio beside its limit."""

    over: str
    ratio: Ratio
    limit: float | None
    """``None`` where nothing is asked."""
    why_not: str = ""
    """Why it is reported and not judged, where a limit was given for some processor."""

    @property
    def judged(self) -> bool:
        """Whether it counts in the verdict."""
        return self.limit is not None and not self.why_not

    @property
    def passed(self) -> bool | None:
        """Whether it keeps the limit; ``None`` where it is not judged."""
        return self.ratio.median >= self.limit if self.judged and self.limit is not None else None

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``gate.json``."""
        ratio = {"median": self.ratio.median, "quartiles": self.ratio.quartiles, "interval": self.ratio.interval}
        verdict = {"limit": self.limit, "judged": self.judged, "passed": self.passed, "why_not": self.why_not}
        return ratio | verdict


def judge_speed(timing: Timing, limits: SpeedLimits) -> tuple[SpeedCheck, ...]:
    """Every ratio of ``timing`` beside its limit, judged where that can be done; see the module."""
    return tuple(_check(over, ratio, timing, limits) for over, ratio in timing.ratios.items())


def _check(over: str, ratio: Ratio, timing: Timing, limits: SpeedLimits) -> SpeedCheck:
    if not any(over in entry for entry in limits.values()):
        return SpeedCheck(over, ratio, None)
    own = timing.class_name
    limit = {**limits.get(ANY, {}), **limits.get(own or NO_CLASS, {})}.get(over)
    why_not = (
        timing.unfit
        or _classes_differ(over, own, timing.class_of.get(over), timing.held_by)
        or (_of_other_classes(over, own, limits) if limit is None else _undecided(ratio, limit))
    )
    return SpeedCheck(over, ratio, limit, why_not)


def _classes_differ(over: str, own: str | None, other: str | None, held_by: Sequence[str]) -> str:
    if own is not None and own == other:
        return ""
    if own is None:
        return "the class of this processor is not known"
    held = f" ({', '.join(held_by)})" if held_by else ""
    return f"'{over}' is held to {other or UNKNOWN}{held} on a processor of {own}"


def _of_other_classes(over: str, own: str | None, limits: SpeedLimits) -> str:
    named = [name for name, entry in limits.items() if over in entry and name != NO_CLASS]
    return f"this processor is {own}, limits are {'for ' + ', '.join(named) if named else 'without a class'}"


def _undecided(ratio: Ratio, limit: float) -> str:
    interval = ratio.interval
    if interval is None:
        return f"{len(ratio.samples)} rounds are too few to tell"
    if interval[0] < limit <= interval[1]:
        return f"the rounds scatter: {interval[0]:.3g} to {interval[1]:.3g} around the limit of {limit:.3g}"
    return ""


def speed_notes(checks: Mapping[str, Sequence[SpeedCheck]]) -> list[str]:
    """Lines that say which ratios were not judged and why, one a reason.

    Args:
        checks: by recipe.
    """
    pairs: dict[str, list[str]] = {}
    for recipe, of_recipe in checks.items():
        for check in of_recipe:
            if check.why_not:
                pairs.setdefault(check.why_not, []).append(f"{recipe} over {check.over}")
    return [f"speed of {', '.join(names)} is reported, not judged: {why}" for why, names in pairs.items()]


def parse_speed_limits(value: Any, where: str) -> dict[str, dict[str, float]]:
    """The field ``speedup`` of a limits file.

    Raises:
        DualpixError: it has another form, or a limit that is no finite number above 0.
    """
    by_class = isinstance(value, dict) and (not value or any(isinstance(entry, dict) for entry in value.values()))
    entries = value if by_class else {NO_CLASS: value}
    for entry in entries.values():
        ratios = list(entry.values()) if isinstance(entry, dict) else [None]
        if any(isinstance(v, bool) or not isinstance(v, int | float) or not 0 < v <= _MAX_RATIO for v in ratios):
            raise DualpixError(
                f"{where} has a limit that is no number in 'speedup'",
                expected='{"x86-64-avx512-vnni": {"eager": 3.0}}: by class of processor, lowest ratios above 0',
            )
    return {str(name): {str(k): float(v) for k, v in entry.items()} for name, entry in entries.items()}
