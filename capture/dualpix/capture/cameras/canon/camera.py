"""A Canon EOS that takes frames: settings, release, and the files that come of it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dualpix.capture.camera_protocol import (
    Achieved,
    BadFrame,
    CameraBusy,
    CameraError,
    CameraInfo,
    CameraLost,
    CameraStatus,
    CardFull,
    Exposure,
    PlannedFrame,
    Settled,
    Shot,
)
from dualpix.capture.cameras.canon.drive import CanonDrive
from dualpix.capture.cameras.canon.files import CanonFile, suffix_of, write_all
from dualpix.capture.cameras.canon.link import CanonLink
from dualpix.capture.cameras.received import PICTURES, utc_now
from dualpix.capture.cameras.words import nearest, number
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.driven import DrivenFocus

TARGETS = {"ram": "Internal RAM", "card": "Memory card"}
_MOST_FILE_BYTES = 1 << 30
_EVENT_WAIT_MS = 5
_FILE_LIMIT_S = 30.0
"""Longest wait for a file after the exposure."""
_FAILED_LIMIT_S = 3.0
"""The same once something went wrong while waiting."""
_LATE_FILE_S = 0.3
"""The same once the camera says that it is done, too."""
_STALE_EVENTS = 100
_MANUAL = "Manual"
_BY_HAND = "switch it to manual exposure (M); a lens needs contacts"


class CanonCamera:
    """A :class:`~dualpix.capture.camera_protocol.Camera` on libgphoto2."""

    def __init__(
        self, link: CanonLink, calibration: LensCalibration | None, target: str, focal_length_mm: float | None = None
    ) -> None:
        self._link, self._target = link, target
        self._drive = CanonDrive(link, focal_length_mm)
        self.focus = DrivenFocus(self._drive, calibration)
        self._set: dict[str, str] = {}

    @property
    def info(self) -> CameraInfo:
        """Who is there."""
        return self._drive.info

    def status(self) -> CameraStatus:
        """What the camera tells; it knows nothing of its stabiliser, its temperature and dual-pixel raw."""
        link = self._link
        link.check()
        mode = link.get("autoexposuremodedial") or link.get("autoexposuremode")
        return CameraStatus(
            exposure_mode=_word(mode),
            focus_mode=_word(link.get("focusmode")),
            battery_percent=_percent(link.get("batterylevel")),
            free_frames=_whole(link.get("availableshots")),
            live_view=self._drive.live,
            raw_format=link.get("imageformat"),
        )

    def prepare(self, frames: Sequence[PlannedFrame]) -> None:
        """Live view on, frames to the target, raw, one frame a release, and the camera stays awake.

        Raises:
            CameraError: the lens has not the apertures, or the camera failed.
        """
        link = self._link
        for frame in frames:
            self._settings(frame.exposure)
        self._change("capturetarget", TARGETS[self._target])
        self._change_if_possible("drivemode", "Single")
        self._change_if_possible("continuousaf", "Off")
        self._change_if_possible("autopoweroff", "0")  # asleep, a lens forgets where it stands
        quality = link.get("imageformat")
        if quality is not None and "raw" not in quality.lower():
            self._change("imageformat", _first_raw(link.choices("imageformat")))
        self._set.clear()
        self._drive.start_live_view()

    def home(self) -> None:
        """To the far stop."""
        self.focus.home()

    def go_to(self, diopters: float) -> Achieved:
        """By steps, through the calibration."""
        return self.focus.go_to(diopters)

    def settle(self) -> Settled:
        """Until live view stands still."""
        return self.focus.settle()

    def shoot(self, folder: Path, stem: str, exposure: Exposure) -> Shot:
        """Release, wait for the files, and write them to ``folder/stem.SUFFIX``.

        Raises:
            BadFrame: a file came cut or empty, or none came.
            CameraError: see :mod:`~dualpix.capture.camera_protocol`.
            OutputError: a file cannot be written.
        """
        self._expose(exposure)
        self._discard_stale_files()
        taken_at = utc_now()
        self._release()
        wanted = (self._link.get("imageformat") or "").count("+") + 1
        names = self._wait_for_files(wanted, exposure.exposure_s or 0.0)
        files = sorted((self._fetch(place) for place in names), key=lambda file: file.suffix in PICTURES)
        paths = write_all(folder, stem, files)
        return Shot(paths, self._reported(), taken_at, details={"names": [file.name for file in files]})

    def leave(self) -> None:
        """Focus back to where it was found, settings as they were, live view off."""
        try:
            self.focus.return_to_start()
        finally:
            self._link.restore()
            self._set.clear()
            self._drive.stop_live_view()

    def close(self) -> None:
        """Let go of the camera; never raises."""
        self._link.close()

    # settings

    def _change(self, name: str, value: str) -> None:
        """Set what is not set already, to be restored later."""
        if self._link.get(name) != value:
            self._link.set(name, value, remember=True)

    def _change_if_possible(self, name: str, value: str) -> None:
        """The same for what not every camera has, offers, or lets be changed from here."""
        choices = self._link.choices(name)
        if not self._link.has(name) or (choices and value not in choices):
            return
        try:
            self._change(name, value)
        except (CameraBusy, CameraLost):
            raise
        except CameraError:
            return

    def _settings(self, exposure: Exposure) -> dict[str, str]:
        """The camera's own words for an exposure.

        Raises:
            CameraError: it has none.
        """
        wanted = {"aperture": exposure.f_number, "shutterspeed": exposure.exposure_s, "iso": exposure.iso}
        return {
            name: nearest(name, value, self._link.choices(name), is_aperture=name == "aperture", hint=_BY_HAND)
            for name, value in wanted.items()
            if value is not None
        }

    def _expose(self, exposure: Exposure) -> None:
        for name, word in self._settings(exposure).items():
            if self._set.get(name) != word:
                self._set.pop(name, None)
                self._link.set(name, word, remember=True)
                self._set[name] = word

    def _reported(self) -> Exposure:
        values = (number(self._link.get(name)) for name in ("aperture", "shutterspeed", "iso"))
        return Exposure(*values)

    # release and files

    def _release(self) -> None:
        link = self._link
        try:
            if link.has("eosremoterelease"):
                link.set("eosremoterelease", "Press Half MF")
                link.set("eosremoterelease", "Press Full MF")
            else:
                link.call("the release", "trigger_capture")
        except CameraError as error:
            with suppress(CameraError):
                link.set("eosremoterelease", "Release")
            if type(error) is CameraError and _whole(link.get("availableshots")) == 0:
                raise CardFull("the camera has no room for a frame", hint="make room on the card") from error
            raise
        if link.has("eosremoterelease"):
            link.set("eosremoterelease", "Release")

    def _wait_for_files(self, wanted: int, exposure_s: float) -> list[tuple[str, str]]:
        """(folder, name) of each file of a release.

        Into the camera's memory, libgphoto2 downloads while it waits: a download that fails is an event that is gone.
        """
        gp = self._link.gp
        deadline, failed = time.monotonic() + exposure_s + _FILE_LIMIT_S, ""
        found: list[tuple[str, str]] = []
        while len(found) < wanted:
            if time.monotonic() > deadline:
                raise BadFrame(
                    f"{len(found)} files came after the release" + (f", {failed}" if failed else ""),
                    expected=str(wanted),
                    hint="" if failed else "is there a card in the camera, and is it in single-frame mode?",
                )
            try:
                kind, what = self._link.call("waiting for the file", "wait_for_event", _EVENT_WAIT_MS)
            except (CameraLost, CardFull):
                raise
            except CameraError as error:
                # the release has happened: a second one instead of patience would make two frames of one
                failed = error.found
                deadline = min(deadline, time.monotonic() + exposure_s + _FAILED_LIMIT_S)
                time.sleep(_EVENT_WAIT_MS / 1000)
                continue
            if kind == gp.GP_EVENT_FILE_ADDED:
                found.append((str(what.folder), str(what.name)))
            elif kind == gp.GP_EVENT_CAPTURE_COMPLETE and failed:
                deadline = min(deadline, time.monotonic() + _LATE_FILE_S)
        return found

    def _discard_stale_files(self) -> None:
        """Take files of earlier releases that came too late, lest they be taken for this one's."""
        gp = self._link.gp
        for _ in range(_STALE_EVENTS):
            kind, what = self._link.call("waiting for the camera", "wait_for_event", 0)
            if kind == gp.GP_EVENT_TIMEOUT:
                return
            if kind == gp.GP_EVENT_FILE_ADDED and self._target == "ram":
                with suppress(BadFrame):
                    self._fetch((str(what.folder), str(what.name)))

    def _fetch(self, place: tuple[str, str]) -> CanonFile:
        gp = self._link.gp
        size = int(self._link.call("reading a file's size", "file_get_info", *place).file.size)
        if not 0 < size <= _MOST_FILE_BYTES:
            raise BadFrame(f"the camera tells of a file of {size} bytes", expected=f"up to {_MOST_FILE_BYTES}")
        file = self._link.call("the download", "file_get", *place, gp.GP_FILE_TYPE_NORMAL)
        data = bytes(memoryview(file.get_data_and_size()))
        if len(data) != size:
            raise BadFrame(f"{len(data)} bytes of '{place[1]}' arrived", expected=str(size))
        return CanonFile(place[1], suffix_of(data, place[1]), data)


def _percent(text: str | None) -> float | None:
    """``80%``; None for ``Unknown value 0a12`` and the like."""
    match = re.fullmatch(r"(\d{1,3}) ?%", text or "")
    return float(match[1]) if match else None


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,9}", text) else None


def _word(text: str | None) -> str | None:
    return "manual" if text == _MANUAL else text


def _first_raw(choices: Sequence[str]) -> str:
    for choice in choices:
        if choice.lower() == "raw":
            return choice
    raise CameraError("the camera offers no raw format", expected="RAW among " + ", ".join(choices))
