"""``dualpix depth``: signed disparity of dual-pixel captures, and metric depth where the lens data allow it.

What is asked is looked at before torch is imported: a wrong argument is answered at once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console
from rich.table import Table

from dualpix.capture.command.given import given_options, is_given
from dualpix.capture.command.lens_options import LensNumber
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import check_output_dir, make_output_dir
from dualpix.capture.pictures.depth_files import FORMATS, Format, check_formats
from dualpix.capture.profiles import load_profile
from dualpix.capture.raw.batch.jobs import DecodeOptions, Outcome, decode_options, jobs_of, resume_option
from dualpix.capture.stack.depth.focus_depth import Method as StackMethod
from dualpix.capture.stack.keep.layouts import is_stack
from dualpix.models.predict.asked import Asked
from dualpix.models.stacks.asked import stack_network, stack_options
from dualpix.models.zoo.cards import DEFAULT_MODEL
from dualpix.models.zoo.programs import check_model, is_program

if TYPE_CHECKING:
    pass

_FILE = click.Path(path_type=Path)
_STACK_LENS = ("focal_length_mm", "pixel_pitch_um")
"""Of a stack: its f-number chooses among its apertures, its distances are those of its frames."""
_NOT_OF_STACKS = (
    "profile", "focus_distance_m", "disparity_gain", "left", "right", "sub", "points", "swap", "focused_on",
    "flat_field", "shading", "equalise", "encoding", "black", "white", "baseline", "dump",
)  # fmt: skip
_LENS_FIELDS = ("focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um", "disparity_gain")


@click.command("depth")
@click.argument("files", nargs=-1, type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Folder; each capture becomes a folder in it.")
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    help="A shipped network's name, a folder with card and weights, package.module:factory[@FOLDER], or an exported "
    "program: .pte, or its export's folder.",
)
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
@click.option("--ply", "points", is_flag=True, help="Measured points in space, with colour and confidence: points.ply.")
@click.option(
    "--also", type=click.Choice(FORMATS), multiple=True,
    help="Files for other programs: png (16 bits, mm), exr (R, G, B, Z), glb (a surface), las (points).",
)  # fmt: skip
@click.option(
    "--stack-method", type=click.Choice(get_args(StackMethod)), default="blur",
    help="Of focus stacks, in place of a network: the blur of every frame, the peak of sharpness, the sharpest frame.",
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
    points: bool,
    also: tuple[Format, ...],
    stack_method: StackMethod,
    truth: Path | None,
    resume: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Depth of dual-pixel captures and of focus stacks.

    FILES are what `dualpix decode` takes, or folders that `dualpix capture` made. A capture becomes OUTPUT/NAME/
    with disparity_px.tiff (float32, x_right - x_left in pixels of the decoded view, > 0 behind the focus plane),
    confidence.tiff (float32, 0 to 1), disparity.png (grey where unsure) and depth.json; where the lens data are
    known, also depth_m.tiff with depth.png and depth_uncertainty_d.tiff (NaN where not measured). A network that
    restores the picture (dddnet-compact) leaves sharp.tiff (16-bit linear light, the view's own colours and size)
    and sharp.png. A focus stack becomes OUTPUT/NAME/ with depth_m.tiff, depth.png, all_in_focus.png, confidence.png
    and depth.json. Of up to eight frames a network finds it, and the map of the blur of every frame lies beside it
    (depth_m_blur.tiff); where both contradict one another it is the other way round. --stack-method alone does
    without the network, --model names another. Of a capture of the simulated camera the scene is known: its error
    is printed without --truth.
    """
    debug = bool((ctx.obj or {}).get("debug"))
    check_formats(also)
    stacks = [path for path in files if is_stack(path)]
    if stacks:
        _check_stacks(stacks, files, truth)
        _check_of_stacks(ctx)
        make_output_dir(output)
        from dualpix.models.stacks import depth as stack_depth

        chosen = stack_options(
            stack_method if is_given(ctx, "stack_method") else None,
            model if is_given(ctx, "model") else None,
            working_size,
            {name: settings[name] for name in ("f_number", *_STACK_LENS) if settings[name] is not None},
            truth,
        )
        chosen = replace(chosen, also=also)
        strict = debug or (len(stacks) == 1 and not as_json)
        found = stack_depth.run_stacks(stacks, output, chosen, resume=resume, strict=strict)
        _report(ctx, found, stack_depth.table(found), as_json, stack_depth.below_text(found))
    else:
        if truth:
            raise DualpixError("--truth was given without a stack", expected="one folder of a focus stack")
        _check_of_pairs(ctx)
        given = {name: settings.pop(name) for name in _LENS_FIELDS}
        options = DecodeOptions(**settings)
        asked = Asked(
            jobs=tuple(jobs_of(files, left, right, output, sub=sub, dumps=options.dump is not None)),
            output=output,
            options=options,
            lens={name: value for name, value in given.items() if value is not None},  # the rest may come from the file
            method=method,
            model=model,
            working_sizes_px=working_size,
            profile=profile,
            camera=None if profile is None else load_profile(profile),
            points=points,
            also=also,
        )
        if method == "network":
            check_model(model)
            if is_program(model) and working_size:
                raise DualpixError("--working-size was given with an exported program", expected="none: it has its own")
        check_output_dir(output)
        strict = debug or (len(asked.jobs) == 1 and not as_json)
        if strict:
            options.check(asked.jobs[0])
        from dualpix.models.predict import cli_run

        found = cli_run.run_captures(asked, resume=resume, strict=strict)
        _report(ctx, found, cli_run.table(found), as_json, cli_run.below_text(found))


def _report(ctx: click.Context, outcomes: list[Outcome], table: Table, as_json: bool, below: str) -> None:
    if as_json:
        echo_json([o.to_json() for o in outcomes])
    else:
        Console().print(table)
        if below:
            click.echo(below)
    if any(o.error for o in outcomes):
        ctx.exit(2)


def _check_of_stacks(ctx: click.Context) -> None:
    """Refuse what was asked of dual-pixel captures alone, which stacks would silently do without.

    Raises:
        DualpixError: there is such an option.
    """
    method, model = (ctx.params[name] if is_given(ctx, name) else None for name in ("stack_method", "model"))
    network = stack_network(method, model) is not None
    given = given_options(ctx, _NOT_OF_STACKS)
    if not (network and ctx.params["method"] == "network"):
        given += given_options(ctx, ["method"])
    if not network:
        given += given_options(ctx, ["working_size"])
    if given:
        raise DualpixError(
            f"{given[0]} was given with a focus stack",
            expected="dual-pixel captures with it",
            hint="stacks take --stack-method, --model, --f-number, --focal-length-mm and --pixel-pitch-um",
        )


def _check_of_pairs(ctx: click.Context) -> None:
    """Refuse what dual-pixel captures would silently do without.

    Raises:
        DualpixError: there is such an option.
    """
    if given_options(ctx, ["stack_method"]):
        raise DualpixError("--stack-method was given without a stack", expected="--method, or folders of focus stacks")
    if ctx.params["method"] != "network" and given_options(ctx, ["model"]):
        method = ctx.params["method"]
        raise DualpixError(f"--model and --method {method} were given", expected="one of them: each is a method")


def _check_stacks(stacks: list[Path], files: tuple[Path, ...], truth: Path | None) -> None:
    if len(stacks) < len(files):
        raise DualpixError("focus stacks and single captures were given together", expected="one kind at a time")
    if truth and len(stacks) > 1:
        raise DualpixError(f"--truth was given with {len(stacks)} stacks", expected="one")
