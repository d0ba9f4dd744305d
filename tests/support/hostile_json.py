"""JSON with one value replaced by what no program writes: for every place of a document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

MARK = "@hostile@"
_TURNS = 5
HOSTILE = {
    "1e999": "1e999", "-1e999": "-1e999", "NaN": "NaN", "Infinity": "Infinity", "null": "null", "true": "true",
    "a text": '"x"', "a list": "[]", "an object": "{}", "-1": "-1", "1.5": "1.5", "1e308": "1e308",
    "400 digits": "1" + "0" * 400, "5000 digits": "9" * 5000, "deep": "[" * 200_000 + "]" * 200_000,
    "100 levels": "[" * 100 + "]" * 100, "900 levels": '{"a":' * 900 + "1" + "}" * 900, "NUL": '"\\u0000"',
    "half a surrogate": '"\\ud800"', "a long text": '"' + "x" * 70_000 + '"', "another key": '{"x": 1}',
}  # fmt: skip


def places(value: Any, most_items: int = 2) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a document, of long lists only of their first items."""
    yield ()
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:most_items]) if isinstance(value, list) else ()
    )
    for key, item in items:
        for rest in places(item, most_items):
            yield key, *rest


def with_hostile(value: Any, place: tuple[Any, ...], hostile: str) -> str:
    """The text of a document with the value at a place replaced."""
    if not place:
        return hostile
    changed = deepcopy(value)
    at = changed
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = MARK
    return json.dumps(changed).replace(f'"{MARK}"', hostile, 1)


def refusals(value: Any, read: Callable[[str], object], refusal: type[Exception]) -> Iterator[str]:
    """The messages of hostile texts that are refused; lets any other exception through.

    All of them at the first places, then by turns: a document has many, and what checks one checks the next.
    """
    kinds = list(HOSTILE.values())
    for number, place in enumerate(places(value)):
        for hostile in kinds if number < 2 else kinds[number % _TURNS :: _TURNS]:
            try:
                read(with_hostile(value, place, hostile))
            except refusal as error:
                yield str(error)
