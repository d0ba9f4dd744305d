"""From files to a :class:`~dualpix.models.view.scene.Scene`: maps, pictures, optics and what is to be told.

Convention: see :mod:`.scene`. Disparity is ``x_right - x_left`` in px of the view, > 0 behind the focus plane. An error
of depth is told in diopters, as blur and disparity have it: 1 / found - 1 / true.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN, check_lens, disparity_px_per_diopter
from dualpix.capture.pictures.colour_map import SURE
from dualpix.capture.pictures.display import square_pixels, to_display
from dualpix.capture.pictures.points import pinhole_of
from dualpix.capture.raw import RawCapture
from dualpix.capture.raw.batch.inputs import Job
from dualpix.capture.raw.batch.jobs import DecodeOptions
from dualpix.capture.raw.containers.images import read_picture
from dualpix.capture.raw.develop.naming import FocusedOn
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.stack.look import shown
from dualpix.capture.types import Baseline, FloatImage, LensModel
from dualpix.models.stacks.reading import read_aligned, simulated_truth
from dualpix.models.view.codes import Digits
from dualpix.models.view.facts import about, distances_text, facts_of
from dualpix.models.view.find import ResultFolder, Subject
from dualpix.models.view.maps import (
    DEPTH_DIGITS,
    DISPARITY_DIGITS,
    against,
    confidence_map,
    judged,
    on_one_scale,
    read_map,
    read_rgb,
    value_map,
)
from dualpix.models.view.scene import Defocus, Estimate, Picture, Scene

_LENS = ("focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um", "disparity_gain")
_UNKNOWN_SPREAD = 0.02
"""Of the long side: the blur of the farthest from the nearest thing where nothing says how large it is."""
_FRAME_LONG_SIDE_PX = 1280
_BRIGHT_PERCENTILE, _BRIGHT = 99.0, 0.85
_MOST_NOTES = 40


def read_scene(subject: Subject, truth: Path | None = None, *, frames: bool = True) -> Scene:
    """A capture or stack with the results of it.

    Args:
        subject: see :func:`~dualpix.models.view.find.find_subjects`.
        truth: file of the true depth (m as floats, mm as integers), or of the true disparity in px (floats) where the
            lens is not known.
        frames: also decode a stack's frames, where it was named.

    Raises:
        DualpixError: a file is missing, damaged, or of another size than the rest.
    """
    if subject.kind == "stack":
        return _stack_scene(subject, truth, frames)
    return _dual_pixel_scene(subject, truth)


def _dual_pixel_scene(subject: Subject, truth: Path | None) -> Scene:
    results = _of_one_size(subject.results)
    first = results[0] if results else None
    scene = _captured(subject, first)
    with _told_of(first.folder if first else Path(subject.name)):
        estimates = tuple(_disparity_estimate(result, scene, truth) for result in results)
        pinhole = None
        for result in results:
            lens = _lens_of(result.record)
            if pinhole is None and lens is not None:
                pinhole = pinhole_of(lens, scene.size_hw, scene.pixel_aspect, scene.baseline)
    return replace(scene, estimates=on_one_scale(estimates), pinhole=pinhole)


def _captured(subject: Subject, result: ResultFolder | None) -> Scene:
    """The picture, the halves, and what the file says; of a result whose capture is not at hand, what it recorded."""
    name = subject.name
    if subject.capture is not None:
        capture = _decode(subject.capture, result)
        size = capture.size_hw
        if result is not None and size != result.size_hw:
            raise DualpixError(
                f"'{subject.capture.path}' has {size[1]}x{size[0]} px, '{result.folder}' "
                f"{result.size_hw[1]}x{result.size_hw[0]}",
                expected="the capture that the result is of",
            )
        meta = capture.meta.to_json()
        scene = Scene(name, "dual-pixel", size, capture.baseline, capture.meta.pixel_aspect)
        combined, *views = _shown_views(capture)
        notes = tuple(capture.warnings)
        if result is None:
            notes += ("depth is found by: dualpix depth FILE -o FOLDER; then view that folder",)
        return replace(
            scene,
            picture=combined,
            views=tuple(views),
            facts=facts_of(meta, {"decoder": capture.decoder}),
            notes=notes[:_MOST_NOTES],
        )
    assert result is not None  # noqa: S101 - a subject has one of the two
    with _told_of(result.folder):
        record = result.record
        meta = dict(record["meta"])
        aspect = float(meta.get("pixel_aspect") or 1.0)
        if not 0.1 <= aspect <= 10:
            raise ValueError(f"pixel_aspect {aspect}")
        baseline: Baseline = "y" if record["baseline"] == "y" else "x"
        files = ", ".join(record["inputs"])
        note = f"without its picture: {files} lies neither here nor near the result; name it as well"
        return Scene(
            name, "dual-pixel", result.size_hw, baseline, aspect,
            facts=facts_of(meta, {"decoder": record.get("decoder")}), notes=(note,),
        )  # fmt: skip


def _decode(job: Job, result: ResultFolder | None) -> RawCapture:
    """As the result was decoded, as far as that lies in options without files."""
    asked = {} if result is None else dict(result.record["request"].get("options") or {})
    chosen: dict[str, Any] = {}
    if asked.get("swap") is True:
        chosen["swap"] = True
    for name, allowed in (
        ("encoding", ("srgb", "linear")),
        ("focused_on", get_args(FocusedOn)),
        ("baseline", ("x", "y")),
    ):
        if asked.get(name) in allowed:
            chosen[name] = asked[name]
    for name in ("black", "white"):
        if isinstance(asked.get(name), int | float):
            chosen[name] = float(asked[name])
    return DecodeOptions(**chosen).decode(job)


def _shown_views(capture: RawCapture) -> Iterator[Picture]:
    """The full aperture, then the halves, both by one exposure, so that they differ in nothing but where things are."""
    balance = (1.0, 1.0, 1.0) if capture.colour == "srgb" else capture.views.white_balance

    def picture(name: str, label: str, light: FloatImage, exposure: float | None) -> Picture:
        rgb = to_display(light, white_balance=balance, exposure=exposure)
        aspect = capture.meta.pixel_aspect
        return Picture(name, label, square_pixels(rgb, aspect, capture.baseline, smooth=True))

    yield picture("picture", "full aperture", capture.view("combined"), None)
    left, right = capture.view("left"), capture.view("right")
    bright = np.percentile(_luminance(left, balance), _BRIGHT_PERCENTILE)
    exposure = _BRIGHT / max(float(bright), 1e-6)
    yield picture("left", "left half", left, exposure)
    yield picture("right", "right half", right, exposure)


def _luminance(light: FloatImage, balance: tuple[float, float, float] | None) -> FloatImage:
    if light.ndim == 2:
        return light[::4, ::4]
    weights = np.array([0.2126, 0.7152, 0.0722], np.float32) * np.array(balance or (1.0, 1.0, 1.0), np.float32)
    return np.asarray(light[::4, ::4] @ weights, np.float32)


def _disparity_estimate(result: ResultFolder, scene: Scene, truth: Path | None) -> Estimate:
    record, folder = result.record, result.folder
    disparity = read_map(folder / "disparity_px.tiff", result.size_hw)
    sure = read_map(folder / "confidence.tiff", result.size_hw)
    trusted = sure >= SURE
    maps = [value_map("disparity", "disparity", disparity, trusted, "px", "diverging", DISPARITY_DIGITS)]
    if (folder / "depth_m.tiff").is_file():
        depth = read_map(folder / "depth_m.tiff", result.size_hw)
        maps.append(value_map("depth", "depth from the lens", depth, trusted, "m", "depth", DEPTH_DIGITS))
    maps.append(confidence_map(sure))
    if truth is not None:
        maps += judged(maps, truth, result.size_hw)
    lens = _lens_of(record)
    sharp = None
    if (folder / "sharp.png").is_file():
        sharp = Picture("sharp", f"sharp, {record['method']}", read_rgb(folder / "sharp.png", scene.square_hw))
    defocus = _defocus_of_pair(lens, record["meta"], own_blur=sharp is None)
    notes = [str(finding["text"]) for finding in record.get("findings") or ()]
    return Estimate(str(record["method"]), tuple(maps), defocus, about(record), tuple(notes[:_MOST_NOTES]), sharp)


def _lens_of(record: Mapping[str, Any]) -> LensModel | None:
    """The lens of a result in metres."""
    depth = record.get("depth")
    if not isinstance(depth, dict) or depth.get("metric") is not True:
        return None
    return check_lens(LensModel(**{name: float(depth["lens"][name]) for name in _LENS}))


def _defocus_of_pair(lens: LensModel | None, meta: Mapping[str, Any], *, own_blur: bool) -> Defocus:
    if lens is not None:
        return Defocus(
            "disparity",
            1.0 / lens.disparity_gain,
            lens.f_number,
            lens.focal_length_mm / 1000.0,
            1.0 / lens.focus_distance_m,
            -1.0 / disparity_px_per_diopter(lens),
            own_blur,
        )
    known = meta.get("disparity_gain")
    gain = IDEAL_DISPARITY_GAIN if known is None else float(known)
    notes = (
        () if known is not None else (f"the disparity gain is not known: {gain:.3f}, that of ideal halves, is taken",)
    )
    if not 1e-4 <= gain <= 1:
        raise ValueError(f"disparity_gain {gain}")
    f_number = meta.get("f_number")
    return Defocus(
        "disparity", 1.0 / gain, None if f_number is None else float(f_number), own_blur=own_blur, notes=notes
    )


def _stack_scene(subject: Subject, truth: Path | None, frames: bool) -> Scene:
    results = _of_one_size(subject.results)
    views: tuple[Picture, ...] = ()
    if subject.stack is not None and frames:
        views = tuple(_shown_frames(subject.stack))
    if not results:
        height, width = views[0].rgb.shape[:2]
        note = "depth is found by: dualpix depth STACK -o FOLDER; then view both folders"
        middle = views[len(views) // 2]
        return Scene(subject.name, "stack", (height, width), picture=middle, views=views, notes=(note,))
    first = results[0]
    with _told_of(first.folder):
        simulated = _simulated(subject.stack, first) if truth is None and subject.stack is not None else None
        estimates = [made for result in results for made in _stack_estimates(result, truth, simulated)]
        picture = Picture("picture", "in focus everywhere", read_rgb(first.folder / "all_in_focus.png", first.size_hw))
    facts = (("frames", str(first.record.get("frames", "?"))), ("focus distances", distances_text(first.record)))
    return Scene(
        subject.name, "stack", first.size_hw, picture=picture, views=views, estimates=on_one_scale(tuple(estimates)),
        facts=tuple(fact for fact in facts if fact[1]),
    )  # fmt: skip


def _shown_frames(folder: Path) -> Iterator[Picture]:
    """As taken, far to near, each by its own light."""
    stack = load_stack(folder, max_side_px=_FRAME_LONG_SIDE_PX)
    for number, frame in enumerate(stack.frames):
        distances = stack.focus_distance_m
        label = f"frame {number}" if distances is None else f"{distances[number]:.4g} m"
        yield Picture(f"frame{number}", label, shown(frame, stack.look))


def _simulated(stack: Path, result: ResultFolder) -> FloatImage | None:
    f_number = result.record.get("f_number")
    return simulated_truth(stack, read_aligned(stack, float(f_number) if f_number else None))


def _stack_estimates(result: ResultFolder, truth: Path | None, simulated: FloatImage | None) -> Iterator[Estimate]:
    record, folder = result.record, result.folder
    codes = read_picture(folder / "confidence.png")
    if codes.dtype != np.uint8 or codes.shape != result.size_hw:
        raise ValueError("confidence.png")
    sure = codes.astype(np.float32) / np.float32(255)
    trusted = sure >= SURE
    notes = tuple(str(note) for note in record.get("notes") or ())[:_MOST_NOTES]
    method = str(record.get("model") or record["method"])
    if record["kind"] == "focus_index":
        index = read_map(folder / "focus_index.tiff", result.size_hw)
        label = "number of the sharpest frame"
        maps = [value_map("focus_index", label, index, trusted, "", "sequential", Digits("fixed", 2))]
        defocus = _defocus_of_stack(record, index, "blur_px_per_frame", result.size_hw)
        yield Estimate(method, (*maps, confidence_map(sure)), defocus, about(record), notes)
        return

    def estimate(method: str, depth: FloatImage, confidence: FloatImage | None) -> Estimate:
        maps = [value_map("depth", "depth from the lens", depth, trusted, "m", "depth", DEPTH_DIGITS)]
        if confidence is not None:
            maps.append(confidence_map(confidence))
        if truth is not None:
            maps += judged(maps, truth, result.size_hw)
        elif simulated is not None and simulated.shape == result.size_hw:
            maps += against(depth, np.where(simulated > 0, simulated, np.float32(np.nan)))
        with np.errstate(divide="ignore"):
            defocus = _defocus_of_stack(record, np.float32(-1) / depth, "blur_px_per_d", result.size_hw)
        return Estimate(method, tuple(maps), defocus, () if confidence is None else about(record), notes)

    yield estimate(method, read_map(folder / "depth_m.tiff", result.size_hw), sure)
    beside, network = record.get("method_beside"), record.get("model_beside")
    if isinstance(beside, str) and beside in ("blur", "sharpness", "argmax"):
        yield estimate(f"by {beside}", read_map(folder / f"depth_m_{beside}.tiff", result.size_hw), None)
    elif isinstance(network, str) and (name := f"depth_m_{network}.tiff") == Path(name).name:
        yield estimate(network, read_map(folder / name, result.size_hw), None)


def _defocus_of_stack(record: Mapping[str, Any], coordinate: FloatImage, key: str, size_hw: tuple[int, int]) -> Defocus:
    known = record.get(key)
    notes: tuple[str, ...] = ()
    if isinstance(known, int | float) and math.isfinite(known) and known > 0:
        px_per_unit = float(known)
    else:
        finite = coordinate[np.isfinite(coordinate)]
        spread = float(np.ptp(np.percentile(finite, (1, 99)))) if finite.size else 0.0
        px_per_unit = _UNKNOWN_SPREAD * max(size_hw) / max(spread, 1e-6)
        notes = (f"how large blur is, is not known: {_UNKNOWN_SPREAD:.0%} of the long side from near to far is taken",)
    f_number = record.get("f_number")
    number = float(f_number) if isinstance(f_number, int | float) and f_number > 0 else None
    if key == "blur_px_per_frame":
        notes += ("which end of the stack is near is not known: later frames are taken to be farther",)
        return Defocus("index", px_per_unit, number, notes=notes)
    return Defocus("minus_diopters", px_per_unit, number, 0.0, 0.0, -1.0, notes=notes)


def _of_one_size(results: list[ResultFolder]) -> list[ResultFolder]:
    for other in results[1:]:
        if other.size_hw != results[0].size_hw:
            raise DualpixError(
                f"'{other.folder}' is {other.size_hw[1]}x{other.size_hw[0]} px, '{results[0].folder}' "
                f"{results[0].size_hw[1]}x{results[0].size_hw[0]}",
                expected="results of one capture",
                hint="view them one by one",
            )
    return results


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    """What is wrong with the content of a ``depth.json`` is said in a line."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DualpixError(
            f"'{folder}' is damaged ({type(error).__name__}: {error})",
            expected="what `dualpix depth` wrote",
            hint="run it again",
        ) from error
