"""Checking JSON by hand: one value, what to call it, and a one-line error for everything that is wrong with it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FloatImage

MAX_GRID = 256
DIGITS = 5
"""Decimals of stored grids."""


class ProfileError(DualpixError):
    """A camera profile cannot be read, or is for other captures."""


@dataclass(frozen=True)
class Entry:
    """A JSON value and what to call it in an error; each method checks one thing and raises ProfileError."""

    value: Any
    name: str

    def wrong(self, expected: str) -> ProfileError:
        """The error of a value that is not ``expected``."""
        shown = json.dumps(self.value)
        return ProfileError(f"{self.name} is {shown if len(shown) <= 60 else shown[:57] + '...'}", expected=expected)

    def has(self, key: str) -> bool:
        """Whether the object has ``key``."""
        return key in self.object()

    def __getitem__(self, key: str) -> Entry:
        if not self.has(key):
            raise ProfileError(f"{self.name} has no '{key}'", expected="a profile of 'dualpix calibrate'")
        return Entry(self.value[key], f"'{key}'" if self.name == "the profile" else f"{self.name}.'{key}'")

    def object(self) -> dict[str, Any]:
        """A JSON object."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value

    def only(self, *names: str) -> None:
        """No entries but these."""
        for key in self.object():
            if key not in names:
                raise ProfileError(f"{self.name} has an unknown entry '{key[:40]}'", expected=f"of: {', '.join(names)}")

    def text(self, most: int = 256) -> str:
        """A text of bounded length."""
        if not isinstance(self.value, str) or len(self.value) > most:
            raise self.wrong(f"a text of at most {most} characters")
        return self.value

    def one_of(self, *texts: str) -> str:
        """One of the given texts."""
        if not isinstance(self.value, str) or self.value not in texts:
            raise self.wrong("one of: " + ", ".join(texts))
        return self.value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def whole(self, low: int, high: int) -> int:
        """A whole number in ``low..high``."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            raise self.wrong(f"a whole number {low}..{high}")
        return self.value

    def number(self, low: float, high: float, *, above: bool = False) -> float:
        """A number in ``low..high``, without ``low`` itself where ``above``."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong("a number")
        if not low <= self.value <= high or (above and self.value == low):
            raise self.wrong(f"a number {'> ' if above else ''}{low:g} to {high:g}")
        return float(self.value)

    def optional(self, key: str, high: float) -> float | None:
        """A number > 0, or None where there is no such entry."""
        return self[key].number(0, high, above=True) if self.has(key) else None

    def distance_m(self) -> float:
        """A number > 0, or the text "inf"."""
        return math.inf if self.value == "inf" else self.number(0, 1e9, above=True)

    def items(self, count: int | None = None, most: int = 4096) -> list[Any]:
        """A list."""
        if not isinstance(self.value, list) or len(self.value) > most:
            raise self.wrong("a list" if count is None else f"a list of {count} numbers")
        if count is not None and len(self.value) != count:
            raise ProfileError(f"{self.name} has {len(self.value)} values", expected=f"{count}")
        return self.value

    def grid(self, shape: tuple[int, ...], low: float, high: float, *, above: bool = False) -> FloatImage:
        """A list of numbers in ``low..high``, row by row, as an array of ``shape``."""
        values = self.items(math.prod(shape), most=MAX_GRID * MAX_GRID * 3)
        for index, value in enumerate(values):
            Entry(value, f"{self.name}[{index}]").number(low, high, above=above)
        return np.array(values, np.float32).reshape(shape)


def numbers(grid: FloatImage) -> list[float]:
    """Of a grid row by row, channels last, rounded to ``DIGITS``."""
    return [round(v, DIGITS) for v in grid.ravel().tolist()]


def infinite(distance_m: float | None) -> float | str | None:
    """A distance as JSON, which lacks infinity."""
    return "inf" if distance_m == math.inf else distance_m
