"""Carrying out ``dualpix depth`` of dual-pixel captures, once what is asked has been looked at."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from rich.markup import escape
from rich.table import Table

from dualpix.capture.command.terminal import figures_table
from dualpix.capture.files import atomic_dir, make_output_dir, write_json
from dualpix.capture.pictures.colour_map import depth_picture, disparity_picture, save_picture
from dualpix.capture.pictures.depth_files import DepthPicture, Format, write_depth_files
from dualpix.capture.pictures.display import Pixel, square_pixels, to_display
from dualpix.capture.pictures.points import pinhole_of, write_ply
from dualpix.capture.profiles import profile_names
from dualpix.capture.profiles.profile import CameraProfile
from dualpix.capture.raw import RawCapture
from dualpix.capture.raw.batch.jobs import Batch, DecodeOptions, Job, Outcome, run_jobs
from dualpix.capture.raw.batch.resume import with_requests
from dualpix.capture.raw.write.metadata import exif_tags, picture_tags, pitch_xy_um
from dualpix.capture.raw.write.writers import Coding, write_tiff
from dualpix.capture.types import DualPixelImage, LensModel
from dualpix.models.confidence import CONFIDENT
from dualpix.models.predict.asked import Asked
from dualpix.models.predict.disparity import (
    check_gives_disparity,
    lens_of,
    match_disparity,
    metric_depth,
    predict_disparity,
    with_profile,
)
from dualpix.models.predict.judge import LITTLE
from dualpix.models.predict.metres import MetricDepth, measured_depth
from dualpix.models.predict.working import WORKING_LONG_SIDE_PX, DisparityMap, Judgement
from dualpix.models.zoo.programs import load_any

SIDECAR = "depth.json"
SHARP_PICTURE = "sharp.tiff"
POINTS = "points.ply"
_SHOWN_PERCENTILES = (1, 50, 99)

Method = Callable[[DualPixelImage], DisparityMap]


def run_captures(asked: Asked, *, resume: bool, strict: bool, tell_warnings: bool = True) -> list[Outcome]:
    """Find and write the depth of each capture, as ``OUTPUT/NAME/``.

    Args:
        asked: what and how.
        resume: skip those whose result is there.
        strict: let the first error through.
        tell_warnings: print those of each capture; else the caller does.

    Raises:
        DualpixError: the model does not load, the folder cannot be written, or with ``strict`` what is wrong with a
            capture.
    """
    run = _method(asked)
    request: dict[str, Any] = {
        "method": asked.method,
        "model": Path(asked.model) if Path(asked.model).exists() else asked.model,
        "working_size": asked.working_sizes_px,
        "profile": asked.profile,
        "points": asked.points,
    }
    request |= {"also": asked.also} if asked.also else {}  # not in older results, which are as good without
    jobs = with_requests(asked.jobs, {**asdict(asked.options), **asked.lens, **request})
    make_output_dir(asked.output)

    def process(job: Job) -> dict[str, Any]:
        return depth_of(job, asked.options, run, asked.lens, asked.camera, points=asked.points, also=asked.also)

    batch = Batch(resume=resume)
    return run_jobs(
        "depth", jobs, process, sidecar=SIDECAR, batch=batch, stop_at_once=strict, tell_warnings=tell_warnings
    )


def depth_of(
    job: Job,
    options: DecodeOptions,
    method: Method,
    lens: Mapping[str, Any],
    profile: CameraProfile | None = None,
    *,
    points: bool = False,
    also: Sequence[Format] = (),
) -> dict[str, Any]:
    """Decode one capture, estimate its disparity, and write the result folder.

    Args:
        job: the capture and the folder to write.
        options: how to decode it.
        method: decoded views to disparity.
        lens: fields of :class:`~dualpix.capture.types.CaptureMeta` that replace what the file says.
        profile: of the camera, for its disparity gain over the field and what the file does not say of the lens.
        points: write them as well, where there are metres.
        also: files for other programs, where there are metres.

    Returns:
        The content of ``depth.json``.

    Raises:
        DualpixError: the capture cannot be decoded or matched, the lens is impossible, or the folder cannot be written.
    """
    capture = options.decode(job)
    meta = replace(capture.meta, **lens)
    if profile is not None:  # knows the gain at this aperture; what the user gave stands
        meta = replace(with_profile(meta, profile, capture.size_hw[1]), **lens)
    capture = replace(capture, meta=meta)
    image = capture.image  # developed once
    lens_or_missing = lens_of(image.meta)
    started = time.perf_counter()
    result = method(image)
    seconds = time.perf_counter() - started
    record = _record(job, capture, result, seconds)
    with atomic_dir(job.folder, SIDECAR) as folder:
        unit = f"{image.baseline}_right - {image.baseline}_left in px, > 0 behind the focus plane"
        _write_tiff(folder / "disparity_px.tiff", result.disparity_px, unit)
        _write_tiff(folder / "confidence.tiff", result.judged.confidence, record["confidence"]["meaning"])
        shown = _Shown(image)
        picture = disparity_picture(
            shown.of(result.disparity_px),
            title="disparity (blue: behind the focus plane; grey: unsure)",
            confidence=shown.of(result.judged.confidence),
        )
        save_picture(folder / "disparity.png", picture)
        if result.sharp is not None:
            record["sharp"] = _write_sharp(folder, capture, result, shown)
        record["depth"], depth = _write_depth(folder, result, lens_or_missing, profile, shown)
        record["findings"] += [asdict(finding) for finding in depth.findings] if depth else []
        if points:
            record["points"] = _write_points(folder, capture, result, lens_or_missing, depth)
            if not record["points"]["count"]:
                record["findings"].append({"code": "no_points", "text": _no_points(record["depth"])})
        if also:
            shown_depth = _depth_picture(capture, result, lens_or_missing, depth)
            record["files"], lacking = write_depth_files(folder, also, shown_depth)
            record["findings"] += [{"code": "not_written", "text": text} for text in lacking]
        write_json(folder / SIDECAR, record)
    return record


def _write_sharp(folder: Path, capture: RawCapture, result: DisparityMap, shown: _Shown) -> dict[str, Any]:
    """The picture in focus everywhere, coded as ``dualpix decode`` codes a view, and once more for people."""
    assert result.sharp is not None  # noqa: S101 - the caller looked
    coding, meta = Coding(16), capture.meta
    tags = picture_tags(meta, f"full aperture, in focus everywhere; {coding.meaning}")
    exif = exif_tags(meta, pitch_xy_um(meta, capture.baseline), srgb=False)
    aspect = meta.pixel_aspect if capture.baseline == "x" else 1 / meta.pixel_aspect
    write_tiff(folder / SHARP_PICTURE, result.sharp, coding, picture=tags, exif=exif, aspect=aspect)
    save_picture(folder / "sharp.png", to_display(shown.of(result.sharp), white_balance=_balance(capture)))
    finest = max(result.working_size_hw)
    return {
        "file": SHARP_PICTURE,
        "codes": coding.meaning,
        "restored_at_hw": list(finest),
        "clipped_fraction": round(float((result.sharp > 1).mean()), 6),
    }


def _method(asked: Asked) -> Method:
    sizes = asked.working_sizes_px
    if asked.method == "sgbm":
        return lambda image: match_disparity(image, working_long_side_px=sizes or WORKING_LONG_SIDE_PX)
    loaded = load_any(asked.model)
    check_gives_disparity(loaded)
    return lambda image: predict_disparity(image, loaded, working_long_side_px=sizes or None)


class _Shown:
    """Maps as people see them: with square pixels."""

    def __init__(self, image: DualPixelImage) -> None:
        self._image = image

    def of(self, values: npt.NDArray[Pixel]) -> npt.NDArray[Pixel]:
        return square_pixels(values, self._image.meta.pixel_aspect, self._image.baseline)


def _write_depth(
    folder: Path, result: DisparityMap, lens: LensModel | list[str], profile: CameraProfile | None, shown: _Shown
) -> tuple[dict[str, Any], MetricDepth | None]:
    """Write the metric depth if the lens is known; either way say what is."""
    if not isinstance(lens, LensModel):
        return {"metric": False, "missing": lens, "hint": _hint(lens, profile)}, None
    field = profile.gain.relative if profile is not None and profile.gain is not None else None
    depth = measured_depth(result, metric_depth(result.disparity_px, lens, field), lens, field)
    known = depth.depth_m[depth.measured]
    unit = "depth from the lens in m; inf at and beyond the disparity of infinity, NaN where not measured"
    _write_tiff(folder / "depth_m.tiff", depth.depth_m, unit)
    unit = "68 % of the depths are within this, in diopters (1/m); NaN where not measured"
    _write_tiff(folder / "depth_uncertainty_d.tiff", depth.uncertainty_d, unit)
    save_picture(
        folder / "depth.png", depth_picture(shown.of(depth.depth_m), title="depth from the lens (grey: unsure)")
    )
    record = {
        "metric": True,
        "lens": {k: v if np.isfinite(v) else "inf" for k, v in asdict(lens).items()},
        "measured_fraction": _fraction(depth.measured),
        "percentiles_m": _percentiles(known[np.isfinite(known)]),
        "uncertainty_percentiles_d": _percentiles(depth.uncertainty_d[depth.measured]),
        "gain_over_field": field is not None,
        "infinite_fraction": _fraction(np.isinf(known)),
    }
    return record, depth


def _write_points(
    folder: Path, capture: RawCapture, result: DisparityMap, lens: LensModel | list[str], depth: MetricDepth | None
) -> dict[str, Any]:
    """Where the measured pixels lie in space, with the picture's colours and how sure they are."""
    if depth is None or not isinstance(lens, LensModel):
        return {"count": 0}
    chosen = depth.measured & np.isfinite(depth.depth_m)
    if not chosen.any():
        return {"count": 0}
    pinhole = pinhole_of(lens, capture.size_hw, capture.meta.pixel_aspect, capture.baseline)
    picture = to_display(capture.image.combined, white_balance=_balance(capture))
    about = (
        "x right, y down, z from the lens, in m; confidence 0 to 1",
        f"fx {pinhole.fx_px:.4f} fy {pinhole.fy_px:.4f} cx {pinhole.cx_px:g} cy {pinhole.cy_px:g} px",
    )
    points = pinhole.points(depth.depth_m, chosen)
    write_ply(folder / POINTS, points, picture[chosen], result.judged.confidence[chosen], about)
    return {"file": POINTS, "count": len(points), **asdict(pinhole)}


def _depth_picture(
    capture: RawCapture, result: DisparityMap, lens: LensModel | list[str], depth: MetricDepth | None
) -> DepthPicture | None:
    if depth is None or not isinstance(lens, LensModel):
        return None
    light, aspect = result.sharp if result.sharp is not None else capture.image.combined, capture.meta.pixel_aspect
    rgb = to_display(light, white_balance=_balance(capture))
    if light.ndim == 3 and (balance := _balance(capture)) is not None:
        light = light * np.asarray(balance, np.float32)
    return DepthPicture(
        depth.depth_m, result.judged.confidence, depth.measured, light, rgb,
        pinhole_of(lens, capture.size_hw, aspect, capture.baseline),
        1 / aspect if capture.baseline == "x" else aspect,
    )  # fmt: skip


def _no_points(depth: Mapping[str, Any]) -> str:
    if depth["metric"]:
        return "no points were written: nothing has metres that are sure"
    return f"no points were written, which need metres: {', '.join(depth['missing'])} are not known"


def _balance(capture: RawCapture) -> tuple[float, float, float] | None:
    return (1.0, 1.0, 1.0) if capture.colour == "srgb" else capture.views.white_balance


def _hint(missing: list[str], profile: CameraProfile | None) -> str:
    """How the lens data that nobody stated can be given."""
    options = "give them as options: " + " ".join(map(_option, missing))
    if profile is not None:
        return options
    return f"{options}; --profile gives what it knows of the camera: {', '.join(profile_names())}, or a file"


def _record(job: Job, capture: RawCapture, result: DisparityMap, seconds: float) -> dict[str, Any]:
    height, width = capture.size_hw
    axis = capture.baseline
    return {
        "kind": "disparity_px",
        "inputs": [path.name for path in job.files],
        "request": dict(job.request or {}),
        "decoder": capture.decoder,
        "meta": capture.meta.to_json(),
        "method": result.method,
        "baseline": axis,
        "sign": f"{axis}_right - {axis}_left > 0 behind the focus plane",
        "size": {"width": width, "height": height},
        "working_sizes_hw": [list(size) for size in result.working_size_hw],
        "view_px_per_working_px": list(result.scale),
        "measured_fraction": _fraction(result.judged.measured),
        "disparity_percentiles_px": _percentiles(result.disparity_px[result.judged.measured]),
        "confidence": _confidence(result.judged),
        "findings": [asdict(finding) for finding in result.judged.findings],
        "seconds": round(seconds, 3),
        "warnings": list(capture.warnings),
        "versions": {"dualpix": version("dualpix"), "torch": version("torch"), "opencv": version("opencv-python")},
    }


def _confidence(judged: Judgement) -> dict[str, Any]:
    """What the confidence means, and how the method's reach stands to the picture."""
    allowed, reach_px = judged.tolerance, judged.reach_px
    within = f"{allowed.px:.3g} px + {allowed.relative:.0%} of the truth"
    return {
        "meaning": f"share of pixels of such evidence whose disparity is within {within}",
        "tolerance": {"px": round(allowed.px, 6), "relative": allowed.relative},
        "measured_from": CONFIDENT,
        "mean": round(float(judged.confidence.mean()), 6),
        "calibrated_for": judged.calibrated_for,
        "reach_px": [round(-reach_px, 4), round(reach_px, 4)],
        "beyond_reach_fraction": round(judged.beyond_reach, 6),
    }


def _write_tiff(path: Path, values: npt.NDArray[np.float32], meaning: str) -> None:
    tifffile.imwrite(path, values, photometric="minisblack", description=meaning, software="dualpix", metadata=None)


def _percentiles(values: npt.NDArray[np.float32]) -> dict[str, float] | None:
    if not values.size:
        return None
    found = np.percentile(values, _SHOWN_PERCENTILES)
    return {f"p{p}": round(float(value), 4) for p, value in zip(_SHOWN_PERCENTILES, found, strict=True)}


def _fraction(mask: npt.NDArray[np.bool_]) -> float:
    return round(float(mask.mean()), 6) if mask.size else 0.0


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def table(outcomes: Sequence[Outcome]) -> Table:
    """What was found, for people; below it, what :func:`below_text` says."""
    percentiles = " / ".join(f"p{p}" for p in _SHOWN_PERCENTILES)
    methods = {outcome.record["method"] for outcome in outcomes if outcome.record}
    title = " and ".join(sorted(methods)) or None
    heads = ("measured", f"disparity px\n{percentiles}", f"depth m\n{percentiles}", "s")
    rows = figures_table(*heads, names=("file", "result"), title=title)
    for outcome in outcomes:
        record = outcome.record
        if record is None:
            rows.add_row(escape(outcome.job.path.name), "", "", "", "", "[red]failed[/red]")
            continue
        depth = record["depth"]
        shown = _joined(depth["percentiles_m"]) if depth["metric"] else f"{len(depth['missing'])} lens data missing"
        rows.add_row(
            escape(outcome.job.path.name),
            f"{record['measured_fraction']:.0%}",
            _joined(record["disparity_percentiles_px"]),
            shown,
            f"{record['seconds']:.1f}",
            escape(str(outcome.job.folder)),
        )
    return rows


def below_text(outcomes: Sequence[Outcome]) -> str:
    """One line for each thing that a user must know, after the measured share where that is small."""
    lines = []
    for outcome in outcomes:
        record = outcome.record or {}
        share = record.get("measured_fraction", 1.0)
        little = "nothing is measured: " if share == 0 else f"only {share:.1%} is measured: " if share < LITTLE else ""
        for finding in record.get("findings", []):
            lines.append(f"{outcome.job.path.name}: {little}{finding['text']}")
            little = ""
    return "\n".join(lines)


def _joined(percentiles: dict[str, float] | None) -> str:
    return " / ".join(f"{v:.3g}" for v in percentiles.values()) if percentiles else "none measured"
