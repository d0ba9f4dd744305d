"""Checked access to the fields of JSON that came from a device."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from dualpix.export.errors import ProfileError

T = TypeVar("T")

MAX_SECONDS = 1e6
_MAX_TEXT, _MAX_COUNT = 2000, 2**53 - 1


class Reader:
    """Checked access to one JSON object; its errors name the field."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise ProfileError(f"{where} is {shown(data)}", expected="an object")
        self.data: dict[str, object] = data
        self.where = where

    def get(self, name: str) -> object:
        """What stands there, None where nothing does."""
        return self.data.get(name)

    def value(self, name: str) -> object:
        """What stands there."""
        if name not in self.data:
            raise ProfileError(f"{self.where} has no '{name}'")
        return self.data[name]

    def object(self, name: str) -> Reader:
        """An object of its own."""
        return Reader(self.value(name), f"{self.where}.{name}")

    def maybe(self, name: str, build: Callable[[Reader], T]) -> T | None:
        """``build`` of an object, None where there is none."""
        return None if self.get(name) is None else build(self.object(name))

    def items(self, name: str, most: int) -> list[tuple[Any, str]]:
        """A list of at most ``most``, each with where it stands."""
        value = self.value(name)
        if not isinstance(value, list) or len(value) > most:
            raise ProfileError(f"{self.where}.{name} is {shown(value)}", expected=f"a list of at most {most}")
        return [(v, f"{self.where}.{name}[{k}]") for k, v in enumerate(value)]

    def text(self, name: str, *, optional: bool = False) -> str | None:
        """Text of bounded length."""
        value = self.get(name) if optional else self.value(name)
        if value is None and optional:
            return None
        if not isinstance(value, str) or len(value) > _MAX_TEXT:
            expected = f"text of at most {_MAX_TEXT} characters"
            raise ProfileError(f"{self.where}.{name} is {shown(value)}", expected=expected)
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """A finite number of ``low`` to ``high``."""
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ProfileError(f"{self.where}.{name} is {shown(value)}", expected=f"a number of {low:g} to {high:g}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ProfileError(f"{self.where}.{name} is {shown(value)}", expected="a finite number")
        return number

    def optional_number(self, name: str, low: float, high: float) -> float | None:
        """The same, or None."""
        return None if self.get(name) is None else self.number(name, low, high)

    def seconds(self, name: str, *, optional: bool = False) -> float | None:
        """A duration."""
        if optional and self.value(name) is None:
            return None
        return self.number(name, 0, MAX_SECONDS)

    def share(self, name: str) -> float | None:
        """0 to 1, or None."""
        return self.optional_number(name, 0, 1)

    def whole(self, name: str, low: int, high: int) -> int:
        """An integer of ``low`` to ``high``."""
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            expected = f"a whole number of {low} to {high}"
            raise ProfileError(f"{self.where}.{name} is {shown(value)}", expected=expected)
        return value

    def count(self, name: str, *, optional: bool = False) -> int | None:
        """An integer from 0 on."""
        return None if optional and self.get(name) is None else self.whole(name, 0, _MAX_COUNT)


def shown(value: object) -> str:
    """A value as messages quote it."""
    text = repr(value) if isinstance(value, bool | float | str | None) else type(value).__name__
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value) if abs(value) < 1 << 64 else "a huge number"
    return text[:80]
