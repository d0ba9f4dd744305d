"""Linear light to the encoding of the pictures that foundation models were trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_KNEE = 0.0031308


class SrgbCurve(nn.Module):
    """IEC 61966-2-1, linear light of 0 to 1 -> the same: 12.92 v up to 0.0031308, above it 1.055 v^(1/2.4) - 0.055.

    Both branches as a sum, and the power by a logarithm: what phones delegate.
    """

    def __init__(self) -> None:
        super().__init__()
        values = {"knee": _KNEE, "slope": 12.92, "exponent": 1 / 2.4, "gain": 1.055, "at_knee": _KNEE ** (1 / 2.4)}
        for name, value in values.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)

    knee: Tensor
    slope: Tensor
    exponent: Tensor
    gain: Tensor
    at_knee: Tensor

    def forward(self, light: Tensor) -> Tensor:
        """Encode."""
        power = torch.exp(torch.log(torch.maximum(light, self.knee)) * self.exponent)
        return torch.minimum(light, self.knee) * self.slope + (power - self.at_knee) * self.gain
