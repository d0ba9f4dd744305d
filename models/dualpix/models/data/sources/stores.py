"""Where the members of rendered samples are: folders, or tars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dualpix.capture.files import sha256_of_file
from dualpix.models.data.source import SampleError
from dualpix.models.data.sources.kind import digest_of
from dualpix.models.data.tars import TarIndex, read_member

ABOUT = "json"
"""Ending of what a sample says of itself."""
SAMPLE_FILE = "sample.json"
"""Its name in a folder."""
EXPECTED = "what 'dualpix render' writes"
_MANIFEST = "manifest.json"
_MOST_FILE_BYTES = 1 << 30


class Store(Protocol):
    """Where the members of samples are."""

    def __len__(self) -> int:
        """Number of samples."""

    def named(self, sample: int) -> str:
        """How a message calls a sample."""

    def endings(self, sample: int) -> frozenset[str]:
        """Of its members: ``left.png``, ``json``."""

    def read(self, sample: int, ending: str) -> bytes:
        """A member. Raises SampleError."""

    def digest(self) -> str:
        """Changes with the files."""


@dataclass(frozen=True)
class FolderStore:
    """A folder for each sample."""

    root: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def named(self, sample: int) -> str:
        """Its folder."""
        return f"'{self.root / self.names[sample]}'"

    def endings(self, sample: int) -> frozenset[str]:
        """Of the files in its folder."""
        try:
            names = [path.name for path in (self.root / self.names[sample]).iterdir()]
        except OSError as error:
            raise SampleError(f"cannot read {self.named(sample)}: {error.strerror or error}") from error
        return frozenset(ABOUT if name == SAMPLE_FILE else name for name in names)

    def read(self, sample: int, ending: str) -> bytes:
        """A file of its folder."""
        path = self.root / self.names[sample] / (SAMPLE_FILE if ending == ABOUT else ending)
        try:
            size = path.stat().st_size
            if size > _MOST_FILE_BYTES:
                raise SampleError(f"'{path}' has {size} bytes", expected=f"at most {_MOST_FILE_BYTES >> 20} MiB")
            return path.read_bytes()
        except OSError as error:
            raise SampleError(f"cannot read '{path}': {error.strerror or error}") from error

    def digest(self) -> str:
        """Of the manifest, which has the digests of all files, where there is one."""
        manifest = self.root / _MANIFEST
        whole = sha256_of_file(manifest) if manifest.is_file() else None
        return digest_of({"samples": self.names, "manifest": whole})


@dataclass(frozen=True)
class TarStore:
    """Shards; their index goes to every process, the tars are opened where a member is read."""

    index: TarIndex

    def __len__(self) -> int:
        return len(self.index)

    def named(self, sample: int) -> str:
        """Key and tar."""
        return self.index.named(sample)

    def endings(self, sample: int) -> frozenset[str]:
        """Of its members."""
        return frozenset(self.index.members(sample))

    def read(self, sample: int, ending: str) -> bytes:
        """A member."""
        members = self.index.members(sample)
        if ending not in members:
            raise SampleError(f"{self.named(sample)} has no '.{ending}'", expected=EXPECTED)
        return read_member(self.index.path(sample), members[ending])

    def digest(self) -> str:
        """Of all names and sizes."""
        index = self.index
        sizes = [digest_of({"bytes": values.tolist()}) for values in (index.size, index.ending, index.first)]
        return digest_of({"keys": index.keys, "endings": index.endings, "sizes": sizes})
