"""Two simulated dual-pixel cameras on one holder, with true geometry: for tests, for planning, to learn the way.

Convention: :mod:`dualpix.capture.rig.geometry`. What a camera sees is traced through its distortion, then formed by the
project's own renderer (blur by depth, split between the halves along the sensor's rows) and read by a noisy sensor.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dualpix.capture.files import make_output_dir, write_bytes
from dualpix.capture.rig.calibrate.board import Board, Found
from dualpix.capture.rig.calibrate.solve import BoardPair
from dualpix.capture.rig.encode import npy_bytes, png_bytes
from dualpix.capture.rig.geometry import NAMES, Array, Intrinsics, RigGeometry
from dualpix.capture.rig.simulate.world import Card, Thing, hides, random_things, see
from dualpix.capture.synthesis.sensor import DnNoise, SensorModel, expose
from dualpix.capture.types import DualPixelImage, FloatImage, LensModel, Mask

_FOCAL_MM, _PITCH_UM = 4.4, 8.8
_ELECTRONS = 12_000
"""Of a full sample: variance of light 1.0 is 1 / this."""
_READ_ELECTRONS = 4.0
_EXPOSURE = 0.9
_BOARD_MARGIN = 0.5
"""Of white paper around the squares, in squares."""


@dataclass(frozen=True)
class RigShot:
    """One release of both shutters, with what is true of camera a."""

    a: DualPixelImage
    b: DualPixelImage
    depth_m: FloatImage
    """(H, W) of a, from its pupil along its optical axis."""
    unseen: Mask
    """(H, W) of a: what b does not see, hidden or outside its picture."""


@dataclass(frozen=True)
class SimulatedRig:
    """A rig whose every number is known."""

    geometry: RigGeometry
    lens: LensModel
    """Of both cameras."""
    sensor: SensorModel

    @classmethod
    def from_seed(
        cls,
        seed: int,
        size_hw: tuple[int, int] = (480, 640),
        *,
        baseline_mm: float = 25.0,
        mount_deg: int = 180,
        along: str = "x",
        focus_distance_m: float = 0.8,
    ) -> SimulatedRig:
        """Two phones whose lenses distort, held askew by about half a degree.

        Args:
            seed: same seed, same rig.
            size_hw: of the views.
            baseline_mm: distance of the pupils.
            mount_deg: turn of b: 180 for a mirrored mount, 0 for side by side.
            along: "x" or "y": the way from a to b on a's sensor.
            focus_distance_m: of both lenses.
        """
        rng = np.random.default_rng([seed, 91])
        across, pitch_um = (baseline_mm / 1e3, _PITCH_UM * 640 / size_hw[1])
        focal_px = _FOCAL_MM * 1e3 / pitch_um
        cameras = [_camera(rng, size_hw, focal_px) for _ in range(2)]
        askew, _ = cv2.Rodrigues(rng.normal(0, np.radians(0.5), 3))
        turn, _ = cv2.Rodrigues(np.array([0, 0, np.radians(mount_deg)]))
        rotation = np.asarray(askew @ turn, np.float64)
        centre = np.array([across, 0, 0] if along == "x" else [0, across, 0]) + rng.normal(0, 0.015, 3) * across
        lens = LensModel(_FOCAL_MM, 1.8, focus_distance_m, pitch_um, 0.21)
        noise = DnNoise(65535 / _ELECTRONS, 65535 * _READ_ELECTRONS / _ELECTRONS)
        sensor = SensorModel("halves", "gray", bits=16, white_dn=65535.0, left_noise=noise, right_noise=noise)
        return cls(RigGeometry(cameras[0], cameras[1], rotation, -rotation @ centre), lens, sensor)

    def moved(self, rotation_deg: float) -> SimulatedRig:
        """The same after a knock that turned b's view by this much, about all three axes alike."""
        knock, _ = cv2.Rodrigues(np.full(3, np.radians(rotation_deg) / np.sqrt(3)))
        g = self.geometry
        return replace(
            self, geometry=replace(g, rotation=np.asarray(knock @ g.rotation), translation_m=g.translation_m)
        )

    def shoot(self, things: tuple[Thing, ...], rng: np.random.Generator) -> RigShot:
        """Both cameras at once."""
        g = self.geometry
        light_a, depth_a = see(things, g.a, np.eye(3), np.zeros(3))
        light_b, depth_b = see(things, g.b, g.rotation, g.translation_m)
        return RigShot(
            self._formed(light_a, depth_a, rng),
            self._formed(light_b, depth_b, rng),
            depth_a,
            _unseen(g, things, depth_a),
        )

    def scene(self, seed: int) -> tuple[Thing, ...]:
        """Something to look at."""
        return random_things(np.random.default_rng([seed, 92]), float(self.geometry.a.matrix[0, 0]))

    def board_card(self, board: Board, rng: np.random.Generator, place: tuple[float, float]) -> Card:
        """A board held before the rig.

        Args:
            board: which.
            rng: draws distance and tilt.
            place: of its middle in the picture of a, -1 to 1 each way.
        """
        a = self.geometry.a
        focal_px, (height, width) = float(a.matrix[0, 0]), a.size_hw
        share = float(rng.uniform(0.45, 0.8))
        z = board.size_m[0] * focal_px / (share * width)
        apart = focal_px * self.geometry.baseline_m / z / width
        tall = share * board.size_m[1] / board.size_m[0] * width / height
        reach = np.maximum(0.5 * (1 - np.array([share + apart, tall])), 0.0)
        # between the two pupils: both are to see all of it
        centre = np.array([*(np.array(place) * reach * (width, height)), focal_px]) * (z / focal_px)
        centre = centre + self.geometry.centre_b / 2
        turn, _ = cv2.Rodrigues(np.array([*rng.uniform(-0.55, 0.55, 2), rng.uniform(-0.2, 0.2)]))
        square_px = max(12, round(1.6 * board.square_m / z * focal_px))
        margin_px = round(_BOARD_MARGIN * square_px)
        drawn = board.picture(square_px, margin_px).astype(np.float32) / 255 * np.float32(0.8) + np.float32(0.03)
        half = (drawn.shape[1] / square_px * board.square_m / 2, drawn.shape[0] / square_px * board.square_m / 2)
        return Card(centre, np.asarray(turn, np.float64).T[:2], half, np.asarray(drawn, np.float32))

    def board_shots(self, board: Board, count: int, seed: int) -> list[RigShot]:
        """Shots of a board that is moved over the field."""
        rng = np.random.default_rng([seed, 93])
        return [self.shoot((self.board_card(board, rng, place),), rng) for place in _places(count)]

    def board_corners(self, board: Board, count: int, seed: int, noise_px: float = 0.05) -> list[BoardPair]:
        """What a detector would find in such shots, without making the pictures: true corners, and noise."""
        rng = np.random.default_rng([seed, 94])
        g, found = self.geometry, []
        for index, place in enumerate(_places(count)):
            card = self.board_card(board, rng, place)
            points = card.centre + (board.points[:, :2] - np.array(board.size_m) / 2) @ card.axes
            seen = [_corners(g.a, points, rng, noise_px), _corners(g.b, g.to_b(points), rng, noise_px)]
            if min(len(f.ids) for f in seen) >= 6:
                found.append(BoardPair(f"board{index:02}", *seen))
        return found

    def _formed(self, light: FloatImage, depth_m: FloatImage, rng: np.random.Generator) -> DualPixelImage:
        import torch

        from dualpix.capture.render import render

        views = render(
            torch.from_numpy(light)[None, None], depth_m=torch.from_numpy(depth_m)[None, None], lens=self.lens
        )
        left, right = (np.maximum(view[0, 0].numpy(), 0) for view in views.pair)
        return expose(left, right, None, self.sensor, rng, exposure=_EXPOSURE)


def write_shot(folder: Path, name: str, shot: RigShot, *, truth: bool = True) -> None:
    """``folder/a`` and ``b`` get ``NAME_left.png`` and ``NAME_right.png``, 16-bit linear; ``truth`` what is true."""
    for side, image in (("a", shot.a), ("b", shot.b)):
        make_output_dir(folder / side)
        for half in ("left", "right"):
            codes = np.rint(np.clip(getattr(image, half), 0, 1) * 65535).astype(np.uint16)
            write_bytes(folder / side / f"{name}_{half}.png", png_bytes(codes))
    if truth:
        make_output_dir(folder / "truth")
        write_bytes(folder / "truth" / f"{name}_depth_m.npy", npy_bytes(shot.depth_m))
        write_bytes(folder / "truth" / f"{name}_unseen.png", png_bytes(shot.unseen.astype(np.uint8) * 255))


def truth_json(rig: SimulatedRig) -> dict[str, Any]:
    """What is true of a rig: its parameters by name, and the lens."""
    g = rig.geometry
    cameras = {side: dict(zip(NAMES, one.parameters.tolist(), strict=True)) for side, one in (("a", g.a), ("b", g.b))}
    pose = {"rotation_vector_rad": g.parameters[18:21].tolist(), "translation_m": g.translation_m.tolist()}
    return {**cameras, **pose, "baseline_mm": 1e3 * g.baseline_m, "lens": asdict(rig.lens)}


def _camera(rng: np.random.Generator, size_hw: tuple[int, int], focal_px: float) -> Intrinsics:
    height, width = size_hw
    focal = focal_px * float(rng.uniform(0.985, 1.015))
    centre = (
        (width - 1) / 2 + width * float(rng.normal(0, 0.006)),
        (height - 1) / 2 + width * float(rng.normal(0, 0.006)),
    )
    lens = (rng.uniform(-0.12, 0.1), rng.uniform(-0.04, 0.06), *rng.normal(0, 0.0006, 2), 0.0)
    return Intrinsics.of(size_hw, np.array([focal, focal * float(rng.normal(1, 0.0008)), *centre, *lens]))


def _corners(camera: Intrinsics, points: Array, rng: np.random.Generator, noise_px: float) -> Found:
    pixels = camera.project(points)
    height, width = camera.size_hw
    inside = np.flatnonzero(np.all((pixels > 8) & (pixels < np.array([width, height]) - 9), axis=1))
    return Found(inside, pixels[inside] + rng.normal(0, noise_px, (inside.size, 2)))


def _places(count: int) -> list[tuple[float, float]]:
    """Spread over the field, the corners among them."""
    grid = [(x, y) for y in (-1.0, 0.0, 1.0) for x in (-1.0, -0.35, 0.35, 1.0)]
    return [grid[(7 * n) % len(grid)] for n in range(count)]


def _unseen(g: RigGeometry, things: tuple[Thing, ...], depth_a: FloatImage) -> Mask:
    """What of a's picture b does not see: a ray from its pupil says, not its picture."""
    points = g.a.pixel_rays() * depth_a[..., None].astype(np.float64)
    pixels = g.b.project(g.to_b(points))
    height, width = g.b.size_hw
    inside = (np.abs(pixels[..., 0] - (width - 1) / 2) <= width / 2) & (
        np.abs(pixels[..., 1] - (height - 1) / 2) <= height / 2
    )
    return np.asarray(~inside | hides(things, points, g.centre_b))
