"""``dualpix capture verify``, ``align``, ``export`` and ``import``: what is done with a stack once it is there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from dualpix.capture.command.lens_options import LensNumber
from dualpix.capture.command.options import FILE, json_option
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import make_output_dir, write_json
from dualpix.capture.optics import distance_m
from dualpix.capture.progress import ProgressLine

if TYPE_CHECKING:
    from dualpix.capture.stack.judge.aligned import AlignedStack
    from dualpix.capture.stack.judge.verification import Verification
    from dualpix.capture.stack.keep.export import Layout, PictureFormat
    from dualpix.capture.stack.keep.importer import Imported
    from dualpix.capture.stack.keep.record import FrameRecord

VERIFY_JSON, VERIFY_PICTURE = "verify.json", "verify.png"
BAD_EXIT_CODE = 1
_LAYOUTS = ("plain", "zedd", "ddff")
_MAX_LIST_BYTES = 1 << 20
_MOST_ROWS = 60
_STYLES = {"good": "green", "suspect": "yellow", "bad": "bold red", "note": "dim"}


@click.command("verify")
@click.argument("stack", type=FILE)
@click.option("-o", "--output", type=FILE, help="Folder of verify.json and verify.png [default: STACK].")
@json_option("The result on stdout.")
@click.pass_context
def verify_command(ctx: click.Context, /, stack: Path, output: Path | None, as_json: bool) -> None:
    """Whether a stack is what its record says: good, suspect or bad, and why.

    Looks at what is missing, changed or there twice, at the order of the frames by the sharpness of every tile, by the
    scale of the picture and by the disparity of the two halves, at gaps, motion, exposure, and what is not bracketed.
    The exit code is 1 where the stack is bad.
    """
    from dualpix.capture.pictures.colour_map import save_picture
    from dualpix.capture.stack.judge.verify import verify
    from dualpix.capture.stack.judge.verify_plot import verification_picture

    with _progress("verifying") as tell:
        result = verify(stack, tell)
    folder = make_output_dir(output or result.folder)
    write_json(folder / VERIFY_JSON, result.to_json())
    save_picture(folder / VERIFY_PICTURE, verification_picture(result))
    if as_json:
        echo_json(result.to_json())
    else:
        _show_verification(result, folder)
    if result.verdict == "bad":
        ctx.exit(BAD_EXIT_CODE)


@click.command("align")
@click.argument("stack", type=FILE)
@click.option("-o", "--output", type=FILE, help="Folder of the aligned frames [default: STACK/aligned].")
@json_option("The result on stdout.")
def align_command(stack: Path, output: Path | None, as_json: bool) -> None:
    """Measure focus breathing and motion, and write frames without them.

    The aligned frames are 16-bit linear PNG with focus.csv and alignment.json, and whatever reads STACK takes them from
    then on; the captured files stay as they are. The record keeps scale = 1 + beta (D - D0).
    """
    from dualpix.capture.stack.judge.aligned import align_folder

    with _progress("aligning") as tell:
        done = align_folder(stack, output, tell)
    if as_json:
        echo_json(done.alignment.to_json())
    else:
        _show_alignment(done)


@click.command("export")
@click.argument("stack", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Folder; replaced where it is an earlier export.")
@click.option("--to", "layout", type=click.Choice(_LAYOUTS), default="plain", help="plain: PNG and focus.csv.")
@click.option("--aperture", "f_number", type=float, metavar="N", help="Of this f-number only.")
@click.option("--format", "picture", type=click.Choice(["jpg", "png"]), default="jpg", help="Of pictures for zedd.")
@click.option("--as-captured", is_flag=True, help="Not the aligned frames, although there are some.")
def export_command(
    stack: Path, output: Path, layout: Layout, f_number: float | None, picture: PictureFormat, as_captured: bool
) -> None:
    """Write a stack in a layout that others read.

    plain: linear 16-bit PNG, named by their focus, and focus.csv. zedd: as the ZEDD benchmark, 8-bit, all apertures and
    the all-in-focus frame. ddff: one aperture in an HDF5 file as DDFF-12, 8-bit.
    """
    from dualpix.capture.stack.keep.export import export_stack

    done = export_stack(stack, output, layout, f_number=f_number, aligned=not as_captured, picture=picture)
    for note in done.notes:
        click.echo(f"dualpix: note: {note}", err=True)
    click.echo(f"wrote {len(done.files)} files to {done.folder}")


@click.command("import")
@click.argument("sources", nargs=-1, required=True, type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Folder of the stack; replaced where it is one.")
@click.option("--distances", metavar="M,M,...|FILE", help="Focus of each frame in m from the lens, in their order.")
@click.option("--diopters", metavar="D,D,...|FILE", help="The same in diopters.")
@click.option("--first", "first_m", type=float, metavar="M", help="Focus of the first frame; even steps to --last.")
@click.option("--last", "last_m", type=float, metavar="M", help="Focus of the last frame; inf is allowed.")
@click.option("--order", type=click.Choice(["given", "time", "name"]), help="By which frames are put in order.")
@click.option("--index", "stack", metavar="N|NAME|all", help="Which stack of a file that holds several.")
@click.option("--uncertainty-d", type=click.FloatRange(min=0), help="Of each distance, one standard deviation.")
@click.option("--f-number", type=LensNumber("f_number"), help="Of a bracket, whatever the files say.")
@click.option("--focal-length-mm", type=LensNumber("focal_length_mm"), help="Of the lens, whatever the files say.")
@click.option("--pixel-pitch-um", type=LensNumber("pixel_pitch_um"), help="Of the full-resolution picture.")
@json_option("The record on stdout.")
def import_command(
    sources: tuple[Path, ...],
    output: Path,
    distances: str | None,
    diopters: str | None,
    first_m: float | None,
    last_m: float | None,
    as_json: bool,
    **more: Any,
) -> None:
    """Make a stack of frames that something else took.

    SOURCES is a folder or the frames themselves: an on-camera focus bracket (raws or JPEGs whose EXIF says where the
    lens was focused), frames with a list of distances or with the first and the last one, frames alone, a folder that
    `dualpix capture export` wrote, one with focus.csv, a ZEDD scene, or a DDFF-12 file. Files are copied as they are.

    Frames are in the order in which they are named; those of a folder or of a pattern as *.jpg in that of their EXIF
    times, else of their names. Distances that the EXIF states are kept. Frames that say nothing of their focus are kept
    without distances.
    """
    from dualpix.capture.stack.keep.importer import Given, import_stacks

    given = Given(**_focus_given(distances, diopters, first_m, last_m), **more)
    with _progress("importing") as tell:
        made = import_stacks(sources, output, given, tell)
    if as_json:
        for note in (note for done in made for note in done.notes):
            click.echo(f"dualpix: note: {note}", err=True)
        records = [done.record.to_json() for done in made]
        echo_json(records if given.stack == "all" else records[0])
    else:
        for done in made:
            _show_import(done)


def _focus_given(
    distances: str | None, diopters: str | None, first_m: float | None, last_m: float | None
) -> dict[str, Any]:
    """What the options say of the focus.

    Raises:
        DualpixError: they contradict each other.
    """
    ends = first_m is not None or last_m is not None
    if (distances is not None) + (diopters is not None) + ends > 1:
        raise DualpixError(
            "the focus is given more than once", expected="one of --distances, --diopters, --first with --last"
        )
    if distances is not None:
        return {"diopters": tuple(_diopters(value) for value in number_list(distances))}
    if diopters is not None:
        return {"diopters": tuple(number_list(diopters))}
    if not ends:
        return {}
    if first_m is None or last_m is None:
        raise DualpixError("only one end of the bracket is given", expected="--first and --last, in m")
    return {"ends_d": (_diopters(first_m), _diopters(last_m))}


def _diopters(distance: float) -> float:
    if not distance > 0:
        raise DualpixError(f"a distance of {distance:g} m", expected="more than 0, or inf")
    return 1.0 / distance


def number_list(text: str) -> list[float]:
    """Numbers of ``0.5,0.7,inf``, or of a text file of that name, separated by commas or white space.

    Raises:
        DualpixError: neither.
    """
    path = Path(text)
    try:
        if path.is_file() and path.stat().st_size <= _MAX_LIST_BYTES:
            text = path.read_text("utf-8")
        values = [float(word) for word in text.replace(",", " ").split()]
    except (OSError, ValueError):
        values = []
    if not values or any(math.isnan(value) for value in values):
        raise DualpixError(f"'{path}' is no list of numbers", expected="0.5,0.7,1 or a text file with such numbers")
    return values


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int, str], None]]:
    with ProgressLine(what) as line:
        yield lambda done, total, text: line.update(done, total, text, important=False)


# --- for people ---------------------------------------------------------------------------------------------------


def _show_verification(result: Verification, folder: Path) -> None:
    console = Console()
    console.print(f"{result.folder}: {result.frames} frames", markup=False, highlight=False, soft_wrap=True)
    console.print(result.verdict, style=_STYLES[result.verdict])
    for finding in result.findings:
        line = f"  {finding.severity}: {finding.text}"
        console.print(line, style=_STYLES[finding.severity], markup=False, highlight=False, soft_wrap=True)
    click.echo(f"wrote {folder / VERIFY_JSON} and {VERIFY_PICTURE}")


def _show_alignment(done: AlignedStack) -> None:
    found = done.alignment
    where = ("focus (D)", "m") if found.metric else ("place",)
    table = Table(*where, "scale", "shift (px)", "turn (deg)", "correlation", title="beside the reference")
    rows = zip(found.diopters, found.scales, found.shift_px, found.rotation_deg, found.correlation, strict=True)
    for focus, scale, shift, turn, correlation in rows:
        place = (f"{focus:.3f}", f"{distance_m(focus):.3g}") if found.metric else (f"{focus:.0f}",)
        table.add_row(
            *place, f"{scale:.5f}", f"{math.hypot(*shift):.2f}", f"{turn:+.3f}",
            "not matched" if math.isnan(correlation) else f"{correlation:.3f}",
        )  # fmt: skip
    Console().print(table)
    even = "even" if found.linear else "uneven: each frame keeps its own scale"
    unit = "diopter" if found.metric else "frame"
    click.echo(
        f"breathing {100 * found.beta:+.3f} % per {unit} ({even}), {found.breathing_px:.1f} px at the corners; "
        f"{found.residual_px:.3f} px RMS left"
    )
    untrusted = found.trusted.count(False)
    if untrusted:
        click.echo(f"dualpix: warning: {untrusted} frames did not match and were scaled only", err=True)
    click.echo(f"wrote {len(done.files)} files to {done.folder}")


def _show_import(done: Imported) -> None:
    frames = done.record.frames
    table = Table("frame", "m", "D", "+/- D", "f/", "original", title=", ".join(_origins(frames)))
    for frame in frames[:_MOST_ROWS]:
        table.add_row(
            str(frame.index), *_focus_cells(frame), "" if frame.f_number is None else f"{frame.f_number:g}",
            str(frame.details.get("original", "")),
        )  # fmt: skip
    Console().print(table)
    for note in done.notes:
        click.echo(f"note: {note}")
    click.echo(f"wrote {len(frames)} frames to {done.folder}")


def _focus_cells(frame: FrameRecord) -> tuple[str, str, str]:
    if frame.achieved_d is None or frame.uncertainty_d is None:
        return "", "", ""
    return f"{distance_m(frame.achieved_d):.3g}", f"{frame.achieved_d:.3f}", f"{frame.uncertainty_d:.3f}"


def _origins(frames: Sequence[FrameRecord]) -> list[str]:
    """Where the distances come from."""
    return sorted({str(frame.details.get("distance", "")) for frame in frames})
