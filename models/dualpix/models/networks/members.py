"""What a card says of an ensemble's members; without torch, as all that cards are asked before a network is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ENSEMBLE = "ensemble"
"""Name of the network."""
MEMBERS = "members"
MOST_MEMBERS = 16


@dataclass(frozen=True)
class Member:
    """A network of an ensemble, as a card's options tell it."""

    network: str
    options: dict[str, Any]


def members_of(options: Mapping[str, Any]) -> tuple[Member, ...]:
    """Members that options of an ensemble name.

    Raises:
        ValueError: they name none, too many, or something else.
    """
    given = options.get(MEMBERS)
    if set(options) != {MEMBERS} or not isinstance(given, list | tuple) or not 2 <= len(given) <= MOST_MEMBERS:
        raise ValueError(f"expected '{MEMBERS}' alone, 2 to {MOST_MEMBERS} of them")
    return tuple(_member(value) for value in given)


def _member(value: object) -> Member:
    if not isinstance(value, Mapping) or set(value) != {"network", "options"}:
        raise ValueError(f"member {value!r:.60}, expected an object of 'network' and 'options'")
    network, options = value["network"], value["options"]
    if not isinstance(network, str) or not isinstance(options, Mapping):
        raise ValueError(f"member {value!r:.60}, expected a name and an object")
    return Member(network, dict(options))
