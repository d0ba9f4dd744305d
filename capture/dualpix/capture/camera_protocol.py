"""What a capture needs of a camera, whatever cable it hangs on.

Convention: focus positions are diopters (1/m) of the distance from the lens, 0 at infinity, larger is nearer. A
position is *requested*, and *achieved* with an uncertainty of one standard deviation; where it comes from is said.

A backend is one module with a class of the form :class:`Camera` and a function that finds cameras; see
:mod:`dualpix.capture.cameras`. Lenses that only move by steps implement :class:`FocusDrive` and let
:class:`~dualpix.capture.focus.driven.DrivenFocus` home, move and settle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FloatImage

Direction = Literal["near", "far"]
DistanceSource = Literal["calibration", "camera", "exif", "bracket", "none"]
"""``calibration``: motor steps through a measured curve; ``camera``: reported with the frame (Camera2);
``exif``: the bounds the camera wrote; ``bracket``: counted from an on-camera bracket."""
Role = Literal["focus", "all_in_focus"]


class CameraError(DualpixError):
    """The camera did not do what was asked."""

    transient = False
    """Whether the same request may succeed a little later."""


class CameraBusy(CameraError):
    """Not now: PTP 0x2019, libgphoto2 -110, HTTP 503, LENS_STATE moving."""

    transient = True


class CameraLost(CameraError):
    """Connection dropped or camera gone; a new connection has to be made and the lens homed again."""


class CardFull(CameraError):
    """No room for another frame on the camera."""


class LensStuck(CameraError):
    """The lens does not move although it is told to."""


class BadFrame(CameraError):
    """What was downloaded is cut, empty, or not the frame that was asked for; it can be fetched or taken again."""

    transient = True


@dataclass(frozen=True)
class CameraInfo:
    """Who is there; ``None`` where the camera does not say."""

    backend: str
    address: str
    """What ``--address`` takes to choose this one: ``usb:001,004``, ``http://192.168.1.2:8080``, an adb serial."""
    make: str | None = None
    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    lens: str | None = None
    lens_serial: str | None = None
    focal_length_mm: float | None = None
    min_focus_m: float | None = None
    pixel_pitch_um: float | None = None
    """Of the full-resolution picture."""
    f_numbers: tuple[float, ...] = ()
    """That can be set; one of a fixed aperture."""
    capabilities: tuple[str, ...] = ()
    """Of ``live_view``, ``focus_drive``, ``absolute_focus``, ``aperture``, ``camera_bracket``, ``dual_pixel_raw``."""


@dataclass(frozen=True)
class CameraStatus:
    """How it is set up now; ``None`` where the camera does not say. :mod:`.stack.take.preflight` judges."""

    exposure_mode: str | None = None
    """``manual`` or the camera's own word."""
    focus_mode: str | None = None
    """``manual`` or the camera's own word."""
    stabiliser: bool | None = None
    battery_percent: float | None = None
    temperature: str | None = None
    """``normal`` or the camera's own word."""
    free_frames: int | None = None
    live_view: bool | None = None
    raw_format: str | None = None
    """The camera's own word for the files that it writes; one without raw, dng, cr2 or cr3 in it means
    pictures, which are not linear."""
    dual_pixel_raw: bool | None = None


@dataclass(frozen=True)
class Exposure:
    """What is set for a frame; ``None`` leaves the camera as it is."""

    f_number: float | None = None
    exposure_s: float | None = None
    iso: float | None = None


@dataclass(frozen=True)
class PlannedFrame:
    """One frame that is wanted."""

    index: int
    diopters: float
    exposure: Exposure
    role: Role = "focus"


@dataclass(frozen=True)
class Achieved:
    """Where the focus went."""

    diopters: float
    uncertainty_d: float
    """One standard deviation."""
    source: DistanceSource
    motor_steps: int | None = None
    """Finest motor units from the far stop, where the lens is driven by steps."""


@dataclass(frozen=True)
class Settled:
    """How the picture came to rest after a move."""

    seconds: float
    frames: int
    """Live-view frames, or results, looked at."""
    reached: bool
    """False: still changing when the time ran out."""
    evidence: str = ""
    """E.g. ``difference 0.4 of noise`` or ``LENS_STATE stationary x2``."""


@dataclass(frozen=True)
class Shot:
    """One release of the shutter, downloaded."""

    files: tuple[Path, ...]
    """On this machine, whole; the raw file first."""
    exposure: Exposure
    """As the camera reports it."""
    taken_at: str
    """ISO 8601, UTC."""
    achieved: Achieved | None = None
    """Where the camera itself reports the focus with the frame (phones); overrides that of ``go_to``."""
    details: dict[str, Any] = field(default_factory=dict)
    """Plain JSON: lens state, physical camera id, temperature, whatever the backend wants kept."""


class Camera(Protocol):
    """One connected camera. Every method may raise :class:`CameraError`; none retries by itself.

    Order: ``prepare``, ``home``, then per frame ``go_to``, ``settle``, ``shoot``; ``leave`` and ``close`` at the end,
    also after an error. Methods block; one thread uses a camera.
    """

    @property
    def info(self) -> CameraInfo:
        """Who is there."""
        ...

    def status(self) -> CameraStatus:
        """How it is set up now."""
        ...

    def prepare(self, frames: Sequence[PlannedFrame]) -> None:
        """Get ready for exactly these frames, in this order: live view, quality, destination.

        A camera that shoots a bracket by itself starts it here; ``go_to`` and ``shoot`` then follow it.
        """
        ...

    def home(self) -> None:
        """Bring the focus to where positions are counted from; nothing where positions are absolute."""
        ...

    def go_to(self, diopters: float) -> Achieved:
        """Focus there; returns when the move was commanded and, as far as the camera tells, done."""
        ...

    def settle(self) -> Settled:
        """Wait, within bounds, until the picture is at rest."""
        ...

    def shoot(self, folder: Path, stem: str, exposure: Exposure) -> Shot:
        """Release, download to ``folder/stem.SUFFIX``; nothing is left there under that name if it fails."""
        ...

    def leave(self) -> None:
        """Bring the focus back to where it was found and the camera to rest; may be called at any time."""
        ...

    def close(self) -> None:
        """Let go of the connection; never raises."""
        ...


class FocusDrive(Protocol):
    """A lens that moves by steps, seen through live view: what homing, calibration and settling need."""

    @property
    def info(self) -> CameraInfo:
        """Who is there."""
        ...

    @property
    def step_sizes(self) -> tuple[int, ...]:
        """That ``drive`` takes, finest first; they are neither even nor in proportion (Canon: 1, 2, 3)."""
        ...

    def drive(self, direction: Direction, size: int) -> None:
        """One step; returns at once or when done. Steps against a stop do nothing."""
        ...

    def live_view(self) -> FloatImage:
        """(H, W) gray in [0, 1] as displayed, the next frame."""
        ...
