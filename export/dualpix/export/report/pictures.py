"""The pictures that an export's ``pictures.json`` lists, each looked at before it is read."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_json
from dualpix.export.flow.record import PICTURES
from dualpix.export.report.page import data_uri

_MAX_PICTURE_BYTES = 16 << 20
_MAX_LISTING_BYTES = 1 << 20


def pictures_of(folder: Path) -> list[tuple[Markup, str]]:
    """(data URI, caption) of each picture that ``pictures.json`` in ``folder`` lists.

    Raises:
        DualpixError: an entry that is no PNG inside the folder, or too large.
    """
    listing = folder / PICTURES
    if not listing.is_file():
        return []
    data = read_json(listing, _MAX_LISTING_BYTES, expected="a list of pictures", otherwise="cannot be read")
    try:
        entries = [(str(e["file"]), str(e["caption"])) for e in data]
    except (KeyError, TypeError) as error:
        raise DualpixError(f"'{listing}' cannot be read", expected='[{"file": ..., "caption": ...}, ...]') from error
    return [(_picture(folder, name), caption) for name, caption in entries]


def _picture(folder: Path, name: str) -> Markup:
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        inside = False
    if not inside or path.suffix != ".png":
        raise DualpixError(f"'{PICTURES}' names '{name[:80]}'", expected="a PNG file inside the folder")
    if path.stat().st_size > _MAX_PICTURE_BYTES:
        raise DualpixError(f"'{name}' has {path.stat().st_size} bytes", expected=f"at most {_MAX_PICTURE_BYTES}")
    return data_uri("image/png", path.read_bytes())
