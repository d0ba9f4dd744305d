"""What stands behind every test camera: a hidden lens, a scene with depth and occlusion, a shutter and a card.

Convention: pictures are computed on the grid of the decoded half-size view, of which a sensor cell of RGGB is one
pixel, so the decoded pair is what was rendered. The scene is a pile of flat layers, each at one depth, laid out as the
lens sees them focused at infinity; focused elsewhere the picture is larger by the lens's magnification. A layer is
blurred by the two halves of the disc that :mod:`dualpix.capture.optics` gives at the lens's *true* focus, and laid over
what is behind it: edges of what is near spread over what is far, never the reverse. A half is the disc times
``1 -/+ g x``, as in :class:`~dualpix.capture.render.PsfModel`, which the tests hold this against; it is written anew
here, for speed and because importing torch takes longer than a whole capture.

Live view shows the scene at the largest aperture, as cameras do, at a brightness of its own choice; a still is as
bright as its exposure makes it. A backend is told nothing of the truth. Tests read it from :attr:`HiddenCamera.shots`
or, where the camera is another process, from the state file: one JSON object a shot, see :class:`ShotTruth`.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture import optics
from dualpix.capture.camera_protocol import CameraError, CardFull, Direction
from dualpix.capture.cameras.hidden_lens import HiddenLens, lens_truth
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import write_bytes
from dualpix.capture.pictures.display import srgb_from_linear
from dualpix.capture.raw.write.dng import SIMULATED_MODEL, write_dual_pixel_dng
from dualpix.capture.scenes.textures import spectral_noise
from dualpix.capture.types import CaptureMeta, FloatImage, LensModel

Box = tuple[float, float, float, float]
"""x, y, width, height in shares of the picture, from the top left."""

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_KERNEL_SAMPLES = 5  # odd: one lies at the centre
_LIVE_VIEW_NOISE = 0.001
_LIVE_VIEW_WHITE = 0.75
_JPEG_QUALITY = 92
_REFERENCE_LIGHT = (1 / 60) * 1.0 / 2.8**2
"""exposure_s x iso / 100 / N^2 at which a white card reaches three quarters of the range."""
_WHITE_CARD = 0.75


@dataclass(frozen=True)
class Body:
    """What is known of the camera: nothing here is secret."""

    size_hw: tuple[int, int] = (128, 192)
    """Of the decoded half-size view, and of live view."""
    focal_length_mm: float = 50.0
    view_pitch_um: float = 100.0
    f_numbers: tuple[float, ...] = (1.8, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0)
    exposures_s: tuple[float, float] = (1 / 4000, 30.0)
    """Shortest and longest."""
    isos: tuple[float, float] = (100.0, 12800.0)
    min_focus_m: float = 0.4
    disparity_gain: float = 0.21
    make: str = "dualpix"
    model: str = SIMULATED_MODEL
    serial: str = "012345678901"
    firmware: str = "1.0"
    lens: str = "Hidden 50mm F1.8"
    lens_serial: str = "0000112233"
    black_dn: int = 512
    white_dn: int = 16383
    full_well_e: float = 40_000.0
    """Electrons of a cell at white, ISO 100, both halves."""
    read_noise_dn: float = 2.0
    card_frames: int = 1000
    """That fit on the card."""
    exif_step_d: float = 0.1
    """The focus distance in the file is rounded to this many diopters, as coarse as cameras write it."""

    def lens_model(self, f_number: float, diopters: float) -> LensModel:
        """Optics of the view, focused at ``diopters``, which may lie beyond infinity (< 0)."""
        distance = math.inf if diopters == 0 else 1 / diopters
        return LensModel(self.focal_length_mm, f_number, distance, self.view_pitch_um, self.disparity_gain)


@dataclass(frozen=True)
class ShotTruth:
    """What really happened at a release; one line of the state file."""

    shot: int
    """From 0, in the order of release, whether or not the file arrived anywhere."""
    diopters: float
    """The true focus."""
    magnification: float
    f_number: float
    exposure_s: float
    iso: float
    file: str
    """Name on the camera."""
    sha256: str
    """Of the raw file: what a downloaded copy is told by."""
    busy_s: float
    """Device time so far."""
    moves: int
    """Of the lens, so far."""


@dataclass(frozen=True)
class Still:
    """The files of one release."""

    raw: bytes
    """Dual-pixel DNG."""
    jpeg: bytes
    truth: ShotTruth


@dataclass(frozen=True)
class _Layer:
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
    layers: tuple[_Layer, ...]
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
    layers = [_Layer(0.22, _texture(rng, np.ones(canvas, np.float32)), 0, 0)]
    depths = np.array([0.28, 0.62, 0.98, 1.35, 1.75, 2.2]) + rng.uniform(-0.04, 0.04, 6)
    targets = []
    for place, diopters in zip(rng.permutation(6), sorted(depths), strict=True):
        row, column = divmod(int(place), 3)
        y, x = round((0.07 + 0.48 * row) * height), round((0.05 + 0.325 * column) * width)
        h, w = round(0.38 * height), round(0.25 * width)
        layers.append(_Layer(float(diopters), _texture(rng, np.ones((h, w), np.float32)), y + margin_px, x + margin_px))
        inner = (x + 0.2 * w) / width, (y + 0.2 * h) / height, 0.6 * w / width, 0.6 * h / height
        targets.append((1 / float(diopters), inner))
    layers += _occluders(rng, canvas, size_hw, margin_px)
    layers.sort(key=lambda layer: layer.diopters)
    return HiddenScene(size_hw, margin_px, tuple(layers), tuple(targets))


def _occluders(
    rng: np.random.Generator, canvas: tuple[int, int], size_hw: tuple[int, int], margin_px: int
) -> list[_Layer]:
    """A post between two columns of cards, and balls over the corners of cards; none reaches into a target."""
    height, width = size_hw
    post = np.zeros((canvas[0], max(4, round(0.05 * width))), np.float32)
    post[round(0.3 * canvas[0]) :] = 1
    column = 0.3 + 0.325 * int(rng.integers(0, 2))
    layers = [_Layer(float(rng.uniform(1.1, 2.0)), _texture(rng, post), 0, margin_px + round((column + 0.012) * width))]
    for corner_y, corner_x in ((0.47, 0.03), (0.48, 0.97)):
        radius = round(0.07 * height)
        yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        ball = np.clip(radius + 0.5 - np.hypot(yy, xx), 0, 1).astype(np.float32)
        top, left = round(corner_y * height) - radius + margin_px, round(corner_x * width) - radius + margin_px
        layers.append(_Layer(float(rng.uniform(1.5, 2.4)), _texture(rng, ball), top, left))
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


class HiddenCamera:
    """A lens, a scene, a shutter and a card. Safe to share between threads; see the module for what it hides."""

    def __init__(
        self,
        lens: HiddenLens | None = None,
        seed: int = 0,
        body: Body | None = None,
        *,
        state: Path | None = None,
    ) -> None:
        """Set up the scene of ``seed``.

        Args:
            lens: moved by whoever drives the camera, through :meth:`drive` or by itself.
            seed: of the scene and the noise.
            body: what the camera can do.
            state: file to which the truth of each shot is appended.
        """
        self.lens = lens or HiddenLens(seed=seed)
        self.body = body or Body()
        self.seed = seed
        self.shots: list[ShotTruth] = []
        self.busy_s = 0.0
        """Time that the device itself took: moves, live view, exposure, reading out, sending; never counted twice."""
        self.used_frames = 0
        self._state = state
        self._scratch = tempfile.TemporaryDirectory(prefix="dualpix-camera-")
        self._accounted_until = 0.0
        self._lock = threading.RLock()
        self._rng = np.random.default_rng([seed, 13])
        widest = self._largest_circle_px()
        self.scene = make_hidden_scene(seed, self.body.size_hw, math.ceil(widest / 2) + 4)
        self._live = _LiveScene(self.scene, widest)

    @classmethod
    def from_seed(
        cls,
        seed: int,
        *,
        body: Body | None = None,
        state: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> HiddenCamera:
        """The lens and scene of a seed; the lens stands somewhere, and moves by ``clock``."""
        truth = lens_truth(seed)
        start = float(np.random.default_rng([seed, 3]).uniform(0.1, 0.9)) * truth.end
        body = replace(body or Body(), serial=f"{seed % 10**12:012d}")  # calibrations are filed under it
        return cls(HiddenLens(truth, seed=seed, position=start, clock=clock), seed, body, state=state)

    @property
    def targets(self) -> tuple[tuple[float, Box], ...]:
        """(distance in m, box) of flat targets, nearest last: what somebody with a tape measure knows."""
        return self.scene.targets

    @property
    def depth_m(self) -> FloatImage:
        """(H, W) truth, as seen with focus at infinity."""
        return np.asarray(1.0 / self.scene.diopters_map(), np.float32)

    def depth_at_m(self, magnification: float) -> FloatImage:
        """(H, W) truth in a picture of this magnification."""
        return _magnified(self.depth_m, magnification, cv2.INTER_NEAREST)

    @property
    def free_frames(self) -> int:
        """Room on the card."""
        return max(0, self.body.card_frames - self.used_frames)

    def drive(self, direction: Direction, size: int) -> None:
        """One step of the lens; its travel counts as device time."""
        with self._lock:
            self.lens.drive(direction, size)
            self.account_move()

    def fall_asleep(self) -> None:
        """Switch off and on: the lens ends up somewhere else, as lenses that are parked do."""
        with self._lock:
            self.lens.move_to(float(self._rng.uniform(0, self.lens.truth.end)))

    def account_move(self) -> None:
        """Count the move that the lens has just begun as device time; for who drives the lens by itself."""
        self.account(*self.lens.last_move)

    def account(self, start: float, end: float) -> None:
        """Count a span of the monotonic clock as device time, without what was counted before."""
        with self._lock:
            self.busy_s += max(0.0, end - max(start, self._accounted_until))
            self._accounted_until = max(self._accounted_until, end)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count what happens inside as device time: sending a file, for instance."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.account(start, time.monotonic())

    def live_view(self) -> FloatImage:
        """(H, W) gray in [0, 1] as displayed: the picture at this moment, with noise, before compression."""
        with self._lock, self.busy():
            diopters, magnification = self.lens.diopters, self.lens.magnification
            model = self.body.lens_model(self.body.f_numbers[0], diopters)
            light = self._live.picture(lambda d: abs(_circle_px(d, model)) / magnification)
            shown = srgb_from_linear(_magnified(light, magnification, cv2.INTER_CUBIC) * np.float32(_LIVE_VIEW_WHITE))
            noise = self._rng.standard_normal(shown.shape, np.float32) * np.float32(_LIVE_VIEW_NOISE)
            return np.clip(shown + noise, 0, 1)

    def live_view_jpeg(self) -> bytes:
        """A frame of live view as cameras send it: 8-bit gray JPEG."""
        with self.busy():
            return _jpeg(self.live_view())

    def still(self, f_number: float, exposure_s: float, iso: float, path: Path) -> ShotTruth:
        """Release and write the raw file to ``path``, atomically.

        Raises:
            CameraError: the camera cannot be set so.
            CardFull: there is no room.
            OutputError: the file cannot be written.
        """
        still = self.release(f_number, exposure_s, iso, path.name)
        write_bytes(path, still.raw)
        return still.truth

    def release(self, f_number: float, exposure_s: float, iso: float, name: str, *, to_card: bool = True) -> Still:
        """Release; ``name`` is what the file is called on the camera.

        Args:
            f_number: one of the body's.
            exposure_s: within its limits; it takes this long.
            iso: within its limits.
            name: of the raw file.
            to_card: takes room on the card.

        Raises:
            CameraError: the camera cannot be set so.
            CardFull: there is no room.
        """
        self._check_settings(f_number, exposure_s, iso)
        with self._lock:
            with self.busy():
                if to_card and not self.free_frames:
                    raise CardFull("the card is full", hint="put in another one, or delete what is on it")
                diopters, magnification = self.lens.diopters, self.lens.magnification
                time.sleep(exposure_s)
                raw, jpeg = self._develop(f_number, exposure_s, iso, diopters, magnification)
                self.used_frames += to_card
            truth = ShotTruth(
                len(self.shots), diopters, magnification, f_number, exposure_s, iso, name,
                hashlib.sha256(raw).hexdigest(), self.busy_s, self.lens.moves,
            )  # fmt: skip
            self._record(truth)
        return Still(raw, jpeg, truth)

    def _develop(
        self, f_number: float, exposure_s: float, iso: float, diopters: float, magnification: float
    ) -> tuple[bytes, bytes]:
        """The raw file and the JPEG of a release."""
        left, right = self.render(f_number, diopters, magnification)
        mosaics = self._expose(left, right, exposure_s, iso, f_number)
        light = exposure_s * iso / 100 / f_number**2 / _REFERENCE_LIGHT
        shown = srgb_from_linear(np.clip((left + right) @ _LUMINANCE * np.float32(light), 0, 1))
        return self._dng(mosaics, self._meta(f_number, exposure_s, iso, diopters)), _jpeg(shown)

    def render(
        self, f_number: float, diopters: float | None = None, magnification: float | None = None
    ) -> tuple[FloatImage, FloatImage]:
        """What falls on the sensor, without noise: left, right (H, W, 3) linear, left + right in [0, 1].

        Args:
            f_number: of the aperture.
            diopters: of the focus; where the lens stands by default.
            magnification: of the picture; the lens's at ``diopters`` by default.
        """
        diopters = self.lens.diopters if diopters is None else diopters
        if magnification is None:
            magnification = 1.0 + self.lens.truth.breathing * diopters
        model = self.body.lens_model(f_number, diopters)
        halves = np.zeros((2, *self.scene.canvas_hw, 3), np.float32)
        for layer in self.scene.layers:
            # on the canvas of magnification 1 the disc is smaller by as much as the picture will grow
            circle = _circle_px(layer.diopters, model) / magnification
            kernels = half_disc_kernels(round(circle, 3), self.body.disparity_gain)
            reach = kernels[0].shape[0] // 2
            padded = _padded(layer.colour, reach)
            for half, kernel in zip(halves, kernels, strict=True):
                _lay_over(half, layer, _filtered(padded, 2 * kernel))
        left, right = (
            _magnified(self.scene.inside(half) * np.float32(0.5), magnification, cv2.INTER_CUBIC) for half in halves
        )
        return np.maximum(left, 0), np.maximum(right, 0)

    def _largest_circle_px(self) -> float:
        end = self.lens.truth.end
        a, b, c = self.lens.truth.coefficients
        ends = a, a + b * end + c * end**2
        model = self.body.lens_model
        return max(abs(_circle_px(d, model(self.body.f_numbers[0], focus))) for d in (0.2, 2.5) for focus in ends)

    def _check_settings(self, f_number: float, exposure_s: float, iso: float) -> None:
        body = self.body
        if not any(math.isclose(f_number, known) for known in body.f_numbers):
            raise CameraError(f"cannot set f/{f_number:g}", expected=", ".join(f"f/{n:g}" for n in body.f_numbers))
        for what, value, (least, most) in (("exposure", exposure_s, body.exposures_s), ("ISO", iso, body.isos)):
            if not least * 0.999 <= value <= most * 1.001:
                raise CameraError(f"cannot set {what} {value:g}", expected=f"{least:g} to {most:g}")

    def _expose(
        self, left: FloatImage, right: FloatImage, exposure_s: float, iso: float, f_number: float
    ) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
        """(composite, left half), both read from the same electrons, (2 H, 2 W) RGGB."""
        body = self.body
        electrons_per_dn = body.full_well_e / (body.white_dn - body.black_dn) / (iso / 100)
        flux = body.full_well_e * _WHITE_CARD * (exposure_s / f_number**2) / _REFERENCE_LIGHT
        electrons = []
        for view in (left, right):
            mean = _mosaic(view) * np.float32(flux)
            # shot noise as a normal distribution: there are hundreds of electrons where it matters
            electrons.append(mean + np.sqrt(mean) * self._rng.standard_normal(mean.shape, np.float32))
        frames = []
        for signal in (electrons[0] + electrons[1], electrons[0]):
            read = self._rng.standard_normal(signal.shape, np.float32) * np.float32(body.read_noise_dn)
            dn = np.rint(body.black_dn + signal / np.float32(electrons_per_dn) + read)
            frames.append(np.clip(dn, 0, body.white_dn).astype(np.uint16))
        return frames[0], frames[1]

    def _meta(self, f_number: float, exposure_s: float, iso: float, diopters: float) -> CaptureMeta:
        step = self.body.exif_step_d
        coarse = round(diopters / step) * step
        return CaptureMeta(
            camera=self.body.model, lens_model=self.body.lens, iso=iso, exposure_s=exposure_s, f_number=f_number,
            focal_length_mm=self.body.focal_length_mm, focus_distance_m=optics.distance_m(coarse),
            pixel_pitch_um=self.body.view_pitch_um, disparity_gain=self.body.disparity_gain,
        )  # fmt: skip

    def _dng(self, mosaics: tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]], meta: CaptureMeta) -> bytes:
        path = Path(self._scratch.name) / "still.dng"
        write_dual_pixel_dng(
            path, *mosaics, white=self.body.white_dn, black=(self.body.black_dn,) * 2,
            make=self.body.make, model=self.body.model, meta=meta,
        )  # fmt: skip
        return path.read_bytes()

    def _record(self, truth: ShotTruth) -> None:
        self.shots.append(truth)
        if self._state is not None:
            with self._state.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(truth)) + "\n")


def read_state(path: Path) -> list[ShotTruth]:
    """The truth of the shots that a camera in another process has taken, from its state file.

    Raises:
        DualpixError: the file is not one.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [ShotTruth(**row) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise DualpixError(f"cannot read the state of a test camera from '{path}': {error}") from error


@dataclass
class _LiveScene:
    """The scene in gray at any focus, blended from blurred layers that are kept."""

    scene: HiddenScene
    widest_px: float
    _blurred: dict[tuple[int, int], FloatImage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        levels = [0.0]
        while levels[-1] < self.widest_px + 1:
            levels.append(levels[-1] + max(0.5, 0.1 * levels[-1]))
        self._levels = np.array(levels)

    def picture(self, circle_px: Callable[[float], float]) -> FloatImage:
        """(H, W) luminance; ``circle_px`` gives the diameter of the blur at a depth in diopters."""
        out = np.zeros((*self.scene.canvas_hw, 1), np.float32)
        for index, layer in enumerate(self.scene.layers):
            _lay_over(out, layer, self._layer(index, circle_px(layer.diopters)))
        return self.scene.inside(out[..., 0])

    def _layer(self, index: int, circle_px: float) -> FloatImage:
        """Linear in the square of the diameter, which gives the blend the second moment of the wanted disc."""
        above = int(np.clip(np.searchsorted(self._levels, circle_px), 1, len(self._levels) - 1))
        low, high = self._levels[above - 1], self._levels[above]
        share = float(np.clip((circle_px**2 - low**2) / (high**2 - low**2), 0, 1))
        blend = cv2.addWeighted(self._level(index, above - 1), 1 - share, self._level(index, above), share, 0)
        return np.asarray(blend, np.float32)

    def _level(self, index: int, level: int) -> FloatImage:
        if (index, level) not in self._blurred:
            colour = self.scene.layers[index].colour
            gray = np.dstack([colour[..., :3] @ _LUMINANCE, colour[..., 3]])
            reach = math.ceil(self._levels[-1] / 2) + 1
            self._blurred[index, level] = _softened(gray, float(self._levels[level]), reach)
        return self._blurred[index, level]


def _softened(planes: FloatImage, circle_px: float, reach: int) -> FloatImage:
    """Spread by a disc, on a window larger by ``reach``; wide discs on a coarser grid, which then misses nothing."""
    padded = _padded(planes, reach)
    coarser = 1 if circle_px < 8 else 2 if circle_px < 16 else 4
    size = padded.shape[1], padded.shape[0]
    small = cv2.resize(padded, (size[0] // coarser, size[1] // coarser), interpolation=cv2.INTER_AREA)
    kernel = np.add(*half_disc_kernels(circle_px / coarser, 0.0))
    blurred = cv2.filter2D(small, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(cv2.resize(blurred, size, interpolation=cv2.INTER_LINEAR), np.float32)


@lru_cache(maxsize=512)
def half_disc_kernels(circle_px: float, gain: float) -> tuple[FloatImage, FloatImage]:
    """Left and right kernels (S, S), S odd, each of sum 0.5, of a disc with a pixel's edge.

    Args:
        circle_px: signed diameter, > 0 behind the focus plane, where the right half's light lands right.
        gain: distance of the two centroids over the diameter; up to 0.25, which a straight ramp reaches.
    """
    radius = abs(circle_px) / 2
    size = 2 * math.ceil(radius + 0.5) + 1
    pixels = np.arange(size) - size // 2
    axis = (np.arange(size * _KERNEL_SAMPLES) - size * _KERNEL_SAMPLES // 2) / _KERNEL_SAMPLES
    disc = np.clip((radius - np.hypot(axis[:, None], axis[None])) * _KERNEL_SAMPLES + 0.5, 0, 1)
    disc = disc / disc.sum()
    # the distance of the centroids of 1 + g x and 1 - g x is 2 g <x^2>
    slope = gain * circle_px / (2 * max(float((disc * axis[None] ** 2).sum()), 1e-9))
    ramp = np.clip(slope * axis, -1, 1)[None]
    # each sample is shared between the pixels beside it, which keeps the centroid
    share = np.clip(1 - np.abs(pixels[:, None] - axis[None]), 0, 1)
    left, right = (share @ (disc * (1 + side * ramp)) @ share.T for side in (-1, 1))
    return _light(left, 0.5), _light(right, 0.5)


def _light(kernel: npt.NDArray[np.float64], total: float) -> FloatImage:
    return np.asarray(kernel * (total / kernel.sum()), np.float32)


def _circle_px(diopters: float, model: LensModel) -> float:
    return float(optics.circle_of_confusion_px(1 / diopters, model))


def _padded(planes: FloatImage, reach: int) -> FloatImage:
    """With nothing around."""
    return np.pad(planes, ((reach, reach), (reach, reach), (0, 0)))


def _filtered(planes: FloatImage, kernel: FloatImage) -> FloatImage:
    """Light spread by ``kernel``."""
    # filter2D correlates; light spreads, so the kernel is turned
    turned = np.ascontiguousarray(kernel[::-1, ::-1])
    return np.asarray(cv2.filter2D(planes, cv2.CV_32F, turned, borderType=cv2.BORDER_CONSTANT), np.float32)


def _lay_over(canvas: FloatImage, layer: _Layer, blurred: FloatImage) -> None:
    """Put a blurred layer (h, w, C + 1), its coverage last, over the canvas (H, W, C)."""
    reach = (blurred.shape[0] - layer.colour.shape[0]) // 2
    top, left = layer.top - reach, layer.left - reach
    rows = slice(max(top, 0), min(top + blurred.shape[0], canvas.shape[0]))
    columns = slice(max(left, 0), min(left + blurred.shape[1], canvas.shape[1]))
    part = blurred[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    window = canvas[rows, columns]
    window *= 1 - part[..., -1:]
    window += part[..., :-1]


def _magnified(picture: FloatImage, magnification: float, how: int) -> FloatImage:
    """(H, W, ...) enlarged about its centre; what is not known at the border is repeated."""
    height, width = picture.shape[:2]
    x, y = (width - 1) / 2 * (1 - magnification), (height - 1) / 2 * (1 - magnification)
    matrix = np.array([[magnification, 0, x], [0, magnification, y]])
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def _mosaic(view: FloatImage) -> FloatImage:
    """(H, W, 3) to RGGB (2 H, 2 W): one cell a pixel."""
    out = np.empty((2 * view.shape[0], 2 * view.shape[1]), np.float32)
    out[::2, ::2], out[1::2, 1::2] = view[..., 0], view[..., 2]
    out[::2, 1::2] = out[1::2, ::2] = view[..., 1]
    return out


def _jpeg(shown: FloatImage) -> bytes:
    codes = np.rint(shown * 255).astype(np.uint8)
    done, data = cv2.imencode(".jpg", codes, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise RuntimeError(f"cannot encode a JPEG of {codes.shape}")
    return data.tobytes()
