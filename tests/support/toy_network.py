"""A network as a user would write one: outside the package, of a few layers, named after nothing of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SOURCE = '''
import torch
from torch import nn

class Toy(nn.Module):
    size_multiple = 8

    def __init__(self, width=8):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, width, 5, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, left, right):
        return self.body(torch.cat([left, right], 1))

class Sure(nn.Module):
    size_multiple = 8

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))

    def forward_scales(self, left, right):
        return [self.body(torch.cat([left, right], 1))]

    def forward(self, left, right):
        disparity_px, logit = self.body(torch.cat([left, right], 1)).split(1, 1)
        return disparity_px, logit.sigmoid()

class Stack(nn.Module):
    size_multiple = 8

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))

    def forward(self, frames, focus_diopters):
        b, n, c, h, w = frames.shape
        focus = focus_diopters.reshape(b * n, 1, 1, 1).expand(-1, 1, h, w)
        out = self.body(torch.cat([frames.reshape(b * n, c, h, w), focus], 1)).reshape(b, n, 2, h, w)
        weight = torch.softmax(out[:, :, 0], 1)
        diopters = (weight * (focus.reshape(b, n, h, w) + 0.1 * out[:, :, 1])).sum(1, keepdim=True)
        return 1.0 / diopters.clamp_min(0.05)

class Nearest(nn.Module):
    """Depth from focus with no weights: the focus of the frame with the strongest gradients, and how strong they
    are among all."""

    size_multiple = 8

    def __init__(self):
        super().__init__()
        self.share = nn.Parameter(torch.ones(1))

    def forward(self, frames, focus_diopters):
        grey = frames.mean(2)
        sharp = torch.nn.functional.avg_pool2d((grey[..., 1:] - grey[..., :-1]).square(), 9, 1, 4)
        sharp = torch.nn.functional.pad(sharp, (0, 1, 0, 0), mode="replicate")
        best = sharp.argmax(1, keepdim=True)
        diopters = focus_diopters[:, :, None, None].expand_as(sharp).gather(1, best)
        sure = sharp.amax(1, keepdim=True) / sharp.sum(1, keepdim=True).clamp_min(1e-9)
        return 1.0 / diopters.clamp_min(0.05), sure * self.share

def make(width=8):
    return Toy(width)

def sure():
    return Sure()

def stack():
    return Stack()

def nearest():
    return Nearest()

def wrong():
    return nn.Conv2d(1, 1, 1)

def number():
    return 3
'''


def write_toy(folder: Path) -> Path:
    """``toynet.py`` in ``folder``: ``make`` and ``sure`` (with a confidence) take pairs, ``stack`` and ``nearest``
    (with a confidence) focus stacks."""
    path = folder / "toynet.py"
    path.write_text(SOURCE)
    return path


def toy_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a toy of its own: another test's module of that name is forgotten, as this will be."""
    write_toy(folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(sys.modules, "toynet", None)  # whatever was there comes back in the end
    monkeypatch.delitem(sys.modules, "toynet")
    return folder
