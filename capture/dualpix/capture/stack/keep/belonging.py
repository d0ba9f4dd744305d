"""Whether frames are of one bracket: one camera and lens, one aperture, one focal length; which ones are not.

Many macro lenses state the *effective* f-number, image distance over aperture, which grows towards the near end, and
some a focal length that changes with focus. Such frames are of one aperture, and are recorded so:

    N = N_eff (1 - f P),   the median over the frames,

with P the focus in diopters and f the focal length in m: the f-number that the thin lens of
:mod:`dualpix.capture.optics` needs for the aperture that the effective one means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import CaptureMeta

MOST_EFFECTIVE = 2.3
"""Times the f-number at infinity: at 1:1 a lens is at 2, pupils of a long one make it a little more."""
MOST_STEP = 1.2
"""From frame to frame, beyond what a thin lens does."""
MOST_BREATHING = 1.3
"""Of a focal length that changes with focus; zooms are turned by more."""
MOST_BREATHING_STEP = 1.1
_MOST_NAMED = 4


@dataclass(frozen=True)
class Shot:
    """A file and what it states of itself."""

    path: Path
    meta: CaptureMeta


@dataclass(frozen=True)
class BracketOptics:
    """What all frames share."""

    focal_length_mm: float | None
    f_number: float | None
    notes: tuple[str, ...] = ()


def bracket_optics(
    shots: Sequence[Shot],
    diopters: Sequence[float] | None,
    *,
    f_number: float | None = None,
    focal_length_mm: float | None = None,
) -> BracketOptics:
    """The optics of a bracket.

    Args:
        shots: in the order of taking.
        diopters: their focus; None where it is not known.
        f_number: what the user says it is, whatever the files state.
        focal_length_mm: the same.

    Raises:
        DualpixError: frames that are of another camera, lens, focal length or aperture, by their names.
    """
    _check_one(shots, "camera", "cameras", "from '{}'")
    _check_one(shots, "lens_model", "lenses", "with '{}'")
    focal_mm, breathing = focal_length_mm, ""
    if focal_mm is None:
        focal_mm, breathing = _one_focal_length(shots, diopters)
    number, effective = f_number, ""
    if number is None:
        number, effective = _one_f_number(shots, diopters, focal_mm)
    return BracketOptics(focal_mm, number, tuple(note for note in (breathing, effective) if note))


def _one_focal_length(shots: Sequence[Shot], diopters: Sequence[float] | None) -> tuple[float | None, str]:
    """That of the farthest frame where it changes with focus as lenses do, and a note of it."""
    stated = [shot.meta.focal_length_mm for shot in shots]
    values = [value for value in stated if value is not None]
    if len(set(values)) < 2:
        return (values[0] if values else None), ""
    order = _far_to_near(diopters, len(shots))
    row = [value for place in order if (value := stated[place]) is not None]
    if not _drifts(row, MOST_BREATHING, [MOST_BREATHING_STEP] * len(row), either_way=True):
        _refuse(shots, "focal_length_mm", "focal lengths", "at {:g} mm", "give --focal-length-mm if it is one lens")
    return row[0], f"the focal length changes with focus, {row[0]:g} to {row[-1]:g} mm: {row[0]:g} mm is taken"


def _one_f_number(
    shots: Sequence[Shot], diopters: Sequence[float] | None, focal_mm: float | None
) -> tuple[float | None, str]:
    """The one that is stated, or that effective ones mean, and a note of these."""
    stated = [shot.meta.f_number for shot in shots]
    values = [value for value in stated if value is not None]
    if len(set(values)) < 2:
        return (values[0] if values else None), ""
    order = _far_to_near(diopters, len(shots))
    shares = _racked_out(diopters, focal_mm, len(shots))
    row = [(value, shares[place]) for place in order if (value := stated[place]) is not None]
    steps = [MOST_STEP * max(1.0, far / near) for (_, far), (_, near) in pairwise(row)]
    if not _drifts([value for value, _ in row], MOST_EFFECTIVE, steps, either_way=diopters is None):
        _refuse(shots, "f_number", "apertures", "at f/{:g}", "give --f-number if it is one aperture")
    number = round(float(np.median([value * share for value, share in row])), 2) if diopters else min(values)
    note = f"the files state effective f-numbers, f/{min(values):g} to f/{max(values):g}: one aperture, f/{number:g}"
    return number, f"{note} of a thin lens"


def _far_to_near(diopters: Sequence[float] | None, count: int) -> list[int]:
    return list(range(count)) if diopters is None else sorted(range(count), key=lambda place: diopters[place])


def _racked_out(diopters: Sequence[float] | None, focal_mm: float | None, count: int) -> list[float]:
    """1 - f P of each frame: focal length over image distance."""
    if diopters is None or focal_mm is None:
        return [1.0] * count
    shares = [1.0 - focal_mm / 1000.0 * max(d, 0.0) for d in diopters]
    return shares if min(shares) > 0 else [1.0] * count


def _drifts(row: Sequence[float], most: float, steps: Sequence[float], *, either_way: bool) -> bool:
    """Whether values rise from far to near (or fall, ``either_way``) as a lens makes them, not as a hand does."""
    for values in (row, row[::-1]) if either_way else (row,):
        ratios = [near / far for far, near in pairwise(values)]
        even = all(1.0 <= ratio <= step for ratio, step in zip(ratios, steps, strict=False))
        if even and values[-1] <= most * values[0]:
            return True
    return False


# --- what does not belong -----------------------------------------------------------------------------------------


def _check_one(shots: Sequence[Shot], name: str, what: str, shown: str) -> None:
    if len({getattr(shot.meta, name) for shot in shots} - {None}) > 1:
        _refuse(shots, name, what, shown, "")


def _refuse(shots: Sequence[Shot], name: str, what: str, shown: str, hint: str) -> None:
    """Raises DualpixError, with the names of the few that differ from the many."""
    values = [getattr(shot.meta, name) for shot in shots]
    counted = Counter(value for value in values if value is not None).most_common()
    usual, many = counted[0]
    others = [shot for shot, value in zip(shots, values, strict=True) if value not in (None, usual)]
    if many > len(others):
        raise stranger([shot.path.name for shot in others], shown.format(getattr(others[0].meta, name)), many,
                       shown.format(usual), hint)  # fmt: skip
    texts = ", ".join(str(value) for value in sorted(value for value, _ in counted)[:_MOST_NAMED])
    first = {value: shot.path.name for shot, value in reversed(list(zip(shots, values, strict=True)))}
    where = ", ".join(f"'{first[value]}' is {shown.format(value)}" for value, _ in counted[:2])
    raise DualpixError(
        f"the frames are of {len(counted)} {what}: {texts} ({where})",
        expected="one",
        hint="; ".join(part for part in ("name the frames of one bracket", hint) if part),
    )


def stranger(names: Sequence[str], is_what: str, many: int, usual: str, hint: str = "") -> DualpixError:
    """The error of frames that do not belong to the rest."""
    shown = ", ".join(f"'{name}'" for name in names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
    return DualpixError(
        f"{shown} {'is' if len(names) == 1 else 'are'} {is_what}, the other {many} frames {usual}",
        expected="frames of one bracket",
        hint="; ".join(part for part in ("leave out what does not belong", hint) if part),
    )


def check_sizes(sizes_hw: Sequence[tuple[str, Any]]) -> None:
    """Whether decoded frames, by their names, are of one size (H, W).

    Raises:
        DualpixError: they are not; the message names which.
    """
    counted = Counter(size for _, size in sizes_hw).most_common()
    if len(counted) > 1:
        usual, many = counted[0]
        others = [(name, size) for name, size in sizes_hw if size != usual]
        raise stranger([name for name, _ in others], _pixels(others[0][1]), many, _pixels(usual))


def _pixels(size_hw: Any) -> str:
    return f"of {size_hw[1]}x{size_hw[0]} pixels"
