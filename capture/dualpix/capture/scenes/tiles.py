"""Periodic tiles of albedo: what surfaces are made of.

Convention: a tile is (n, n, 3) float32 albedo, n a power of two, periodic in both directions but for pages (print,
picture). A maker draws everything from the generator it is given.

Tiles follow what is known of natural pictures: amplitude spectra near 1/f (Field, JOSA A 1987), overlapping shapes with
a power law of sizes (Lee, Mumford & Huang, IJCV 2001), and colour that varies far less than lightness (Ruderman et
al., JOSA A 1998).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.scenes.geometry import Field
from dualpix.capture.scenes.textures import spectral_noise

Tile = npt.NDArray[np.float32]
_LETTERS = list("ABCDEFGHIKLMNOPRSTUVWXYZabcdefghiklmnoprstuvwxyz0123456789")


def draw_albedo(rng: np.random.Generator, dark: float = 0.025, bright: float = 0.85) -> Tile:
    """(3,) base colour: log-uniform lightness, weak saturation that is mostly warm against cold."""
    lightness = np.exp(rng.uniform(np.log(dark), np.log(bright)))
    saturation = rng.beta(1.0, 1.6) if rng.random() < 0.75 else 1.3
    warm, green = rng.normal(0.15, 0.7), rng.normal(0.0, 0.35)
    tint = np.exp(saturation * np.array([warm, green, -warm]))
    return np.asarray(np.clip(lightness * tint, 0.015, 0.92), np.float32)


def noise(rng: np.random.Generator, n: int) -> Tile:
    """Bark, stone, plaster: 1/f lightness with a little colour of its own."""
    contrast = np.exp(rng.uniform(np.log(0.15), np.log(0.8)))
    exponent = float(rng.uniform(0.6, 1.4))
    grey = spectral_noise(rng, n, n, exponent)
    hue = spectral_noise(rng, n, n, exponent + 0.3) * np.float32(rng.uniform(0.0, 0.4))
    axis = rng.normal(0.0, 1.0, 3)
    axis -= axis.mean()
    log = grey[..., None] + hue[..., None] * axis.astype(np.float32)
    return np.asarray(draw_albedo(rng) * np.exp(np.float32(contrast) * log), np.float32)


def relief(rng: np.random.Generator, n: int) -> Tile:
    """Stucco, gravel, bread: one colour, lit from the side."""
    height = spectral_noise(rng, n, n, float(rng.uniform(1.2, 2.0)))
    dx, dy = height - np.roll(height, 1, 1), height - np.roll(height, 1, 0)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.float32(np.cos(angle)) * dx + np.float32(np.sin(angle)) * dy
    light = np.exp(np.float32(rng.uniform(0.15, 0.6)) * slope / (slope.std() + 1e-6))
    return np.asarray(draw_albedo(rng) * np.minimum(light, 3.0)[..., None], np.float32)


def _copies(x: float, y: float, reach: float, n: int) -> list[tuple[float, float]]:
    """Where a shape of radius ``reach`` must be drawn so that the tile is periodic: again for each edge it crosses."""
    shifts = [(x + dx, y + dy) for dx in (-n, 0, n) for dy in (-n, 0, n)]
    return [(u, v) for u, v in shifts if -reach < u < n + reach and -reach < v < n + reach]


def leaves(rng: np.random.Generator, n: int) -> Tile:
    """Dead leaves: overlapping shapes with a power law of sizes, sharp edges and flat insides."""
    tile = np.empty((n, n, 3), np.float32)
    tile[:] = base = draw_albedo(rng)
    spread, hue = rng.uniform(0.3, 1.0), rng.uniform(0.0, 0.45)
    for _ in range(int(rng.integers(30, 140))):
        size = float(0.35 * n * rng.power(0.45) + 1.5)
        colour = np.clip(base * np.exp(spread * rng.standard_normal() + hue * rng.standard_normal(3)), 0.01, 0.92)
        if rng.random() < 0.5:
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False) + rng.uniform(0, 6)
            outline = np.stack([np.cos(angles), rng.uniform(0.3, 1) * np.sin(angles)], -1)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            outline = np.stack([np.cos(angles), np.sin(angles)], -1)
        turn = rng.uniform(0, np.pi)
        turned = size * outline @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        for at in _copies(float(rng.uniform(0, n)), float(rng.uniform(0, n)), size, n):
            # in 1/16 px: a shape does not snap to the grid
            cv2.fillPoly(tile, [np.round((turned + at) * 16).astype(np.int32)], colour.tolist(), cv2.LINE_AA, 4)
    return tile


def soft(rng: np.random.Generator, n: int) -> Tile:
    """Marble, cloud, a lawn out of reach: no edges at all."""
    grey = spectral_noise(rng, n, n, float(rng.uniform(1.7, 2.3)))
    share = (0.5 + 0.5 * np.tanh(grey * np.float32(rng.uniform(0.5, 2.0))))[..., None]
    one = draw_albedo(rng)
    other = np.clip(one * np.exp(rng.normal(0.0, 0.7) + rng.normal(0.0, 0.15, 3)), 0.01, 0.92)
    return np.asarray(one * share + other * (1 - share), np.float32)


def plain(rng: np.random.Generator, n: int) -> Tile:
    """Paint, plastic, paper: next to nothing to match."""
    faint = spectral_noise(rng, n, n, 1.3)[..., None] * np.float32(np.exp(rng.uniform(np.log(0.002), np.log(0.03))))
    return np.asarray(draw_albedo(rng, 0.04, 0.85) * np.exp(faint), np.float32)


def speckle(rng: np.random.Generator, n: int) -> Tile:
    """Granite, soil, terrazzo: grains a few pixels wide."""
    grains = spectral_noise(rng, n, n, float(rng.uniform(0.0, 0.5)))
    wrapped = np.pad(grains, 8, mode="wrap")
    grains = np.asarray(cv2.GaussianBlur(wrapped, (0, 0), float(rng.uniform(0.6, 1.6)))[8:-8, 8:-8], np.float32)
    grains = grains / (grains.std() + 1e-6)
    share = np.clip((grains - rng.uniform(0.0, 1.2)) * 3, 0, 1)[..., None]
    return np.asarray(draw_albedo(rng) * (1 - share) + draw_albedo(rng) * share, np.float32)


def _grid(rng: np.random.Generator, n: int, rows: int, columns: int, gap: float, offset: float) -> tuple[Field, Tile]:
    """A wall of ``rows`` x ``columns`` cells: (n, n) 1 inside and 0 in the joints, and (n, n, 1) a value per cell."""
    v, u = np.mgrid[0:n, 0:n].astype(np.float32) / np.float32(n)
    row = np.floor(v * rows).astype(int) % rows
    along_row = u * columns + np.float32(offset) * (row % 2)
    column = np.floor(along_row).astype(int) % columns
    edge_u = np.minimum(along_row % 1, 1 - along_row % 1) * n / columns
    edge_v = np.minimum((v * rows) % 1, 1 - (v * rows) % 1) * n / rows
    inside = np.clip(np.minimum(edge_u, edge_v) - gap + 0.5, 0, 1)
    return inside.astype(np.float32), rng.standard_normal((rows, columns)).astype(np.float32)[row, column][..., None]


def _even(rng: np.random.Generator, low: float, high: float) -> int:
    """An even number of rows, log-uniform, so that a half offset is periodic."""
    return 2 * max(1, round(float(np.exp(rng.uniform(np.log(low), np.log(max(low, high))))) / 2))


def bricks(rng: np.random.Generator, n: int) -> Tile:
    """Bricks, tiles, paving, panels: a periodic pattern with individuals."""
    rows = _even(rng, 2, n / 8)
    columns = max(1, round(rows * rng.choice([0.3, 0.5, 1.0, 1.0, 2.0])))
    inside, each = _grid(rng, n, rows, columns, float(rng.uniform(0.4, 1.5)), float(rng.choice([0.0, 0.5])))
    stone = draw_albedo(rng) * np.exp(np.float32(rng.uniform(0.0, 0.35)) * each)
    grain = spectral_noise(rng, n, n, 0.9)[..., None] * np.float32(rng.uniform(0.05, 0.35))
    return np.asarray(
        (stone * inside[..., None] + draw_albedo(rng) * (1 - inside[..., None])) * np.exp(grain), np.float32
    )


def stripes(rng: np.random.Generator, n: int) -> Tile:
    """Slats, corduroy, cloth checks: one period, what fools a matcher with a periodic cost."""
    v, u = np.mgrid[0:n, 0:n].astype(np.float32) / np.float32(n)
    periods = max(1, round(float(np.exp(rng.uniform(np.log(2), np.log(n / 7))))))
    sharp = np.float32(rng.uniform(0.8, 6.0))
    wave = np.tanh(sharp * np.sin(2 * np.pi * periods * u + np.float32(rng.uniform(0, 6))))
    kind = rng.random()
    if kind < 0.25:
        wave = wave * np.tanh(sharp * np.sin(2 * np.pi * periods * v))
    elif kind < 0.5:
        wave = (wave + np.tanh(sharp * np.sin(2 * np.pi * periods * v))) / 2
    share = (0.5 + 0.5 * wave)[..., None]
    one = draw_albedo(rng)
    other = draw_albedo(rng) if rng.random() < 0.6 else np.clip(one * rng.uniform(0.4, 0.9), 0.01, 0.92)
    return np.asarray(one * share + other * (1 - share), np.float32)


def planks(rng: np.random.Generator, n: int) -> Tile:
    """Wood: grain drawn out along boards."""
    short = np.pad(spectral_noise(rng, n, n // 8, 0.55), ((0, 0), (1, 1)), mode="wrap")
    grain = np.asarray(cv2.resize(short, (n + 16, n), interpolation=cv2.INTER_LINEAR)[:, 8:-8], np.float32)
    inside, each = _grid(rng, n, max(1, _even(rng, 2, n / 24) // 2), 1, float(rng.uniform(0.0, 0.8)), 0.0)
    log = np.float32(rng.uniform(0.08, 0.3)) * (grain[..., None] + each)
    wood = np.clip(np.array([0.42, 0.24, 0.12]) * np.exp(rng.normal(0.0, 0.5) + rng.normal(0, 0.08, 3)), 0.01, 0.85)
    return np.asarray(wood * np.exp(log) * (0.45 + 0.55 * inside[..., None]), np.float32)


def grass(rng: np.random.Generator, n: int) -> Tile:
    """Grass, fur, straw: short strokes of many tones."""
    tile = np.empty((n, n, 3), np.float32)
    green = np.array([0.13, 0.2, 0.05]) if rng.random() < 0.7 else draw_albedo(rng)
    tile[:] = base = green * np.exp(rng.normal(0.0, 0.4))
    lean = rng.uniform(0, np.pi)
    for x, y in rng.uniform(0, n, (6 * n, 2)):
        a, length = lean + rng.normal(0, 0.6), rng.uniform(2.0, 9.0)
        colour = base * np.exp(rng.normal(0.0, 0.45) + rng.normal(0, 0.08, 3))
        step = length * np.array([np.cos(a), np.sin(a)])
        for at in _copies(x, y, length, n):
            tip = (int(at[0] + step[0]), int(at[1] + step[1]))
            cv2.line(tile, (int(at[0]), int(at[1])), tip, colour.tolist(), 1, cv2.LINE_AA)
    return tile


def facade(rng: np.random.Generator, n: int) -> Tile:
    """A front with windows, some of them lit."""
    rows, columns = int(rng.integers(2, max(3, n // 20))), int(rng.integers(2, max(3, n // 20)))
    glass, each = _grid(rng, n, rows, columns, float(rng.uniform(0.12, 0.3)) * n / max(rows, columns), 0.0)
    wall = plain(rng, n) if rng.random() < 0.5 else noise(rng, n)
    pane = np.array([0.05, 0.07, 0.09]) * np.exp(0.6 * each) + (each > rng.uniform(1.0, 2.5)) * np.array(
        [0.9, 0.7, 0.4]
    )
    return np.asarray(wall * (1 - glass[..., None]) + pane * glass[..., None], np.float32)


def print_(rng: np.random.Generator, n: int) -> Tile:
    """Lines of print on a plain sheet, dark on light or light on dark."""
    paper, ink = draw_albedo(rng, 0.3, 0.9), draw_albedo(rng, 0.015, 0.12)
    if rng.random() < 0.25:
        paper, ink = ink, paper
    mask = np.zeros((n, n), np.uint8)
    scale = float(np.exp(rng.uniform(np.log(0.25), np.log(max(0.4, n / 160)))))
    font, bold = int(rng.integers(0, 5)), 1 + int(scale * rng.uniform(0.5, 2.0))
    y = 24 * scale
    while y < n:
        words = ("".join(rng.choice(_LETTERS, int(rng.integers(2, 9)))) for _ in range(max(1, int(n / (70 * scale)))))
        cv2.putText(mask, " ".join(words), (int(rng.integers(2, 8)), int(y)), font, scale, 255, bold, cv2.LINE_AA)
        y += scale * float(rng.uniform(28, 36)) + 1
    share = (mask / np.float32(255))[..., None]
    return np.asarray(paper * (1 - share) + ink * share, np.float32)


def picture(rng: np.random.Generator, n: int) -> Tile:
    """A poster, photo or label: some picture, a headline, a border."""
    inner: npt.NDArray[np.floating] = (leaves, soft, noise, stripes, print_)[int(rng.integers(5))](rng, n)
    if rng.random() < 0.6:
        size = float(rng.uniform(0.8, 2.2)) * n / 128
        word = "".join(rng.choice(_LETTERS, int(rng.integers(2, 6))))
        at = (int(rng.uniform(0.05, 0.3) * n), int(rng.uniform(0.3, 0.9) * n))
        mask = np.zeros((n, n), np.uint8)
        cv2.putText(mask, word, at, int(rng.integers(0, 5)), 1.4 * size, 255, max(1, int(5 * size)), cv2.LINE_AA)
        share = (mask / np.float32(255))[..., None]
        inner = inner * (1 - share) + draw_albedo(rng, 0.02, 0.9) * share
    border = int(rng.integers(0, max(2, n // 12)))
    if border:
        inner[:border] = inner[-border:] = inner[:, :border] = inner[:, -border:] = draw_albedo(rng, 0.02, 0.9)
    return np.asarray(inner, np.float32)


Maker = Callable[[np.random.Generator, int], Tile]
MAKERS: dict[str, Maker] = {
    f.__name__.strip("_"): f
    for f in (noise, relief, leaves, soft, plain, speckle, bricks, stripes, planks, grass, facade, print_, picture)
}
"""Tile makers by name: ``maker(rng, n)`` gives (n, n, 3)."""
