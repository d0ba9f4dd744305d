"""Textures with the statistics that matter to matching: 1/f noise, dead leaves, repeated patterns, text, and none at
all.

All functions return float32 (H, W, 3) linear albedo in [0.01, 0.95] and draw everything from the generator they are
given.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Texture = npt.NDArray[np.float32]
_GLYPHS = "ABCDEFGHKMNPRSTUVWXYZ23456789abdefghkmnrstuwyz"


def _albedo(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A base colour: log-uniform lightness, mostly weak saturation."""
    lightness = np.exp(rng.uniform(np.log(0.04), np.log(0.75)))
    saturation = rng.beta(1.2, 3.0) * 0.8
    tint = rng.uniform(-1.0, 1.0, 3)
    albedo: npt.NDArray[np.float32] = (lightness * (1.0 + saturation * tint)).clip(0.02, 0.9).astype(np.float32)
    return albedo


def spectral_noise(rng: np.random.Generator, height: int, width: int, exponent: float) -> npt.NDArray[np.float32]:
    """Noise with amplitude spectrum 1/f^exponent, zero mean and unit deviation, (H, W); natural images have about 1."""
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)[None]
    radius = np.sqrt(fy**2 + fx**2)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((height, width), np.float32)) * radius**-exponent
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(height, width)).astype(np.float32)
    return np.asarray(noise / (noise.std() + 1e-6), np.float32)


def natural(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Coloured 1/f noise in log albedo, like bark, stone, fabric."""
    contrast = np.exp(rng.uniform(np.log(0.08), np.log(0.7)))
    grey = spectral_noise(rng, height, width, rng.uniform(0.5, 1.6))
    colour = np.stack([spectral_noise(rng, height, width, rng.uniform(0.9, 1.6)) for _ in range(2)], -1)
    chroma = np.concatenate([colour, -colour.sum(-1, keepdims=True)], -1) * rng.uniform(0.0, 0.12)
    out: Texture = _albedo(rng) * np.exp(contrast * (grey[..., None] + chroma)).astype(np.float32)
    return out


def dead_leaves(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Overlapping shapes with a power law of sizes: edges with natural statistics (Lee, Mumford & Huang, IJCV 2001)."""
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = _albedo(rng)
    spread = rng.uniform(0.2, 1.0)
    base = _albedo(rng)
    for _ in range(int(rng.integers(40, 220))):
        size = float(min(height, width) * 0.5 * rng.power(0.45) + 2.0) * 0.6
        colour = (base * np.exp(spread * rng.standard_normal(3) * 0.8)).clip(0.01, 0.95)
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        if rng.random() < 0.5:
            axes = (int(size * rng.uniform(0.3, 1)) + 1, int(size * rng.uniform(0.3, 1)) + 1)
            cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour.tolist(), -1)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            points = np.stack([np.cos(angles), np.sin(angles)], -1) * size + centre
            cv2.fillPoly(canvas, [points.astype(np.int32)], colour.tolist())
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.3, 0.7))), np.float32)


def repeated(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Stripes or a grid at any angle: what fools a matcher with a periodic cost."""
    angle = rng.uniform(0, np.pi)
    period = np.exp(rng.uniform(np.log(5.0), np.log(60.0)))
    yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
    u = (xx * np.cos(angle) + yy * np.sin(angle)) / period
    v = (-xx * np.sin(angle) + yy * np.cos(angle)) / (period * rng.uniform(0.5, 2.0))
    sharp = rng.uniform(1.0, 8.0)
    wave = np.tanh(sharp * np.sin(2 * np.pi * u))
    if rng.random() < 0.5:
        wave = wave * np.tanh(sharp * np.sin(2 * np.pi * v))
    mix = (0.5 + 0.5 * wave)[..., None]
    return np.asarray(_albedo(rng) * mix + _albedo(rng) * (1 - mix), np.float32)


def text(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Lines of print on a plain sheet."""
    paper, ink = _albedo(rng), _albedo(rng)
    print_ = np.zeros((height, width), np.uint8)
    y = int(rng.integers(5, 20))
    while y < height:
        scale = float(rng.uniform(0.3, 1.4))
        line = "".join(rng.choice(list(_GLYPHS + "   "), size=max(4, int(width / (18 * scale)))))
        origin = (int(rng.integers(-10, 30)), y)
        thickness = 1 + int(scale * rng.uniform(0.5, 2.5))
        cv2.putText(print_, line, origin, int(rng.integers(0, 6)), scale, 255, thickness, cv2.LINE_AA)
        y += int(26 * scale + rng.integers(2, 14))
    coverage = (print_ / np.float32(255.0))[..., None]
    return np.asarray(paper * (1 - coverage) + ink * coverage, np.float32)


def plain(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Almost nothing to match: a painted wall, the sky."""
    faint = spectral_noise(rng, height, width, 1.4)[..., None] * np.exp(rng.uniform(np.log(0.004), np.log(0.05)))
    return np.asarray(_albedo(rng) * np.exp(faint), np.float32)


_KINDS: tuple[tuple[float, Callable[[np.random.Generator, int, int], Texture]], ...] = (
    (0.36, natural), (0.26, dead_leaves), (0.12, repeated), (0.12, text), (0.14, plain),
)  # fmt: skip


def random_texture(rng: np.random.Generator, height: int, width: int) -> Texture:
    """One texture of a random kind, sometimes with the grain of a second on top."""
    weights = np.array([w for w, _ in _KINDS])
    kind = _KINDS[int(rng.choice(len(_KINDS), p=weights / weights.sum()))][1]
    out = kind(rng, height, width)
    if kind is not plain and rng.random() < 0.5:
        grain = spectral_noise(rng, height, width, rng.uniform(0.0, 1.0))[..., None]
        out = out * np.exp(rng.uniform(0.02, 0.2) * grain)
    return np.clip(out, 0.01, 0.95).astype(np.float32)
