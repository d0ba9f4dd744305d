"""A simulated dual-pixel camera: a procedural scene through a thin lens onto a noisy Bayer sensor, saved as a real DNG.

Convention: rendering happens on the sensor grid; truth is given on the grid of the decoded half-size view, where a
pixel is twice as wide. Disparity as everywhere: x_right - x_left, > 0 behind the focus plane. The composite frame and
the half are read from the same electrons, as on a Canon sensor: shot noise is shared, read noise is not, the composite
clips first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dualpix.capture import optics
from dualpix.capture.raw.write.dng import SIMULATED_MODEL, write_dual_pixel_dng
from dualpix.capture.render import PsfModel, render_scene, scene_margin_px
from dualpix.capture.scenes import make_scene
from dualpix.capture.types import CaptureMeta, FloatImage, LensModel

Electrons = npt.NDArray[np.float64]

_LENS = LensModel(50.0, 2.8, 1.5, pixel_pitch_um=2 * 23.4, disparity_gain=0.21)


@dataclass(frozen=True)
class SimulatedSensor:
    """A Bayer (RGGB) dual-pixel sensor."""

    size_hw: tuple[int, int] = (768, 1024)
    pixel_pitch_um: float = 23.4
    """Large, because there are few of them: the picture is 24 mm wide."""
    black_dn: int = 512
    white_dn: int = 16383
    electrons_per_dn: float = 2.0
    read_noise_dn: float = 3.0
    shading: float = 0.12
    """Relative fall of the left half's light from the left edge to the right, and the reverse; 0.12: 0.35 EV."""
    iso: int = 100


@dataclass(frozen=True)
class SimulatedShot:
    """A written capture and its truth on the decoded half-size view."""

    path: Path
    disparity_px: FloatImage
    """(H/2, W/2)"""
    depth_m: FloatImage
    """(H/2, W/2)"""
    lens: LensModel
    """With the pixel pitch of the decoded view."""


@dataclass(frozen=True)
class SimulatedCamera:
    """A lens on a sensor; ``shoot`` is deterministic by seed."""

    lens: LensModel = _LENS
    """The pitch is that of the decoded view: twice the sensor's."""
    sensor: SimulatedSensor = SimulatedSensor()
    near_m: float = 0.7
    far_m: float = 8.0

    def __post_init__(self) -> None:
        if abs(self.lens.pixel_pitch_um - 2 * self.sensor.pixel_pitch_um) > 1e-6:
            sensor_um, lens_um = self.sensor.pixel_pitch_um, self.lens.pixel_pitch_um
            raise ValueError(f"lens pitch is {lens_um} um, expected twice the sensor's {sensor_um} um")

    def shoot(self, path: Path, seed: int) -> SimulatedShot:
        """Photograph scene ``seed`` and write it to ``path`` as a two-sample dual-pixel DNG.

        Raises:
            OutputError: the file cannot be written.
        """
        on_sensor = replace(self.lens, pixel_pitch_um=self.sensor.pixel_pitch_um)
        far_px = float(optics.circle_of_confusion_px(self.far_m, on_sensor))
        near_px = float(optics.circle_of_confusion_px(self.near_m, on_sensor))
        psf = PsfModel(self.lens.disparity_gain, edge_px=0.5, edge_relative=0.05, rim=0.3)
        margin = scene_margin_px(max(abs(far_px), abs(near_px)), psf)
        height, width = self.sensor.size_hw
        scene = make_scene(seed, (height + 2 * margin, width + 2 * margin))
        with torch.inference_mode():
            pair = render_scene(scene, far_px, near_px, psf, margin)
        left, right = (v.permute(1, 2, 0).numpy() for v in (pair.left, pair.right))
        composite_dn, half_dn = self._expose(left, right, np.random.default_rng([seed, 1]))
        write_dual_pixel_dng(
            path,
            composite_dn,
            half_dn,
            white=self.sensor.white_dn,
            black=(self.sensor.black_dn,) * 2,
            meta=self._meta(),
        )
        proximity = scene.proximity()[margin:-margin, margin:-margin]
        # the top left sample of each superpixel: averaging across an edge would invent depths that nothing has
        proximity = proximity[::2, ::2]
        depth = (1.0 / ((1 - proximity) / self.far_m + proximity / self.near_m)).astype(np.float32)
        disparity = np.asarray(optics.disparity_px(depth, self.lens), np.float32)
        return SimulatedShot(path, disparity, depth, self.lens)

    def _meta(self) -> CaptureMeta:
        lens = self.lens
        return CaptureMeta(
            camera=SIMULATED_MODEL, iso=self.sensor.iso, exposure_s=0.01, f_number=lens.f_number,
            focal_length_mm=lens.focal_length_mm, focus_distance_m=lens.focus_distance_m,
            pixel_pitch_um=lens.pixel_pitch_um, disparity_gain=lens.disparity_gain,
        )  # fmt: skip

    def _expose(
        self, left: FloatImage, right: FloatImage, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
        """Linear views to the two raw frames (composite, left half), uint16 mosaics."""
        sensor = self.sensor
        tilt = sensor.shading * np.linspace(1.0, -1.0, left.shape[1])[None]
        light = [_mosaic(left) * (1 + tilt), _mosaic(right) * (1 - tilt)]
        range_e = (sensor.white_dn - sensor.black_dn) * sensor.electrons_per_dn
        # the brightest half per cent may clip, as a photographer would expose
        gain = 0.95 * range_e / float(np.percentile(light[0] + light[1], 99.5))
        electrons = [rng.poisson(np.clip(view * gain, 0, None)).astype(np.float64) for view in light]
        return self._read(electrons[0] + electrons[1], rng), self._read(electrons[0], rng)

    def _read(self, electrons: Electrons, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
        sensor = self.sensor
        noise_dn = rng.normal(0, sensor.read_noise_dn, electrons.shape)
        dn = sensor.black_dn + electrons / sensor.electrons_per_dn + noise_dn
        return np.clip(np.round(dn), 0, sensor.white_dn).astype(np.uint16)


def _mosaic(view: FloatImage) -> Electrons:
    """(H, W, 3) to an RGGB mosaic (H, W)."""
    out = view[..., 1].astype(np.float64)
    out[::2, ::2] = view[::2, ::2, 0]
    out[1::2, 1::2] = view[1::2, 1::2, 2]
    return out
