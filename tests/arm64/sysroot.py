"""An ARM64 Linux in a folder, with Python, numpy and an ExecuTorch runtime, for programs under ``qemu-aarch64-static``.

Convention: nothing is mounted, nothing is entered with chroot, and no ARM64 program runs outside the emulator: Debian's
packages are unpacked side by side, and the emulator finds the libraries with ``-L``. The processor is a Cortex-A76
(int8 dot products): the emulators of Debian 12 give wrong int8 results where they offer SVE.

    python tests/arm64/sysroot.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path.home() / ".cache" / "dualpix-arm64"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
TOOLS = {"qemu-aarch64-static": "qemu-user-static", "debootstrap": "debootstrap", "dpkg-deb": "dpkg"}
"""Program -> the Debian package that it comes with."""
CPU = "cortex-a76"
_SUITE, _PYTHON = "trixie", "3.13"
_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgomp1")
_LIMIT_S = 900


class SysrootError(Exception):
    """The folder cannot be made."""


@dataclass(frozen=True)
class Sysroot:
    """A folder that is whole."""

    folder: Path

    def python(self, *arguments: str | Path) -> list[str]:
        """The command line that runs its Python."""
        root, site = self.folder / "root", self.folder / "site"
        emulator = ("qemu-aarch64-static", "-cpu", CPU, "-L", str(root), "-E", f"PYTHONPATH={site}")
        return [*emulator, str(root / "usr/bin/python3"), *map(str, arguments)]


def missing() -> str | None:
    """``None``, or what has to be installed before a folder can be made or used."""
    if packages := sorted({package for tool, package in TOOLS.items() if _which(tool) is None}):
        return f"no ARM64 emulation here: apt-get install {' '.join(packages)}"
    if os.geteuid() and not _whole(CACHE):
        return f"debootstrap wants root: run 'sudo -E {sys.executable} {__file__}' once"
    return None


def make(cache: Path = CACHE) -> Sysroot:
    """The folder in ``cache``, made now if it is not there; about 100 MB are fetched, 300 MB stay.

    Raises:
        SysrootError: a package cannot be fetched, or is not the one that was meant.
    """
    if not _whole(cache):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent, prefix=".dualpix-arm64-") as scratch:
            made = Path(scratch) / "made"
            _debian(made / "root")
            _wheels(made / "site", Path(scratch) / "wheels")
            (made / "contents.json").write_text(json.dumps(_contents()))
            made.chmod(0o755)
            shutil.rmtree(cache, ignore_errors=True)
            made.rename(cache)
    return Sysroot(cache)


def _contents() -> dict[str, object]:
    """What a whole folder says of itself; another one is made anew."""
    return {"suite": _SUITE, "packages": list(_PACKAGES), "requirements": REQUIREMENTS.read_text()}


def _whole(cache: Path) -> bool:
    try:
        return bool(json.loads((cache / "contents.json").read_text()) == _contents())
    except (OSError, ValueError):
        return False


def _debian(root: Path) -> None:
    root.parent.mkdir(parents=True)
    # --foreign: fetch, check the signatures and unpack, but run nothing of it; what it leaves is unpacked here
    include = f"--include={','.join(_PACKAGES)}"
    _run("debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", include, _SUITE, str(root))
    archives = root / "var/cache/apt/archives"
    for package in sorted(archives.glob("*.deb")):
        _run("dpkg-deb", "-x", str(package), str(root))
    shutil.rmtree(archives)


def _wheels(site: Path, scratch: Path) -> None:
    platforms = (f"--platform=manylinux_2_{minor}_aarch64" for minor in (28, 27, 17))
    _run(
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:",
        f"--python-version={_PYTHON}", *platforms, "-d", str(scratch), "-r", str(REQUIREMENTS),
    )  # fmt: skip
    for wheel in sorted(scratch.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


def _run(*command: str) -> None:
    tool = _which(command[0]) or command[0]
    try:
        done = subprocess.run([tool, *command[1:]], capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SysrootError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise SysrootError(f"{command[0]} fails: {' '.join((done.stderr or done.stdout).split())[-300:]}")


def _which(tool: str) -> str | None:
    # debootstrap lies where a user's PATH may not look
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def main(arguments: Sequence[str] = ()) -> int:
    """Make the folder; exit code 2 where something is missing."""
    try:
        if reason := missing():
            raise SysrootError(reason)
        print(make().folder)
    except SysrootError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
