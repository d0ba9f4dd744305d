"""The page of the architecture shows the rooms that the code has, and no circle passes."""

from __future__ import annotations

import pytest
from docs.make_architecture import END, HOUSE, PAGE, SHOWN_WITHIN, Floor, Room, floor_of, refuse_circles, with_rooms

STALE = "run: python -m docs.make_architecture"


def without_sizes(page: str) -> list[str]:
    """Every line of the page; of a room's row its name and who imports whom."""
    lines = []
    for line in page.splitlines():
        cells = line.split(" | ")
        lines.append(" | ".join(cells[:1] + cells[3:]) if line.startswith("| `") else line)
    return lines


def sizes(page: str) -> dict[str, int]:
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return {row[0]: int(row[2]) for row in rows}


def test_rooms_and_arrows_on_the_page_are_those_of_the_code() -> None:
    page = PAGE.read_text()
    assert END in page and without_sizes(page) == without_sizes(with_rooms(page)), STALE


def test_sizes_on_the_page_are_those_of_the_code_to_a_tenth() -> None:
    page = PAGE.read_text()
    shown, real = sizes(page), sizes(with_rooms(page))
    assert shown and {room for room, lines in real.items() if abs(lines - shown[room]) > 200 + lines / 10} == set(), (
        STALE
    )


@pytest.mark.parametrize("package", [HOUSE, *(f"{HOUSE}.{name}" for name in SHOWN_WITHIN)])
def test_no_rooms_import_each_other(package: str) -> None:
    floor = floor_of(package)
    assert len(floor.rooms) > 7 and any(floor.arrows.values())


def test_a_circle_is_named() -> None:
    with pytest.raises(ValueError, match="each other: keep, take"):
        refuse_circles({"cli": {"look"}, "take": {"keep"}, "keep": {"take"}, "look": set()})


def test_arrows_that_follow_are_not_drawn() -> None:
    floor = Floor({name: Room() for name in "abc"}, {"a": {"b", "c"}, "b": {"c"}, "c": set()})
    assert "a --> b" in floor.figure() and "b --> c" in floor.figure() and "a --> c" not in floor.figure()
