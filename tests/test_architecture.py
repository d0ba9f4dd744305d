"""The page of the architecture shows the rooms of the code, its walks name rooms that are, and no circle passes."""

from __future__ import annotations

import ast
import re

import pytest
from docs.make_architecture import (
    END,
    PAGE,
    ROOT,
    SHOWN_WITHIN,
    Floor,
    Longest,
    Room,
    floor_of,
    refuse_circles,
    with_rooms,
)

STALE = "run: python -m docs.make_architecture"
PACKAGES = [f"dualpix.{area}{'.' * bool(name)}{name}" for area, names in SHOWN_WITHIN.items() for name in ("", *names)]


@pytest.fixture(scope="module")
def page_of_today() -> str:
    return with_rooms(PAGE.read_text())


def without_sizes(page: str) -> list[str]:
    """Every line of the page up to the longest; of a room's row its name and who imports whom."""
    lines = []
    for line in page.partition("### The longest")[0].splitlines():
        cells = line.split(" | ")
        lines.append(" | ".join(cells[:1] + cells[3:5]) if line.startswith("| `") else line)
    return lines


def sizes(page: str) -> dict[str, list[int]]:
    """Lines of every room by area and name, and of its longest module and function; of areas the latter alone."""
    found, area = {}, ""
    for line in page.splitlines():
        cells = line.strip("| ").split(" | ")
        if line.startswith("### "):
            area = line
        elif line.startswith("| `"):
            found[f"{area}: {cells[0]}"] = [int(cells[place]) for place in (2, 5, 6)]
        elif cells[0] in SHOWN_WITHIN:
            found[cells[0]] = [int(cells[place]) for place in (2, 4)]
    return found


def test_rooms_and_arrows_on_the_page_are_those_of_the_code(page_of_today: str) -> None:
    assert END in PAGE.read_text() and without_sizes(PAGE.read_text()) == without_sizes(page_of_today), STALE


def test_sizes_on_the_page_are_those_of_the_code_to_a_tenth(page_of_today: str) -> None:
    shown, real = sizes(PAGE.read_text()), sizes(page_of_today)
    assert shown.keys() == real.keys() and len(shown) > 90, STALE
    assert not any(
        abs(now - before) > 200 + now / 10
        for room, lines in real.items()
        for now, before in zip(lines, shown[room], strict=True)
    ), STALE


@pytest.mark.parametrize("package", PACKAGES)
def test_no_rooms_import_each_other(package: str) -> None:
    floor = floor_of(package)
    assert len(floor.rooms) > 5 and any(floor.arrows.values())


def test_the_walks_enter_each_room_once() -> None:
    walks = re.findall(r"^\*\*.+?(?=\n\n)", PAGE.read_text(), re.S | re.M)
    assert len(walks) == 3
    for walk in walks:
        named = [name for name in re.findall(r"`([a-z_/]+)`", walk) if list(ROOT.glob(f"*/dualpix/*/{name}"))]
        assert len(named) > 5 and len(named) == len(set(named)), sorted(named)
        for name in re.findall(r"`([a-z_]+/[a-z_]+)`", walk):
            area, _, rest = name.partition("/")
            places = [f"*/dualpix/*/{name}", f"{area}/dualpix/{area}/{rest}"]
            assert any(list(ROOT.glob(f"{place}{end}")) for place in places for end in ("", ".py")), name


def test_the_longest_are_found() -> None:
    room = Room()
    for name, text in (("a", "def f():\n    return 1\n\n\ndef g():\n    x = 1\n    return x\n"), ("b", "x = 1\n")):
        room.add(name, text, ast.parse(text))
    assert (room.modules, room.lines, room.module, room.function) == (2, 8, Longest(7, "a"), Longest(3, "a.g"))


def test_a_circle_is_named() -> None:
    with pytest.raises(ValueError, match="each other: keep, take"):
        refuse_circles({"cli": {"look"}, "take": {"keep"}, "keep": {"take"}, "look": set()})


def test_arrows_that_follow_are_not_drawn() -> None:
    floor = Floor({name: Room() for name in "abc"}, {"a": {"b", "c"}, "b": {"c"}, "c": set()})
    assert "a --> b" in floor.figure() and "b --> c" in floor.figure() and "a --> c" not in floor.figure()
