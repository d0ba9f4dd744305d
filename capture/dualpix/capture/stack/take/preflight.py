"""Whether a camera is ready for a stack, before anything moves; in words that say what to do.

An *error* stops the capture. Some of them only make the frames worse: those become warnings where the user insists
(``--force``). Those that would make distances wrong, or fail on the way, stay errors. What a camera does not say is
not held against it; it is listed in one warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dualpix.capture.camera_protocol import CameraInfo, CameraStatus, PlannedFrame
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.calibration import LensCalibration

Level = Literal["error", "warning"]

_BATTERY_EMPTY, _BATTERY_LOW = 5.0, 20.0
_FRAME_BYTES_GUESS = 32 << 20
_RANGE_SLACK_D = 1e-6
_RAW_WORDS = ("raw", "dng", "cr2", "cr3")
"""In what cameras call the files that a stack reads as raws."""


@dataclass(frozen=True)
class Finding:
    """Something about the camera that matters for the stack."""

    level: Level
    what: str
    """E.g. ``exposure mode is 'Av'``."""
    do: str
    """E.g. ``turn the dial to M``."""
    forceable: bool = False
    """Whether an error becomes a warning where the user insists."""

    def __str__(self) -> str:
        return f"{self.what}: {self.do}"


class NotReadyError(DualpixError):
    """The camera is not ready; ``findings`` has every reason."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        errors = [finding for finding in findings if finding.level == "error"]
        hint = "or take the risk with --force" if all(finding.forceable for finding in errors) else ""
        super().__init__("not ready: " + "; ".join(map(str, errors)), hint=hint)


@dataclass(frozen=True)
class Room:
    """Space on this machine."""

    free_bytes: int
    frame_bytes: int | None = None
    """Of the largest frame so far, where there are any."""


def ready(findings: Iterable[Finding], *, force: bool = False) -> tuple[Finding, ...]:
    """The warnings among ``findings``; with ``force`` also the errors that can be forced, as warnings.

    Raises:
        NotReadyError: an error remains.
    """
    weighed = tuple(replace(f, level="warning") if force and f.forceable else f for f in findings)
    if any(finding.level == "error" for finding in weighed):
        raise NotReadyError(weighed)
    return weighed


def check_before(
    info: CameraInfo,
    status: CameraStatus,
    frames: Sequence[PlannedFrame],
    calibration: LensCalibration | None = None,
    room: Room | None = None,
) -> list[Finding]:
    """What is to be known before the camera is prepared: settings that only a hand can change, power, space, reach."""
    return [
        *_modes(status),
        *_power(status),
        *_room(room, len(frames)),
        *_abilities(info, frames),
        *_reach(info, frames, calibration),
        *_unknown(status),
    ]


def check_prepared(info: CameraInfo, status: CameraStatus, count: int) -> list[Finding]:
    """What preparing should have set, and whether ``count`` frames fit to where the camera puts them now."""
    found = []
    if status.free_frames is not None and status.free_frames < count:
        what = f"the card has room for {status.free_frames} of {count} frames"
        found.append(Finding("error", what, "empty it or put in another"))
    if status.live_view is False and _drives_by_steps(info):
        do = "switch on live view shooting in the camera's menu: the focus is driven and judged by it"
        found.append(Finding("error", "live view is off", do))
    if status.raw_format is not None and not any(word in status.raw_format.lower() for word in _RAW_WORDS):
        what = f"the quality is '{status.raw_format}'"
        found.append(Finding("error", what, "set it to RAW: other files are not linear", forceable=True))
    if status.dual_pixel_raw is False:
        do = "turn it on in the camera's menu if disparity is wanted; the stack works without"
        found.append(Finding("warning", "Dual Pixel RAW is off", do))
    return found


def _modes(status: CameraStatus) -> list[Finding]:
    found = []
    if status.exposure_mode not in (None, "manual"):
        what = f"the exposure mode is '{status.exposure_mode}'"
        found.append(Finding("error", what, "turn the dial to M, else frames differ in exposure", forceable=True))
    if status.focus_mode not in (None, "manual"):
        what = f"the focus mode is '{status.focus_mode}'"
        found.append(Finding("error", what, "switch the lens or the menu to MF: autofocus would move the lens"))
    if status.stabiliser:
        do = "switch it off and use a tripod: it shifts the picture between frames"
        found.append(Finding("error", "the stabiliser is on", do, forceable=True))
    return found


def _power(status: CameraStatus) -> list[Finding]:
    found = []
    battery, heat = status.battery_percent, status.temperature
    if battery is not None and battery < _BATTERY_LOW:
        empty = battery < _BATTERY_EMPTY
        what, do = f"the battery has {battery:.0f} %", "charge or change it, or use mains power"
        found.append(Finding("error" if empty else "warning", what, do, forceable=True))
    if heat not in (None, "normal"):
        # words of Canon and of Android for what they will soon refuse
        refuses = any(word in str(heat).lower() for word in ("disable", "critical", "emergency", "shutdown"))
        do = "let the camera cool down"
        found.append(Finding("error" if refuses else "warning", f"the camera's temperature is '{heat}'", do))
    return found


def _room(room: Room | None, count: int) -> list[Finding]:
    needed = count * (_FRAME_BYTES_GUESS if room is None or room.frame_bytes is None else room.frame_bytes)
    if room is None or room.free_bytes >= needed:
        return []
    what = f"{room.free_bytes / 1e6:.0f} MB are free on this machine, {count} frames take about {needed / 1e6:.0f} MB"
    return [Finding("warning" if room.frame_bytes is None else "error", what, "free some, or choose another -o")]


def _abilities(info: CameraInfo, frames: Sequence[PlannedFrame]) -> list[Finding]:
    found = []
    moves = {"focus_drive", "absolute_focus", "camera_bracket"} & set(info.capabilities)
    if info.capabilities and not moves and len({frame.diopters for frame in frames}) > 1:
        do = "use a lens with a motor, and a body that lets it be driven"
        found.append(Finding("error", "this camera cannot move the focus", do))
    wanted = {frame.exposure.f_number for frame in frames if frame.exposure.f_number is not None}
    missing = sorted(n for n in wanted if not any(abs(n - known) <= 0.06 * known for known in info.f_numbers))
    if info.f_numbers and missing:
        what = "the lens has no " + ", ".join(f"f/{n:g}" for n in missing)
        found.append(Finding("error", what, "choose among " + ", ".join(f"f/{n:g}" for n in info.f_numbers)))
    return found


def _reach(info: CameraInfo, frames: Sequence[PlannedFrame], calibration: LensCalibration | None) -> list[Finding]:
    if not _drives_by_steps(info):
        return []
    if calibration is None and "camera_bracket" in info.capabilities:
        do = "only the camera's own bracket can be taken; to focus from here, dualpix capture calibrate"
        return [Finding("warning", "the lens is not calibrated", do)]
    if calibration is None:
        do = "measure it once: dualpix capture calibrate"
        return [Finding("error", "the lens is not calibrated, so distances would be unknown", do)]
    found = []
    if info.lens and calibration.lens and info.lens != calibration.lens:
        what = f"the calibration is of '{calibration.lens}', the lens is '{info.lens}'"
        found.append(Finding("error", what, "measure this one: dualpix capture calibrate"))
    zoom_mm, made_mm = info.focal_length_mm, calibration.focal_length_mm
    if zoom_mm and made_mm and abs(zoom_mm - made_mm) > 0.01 * made_mm:
        what = f"the calibration was made at {made_mm:g} mm, the lens is at {zoom_mm:g} mm"
        found.append(Finding("error", what, "zoom back, or calibrate here"))
    far_d, near_d = sorted(calibration.range_d)
    outside = [f.diopters for f in frames if not far_d - _RANGE_SLACK_D <= f.diopters <= near_d + _RANGE_SLACK_D]
    if outside:
        what = f"the plan goes to {max(outside, key=abs):.3g} D, the lens from {far_d:.3g} to {near_d:.3g} D"
        found.append(Finding("error", what, "plan within its range"))
    return found


def _unknown(status: CameraStatus) -> list[Finding]:
    wanted = {
        "exposure mode (M)": status.exposure_mode,
        "focus mode (MF)": status.focus_mode,
        "stabiliser (off)": status.stabiliser,
        "battery": status.battery_percent,
        "temperature": status.temperature,
    }
    silent = [name for name, value in wanted.items() if value is None]
    return [Finding("warning", "the camera does not say: " + ", ".join(silent), "look yourself")] if silent else []


def _drives_by_steps(info: CameraInfo) -> bool:
    return "focus_drive" in info.capabilities and "absolute_focus" not in info.capabilities
