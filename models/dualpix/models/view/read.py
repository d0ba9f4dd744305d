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
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN, check_lens, disparity_px_per_diopter
from dualpix.capture.pictures.colour_map import SURE, Rgb, Scale, default_limits
from dualpix.capture.pictures.display import square_pixels, to_display
from dualpix.capture.pictures.points import pinhole_of
from dualpix.capture.raw import RawCapture
from dualpix.capture.raw.batch.inputs import Job
from dualpix.capture.raw.batch.jobs import DecodeOptions
from dualpix.capture.raw.containers.images import read_picture
from dualpix.capture.raw.develop.naming import FocusedOn
from dualpix.capture.rgbd.arrays import read_depth_file
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.stack.look import shown
from dualpix.capture.types import Baseline, FloatImage, LensModel
from dualpix.models.stacks.reading import read_aligned, simulated_truth
from dualpix.models.stacks.truth import read_truth
from dualpix.models.view.codes import Digits
from dualpix.models.view.find import ResultFolder, Subject
from dualpix.models.view.scene import Defocus, Estimate, MapName, Picture, Scene, ValueMap

_LENS = ("focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um", "disparity_gain")
_UNKNOWN_SPREAD = 0.02
"""Of the long side: the blur of the farthest from the nearest thing where nothing says how large it is."""
_FRAME_LONG_SIDE_PX = 1280
_BRIGHT_PERCENTILE, _BRIGHT = 99.0, 0.85
_DISPARITY = Digits("fixed", 3)
_DEPTH = Digits("significant", 4)
_MOST_NOTES = 40
_LARGEST = 1e6
"""Of a disparity in px: no view is wider."""
_NEAREST_M = 1e-4
"""Less is no depth; its diopters would have no end."""


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
    return replace(scene, estimates=_on_one_scale(estimates), pinhole=pinhole)


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
            facts=_facts(meta, {"decoder": capture.decoder}),
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
            facts=_facts(meta, {"decoder": record.get("decoder")}), notes=(note,),
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
    disparity = _read_map(folder / "disparity_px.tiff", result.size_hw)
    sure = _read_map(folder / "confidence.tiff", result.size_hw)
    trusted = sure >= SURE
    maps = [_value_map("disparity", "disparity", disparity, trusted, "px", "diverging", _DISPARITY)]
    if (folder / "depth_m.tiff").is_file():
        depth = _read_map(folder / "depth_m.tiff", result.size_hw)
        maps.append(_value_map("depth", "depth from the lens", depth, trusted, "m", "depth", _DEPTH))
    maps.append(_confidence_map(sure))
    if truth is not None:
        maps += _judged(maps, truth, result.size_hw)
    lens = _lens_of(record)
    sharp = None
    if (folder / "sharp.png").is_file():
        sharp = Picture("sharp", f"sharp, {record['method']}", _read_rgb(folder / "sharp.png", scene.square_hw))
    defocus = _defocus_of_pair(lens, record["meta"], own_blur=sharp is None)
    notes = [str(finding["text"]) for finding in record.get("findings") or ()]
    return Estimate(str(record["method"]), tuple(maps), defocus, _about(record), tuple(notes[:_MOST_NOTES]), sharp)


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
        picture = Picture("picture", "in focus everywhere", _read_rgb(first.folder / "all_in_focus.png", first.size_hw))
    facts = (("frames", str(first.record.get("frames", "?"))), ("focus distances", _distances_text(first.record)))
    return Scene(
        subject.name, "stack", first.size_hw, picture=picture, views=views, estimates=_on_one_scale(tuple(estimates)),
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
        index = _read_map(folder / "focus_index.tiff", result.size_hw)
        label = "number of the sharpest frame"
        maps = [_value_map("focus_index", label, index, trusted, "", "sequential", Digits("fixed", 2))]
        defocus = _defocus_of_stack(record, index, "blur_px_per_frame", result.size_hw)
        yield Estimate(method, (*maps, _confidence_map(sure)), defocus, _about(record), notes)
        return

    def estimate(method: str, depth: FloatImage, confidence: FloatImage | None) -> Estimate:
        maps = [_value_map("depth", "depth from the lens", depth, trusted, "m", "depth", _DEPTH)]
        if confidence is not None:
            maps.append(_confidence_map(confidence))
        if truth is not None:
            maps += _judged(maps, truth, result.size_hw)
        elif simulated is not None and simulated.shape == result.size_hw:
            maps += _against(depth, np.where(simulated > 0, simulated, np.float32(np.nan)))
        with np.errstate(divide="ignore"):
            defocus = _defocus_of_stack(record, np.float32(-1) / depth, "blur_px_per_d", result.size_hw)
        return Estimate(method, tuple(maps), defocus, () if confidence is None else _about(record), notes)

    yield estimate(method, _read_map(folder / "depth_m.tiff", result.size_hw), sure)
    beside, network = record.get("method_beside"), record.get("model_beside")
    if isinstance(beside, str) and beside in ("blur", "sharpness", "argmax"):
        yield estimate(f"by {beside}", _read_map(folder / f"depth_m_{beside}.tiff", result.size_hw), None)
    elif isinstance(network, str) and (name := f"depth_m_{network}.tiff") == Path(name).name:
        yield estimate(network, _read_map(folder / name, result.size_hw), None)


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


def _judged(maps: list[ValueMap], truth: Path, size_hw: tuple[int, int]) -> list[ValueMap]:
    """A truth from a file, and the error against it: of depth, or of disparity where there are no metres."""
    depth = next((known for known in maps if known.name == "depth"), None)
    if depth is not None:
        true = read_truth(truth, size_hw).depth_m
        return _against(depth.values, np.where(true > 0, true, np.float32(np.nan)))
    true = _read_map(truth, size_hw)
    disparity = maps[0].values
    error = disparity - true
    return [
        replace(maps[0], name="truth", label="true disparity", values=true),
        _value_map("error", "disparity - truth", error, ~np.isnan(error), "px", "diverging", _DISPARITY),
    ]


def _against(depth_m: FloatImage, true_m: FloatImage) -> list[ValueMap]:
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.asarray(1 / np.where(depth_m >= _NEAREST_M, depth_m, np.nan) - 1 / true_m, np.float32)
    known = ~np.isnan(true_m)
    if not known.any():
        raise DualpixError("the truth is empty", expected="depths above 0")
    label = "error in diopters (> 0: too near)"
    return [
        _value_map("truth", "true depth", true_m, known, "m", "depth", _DEPTH),
        _value_map("error", label, error, ~np.isnan(error), "1/m", "diverging", Digits("fixed", 4)),
    ]


def _value_map(
    name: MapName, label: str, values: FloatImage, valid: npt.NDArray[np.bool_], unit: str, scale: Scale, digits: Digits
) -> ValueMap:
    limits = default_limits(values, valid if valid.any() else None, scale)
    return ValueMap(name, label, values, unit, scale, digits, limits)


def _confidence_map(values: FloatImage) -> ValueMap:
    return ValueMap("confidence", "confidence", values, "", "sequential", Digits("fixed", 3), (0.0, 1.0))


def _on_one_scale(estimates: tuple[Estimate, ...]) -> tuple[Estimate, ...]:
    """The methods' maps with the colours of the first one: the same colour is the same value."""
    limits: dict[str, tuple[float, float]] = {}
    for estimate in estimates:
        for known in estimate.maps:
            limits.setdefault("depth" if known.name == "truth" and known.unit == "m" else known.name, known.limits)
    return tuple(
        replace(
            estimate,
            maps=tuple(
                replace(known, limits=limits["depth" if known.name == "truth" and known.unit == "m" else known.name])
                for known in estimate.maps
            ),
        )
        for estimate in estimates
    )


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


def _read_map(path: Path, size_hw: tuple[int, int]) -> FloatImage:
    values = read_depth_file(path)
    if values.shape != size_hw or values.dtype.kind != "f":
        raise DualpixError(
            f"'{path}' is {values.dtype} {'x'.join(map(str, values.shape[::-1]))}",
            expected=f"floats, {size_hw[1]}x{size_hw[0]}",
        )
    finite = values[np.isfinite(values)]
    if not path.name.startswith("depth_m") and finite.size and np.abs(finite).max() > _LARGEST:
        raise DualpixError(f"'{path}' holds {np.abs(finite).max():.3g}", expected=f"values up to {_LARGEST:g}")
    return np.asarray(values, np.float32)


def _read_rgb(path: Path, size_hw: tuple[int, int]) -> Rgb:
    rgb = read_picture(path)
    if rgb.dtype != np.uint8 or rgb.shape[:2] != size_hw:
        raise DualpixError(f"'{path}' is {rgb.dtype} {rgb.shape}", expected=f"8 bits, {size_hw[1]}x{size_hw[0]}")
    return np.ascontiguousarray(np.broadcast_to(rgb.reshape(*size_hw, -1)[..., :3], (*size_hw, 3)))


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


_FACT_NAMES = {
    "camera": "camera", "lens_model": "lens", "date_time": "taken", "iso": "ISO", "exposure_s": "exposure, s",
    "f_number": "f-number", "focal_length_mm": "focal length, mm", "focus_distance_m": "focus distance, m",
    "pixel_pitch_um": "pixel pitch of the view, um", "disparity_gain": "disparity gain", "pixel_aspect": "pixel aspect",
}  # fmt: skip


def _facts(meta: Mapping[str, Any], more: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What is known of a shot, as pairs of name and value."""
    known = [
        (label, meta.get(key)) for key, label in _FACT_NAMES.items() if (key, meta.get(key)) != ("pixel_aspect", 1)
    ]
    provenance = meta.get("provenance")
    if isinstance(provenance, dict):
        known += [(str(key).replace("_", " "), value) for key, value in provenance.items()]
    known += list(more.items())
    return tuple((label, _fact(value)) for label, value in known if value not in (None, ""))


def _about(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What is known of a result."""
    known: list[tuple[str, Any]] = [("method", record["method"])]
    if str(record.get("model")) not in str(record["method"]):
        known.append(("model", record.get("model")))
    share = record.get("measured_fraction")
    if isinstance(share, int | float):
        known.append(("measured", f"{share:.1%}"))
    depth = record.get("depth")
    if isinstance(depth, dict) and depth.get("metric") is False:
        known.append(("no metres, missing", ", ".join(map(str, depth.get("missing") or ()))))
    error = record.get("error")
    if isinstance(error, dict):
        errors = {name.replace("_", " "): e.get("mae_d") for name, e in error.items() if isinstance(e, dict)}
        known += [(f"mean error of the {name}, 1/m", mean) for name, mean in errors.items()]
    known.append(("time of the method, s", record.get("seconds")))
    versions = record.get("versions")
    if isinstance(versions, dict):
        known.append(("versions", ", ".join(f"{name} {value}" for name, value in versions.items())))
    return tuple((label, _fact(value)) for label, value in known if value not in (None, ""))


def _fact(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text[:400]


def _distances_text(record: Mapping[str, Any]) -> str:
    distances = record.get("focus_distance_m") or ()
    return ", ".join(f"{d:.4g}" if isinstance(d, float) else str(d) for d in distances) + (" m" if distances else "")
