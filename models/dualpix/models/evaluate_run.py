"""Carrying out ``dualpix evaluate``, once what is asked has been looked at: scores, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column, Table

from dualpix.capture.colour_map import save_picture
from dualpix.capture.files import make_output_dir
from dualpix.capture.progress import ProgressLine
from dualpix.capture.terminal import echo_json
from dualpix.models.evaluate import (
    Method,
    Scene,
    SceneScore,
    comparison_picture,
    dp119,
    evaluate,
    group_means,
    mean_scores,
    pixel4_xin,
    rendered,
)
from dualpix.models.evaluate_cli import Asked
from dualpix.models.predict import match_disparity, predict_disparity
from dualpix.models.zoo import load_model

_COLUMNS = {
    "mae_m": "MAE m",
    "abs_rel": "AbsRel",
    "rmse_diopters": "RMSE 1/m",
    "ai1": "AI(1)",
    "ai2": "AI(2)",
    "one_minus_abs_rho": "1-|ρ|",
    "mae_px": "MAE px",
    "bad_1px": "> 1 px",
}
_CONFIDENCE_COLUMNS = {"ause": "AUSE", "measured": "measured"}
_READERS = {"pixel4-xin": pixel4_xin, "dp119": dp119}


def evaluate_asked(asked: Asked, *, as_json: bool) -> None:
    """Score every method on every scene and show the scores.

    Raises:
        DualpixError: see :func:`~dualpix.models.zoo.load_model` and the readers of :mod:`dualpix.models.evaluate`.
    """
    runs = _runs(asked)
    if asked.pictures:
        make_output_dir(asked.pictures)
    scores: list[SceneScore] = []
    with ProgressLine("evaluating") as line:
        for done, (scene, results) in enumerate(evaluate(_scenes(asked), runs), start=1):
            scores += [r.score for r in results]
            if asked.pictures:
                save_picture(asked.pictures / f"{scene.name}.png", comparison_picture(scene, results))
            line.update(done, asked.count, scene.name)
    means = mean_scores(scores)
    if as_json:
        echo_json(_record(asked, scores, means))
    else:
        Console().print(_table(scores, means, _COLUMNS, each=True))
        Console().print(_table(scores, means, _CONFIDENCE_COLUMNS, each=False))


def _scenes(asked: Asked) -> Iterator[Scene]:
    """The scenes, read or rendered as they are needed."""
    if asked.folder is None:
        return rendered(asked.count, asked.size_hw)
    return _READERS[asked.data](asked.folder)


def _runs(asked: Asked) -> dict[str, Method]:
    runs: dict[str, Method] = {}
    for method in asked.methods:
        if method == "sgbm":
            runs["sgbm"] = match_disparity
            continue
        for name in asked.models:
            model = load_model(name)
            # folders may share their last name
            label = model.name if model.name not in runs else str(name)
            runs[label] = partial(predict_disparity, model=model, working_long_side_px=asked.working_sizes_px or None)
    return runs


def _record(asked: Asked, scores: list[SceneScore], means: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {
        "data": asked.data,
        "network_working_sizes_px": list(asked.working_sizes_px) or None,
        "metric": "affine-invariant, ICCV 2019 form: IRLS 5 x, floor 1e-3; ranks as 'ties' says",
        "mean": means,
        "group_mean": group_means(scores),
        "scenes": [score.to_json() for score in scores],
        "versions": {"dualpix": version("dualpix"), "torch": version("torch"), "opencv": version("opencv-python")},
    }


def _table(scores: list[SceneScore], means: dict[str, dict[str, float]], shown: dict[str, str], *, each: bool) -> Table:
    """Means, after each scene's own figures if asked for."""
    columns = {key: title for key, title in shown.items() if all(key in mean for mean in means.values())}
    numbers = (Column(title, justify="right", no_wrap=True) for title in columns.values())
    # on 80 columns the method's name gives way first
    names = (Column(name, overflow="fold", min_width=width) for name, width in (("scene", 10), ("method", 6)))
    table = Table(*names, *numbers, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for score in scores if each else ():
        flat = score.to_json()
        table.add_row(score.scene, score.method, *(f"{flat[key]:.4f}" for key in columns))
    for group, of_group in {**group_means(scores), "": means}.items():
        table.add_section()
        for method, mean in of_group.items():
            label = f"mean {group}".rstrip()
            table.add_row(label, method, *(f"{mean[key]:.4f}" for key in columns), style="bold")
    return table
