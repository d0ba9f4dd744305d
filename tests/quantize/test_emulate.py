from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.tiny_net import scene, sqnr_db, tiny_net
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.quantize.emulate import Emulator, macs_of, rounded_weight
from dualpix.quantize.keep import keep_modules, keep_nothing
from dualpix.quantize.ptq import exported_graph, quantise_static

_CHOICES = ((), ("encode.0",), ("head",), ("join", "image"), ("encode", "join"), ("encode", "head", "join", "image"))


@pytest.fixture(scope="module")
def samples() -> list[tuple[Tensor, ...]]:
    torch.manual_seed(3)
    return [scene() for _ in range(4)]


@pytest.fixture(scope="module")
def emulator(samples: list[tuple[Tensor, ...]]) -> Emulator:
    return Emulator(tiny_net(), samples[:3])


@pytest.mark.parametrize("kept", _CHOICES)
def test_every_choice_loses_what_the_exported_graph_loses(
    emulator: Emulator, samples: list[tuple[Tensor, ...]], kept: tuple[str, ...]
) -> None:
    net, keep = tiny_net(), keep_modules(*kept)
    with torch.no_grad():
        expected = net(*samples[3])
        emulated = sqnr_db(expected, emulator.graph(keep)(*samples[3]))
        converted = sqnr_db(expected, quantise_static(net, samples[:3], keep)(*samples[3]))
    assert emulated == pytest.approx(converted, abs=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [(), ("encode",), ("head",)])
def test_emulation_agrees_with_the_runtime(
    emulator: Emulator, samples: list[tuple[Tensor, ...]], kept: tuple[str, ...], tmp_path: Path
) -> None:
    from dualpix.export.executorch.probe import run_apart
    from dualpix.export.executorch.xnnpack import lower

    net, keep = tiny_net(), keep_modules(*kept)
    with torch.no_grad():
        graph = quantise_static(net, samples[:3], keep)
        expected, emulated = net(*samples[3]), emulator.graph(keep)(*samples[3])
        (tmp_path / "net.pte").write_bytes(lower(torch.export.export(graph, samples[3]))[0])
    run = run_apart(tmp_path / "net.pte", samples[3])
    assert sqnr_db(expected, run) == pytest.approx(sqnr_db(expected, emulated), abs=1.0)


def test_choices_do_not_leak_into_one_another(emulator: Emulator, samples: list[tuple[Tensor, ...]]) -> None:
    with torch.no_grad():
        first = emulator.graph()(*samples[3])
        emulator.graph(keep_modules("join"))
        assert torch.equal(emulator.graph()(*samples[3]), first)


def test_layers_are_modules_with_all_their_calls(emulator: Emulator) -> None:
    layers = {layer.path: layer for layer in emulator.layers}
    assert set(layers) == {"image.0", "encode.0", "encode.3", "join.0", "head"}
    assert layers["encode.3"].macs == 2 * 64 * 32 * 48, "called twice"
    assert (layers["encode.3"].weights, layers["encode.3"].channels) == (64, 8)
    assert layers["encode.3"].float_bytes == 256 and layers["encode.3"].int8_bytes == 64 + 32
    assert emulator.total_macs == sum(layer.macs for layer in emulator.layers)


class _Products(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 3, 2, 2)
        self.project = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.up(x).reshape(3, 8, 8)
        y: Tensor = self.project(torch.bmm(rows, rows))
        return y


def test_multiply_accumulates_of_every_kind() -> None:
    graph = exported_graph(_Products(), (torch.rand(1, 2, 4, 4),)).graph
    counts = {str(n.target).split(".")[1]: macs_of(n) for n in graph.nodes if macs_of(n)}
    assert counts == {"conv_transpose2d": 2 * 16 * 3 * 4, "bmm": 3 * 8 * 8 * 8, "linear": 3 * 8 * 5 * 8}


def test_weights_round_symmetrically_per_channel() -> None:
    weight = torch.tensor([[1.0, -0.5, 0.004], [100.0, 50.0, 0.3]])
    rounded = rounded_weight(weight)
    assert torch.allclose(rounded[0], weight[0], atol=0.5 / 127) and torch.allclose(
        rounded[1], weight[1], atol=50 / 127
    )
    assert rounded[0, 0] == 1.0 and rounded[1, 2] == 0.0
    tiny = rounded_weight(torch.full((1, 1), 1e-5))
    assert tiny.item() == pytest.approx(1e-5)  # in whatever unit the numbers are


def test_coverage_names_the_layers_that_saturate(emulator: Emulator, samples: list[tuple[Tensor, ...]]) -> None:
    same = {c.path: c.inside for c in emulator.coverage(samples[:3])}
    assert min(same.values()) > 0.98
    image, left, right = samples[3]
    bright = emulator.coverage([(image, 3.0 * left, 3.0 * right)])
    inside = {c.path: c.inside for c in bright}
    assert bright[0].path.startswith("encode") and inside["encode.0"] < 0.9 < inside["image.0"]
    assert [c.inside for c in bright] == sorted(c.inside for c in bright)


def test_a_trainable_graph_computes_the_same_and_has_gradients(
    emulator: Emulator, samples: list[tuple[Tensor, ...]]
) -> None:
    student = emulator.graph(keep_nothing, trainable=True).requires_grad_(True)
    output = student(*samples[3])
    with torch.no_grad():
        assert torch.allclose(output, emulator.graph()(*samples[3]), atol=1e-6)
    output.square().mean().backward()
    gradients = {name: p.grad for name, p in student.named_parameters()}
    assert all(g is not None and g.abs().sum() > 0 for g in gradients.values()) and "encode.3.weight" in gradients


def test_no_samples_are_a_user_error(emulator: Emulator) -> None:
    with pytest.raises(DualpixError, match="no calibration samples"):
        Emulator(tiny_net(), [])
    with pytest.raises(DualpixError, match="no working samples"):
        emulator.coverage([])
