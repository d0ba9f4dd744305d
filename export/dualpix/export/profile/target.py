"""Where a file can be profiled, and what a profiler of a place has to offer.

A place is a name with an optional address: ``host``, ``adb:SERIAL``, ``apple``. Its module is imported when it is asked
for, so that the host needs nothing of the phone's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.export.errors import ProfileError
from dualpix.export.manifest import MANIFEST, verify_manifest
from dualpix.export.profile.result import Profile

OnStep = Callable[[int, int, str], None]
"""Told (done, total, what) before each piece of work."""

PROGRAM = ".pte"

PROFILERS: dict[str, str] = {
    "host": "dualpix.export.profile.host:profile_on_host",
    "adb": "dualpix.export.android.bench:profile_on_device",
    "apple": "dualpix.export.profile.apple:profile_on_apple",
}
_ADDRESSED = {"adb": "SERIAL"}


@dataclass(frozen=True)
class ProfileRequest:
    """What to measure; a place that cannot do a part of it says so or leaves the field out of its profiles."""

    files: tuple[Path, ...]
    """Several are run in turn (A B A B), and each profile has the ratios to the others."""
    threads: tuple[int, ...] = (1,)
    warmup: int = 3
    runs: int = 30
    operators: bool = False
    eager: str | None = None
    """Shipped model's name or folder: its float network becomes one more candidate, on the host alone."""
    inputs: Path | None = None
    """safetensors file, tensors in the order of their names; random values where there is none."""


def files_at(path: Path, suffix: str) -> list[Path]:
    """The file itself, or those of an export that a target can run, whose digests are checked.

    Raises:
        DualpixError: a folder that is no export, is damaged, or holds no such file.
    """
    if not path.is_dir() or path.suffix == suffix:
        return [path]
    if path.suffix == ".aimodel":
        raise ProfileError(
            f"'{path.name}' is a Core AI asset, whose time on this CPU says nothing of a phone",
            expected=f"a {suffix} file",
            hint="how it compares with PyTorch here is in gate.json of its export",
        )
    if not (path / MANIFEST).is_file():
        raise ProfileError(
            f"'{path}' is a folder without {MANIFEST}", expected="a file, or a folder of 'dualpix export'"
        )
    names = [str(entry["file"]) for entry in verify_manifest(path)["artefacts"]]
    found = [path / name for name in names if name.endswith(suffix)]
    if not found:
        raise ProfileError(f"'{path}' holds no {suffix} file", hint="export with another --recipe")
    return found


class Profiler(Protocol):
    """A place's entry point, as named in :data:`PROFILERS`."""

    def __call__(self, request: ProfileRequest, address: str, on_step: OnStep) -> tuple[Profile, ...]:
        """Profiles of every file with every thread count, files in order within a thread count.

        Raises:
            DualpixError: a file cannot be run there, or the place cannot be reached.
        """
        ...


class Target(Protocol):
    """A connected device between runs: what :class:`Profiler` of a device is built from."""

    def prepare(self, files: Sequence[Path]) -> None:
        """Put the files where the device can run them; remove what is left of earlier runs."""
        ...

    def run(self, request: ProfileRequest, on_step: OnStep) -> tuple[Profile, ...]:
        """Measure what :meth:`prepare` put there."""
        ...

    def close(self) -> None:
        """Remove the files and let the device go; also after an error."""
        ...


def check_place(place: str) -> tuple[str, str]:
    """Name and address of ``host``, ``adb:SERIAL`` or ``apple``; nothing is imported.

    Raises:
        UnknownNameError: no such place.
        DualpixError: the address is missing or there must be none.
    """
    name, colon, address = place.partition(":")
    if name not in PROFILERS:
        raise UnknownNameError(
            "profiling target", name, [n + (f":{a}" if (a := _ADDRESSED.get(n)) else "") for n in PROFILERS]
        )
    if bool(address) != (name in _ADDRESSED) or (colon and not address):
        expected = f"{name}:{_ADDRESSED[name]}" if name in _ADDRESSED else name
        raise DualpixError(f"target '{place}'", expected=f"'{expected}'")
    return name, address


def find_profiler(place: str) -> tuple[Profiler, str]:
    """The profiler and the address of ``host``, ``adb:SERIAL`` or ``apple``.

    Raises:
        UnknownNameError: no such place.
        DualpixError: the address is missing or there must be none, or the place's module is not part of this version.
    """
    name, address = check_place(place)
    module, attribute = PROFILERS[name].split(":")
    try:
        profiler: Profiler = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise DualpixError(
                f"target '{name}' needs the package '{error.name}'", hint=f"pip install {error.name}"
            ) from error
        raise DualpixError(f"target '{name}' is not part of this installation") from error
    return profiler, address
