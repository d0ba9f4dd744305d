"""Fields of JSON objects that somebody else wrote: every one checked for its type and bounds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from dualpix.capture.cameras.android.messages import ProtocolError
from dualpix.capture.files import parse_json

T = TypeVar("T")


class Fields:
    """Fields of an object; each method reads one and raises :class:`~.messages.ProtocolError` where it is wrong."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values, self._where = values, where

    def text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        """Of bounded length, and like ``pattern`` as a whole."""
        value = self._values.get(key)
        if not isinstance(value, str) or len(value) > 1000 or (pattern and not pattern.fullmatch(value)):
            raise self._error(key, "a text" + (f" like {pattern.pattern}" if pattern else ""))
        return value

    def one_of(self, key: str, choices: Any) -> Any:
        """One of the texts of a ``Literal``."""
        if (value := self.text(key)) not in get_args(choices):
            raise self._error(key, "one of: " + ", ".join(get_args(choices)))
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number in ``low..high``, however it is written."""
        value = _whole(self._values.get(key))
        if value is None or not low <= value <= high:
            raise self._error(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        """A number in ``low..high``."""
        return self._number(key, self._values.get(key), low, high)

    def numbers(self, key: str, shortest: int, longest: int) -> list[float]:
        """``shortest`` to ``longest`` numbers that are not negative."""
        return [self._number(key, value, 0, 1e15) for value in self._list(key, shortest, longest)]

    def pair(self, key: str) -> tuple[int, int]:
        """Two whole numbers."""
        first, second = (_whole(value) for value in self._list(key, 2, 2))
        if first is None or second is None or not (0 <= first <= 10**15 and 0 <= second <= 10**15):
            raise self._error(key, "two whole numbers")
        return first, second

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._values.get(key)
        if not isinstance(value, bool):
            raise self._error(key, "true or false")
        return value

    def optional(self, key: str, read: Callable[[str], T]) -> T | None:
        """What ``read`` makes of it; None where it is null or not there."""
        return None if self._values.get(key) is None else read(key)

    def object(self, key: str) -> Fields:
        """The fields of an object within."""
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise self._error(key, "an object")
        return Fields(value, f"{self._where}: {key}")

    def objects(self, key: str, longest: int) -> list[Fields]:
        """Those of each of at most ``longest`` objects."""
        values = self._list(key, 0, longest)
        if not all(isinstance(value, dict) for value in values):
            raise self._error(key, "objects")
        return [Fields(value, f"{self._where}: {key}[{i}]") for i, value in enumerate(values)]

    def _list(self, key: str, shortest: int, longest: int) -> list[Any]:
        value = self._values.get(key)
        if not isinstance(value, list) or not shortest <= len(value) <= longest:
            raise self._error(key, f"a list of {shortest} to {longest}")
        return value

    def _number(self, key: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self._error(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def _error(self, key: str, expected: str) -> ProtocolError:
        found = repr(self._values[key])[:80] if key in self._values else "nothing"
        return ProtocolError(f"{self._where}: {key} is {found}", expected=expected)


def _whole(value: Any) -> int | None:
    """A whole number, however it is written: in JSON 3.0 is one too."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_object(text: str | bytes, where: str) -> dict[str, Any]:
    """JSON that is an object; ``where`` is what it is called in errors.

    Raises:
        ProtocolError: it is none.
    """
    value = parse_json(text, where, "a message of the companion app", ProtocolError)
    if not isinstance(value, dict):
        raise ProtocolError(f"{where} holds {type(value).__name__}", expected="an object")
    return value
