"""Pictures and raws that people hold and that are not read here: what they are, and what to do about it.

Many raws are TIFF files whose first directory is a thumbnail: read as a picture, they would give that, and no word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.raw.containers.tiff import Ifd

_READ = "DNG, CR2, CR3, JPEG, PNG or TIFF"
_AS_DNG = "convert it to DNG (Adobe DNG Converter, dnglab), or export 16-bit TIFF"
_AS_JPEG = "convert it to JPEG or PNG, or let the camera save JPEG"
_RAWS = {
    ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".rwl", ".pef", ".srw", ".3fr", ".fff", ".iiq",
    ".x3f", ".erf", ".kdc", ".dcr", ".mos", ".mef", ".mrw",
}  # fmt: skip
_PICTURES = {".heic": "HEIC", ".heif": "HEIC", ".hif": "HEIC", ".avif": "AVIF", ".webp": "WebP", ".jxl": "JPEG XL"}
_HEADS = (
    (b"FUJIFILMCCD-RAW", "RAF"), (b"IIRO", "ORF"), (b"IIRS", "ORF"), (b"MMOR", "ORF"), (b"IIU\0", "RW2"),
    (b"FOVb", "X3F"), (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"GIF8", "GIF"), (b"BM", "BMP"),
)  # fmt: skip
_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC", b"heim": "HEIC", b"heis": "HEIC",
           b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF"}  # fmt: skip
_SUBFILE_TYPE, _SUB_IFDS, _REDUCED = 0x00FE, 0x014A, 1


def foreign_kind(name: str, head: bytes) -> str | None:
    """What a file is that is not read here, by its first bytes, else by its name; None where it may be."""
    if head[4:8] == b"ftyp":
        return None if head[8:11] == b"crx" else _BRANDS.get(head[8:12], "a video")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    suffix = Path(name).suffix.lower()
    found = next((kind for start, kind in _HEADS if head.startswith(start)), None)
    return found or (suffix[1:].upper() if suffix in _RAWS else None)


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raises DecodeError where a file is of a kind that is not read here."""
    kind = foreign_kind(path.name, head)
    if kind is not None:
        raise DecodeError(f"'{path.name}' is {kind}, which is not read here", expected=_READ, hint=_hint(kind))


def refuse_thumbnail(path: Path, first: Ifd) -> None:
    """Raises DecodeError where the first directory of a TIFF is the thumbnail of a raw that is not read here."""
    if first.integer(_SUBFILE_TYPE) & _REDUCED and first.tags.get(_SUB_IFDS):
        raise DecodeError(
            f"'{path.name}' is a raw of a kind that is not read here: its first picture is a thumbnail",
            expected=_READ,
            hint=_AS_DNG,
        )


def foreign_among(files: Sequence[Path]) -> list[tuple[Path, str]]:
    """Files that by their names are pictures or raws of kinds that are not read here, with these kinds."""
    kinds = {**_PICTURES, **{suffix: suffix[1:].upper() for suffix in _RAWS}}
    return [(path, kinds[path.suffix.lower()]) for path in files if path.suffix.lower() in kinds]


def only_foreign(folder: Path, found: Sequence[tuple[Path, str]]) -> DualpixError:
    """The error of a folder that holds nothing else."""
    kind, count = Counter(kind for _, kind in found).most_common(1)[0]
    return DualpixError(
        f"the frames in '{folder}' are {kind} ({count} files), which is not read here", expected=_READ, hint=_hint(kind)
    )


def _hint(kind: str) -> str:
    return _AS_DNG if f".{kind.lower()}" in _RAWS else _AS_JPEG
