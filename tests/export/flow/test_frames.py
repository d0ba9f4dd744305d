"""Programs for so many frames of a focus stack: what they take, what judged them, what they are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from tests.support.toy_network import toy_folder

from dualpix.capture.cli import root
from dualpix.export.executorch.runtime import PteProgram
from dualpix.models.data.scenes import task_scene
from dualpix.models.networks import build_network, network_spec
from dualpix.models.tasks import DUAL_PIXEL, FOCUS_STACK
from dualpix.quantize.calibration import rendered_calibration, rendered_evaluation, rendered_held_back, rendered_search

SIZE_HW = (32, 48)
FEW = ("--eval-count", "2", "--calibration-count", "2", "--rounds", "2")


def run(*words: object) -> Result:
    return CliRunner().invoke(root, [str(word) for word in words], catch_exceptions=False)


def untrained(folder: Path, network: str) -> Path:
    """A model at random weights."""
    torch.manual_seed(0)
    folder.mkdir()
    save_file(build_network(network).state_dict(), folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps({"network": network}))
    return folder


def check_export(out: Path, stem: str, frames: int, size_hw: tuple[int, int]) -> None:
    """What every file of an export for ``frames`` says, and that its program takes as many."""
    manifest = json.loads((out / "manifest.json").read_text())
    per_frame = {t["name"]: t["shape"][1] for t in manifest["input"]["tensors"] if t["per_frame"]}
    assert {"frames", "focus_diopters"} <= set(per_frame) and set(per_frame.values()) == {frames}
    assert manifest["input"]["frames"] == frames and manifest["outputs"][0]["shape"] == [1, 1, *size_hw]
    program = out / f"{stem}-{frames}-frames-xnnpack-fp32.pte"
    assert [entry["file"] for entry in manifest["artefacts"]] == [program.name]
    for judged in ("calibration", "evaluation"):
        assert f"2 rendered scenes of {frames} frames, seed" in manifest[judged]["description"]
    assert json.loads((out / "gate.json").read_text())["recipes"][0]["outcome"] == "runs, delegated, right"
    assert f"a stack has {frames} frames: for another number, export again" in (out / "MODEL_CARD.md").read_text()
    tensors = load_file(out / "reference.safetensors")
    inputs = tuple(tensors[f"input.{t['name']}"] for t in manifest["input"]["tensors"])
    outputs = PteProgram(program)(inputs)
    first = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
    stored = tensors.get("output.float", tensors.get("output.float.depth_m"))
    assert stored is not None and torch.allclose(first, stored, rtol=1e-3, atol=1e-3)
    assert run("verify", out).exit_code == 0


@pytest.mark.parametrize("frames", [2, 9])
def test_a_program_takes_the_frames_that_were_asked_for(
    frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_folder(tmp_path, monkeypatch)
    words = ("export", untrained(tmp_path / "net", "toynet:stack").name, "-o", "out", "--recipe", "xnnpack-fp32")
    done = run(*words[:1], f"toynet:stack@{words[1]}", *words[2:], "--size", "32x48", "--frames", frames, *FEW)
    assert done.exit_code == 0, done.output
    check_export(tmp_path / "out", "net", frames, SIZE_HW)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("frames", [2, 3])
def test_the_compact_network_for_few_frames(frames: int, tmp_path: Path) -> None:
    words = ("--recipe", "xnnpack-fp32", "--size", "64x96", "--frames", frames, *FEW)
    done = run("export", untrained(tmp_path / "net", "fossa"), "-o", tmp_path / "out", *words)
    assert done.exit_code == 0, done.output
    check_export(tmp_path / "out", "net", frames, (64, 96))


def test_scenes_of_every_use_have_so_many_frames() -> None:
    spec = network_spec("fossa")
    for frames in (2, 9):
        scene = task_scene(FOCUS_STACK, 0, SIZE_HW, frames=frames)
        assert scene["frames"].shape == (frames, 3, *SIZE_HW) and scene["focus_distances_m"].shape == (frames,)
        sets = [
            rendered_calibration(1, SIZE_HW, spec, frames=frames),
            *(
                make(1, SIZE_HW, spec, frames=frames)
                for make in (rendered_search, rendered_held_back, rendered_evaluation)
            ),
        ]
        for one in sets:
            inputs = one.samples[0] if isinstance(one.samples[0], tuple) else one.samples[0].inputs
            assert len(inputs) == len(spec.inputs)
            for name, tensor in zip(spec.input_names, inputs, strict=True):
                assert not FOCUS_STACK.field(name).per_frame or tensor.shape[:2] == (1, frames)
            assert one.description.startswith(f"1 rendered scenes of {frames} frames, seed")
    # five where nobody says; pairs have no frames
    assert rendered_evaluation(1, SIZE_HW, spec).samples[0].inputs[0].shape[1] == 5
    pair = rendered_evaluation(1, SIZE_HW)
    assert pair.description.startswith("1 rendered scenes, seed")
    assert task_scene(DUAL_PIXEL, 0, SIZE_HW, frames=3).keys() == task_scene(DUAL_PIXEL, 0, SIZE_HW).keys()


def test_the_search_of_mixed_precision_sees_as_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_folder(tmp_path, monkeypatch)
    untrained(tmp_path / "net", "toynet:stack")
    done = run(
        "quantize", "toynet:stack@net", "-o", "searched", "--size", "32x48", "--frames", "3", "--calibration-count",
        "2", "--held-back-count", "1", "--ranking-count", "1", "--budget", "50%",
    )  # fmt: skip
    assert done.exit_code in (0, 1), done.output
    facts = json.loads((tmp_path / "searched" / "quantize.json").read_text())
    assert facts["frames"] == 3 and facts["size_hw"] == [32, 48]
    assert "2 rendered scenes of 3 frames, seed" in facts["calibration"]["description"]
    assert "1 rendered scenes of 3 frames, seed" in facts["held_back"]["description"]
    done = run(
        "export", "toynet:stack@net", "-o", "out", "--size", "32x48", "--frames", "3", "--recipe", "xnnpack-int8-mixed",
        "--assignment", "searched/assignment.json", *FEW,
    )  # fmt: skip
    [entry] = json.loads((tmp_path / "out" / "manifest.json").read_text())["artefacts"]
    assert entry["file"] == "net-3-frames-xnnpack-int8-mixed.pte"
