"""One error family for everything a user can get wrong.

A message says what was found, what was expected and what to do; the command line prints it as one line and exits with
code 2 (``--debug`` shows the traceback). Bugs of ours stay ordinary exceptions.
"""

from __future__ import annotations

_MOST_FOUND, _MOST_START, _MOST_END = 360, 240, 80


class DualpixError(Exception):
    """A user-facing failure: bad file, bad argument, missing data."""

    def __init__(self, found: str, *, expected: str = "", hint: str = "") -> None:
        self.found, self.expected, self.hint = found, expected, hint
        parts = [_shortened(_one_line(found))]
        if expected:
            parts.append(f"expected {expected}")
        if hint:
            parts.append(hint)
        super().__init__("; ".join(_one_line(p) for p in parts))


def _one_line(text: str) -> str:
    """Without line breaks and control characters: names and texts come from files, and end on a terminal."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())


def _shortened(text: str) -> str:
    """The two ends of what came out of a file and has no end."""
    return text if len(text) <= _MOST_FOUND else f"{text[:_MOST_START]} ... {text[-_MOST_END:]}"


class DecodeError(DualpixError):
    """The input is not a dual-pixel capture that can be decoded."""


class OutputError(DualpixError):
    """The output cannot be written."""


class UnknownNameError(DualpixError):
    """A name that is looked up in a registry (network, recipe, camera) is not in it."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        super().__init__(f"unknown {kind} '{name}'", expected="one of: " + ", ".join(sorted(known)))
