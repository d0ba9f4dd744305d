"""Surface materials: how a tile lies on a surface and takes the light.

Convention: a tile is as fine as the pixels of the nearest part of its surface. It is sampled through a pyramid at the
pixel's footprint, so a receding floor neither aliases nor keeps detail that no lens would resolve. Light is linear; 1.0
is a white sheet in full light.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from dualpix.capture.scenes.geometry import Camera, Field, Hit, Vector, Window
from dualpix.capture.scenes.textures import spectral_noise
from dualpix.capture.scenes.tiles import MAKERS, Tile


@dataclass(frozen=True)
class Light:
    """One far source and an even surrounding, in the camera frame."""

    to_source: Vector
    """(3,) unit."""
    up: Vector
    """(3,) unit."""
    source: Tile
    """(3,) irradiance on a surface that faces the source."""
    ambient: Tile
    """(3,) irradiance from above; from below it is a third."""

    def on(self, normal: Field) -> Field:
        """(..., 3) irradiance at unit normals (..., 3)."""
        direct = np.clip(normal @ self.to_source.astype(np.float32), 0, None)[..., None]
        sky = (np.float32(2 / 3) + normal @ self.up.astype(np.float32) / 3)[..., None]
        return np.asarray(direct * self.source + sky * self.ambient, np.float32)


@dataclass(frozen=True)
class Decal:
    """A picture stuck on a face."""

    face: int
    centre_m: tuple[float, float]
    half_m: tuple[float, float]
    pyramid: tuple[Tile, ...]


@dataclass(frozen=True)
class Material:
    """What a surface looks like before light falls on it."""

    pyramid: tuple[Tile, ...]
    texels_per_m: float
    gloss: float = 0.0
    """Radiance of the mirror image of the source, relative to its irradiance."""
    sharpness: float = 60.0
    """Exponent of the highlight (Blinn, SIGGRAPH 1977)."""
    emission: float = 0.0
    """Radiance that the albedo is multiplied with on its own, for lamps and screens."""
    decals: tuple[Decal, ...] = field(default=())


def pyramid_of(tile: Tile) -> tuple[Tile, ...]:
    """The tile and its halves down to one texel."""
    levels = [np.clip(tile, 0.005, 0.95).astype(np.float32)]
    while levels[-1].shape[0] > 1:
        n = levels[-1].shape[0] // 2
        half = cv2.resize(levels[-1], (n, n), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, np.float32).reshape(n, n, 3))
    return tuple(levels)


def draw_material(rng: np.random.Generator, kinds: dict[str, float], texels: int, texels_per_m: float) -> Material:
    """A random material of one of the ``kinds`` (name to weight) with a tile of ``texels`` texels."""
    weights = np.array(list(kinds.values()))
    kind = list(kinds)[int(rng.choice(len(weights), p=weights / weights.sum()))]
    tile = MAKERS[kind](rng, texels)
    if kind not in ("plain", "soft", "print", "picture"):
        wear = np.zeros((texels, texels), np.float32)
        if rng.random() < 0.35:  # stains
            wear += np.float32(rng.uniform(0.1, 0.4)) * spectral_noise(rng, texels, texels, 1.8)
        if rng.random() < 0.5:  # grain
            exponent = float(rng.uniform(0.2, 1.0))
            wear += np.float32(rng.uniform(0.05, 0.25)) * spectral_noise(rng, texels, texels, exponent)
        tile = np.asarray(tile * np.exp(wear)[..., None], np.float32)
    gloss = float(rng.uniform(0.1, 3.0)) if rng.random() < 0.35 else 0.0
    return Material(
        pyramid_of(tile), texels_per_m, gloss=gloss, sharpness=float(np.exp(rng.uniform(np.log(15), np.log(600))))
    )


def with_decal(
    material: Material, rng: np.random.Generator, face: int, centre_m: tuple[float, float], half_m: tuple[float, float]
) -> Material:
    """The material with a random picture on one face."""
    shown = MAKERS["picture" if rng.random() < 0.6 else "print"](rng, 128)
    return replace(material, decals=(*material.decals, Decal(face, centre_m, half_m, pyramid_of(shown))))


def _lookup(pyramid: tuple[Tile, ...], u: Field, v: Field, level: Field) -> Tile:
    """(h, w, 3) from a pyramid at positions in texels of its first level, linear between levels."""
    level = np.clip(level, 0, len(pyramid) - 1)
    out = np.zeros((*u.shape, 3), np.float32)
    for k in range(int(level.min()), int(np.ceil(level.max())) + 1):
        weight = np.clip(1 - np.abs(level - np.float32(k)), 0, 1)
        n = pyramid[k].shape[0]
        scale = np.float32(0.5**k)
        # OpenCV keeps positions as 16-bit integers: wrap them first
        x, y = (u * scale - np.float32(0.5)) % n, (v * scale - np.float32(0.5)) % n
        out += weight[..., None] * cv2.remap(pyramid[k], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return out


def shade(material: Material, hit: Hit, camera: Camera, window: Window, light: Light) -> Tile:
    """(h, w, 3) radiance of a surface towards the camera."""
    x, y = camera.rays(window)
    length = np.sqrt(x * x + y * y + 1)
    facing = -(hit.normal[..., 0] * x + hit.normal[..., 1] * y + hit.normal[..., 2]) / length
    # m on the surface per pixel, the mean of along and across the slant
    slant = np.sqrt(np.clip(facing, 0.05, 1))
    footprint = np.asarray(length / (np.maximum(hit.inverse_depth, 1e-6) * camera.focal_px * slant), np.float32)
    scale = np.float32(material.texels_per_m)
    level = np.log2(np.maximum(footprint * scale, 1e-6))
    albedo = _lookup(material.pyramid, hit.u_m * scale, hit.v_m * scale, level)
    for decal in material.decals:
        _stick(albedo, decal, hit, footprint)
    radiance = albedo * light.on(hit.normal)
    if material.gloss:
        to_eye = -np.stack(np.broadcast_arrays(x, y, np.float32(1)), -1) / length[..., None]
        half = np.asarray(to_eye + light.to_source, np.float32)
        half /= np.linalg.norm(half, axis=-1, keepdims=True) + 1e-6
        mirror = np.clip(np.sum(half * hit.normal, -1), 0, 1) ** np.float32(material.sharpness)
        radiance += np.float32(material.gloss) * mirror[..., None] * light.source
    if material.emission:
        radiance += np.float32(material.emission) * albedo
    return np.asarray(radiance, np.float32)


def _stick(albedo: Tile, decal: Decal, hit: Hit, footprint: Field) -> None:
    """Paint a decal over the albedo of its face, with an antialiased border."""
    on = (hit.face == decal.face).astype(np.float32)
    cover = on
    position, step = [], []
    for at, centre, half in zip((hit.u_m, hit.v_m), decal.centre_m, decal.half_m, strict=True):
        cover = cover * np.clip((half - np.abs(at - centre)) / footprint + 0.5, 0, 1)
        n = decal.pyramid[0].shape[0]
        position.append(((at - centre) / (2 * half) + 0.5) * n)
        step.append(n / (2 * half))
    if cover.max() > 0:
        level = np.log2(np.maximum(footprint * np.float32(np.sqrt(step[0] * step[1])), 1e-6))
        colour = _lookup(decal.pyramid, position[0], position[1], level)
        albedo += cover[..., None] * (colour - albedo)
