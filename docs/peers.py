"""What other tools make of the same files: ``python -m docs.peers``.

Every tool that is found on this machine is run on small files of our own writers, whose frames and levels are known bit
for bit. The outcome goes to ``docs/peers.json``; a tool that is not found keeps the row of its last run, with its
version and date; tools that cannot be run here at all are described from what is published. ``docs/peers.md`` is made
from the JSON alone (``--page`` does only that).
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import rawpy
import tifffile
from tests.support.fixtures import Kind, Recipe, suffix, write
from tests.support.halves import CROP
from tests.support.pgm import write_pdcapture

from dualpix.capture.errors import DecodeError
from dualpix.capture.files import write_bytes, write_json
from dualpix.capture.raw.containers.images import read_pgm
from dualpix.export.manifest import machine, source_commit

HERE = Path(__file__).parent
RECORD, PAGE = HERE / "peers.json", HERE / "peers.md"
FORMAT = 1
TIMEOUT_S = 120

EXACT, RENDERED, AGAIN, HEADERS, NO = "exact", "rendered", "frame 0 again", "headers", "no"
BLACK = ((512, 514, 515, 517), (500, 501, 502, 503))
"""Of the two frames; the metadata of CR2 and CR3 state 512 for both, as cameras do."""
PGM = "PGM pair"
CANON: dict[str, Kind] = {
    "CR2": "CR2",
    "CR3": "CR3",
    "CR3 C-RAW": "C-RAW",
    "DNG, plain": "DNG-strip",
    "DNG, LJPEG tiles": "DNG-tiles-ljpeg",
}
Samples = npt.NDArray[Any]


@dataclass(frozen=True)
class Input:
    """A file with the truth about it."""

    name: str
    path: Path
    frames: tuple[Samples, Samples]
    black1: float | None
    """Mean black of frame 1."""


@dataclass(frozen=True)
class Attempt:
    """What one tool did with one input."""

    frame0: str = NO
    """:data:`EXACT`, :data:`RENDERED`, :data:`HEADERS` or :data:`NO`."""
    frame1: str = NO
    """The same, or :data:`AGAIN` where frame 0 came out instead, without an error."""
    black1: float | None = None
    """Mean black level the tool takes for frame 1."""
    note: str = ""


@dataclass(frozen=True)
class Traits:
    """What no single run shows: by the tool's own help, or by its documentation."""

    command: str
    left_and_right: str
    equalised: str
    batch: str
    metadata: str
    source: str = ""
    """Where it is written, for a tool that was not run."""


@dataclass(frozen=True)
class Peer:
    """A row."""

    tool: str
    version: str
    date: str
    """Day of the run; empty for a tool described from documentation."""
    traits: Traits
    attempts: dict[str, Attempt] = field(default_factory=dict)


@dataclass(frozen=True)
class Tool:
    """How to run a tool."""

    name: str
    version: Callable[[], str | None]
    """None where it is not on this machine."""
    attempt: Callable[[Input, Path], Attempt]
    traits: Traits


def make_inputs(folder: Path) -> list[Input]:
    """The files every tool gets."""
    inputs = []
    for name, kind in CANON.items():
        path = folder / f"{kind}{suffix(kind)}"
        truth = write(path, Recipe(kind, black=BLACK, stated_black=512))
        inputs.append(Input(name, path, (truth.composite, truth.half), float(np.mean(BLACK[1]))))
    raw = np.random.default_rng(0).integers(64, 1000, (2, 96, 128), np.uint16)
    paths = [folder / f"T_{side}.pgm" for side in ("left", "right")]
    for path, view in zip(paths, raw, strict=True):
        write_pdcapture(path, view)
    left, right = (read_pgm(path)[0] for path in paths)
    return [*inputs, Input(PGM, paths[0], (left, right), None)]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A tool's own words, whatever its exit code; a tool that hangs counts as one that fails."""
    try:
        return subprocess.run(  # noqa: S603 - the commands stand in this file
            [str(word) for word in command],
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess([], 124, "", "timed out")


def first_line(*command: str, pattern: str) -> Callable[[], str | None]:
    """The version a command prints, if the command is there."""

    def ask() -> str | None:
        if shutil.which(command[0]) is None:
            return None
        done = run(*command, cwd=HERE)
        match = re.search(pattern, done.stdout + done.stderr)
        return match[1] if match else "unknown"

    return ask


def judged(found: Samples | None, item: Input, index: int) -> str:
    """How a mosaic that a tool wrote compares with the truth."""
    if found is None:
        return NO
    if np.array_equal(found, item.frames[index]):
        return EXACT
    return AGAIN if index and np.array_equal(found, item.frames[0]) else "other samples"


# --- the tools that can be run ------------------------------------------------------------------------------------


def _dualpix(item: Input, folder: Path) -> Attempt:
    command = Path(sys.executable).with_name("dualpix")
    done = run(command, "decode", item.path, "-o", folder / "out", "--frames", "--json", cwd=folder)
    if done.returncode:
        return Attempt(note=done.stderr.strip().splitlines()[-1])
    (result,) = json.loads(done.stdout)
    stored = np.load(Path(result["output"]) / "frames.npz")
    verdicts = [judged(stored[f"frame{index}"], item, index) for index in (0, 1)]
    if item.black1 is None:
        return Attempt(*verdicts)
    other = item.frames[0].astype(np.int32) - item.frames[1]
    for cell, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        other[row::2, column::2] -= BLACK[0][cell] - BLACK[1][cell]
    exact = np.array_equal(stored["other"], other)
    black = float(np.mean(result["result"]["sensor"]["black"]["frame1"]))
    return Attempt(*verdicts, black, "derived half exact" if exact else "derived half differs")


def _rawpy_imread(item: Input, folder: Path) -> Attempt:
    def read(index: int) -> Any:
        return rawpy.imread(str(item.path), shot_select=index)

    return _by_rawpy(item, read)


def _rawpy_preselected(item: Input, folder: Path) -> Attempt:
    def read(index: int) -> Any:
        raw = rawpy.RawPy()
        raw.set_unpack_params(shot_select=index)
        raw.open_file(str(item.path))
        raw.unpack()
        return raw

    return _by_rawpy(item, read)


def _by_rawpy(item: Input, read: Callable[[int], Any]) -> Attempt:
    try:
        verdicts, black = [], 0.0
        for index in (0, 1):
            with read(index) as raw:
                verdicts.append(judged(np.array(raw.raw_image), item, index))
                black = float(np.mean(raw.black_level_per_channel))
    except rawpy.LibRawError as error:
        return Attempt(note=error.args[0].decode())
    return Attempt(*verdicts, black)


def _libraw(item: Input, folder: Path) -> Attempt:
    for index in (0, 1):
        run("unprocessed_raw", "-s", str(index), item.path, cwd=folder)
    found = [_pgm(item.path.with_name(f"{item.path.name}{mark}.pgm")) for mark in ("", "-1")]
    verdicts = [judged(samples, item, index) for index, samples in enumerate(found)]
    if NO in verdicts or item.black1 is None:
        return Attempt(*verdicts)
    run("4channels", "-s", "1", item.path, cwd=folder)
    cells = {"R": (0, 0), "G": (0, 1), "G2": (1, 0), "B": (1, 1)}
    levels = [
        fitted_black(tifffile.imread(f"{item.path}-1.{name}.tiff"), item.frames[1][row::2, column::2], 2)
        for name, (row, column) in cells.items()
    ]
    known = [level for level in levels if level is not None]
    return Attempt(*verdicts, float(np.mean(known)) if len(known) == len(levels) else None)


def fitted_black(picture: Samples, samples: Samples, binning: int = 1) -> float | None:
    """The level a tool subtracted: picture = gain * (samples - black), fitted where nothing is clipped to 0.

    ``picture`` may be the picture area alone; None where it is neither that nor all of the samples, or does not fit.
    """
    top, left = (CROP.top // binning, CROP.left // binning) if picture.shape != samples.shape else (0, 0)
    height, width = picture.shape
    truth = samples[top : top + height, left : left + width].astype(np.float64)
    if truth.shape != picture.shape:
        return None
    bright = (truth > np.percentile(truth, 50)) & (picture < 65535)
    gain, offset = np.polyfit(truth[bright], picture[bright].astype(np.float64), 1)
    if not gain > 0:
        return None
    off_counts = np.abs(gain * truth[bright] + offset - picture[bright]).max() / gain
    return round(float(-offset / gain), 1) if off_counts < 2 else None


def _dcraw(item: Input, folder: Path) -> Attempt:
    found = []
    for index in (0, 1):
        output = item.path.with_suffix(".pgm" if item.name != PGM else ".out")
        output.unlink(missing_ok=True)
        done = run("dcraw", "-E", "-4", "-s", str(index), item.path, cwd=folder)
        found.append(_pgm(output))
        output.unlink(missing_ok=True)
    if found[0] is None:
        return Attempt(note=done.stderr.strip().replace(str(folder) + "/", ""))
    verdicts = [judged(samples, item, index) for index, samples in enumerate(found)]
    run("dcraw", "-d", "-4", "-r", "1", "1", "1", "1", "-s", "1", item.path, cwd=folder)
    developed = _pgm(output)
    if developed is None or item.black1 is None:
        return Attempt(*verdicts)
    cells = [(row, column) for row in (0, 1) for column in (0, 1)]
    levels = [fitted_black(developed[r::2, c::2], item.frames[1][r::2, c::2], 2) for r, c in cells]
    known = [level for level in levels if level is not None]
    return Attempt(*verdicts, float(np.mean(known)) if len(known) == len(levels) else None)


def _pgm(path: Path) -> Samples | None:
    try:
        return read_pgm(path)[0] if path.exists() else None
    except DecodeError:
        return None


def _flashraw(item: Input, folder: Path) -> Attempt:
    import flashraw  # type: ignore[import-not-found]

    try:
        with flashraw.open(str(item.path)) as raw:
            samples = np.asarray(raw.decode().array)
            levels = raw.frame_info.black_level.values
    except flashraw.FlashRawError as error:
        return Attempt(note=str(error))
    if samples.ndim == 2:
        return Attempt(judged(samples, item, 0), NO, note="no way to ask for the second frame")
    verdicts = [judged(samples[..., index], item, index) for index in (0, 1)]
    return Attempt(*verdicts, float(np.mean(levels[1::2])), "one array (H, W, 2)")


def _rawtherapee(item: Input, folder: Path) -> Attempt:
    pictures: list[Samples | None] = []
    for number in (1, 2):
        profile, output = folder / f"{number}.pp3", folder / f"{number}.tif"
        profile.write_text(f"[RAW Bayer]\nImageNum={number}\n")
        run("rawtherapee-cli", "-o", output, "-t", "-Y", "-p", profile, "-c", item.path, cwd=folder)
        pictures.append(tifffile.imread(output) if output.exists() else None)
        output.unlink(missing_ok=True)
    return _rendered(pictures)


def _darktable(item: Input, folder: Path) -> Attempt:
    output = folder / "dt.tif"
    options = ("--core", "--configdir", folder / "dt", "--cachedir", folder / "dt", "--library", ":memory:")
    run("darktable-cli", item.path, output, *options, cwd=folder)
    picture = tifffile.imread(output) if output.exists() else None
    output.unlink(missing_ok=True)
    return _rendered([picture, None])


def _rendered(pictures: Sequence[Samples | None]) -> Attempt:
    """Of developed pictures only this can be said: there, and different from each other or not."""
    first, second = pictures
    if first is None:
        return Attempt(note="cannot open it")
    if second is None:
        return Attempt(RENDERED, NO)
    same = first.shape == second.shape and np.array_equal(first, second)
    return Attempt(RENDERED, AGAIN if same else RENDERED)


def _exiftool(item: Input, folder: Path) -> Attempt:
    said = run("exiftool", "-a", "-G1", "-s", item.path, cwd=folder).stdout
    marks = {"CR2": r"\[IFD4\]\s+StripOffsets", "CR3": r"\[Track5\]", "DNG": r"SamplesPerPixel\s+: 2"}
    second = any(item.name.startswith(kind) and re.search(mark, said) for kind, mark in marks.items())
    opened = "ImageWidth" in said or "ImageSize" in said
    return Attempt(HEADERS if opened else NO, HEADERS if second else NO)


def _here(name: str) -> Callable[[], str | None]:
    return lambda: version(name) if importlib.util.find_spec(name) else None


TOOLS = (
    Tool(
        "dualpix",
        _here("dualpix"),
        _dualpix,
        Traits("dualpix decode FILE --frames", "both, named", "yes", "files, folders", "EXIF, maker notes, sidecar"),
    ),
    Tool(
        "rawpy, imread(shot_select=1)",
        _here("rawpy"),
        _rawpy_imread,
        Traits("rawpy.imread(FILE, shot_select=1)", "no", "no", "a library", "exposure, lens"),
    ),
    Tool(
        "rawpy, selected before opening",
        _here("rawpy"),
        _rawpy_preselected,
        Traits("RawPy().set_unpack_params(shot_select=1), then open_file", "no", "no", "a library", "exposure, lens"),
    ),
    Tool(
        "LibRaw command line",
        first_line("unprocessed_raw", pattern=r"LibRaw (\S+?)-Release"),
        _libraw,
        Traits("unprocessed_raw -s 1 FILE; 4channels -s 1 FILE", "no", "no", "files", "camera and exposure"),
    ),
    Tool(
        "dcraw",
        first_line("dcraw", pattern=r"\"dcraw\" v(\S+)"),
        _dcraw,
        Traits("dcraw -E -4 -s 1 FILE", "no", "no", "files", "camera and exposure"),
    ),
    Tool(
        "flashraw",
        _here("flashraw"),
        _flashraw,
        Traits("flashraw.open(FILE).decode()", "no", "no", "a library", "exposure, lens"),
    ),
    Tool(
        "RawTherapee",
        first_line("rawtherapee-cli", "-v", pattern=r"version (\S+?),"),
        _rawtherapee,
        Traits(
            "rawtherapee-cli -p PROFILE -c FILE, with ImageNum=2 under [RAW Bayer]",
            "no",
            "no",
            "files, folders",
            "EXIF",
        ),
    ),
    Tool(
        "darktable",
        first_line("darktable-cli", "--version", pattern=r"darktable(?:-cli)? (\d\S*)"),
        _darktable,
        Traits("darktable-cli FILE OUT.tif", "no", "no", "folders", "EXIF"),
    ),
    Tool(
        "ExifTool",
        first_line("exiftool", "-ver", pattern=r"(\S+)"),
        _exiftool,
        Traits("exiftool -a -G1 -s FILE", "no pixels", "no", "files, folders", "all"),
    ),
)

# Not run: closed programs for Windows and macOS, and one whose sources could not be fetched where the others ran.
DESCRIBED = (
    Peer(
        "Canon Digital Photo Professional 4",
        "",
        "",
        Traits(
            "by hand: Dual Pixel RAW Optimizer, Bokeh Shift to either end, save; twice a picture",
            "rendered, after bokeh shift",
            "about 1 % per column band, as seen in published exports",
            "no, each by hand",
            "EXIF",
            "https://github.com/Abdullah-Abuolaim/defocus-deblurring-dual-pixel (DPDD), whose authors export by hand",
        ),
        {
            **{name: Attempt(RENDERED, RENDERED) for name in ("CR2", "CR3", "CR3 C-RAW")},
            **dict.fromkeys(("DNG, plain", "DNG, LJPEG tiles", PGM), Attempt()),
        },
    ),
    Peer(
        "DPRSplit",
        "beta",
        "",
        Traits(
            "graphical program for Windows and macOS",
            "composite and one half as two DNG",
            "no",
            "several files dropped on it",
            "EXIF in the DNG",
            "https://www.fastrawviewer.com/DPRSplit; green highlights: https://github.com/dnglab/dnglab/issues/577",
        ),
        {"CR2": Attempt("two DNG", "two DNG"), "CR3": Attempt("two DNG", "two DNG")},
    ),
    Peer(
        "dnglab",
        "",
        "",
        Traits(
            "RAWLER_CRX_RAW_TRAK=4 dnglab convert FILE.CR3 SUB.dng",
            "one half as a DNG",
            "no",
            "files, folders",
            "EXIF in the DNG",
            "https://github.com/dnglab/dnglab/issues/577",
        ),
        {"CR3": Attempt("DNG", "DNG")},
    ),
)


def measure(recorded: Sequence[Peer] = ()) -> list[Peer]:
    """Run what is here; take the rest from ``recorded``."""
    earlier = {peer.tool: peer for peer in recorded}
    today = datetime.now(UTC).date().isoformat()
    peers = []
    for tool in TOOLS:
        found = tool.version()
        if found is None:
            peers += [earlier[tool.name]] if tool.name in earlier else []
            continue
        attempts = {}
        with tempfile.TemporaryDirectory(prefix="peers.") as name:
            for item in make_inputs(Path(name)):
                attempts[item.name] = tool.attempt(item, Path(name))
        peers.append(Peer(tool.name, found, today, tool.traits, attempts))
    return [*peers, *DESCRIBED]


def record(peers: Sequence[Peer]) -> dict[str, Any]:
    """The content of ``peers.json``."""
    return {
        "format": FORMAT,
        "command": "python -m docs.peers",
        "commit": source_commit() or "unknown",
        "machine": machine(),
        "black": {"frame0": list(BLACK[0]), "frame1": list(BLACK[1]), "stated in CR2 and CR3": 512},
        "peers": [asdict(peer) for peer in peers],
    }


def read_record(path: Path = RECORD) -> list[Peer]:
    """The rows of ``peers.json``; none where there is no such file yet."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text())["peers"]
    return [
        Peer(
            row["tool"],
            row["version"],
            row["date"],
            Traits(**row["traits"]),
            {name: Attempt(**attempt) for name, attempt in row["attempts"].items()},
        )
        for row in rows
    ]


# --- the page -----------------------------------------------------------------------------------------------------


INTRODUCTION = """\
<!-- made by docs/peers.py from docs/peers.json -->
# What other tools do with the same files

Each tool got the same six small files from the writers in `tests/support`, whose two frames are known bit for bit:
frame 0 is the sum of both photodiodes, frame 1 is one of them; of the PGM pair they are left and right.
`python -m docs.peers` runs every tool it finds and keeps the rows of the others.

Cells say *frame 0 / frame 1*. **exact**: the samples of the file; **rendered**: a developed picture; **frame 0 again**:
frame 1 was asked for and frame 0 came, without an error; **headers**: described, not decoded; **no**: not reachable
from the command line or the library; **?**: not tried, and not documented.
"""
ON_BLACK = f"""
The black level of frame 1 in these files is {float(np.mean(BLACK[1])):g} on average and stands in the masked columns; a
CR2 or CR3 states 512 for both frames. LibRaw and dcraw measure masked columns only for sensor sizes they know, which
these small files do not have; crop modes and the R5 are such sizes too.
"""


def page(peers: Sequence[Peer]) -> str:
    """``peers.md``, from the rows alone."""
    names = [*CANON, PGM]
    frames = [[_label(p), *(_frames(p.attempts.get(name)) for name in names)] for p in peers]
    traits = [
        [
            _label(peer),
            peer.traits.left_and_right,
            _black(peer),
            peer.traits.equalised,
            peer.traits.batch,
            peer.traits.metadata,
        ]
        for peer in peers
    ]
    heads = ["", "left and right", "black of frame 1: CR2 / DNG", "equalised", "many files", "metadata"]
    return "\n".join(
        [
            INTRODUCTION,
            *_table(["", *names], frames),
            "",
            ON_BLACK,
            *_table(heads, traits),
            "",
            "## How each was run",
            "",
            *_table(["", "version", "run", "how"], [_how(peer) for peer in peers]),
            "",
        ]
    )


def _label(peer: Peer) -> str:
    return peer.tool if peer.date else f"{peer.tool} (not run here)"


def _frames(attempt: Attempt | None) -> str:
    if attempt is None:
        return "?"
    return NO if attempt.frame0 == attempt.frame1 == NO else f"{attempt.frame0} / {attempt.frame1}"


def _black(peer: Peer) -> str:
    levels = [peer.attempts[name].black1 for name in ("CR2", "DNG, plain") if name in peer.attempts]
    shown = ["-" if level is None else f"{level:.1f}" for level in levels]
    return " / ".join(shown) if set(shown) - {"-"} else "-"


def _how(peer: Peer) -> list[str]:
    command = f"`{peer.traits.command}`" if peer.date else f"{peer.traits.command}; {peer.traits.source}"
    notes = "; ".join(f"{name}: {a.note}" for name, a in peer.attempts.items() if a.note and a.frame0 == NO)
    return [
        peer.tool,
        peer.version or "-",
        peer.date or "from documentation",
        command + (f" ({notes})" if notes else ""),
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


@click.command()
@click.option("--page", "page_only", is_flag=True, help="Only write the page anew from the recorded results.")
def main(page_only: bool) -> None:
    """Run every tool that is here, keep the rows of the others, and write docs/peers.json and docs/peers.md."""
    if not page_only:
        write_json(RECORD, record(measure(read_record())))
    write_bytes(PAGE, page(read_record()).encode())


if __name__ == "__main__":
    main()
