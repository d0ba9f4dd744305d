"""``dualpix evaluate``: networks, classical yardsticks and maps of anybody on data with ground truth, side by side.

What is asked is looked at before torch is imported: a wrong argument is answered at once.
"""

from __future__ import annotations

from pathlib import Path

import click

from dualpix.capture.command.given import given_options
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import check_output_dir
from dualpix.models.data.kinds import FEWEST_FRAMES, FRAMES, MOST_FRAMES
from dualpix.models.evaluate.asked import Asked
from dualpix.models.evaluate.protocol_names import METHODS, PROTOCOLS, RENDERED, TAKE_FOLDERS
from dualpix.models.zoo.cards import DEFAULT_MODEL, DEFAULT_STACK_MODEL
from dualpix.models.zoo.programs import check_model

_FILE = click.Path(path_type=Path)
_MULTIPLE_PX = 32
"""Of the sides of rendered scenes."""


def _parse_methods(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise click.BadParameter(f"'{unknown[0]}' is none of {', '.join(METHODS)}")
    return names


@click.command("evaluate")
@click.argument("folder", required=False, type=_FILE)
@click.option(
    "--data", type=click.Choice([*PROTOCOLS, *RENDERED]), required=True,
    help="The protocol; all but the rendered ones read FOLDER, stacks of pictures with depth may.",
)  # fmt: skip
@click.option(
    "--method", "methods", callback=_parse_methods,
    help="Comma-separated. Of pairs: sgbm, network (default: both), zncc; of stacks: blur, sharpness, argmax (default: "
    "blur and argmax); of sharp pictures: input (default), network.",
)  # fmt: skip
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Network: name, folder or package.module:factory[@FOLDER]; or an exported program: .pte, or its export's "
    "folder. Repeatable. Each is scored, beside what --method asks for, and the others are held against the first. "
    f"Where a network is asked for and none is named: {DEFAULT_MODEL}; of stacks {DEFAULT_STACK_MODEL}.",
)
@click.option(
    "--predictions", type=_FILE, help="Folder of maps, NAME.npy .tiff .png .pfm .exr, in the protocol's unit: a method "
    "of its own. Without --method and --model, the only one.",
)  # fmt: skip
@click.option(
    "--working-size", type=click.IntRange(min=32), multiple=True,
    help="Long side in px at which the networks work; several give the median of their results. Default: 1008 "
    "and 672; of stacks the network's own. An exported program has its own.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1, 1000), default=8, help="Number of rendered scenes.")
@click.option("--size", type=click.IntRange(32, 4096), nargs=2, default=(192, 256), help="Of rendered scenes: H W.")
@click.option(
    "--frames", type=click.IntRange(FEWEST_FRAMES, MOST_FRAMES), default=FRAMES,
    help="Of rendered focus stacks: their list of distances is thinned or filled along its own curve.",
)  # fmt: skip
@click.option(
    "--protocol", "explain", is_flag=True, help="Print what the protocol is, and what it assumes; run nothing."
)
@click.option(
    "--pictures",
    type=_FILE,
    help="Folder for one picture per scene (input, truth, every method), and "
    "sparsification.png: the error by the share of unsure pixels left out.",
)
@click.option("--json", "as_json", is_flag=True, help="Results as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    folder: Path | None,
    data: str,
    methods: tuple[str, ...] | None,
    models: tuple[str, ...],
    predictions: Path | None,
    working_size: tuple[int, ...],
    count: int,
    size: tuple[int, int],
    frames: int,
    explain: bool,
    pictures: Path | None,
    as_json: bool,
) -> None:
    """Score methods on data with ground truth, by a published protocol; lower is better but for δ, F1, PSNR and SSIM.

    AI(1) and AI(2) are the mean absolute and root mean square error after the best affine fit (ICCV 2019 form). 1-|ρ|
    is of rank correlations in the three forms that papers print: average ranks, dense ranks of the prediction in 8
    bits, and ties by position; on an 8-bit truth they differ several-fold.

    Data in metres give errors of depth without a fit, in m, in diopters and by range of depth. Means have a 95 %
    interval beside them: a bootstrap over the scenes. So has the difference of each method from the model that is named
    first, scene by scene: where its interval leaves out 0, the methods differ on scenes like these.

    rendered:phone, rendered:fullframe and rendered:macro are validation sets for choosing weights: each scene is seen
    by a camera of its own, drawn around the shipped profiles. rendered:stack-fixed and rendered:stack-diopters are
    focus stacks of procedural scenes at any distance, or of the RGB-D data in FOLDER, focused where no list follows the
    scene; --frames takes 2 to 9 in place of five.

    Edge MAE and edge AI(1) are the error within 8 px of edges of the truth: steps of more than a tenth of its range
    over 4 px. Edge F1 (higher is better) is of steps of 10 to 30 % of the range, which may lie 4 px beside.

    AUSE scores the confidence: the area between the error that is left when the least sure pixels are left out and the
    least that could be, as a part of the mean error; "of chance" is its part of that of a random order, 1 being no
    better. Measured is the share of the pixels with a confidence of at least 0.5; all other scores are of all pixels.
    """
    _check_of_stacks(ctx, data)
    if explain:
        from dualpix.models.evaluate import cli_run

        cli_run.explain(data, frames, as_json=as_json)
        return
    _check(data, folder, size)
    _check_of_scenes(ctx, folder)
    if predictions is not None and not predictions.is_dir():
        raise DualpixError(f"no folder '{predictions}'", expected="a folder of predicted maps")
    for model in models:
        check_model(model)
    if pictures is not None:
        check_output_dir(pictures)
    asked = Asked(data, folder, count, size, frames, methods, models, working_size, predictions, pictures)
    from dualpix.models.evaluate.cli_run import evaluate_asked

    evaluate_asked(asked, as_json=as_json)


def _check(data: str, folder: Path | None, size: tuple[int, int]) -> None:
    """Whether there can be any scene."""
    if data in RENDERED and not (folder is not None and data in TAKE_FOLDERS):
        if folder is not None:
            raise DualpixError(f"'{folder}' was given with --data {data}", expected="no folder: scenes are rendered")
        if size[0] % _MULTIPLE_PX or size[1] % _MULTIPLE_PX:
            raise DualpixError(f"rendered scenes of {size[0]} x {size[1]} px", expected=f"multiples of {_MULTIPLE_PX}")
    elif folder is None or not folder.exists():
        raise DualpixError(f"no folder '{folder}'" if folder else "no folder given", expected=f"the data of {data}")
    elif folder.is_dir() and next(folder.iterdir(), None) is None:
        raise DualpixError(f"'{folder}' is empty", expected=f"the data of {data}", hint="see --protocol")


def _check_of_stacks(ctx: click.Context, data: str) -> None:
    """Whether there are stacks whose frames can be counted.

    Raises:
        DualpixError: of the other protocols the data decide.
    """
    if data not in TAKE_FOLDERS and given_options(ctx, ["frames"]):
        raise DualpixError(f"--frames was given with --data {data}", expected=f"it with {' or '.join(TAKE_FOLDERS)}")


def _check_of_scenes(ctx: click.Context, folder: Path | None) -> None:
    """Refuse what is of rendered scenes alone, which those of a folder would silently do without.

    Raises:
        DualpixError: there is such an option.
    """
    given = given_options(ctx, ["count", "size"])
    if folder is not None and given:
        raise DualpixError(
            f"{given[0]} was given with '{folder}'",
            expected="rendered scenes with it: all that a folder holds is scored",
        )
