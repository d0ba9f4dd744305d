from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.capture.errors import DualpixError
from dualpix.export.flow.precheck import check_metrics, float_outputs
from dualpix.export.own.called import called
from dualpix.quantize.score import Metric, constant_like, score


class _Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)))


class _Buffer(_Base):
    """An exponential mean over the calls."""

    state: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(1, 1, 8, 12))

    def forward(self, x: Tensor) -> Tensor:
        self.state.mul_(0.9).add_(super().forward(x), alpha=0.1)
        return self.state.clone()


class _Peak(_Base):
    """Two runs on one input agree; a run after that on another input does not."""

    peak: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("peak", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.peak.copy_(torch.maximum(self.peak, x.max()))
        return super().forward(x) / self.peak


class _Attribute(nn.Module):
    """The former frame is kept in a plain attribute of a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Former()

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


class _Former(_Base):
    former: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        output = found if self.former is None else found - self.former
        self.former = found
        return output


class _Counter(_Base):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.calls * super().forward(x)


class _Functional(_Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.dropout(F.relu(self.a(x)), 0.3))


class _AlwaysOn(nn.Dropout):
    def train(self, mode: bool = True) -> _AlwaysOn:
        super().train(True)
        return self


class _Module(_Base):
    def __init__(self) -> None:
        super().__init__()
        self.drop = _AlwaysOn(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.drop(F.relu(self.a(x))))


class _Noise(_Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.1 * torch.randn_like(x))


class _NoiseThatIsKept(_Noise):
    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        return self.last


class _Cache(_Base):
    """A grid made at the first call, a hook that keeps the last output, a counter that nothing reads."""

    grid: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.grid is None:
            self.grid = torch.linspace(-1, 1, x.shape[-1])
        self.calls += 1
        self.last = super().forward(x) + self.grid
        return self.last


class _First(_Base):
    """Levels are those of the first picture it meets; from then on it is a function of its input."""

    level: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.level is None:
            self.level = x.mean()
        return super().forward(x - self.level)


def _samples(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 1, 8, 12, generator=generator) * (k + 1) for k in range(count)]


def _checked(module: nn.Module, samples: list[Tensor]) -> list[tuple[np.ndarray, ...]]:
    run = called(module, samples[0], name="net")
    inputs = [run.inputs_of(x, "a sample") for x in samples]
    return float_outputs(run.module, "net", inputs, [o.name for o in run.outputs])


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (_Buffer, "its buffer 'state' changes in forward; expected a function of its inputs; take that state"),
        (_Peak, "its buffer 'peak' changes in forward"),
        (_Attribute, "its attribute 'encoder.former' changes in forward"),
        (_Counter, "its attribute 'calls' changes in forward"),
        (_Functional, "'bernoulli_' in its forward is random; .*training=self.training"),
        (_Module, "'bernoulli_' in 'drop' is random"),
        (_Noise, "'randn_like' in its forward is random; .*take the random numbers as an input"),
        (_NoiseThatIsKept, "'randn_like' in its forward is random"),
    ],
)
def test_what_is_no_function_of_its_inputs_is_refused(module: type[nn.Module], reason: str) -> None:
    with pytest.raises(
        DualpixError, match="'net' gives another output when it runs on the same input again: " + reason
    ):
        _checked(module(), _samples())


@pytest.mark.parametrize("module", [_Buffer, _Attribute, _Counter, _Functional])
def test_one_input_is_enough_to_tell(module: type[nn.Module]) -> None:
    with pytest.raises(DualpixError, match="another output"):
        _checked(module(), _samples(1))


def test_what_the_first_input_set_is_no_constant_of_the_network() -> None:
    """Every later run agrees with the first, and so would an artefact that has its level frozen in."""
    message = "another output where another input came first: its attribute 'level' changes in forward, and stays"
    with pytest.raises(DualpixError, match=message):
        called(_First(), _samples()[0], name="net")
    ready = _First()
    ready.level = torch.tensor(0.5)
    assert called(ready, _samples()[0], name="net")


def test_a_state_that_the_output_does_not_show_is_no_fault() -> None:
    assert len(_checked(_Cache(), _samples())) == 3
    torch.export.export(_Cache().eval(), (_samples()[0],))


def test_the_last_bit_may_differ_from_run_to_run() -> None:
    class Shaky(_Base):
        sign = 1.0

        def forward(self, x: Tensor) -> Tensor:
            self.sign = -self.sign
            return super().forward(x) * (1 + self.sign * 1e-7)

    assert _checked(Shaky(), _samples())


def test_an_input_that_forward_writes_into_is_copied_and_named() -> None:
    class InPlace(_Base):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sub_(0.5).div_(0.25))

    run = called(InPlace(), _samples()[0], name="net")
    assert run.notes == ("forward changes its input 'x' in place; the programs work on a copy of it",)
    given = _samples()[0]
    with torch.no_grad():
        first, again = run.module(given), run.module(given)
    assert torch.equal(first, again) and torch.equal(given, _samples()[0])


class _Dead(_Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x) - 50)


class _Flat(_Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, 7.5)


class _Mean(_Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((1, 2, 3))


def test_an_output_that_is_the_same_everywhere_measures_nothing() -> None:
    for module, value in ((_Dead, "0"), (_Flat, "7.5")):
        with pytest.raises(
            DualpixError, match=f"'net' gives {value} everywhere on all 3 inputs: a constant would agree"
        ):
            _checked(module(), _samples())
    with pytest.raises(DualpixError, match=r"on the one input that judges: .*give more inputs"):
        _checked(_Mean(), _samples(1))
    assert len(_checked(_Mean(), _samples(2))) == 2, "numbers that differ from input to input"


def test_values_that_are_not_finite_are_told_by_output() -> None:
    class Ratio(_Base):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"depth": super().forward(x), "ratio": x / 0}

    with pytest.raises(DualpixError, match="'net' gives values that are not finite as 'ratio'"):
        _checked(Ratio(), _samples())


def _mean_gap(outputs: object, references: object) -> float:
    pairs = zip(outputs, references, strict=True)  # type: ignore[call-overload]
    return float(np.mean([np.abs(o[0] - r[0]).mean() for o, r in pairs]))


@pytest.mark.parametrize(
    ("metric", "refused"),
    [
        (Metric("gap", _mean_gap, "lower"), ""),
        (Metric("gap", _mean_gap, "higher", stated=False), "a constant does better .* --metric-better"),
        (Metric("gap", _mean_gap, "higher", has_truth=False), "a constant does better"),
        (Metric("gap", lambda o, r: float("nan")), "gives nan for the float network"),
    ],
)
def test_a_metric_by_which_a_constant_wins_means_the_other_direction(metric: Metric, refused: str) -> None:
    outputs = _checked(_Base(), _samples())
    found, constant = (score(o, outputs, [metric]) for o in (outputs, constant_like(outputs)))
    if refused:
        with pytest.raises(DualpixError, match=refused):
            check_metrics([metric], found, constant)
    else:
        assert check_metrics([metric], found, constant) == ()


def test_doubts_about_a_metric_are_told() -> None:
    outputs = _checked(_Base(), _samples())
    for metric, doubt in (
        (Metric("gap", _mean_gap, "higher"), "by metric 'gap' a constant does better"),
        (Metric("blind", lambda o, r: 1.0), "metric 'blind' tells the float network not from a constant"),
    ):
        found, constant = (score(o, outputs, [metric]) for o in (outputs, constant_like(outputs)))
        assert check_metrics([metric], found, constant)[0].startswith(doubt)
