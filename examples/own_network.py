"""A network of your own: write it, train it, score it beside the shipped one.

    python examples/own_network.py [--steps 20000]

The names of forward's parameters say what it is for; docs/train.md lists them.
"""

import argparse

import torch
from torch import nn

from dualpix.capture.cli import root


class Pyramid(nn.Module):
    """Both halves, stacked, through convolutions: (B, 1, H, W) twice to disparity in px, (B, 1, H, W)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, width, 5, padding=2), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=4, dilation=4), nn.ReLU(),
            nn.Conv2d(width, 1, 3, padding=1),
        )  # fmt: skip

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.body(torch.cat([left, right], 1))


def make(width: int = 16) -> nn.Module:
    """What `dualpix train --network own_network:make` calls."""
    return Pyramid(width)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4)
    steps = parser.parse_args().steps
    small = ["--size", "64", "96", "--crop", "64", "96", "--samples", "4", "--batch-size", "2"]
    small += ["--eval-samples", "1", "--workers", "0"]
    words = ["train", "--network", "own_network:make", "-o", "pyramid", "--steps", str(steps)]
    root(words + (small if steps < 100 else []), standalone_mode=False)
    words = "evaluate --data rendered --count 2 --size 64 96 --model own_network:make@pyramid --model difusenet-compact"
    root(words.split(), standalone_mode=False)
