"""Coverage-guided fuzzing of the parsers that are written in Python, with atheris where it is installed.

``pip install atheris``, then ``python -m tests.fuzz.run --engine atheris``, which starts this module in a process of
its own: modules are instrumented while they are imported. Counted are the lines of TIFF, boxes, maker notes, EXIF,
picture hints, PGM, NPY and profiles that inputs reach; those that reach new ones are kept and mutated further. LibRaw,
OpenCV and libtiff are not instrumented: for them there are the other engines.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed: pip install atheris")

with atheris.instrument_imports(
    include=["dualpix.capture.raw", "dualpix.capture.calibrate", "dualpix.capture.profiles"]
):
    from tests.fuzz.case import SEEDS, load_all
    from tests.fuzz.check import check_message

    from dualpix.capture.errors import DualpixError
    from dualpix.capture.profiles.profile import read_profile
    from dualpix.capture.raw.containers.exif import capture_meta
    from dualpix.capture.raw.containers.hints import read_hints
    from dualpix.capture.raw.containers.images import picture_kind, read_pgm
    from dualpix.capture.raw.formats.npy import _read_npy
    from dualpix.capture.raw.frames.structure import read_structure

_MAX_BYTES = 8192


def write_corpus(folder: Path) -> None:
    """The seeds' files as libFuzzer wants them, without most of the pixels."""
    folder.mkdir()
    for case in load_all(SEEDS):
        for name, data in case.files.items():
            (folder / f"{case.kind}-{name}").write_bytes(data[:_MAX_BYTES])


def one_input(data: bytes, path: Path) -> None:
    """Every parser on the same bytes."""
    _refuses_in_one_line(lambda: _structure(data))
    kind = picture_kind(data[:16])
    if kind:
        read_hints(data, kind)
    path.write_bytes(data)
    for read in (read_pgm, _read_npy, read_profile):
        _refuses_in_one_line(lambda read=read: read(path))  # type: ignore[misc]


def _structure(data: bytes) -> None:
    found = read_structure(data[:64], data)
    meta = capture_meta(found.picture, found.exif, makernote=found.note, provenance={})
    check_message(f"{meta.camera} {meta.lens_model}")


def _refuses_in_one_line(call: Callable[[], object]) -> None:
    try:
        call()
    except DualpixError as error:
        check_message(str(error))


def main(count: str, seed: str, out: str) -> None:
    """Try ``count`` inputs; ends the process, as libFuzzer does. A crash is saved in ``out``."""
    folder = Path(tempfile.mkdtemp(prefix="guided-"))
    write_corpus(folder / "corpus")
    Path(out).mkdir(parents=True, exist_ok=True)
    limits = [f"-max_len={_MAX_BYTES}", "-timeout=10", "-rss_limit_mb=2048"]
    settings = [f"-runs={count}", f"-seed={int(seed) + 1}", f"-artifact_prefix={out}/", *limits]
    atheris.Setup([sys.argv[0], *settings, str(folder / "corpus")], lambda data: one_input(data, folder / "input"))
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
