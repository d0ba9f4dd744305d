"""Names and cards of the models, read without importing torch: a command answers a wrong name or size at once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.capture.files import read_bounded
from dualpix.models.networks import NetworkSpec, network_spec

ZOO = Path(__file__).parent / "zoo"
DEFAULT_MODEL = "difusenet-compact"
CARD = "card.json"
_MOST_JSON_BYTES = 1 << 20


def known_models() -> list[str]:
    """Names of the shipped models."""
    return sorted(p.parent.name for p in ZOO.glob(f"*/{CARD}"))


def model_folder(name_or_folder: str | Path) -> Path:
    """The folder of a shipped model, or of one of the user's own.

    Raises:
        UnknownNameError: neither a shipped name nor a folder with a ``card.json``; lists the known names.
    """
    folder = ZOO / name_or_folder if str(name_or_folder) in known_models() else Path(name_or_folder)
    if not (folder / CARD).is_file():
        raise UnknownNameError("model", str(name_or_folder), known_models())
    return folder


def read_card(folder: Path) -> dict[str, Any]:
    """The ``card.json`` of a model.

    Raises:
        DualpixError: it is damaged.
    """
    return read_object(folder / CARD)


def spec_of(card: dict[str, Any]) -> NetworkSpec:
    """What the network that a card names takes and gives.

    Raises:
        UnknownNameError: it names none that there is.
    """
    return network_spec(str(card.get("network")))


def check_size(name_or_folder: str | Path, size_hw: tuple[int, int]) -> None:
    """Whether a model takes pictures of ``size_hw`` (height, width) px, and is one as far as its card tells.

    Raises:
        DualpixError: it does not.
    """
    folder = model_folder(name_or_folder)
    multiple = spec_of(read_card(folder)).size_multiple
    if size_hw[0] % multiple or size_hw[1] % multiple:
        expected = f"multiples of {multiple} px for '{folder.resolve().name}'"
        raise DualpixError(f"size {size_hw[0]}x{size_hw[1]}", expected=expected)


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
