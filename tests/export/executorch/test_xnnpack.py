"""Each precision of the XNNPACK flow on a small siamese network, and what the check of a written file catches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.support.tiny_net import scene, sqnr_db, tiny_net
from torch import Tensor, fx, nn

from dualpix.export.artefact import BuildRequest, ExportError, quiet
from dualpix.export.executorch import xnnpack
from dualpix.export.executorch.runtime import PteProgram
from dualpix.quantize.calibration import CalibrationSet, Inputs


class Attentive(nn.Module):
    """Convolutions around an attention of linears, as in a small vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, 4)
        self.q, self.k, self.v, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.last = nn.Conv2d(32, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        heads = [layer(tokens).reshape(1, -1, 2, 16).transpose(1, 2) for layer in (self.q, self.k, self.v)]
        attended = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(tokens.shape)
        y = tokens + self.out(attended)
        return self.last(y.transpose(1, 2).reshape(1, 32, x.shape[2] // 4, x.shape[3] // 4))


def attentive() -> nn.Module:
    torch.manual_seed(3)
    return Attentive().eval()


def request(module: nn.Module, precision: str, path: Path, samples: tuple[Inputs, ...]) -> BuildRequest:
    names = tuple(f"x{i}" for i in range(len(samples[0])))
    return BuildRequest(module, precision, path, samples[0], names, ("y",), CalibrationSet(samples, "test"))


def _siamese_samples(count: int = 3) -> tuple[Inputs, ...]:
    return tuple(scene((32, 48)) for _ in range(count))


@pytest.mark.parametrize(("precision", "least_db"), [("fp32", 90.0), ("fp16", 40.0), ("int8", 20.0)])
def test_a_program_computes_what_the_network_does(tmp_path: Path, precision: str, least_db: float) -> None:
    net, samples = tiny_net(), _siamese_samples()
    artefact = xnnpack.build(request(net, precision, tmp_path / "a.pte", samples))
    assert artefact.predict and artefact.delegation
    with torch.no_grad():
        assert sqnr_db(net(*samples[1]), artefact.predict(samples[1])) > least_db
    assert artefact.details["agreement_db"] > least_db
    assert artefact.delegation.compute_share == 1.0, artefact.delegation.left_operators
    again = xnnpack.load(tmp_path / "a.pte", (), "")
    assert again is not None and torch.equal(again(samples[0]), artefact.predict(samples[0]))
    assert {p.name for p in tmp_path.iterdir()} == {"a.pte", "a.etrecord"}, "no scratch is left"


@pytest.mark.parametrize(("precision", "least_db"), [("int8-dynamic", 25.0), ("4w8da", 10.0)])
def test_linears_with_ranges_of_the_moment(tmp_path: Path, precision: str, least_db: float) -> None:
    net = attentive()
    samples = tuple((torch.rand(1, 3, 32, 32),) for _ in range(2))
    artefact = xnnpack.build(request(net, precision, tmp_path / "a.pte", samples))
    assert artefact.predict
    with torch.no_grad():
        assert sqnr_db(net(*samples[1]), artefact.predict(samples[1])) > least_db


@pytest.mark.slow
def test_mixed_precision_keeps_its_budget(tmp_path: Path) -> None:
    net, samples = tiny_net(), _siamese_samples(4)
    artefact = xnnpack.build(request(net, "int8-mixed", tmp_path / "a.pte", samples))
    assert artefact.predict and 0.0 < artefact.details["int8_share"] <= 1.0
    with torch.no_grad():
        found = sqnr_db(net(*samples[3]), artefact.predict(samples[3]))
    assert found > 24, "a budget of 5 % of the output's RMS is 26 dB"


def test_an_unknown_precision_and_a_network_without_linears_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no precision 'w8'; expected one of fp32, fp16, int8"):
        xnnpack.build(request(tiny_net(), "w8", tmp_path / "a.pte", _siamese_samples()))
    with pytest.raises(ExportError, match="no linear layer"):
        xnnpack.build(request(tiny_net(), "4w8da", tmp_path / "a.pte", _siamese_samples()))
    assert not list(tmp_path.iterdir())


class Softmaxed(nn.Module):
    """Softmax over the innermost of four axes, between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 17, 3, padding=1), nn.Conv2d(17, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        volume = self.first(x).permute(0, 2, 3, 1)
        return self.last(torch.softmax(volume, -1).permute(0, 3, 1, 2))


def _leave(graph: fx.GraphModule, kind: Callable[[fx.Node], object] | None = None) -> fx.GraphModule:
    return graph


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_wrong_softmax_is_repaired_and_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    torch.manual_seed(0)
    net = Softmaxed().eval()
    with torch.no_grad():
        net.first.weight.mul_(6.0)
    samples = ((torch.rand(1, 3, 16, 24),), (torch.rand(1, 3, 16, 24),))
    artefact = xnnpack.build(request(net, precision, tmp_path / "right.pte", samples))
    assert artefact.details["agreement_db"] > (90 if precision == "fp32" else 25)
    monkeypatch.setattr(xnnpack, "rewrite_for_xnnpack", _leave)
    than = "the network" if precision == "fp32" else "its emulation"
    with pytest.raises(ExportError, match=f"'wrong.pte' computes something else than {than}: "):
        xnnpack.build(request(net, precision, tmp_path / "wrong.pte", samples))
    assert not (tmp_path / "wrong.pte").exists()


def test_what_the_check_of_an_output_refuses(tmp_path: Path) -> None:
    given = request(tiny_net(), "int8", tmp_path / "a.pte", _siamese_samples(1))
    right = torch.rand(1, 1, 8, 8) + 1
    noisy, wrong = right + 0.02 * torch.randn(right.shape), right.flip(3)
    assert xnnpack.check_output(given, noisy, right, noisy) > 100
    with pytest.raises(ExportError, match="than its emulation"):  # rounding explains no such difference
        xnnpack.check_output(given, noisy, right, right)
    with pytest.raises(ExportError, match="not finite"):
        xnnpack.check_output(given, torch.full_like(right, torch.nan), right, right)
    with pytest.raises(ExportError, match=r"gives \(1, 8, 8\)"):
        xnnpack.check_output(given, right[0], right, right)
    with pytest.raises(ExportError, match="than its emulation"):
        xnnpack.check_output(given, wrong * 3, right, noisy)
    spoilt = right + torch.randn(right.shape)
    assert xnnpack.check_output(given, spoilt + 0.6 * torch.randn(right.shape), right, spoilt) < 15


def test_the_record_of_a_program_goes_with_it(tmp_path: Path) -> None:
    net, inputs = tiny_net(), scene((32, 48))
    with quiet(), torch.no_grad():
        exported = torch.export.export(xnnpack.rewritten(net, inputs), inputs)
        buffer, record, delegation = xnnpack.lower_with_record(exported)
    (tmp_path / "a.pte").write_bytes(buffer)
    record.save(str(tmp_path / "a.etrecord"))
    with torch.no_grad():
        assert sqnr_db(net(*inputs), PteProgram(tmp_path / "a.pte")(inputs)) > 90
    assert (tmp_path / "a.etrecord").stat().st_size > 1000 and delegation.compute_share == 1.0


def test_attention_counts_as_two_products() -> None:
    exported = torch.export.export(attentive(), (torch.rand(1, 3, 32, 32),))
    total = sum(xnnpack.multiply_accumulates(node) for node in exported.graph.nodes)
    assert total == 64 * 32 * 48 + 4 * 64 * 32 * 32 + 2 * 2 * 64 * 64 * 16 + 64 * 32


class _Quotient(nn.Module):
    """Of two sums of squares, the lower one above a floor: right in float16 as long as small numbers are kept."""

    def __init__(self, unit: float) -> None:
        super().__init__()
        self.mean = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.mean.weight.data.fill_(1 / 9)
        self.register_buffer("unit", torch.tensor(unit))
        self.register_buffer("floor", torch.tensor(4e-6 * unit))

    def forward(self, x: Tensor) -> Tensor:
        squares = self.mean(x * x * self.unit)
        return squares / (squares + self.floor)


def test_what_arm64_flushes_to_zero_is_refused_though_it_runs_here(tmp_path: Path) -> None:
    x = torch.rand(1, 1, 16, 24, generator=torch.manual_seed(1)) * 0.02
    x[..., :8] = 1e-4  # squares that float16 does not hold, beside a floor that it holds as a subnormal number
    with pytest.raises(
        ExportError, match=r"flushes numbers below 6e-5 to zero.* values that are not finite.*div"
    ) as error:
        xnnpack.build(request(_Quotient(1.0), "fp16", tmp_path / "small.pte", ((x,),)))
    assert "by a factor" in str(error.value) and not list(tmp_path.iterdir())
    scaled = _Quotient(1024.0)
    program = xnnpack.build(request(scaled, "fp16", tmp_path / "scaled.pte", ((x,),)))
    assert program.predict is not None and sqnr_db(scaled(x), program.predict((x,))) > 40
