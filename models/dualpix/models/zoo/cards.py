"""Names and cards of the models, read without importing torch: a command answers a wrong name or size at once."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.capture.files import read_bounded
from dualpix.models.named import check_findable, function_name, is_named
from dualpix.models.networks import NetworkSpec, network_spec

ZOO = Path(__file__).parent
DEFAULT_MODEL = "fmdp-compact"
DEFAULT_STACK_MODEL = "fossa-compact"
"""Of focus stacks, where it is shipped."""
CARD = "card.json"
STACK_TASK = "focus_stack"
"""Name of the task in :mod:`dualpix.models.tasks.focus_stack`, which needs torch."""
_MOST_JSON_BYTES = 1 << 20


def split_factory(text: str) -> tuple[str, str]:
    """``package.module:factory`` and ``FOLDER`` of ``package.module:factory@FOLDER``; each may be empty."""
    if Path(text).exists():
        return "", text
    head, _, place = text.partition("@")
    return (head, place) if is_named(head) else ("", text)


def known_models() -> list[str]:
    """Names of the shipped models."""
    return sorted(p.parent.name for p in ZOO.glob(f"*/{CARD}"))


@dataclass(frozen=True)
class FoundModel:
    """What a model's name says of it, before its weights are read."""

    name: str
    network: str
    spec: NetworkSpec
    folder: Path | None
    """None of a network as the user's function gives it."""
    card: dict[str, Any]


def model_folder(name_or_folder: str | Path) -> Path | None:
    """The folder of a shipped model, or of one of the user's own; none of ``package.module:factory`` alone.

    Raises:
        DualpixError: a function whose package Python does not find.
        UnknownNameError: neither a shipped name nor a folder with a ``card.json``; lists the known names.
    """
    factory, place = split_factory(str(name_or_folder))
    if factory:
        check_findable(factory)
        if not place:
            return None
    folder = ZOO / place if place in known_models() else Path(place)
    if not (folder / CARD).is_file():
        raise UnknownNameError("model", place, known_models())
    return folder


def find_model(name_or_folder: str | Path) -> FoundModel:
    """A model by name, folder, ``package.module:factory`` or ``package.module:factory@FOLDER``.

    A card may come from anybody: it never has code run that the user has not named.

    Raises:
        UnknownNameError: as :func:`model_folder`, or the card names a network that there is not.
        DualpixError: the card is damaged, or names a function that is not given beside it.
    """
    factory, _ = split_factory(str(name_or_folder))
    folder = model_folder(name_or_folder)
    if folder is None:
        return FoundModel(function_name(factory), factory, network_spec(factory), None, {"network": factory})
    card = read_object(folder / CARD)
    network, name = str(card.get("network")), folder.resolve().name
    if factory and factory != network:
        raise DualpixError(f"'{name}' holds weights of '{network[:80]}'", expected=f"those of '{factory}'")
    if is_named(network) and not factory:
        raise DualpixError(
            f"'{name}' holds weights of a network of your own, '{network[:80]}'",
            hint=f"name the code that you trust: {network[:80]}@{folder}",
        )
    return FoundModel(name, network, network_spec(network, card.get("options")), folder, card)


def check_size(name_or_folder: str | Path, size_hw: tuple[int, int]) -> None:
    """Whether a model takes pictures of ``size_hw`` (height, width) px, and is one as far as its card tells.

    Raises:
        DualpixError: it does not.
    """
    found = find_model(name_or_folder)
    multiple = found.spec.size_multiple
    if size_hw[0] % multiple or size_hw[1] % multiple:
        expected = f"multiples of {multiple} px for '{found.name}'"
        raise DualpixError(f"size {size_hw[0]}x{size_hw[1]}", expected=expected)


def check_takes_stacks(name_or_folder: str | Path, option: str) -> None:
    """Whether a model is a network of focus stacks, as far as its card tells.

    Args:
        name_or_folder: as :func:`find_model`.
        option: that was given for it.

    Raises:
        DualpixError: it is for something else.
    """
    found = find_model(name_or_folder)
    if found.spec.task != STACK_TASK:
        raise DualpixError(
            f"{option} was given for '{found.name}', which takes no focus stacks", expected="a network that does"
        )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size whose numbers are finite.

    Raises:
        DualpixError: it is something else.
    """
    data = read_bounded(path, _MOST_JSON_BYTES, f"'{path}'", expected="a JSON object")
    try:
        value = json.loads(data, parse_constant=_refuse_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise DualpixError(f"'{path}' does not read: {error}", expected="a JSON object") from error
    if not isinstance(value, dict):
        raise DualpixError(f"'{path}' holds a {type(value).__name__}", expected="a JSON object")
    return value


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text[:20])
