"""``dualpix depth``: signed disparity of dual-pixel captures, and metric depth where the lens data allow it.

What is asked is looked at before torch is imported: a wrong argument is answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
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
from dualpix.capture.profiles.profile import CameraProfile
from dualpix.capture.raw.batch.jobs import DecodeOptions, Job, Outcome, decode_options, jobs_of, resume_option
from dualpix.capture.stack.depth.focus_depth import Method as StackMethod
from dualpix.capture.stack.keep.layouts import is_stack
from dualpix.models.programs import check_model, is_program
from dualpix.models.shipped import DEFAULT_MODEL, DEFAULT_STACK_MODEL, known_models, model_folder

if TYPE_CHECKING:
    from dualpix.capture.types import FocusStack
    from dualpix.models.stack_depth import StackOptions
    from dualpix.models.stack_network import StackPrediction
    from dualpix.models.zoo import LoadedModel

_FILE = click.Path(path_type=Path)
_STACK_LENS = ("focal_length_mm", "pixel_pitch_um")
"""Of a stack: its f-number chooses among its apertures, its distances are those of its frames."""
_NOT_OF_STACKS = (
    "profile", "focus_distance_m", "disparity_gain", "left", "right", "sub", "points", "swap", "focused_on",
    "flat_field", "shading", "equalise", "encoding", "black", "white", "baseline", "dump",
)  # fmt: skip
_LENS_FIELDS = ("focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um", "disparity_gain")


@dataclass(frozen=True)
class Asked:
    """What the user asks of dual-pixel captures, checked as far as that goes without them."""

    jobs: tuple[Job, ...]
    output: Path
    options: DecodeOptions
    lens: Mapping[str, Any]
    """Fields of :class:`~dualpix.capture.types.CaptureMeta` that replace what the file says."""
    method: str
    """network or sgbm."""
    model: str
    working_sizes_px: tuple[int, ...]
    """Long sides; empty for the method's own."""
    profile: str | None
    """As given."""
    camera: CameraProfile | None
    points: bool = False
    also: tuple[Format, ...] = ()
    """Files for other programs."""


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

    FILES are what `dualpix decode` takes, or folders that `dualpix capture` made. A capture becomes OUTPUT/NAME/ with
    disparity_px.tiff (float32, x_right - x_left in pixels of the decoded view, > 0 behind the focus plane),
    confidence.tiff (float32, 0 to 1), disparity.png (grey where unsure) and depth.json; where the lens data are known,
    also depth_m.tiff with depth.png and depth_uncertainty_d.tiff (NaN where not measured). A network that restores the
    picture (dddnet) leaves sharp.tiff (16-bit linear light, the view's own colours and size) and sharp.png. A focus
    stack becomes
    OUTPUT/NAME/ with depth_m.tiff, depth.png, all_in_focus.png, confidence.png and depth.json. Of up to eight frames a
    network finds it, and the map of the blur of every frame lies beside it (depth_m_blur.tiff); where both contradict
    one another it is the other way round. --stack-method alone does without the network, --model names another. Of a
    capture of the simulated camera the scene is known: its error is printed without --truth.
    """
    debug = bool((ctx.obj or {}).get("debug"))
    check_formats(also)
    stacks = [path for path in files if is_stack(path)]
    if stacks:
        _check_stacks(stacks, files, truth)
        _check_of_stacks(ctx)
        make_output_dir(output)
        from dualpix.models import stack_depth

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
        from dualpix.models import predict_run

        found = predict_run.run_captures(asked, resume=resume, strict=strict)
        _report(ctx, found, predict_run.table(found), as_json, predict_run.below_text(found))


def stack_options(
    method: StackMethod | None,
    model: str | None,
    sizes_px: tuple[int, ...],
    lens: Mapping[str, float],
    truth: Path | None = None,
) -> StackOptions:
    """How the depth of focus stacks is found, from what was asked for.

    Args:
        method: None where none was named: a network then, with the method "blur" beside it.
        model: None where none was named: the shipped one, unless a method was named.
        sizes_px: at which a network works; empty for its own.
        lens: ``focal_length_mm`` and ``pixel_pitch_um`` that the stack lacks; ``f_number``: which of its apertures.
        truth: depth of the one stack.

    Raises:
        DualpixError: no such model, or several sizes.
    """
    from dualpix.models.stack_depth import StackOptions

    own = {name: value for name, value in lens.items() if name != "f_number"}
    chosen = StackOptions(method or "blur", lens.get("f_number"), truth, lens=own)
    network = _stack_network(method, model)
    return chosen if network is None else _with_network(chosen, network, sizes_px, named=model is not None)


def _stack_network(method: str | None, model: str | None) -> str | None:
    """Which network finds the depth of stacks: the one that was named, else the shipped one, unless a method was."""
    if model is not None:
        return model
    return DEFAULT_STACK_MODEL if method is None and DEFAULT_STACK_MODEL in known_models() else None


def _with_network(options: StackOptions, model: str, sizes_px: tuple[int, ...], *, named: bool) -> StackOptions:
    """Focus stacks by a network; one that nobody named is read when the first stack needs it, and torch with it."""
    if len(sizes_px) > 1:
        raise DualpixError(f"{len(sizes_px)} working sizes for a focus stack", expected="one")
    model_folder(model)
    network = _StackNetwork(model, sizes_px)
    name = network.loaded.name if named else model
    return replace(options, network=network, network_name=name, named=named)


class _StackNetwork:
    """See :class:`dualpix.models.stack_depth.StackNetwork`."""

    def __init__(self, model: str, sizes_px: tuple[int, ...]) -> None:
        self._model, self._sizes_px = model, sizes_px

    @cached_property
    def loaded(self) -> LoadedModel:
        """The network."""
        from dualpix.models.stack_network import check_stack_model
        from dualpix.models.zoo import load_model

        loaded = load_model(self._model)
        check_stack_model(loaded)
        return loaded

    def __call__(self, stack: FocusStack, *, blur_px_per_d: float | None) -> StackPrediction:
        from dualpix.models.stack_network import predict_stack

        side = self._sizes_px[0] if self._sizes_px else None
        return predict_stack(stack, self.loaded, blur_px_per_d=blur_px_per_d, working_long_side_px=side)


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
    network = _stack_network(method, model) is not None
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
