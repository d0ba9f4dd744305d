"""``dualpix refocus``: a picture focused anew by its depth, as picture or as animation.

What is asked is looked at before torch is imported.
"""

from __future__ import annotations

import math
from pathlib import Path

import click

from dualpix.capture.command.lens_options import LensNumber
from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import check_output_dir, make_output_dir, write_bytes
from dualpix.capture.pictures.colour_map import Rgb, save_picture
from dualpix.capture.progress import ProgressLine
from dualpix.models.view.aim import coordinate_of, widening_of
from dualpix.models.view.animation import SUFFIXES as MOVING
from dualpix.models.view.animation import even_sided, there_and_back, write_animation
from dualpix.models.view.find import find_subjects
from dualpix.models.view.read import read_scene
from dualpix.models.view.scene import Defocus, Estimate, Scene

_FILE = click.Path(path_type=Path)
_STILL = (".png", ".jpg", ".jpeg")
_JPEG_QUALITY = 95
_STILL_LONG_SIDE_PX, _MOVING_LONG_SIDE_PX = 2048, 720


@click.command("refocus")
@click.argument("results", nargs=-1, type=_FILE, required=True)
@click.option("-o", "--output", type=_FILE, required=True, help="PNG or JPEG; GIF, WebP or MP4 for an animation.")
@click.option("--at", type=(float, float), metavar="X Y", help="What shall be sharp: column and row of the view.")
@click.option("--focus-distance-m", type=LensNumber("focus_distance_m"), help="Or how far away that is; 'inf' allowed.")
@click.option("--f-number", type=LensNumber("f_number"), help="Aperture of the synthetic lens [default: see --blur].")
@click.option(
    "--blur", type=click.FloatRange(0, 64, min_open=True),
    help="Or how many times as wide as the captured aperture [default: 2].",
)  # fmt: skip
@click.option("--method", help="Which of several results, by its method's name [default: the first].")
@click.option(
    "--size", type=click.IntRange(16, 20_000), help="Long side in px [default: at most 2048; animations 720]."
)
@click.option("--from-m", type=LensNumber("focus_distance_m"), help="Animation: first distance [default: the nearest].")
@click.option("--to-m", type=LensNumber("focus_distance_m"), help="Animation: last distance [default: the farthest].")
@click.option("--frames", type=click.IntRange(2, 240), default=16, help="Animation: pictures from first to last.")
@click.option("--fps", type=click.FloatRange(1, 50), default=12.0, help="Animation: pictures per second.")
def command(
    results: tuple[Path, ...],
    output: Path,
    at: tuple[float, float] | None,
    focus_distance_m: float | None,
    f_number: float | None,
    blur: float | None,
    method: str | None,
    size: int | None,
    from_m: float | None,
    to_m: float | None,
    frames: int,
    fps: float,
) -> None:
    """Focus a picture anew by its depth, through a synthetic thin lens with occlusion.

    RESULTS are a folder that `dualpix depth` wrote and, of a dual-pixel capture, the capture itself where it is not
    found near the result. Where a network has restored the sharp picture, or of a focus stack, that is what is blurred;
    else the capture, whose own blur stays, is given what is missing.

    An animation runs from the nearest to the farthest and back.
    """
    moving = _is_moving(output)
    _check_focus(moving, at, focus_distance_m, from_m, to_m)
    if f_number is not None and blur is not None:
        raise DualpixError("both --f-number and --blur were given", expected="one of the two")
    scene = _scene_of(results)
    estimate = _estimate_of(scene, method)
    defocus = estimate.defocus
    assert defocus is not None  # noqa: S101 - readers give one to every estimate
    widening = widening_of(defocus, f_number, blur)
    if not defocus.metric and any(value is not None for value in (focus_distance_m, from_m, to_m)):
        raise DualpixError(
            f"'{scene.name}' has no metres", expected="--at X Y", hint="or find its depth with lens data"
        )
    check_output_dir(output.parent)
    from dualpix.models.view.refocus import refocused, sharp_of

    sharp = sharp_of(scene, estimate, size or (_MOVING_LONG_SIDE_PX if moving else _STILL_LONG_SIDE_PX))
    for note in defocus.notes:
        click.echo(f"dualpix: note: {note}", err=True)
    if not moving:
        focus = coordinate_of(scene, sharp, at, focus_distance_m)
        picture = refocused(sharp, focus, widening)
        make_output_dir(output.parent)
        _save(output, picture)
        click.echo(
            f"wrote {output}: {_size(picture)}, focused at {_place(defocus, focus)}, {_aperture(defocus, widening)}"
        )
        return
    near, far = sharp.ends()
    first = near if from_m is None else defocus.coordinate_at(from_m)
    last = far if to_m is None else defocus.coordinate_at(to_m)
    pictures: list[Rgb] = []
    with ProgressLine("refocus") as line:
        for number in range(frames):
            line.update(number, frames, important=False)
            pictures.append(refocused(sharp, first + (last - first) * number / (frames - 1), widening))
    if output.suffix.lower() == ".mp4":
        pictures = [even_sided(picture) for picture in pictures]
    pictures = there_and_back(pictures)
    make_output_dir(output.parent)
    write_animation(output, pictures, fps)
    click.echo(
        f"wrote {output}: {len(pictures)} pictures, {_size(pictures[0])}, from {_place(defocus, first)} to "
        f"{_place(defocus, last)} and back, {_aperture(defocus, widening)}"
    )


def _is_moving(output: Path) -> bool:
    suffix = output.suffix.lower()
    if suffix not in _STILL + MOVING:
        raise OutputError(
            f"cannot write a picture as '{output}'", expected=f"a name ending in {' '.join(_STILL + MOVING)}"
        )
    if output.is_dir():
        raise OutputError(f"cannot write '{output}': it is a folder", hint="choose another -o")
    return suffix in MOVING


def _check_focus(
    moving: bool, at: tuple[float, float] | None, focus_m: float | None, from_m: float | None, to_m: float | None
) -> None:
    if moving and (at is not None or focus_m is not None):
        name = "--at" if at is not None else "--focus-distance-m"
        raise DualpixError(f"{name} was given with an animation", expected="--from-m and --to-m, or neither")
    if not moving and (from_m is not None or to_m is not None):
        name = "--from-m" if from_m is not None else "--to-m"
        raise DualpixError(f"{name} was given with one picture", expected=f"an output ending in {' '.join(MOVING)}")
    if not moving and (at is None) == (focus_m is None):
        found = "neither --at nor --focus-distance-m" if at is None else "both --at and --focus-distance-m"
        raise DualpixError(f"{found} was given", expected="one of them: what shall be sharp")


def _scene_of(results: tuple[Path, ...]) -> Scene:
    subjects = [subject for subject in find_subjects(results) if subject.results]
    if len(subjects) != 1:
        found = "no result of `dualpix depth`" if not subjects else f"results of {len(subjects)} captures"
        raise DualpixError(
            f"{found} in {', '.join(repr(str(path)) for path in results[:3])}",
            expected="one folder that `dualpix depth` wrote",
            hint="dualpix depth FILE -o FOLDER" if not subjects else "name one of them",
        )
    return read_scene(subjects[0], frames=False)


def _estimate_of(scene: Scene, method: str | None) -> Estimate:
    if method is None:
        return scene.estimates[0]
    found = next((estimate for estimate in scene.estimates if estimate.method == method), None)
    if found is None:
        known = ", ".join(estimate.method for estimate in scene.estimates)
        raise DualpixError(f"no result by '{method}'", expected=f"one of: {known}")
    return found


def _place(defocus: Defocus, coordinate: float) -> str:
    diopters = defocus.diopters_of(coordinate)
    if diopters is not None:
        return f"{1 / diopters:.3g} m" if diopters > 0 else "infinity"
    return f"frame {coordinate:.2f}" if defocus.coordinate == "index" else f"{coordinate:.3g} px of disparity"


def _aperture(defocus: Defocus, widening: float) -> str:
    if defocus.f_number is not None and math.isfinite(defocus.f_number):
        return f"f/{defocus.f_number / widening:.2g}"
    return f"{widening:.3g} x the captured aperture"


def _size(picture: Rgb) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]} px"


def _save(path: Path, picture: Rgb) -> None:
    if path.suffix.lower() == ".png":
        save_picture(path, picture)
        return
    from io import BytesIO

    from PIL import Image

    data = BytesIO()
    Image.fromarray(picture).save(data, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    write_bytes(path, data.getvalue())
