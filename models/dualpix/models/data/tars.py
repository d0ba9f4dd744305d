"""Tars as training reads them: an index of their members, made once from headers alone, and members by their place.

Convention: as in WebDataset, a member's *key* is its name up to the first dot of its last part, the rest is its
*ending*; the members of a sample have one key and lie together. Only plain tars can be read from the middle. Nothing is
ever unpacked to disk and links lead nowhere, so a name is a name and no place.
"""

from __future__ import annotations

import tarfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.models.data.source import SampleError

_BLOCK = 512
_MOST_NAME_BYTES = 4096
_MOST_ENDINGS = 1024
_MOST_MEMBERS = 50_000_000
MOST_MEMBER_BYTES = 1 << 30
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_OF_OTHERS = (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK)
_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))


@dataclass(frozen=True)
class Member:
    """A file in a tar."""

    name: str
    offset: int
    """Of its first byte in the tar."""
    size: int


@dataclass(frozen=True)
class TarIndex:
    """The samples of some tars; a few dozen bytes for each member, so that it can go to every process."""

    paths: tuple[Path, ...]
    keys: tuple[str, ...]
    """Of each sample."""
    tar: npt.NDArray[np.int32]
    """(samples,) place in ``paths``."""
    first: npt.NDArray[np.int64]
    """(samples + 1,) place of the first member of each sample; the last is the number of all members."""
    endings: tuple[str, ...]
    ending: npt.NDArray[np.int16]
    """(members,) place in ``endings``."""
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    cut: tuple[str, ...] = ()
    """A line for each tar that ends too early."""

    def __len__(self) -> int:
        return len(self.keys)

    def members(self, sample: int) -> dict[str, Member]:
        """The members of a sample by their endings.

        Raises:
            SampleError: two of them have one ending.
        """
        places = range(int(self.first[sample]), int(self.first[sample + 1]))
        found: dict[str, Member] = {}
        for place in places:
            ending = self.endings[self.ending[place]]
            if ending in found:
                raise SampleError(f"{self.named(sample)} has two members '.{ending}'", expected="one of each ending")
            name = f"{self.keys[sample]}.{ending}"
            found[ending] = Member(name, int(self.offset[place]), int(self.size[place]))
        return found

    def named(self, sample: int) -> str:
        """How a message calls a sample."""
        return f"'{self.keys[sample]}' of '{self.path(sample)}'"

    def path(self, sample: int) -> Path:
        """The tar that a sample lies in."""
        return self.paths[int(self.tar[sample])]


def read_member(path: Path, member: Member) -> bytes:
    """The bytes of a member.

    Raises:
        SampleError: it cannot be read, is cut, or has more than 1 GiB.
    """
    if member.size > MOST_MEMBER_BYTES:
        raise SampleError(
            f"'{member.name}' of '{path}' has {member.size} bytes", expected=f"at most {MOST_MEMBER_BYTES >> 20} MiB"
        )
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            if member.offset + member.size <= length:
                file.seek(member.offset)
                return file.read(member.size)
    except OSError as error:
        raise SampleError(f"cannot read '{path}': {error.strerror or error}") from error
    raise SampleError(
        f"'{member.name}' is cut: '{path}' ends after {length} bytes",
        expected=f"{member.offset + member.size} of them",
        hint="copy the tar again",
    )


def index_tars(paths: Sequence[Path]) -> TarIndex:
    """Read the headers of tars.

    A tar that ends too early, or whose headers break off, is indexed up to there: :attr:`TarIndex.cut` says so.

    Raises:
        DualpixError: one cannot be read, is compressed or no tar at all, or they hold beyond what is reasonable.
    """
    keys: list[str] = []
    endings: dict[str, int] = {}
    tars, first, ending, offset, size = array("i"), array("q"), array("h"), array("q"), array("q")
    cut: list[str] = []
    for number, path in enumerate(paths):
        before: str | None = None
        for member in _members(path, cut):
            folder, _, name = member.name.rpartition("/")
            stem, _, end = name.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            if key != before:
                keys.append(key)
                tars.append(number)
                first.append(len(offset))
                before = key
            ending.append(endings.setdefault(end, len(endings)))
            offset.append(member.offset)
            size.append(member.size)
            if len(endings) > _MOST_ENDINGS or len(offset) > _MOST_MEMBERS:
                found = f"{len(endings)} kinds of members" if len(endings) > _MOST_ENDINGS else "too many members"
                raise DualpixError(
                    f"'{path}' has {found}", expected="samples of the same few endings, as 0001.left.png"
                )
    first.append(len(offset))
    return TarIndex(
        tuple(paths),
        tuple(keys),
        np.asarray(tars, np.int32),
        np.asarray(first, np.int64),
        tuple(endings),
        np.asarray(ending, np.int16),
        np.asarray(offset, np.int64),
        np.asarray(size, np.int64),
        tuple(cut),
    )


def _members(path: Path, cut: list[str]) -> Iterator[Member]:
    """The files of a tar; says in ``cut`` where it breaks off."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(0)
            _refuse_compressed(path, file.read(8))
            yield from _walked(path, file, length, cut)
    except OSError as error:
        raise DualpixError(f"cannot read '{path}': {error.strerror or error}", expected="a tar") from error


def _walked(path: Path, file: IO[bytes], length: int, cut: list[str]) -> Iterator[Member]:
    at, long_name = 0, ""
    while at + _BLOCK <= length:
        file.seek(at)
        block = file.read(_BLOCK)
        if not block.strip(b"\0"):  # two such blocks end a tar
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            if at == 0:
                raise DualpixError(f"'{path}' is no tar", expected="a plain tar, as 'dualpix render' writes") from error
            cut.append(f"'{path}' is damaged at byte {at}: what follows is not read; copy it again")
            return
        data, size = at + _BLOCK, header.size
        at = data + -(-size // _BLOCK) * _BLOCK
        if header.type in _LONG_NAMES:
            long_name = _long_name(path, file, header, long_name)
            continue
        if header.type in _FILES:
            yield Member(_checked_name(path, long_name or header.name), data, size)
        elif header.type not in _OF_OTHERS and header.type in tarfile.REGULAR_TYPES:
            raise DualpixError(f"'{path}' holds a sparse file, '{header.name}'", expected="a plain tar")
        if header.type not in _OF_OTHERS:
            long_name = ""
    if at > length:
        cut.append(f"'{path}' is cut: it ends after {length} bytes of {at}; copy it again")


def _long_name(path: Path, file: IO[bytes], header: tarfile.TarInfo, before: str) -> str:
    """The name that a header in front of another one gives it (GNU and pax tars), else the one known before."""
    if header.size > _MOST_NAME_BYTES:
        raise DualpixError(
            f"'{path}' has a name of {header.size} bytes", expected=f"at most {_MOST_NAME_BYTES}", hint="pack it anew"
        )
    data = file.read(header.size)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    while data:  # records "LENGTH name=value\n"
        digits = data.partition(b" ")[0]
        if not (digits.isdigit() and 0 < int(digits[:8]) <= len(data)):
            break
        name, _, value = data[len(digits) + 1 : int(digits)].rstrip(b"\n").partition(b"=")
        if name == b"size":
            raise DualpixError(f"'{path}' has a member of 8 GiB or more", expected="members of at most 1 GiB")
        before = value.decode("utf-8", "surrogateescape") if name == b"path" else before
        data = data[int(digits) :]
    return before


def _checked_name(path: Path, name: str) -> str:
    """``name`` without a leading ``./``, if it is one that WebDataset can have."""
    plain = name.removeprefix("./")
    if not plain or len(plain) > _MOST_NAME_BYTES or not plain.isprintable() or ".." in plain.split("/"):
        raise DualpixError(f"'{path}' has a member called {name[:80]!a}", expected="names as 000001.left.png")
    return plain


def _refuse_compressed(path: Path, head: bytes) -> None:
    for magic, kind in _COMPRESSED:
        if head.startswith(magic):
            raise DualpixError(
                f"'{path}' is compressed ({kind}): its members cannot be read from the middle",
                expected="a plain tar",
                hint="unpack it once; the pictures in it are compressed already",
            )
