"""Inputs and outputs in the forms that Core ML has: float32 and int32 of at least one axis, nothing else (iOS 17).

coremltools 9.0 refuses uint8 (``KeyError``) and tensors without axes ("Rank-0 is unsupported"), makes int64 int32, and
bool float32 on either side. Here every input that is no float becomes int32 and a scalar becomes (1,), and the program
casts them back; outputs are as coremltools makes them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dualpix.export.artefact import BuildRequest
from dualpix.quantize.calibration import CalibrationSet, Inputs


def as_core_ml_takes(inputs: Inputs) -> Inputs:
    """The same values in types and shapes that a Core ML program can take."""
    return tuple(_taken(tensor) for tensor in inputs)


def _taken(tensor: Tensor) -> Tensor:
    shaped = tensor.reshape(1) if tensor.ndim == 0 else tensor
    return shaped if shaped.is_floating_point() else shaped.to(torch.int32)


class _Cast(nn.Module):
    """Takes what :func:`as_core_ml_takes` gives and calls ``module`` with what it was."""

    def __init__(self, module: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.module = module
        self._forms = tuple((tensor.shape, tensor.dtype) for tensor in inputs)

    def forward(self, *tensors: Tensor) -> Any:
        """The outputs of ``module``."""
        pairs = zip(tensors, self._forms, strict=True)
        return self.module(*(t if (t.shape, t.dtype) == f else t.reshape(f[0]).to(f[1]) for t, f in pairs))


def core_ml_request(request: BuildRequest) -> BuildRequest:
    """``request`` with a module that takes what Core ML has; itself where that is so already."""
    inputs = as_core_ml_takes(request.inputs)
    if all(a is b for a, b in zip(inputs, request.inputs, strict=True)):
        return request
    samples = tuple(as_core_ml_takes(sample) for sample in request.calibration.samples)
    return replace(
        request,
        module=_Cast(request.module, request.inputs).eval(),
        inputs=inputs,
        calibration=CalibrationSet(samples, request.calibration.description),
        keep_float=lambda path: request.keep_float(path.removeprefix("module").removeprefix(".")),
    )
