"""What stands behind every test camera: a hidden lens, a scene with depth and occlusion, a shutter and a card.

Convention: pictures are computed on the grid of the decoded half-size view, of which a sensor cell of RGGB is one
pixel, so the decoded pair is what was rendered. The scene is a pile of flat layers, each at one depth, laid out as the
lens sees them focused at infinity; focused elsewhere the picture is larger by the lens's magnification. A layer is
blurred by the two halves of the disc that :mod:`dualpix.capture.optics` gives at the lens's *true* focus, and laid over
what is behind it: edges of what is near spread over what is far, never the reverse.

Live view shows the scene at the largest aperture, as cameras do, at a brightness of its own choice; a still is as
bright as its exposure makes it. A backend is told nothing of the truth. Tests read it from :attr:`HiddenCamera.shots`
or, where the camera is another process, from the state file: one JSON object a shot, see :class:`~.truth.ShotTruth`.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture import optics
from dualpix.capture.camera_protocol import CameraError, CardFull, Direction
from dualpix.capture.cameras.hidden.blur import (
    LUMINANCE,
    blur_circle_px,
    half_disc_kernels,
    lay_over,
    magnified,
    padded_by,
    spread_by,
)
from dualpix.capture.cameras.hidden.body import Body
from dualpix.capture.cameras.hidden.lens import HiddenLens, lens_truth
from dualpix.capture.cameras.hidden.live_view import LiveScene
from dualpix.capture.cameras.hidden.scene import Box, make_hidden_scene
from dualpix.capture.cameras.hidden.truth import ShotTruth
from dualpix.capture.files import write_bytes
from dualpix.capture.pictures.display import srgb_from_linear
from dualpix.capture.raw.write.dng import write_dual_pixel_dng
from dualpix.capture.types import CaptureMeta, FloatImage

_LIVE_VIEW_NOISE = 0.001
_LIVE_VIEW_WHITE = 0.75
_JPEG_QUALITY = 92
_REFERENCE_LIGHT = (1 / 60) * 1.0 / 2.8**2
"""exposure_s x iso / 100 / N^2 at which a white card reaches three quarters of the range."""
_WHITE_CARD = 0.75


@dataclass(frozen=True)
class Still:
    """The files of one release."""

    raw: bytes
    """Dual-pixel DNG."""
    jpeg: bytes
    truth: ShotTruth


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
        self._live = LiveScene(self.scene, widest)

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
        return magnified(self.depth_m, magnification, cv2.INTER_NEAREST)

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
            light = self._live.picture(lambda d: abs(blur_circle_px(d, model)) / magnification)
            shown = srgb_from_linear(magnified(light, magnification, cv2.INTER_CUBIC) * np.float32(_LIVE_VIEW_WHITE))
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
        shown = srgb_from_linear(np.clip((left + right) @ LUMINANCE * np.float32(light), 0, 1))
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
            circle = blur_circle_px(layer.diopters, model) / magnification
            kernels = half_disc_kernels(round(circle, 3), self.body.disparity_gain)
            reach = kernels[0].shape[0] // 2
            padded = padded_by(layer.colour, reach)
            for half, kernel in zip(halves, kernels, strict=True):
                lay_over(half, layer, spread_by(padded, 2 * kernel))
        left, right = (
            magnified(self.scene.inside(half) * np.float32(0.5), magnification, cv2.INTER_CUBIC) for half in halves
        )
        return np.maximum(left, 0), np.maximum(right, 0)

    def _largest_circle_px(self) -> float:
        end = self.lens.truth.end
        a, b, c = self.lens.truth.coefficients
        ends = a, a + b * end + c * end**2
        model = self.body.lens_model
        return max(abs(blur_circle_px(d, model(self.body.f_numbers[0], focus))) for d in (0.2, 2.5) for focus in ends)

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
