"""What a run must not survive in silence: values that are not finite, damaged files; and an impatient user."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.capture.progress import ProgressLine
from dualpix.models.data.rendered import RenderedDataset, RenderSettings
from dualpix.models.foundation import foundation
from dualpix.models.tasks import DUAL_PIXEL, Sample
from dualpix.models.train import NotFiniteError, Progress, TrainConfig, Trainer, TrainingInterruptedError
from dualpix.models.train.checkpoint import CheckpointError
from dualpix.models.train.cli import command
from dualpix.models.train.cli_run import _Shower
from dualpix.models.train.device import resolve_precision

SMALL = RenderSettings(size_hw=(64, 96), coc_span_px=(3.0, 10.0), max_coc_px=10.0)
CONFIG = TrainConfig(
    steps=4, batch_size=1, samples=2, eval_samples=0, checkpoint_every=1, crop_hw=None, render=SMALL,
    precision="float32",
)  # fmt: skip


class Poisoned:
    """The task's augmentation, which gives a view that is not finite from some sample on."""

    def __init__(self, good: int, value: float) -> None:
        self.good, self.value, self.seen = good, value, 0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        sample = DUAL_PIXEL.augment(sample, rng)
        self.seen += 1
        if self.seen > self.good:
            sample["left"] = sample["left"].clone()
            sample["left"][0, 5, 7] = self.value
        return sample


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_loss_that_is_not_finite_ends_the_run(tmp_path: Path, value: float) -> None:
    trainer = Trainer(CONFIG, tmp_path, workers=0)
    trainer.data = replace(trainer.data, task=replace(DUAL_PIXEL, augment=Poisoned(2, value)))
    with pytest.raises(
        NotFiniteError, match=r"at step 3; so are samples of it \(left\).*the checkpoint of step 2 is ke"
    ):
        trainer.run()
    assert not (tmp_path / "weights.safetensors").exists() and not (tmp_path / "card.json").exists()
    # the last good checkpoint goes on as if the bad sample had never been
    again = Trainer(CONFIG, tmp_path, workers=0)
    assert again.resume() and again.step == 2
    whole = Trainer(CONFIG, tmp_path / "whole", workers=0)
    good, expected = again.run().state_dict(), whole.run().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in good.items())


def test_a_state_that_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    trainer = Trainer(replace(CONFIG, steps=1), tmp_path, workers=0)
    trainer.run()
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    weights = (tmp_path / "weights.safetensors").read_bytes()
    name = next(name for name in trainer.average if name.endswith("running_var"))
    trainer.network.state_dict()[name].fill_(torch.inf)
    trainer.average[name] = torch.full_like(trainer.average[name], torch.inf)
    with pytest.raises(NotFiniteError, match=f"'{name}' holds values that are not finite"):
        trainer.save()
    with pytest.raises(NotFiniteError, match=f"'{name}' holds values that are not finite"):
        trainer.finish()
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept
    assert (tmp_path / "weights.safetensors").read_bytes() == weights


def test_weights_that_blow_up_end_the_run_before_they_are_written(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, tmp_path, workers=0)
    with torch.no_grad():
        trainer.network.heads[0].bias.fill_(1e38)  # type: ignore[union-attr, index, operator]
        trainer.network.heads[0].weight.fill_(3e38)  # type: ignore[union-attr, index, operator]
    with pytest.raises(NotFiniteError, match=r"no checkpoint was made yet; give a lower --learning-rate than 0\.002"):
        trainer.run()
    assert [path.name for path in tmp_path.iterdir()] == []


Change = Callable[[dict[str, Any]], None]


def _first(tensors: dict[str, Tensor]) -> str:
    return next(name for name, value in tensors.items() if value.ndim == 4)


def _set(part: str, value: Any) -> Change:
    return lambda state: state.update({part: value})


def _in(part: str, change: Callable[[dict[str, Any]], None]) -> Change:
    return lambda state: change(state[part])


def _shape(tensors: dict[str, Tensor]) -> None:
    tensors[_first(tensors)] = torch.zeros(1)


def _nan(tensors: dict[str, Tensor]) -> None:
    tensors[_first(tensors)] = tensors[_first(tensors)] * torch.nan


def _moment(optimiser: dict[str, Any]) -> None:
    optimiser["state"][0]["exp_avg"] = torch.zeros(3)


def _huge_view(tensors: dict[str, Tensor]) -> None:
    tensors[_first(tensors)] = torch.zeros(1).expand(10**12)  # 4 bytes in the file, 4 TB if it were copied


DAMAGES: dict[str, tuple[Change, str]] = {
    **{
        f"without {name}": (lambda state, name=name: state.pop(name), f"'{name}' is missing")  # type: ignore[misc]
        for name in ("network", "optimiser", "average", "step", "config", "log")
    },
    "step is a text": (_set("step", "2"), "'step' is a str"),
    "step is true": (_set("step", True), "'step' is a bool"),
    "step is 10**9": (_set("step", 10**9), "it is of step 1000000000 of 4"),
    "step is negative": (_set("step", -1), "it is of step -1 of 4"),
    "step does not fit the log": (_set("step", 1), "its log has 2 rows for 1 steps"),
    "another shape": (_in("network", _shape), "'network' has no '"),
    "a view of one value": (_in("average", _huge_view), "'average' has no '"),
    "weights are nan": (_in("average", _nan), "that are not finite"),
    "a tensor too many": (_in("network", lambda n: n.update(more=torch.zeros(1))), "has 'more', which the network"),
    "a moment of another shape": (_in("optimiser", _moment), "'exp_avg' of the optimiser's entry 0 does not fit"),
    "no moments": (_in("optimiser", lambda o: o.update(state=[])), "'optimiser' is not one of this network"),
    "moments forgotten": (_in("optimiser", lambda o: o.update(state={})), "'optimiser' has no moments of"),
    "a moment forgotten": (_in("optimiser", lambda o: o["state"].pop(3)), "'optimiser' has no moments of 1 of"),
    "groups of a text": (_in("optimiser", lambda o: o.update(param_groups="x")), "'optimiser' is not one of this"),
    "settings no JSON": (_set("config", "{"), "its settings are no settings of a run"),
    "settings deep": (_set("config", "[" * 200_000), "its settings are no settings of a run"),
    "settings a list": (_set("config", "[1]"), "its settings are no settings of a run"),
    "precision of 8 bits": (_set("precision", "float8"), "'precision' is 'float8'"),
    "log of other columns": (_set("log", "a,b\n1,2\n"), "its log has other columns"),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The checkpoint of a run that was stopped after two steps."""
    folder = tmp_path_factory.mktemp("stopped")
    trainer = Trainer(CONFIG, folder, workers=0)

    def stop(progress: Any) -> None:
        if progress.step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterruptedError):
        trainer.run(stop)
    state: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return state


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    copied: dict[str, Any] = torch.load(buffer, weights_only=True)
    return copied


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_checkpoint_is_one_line(stopped: dict[str, Any], damage: str, tmp_path: Path) -> None:
    change, message = DAMAGES[damage]
    state = _copy(stopped)
    change(state)
    torch.save(state, tmp_path / "checkpoint.pt")
    trainer = Trainer(CONFIG, tmp_path, workers=0)
    with pytest.raises(CheckpointError, match="give --restart") as caught:
        trainer.resume()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_checkpoint(stopped: dict[str, Any], tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, tmp_path, workers=0)
    path = tmp_path / "checkpoint.pt"
    torch.save(stopped, path)
    whole = path.read_bytes()
    with (
        zipfile.ZipFile(io.BytesIO(whole)) as archive,
        zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    for content in (b"", b"x", whole[: len(whole) // 2], whole[:-40], (tmp_path / "packed").read_bytes(), b"PK" * 99):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="does not load"):
            trainer.resume()
    torch.save([1], path)
    with pytest.raises(CheckpointError, match="it holds a list"):
        trainer.resume()
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte that takes no room
    with pytest.raises(CheckpointError, match="it has 1048576 MiB, at most"):
        trainer.resume()


def test_a_checkpoint_of_version_0_1_0_goes_on(stopped: dict[str, Any], tmp_path: Path) -> None:
    state = _copy(stopped)
    del state["precision"]
    config = json.loads(state["config"])
    del config["precision"]
    state["config"] = json.dumps(config | {"bfloat16": True})
    torch.save(state, tmp_path / "checkpoint.pt")
    trainer = Trainer(replace(CONFIG, precision="auto"), tmp_path, workers=0)
    assert trainer.resume() and trainer.step == 2 and trainer.precision == "bfloat16"


def test_a_run_that_resumes_keeps_its_precision(stopped: dict[str, Any], tmp_path: Path) -> None:
    torch.save(stopped | {"precision": "bfloat16"}, tmp_path / "checkpoint.pt")
    trainer = Trainer(replace(CONFIG, precision="auto"), tmp_path, workers=0)
    trainer.precision = "float32"  # what auto is on another machine
    assert trainer.resume() and trainer.precision == "bfloat16"
    with pytest.raises(CheckpointError, match="was computed in bfloat16 so far, float32 was asked for"):
        Trainer(CONFIG, tmp_path, workers=0).resume()
    network = trainer.run()
    assert json.loads((tmp_path / "card.json").read_text())["training"]["precision"] == "bfloat16"
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


@pytest.mark.parametrize(
    ("has", "held", "expected"),
    [
        ("avx2", "", "float32"),
        ("avx2 avx512_f avx512_bw avx512_dq avx512_vl avx512_vnni", "", "float32"),  # Cascade Lake
        ("avx2 avx512_f avx512_bw avx512_dq avx512_vl avx512_vnni avx512_bf16", "", "bfloat16"),
        ("avx2 avx512_f avx512_bw avx512_dq avx512_vl avx512_vnni avx512_bf16", "AVX2", "float32"),
        ("avx2 avx512_f avx512_bw avx512_dq avx512_vl avx512_vnni avx512_bf16", "avx512_core_bf16", "bfloat16"),
    ],
)
def test_bfloat16_only_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, has: str, held: str, expected: str
) -> None:
    capabilities = {"architecture": "x86_64", **dict.fromkeys(has.split(), True)}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512" if "avx512" in has else "AVX2")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", held)
    assert resolve_precision("auto", torch.device("cpu")) == expected
    assert (
        resolve_precision("bfloat16", torch.device("cpu")) == "bfloat16"
        and resolve_precision("float32", torch.device("cpu")) == "float32"
    )


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def _wrong_shape(path: Path) -> None:
    save_file({name: torch.zeros(1, 8, 8).half() for name in ("left", "right", "combined", "disparity_px")}, path)


def _not_finite(path: Path) -> None:
    shapes = {"left": 1, "right": 1, "combined": 3, "disparity_px": 1}
    save_file({name: torch.full((c, 64, 96), torch.nan).half() for name, c in shapes.items()}, path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        _garbage,
        _wrong_shape,
        _not_finite,
        lambda path: os.truncate(path, 1 << 40),
    ],
    ids=["empty", "cut", "garbage", "shape", "nan", "terabyte"],
)
def test_a_damaged_scene_is_rendered_anew(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = RenderedDataset(1, settings=SMALL, seed=3, cache_dir=tmp_path)
    first = data[0]
    [path] = tmp_path.rglob("*.safetensors")
    whole = path.read_bytes()
    damage(path)
    again = data[0]
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert path.read_bytes() == whole
    assert capsys.readouterr().err == f"'{path}' is damaged; its scene is rendered anew\n"


def _train(folder: str) -> list[str]:
    options = "--steps 6 --batch-size 2 --samples 2 --checkpoint-every 100 --eval-samples 0 --workers 1 --threads 1"
    code = "from dualpix.capture.cli import main; main()"
    return [sys.executable, "-c", code, "train", "-o", folder, "--cache", "cache", *options.split()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that nobody stopped, and its scenes."""
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run(_train("whole"), cwd=folder, capture_output=True, check=True)
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_go_on_and_does(whole: Path, number: signal.Signals) -> None:
    run = _train(f"stopped-{number}")
    # a group of its own, and the signal to all of it: as a terminal sends it
    with subprocess.Popen(run, cwd=whole, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if "1/6 loss" in line:
                os.killpg(process.pid, number)
                break
        told += process.stderr.readlines()
    text = "".join(told)
    assert f"kept in 'stopped-{number}'; run the same command again to go on" in text and "Traceback" not in text, text
    assert process.returncode == 128 + number
    done = subprocess.run(run, cwd=whole, capture_output=True, text=True, check=True)
    assert "resuming at step" in done.stderr
    one, other = ((whole / name / "weights.safetensors").read_bytes() for name in (f"stopped-{number}", "whole"))
    assert one == other


HUGE = {"dp_channels": [2048] * 2, "image_channels": [2048] * 5, "decoder_channels": [2048] * 5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rate", "nan"], "learning_rate nan; expected 0 to 10"),
        (["--learning-rate", "-1"], "learning_rate -1.0; expected 0 to 10"),
        (["--learning-rate", "inf"], "learning_rate inf; expected 0 to 10"),
        (["--learning-rate", "0"], "learning_rate 0; expected above 0"),
        (["--init-share", "nan", "--init", "difusenet-compact"], "init_share nan; expected 0 to 1"),
        (["--steps", "1" + "0" * 30], "steps 1000000000000000000000000000000; expected 1 to 1e+08"),
        (["--options", '{"dp_channels": [16, 1000000000]}'], "expected whole numbers of 1 to 2048"),
        (["--options", json.dumps(HUGE)], "ask for 1,575,331,850 parameters; expected at most"),
        (["--options", '{"window": 8.0}'], "window is 8.0, expected 2, 4 or 8"),
        (["--options", "[" * 100_000], "--options is nested or long beyond reason"),
        (["--options", '{"window": NaN}'], "window is nan, expected 2, 4 or 8"),
        (["--options", '{"window": ' + "9" * 5000 + "}"], "--options is nested or long beyond reason"),
    ],
)
def test_arguments_out_of_range_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(
        command, ["-o", str(tmp_path / "run"), "--eval-samples", "0", "--steps", "1", *arguments]
    )
    assert isinstance(result.exception, DualpixError) and message in str(result.exception)
    assert not (tmp_path / "run").exists()  # nothing was begun


def test_a_log_tells_pace_and_time_left_from_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the rendering from its first scene on, of the steps from the second on, which does not wait for scenes."""
    shower = _Shower(ProgressLine("training"), 0, 400)
    for done in range(3):
        shower.stage("evaluation scenes are rendered", done, 4)
    shower.stage("the first scenes are rendered", 0, 0)
    for step in range(1, 60):
        shower.progress(Progress(step, 400, 0.5, None, "px"))
    lines = capsys.readouterr().err.splitlines()
    pace = r"  [\d.]+{}/s  [\d:]+ left"
    wanted = [
        r"training: 0/400 evaluation scenes are rendered 0/4",
        r"training: 0/400 evaluation scenes are rendered 1/4" + pace.format(""),
        r"training: 0/400 the first scenes are rendered",
        r"training: 1/400 loss 0\.5000",
        r"training: 2/400 loss 0\.5000" + pace.format(" steps"),
        r"training: 50/400 loss 0\.5000" + pace.format(" steps"),
    ]
    assert len(lines) == len(wanted), lines
    for line, pattern in zip(lines, wanted, strict=True):
        assert re.fullmatch(pattern, line), line


def test_settings_survive_json() -> None:
    from dualpix.models.train import config_from_json

    config = replace(CONFIG, crop_hw=(32, 64), options={"window": 4})
    assert config_from_json(json.loads(json.dumps(asdict(config)))) == config


def test_a_run_goes_on_without_the_files_it_started_from(tmp_path: Path) -> None:
    published = tmp_path / "lite0.safetensors"
    model = foundation("efficientnet-lite0")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, published)
    config = replace(CONFIG, network="fmdp", options={"foundation_weights": str(published)}, steps=2)
    first = Trainer(config, tmp_path / "run", workers=0)
    assert first.started_from and published.name in first.started_from[0]
    first.save()
    published.unlink()
    with pytest.raises(DualpixError, match=published.name):
        Trainer(config, tmp_path / "run", workers=0)
    again = Trainer(config, tmp_path / "run", workers=0, goes_on=True)
    with pytest.raises(RuntimeError, match="resumed first"):
        again.run()
    assert again.resume() and again.started_from == first.started_from
    begun, kept = again.network.state_dict(), first.network.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in begun.items())
    again.run()
    assert json.loads((tmp_path / "run" / "card.json").read_text())["started_from"] == list(first.started_from)


def test_what_a_checkpoint_says_of_its_start_is_text(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, tmp_path, workers=0)
    trainer.save()
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save(content | {"started_from": [1]}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="'started_from' holds what is no text"):
        trainer.resume()
    del content["started_from"]  # as 0.1.0 wrote it
    torch.save(content, tmp_path / "checkpoint.pt")
    again = Trainer(CONFIG, tmp_path, workers=0, goes_on=True)
    assert again.resume() and again.started_from == ()
