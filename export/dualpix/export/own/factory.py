"""A user's own function that gives a module with inputs it runs on: ``dualpix export package.module:function``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.export.bound import Example
from dualpix.export.own.called import Called, called
from dualpix.models.named import call_named, function_name

FORM = (
    "(module, inputs) or (module, list of inputs), inputs being a tensor, a tuple or a dictionary; a third item, a "
    "dictionary, may say more"
)
FACTS = ("input_names", "output_names", "unit", "licence", "weights_origin")
"""What the third item, a dictionary, may say."""


@dataclass(frozen=True)
class Foreign:
    """A module with inputs it runs on, as a user's factory gave them."""

    name: str
    module: nn.Module
    inputs: tuple[Example, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Keys out of :data:`FACTS`."""

    def called(self) -> Called:
        """The module, run once; see :func:`~dualpix.export.own.called.called`."""
        return called(
            self.module,
            self.inputs[0],
            name=self.name,
            input_names=self.facts.get("input_names", ()),
            output_names=self.facts.get("output_names", ()),
            units=self.facts.get("unit", ""),
        )


def load_factory(text: str) -> Foreign:
    """Import ``package.module`` (the working folder comes first), call ``function()`` and check what it gives.

    Args:
        text: ``package.module:function``; the function gives (module, inputs) or (module, list of inputs), inputs being
            what forward is called with: a tensor, a tuple of arguments, or a dictionary of arguments by name. A third
            item, a dictionary with keys out of :data:`FACTS`, says more.

    Raises:
        DualpixError: it cannot be imported or called, or gives something else.
    """
    made = call_named(text)
    if not isinstance(made, tuple | list) or len(made) not in (2, 3) or not isinstance(made[0], nn.Module):
        raise DualpixError(f"{text}() gives {kind_of(made)}", expected=FORM)
    examples = examples_of(made[1], text, FORM)
    return Foreign(function_name(text), made[0], examples, _facts(made[2] if len(made) == 3 else {}, text))


def examples_of(made: Any, text: str, expected: str) -> tuple[Example, ...]:
    """One example, or a list of them.

    Raises:
        DualpixError: something else, or none.
    """
    samples = made if isinstance(made, list) else [made]
    for sample in samples:
        if not isinstance(sample, Tensor | tuple | Mapping) or (not isinstance(sample, Tensor) and not sample):
            raise DualpixError(f"{text}() gives {kind_of(sample)} as inputs", expected=expected)
    if not samples:
        raise DualpixError(f"{text}() gives no inputs", expected=expected)
    return tuple(samples)


def _facts(facts: Any, text: str) -> dict[str, Any]:
    if not isinstance(facts, Mapping) or (unknown := [key for key in facts if key not in FACTS]):
        found = f"'{unknown[0]}'" if isinstance(facts, Mapping) else kind_of(facts)
        raise DualpixError(f"{text}() gives {found} as its third item", expected=f"a dictionary of {', '.join(FACTS)}")
    for key, value in facts.items():
        names = key.endswith("_names") and isinstance(value, Sequence) and not isinstance(value, str)
        by_name = key == "unit" and isinstance(value, Mapping) and all(isinstance(v, str) for v in value.values())
        text_of = not key.endswith("_names") and isinstance(value, str)
        if not (names or by_name or text_of):
            expected = "a list of names" if key.endswith("_names") else "a text"
            raise DualpixError(f"{text}() gives {kind_of(value)} as '{key}'", expected=expected)
    return dict(facts)


def kind_of(value: Any) -> str:
    """A value's type in words, and what it is made of."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of ({', '.join(type(v).__name__ for v in value)})"
    return f"a {type(value).__name__}"
