"""The order in which the frames of a bracket were taken.

By what is surest: the order in which the user named them; else the times in their EXIF, with fractions of a second and,
where all state it, the offset from UTC; else their names, with numbers by their value, so that 9 comes before 10, and
with 9999 before 0001 where a camera's counter ran over.

A pattern as ``*.jpg``, which a shell replaces by names sorted as text, is no order of the user's: where files are named
in just that order, they are taken like those of a folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from dualpix.capture.errors import DualpixError

Order = Literal["given", "time", "name"]
ORDERS: tuple[Order, ...] = get_args(Order)
_NUMBER = re.compile(r"(\d+)", re.ASCII)
_FRACTION = re.compile(r"\.\d")
_DCF_NAME = re.compile(r"([a-z0-9_]{4})(\d{4})", re.ASCII | re.IGNORECASE)
"""As cameras name files (DCF 2.0, 3.2): four characters, and a counter from 0001 to 9999."""
_OVERRUN = 9000
"""A jump of the counter that is none within a bracket."""


@dataclass(frozen=True)
class TakenOrder:
    """Files in the order in which they were taken, and how that is known."""

    places: tuple[int, ...]
    """Of the files as they were listed."""
    source: Order
    note: str


def natural_key(path: Path) -> tuple[tuple[int | str, ...], str]:
    """Sorts numbers by value and letters without case: IMG_9.JPG, img_10.jpg, IMG_11.JPG; folders count as well."""
    parts = _NUMBER.split(str(path).casefold())
    return tuple(int(part) if number % 2 else part for number, part in enumerate(parts)), str(path)


def taken_order(
    files: Sequence[Path], times: Sequence[str | None], *, named: bool, wanted: Order | None = None
) -> TakenOrder:
    """The order of a bracket's frames, see the module's text.

    Args:
        files: as they were listed or named.
        times: ISO 8601 of each, None where it states none.
        named: the user named them one by one.
        wanted: take this one and no other.

    Raises:
        DualpixError: the order that is wanted is not known.
    """
    as_named = tuple(range(len(files)))
    if wanted == "given" and not named:
        raise DualpixError("a folder has no order of its own", hint="name the frames one by one, or use --order name")
    if wanted == "given" or (wanted is None and named and not _as_a_shell_sorts(files)):
        return TakenOrder(as_named, "given", f"order: as named, {_ends(files, as_named)}")
    by_name, overrun = _by_name(files)
    moments = _moments(times)
    if wanted == "time" and moments is None:
        raise DualpixError(_untimed(times), expected="a DateTimeOriginal in each", hint="use --order name")
    if wanted == "name" or moments is None or len(set(moments)) < 2:
        how = "by name, whose counter ran over" if overrun else "by name, numbers by their value"
        why = "" if wanted == "name" else f"; {_untimed(times)}"
        found = TakenOrder(by_name, "name", f"order: {how}, {_ends(files, by_name)}{why}")
    else:
        by_time = tuple(sorted(by_name, key=lambda place: moments[place]))  # stable: names part equal times
        found = TakenOrder(by_time, "time", _time_note(files, times, moments, by_time, by_name))
    kept = "" if not named or found.places == as_named else "; --order given keeps that of the command line"
    return TakenOrder(found.places, found.source, found.note + kept)


def _time_note(
    files: Sequence[Path],
    times: Sequence[str | None],
    moments: Sequence[datetime],
    by_time: Sequence[int],
    by_name: Sequence[int],
) -> str:
    first, last = (str(times[place]).replace("T", " ") for place in (by_time[0], by_time[-1]))
    note = f"order: by EXIF time, {_ends(files, by_time)}, {first} to {last}"
    if len(set(moments)) < len(moments):
        note += "; frames of equal times by name"
    return note if tuple(by_time) == tuple(by_name) else f"{note}; by name it would be {_ends(files, by_name)}"


def _ends(files: Sequence[Path], places: Sequence[int]) -> str:
    return f"{files[places[0]].name} to {files[places[-1]].name}"


def _untimed(times: Sequence[str | None]) -> str:
    silent = sum(_moment(time) is None for time in times)
    if silent == len(times):
        return "no file states a time"
    return f"{silent} of {len(times)} files state no time" if silent else "their EXIF times are all equal"


def _moments(times: Sequence[str | None]) -> list[datetime] | None:
    """Of all frames on one clock, or None where one is not known; what not all of them state is left out."""
    read = [_moment(time) for time in times]
    moments = [moment for moment in read if moment is not None]
    if len(moments) < len(read):
        return None
    if not all(_FRACTION.search(time or "") for time in times):
        moments = [moment.replace(microsecond=0) for moment in moments]
    if not all(moment.tzinfo for moment in moments):
        return [moment.replace(tzinfo=None) for moment in moments]
    return [moment.astimezone(UTC) for moment in moments]


def _moment(time: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(time) if time else None
    except ValueError:
        return None


def _as_a_shell_sorts(files: Sequence[Path]) -> bool:
    """Whether names come in the order in which shells write what a pattern stands for: as text, by some locale."""
    texts = [str(path) for path in files]
    keys = (str, str.casefold, lambda text: re.sub(r"[\W_]", "", text).casefold())
    return any(texts == sorted(texts, key=key) for key in keys) or list(files) == sorted(files, key=natural_key)


def _by_name(files: Sequence[Path]) -> tuple[tuple[int, ...], bool]:
    """Places in natural order, and whether a counter that ran over was put right."""
    order = sorted(range(len(files)), key=lambda place: natural_key(files[place]))
    at = _overrun([files[place] for place in order])
    return tuple(order[at:] + order[:at]), at > 0


def _overrun(files: Sequence[Path]) -> int:
    """Where a bracket begins whose counter ran over within it, 0 where none did: 0001 0002 9998 9999 begins at 9998."""
    matches = [match for path in files if (match := _DCF_NAME.fullmatch(path.stem)) is not None]
    if (
        len(matches) < len(files)
        or len({(path.parent, m[1].casefold()) for path, m in zip(files, matches, strict=True)}) != 1
    ):
        return 0
    numbers = [int(match[2]) for match in matches]
    jumps = [place for place in range(1, len(numbers)) if numbers[place] - numbers[place - 1] > _OVERRUN]
    return jumps[0] if jumps else 0
