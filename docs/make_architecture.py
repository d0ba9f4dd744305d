"""Rooms and arrows in docs/architecture.md, from the imports of the code: ``python -m docs.make_architecture``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("architecture.md")
BEGIN, END = "<!-- rooms: begin, made by docs/make_architecture.py -->", "<!-- rooms: end -->"
HOUSE = "dualpix.capture"
GROUND = "ground"
SHOWN_WITHIN = ("raw", "stack", "cameras", "rig")
_FORWARD = '"""Moved to '
Arrows = dict[str, set[str]]


@dataclass
class Room:
    """Modules of one folder, or those that lie loose in a package."""

    modules: int = 0
    lines: int = 0


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
        """A row for each room: modules, lines to the nearest hundred, rooms that import it, rooms that it imports."""
        found = []
        for name in sorted(self.rooms, key=lambda room: (self._height(room), room), reverse=True):
            room = self.rooms[name]
            fan_in = sum(name in many for many in self.arrows.values())
            cells = (f"`{prefix}{name}`", room.modules, round(room.lines, -2), fan_in, len(self.arrows[name]))
            found.append(f"| {' | '.join(map(str, cells))} |")
        return found

    def _height(self, room: str) -> int:
        return 1 + max((self._height(below) for below in self.arrows[room]), default=0)

    def _implied(self, start: str, end: str) -> bool:
        return any(self._reaches(between, end) for between in self.arrows[start] - {end})

    def _reaches(self, start: str, end: str) -> bool:
        return end in self.arrows[start] or any(self._reaches(below, end) for below in self.arrows[start])


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
        room = _room(package, module, path)
        kept = rooms.setdefault(room, Room())
        kept.modules, kept.lines = kept.modules + 1, kept.lines + text.count("\n")
        arrows.setdefault(room, set())
        for name in _imported(ast.parse(text)):
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
        if parts or package != HOUSE:
            yield ".".join((package, *parts)), path


def _room(package: str, module: str, path: Path) -> str:
    """A folder; of loose modules, the command and the entry stand for themselves, the others are the ground."""
    first, _, deeper = module.removeprefix(package).lstrip(".").partition(".")
    if deeper or path.name == "__init__.py":
        return first or GROUND
    if package != HOUSE or first == "cli":
        return first
    return GROUND


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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


def architecture_markdown() -> str:
    """The figures and the table."""
    house = floor_of(HOUSE)
    parts = ["Of `capture`:", house.figure()]
    rows = house.rows()
    for name in SHOWN_WITHIN:
        inner = floor_of(f"{HOUSE}.{name}")
        inner.rooms.pop(GROUND, None)
        inner.arrows.pop(GROUND, None)
        parts += [f"Within `{name}/`:", inner.figure()]
        at = next(i for i, row in enumerate(rows) if row.startswith(f"| `{name}` "))
        rows[at + 1 : at + 1] = inner.rows(f"{name}/")
    head = ["| room | modules | lines | imported by | imports |", "|---|---|---|---|---|"]
    return "\n\n".join([*parts, "\n".join([*head, *rows])])


def with_rooms(page: str) -> str:
    """The page with figures and table between its markers."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{architecture_markdown()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_rooms(PAGE.read_text()))
