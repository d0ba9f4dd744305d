"""``dualpix export``: quantise, export and gate a network, ours or a user's own module.

What is asked is looked at before torch and the converters are imported: a wrong argument is answered at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from dualpix.capture.command.given import given_options, is_given
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import check_output_dir, read_json
from dualpix.export.command.asked import Asked, is_own
from dualpix.export.command.limits import read_limits
from dualpix.export.recipes import DEFAULT_RECIPES, RECIPES, find_recipe
from dualpix.models.data.kinds import FEWEST_FRAMES, FRAMES, MOST_FRAMES
from dualpix.models.named import check_findable
from dualpix.models.zoo.cards import DEFAULT_MODEL, check_size, check_takes_stacks

_FILE = click.Path(path_type=Path)
_MAX_SIDE_PX = 4096
_MAX_ASSIGNMENT_BYTES = 16 << 20
_SHIPPED_ALONE = ("size", "frames", "calibration_count", "eval_count")
_OWN_ALONE = ("licence", "weights_origin", "evaluate_with", "metric", "metric_better")


def _parse_size(ctx: click.Context, option: click.Parameter, value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
    if match is None or not all(0 < int(v) <= _MAX_SIDE_PX for v in match.groups()):
        raise click.BadParameter(f"'{value}' is no HEIGHTxWIDTH of at most {_MAX_SIDE_PX} px, such as 384x512")
    return int(match[1]), int(match[2])


def _parse_budget(ctx: click.Context, option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        budget = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        budget = math.nan
    if not 0 < budget <= 1:
        raise click.BadParameter(f"'{value}' is no share above 0 and up to 1, such as 1% or 0.01")
    return budget


@click.command("export")
@click.argument("model", default=DEFAULT_MODEL)
@click.option("-o", "--output", type=_FILE, help="Folder for artefacts, manifest.json, gate.json and model card.")
@click.option("--recipe", "recipes", multiple=True, help="Repeatable; without it those marked * in --list.")
@click.option("--limits", type=_FILE, help="The gate's limits, by recipe; instead of the model's own limits.json.")
@click.option("--size", default="384x512", callback=_parse_size, help="HEIGHTxWIDTH that the artefacts take, in px.")
@click.option(
    "--frames", type=click.IntRange(FEWEST_FRAMES, MOST_FRAMES), default=FRAMES, show_default=True,
    help="That the artefacts take, of networks of focus stacks: a program is for one number of frames.",
)  # fmt: skip
@click.option("--calibration-count", type=click.IntRange(1, 1000), default=24, help="Rendered scenes for int8 ranges.")
@click.option(
    "--calibrate-with",
    multiple=True,
    metavar="DATA",
    help="Repeatable. Shipped network: a real capture, besides the scenes. Own module: a folder of .npz files with "
    "arrays named as the inputs, or package.module:function.",
)
@click.option("--eval-count", type=click.IntRange(1, 1000), default=12, help="Rendered scenes that judge.")
@click.option("--evaluate-with", multiple=True, metavar="DATA", help="As --calibrate-with, to judge your own module.")
@click.option("--metric", metavar="FUNCTION", help="package.module:function that scores outputs of your own module.")
@click.option("--metric-better", type=click.Choice(["lower", "higher"]), help="Which way the metric is better.")
@click.option("--budget", callback=_parse_budget, help="Loss that mixed precision may cost, such as 1%.")
@click.option("--assignment", type=_FILE, help="Mixed precision that `dualpix quantize` found; spares the search.")
@click.option("--licence", help="Of your module's weights, for manifest and model card.")
@click.option("--weights-origin", help="Where your module's weights come from, for manifest and model card.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, help="Of the runtime and the float network.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=15, help="Of the latency measurement.")
@click.option("--list", "list_only", is_flag=True, help="Show recipes and models, and stop.")
@click.option("--json", "as_json", is_flag=True, help="The gate's result as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str,
    output: Path | None,
    recipes: tuple[str, ...],
    limits: Path | None,
    size: tuple[int, int],
    assignment: Path | None,
    list_only: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Quantise, export and gate a network for phones.

    MODEL is a shipped network's name, a folder with card and weights, or package.module:factory@FOLDER, a network of
    your own that `dualpix train` trained: these are judged by the metrics of their task. Or package.module:function, a
    function of your own that gives (module, inputs) or (module, list of inputs). It is imported and run, working folder
    first; its artefacts are judged by their difference from the float module, and by --metric.

    Every artefact is loaded, run where a runtime exists, and compared with the float network. Exit code 0: the gate
    passes; 1: it fails; 2: a user error, or an interruption. OUTPUT changes as a whole at the end, or not at all.
    """
    if list_only:
        from dualpix.export.command.show import show_list

        show_list(as_json)
        return
    names = tuple(dict.fromkeys(recipes or DEFAULT_RECIPES))
    for name in names:
        find_recipe(name)
    if output is None:
        raise click.UsageError("missing option '-o' / '--output'")
    own = is_own(model)
    if own:
        _refuse_given(ctx, _SHIPPED_ALONE, "for shipped networks; your function gives its inputs")
    else:
        _refuse_given(ctx, _OWN_ALONE, "for a module of your own")
    asked = Asked(
        model=model,
        output=output,
        recipes=names,
        size_hw=size,
        assignment=_read_assignment(assignment) if assignment else None,
        assignment_name=assignment.name if assignment else "",
        limits=read_limits(limits, has_metric=not own or given["metric"] is not None) if limits else None,
        **given,
    )
    _check_names(asked)
    _check_mixed(ctx, names)
    if is_given(ctx, "frames"):
        check_takes_stacks(_shipped_name(asked.model), "--frames")
    check_output_dir(output)
    with _told_when_interrupted(output):
        from dualpix.export.command.run import export_asked
        from dualpix.export.command.show import show

        result = export_asked(asked)
    show(result, as_json)
    if not result.passed:
        ctx.exit(1)


def _shipped_name(model: str) -> str:
    return DEFAULT_MODEL if model == "default" else model


def _check_names(asked: Asked) -> None:
    """Whether everything that is named is there."""
    if not asked.is_own:
        check_size(_shipped_name(asked.model), asked.size_hw)
        for capture in asked.calibrate_with:
            if not Path(capture).is_file():
                raise DualpixError(f"'{capture}' is no file", expected="a capture to calibrate with")
        return
    check_findable(asked.model)
    if asked.metric_better and not asked.metric:
        raise click.UsageError("--metric-better goes with --metric")
    if asked.metric:
        check_findable(asked.metric)
    for data in (*asked.calibrate_with, *asked.evaluate_with):
        if is_own(data):
            check_findable(data)
        elif not Path(data).is_dir():
            raise DualpixError(f"'{data}' is no folder", expected="a folder of .npz files, or package.module:function")


@contextmanager
def _told_when_interrupted(output: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise DualpixError("interrupted", hint=f"'{output}' is as it was before") from None


def _refuse_given(ctx: click.Context, options: tuple[str, ...], reason: str) -> None:
    for option in given_options(ctx, options):
        raise click.UsageError(f"{option} is {reason}")


def _check_mixed(ctx: click.Context, recipes: tuple[str, ...]) -> None:
    """Whether mixed precision is asked for where something is said of it, and by one of its two ways.

    Raises:
        click.UsageError: it is not.
    """
    given = given_options(ctx, ["assignment", "budget"])
    if len(given) > 1:
        raise click.UsageError("--assignment goes without --budget: it was found within one")
    mixed = [name for name, recipe in RECIPES.items() if recipe.precision == "int8-mixed"]
    if given and not set(mixed) & set(recipes):
        raise click.UsageError(f"{given[0]} goes with --recipe {' or '.join(mixed)}")


def _read_assignment(path: Path) -> Any:
    return read_json(path, _MAX_ASSIGNMENT_BYTES, expected="JSON from 'dualpix quantize'")
