"""Convolutional GRUs, unrolled at export: one set of weights serves every iteration, in the file as well."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvGRU(nn.Module):
    """Convolutional GRU (Ballas et al., ICLR 2016): state (B, hidden, H, W), input (B, given, H, W) -> state.

    z = sigmoid(Wz [h, x]), r = sigmoid(Wr [h, x]), q = tanh(Wq [r h, x]), h' = h + z (q - h). Each convolution of the
    pair [h, x] is the sum of one of h and one of x: no concatenation between int8 layers, whose two halves would have
    to share a scale, and the part of x that does not change is computed once (:meth:`look`).
    """

    def __init__(self, hidden: int, given: int, kernel: int | tuple[int, int] = 3) -> None:
        super().__init__()
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        half = (size[0] // 2, size[1] // 2)
        self.state_z, self.state_r, self.state_q = (
            nn.Conv2d(hidden, hidden, size, padding=half, bias=False) for _ in range(3)
        )
        self.input_z, self.input_r, self.input_q = (nn.Conv2d(given, hidden, size, padding=half) for _ in range(3))

    def look(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the input adds to the two gates and the candidate, (B, hidden, H, W) each."""
        return self.input_z(x), self.input_r(x), self.input_q(x)

    def forward(self, h: Tensor, seen: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """One step from state ``h``, given :meth:`look` of the input (or the sum of several looks)."""
        z = torch.sigmoid(self.state_z(h) + seen[0])
        r = torch.sigmoid(self.state_r(h) + seen[1])
        q = torch.tanh(self.state_q(r * h) + seen[2])
        return h + z * (q - h)

    def plain(self, h: Tensor, x: Tensor) -> Tensor:
        """The usual form of a step: convolutions of [h, x], h' = (1 - z) h + z q."""

        def together(state: nn.Conv2d, given: nn.Conv2d, first: Tensor) -> Tensor:
            weight = torch.cat([state.weight, given.weight], 1)
            padding = (weight.shape[2] // 2, weight.shape[3] // 2)
            return nn.functional.conv2d(torch.cat([first, x], 1), weight, given.bias, padding=padding)

        z = torch.sigmoid(together(self.state_z, self.input_z, h))
        r = torch.sigmoid(together(self.state_r, self.input_r, h))
        q = torch.tanh(together(self.state_q, self.input_q, r * h))
        return (1 - z) * h + z * q


class LightConvGRU(nn.Module):
    """Convolutional GRU whose convolutions are depthwise 3x3, then 1x1: a seventh of the work at 48 channels.

    State (B, hidden, H, W), input (B, given, H, W) -> state; the gates share the depthwise step.
    """

    def __init__(self, hidden: int, given: int) -> None:
        super().__init__()
        both = hidden + given
        self.hidden = hidden
        self.gates_depthwise, self.state_depthwise = (nn.Conv2d(both, both, 3, padding=1, groups=both) for _ in "zq")
        self.gates, self.candidate = nn.Conv2d(both, 2 * hidden, 1), nn.Conv2d(both, hidden, 1)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """One step from state ``h``, given ``x``."""
        gates = torch.sigmoid(self.gates(self.gates_depthwise(torch.cat([h, x], 1))))
        z, r = gates[:, : self.hidden], gates[:, self.hidden :]
        q = torch.tanh(self.candidate(self.state_depthwise(torch.cat([r * h, x], 1))))
        return h + z * (q - h)

    def plain(self, h: Tensor, x: Tensor) -> Tensor:
        """The usual form of a step: each gate by its own convolutions, h' = (1 - z) h + z q."""
        seen = self.gates_depthwise(torch.cat([h, x], 1))
        assert self.gates.bias is not None  # noqa: S101 - of the layers above
        weights, biases = (torch.split(values, self.hidden) for values in (self.gates.weight, self.gates.bias))
        z, r = (
            torch.sigmoid(nn.functional.conv2d(seen, weight, bias))
            for weight, bias in zip(weights, biases, strict=True)
        )
        q = torch.tanh(self.candidate(self.state_depthwise(torch.cat([r * h, x], 1))))
        return (1 - z) * h + z * q


class SeparableConvGRU(nn.Module):
    """RAFT's separable GRU: a 1x5 step along x, then a 5x1 step along y: less work than one 5x5 step."""

    def __init__(self, hidden: int, given: int, kernel: int = 5) -> None:
        super().__init__()
        self.along_x, self.along_y = ConvGRU(hidden, given, (1, kernel)), ConvGRU(hidden, given, (kernel, 1))

    def look(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the input adds: three maps for the step along x, three for the one along y."""
        return (*self.along_x.look(x), *self.along_y.look(x))

    def forward(self, h: Tensor, seen: tuple[Tensor, ...]) -> Tensor:
        """Both steps from state ``h``."""
        h = self.along_x(h, (seen[0], seen[1], seen[2]))
        y: Tensor = self.along_y(h, (seen[3], seen[4], seen[5]))
        return y

    def plain(self, h: Tensor, x: Tensor) -> Tensor:
        """The usual form."""
        return self.along_y.plain(self.along_x.plain(h, x), x)
