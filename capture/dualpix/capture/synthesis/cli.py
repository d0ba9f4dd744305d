"""``dualpix render``: RGB-D pictures or procedural scenes to dual-pixel pairs and focus stacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console
from rich.table import Table

from dualpix.capture.command.options import FILE, C, json_option, with_options
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import check_output_dir, make_output_dir, remove_leftovers, write_json
from dualpix.capture.progress import Pace, ProgressLine
from dualpix.capture.raw.batch.jobs import Batch, Outcome, batch_options, run_jobs
from dualpix.capture.rgbd import FILLS, METRES, READERS, RgbdSource, survey_rgbd
from dualpix.capture.scenes import USE_NAMES
from dualpix.capture.synthesis.camera import CAMERAS, camera_named
from dualpix.capture.synthesis.settings import METHODS, RenderSettings, SampleSpec
from dualpix.capture.synthesis.store import DepthFormat, ViewFormat
from dualpix.capture.synthesis.work import MANIFEST, SIDECAR, RenderWork, render_jobs

_MAX_SAMPLES = 10_000_000
_SHEET_ROWS, _SHEET_FRAMES = 6, 3


def _focus(context: click.Context, parameter: click.Parameter, value: str) -> float | None:
    """A distance in m, or None for "random"."""
    if value == "random":
        return None
    try:
        return float(value)
    except ValueError as error:
        raise click.BadParameter(f"'{value}' is neither a distance in m nor 'random'") from error


def _scene_options(command: C) -> C:
    return with_options(
        command,
        click.option("--camera", default="pixel4", help=f"{', '.join(CAMERAS)}, or a profile .json."),
        click.option("--method", type=click.Choice(METHODS), default="layered", help="Renderer."),
        click.option(
            "--size",
            "size_hw",
            type=(int, int),
            metavar="H W",
            help="In px; RGB-D pictures are reduced and cropped [default: as they are; scenes 384 512].",
        ),
        click.option(
            "--focus",
            "--focus-distance-m",
            "focus_distance_m",
            default="random",
            callback=_focus,
            metavar="M",
            help="Focus distance in m, or random.",
        ),
        click.option("--coc-span", "coc_span_px", type=float, metavar="PX", help="Aperture for this range of blur."),
        click.option("--stack", type=int, default=0, metavar="N", help="Also a focus stack of N frames."),
        click.option("--pair/--no-pair", default=True, help="Write left and right views."),
        click.option("--all-in-focus", is_flag=True, help="Also write the sharp picture."),
        click.option("--noise", is_flag=True, help="Through the camera's sensor: noise, shading, levels."),
        click.option("--field", is_flag=True, help="Blur varies over the picture as in the profile; slower."),
        click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, help="Same seed, same samples."),
        click.option("--use", type=click.Choice(USE_NAMES), help="Kind of procedural scenes [default: all]."),
        click.option(
            "--depth-unit",
            "unit",
            type=click.Choice(list(METRES)),
            help="Of depth files [default: the data set's; mm for integers, m for floats].",
        ),
        click.option("--fill", type=click.Choice(FILLS), default="far", help="How holes in depth are filled."),
    )


@click.command("render")
@click.argument("inputs", nargs=-1, type=FILE)
@click.option("--scenes", type=click.IntRange(1, _MAX_SAMPLES), metavar="N", help="N procedural scenes instead.")
@click.option("-o", "--output", type=FILE, help="Folder of the results.")
@click.option("--count", type=click.IntRange(1, _MAX_SAMPLES), help="Samples [default: one per RGB-D picture].")
@click.option("--dataset", type=click.Choice([r.name for r in READERS]), help="Read as this data set alone.")
@_scene_options
@click.option("--format", "views", type=click.Choice(get_args(ViewFormat)), default="png", help="16-bit linear views.")
@click.option("--depth-format", "depth", type=click.Choice(get_args(DepthFormat)), default="npy", help="float32, m.")
@click.option("--shards", type=click.IntRange(1, 100_000), metavar="K", help="WebDataset tars of K samples each.")
@click.option("--contact-sheet", "sheet", type=FILE, help="A page of pictures as PNG; -o is not needed then.")
@batch_options
@json_option("The manifest on stdout.")
@click.option("--list-formats", is_flag=True, help="Show the RGB-D data sets that are read, and do nothing else.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    inputs: tuple[Path, ...],
    scenes: int | None,
    output: Path | None,
    count: int | None,
    dataset: str | None,
    camera: str,
    views: ViewFormat,
    depth: DepthFormat,
    shards: int | None,
    sheet: Path | None,
    jobs: int,
    resume: bool,
    cluster: str | None,
    as_json: bool,
    list_formats: bool,
    **given: Any,
) -> None:
    """Render dual-pixel pairs and focus stacks from RGB-D pictures or procedural scenes.

    INPUTS are folders of RGB-D data (NYUv2, Hypersim, ARKitScenes, iBims-1, Middlebury, DIODE, TartanAir, or any with
    NAME.png and NAME_depth.png); --scenes N needs no data. Each sample becomes OUTPUT/000000/ with left, right, depth
    and sample.json, or a part of a WebDataset shard; OUTPUT/manifest.json has the SHA-256 of every file.

    A sample depends on --seed, its number and its input alone, so any number of processes or machines give the same
    files. One bad picture does not stop the rest; the exit code is then 2. After a kill, --resume goes on.
    """
    if list_formats:
        for reader in READERS:
            click.echo(f"{reader.name:<12} {reader.summary}")
        return
    settings = RenderSettings(camera=camera_named(camera), **given)
    if output is None and sheet is None:
        raise OutputError("no output was named", hint="give -o FOLDER or --contact-sheet FILE.png")
    _check_outputs(output, sheet)
    specs = _specs(inputs, scenes, count, dataset)
    if sheet is not None and not _write_sheet(sheet, specs[:_SHEET_ROWS], settings) and output is None:
        ctx.exit(2)
    if output is None:
        return
    work = RenderWork(settings, views, depth, shards is not None)
    todo = render_jobs(specs, work, output, shards or 1)
    make_output_dir(output)
    stop_at_once = bool((ctx.obj or {}).get("debug")) or (len(todo) == 1 and not as_json and cluster is None)
    pace = Pace(len(specs))
    outcomes = run_jobs(
        "rendering",
        todo,
        work,
        sidecar=SIDECAR,
        batch=Batch(jobs, resume, cluster),
        stop_at_once=stop_at_once,
        tell_warnings=False,
    )
    manifest = _manifest(outcomes, output)
    write_json(output / MANIFEST, manifest)
    _report(manifest, outcomes, output, pace, as_json)
    if manifest["failed"]:
        ctx.exit(2)


def _check_outputs(output: Path | None, sheet: Path | None) -> None:
    """Whether results can be written, before anything long is begun.

    Raises:
        OutputError: they cannot.
    """
    if output is not None:
        check_output_dir(output)
    if sheet is not None:
        check_output_dir(sheet.parent)
        if sheet.is_dir():
            raise OutputError(f"cannot write '{sheet}': it is a folder", hint="name a PNG file")


def _specs(inputs: Sequence[Path], scenes: int | None, count: int | None, dataset: str | None) -> list[SampleSpec]:
    """What to render, in order.

    Raises:
        DualpixError: nothing, or both kinds of input.
    """
    if bool(inputs) == bool(scenes):
        found = "both INPUTS and --scenes were given" if inputs else "no input"
        raise DualpixError(found, expected="folders of RGB-D data, or --scenes N")
    if scenes:
        if count is not None:
            raise DualpixError("--count with --scenes", hint="--scenes N is the count")
        return [SampleSpec(index) for index in range(scenes)]
    sources: list[RgbdSource] = []
    for path in inputs:
        survey = survey_rgbd(path.absolute(), dataset)
        for note in survey.notes:
            click.echo(f"dualpix: warning: {note}", err=True)
        prefix = f"{path.name}/" if len(inputs) > 1 and path.is_dir() else ""
        sources += [replace(source, name=f"{prefix}{source.name}") for source in survey.sources]
    return [SampleSpec(index, sources[index % len(sources)]) for index in range(count or len(sources))]


def _write_sheet(path: Path, specs: Sequence[SampleSpec], settings: RenderSettings) -> bool:
    """Render and show the first samples; whether all of them could be."""
    from dualpix.capture.pictures.colour_map import save_picture
    from dualpix.capture.synthesis.contact_sheet import contact_sheet
    from dualpix.capture.synthesis.sample import render_sample

    if settings.method != "gather":
        settings = replace(settings, pair=True, stack=settings.stack or _SHEET_FRAMES)
    samples, failed = [], 0
    with ProgressLine("contact sheet") as line:
        for number, spec in enumerate(specs):
            try:
                samples.append(render_sample(spec, settings))
            except DualpixError as error:
                if len(specs) == 1:
                    raise
                failed += 1
                line.say(f"dualpix: error: {error}")
            line.update(number + 1, len(specs))
    if not samples:
        raise DualpixError(f"none of {len(specs)} samples could be rendered")
    make_output_dir(path.parent)
    remove_leftovers(path.parent)
    save_picture(path, contact_sheet(samples))
    click.echo(f"wrote {path}: {len(samples)} samples")
    return not failed


def _manifest(outcomes: Sequence[Outcome], output: Path) -> dict[str, Any]:
    """What there is, with digests, and what failed."""
    files, failed, samples = [], [], 0
    for outcome in outcomes:
        folder = outcome.job.folder.relative_to(output).as_posix()
        if outcome.record is None:
            failed.append({"key": folder, "error": outcome.error})
            continue
        samples += len(outcome.record["samples"])
        files += [{**entry, "name": f"{folder}/{entry['name']}"} for entry in outcome.record["files"]]
        failed += outcome.record["failed"]
    settings = next((outcome.record["settings"] for outcome in outcomes if outcome.record), None)
    return {"format": 1, "samples": samples, "failed": failed, "settings": settings, "files": files}


def _report(manifest: dict[str, Any], outcomes: Sequence[Outcome], output: Path, pace: Pace, as_json: bool) -> None:
    records = [outcome.record for outcome in outcomes if outcome.record]
    for warning in _told_once(warning for record in records for warning in record["warnings"]):
        click.echo(f"dualpix: warning: {warning}", err=True)
    for record in records:
        for entry in record["failed"]:
            click.echo(f"dualpix: error: {entry['error']}", err=True)
    if as_json:
        echo_json(manifest)
        return
    table = Table("samples", "failed", "files", "MB", "samples/s", title=f"written to {output}")
    pace.done = sum(len(o.record["samples"]) for o in outcomes if o.record and o.status == "done")
    size_mb = sum(entry["bytes"] for entry in manifest["files"]) / 1e6
    speed = f"{pace.per_second:.3g}" if pace.done else "done before"
    table.add_row(
        str(manifest["samples"]), str(len(manifest["failed"])), str(len(manifest["files"])), f"{size_mb:.1f}", speed
    )
    Console().print(table)


def _told_once(warnings: Iterable[str]) -> Iterator[str]:
    """Of the warnings "'NAME': TEXT", the first of each text, with the number of the others."""
    texts: dict[str, list[str]] = {}
    for warning in warnings:
        texts.setdefault(warning.partition("': ")[2] or warning, []).append(warning)
    for alike in texts.values():
        more = len(alike) - 1
        yield alike[0] + (f" (and {more} more sample{'s' if more > 1 else ''})" if more else "")
