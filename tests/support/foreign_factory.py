"""A user's own file of networks, as source text: what ``dualpix export package.module:factory`` imports."""

from __future__ import annotations

SOURCE = """
import torch
from torch import nn


def inputs(count=4, size=(16, 24)):
    torch.manual_seed(1)
    return [(torch.rand(1, 1, *size),) for _ in range(count)]


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)), inputs()


def one_input():
    return small()[0], inputs(1)[0]


def bad_weight():
    net, samples = small()
    with torch.no_grad():
        net[2].weight[0, 1, 2, 2] = float("nan")
    return net, samples


def wrong_shape():
    return small()[0], [(torch.rand(1, 3, 16, 24),)]


def mixed_shapes():
    return small()[0], inputs(2) + inputs(2, (8, 24))


def double_inputs():
    return small()[0], [(torch.rand(1, 1, 16, 24, dtype=torch.float64),)]


class Text(nn.Module):
    def forward(self, x):
        return {"depth": x, "kind": "metres"}


def text_output():
    return Text(), inputs()


def dead():
    net, samples = small()
    with torch.no_grad():
        net[2].bias.fill_(-100.0)
    return nn.Sequential(net, nn.ReLU()), samples


class AlwaysOn(nn.Dropout):
    def train(self, mode=True):
        return super().train(True)


def dropout():
    return nn.Sequential(small()[0], AlwaysOn()), inputs()


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x * self.calls


def counting():
    return Counting(), inputs()


class Endless(nn.Module):
    def forward(self, x):
        return x / 0


def infinite():
    return Endless(), inputs()


class Interrupted(nn.Module):
    def forward(self, x):
        if torch.compiler.is_exporting():
            raise KeyboardInterrupt
        return x + 1


def interrupted():
    return Interrupted(), inputs()


class Slow(nn.Module):
    def forward(self, x):
        if torch.compiler.is_exporting():
            import time

            time.sleep(120)
        return x + 1


def slow():
    return Slow(), inputs()


def nothing():
    return None


def no_inputs():
    return small()[0], []


def text_inputs():
    return small()[0], ["a"]


def raises():
    raise RuntimeError("no such checkpoint")


value = 3
"""
