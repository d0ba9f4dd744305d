"""``dualpix depth``: signed disparity of dual-pixel captures, and metric depth where the lens data allow it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import numpy.typing as npt
import tifffile
from rich.console import Console
from rich.table import Column, Table

from dualpix.capture.calibrate.profile import CameraProfile
from dualpix.capture.colour_map import depth_picture, disparity_picture, save_picture
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_dir, make_output_dir, write_json
from dualpix.capture.lens_options import LensNumber
from dualpix.capture.picture import Pixel, square_pixels
from dualpix.capture.profiles import load_profile, profile_names
from dualpix.capture.raw import RawCapture
from dualpix.capture.raw.jobs import (
    Batch,
    DecodeOptions,
    Job,
    Outcome,
    decode_options,
    jobs_of,
    resume_option,
    run_jobs,
)
from dualpix.capture.raw.resume import with_requests
from dualpix.capture.stack.focus_depth import Method as StackMethod
from dualpix.capture.terminal import echo_json
from dualpix.capture.types import DualPixelImage, LensModel
from dualpix.models import stack_depth
from dualpix.models.confidence import CONFIDENT
from dualpix.models.halves import Finding
from dualpix.models.judge import LITTLE
from dualpix.models.metres import measured_depth
from dualpix.models.predict import (
    WORKING_LONG_SIDE_PX,
    DisparityMap,
    lens_of,
    match_disparity,
    metric_depth,
    predict_disparity,
    with_profile,
)
from dualpix.models.stack_depth import StackOptions, is_stack, run_stacks
from dualpix.models.working import Judgement
from dualpix.models.zoo import DEFAULT_MODEL, load_model

SIDECAR = "depth.json"
_FILE = click.Path(path_type=Path)
_LENS_FIELDS = ("focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um", "disparity_gain")
_SHOWN_PERCENTILES = (1, 50, 99)

Method = Callable[[DualPixelImage], DisparityMap]


@click.command("depth")
@click.argument("files", nargs=-1, type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Folder; each capture becomes a folder in it.")
@click.option("--model", default=DEFAULT_MODEL, help="A shipped network's name, or a folder with card and weights.")
@click.option("--method", type=click.Choice(["network", "sgbm"]), default="network", help="sgbm: classical matching.")
@click.option(
    "--working-size", type=click.IntRange(min=32), multiple=True,
    help="Long side in px at which the method works; several give the median of their results. "
    "Default: 1008, networks 672 as well.",
)  # fmt: skip
@click.option("--left", type=_FILE, help="Left file of a pair whose names do not tell.")
@click.option("--right", type=_FILE, help="Right file of a pair: with --left, or with one left FILE.")
@click.option("--sub", type=_FILE, help="The second frame's own DNG, with one FILE.")
@decode_options
@click.option(
    "--focal-length-mm", type=LensNumber("focal_length_mm"),
    help="Lens data that the file lacks or has wrong; all five give depth.",
)  # fmt: skip
@click.option("--f-number", type=LensNumber("f_number"), help="Aperture number N; of a stack, which of its apertures.")
@click.option(
    "--focus-distance-m", type=LensNumber("focus_distance_m"),
    help="From the lens to the plane in focus; 'inf' is allowed.",
)  # fmt: skip
@click.option("--pixel-pitch-um", type=LensNumber("pixel_pitch_um"), help="Of the decoded view, along the baseline.")
@click.option(
    "--profile", help="Of the camera: one of `dualpix calibrate`, or the name of a shipped one. Gives the gain."
)
@click.option(
    "--disparity-gain", type=LensNumber("disparity_gain"),
    help="Disparity per circle of confusion; ideal 0.424, Pixel 4 0.21.",
)  # fmt: skip
@click.option(
    "--stack-method", type=click.Choice(get_args(StackMethod)), default="blur",
    help="Of focus stacks: by the blur of every frame, the peak of sharpness, or the sharpest frame.",
)  # fmt: skip
@click.option(
    "--truth", type=_FILE, help="Depth of one stack, m as floats or mm as integers (0: unknown): prints the error."
)
@resume_option
@click.option("--json", "as_json", is_flag=True, help="Results as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    files: tuple[Path, ...],
    output: Path,
    model: str,
    method: str,
    working_size: tuple[int, ...],
    left: Path | None,
    right: Path | None,
    sub: Path | None,
    profile: str | None,
    stack_method: StackMethod,
    truth: Path | None,
    resume: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Depth of dual-pixel captures and of focus stacks.

    FILES are what `dualpix decode` takes, or folders that `dualpix capture` made. A capture becomes OUTPUT/NAME/ with
    disparity_px.tiff (float32, x_right - x_left in pixels of the decoded view, > 0 behind the focus plane),
    confidence.tiff (float32, 0 to 1), disparity.png (grey where unsure) and depth.json; where the lens data are known,
    also depth_m.tiff with depth.png and depth_uncertainty_d.tiff (NaN where not measured). A focus stack becomes
    OUTPUT/NAME/ with depth_m.tiff, depth.png, all_in_focus.png, confidence.png and depth.json.
    """
    debug = bool((ctx.obj or {}).get("debug"))
    if stacks := [path for path in files if is_stack(path)]:
        _check_stacks(stacks, files, truth)
        if profile is not None:
            raise DualpixError("--profile was given with a focus stack", expected="dual-pixel captures with it")
        chosen = StackOptions(stack_method, settings["f_number"], truth)
        make_output_dir(output)
        found = run_stacks(stacks, output, chosen, resume=resume, strict=debug or (len(stacks) == 1 and not as_json))
        _report(ctx, found, stack_depth.table(found), as_json, stack_depth.below_text(found))
        return
    if truth:
        raise DualpixError("--truth was given without a stack", expected="one folder of a focus stack")
    given = {name: settings.pop(name) for name in _LENS_FIELDS}
    lens = {name: value for name, value in given.items() if value is not None}  # the rest may come from the file
    camera = None if profile is None else load_profile(profile)
    options = DecodeOptions(**settings)
    jobs = jobs_of(files, left, right, output, sub=sub, dumps=options.dump is not None)
    run = _method(method, model, working_size)
    asked = {
        "method": method,
        "model": Path(model) if Path(model).is_dir() else model,
        "working_size": working_size,
        "profile": profile,
    }
    jobs = with_requests(jobs, {**asdict(options), **lens, **asked})
    make_output_dir(output)

    def process(job: Job) -> dict[str, Any]:
        return depth_of(job, options, run, lens, camera)

    stop_at_once = debug or (len(jobs) == 1 and not as_json)
    outcomes = run_jobs("depth", jobs, process, sidecar=SIDECAR, batch=Batch(resume=resume), stop_at_once=stop_at_once)
    _report(ctx, outcomes, _table(outcomes), as_json, _findings_text(outcomes))


def _report(ctx: click.Context, outcomes: list[Outcome], table: Table, as_json: bool, below: str = "") -> None:
    if as_json:
        echo_json([o.to_json() for o in outcomes])
    else:
        Console().print(table)
        if below:
            click.echo(below)
    if any(o.error for o in outcomes):
        ctx.exit(2)


def _check_stacks(stacks: list[Path], files: tuple[Path, ...], truth: Path | None) -> None:
    if len(stacks) < len(files):
        raise DualpixError("focus stacks and single captures were given together", expected="one kind at a time")
    if truth and len(stacks) > 1:
        raise DualpixError(f"--truth was given with {len(stacks)} stacks", expected="one")


def depth_of(
    job: Job, options: DecodeOptions, method: Method, lens: dict[str, Any], profile: CameraProfile | None = None
) -> dict[str, Any]:
    """Decode one capture, estimate its disparity, and write the result folder.

    Args:
        job: the capture and the folder to write.
        options: how to decode it.
        method: decoded views to disparity.
        lens: fields of :class:`~dualpix.capture.types.CaptureMeta` that replace what the file says.
        profile: of the camera, for its disparity gain over the field and what the file does not say of the lens.

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
        record["depth"], of_depth = _write_depth(folder, result, lens_or_missing, profile, shown)
        record["findings"] += [asdict(finding) for finding in of_depth]
        write_json(folder / SIDECAR, record)
    return record


def _method(name: str, model: str, sizes: tuple[int, ...]) -> Method:
    if name == "sgbm":
        return lambda image: match_disparity(image, working_long_side_px=sizes or WORKING_LONG_SIDE_PX)
    loaded = load_model(model)
    return lambda image: predict_disparity(image, loaded, working_long_side_px=sizes or None)


class _Shown:
    """Maps as people see them: with square pixels."""

    def __init__(self, image: DualPixelImage) -> None:
        self._image = image

    def of(self, values: npt.NDArray[Pixel]) -> npt.NDArray[Pixel]:
        return square_pixels(values, self._image.meta.pixel_aspect, self._image.baseline)


def _write_depth(
    folder: Path, result: DisparityMap, lens: LensModel | list[str], profile: CameraProfile | None, shown: _Shown
) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    """Write the metric depth if the lens is known; either way say what is."""
    if not isinstance(lens, LensModel):
        return {"metric": False, "missing": lens, "hint": _hint(lens, profile)}, ()
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
    return record, depth.findings


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
    return {f"p{p}": round(float(np.percentile(values, p)), 4) for p in _SHOWN_PERCENTILES}


def _fraction(mask: npt.NDArray[np.bool_]) -> float:
    return round(float(mask.mean()), 6) if mask.size else 0.0


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _table(outcomes: list[Outcome]) -> Table:
    percentiles = " / ".join(f"p{p}" for p in _SHOWN_PERCENTILES)
    file, result = (Column(name, overflow="fold") for name in ("file", "result"))
    methods = {outcome.record["method"] for outcome in outcomes if outcome.record}
    title = " and ".join(sorted(methods)) or None
    table = Table(file, "measured", f"disparity px\n{percentiles}", f"depth m\n{percentiles}", "s", result, title=title)
    for outcome in outcomes:
        record = outcome.record
        if record is None:
            table.add_row(outcome.job.path.name, "", "", "", "", "[red]failed[/red]")
            continue
        depth = record["depth"]
        shown = _joined(depth["percentiles_m"]) if depth["metric"] else f"{len(depth['missing'])} lens data missing"
        table.add_row(
            outcome.job.path.name,
            f"{record['measured_fraction']:.0%}",
            _joined(record["disparity_percentiles_px"]),
            shown,
            f"{record['seconds']:.1f}",
            str(outcome.job.folder),
        )
    return table


def _findings_text(outcomes: list[Outcome]) -> str:
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
