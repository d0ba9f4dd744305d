"""Distillation: what teachers say is learnt beside the truth, by how sure they are."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dualpix.capture.cli import main
from dualpix.capture.files import sha256_of_file
from dualpix.models.data.rendered import RenderSettings
from dualpix.models.losses import taught_disparity_loss
from dualpix.models.networks.spec import NetworkSpec
from dualpix.models.train import TrainConfig, Trainer, config_from_json
from dualpix.models.train.teachers import Teachers
from dualpix.models.zoo import ZOO, LoadedModel

SMALL = RenderSettings(size_hw=(64, 96), coc_span_px=(3.0, 10.0), max_coc_px=10.0)
CONFIG = TrainConfig(
    network="dplive", steps=1, batch_size=1, samples=1, eval_samples=0, crop_hw=None, render=SMALL, warmup_steps=0
)


class Says(nn.Module):
    """The left view times a number, and how sure it is of that."""

    def __init__(self, factor: float, sure: float | None) -> None:
        super().__init__()
        self.factor, self.sure = factor, sure

    def forward(self, left: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        disparity = self.factor * left
        return disparity if self.sure is None else (disparity, torch.full_like(disparity, self.sure))


def teacher(factor: float, sure: float | None) -> LoadedModel:
    spec = NetworkSpec(lambda options: Says(factor, sure), (("left", 1),), "disparity_px", 1, "none")
    return LoadedModel("says", Says(factor, sure).eval(), spec, {}, Path("nowhere"))


def batch() -> dict[str, Tensor]:
    views = torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    return {"left": views, "right": views, "combined": views.expand(-1, 3, -1, -1)}


def test_several_teachers_give_the_mean_of_their_maps_and_confidences() -> None:
    models = [teacher(2.0, 0.5), teacher(4.0, None)]
    disparity, weight = Teachers(models, 1.0, torch.device("cpu")).maps(batch())
    (seen,) = models[0].spec.inputs_of(batch())
    torch.testing.assert_close(disparity, 3 * seen)
    torch.testing.assert_close(weight, torch.full_like(seen, 0.75))


def test_loss_by_hand() -> None:
    """A flat map has no deviation: the error counts in px, by the confidence, and where that is 0 not at all."""
    taught, weight = torch.full((1, 1, 8, 8), 2.0), torch.zeros(1, 1, 8, 8)
    weight[..., :4] = 0.5
    found = torch.full((1, 1, 8, 8), 2.5)
    found[..., 4:] = 900.0
    assert float(taught_disparity_loss([found], taught, weight)) == pytest.approx(0.5 * 0.5 / 2)
    coarse = torch.full((1, 1, 4, 4), 3.0)
    both = taught_disparity_loss([found, coarse], taught, weight)
    assert float(both) == pytest.approx(0.5 * 0.5 / 2 + 0.2 * 0.5 * 1.0 / 2)
    assert float(taught_disparity_loss([taught], taught, weight)) == 0
    with pytest.raises(ValueError, match="0 predictions"):
        taught_disparity_loss([], taught, weight)


def test_coarse_predictions_learn_the_mean_of_what_is_sure() -> None:
    taught = torch.tensor([[1.0, 100.0], [1.0, 100.0]]).repeat(2, 2)[None, None]
    weight = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).repeat(2, 2)[None, None]
    assert float(taught_disparity_loss([torch.ones(1, 1, 2, 2)], taught, weight)) == 0


def first_loss(folder: Path) -> float:
    with (folder / "log.csv").open() as file:
        return float(next(csv.DictReader(file))["loss"])


def test_the_loss_has_the_teachers_term_by_its_weight_and_the_card_names_them(tmp_path: Path) -> None:
    taught = replace(CONFIG, teachers=("difusenet-compact",), teacher_weight=20.0)
    runs = {"alone": CONFIG, "once": replace(taught, teacher_weight=1.0), "taught": taught}
    found = {name: Trainer(config, tmp_path / name, workers=0).run().state_dict() for name, config in runs.items()}
    loss = {name: first_loss(tmp_path / name) for name in runs}
    assert loss["once"] > loss["alone"] + 0.01
    assert loss["taught"] - loss["alone"] == pytest.approx(20 * (loss["once"] - loss["alone"]), rel=1e-3)
    assert any(not torch.equal(found["alone"][name], found["taught"][name]) for name in found["alone"])
    cards = [json.loads((tmp_path / folder / "card.json").read_text()) for folder in ("taught", "alone")]
    digest = sha256_of_file(ZOO / "difusenet-compact" / "weights.safetensors")
    assert cards[0]["taught_by"] == [f"difusenet-compact, SHA-256 {digest}"] and "taught_by" not in cards[1]
    assert config_from_json(cards[0]["training"] | {"precision": "auto"}) == taught


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher", "nosuch"], "unknown model 'nosuch'"),
        (
            ["--teacher", "fossa-compact"],
            "teacher 'fossa-compact' gives depth_m; expected a model that gives disparity_px",
        ),
        (["--teacher", "dplive", "--network", "fossa"], "a teacher for network 'fossa', which gives depth_m"),
        (["--teacher", "dplive", "--recipe", "cmtl"], "--recipe and --teacher were given"),
        (["--teacher", "dplive", "--teacher-weight", "nan"], "teacher_weight nan; expected 0 to 100"),
        (["--teacher-weight", "2"], "--teacher-weight was given without a teacher"),
    ],
)
def test_refusals_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = ["--steps", "1", "--samples", "1", "--workers", "0", "--eval-samples", "0"]
    with pytest.raises(SystemExit) as stop:
        main(["train", "-o", str(tmp_path / "run"), *scene, *words])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dualpix: error")]
    assert stop.value.code == 2 and len(said) == 1 and message in said[0]
    assert not (tmp_path / "run" / "card.json").exists()
