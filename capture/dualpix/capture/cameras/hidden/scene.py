"""Scenes that test cameras look at: a pile of flat layers, each at one depth, farthest first.

Convention: layers are laid out on a canvas as the lens sees them focused at infinity; the canvas is larger than the
picture by a margin. Boxes of targets are in shares of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dualpix.capture.scenes.textures import spectral_noise
from dualpix.capture.types import FloatImage

Box = tuple[float, float, float, float]
"""x, y, width, height in shares of the picture, from the top left."""


@dataclass(frozen=True)
class Layer:
    """A flat thing at one depth."""

    diopters: float
    colour: FloatImage
    """(h, w, 4): premultiplied R, G, B, and coverage."""
    top: int
    left: int
    """Of its first pixel on the canvas."""


@dataclass(frozen=True)
class HiddenScene:
    """Layers on a canvas that is larger than the picture by a margin, farthest first."""

    size_hw: tuple[int, int]
    margin_px: int
    layers: tuple[Layer, ...]
    targets: tuple[tuple[float, Box], ...]
    """(distance in m, where it is in the picture) of flat targets that nothing hides."""

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Size with the margin on all sides."""
        return self.size_hw[0] + 2 * self.margin_px, self.size_hw[1] + 2 * self.margin_px

    def diopters_map(self) -> FloatImage:
        """(H, W) inverse depth of what is seen with focus at infinity."""
        out = np.zeros(self.canvas_hw, np.float32)
        for layer in self.layers:
            covered = layer.colour[..., 3] >= 0.5
            height, width = covered.shape
            window = out[layer.top : layer.top + height, layer.left : layer.left + width]
            window[covered] = layer.diopters
        return self.inside(out)

    def inside(self, canvas: FloatImage) -> FloatImage:
        """The picture's part of a canvas."""
        m = self.margin_px
        return np.ascontiguousarray(canvas[m : canvas.shape[0] - m, m : canvas.shape[1] - m])


def make_hidden_scene(seed: int, size_hw: tuple[int, int], margin_px: int) -> HiddenScene:
    """Six cards at distances from 3.6 m to 0.45 m before a wall at 4.5 m, with things standing partly before them."""
    rng = np.random.default_rng([seed, 11])
    height, width = size_hw
    canvas = (height + 2 * margin_px, width + 2 * margin_px)
    layers = [Layer(0.22, _texture(rng, np.ones(canvas, np.float32)), 0, 0)]
    depths = np.array([0.28, 0.62, 0.98, 1.35, 1.75, 2.2]) + rng.uniform(-0.04, 0.04, 6)
    targets = []
    for place, diopters in zip(rng.permutation(6), sorted(depths), strict=True):
        row, column = divmod(int(place), 3)
        y, x = round((0.07 + 0.48 * row) * height), round((0.05 + 0.325 * column) * width)
        h, w = round(0.38 * height), round(0.25 * width)
        layers.append(Layer(float(diopters), _texture(rng, np.ones((h, w), np.float32)), y + margin_px, x + margin_px))
        inner = (x + 0.2 * w) / width, (y + 0.2 * h) / height, 0.6 * w / width, 0.6 * h / height
        targets.append((1 / float(diopters), inner))
    layers += _occluders(rng, canvas, size_hw, margin_px)
    layers.sort(key=lambda layer: layer.diopters)
    return HiddenScene(size_hw, margin_px, tuple(layers), tuple(targets))


def _occluders(
    rng: np.random.Generator, canvas: tuple[int, int], size_hw: tuple[int, int], margin_px: int
) -> list[Layer]:
    """A post between two columns of cards, and balls over the corners of cards; none reaches into a target."""
    height, width = size_hw
    post = np.zeros((canvas[0], max(4, round(0.05 * width))), np.float32)
    post[round(0.3 * canvas[0]) :] = 1
    column = 0.3 + 0.325 * int(rng.integers(0, 2))
    layers = [Layer(float(rng.uniform(1.1, 2.0)), _texture(rng, post), 0, margin_px + round((column + 0.012) * width))]
    for corner_y, corner_x in ((0.47, 0.03), (0.48, 0.97)):
        radius = round(0.07 * height)
        yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        ball = np.clip(radius + 0.5 - np.hypot(yy, xx), 0, 1).astype(np.float32)
        top, left = round(corner_y * height) - radius + margin_px, round(corner_x * width) - radius + margin_px
        layers.append(Layer(float(rng.uniform(1.5, 2.4)), _texture(rng, ball), top, left))
    return layers


def _texture(rng: np.random.Generator, coverage: FloatImage) -> FloatImage:
    """Premultiplied texture with detail at all scales down to what a pixel of the view holds."""
    height, width = coverage.shape
    fine, coarse = (spectral_noise(rng, height, width, exponent) for exponent in (0.25, 1.0))
    pattern = np.asarray(fine + 0.7 * coarse, np.float32)
    # softened last: what is finer than a pixel would shift with where the pixels lie
    grey = cv2.GaussianBlur(0.5 + 0.45 * np.tanh(1.5 * pattern), (0, 0), 0.7)
    tint = rng.uniform(0.75, 1.0, 3).astype(np.float32)
    colour = np.clip(grey[..., None] * tint, 0.02, 0.95)
    return np.ascontiguousarray(np.dstack([colour * coverage[..., None], coverage]), np.float32)
