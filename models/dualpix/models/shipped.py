"""Names of the shipped models, known without importing torch: a command answers a wrong name at once."""

from __future__ import annotations

from pathlib import Path

from dualpix.capture.errors import UnknownNameError
from dualpix.models.named import check_findable, is_named

ZOO = Path(__file__).parent / "zoo"
DEFAULT_MODEL = "difusenet-compact"
CARD = "card.json"


def split_factory(text: str) -> tuple[str, str]:
    """``package.module:factory`` and ``FOLDER`` of ``package.module:factory@FOLDER``; each may be empty."""
    if Path(text).exists():
        return "", text
    head, _, place = text.partition("@")
    return (head, place) if is_named(head) else ("", text)


def known_models() -> list[str]:
    """Names of the shipped models."""
    return sorted(p.parent.name for p in ZOO.glob(f"*/{CARD}"))


def model_folder(name_or_folder: str | Path) -> Path:
    """The folder of a shipped model, or of one of the user's own; none of ``package.module:factory`` alone.

    Raises:
        DualpixError: a function whose package Python does not find.
        UnknownNameError: neither a shipped name nor a folder with a ``card.json``; lists the known names.
    """
    factory, place = split_factory(str(name_or_folder))
    if factory:
        check_findable(factory)
        if not place:
            return Path()
        name_or_folder = place
    folder = ZOO / name_or_folder if str(name_or_folder) in known_models() else Path(name_or_folder)
    if not (folder / CARD).is_file():
        raise UnknownNameError("model", str(name_or_folder), known_models())
    return folder
