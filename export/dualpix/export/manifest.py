"""``manifest.json``: what an export folder holds, made from what, with which tools, and how well it did.

It names every file by SHA-256, so that a phone, or a later run, can tell that it has the file that was measured, and
ends with a digest of itself. Both say that nothing was changed by accident or carelessness. They do not say who wrote
it: whoever can replace a file can also write a new manifest.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_json, sha256_of_file, write_json
from dualpix.capture.processor import NOT_RECORDED, UNKNOWN, host_processor, pytorch_processor

MANIFEST = "manifest.json"
DIGEST = "digest"
FORMAT = 3
UNSTATED = "not stated"
_PACKAGES = ("dualpix", "torch", "executorch", "torchao", "coremltools", "coreai-torch", "coreai-core")
_MAX_BYTES = 16 << 20


class ManifestError(DualpixError):
    """An export folder is not what its manifest says."""


def files_of(path: Path) -> list[Path]:
    """The file itself, or all files of a package folder, in a fixed order."""
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a package folder."""
    return sum(p.stat().st_size for p in files_of(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file; of a package folder over the names and digests of its files."""
    if path.is_dir():
        listing = "".join(f"{sha256_of(p)}  {p.relative_to(path).as_posix()}\n" for p in files_of(path))
        return hashlib.sha256(listing.encode()).hexdigest()
    return sha256_of_file(path)


def tool_versions() -> dict[str, str]:
    """Versions of the packages that decide what an artefact is, and of Python."""
    return {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def machine() -> dict[str, str]:
    """The computer that exported and measured.

    Returns:
        "system", "processor", "class" and "features" (:mod:`dualpix.capture.processor`); "pytorch", where settings hold
        PyTorch to fewer instructions than the processor has.
    """
    system, held = f"{platform.system()} {platform.machine()}", pytorch_processor()
    facts = {"system": system, "processor": _processor(), **host_processor().describe()}
    if held.held_by:
        facts["pytorch"] = f"held to {held.describe()['class']} by {', '.join(held.held_by)}"
    return facts


def machine_text(facts: Mapping[str, str]) -> str:
    """A machine in one line; files from before classes were recorded say so."""
    words = [facts.get("system", UNKNOWN), facts.get("processor", UNKNOWN), facts.get("class", NOT_RECORDED)]
    return ", ".join([*words, *([f"PyTorch {facts['pytorch']}"] if "pytorch" in facts else [])])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or UNKNOWN
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), UNKNOWN)


def source_commit() -> str | None:
    """Commit of the checkout this package runs from, with ``-dirty`` where it was changed; ``None`` if installed."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        # only if git knows this very file: an installed package may lie inside someone else's checkout
        subprocess.run(["git", "-C", str(folder), "ls-files", "--error-unmatch", __file__], capture_output=True, check=True, timeout=10)  # noqa: S603, S607, E501 # fmt: skip
        described = subprocess.run(command, capture_output=True, check=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def file_entry(folder: Path, path: Path) -> dict[str, Any]:
    """Name, size and digest of a file or a package folder."""
    return {"file": path.relative_to(folder).as_posix(), "size_bytes": size_of(path), "sha256": sha256_of(path)}


def artefact_entries(folder: Path, paths: Iterable[tuple[str, Path]]) -> list[dict[str, Any]]:
    """One entry per (recipe, file): name, size and digest."""
    return [{"recipe": recipe} | file_entry(folder, path) for recipe, path in paths]


def digest_of(manifest: Mapping[str, Any]) -> str:
    """SHA-256 over a manifest's canonical JSON, its own digest apart."""
    content = {name: value for name, value in manifest.items() if name != DIGEST}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``manifest`` with its digest."""
    write_json(folder / MANIFEST, {**manifest, DIGEST: digest_of(manifest)})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export folder.

    Raises:
        ManifestError: there is none, it is not one of ours, or it was changed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ManifestError(f"'{folder}' has no readable {MANIFEST}", expected="a folder written by 'dualpix export'")
    try:
        data = read_json(path, _MAX_BYTES, expected="a manifest", error=ManifestError)
    except ManifestError as error:
        raise ManifestError(
            f"'{folder}' has no readable {MANIFEST}: {error.found}", expected="a folder written by 'dualpix export'"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT or not _entries_are_whole(data):
        raise ManifestError(f"'{path}' is no manifest of format {FORMAT}", hint="export again")
    if data.get(DIGEST) != _digest_or_none(data):
        raise ManifestError(f"'{path}' was changed after it was written", hint="export again")
    return data


def _entries_are_whole(data: Mapping[str, Any]) -> bool:
    lists = data.get("artefacts"), data.get("files", [])
    return all(
        isinstance(entries, list)
        and all(isinstance(e, dict) and isinstance(e.get("file"), str) and "sha256" in e for e in entries)
        for entries in lists
    )


def _digest_or_none(data: Mapping[str, Any]) -> str | None:
    try:
        return digest_of(data)
    except ValueError:  # NaN, which we never write
        return None


def verify_manifest(folder: Path) -> dict[str, Any]:
    """Hash every artefact again and return the manifest.

    Raises:
        ManifestError: the manifest was changed, an artefact is missing, or is not the file that was measured.
    """
    manifest = read_manifest(folder)
    for entry in manifest["artefacts"]:
        check_entry(folder, entry)
    return manifest


def check_entry(folder: Path, entry: Mapping[str, Any]) -> Path:
    """The path of an entry, after hashing it again.

    Raises:
        ManifestError: it lies outside ``folder``, is missing, or is not the file that was measured.
    """
    path = _inside(folder, str(entry["file"]))
    if not path.exists():
        raise ManifestError(f"'{entry['file']}' is missing from '{folder}'", hint="export again")
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise ManifestError(f"'{entry['file']}' cannot be read: {error.strerror or error}") from error
    if digest != entry["sha256"]:
        raise ManifestError(f"'{entry['file']}' is not the file that was measured", hint="export again")
    return path


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve()) and path.resolve() != folder.resolve()
    except (OSError, ValueError, RuntimeError):  # a null byte, a loop of links
        inside = False
    if not inside:
        raise ManifestError(f"the manifest names '{name}'", expected="files inside its own folder")
    return path


@dataclass(frozen=True)
class Declared:
    """What the manifest says of inputs, output and agreement."""

    inputs: Mapping[str, tuple[tuple[int, ...], str]]
    """(shape, type) by name, in order."""
    output_names: tuple[str, ...]
    limits_db: Mapping[str, float]
    """By recipe; those that ran where they were made."""

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Declared:
        """Out of a manifest.

        Raises:
            ManifestError: it lacks one of them.
        """
        try:
            tensors = manifest["input"]["tensors"]
            inputs = {str(t["name"]): (tuple(int(n) for n in t["shape"]), str(t["dtype"])) for t in tensors}
            limits = {str(k): float(v) for k, v in manifest["reference"]["rerun_sqnr_db"].items()}
            outputs = tuple(str(o["name"]) for o in manifest["outputs"])
            if not inputs or not outputs:
                raise ValueError("nothing goes in or comes out")
            return cls(inputs, outputs, limits)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManifestError(f"'{MANIFEST}' lacks inputs, output or reference", hint="export again") from error
