from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from dualpix.export.artefact import quiet
from dualpix.export.bound import Positional, bind
from dualpix.export.reasons import reason_of


class _Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.mean() > 0 else x


class _Numpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.numpy().mean())


class _Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x).abs()


class _Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.spectrum = nn.Conv2d(1, 1, 3), _Spectrum()

    def forward(self, x: Tensor) -> Tensor:
        return self.spectrum(self.conv(x)) + 1


INPUTS = (torch.rand(1, 1, 8, 8),)


def _line(module: type[nn.Module]) -> str:
    """Of the last line of its forward."""
    lines, first = inspect.getsourcelines(module.forward)
    return f"test_reasons.py:{first + len(lines) - 1}"


def _refusal(module: nn.Module) -> Exception:
    try:
        with quiet():
            torch.export.export(module, INPUTS)
    except Exception as error:
        return error
    raise AssertionError


def test_the_users_line_is_in_the_text_or_among_the_frames() -> None:
    for module in (_Branch, _Numpy):
        found = reason_of(_refusal(module()), module(), INPUTS)
        assert found.endswith(f"; at {_line(module)}") and "\n" not in found, found
    assert reason_of(_refusal(_Numpy()), _Numpy(), INPUTS).startswith("RuntimeError: .numpy() is not supported")


def test_an_operator_is_looked_up_in_the_graph() -> None:
    """Errors as coremltools 9.0 and executorch 1.5 word them."""
    where = f"in 'spectrum' ({_line(_Spectrum)})"
    for text, said, operator in (
        ("Unsupported fx node fft_fft2, kind fft_fft2", "", "fft_fft2"),
        ("\nOperator torch._ops.aten._fft_c2c.default is not in Core ATen opset", "", "_fft_c2c"),
        ("C_in / groups = 3/1", "ERROR - converting 'abs' op (located at: 'abs_1'):", "abs"),
    ):
        found = reason_of(NotImplementedError(text), _Inner(), INPUTS, said)
        assert found.endswith(f"; operator {operator} {where}"), found
    wrapped = Positional(_Inner(), bind(_Inner(), INPUTS, "it"), copies=False)
    found = reason_of(ValueError("node conv2d (conv2d) got 1 input(s)"), wrapped, INPUTS)
    assert "; operator conv2d in 'conv'" in found, "the user knows of no module around it"


def test_what_names_nothing_stands_by_itself() -> None:
    assert reason_of(AssertionError(), _Inner(), INPUTS) == "AssertionError"
    assert reason_of(ValueError("fx node nowhere is bad."), _Inner(), INPUTS) == "ValueError: fx node nowhere is bad"
    assert len(reason_of(ValueError("x" * 9999), _Inner(), INPUTS)) < 400
