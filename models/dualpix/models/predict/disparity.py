"""From a decoded capture to a map of signed disparity, by a network or by semi-global matching, through one code path.

Convention: the result is ``x_right - x_left`` along the capture's baseline, in pixels of the decoded view and at its
size, > 0 behind the focus plane. Methods work on smaller pictures, the *working* views: one channel, square pixels,
baseline along x (a portrait capture is transposed there and back), long side about ``working_long_side_px``. Scaling a
picture down scales its disparities with it, so they are scaled back up by the factor along the baseline.

How sure each pixel is follows from the views and the map (:mod:`.confidence.evidence`, :mod:`.confidence.calibration`),
and what is wrong with a pair as a whole (:mod:`.confidence.halves`) is said beside it; neither changes a disparity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
import torch

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.profiles import gain_at
from dualpix.capture.profiles.profile import CameraProfile, ProfileError, may_be_one_camera
from dualpix.capture.stereo import SgbmSettings, ZnccSettings, match_sgbm, match_zncc
from dualpix.capture.types import CaptureMeta, DualPixelImage, FloatImage, LensModel
from dualpix.models.confidence.evidence import logit_of
from dualpix.models.networks.spec import confidence_output, first_output
from dualpix.models.predict.judge import Estimate, Judge
from dualpix.models.predict.sharp_picture import SharpResidual, residual_of, sharpened
from dualpix.models.predict.working import (
    WORKING_LONG_SIDE_PX,
    DisparityMap,
    MethodMap,
    WorkingViews,
    baseline_size,
    largest_within,
    to_view,
    working_size,
    working_views,
)
from dualpix.models.samples import SHARP
from dualpix.models.tasks.dual_pixel_affine import AFFINE
from dualpix.models.zoo import CONFIDENCE, ZOO, LoadedModel, read_calibration

NETWORK_PYRAMID = (1.0, 2 / 3)
"""Working sizes of a network, relative to the largest: chosen on Canon R6 II captures (not on Pixel 4 scenes), where
the blend of the two beats either alone; the coarse one sees more of the scene at a time."""
SMALLEST_SIDE_PX = 16
"""Below this a view holds nothing to match."""
Blend = Literal["mean", "median"]

Estimator = Callable[[WorkingViews], MethodMap]
"""A method: working views to disparity in working pixels, where it was measured, and how sure it says it is."""
_Padding = tuple[tuple[int, int], tuple[int, int]]
"""What is added above and below, and to the left and right."""
_NO_PADDING: _Padding = ((0, 0), (0, 0))
_SLACK = 1e-3
"""Beyond 0 and 1 that rounding may bring a learned confidence."""


def predict_disparity(
    image: DualPixelImage,
    model: LoadedModel,
    *,
    working_long_side_px: int | Sequence[int] | None = None,
    blend: Blend = "median",
) -> DisparityMap:
    """Disparity by a network.

    Args:
        image: a decoded capture.
        model: from :func:`dualpix.models.zoo.load_model`; its output must be ``disparity_px``.
        working_long_side_px: long side of the network's input, never more than the view's own. Several sizes give the
            blend of their results: a coarse one brings blur that is larger than any in training back into reach. By
            default 1008 px or the view's own size, and two thirds of that; of an exported program what fits into its
            size, once.
        blend: how several sizes are merged, pixel by pixel.

    Raises:
        DualpixError: the capture holds NaN or infinity or is too small, or the network gives no disparity.
    """
    check_gives_disparity(model)
    sizes = network_working_sizes(image, model) if working_long_side_px is None else working_long_side_px
    residuals: list[SharpResidual] = []
    found = run_estimator(image, network_estimator(model, residuals.append), model.name, sizes, blend)
    calibration, calibrated_for = model.calibration(len(found.result.scale), learned=found.learned is not None)
    judge = Judge(calibration, calibrated_for, "centre", model.trained_disparity_px, "that the network was trained on")
    judged = judge(image, found)
    if not residuals:
        return judged
    return replace(judged, sharp=sharpened(image, max(residuals, key=lambda residual: residual.added.size)))


def check_gives_disparity(model: LoadedModel) -> None:
    """Refuse a model whose maps are neither pixels nor made metres by any lens.

    Raises:
        DualpixError: it gives another kind of depth.
    """
    if model.spec.output != "disparity_px":
        affine = model.spec.output == AFFINE
        raise DualpixError(
            f"model '{model.name}' gives {model.spec.output}",
            expected="a model that gives disparity_px",
            hint="up to scale and offset it is scored by dualpix evaluate" if affine else "",
        )


def predict_affine(image: DualPixelImage, model: LoadedModel, *, working_long_side_px: int | None = None) -> FloatImage:
    """Inverse depth (H, W) of the view, up to scale and offset, by a network that gives no more.

    Args:
        image: a decoded capture.
        model: from :func:`dualpix.models.zoo.load_model`; its output must be ``inverse_depth_affine``.
        working_long_side_px: of the network's input; by default the largest of :func:`network_working_sizes`. One size:
            maps of several have scales and offsets of their own, and no mean.

    Raises:
        DualpixError: the capture holds NaN or infinity or is too small, or the network gives something else.
    """
    if model.spec.output != AFFINE:
        raise DualpixError(f"model '{model.name}' gives {model.spec.output}", expected=f"a model that gives {AFFINE}")
    size = network_working_sizes(image, model)[0] if working_long_side_px is None else working_long_side_px
    found = run_estimator(image, network_estimator(model), model.name, size, "median").result
    return found.disparity_px / np.float32(found.scale[0])  # no lengths in the picture: not to be scaled with it


def network_working_sizes(image: DualPixelImage, model: LoadedModel | None = None) -> tuple[int, ...]:
    """Long sides in px at which a network works by default, largest first; an exported program has one."""
    if model is not None and model.size_hw is not None:
        return (largest_within(image, model.size_hw),)
    largest = max(working_size(image, WORKING_LONG_SIDE_PX))
    return tuple(max(SMALLEST_SIDE_PX, round(largest * share)) for share in NETWORK_PYRAMID)


def match_disparity(
    image: DualPixelImage,
    settings: SgbmSettings | None = None,
    *,
    working_long_side_px: int | Sequence[int] = WORKING_LONG_SIDE_PX,
    blend: Blend = "median",
) -> DisparityMap:
    """Disparity by :func:`dualpix.capture.stereo.match_sgbm`; otherwise as :func:`predict_disparity`."""

    chosen = settings or SgbmSettings()
    found = run_estimator(image, sgbm_estimator(chosen), "sgbm", working_long_side_px, blend)
    calibration = read_calibration(ZOO / "sgbm" / CONFIDENCE, len(found.result.scale))
    return Judge(calibration, "sgbm", "left", chosen.reach_px, "that are searched")(image, found)


def sgbm_estimator(settings: SgbmSettings | None = None) -> Estimator:
    """Semi-global matching as a method."""
    return lambda views: MethodMap(*match_sgbm(views.left, views.right, settings))


def zncc_estimator(settings: ZnccSettings | None = None) -> Estimator:
    """Matching of blocks as a method."""
    return lambda views: MethodMap(*match_zncc(views.left, views.right, settings))


def estimate(
    image: DualPixelImage,
    estimator: Estimator,
    method: str,
    *,
    working_long_side_px: int | Sequence[int] = WORKING_LONG_SIDE_PX,
    blend: Blend = "median",
) -> DisparityMap:
    """Run any method at one or several working sizes and bring the result to the view's size and pixels.

    Raises:
        DualpixError: the capture holds NaN or infinity, or is too small; or the method gives no numbers.
    """
    return run_estimator(image, estimator, method, working_long_side_px, blend).result


def run_estimator(
    image: DualPixelImage, estimator: Estimator, method: str, sizes: int | Sequence[int], blend: Blend
) -> Estimate:
    """As :func:`estimate`, with the views and the spread of the sizes, by which the result is judged."""
    _check(image)
    sizes = [sizes] if isinstance(sizes, int) else list(sizes)
    if not sizes or min(sizes) < SMALLEST_SIDE_PX:
        raise DualpixError(f"working size {sizes}", expected=f"one or more of at least {SMALLEST_SIDE_PX} px")
    maps, masks, learned, shapes, scales = [], [], [], [], []
    finest: WorkingViews | None = None
    for size in dict.fromkeys(sizes):
        views = working_views(image, size)
        disparity, measured, confidence = estimator(views)
        _check_numbers(disparity, method, "disparities", "try other weights, or --method sgbm")
        maps.append(to_view(disparity, image))
        masks.append(None if measured is None else to_view(measured.astype(np.float32), image, factor=1.0) > 0.5)
        if confidence is not None:
            _check_shares(confidence, method)
            learned.append(to_view(logit_of(confidence), image, factor=1.0))
        shapes.append((disparity.shape[0], disparity.shape[1]))
        scales.append(baseline_size(image) / disparity.shape[1])
        finest = views if finest is None or views.left.size > finest.left.size else finest
    assert finest is not None  # noqa: S101 - there is a size
    known = [m for m in masks if m is not None]
    result = DisparityMap(
        _merged(maps, blend),
        np.logical_or.reduce(known) if known else None,
        method,
        tuple(shapes),
        tuple(scales),
    )
    spread_px = np.ptp(np.stack(maps), axis=0) if len(maps) > 1 else None
    return Estimate(result, finest, spread_px, _merged(learned, blend) if learned else None)


def _merged(maps: Sequence[FloatImage], blend: Blend) -> FloatImage:
    one = maps[0] if len(maps) == 1 else (np.median if blend == "median" else np.mean)(np.stack(maps), axis=0)
    return np.ascontiguousarray(one, dtype=np.float32)


def network_estimator(model: LoadedModel, on_sharp: Callable[[SharpResidual], None] = lambda found: None) -> Estimator:
    """The network as a method: pads the views by reflection to its size multiple and crops the result.

    Args:
        model: the network.
        on_sharp: is given what it adds to the picture, each time it runs, if it gives a sharp one.

    Raises:
        DualpixError: (of the method) a picture that holds NaN or infinity, or views that no program of its size takes.
    """

    def run(views: WorkingViews) -> MethodMap:
        height, width = views.left.shape
        pad = _padding((height, width), model)
        # a program is filled in after light was brought to its level, which what lies beside the picture has no say in
        before, after = (pad, _NO_PADDING) if model.size_hw is None else (_NO_PADDING, pad)
        with torch.inference_mode():
            batch = {
                name: _to_tensor(np.pad(view, (*before, (0, 0))[: view.ndim], mode="reflect"))
                for name, view in (("left", views.left), ("right", views.right), ("combined", views.combined))
            }
            inputs = tuple(_filled(given, after) for given in model.spec.inputs_of(batch))
            outputs = model.module(*inputs)

        def cropped(values: torch.Tensor) -> FloatImage:
            return np.asarray(values[0, 0, :height, :width].float().numpy())

        if SHARP in model.spec.further_outputs:
            image = inputs[model.spec.input_names.index("image")]
            found = residual_of(outputs[model.spec.outputs.index(SHARP)], image, batch, (height, width))
            _check_numbers(found.added, model.name, "values of the sharp picture")
            on_sharp(found)
        confidence = confidence_output(outputs)
        return MethodMap(cropped(first_output(outputs)), None, None if confidence is None else cropped(confidence))

    return run


def _filled(given: torch.Tensor, pad: _Padding) -> torch.Tensor:
    """(1, C, H, W) with reflections below and to the right."""
    if pad == _NO_PADDING:
        return given
    return torch.from_numpy(np.pad(given.numpy(), ((0, 0), (0, 0), *pad), mode="reflect"))


def _padding(size_hw: tuple[int, int], model: LoadedModel) -> _Padding:
    """What to add below and to the right."""
    (height, width), multiple = size_hw, model.spec.size_multiple
    if model.size_hw is None:
        return (0, -height % multiple), (0, -width % multiple)
    most_h, most_w = model.size_hw
    if height > most_h or width > most_w:
        raise DualpixError(
            f"working views of {height} x {width} px for '{model.name}', a program of {most_h} x {most_w} px",
            expected="no working size with it: it has one",
        )
    return (0, most_h - height), (0, most_w - width)


def lens_of(meta: CaptureMeta) -> LensModel | list[str]:
    """The lens a capture was taken with, or the names of the data that are missing for metric depth.

    Raises:
        DualpixError: all are known, but no such lens can be.
    """
    needed = ("focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um", "disparity_gain")
    values = {name: getattr(meta, name) for name in needed}
    missing = [name for name, value in values.items() if value is None]
    return missing or optics.check_lens(LensModel(**values))


def with_profile(meta: CaptureMeta, profile: CameraProfile, view_width_px: int) -> CaptureMeta:
    """What a capture says of itself, with the camera's measured disparity gain, and its lens where the file is silent.

    Args:
        meta: of the capture.
        profile: of the camera that took it.
        view_width_px: of the decoded view as the sensor lies; its pixels are what the pitch is of.

    Raises:
        ProfileError: the profile is of another camera, or its gain was never measured.
    """
    if not may_be_one_camera(profile.camera, meta.camera):
        raise ProfileError(f"the profile is of a '{profile.camera}'", expected=f"'{meta.camera}' as the capture")
    if profile.disparity_gain is None:
        raise ProfileError("the profile has no gain", hint="measure it on planes: dualpix calibrate gain")
    gain = profile.gain
    pitch_um = gain.pixel_pitch_um * gain.view_width_px / view_width_px if gain and gain.pixel_pitch_um else None
    f_number = meta.f_number or profile.f_number
    return replace(
        meta,
        focal_length_mm=meta.focal_length_mm or profile.focal_length_mm,
        f_number=f_number,
        focus_distance_m=meta.focus_distance_m or profile.focus_distance_m,
        pixel_pitch_um=meta.pixel_pitch_um or pitch_um,
        disparity_gain=profile.disparity_gain if f_number is None else gain_at(profile, f_number),
    )


def metric_depth(disparity_px: FloatImage, lens: LensModel, relative_gain: FloatImage | None = None) -> FloatImage:
    """Depth (H, W) in m from the lens; infinity where the disparity reaches that of infinitely far points.

    Args:
        disparity_px: (H, W), of a whole view.
        lens: with the mean disparity gain.
        relative_gain: (rows, columns), the gain's course over the view, 1 = the lens's; a profile's ``gain.relative``.
    """
    even = disparity_px.astype(np.float64)
    if relative_gain is not None:
        even /= cv2.resize(relative_gain, disparity_px.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(optics.depth_m(even, lens), np.float32)


def _check(image: DualPixelImage) -> None:
    for name in ("left", "right", "combined"):
        bad = int(np.count_nonzero(~np.isfinite(getattr(image, name))))
        if bad:
            raise DualpixError(f"{bad} pixels of the {name} view are NaN or infinite", expected="finite linear values")
    if min(image.size_hw) < SMALLEST_SIDE_PX:
        size = f"{image.size_hw[1]} x {image.size_hw[0]} px"
        raise DualpixError(f"the views are only {size}", expected=f"at least {SMALLEST_SIDE_PX} px either way")


def _check_numbers(values: FloatImage, method: str, what: str, hint: str = "try other weights") -> None:
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise DualpixError(
            f"'{method}' gives {bad} {what} of this capture that are NaN or infinite", expected="finite ones", hint=hint
        )


def _check_shares(confidence: FloatImage, method: str) -> None:
    if not (confidence.min() >= -_SLACK and confidence.max() <= 1 + _SLACK):  # false of NaN as well
        low, high = float(confidence.min()), float(confidence.max())
        raise DualpixError(
            f"'{method}' gives confidences of {low:.3g} to {high:.3g} of this capture",
            expected="0 to 1: the network's second output",
            hint="of a logit take the sigmoid; leave out another map that comes second",
        )


def _to_tensor(view: FloatImage) -> torch.Tensor:
    """(H, W) or (H, W, 3) -> (1, C, H, W)."""
    channels = view[None] if view.ndim == 2 else view.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(channels))[None]
