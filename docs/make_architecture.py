"""Rooms and arrows in docs/architecture.md, from the imports of the code: ``python -m docs.make_architecture``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("architecture.md")
BEGIN, END = "<!-- rooms: begin, made by docs/make_architecture.py -->", "<!-- rooms: end -->"
SHOWN_WITHIN = {
    "capture": ("raw", "stack", "cameras", "rig"),
    "models": ("train", "predict", "stacks"),
    "quantize": ("search",),
    "export": ("flow",),
}
"""Areas, lowest first, and the rooms of each that are shown from within."""
GROUND = "ground"
_OWN_BOX = {"capture": ("cli",), "models": ("shot",), "export": ("module",)}
"""Loose modules that are no ground: what users call. In quantize each stands for itself."""
_FORWARD = '"""Moved to '
Arrows = dict[str, set[str]]


class Longest(NamedTuple):
    """A module or function, and its lines."""

    lines: int = 0
    name: str = ""


_NONE = Longest()


@dataclass
class Room:
    """Modules of one folder, or those that lie loose in a package."""

    modules: int = 0
    lines: int = 0
    module: Longest = _NONE
    function: Longest = _NONE

    def add(self, module: str, text: str, tree: ast.Module) -> None:
        """Counts a module in."""
        lines = text.count("\n")
        self.modules, self.lines = self.modules + 1, self.lines + lines
        self.module = max(self.module, Longest(lines, module))
        self.function = max([self.function, *(Longest(n, f"{module}.{f}") for f, n in _functions(tree))])


@dataclass(frozen=True)
class Floor:
    """The rooms of one package, and which imports which."""

    rooms: dict[str, Room]
    arrows: Arrows

    def figure(self) -> str:
        """Mermaid; arrows that follow from others are left out."""
        direct = sorted((a, b) for a, many in self.arrows.items() for b in many if not self._implied(a, b))
        return "\n".join(["```mermaid", "flowchart TD", *(f"    {a} --> {b}" for a, b in direct), "```"])

    def rows(self, prefix: str = "") -> list[str]:
        """A row for each room: modules, lines to the nearest hundred, who imports it, whom it imports, its longest."""
        found = []
        for name in sorted(self.rooms, key=lambda room: (self._height(room), room), reverse=True):
            room = self.rooms[name]
            fan_in = sum(name in many for many in self.arrows.values())
            longest = (round(room.module.lines, -1), round(room.function.lines, -1))
            cells = (f"`{prefix}{name}`", room.modules, _about(room.lines), fan_in, len(self.arrows[name]), *longest)
            found.append(f"| {' | '.join(map(str, cells))} |")
        return found

    def without(self, room: str) -> Floor:
        """The same without a room that nothing imports."""
        kept = {name: found for name, found in self.rooms.items() if name != room}
        return Floor(kept, {name: self.arrows[name] - {room} for name in kept})

    def _height(self, room: str) -> int:
        return 1 + max((self._height(below) for below in self.arrows[room]), default=0)

    def _implied(self, start: str, end: str) -> bool:
        return any(self._reaches(between, end) for between in self.arrows[start] - {end})

    def _reaches(self, start: str, end: str) -> bool:
        return end in self.arrows[start] or any(self._reaches(below, end) for below in self.arrows[start])


def _about(lines: int) -> int:
    return round(lines, -2 if lines > 99 else -1)


@cache
def floor_of(package: str) -> Floor:
    """The rooms of ``package``.

    Raises:
        ValueError: rooms that import each other in a circle, which are named.
    """
    modules = dict(_modules(package))
    rooms: dict[str, Room] = {}
    arrows: Arrows = {}
    for module, path in modules.items():
        text = path.read_text(encoding="utf-8")
        if text.startswith(_FORWARD):
            continue
        room, tree = _room(package, module, path), ast.parse(text)
        rooms.setdefault(room, Room()).add(module, text, tree)
        arrows.setdefault(room, set())
        for name in _imported(tree):
            target = name if name in modules else name.rpartition(".")[0]
            if target in modules and target != package:
                arrows[room].add(_room(package, target, modules[target]))
    for room in arrows:
        arrows[room].discard(room)
    refuse_circles(arrows)
    return Floor(rooms, arrows)


def _modules(package: str) -> Iterator[tuple[str, Path]]:
    folder = ROOT / package.split(".")[1] / package.replace(".", "/")
    for path in sorted(folder.rglob("*.py")):
        parts = [p for p in path.relative_to(folder).with_suffix("").parts if p != "__init__"]
        if parts or package.count(".") > 1:
            yield ".".join((package, *parts)), path


def _room(package: str, module: str, path: Path) -> str:
    """A folder; of an area's loose modules, what users call stands for itself, the others are the ground."""
    first, _, deeper = module.removeprefix(package).lstrip(".").partition(".")
    if deeper or path.name == "__init__.py":
        return first or GROUND
    area = package.removeprefix("dualpix.")
    if area in _OWN_BOX and first not in _OWN_BOX[area]:
        return GROUND
    return first


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Name and lines of every function, without its decorators."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def refuse_circles(arrows: Arrows) -> None:
    """Raises ValueError, which names the rooms that import each other."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        ahead = set(arrows[start])
        while ahead:
            found.add(room := ahead.pop())
            ahead |= arrows[room] - found
        return found

    left = [room for room in arrows if room in reached(room)]
    if left:
        raise ValueError(f"rooms that import each other: {', '.join(sorted(left))}")


def area_markdown(area: str) -> str:
    """The figures and the table of an area."""
    house = floor_of(f"dualpix.{area}")
    parts = [f"### `{area}`", house.figure()]
    rows = house.rows()
    for name in SHOWN_WITHIN[area]:
        inner = floor_of(f"dualpix.{area}.{name}").without(GROUND)
        parts += [f"Within `{name}/`:", inner.figure()]
        at = next(i for i, row in enumerate(rows) if row.startswith(f"| `{name}` "))
        rows[at + 1 : at + 1] = inner.rows(f"{name}/")
    head = [
        "| room | modules | lines | imported by | imports | longest module | longest function |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n\n".join([*parts, "\n".join([*head, *rows])])


def longest_markdown() -> str:
    """The longest module and the longest function of each area, with their lines."""
    rows = ["| area | longest module | lines | longest function | lines |", "|---|---|---|---|---|"]
    for area in SHOWN_WITHIN:
        rooms = floor_of(f"dualpix.{area}").rooms.values()
        module, function = max(room.module for room in rooms), max(room.function for room in rooms)
        names = (found.name.removeprefix(f"dualpix.{area}.") for found in (module, function))
        where = [f"`{name}` | {found.lines}" for name, found in zip(names, (module, function), strict=True)]
        rows.append(f"| {area} | {' | '.join(where)} |")
    return "\n".join(["### The longest", "", *rows])


def architecture_markdown() -> str:
    """The figures and the tables."""
    return "\n\n".join([*map(area_markdown, SHOWN_WITHIN), longest_markdown()])


def with_rooms(page: str) -> str:
    """The page with figures and tables between its markers."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{architecture_markdown()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_rooms(PAGE.read_text()))
