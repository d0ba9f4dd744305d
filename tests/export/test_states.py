"""Modules that change their buffers, as functions of their inputs and states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.capture.errors import DualpixError
from dualpix.export.flow import ExportResult
from dualpix.export.manifest import read_manifest
from dualpix.export.module import export_module
from dualpix.export.own.states import StatesAsInputs, states_as_inputs


class Recurrent(nn.Module):
    """Someone's recurrent depth: a hidden map and a running exposure, both buffers of submodules."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Conv2d(3, 4, 3, padding=1)
        self.cell = _Cell()
        self.head = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"depth": self.head(self.cell(F.relu(self.encode(image))))}


class _Cell(nn.Module):
    hidden: Tensor
    level: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(8, 4, 3, padding=1)
        self.register_buffer("hidden", torch.linspace(-1, 1, 4 * 16 * 24).reshape(1, 4, 16, 24))
        self.register_buffer("level", torch.full((1, 1, 1, 1), 0.5), persistent=False)
        self.register_buffer("gain", torch.tensor(2.0))  # changes in no call

    def forward(self, x: Tensor) -> Tensor:
        self.level = 0.5 * self.level + 0.5 * x.mean((1, 2, 3), keepdim=True)  # replaced
        self.hidden.mul_(0.7).add_(torch.tanh(self.mix(torch.cat([self.hidden, x], 1))), alpha=0.3)  # in place
        return self.hidden * self.gain - self.level


def _net() -> Recurrent:
    torch.manual_seed(5)
    return Recurrent().eval()


def _frames(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(8)
    return [torch.rand(1, 3, 16, 24, generator=generator) for _ in range(count)]


def test_a_sequence_with_states_handed_over_is_the_modules_own() -> None:
    net, frames = _net(), _frames(4)
    begun = {name: buffer.clone() for name, buffer in net.named_buffers()}
    wrapped, samples, facts = states_as_inputs(net, frames)  # type: ignore[arg-type]
    assert all(torch.equal(begun[name], buffer) for name, buffer in net.named_buffers()), "it is left as it was"
    assert facts["input_names"] == ("image", "cell_hidden", "cell_level")
    assert facts["output_names"] == ("depth", "next_cell_hidden", "next_cell_level")
    for frame, sample in zip(frames, samples, strict=True):
        with torch.no_grad():
            expected = net(frame)["depth"]  # which goes on from call to call
            found, *states = wrapped(*sample)
        assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(states[0], net.cell.hidden, atol=1e-6), "the last states are the module's"
    assert torch.equal(samples[0][1], begun["cell.hidden"]) and not torch.equal(samples[1][1], begun["cell.hidden"])


def test_a_module_without_states_is_no_case_for_it() -> None:
    with pytest.raises(DualpixError, match="forward of Conv2d changes no buffer; expected a state that is registered"):
        states_as_inputs(nn.Conv2d(3, 1, 3), torch.rand(1, 3, 8, 8))


def test_the_refusal_of_a_stateful_module_says_what_to_call(tmp_path: Path) -> None:
    with pytest.raises(DualpixError, match=r"its buffer 'cell\.\w+' \(and 1 more\) changes.*states_as_inputs makes"):
        export_module(_net(), _frames(2), tmp_path / "out", ["xnnpack-fp32"])
    assert not (tmp_path / "out").exists()


def exported(folder: Path, recipe: str) -> tuple[ExportResult, StatesAsInputs]:
    """A stateful module's export, and the module as it was exported."""
    wrapped, samples, facts = states_as_inputs(_net(), _frames(5))  # type: ignore[arg-type]
    result = export_module(
        wrapped, samples[:3], folder, [recipe], evaluation_inputs=samples[3:], name="recurrent", rounds=1, **facts
    )
    assert isinstance(wrapped, StatesAsInputs)
    return result, wrapped


def check_runs_on(result: ExportResult, wrapped: StatesAsInputs) -> None:
    """From the starting values beside the programs, fed with its own states, a program follows the module."""
    assert result.passed, [r.verdict.reason for r in result.results]
    folder = result.folder
    entries = {entry["name"]: entry for entry in read_manifest(folder)["input"]["tensors"]}
    outputs = [entry["name"] for entry in read_manifest(folder)["outputs"]]
    assert entries["cell_hidden"]["state"] == {"start": "start.cell_hidden", "next": "next_cell_hidden"}
    assert "state" not in entries["image"] and json.loads((folder / "gate.json").read_text())["passed"]
    stored = load_file(folder / "reference.safetensors")
    states = {name: stored[entry["state"]["start"]] for name, entry in entries.items() if "state" in entry}
    assert torch.equal(states["cell_hidden"], wrapped.module.get_buffer("cell.hidden"))
    (built,) = result.results
    assert built.artefact and built.artefact.predict
    predict, eager = built.artefact.predict, _net()
    for frame in _frames(6):
        with torch.no_grad():
            expected = eager(frame)["depth"]
            given = dict(zip(outputs, predict((frame, *states.values())), strict=True))
        states = {name: given[entries[name]["state"]["next"]] for name in states}
        assert torch.allclose(given["depth"], expected, atol=1e-4)


def test_a_program_is_fed_with_its_states_from_their_starting_values(tmp_path: Path) -> None:
    check_runs_on(*exported(tmp_path / "out", "xnnpack-fp32"))
