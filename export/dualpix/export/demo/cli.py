"""``dualpix demo``: the whole way on a simulated camera."""

from __future__ import annotations

from pathlib import Path

import click

from dualpix.capture.files import check_output_dir
from dualpix.models.zoo.cards import DEFAULT_MODEL, model_folder


@click.command("demo")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("demo_out"), help="Folder of the results."
)
@click.option("--seed", type=click.IntRange(0), default=3, help="Scene in front of the simulated camera.")
@click.option("--model", default=DEFAULT_MODEL, help="A shipped network's name, or a folder with card and weights.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
def command(output: Path, seed: int, model: str, as_json: bool) -> None:
    """The whole way on a simulated camera, in a few minutes, without a download.

    A procedural scene through a dual-pixel lens becomes a real DNG; it is decoded, its depth is estimated and
    compared with the simulator's truth; the network is exported for phones, gated and timed; a report tells it all.
    The gate's verdict is part of the result; `dualpix export` is the command whose exit code carries it.
    """
    model_folder(model)
    check_output_dir(output)
    from dualpix.export.demo.run import run_demo, show
    from dualpix.models.zoo import load_model

    result = run_demo(output, seed=seed, model=load_model(model))
    show(result, as_json=as_json)
