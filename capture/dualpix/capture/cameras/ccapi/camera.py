"""A camera on the Camera Control API that takes frames: settings, release, files, and stacks of its own bracketing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from dualpix.capture.camera_protocol import (
    Achieved,
    BadFrame,
    CameraBusy,
    CameraError,
    CameraInfo,
    CameraStatus,
    CardFull,
    Exposure,
    PlannedFrame,
    Settled,
    Shot,
)
from dualpix.capture.cameras.ccapi import words as word
from dualpix.capture.cameras.ccapi.bracket import Bracket
from dualpix.capture.cameras.ccapi.drive import CcapiDrive, patiently
from dualpix.capture.cameras.ccapi.facts import BRACKET, battery_percent, room_bytes, said_of
from dualpix.capture.cameras.ccapi.link import CcapiLink, content_path
from dualpix.capture.cameras.received import PICTURES, all_or_none, utc_now
from dualpix.capture.files import atomic_path
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.driven import DrivenFocus

_CHANGED: dict[str, dict[str, Any]] = {}
"""By camera: settings before they were changed, until they are put back. Kept here, because a connection may break in
between, and another one has to do it."""
_MAX_FILE_BYTES = 1 << 30
_RAW_BYTES = 60 << 20
"""Of a frame, for the room on the card, as long as none has come."""
_FILE_LIMIT_S = 30.0
"""Longest wait for a file after the exposure."""
_STALE_EVENTS = 100
_QUALITY = "shooting/settings/stillimagequality"
_POWER = "functions/autopoweroff"
_POLLING = "event/polling"


class CcapiCamera:
    """A :class:`~dualpix.capture.camera_protocol.Camera` on the Camera Control API."""

    def __init__(
        self,
        link: CcapiLink,
        calibration: LensCalibration | None,
        focal_length_mm: float | None = None,
        increment: int | None = None,
    ) -> None:
        """Ask who is there; nothing is changed yet.

        Args:
            link: connected.
            calibration: of the lens.
            focal_length_mm: where the lens is a zoom.
            increment: of the camera's own focus bracketing, where that is to take the frames.
        """
        self._link = link
        self._drive = CcapiDrive(link, focal_length_mm)
        self.focus = DrivenFocus(self._drive, calibration)
        self._increment = increment
        self._bracket: Bracket | None = None
        self._found = _CHANGED.setdefault(link.address.public, {})
        self._taken: set[str] = set()
        """Files that have been told of."""
        self._raw_bytes = _RAW_BYTES
        self._settings: dict[str, Any] = {}
        """As they were last read or set."""

    @property
    def info(self) -> CameraInfo:
        """Who is there."""
        return self._drive.info

    def status(self) -> CameraStatus:
        """What the camera tells; it knows nothing of dual-pixel raw."""
        link = self._link
        settings = link.get("shooting/settings")
        room = room_bytes(link)
        temperature = said_of(link, "devicestatus/temperature").get("status")
        return CameraStatus(
            exposure_mode=word.mode(word.value(settings, "shootingmode", "shootingmodedial")),
            focus_mode=word.mode(word.value(settings, "focusmode", "afoperation")),
            stabiliser=word.switch(word.value(settings, "imagestabilizer", "imagestabilization", "ismode")),
            battery_percent=battery_percent(link),
            temperature=None if temperature is None else str(temperature),
            free_frames=None if room is None else room // self._raw_bytes,
            live_view=self._drive.live,
            raw_format=word.quality(word.value(settings, "stillimagequality")),
        )

    def prepare(self, frames: Sequence[PlannedFrame]) -> None:
        """Live view on, raw, one frame a release, and the camera stays awake; a bracket is begun.

        Raises:
            CameraError: the lens has not the apertures, or the camera failed.
            DualpixError: frames that a bracket cannot be.
        """
        self._bracket = None
        self._settings = settings = self._link.get("shooting/settings")
        for frame in frames:
            word.for_exposure(settings, frame.exposure)
        if self._link.has(_POWER, "put"):  # asleep, a lens forgets where it stands
            self._change(_POWER, "disable", self._link.get(_POWER))
        for key in ("drive", "stillimagequality"):
            self._prepare_setting(key, settings.get(key))
        self._settings = self._link.get("shooting/settings")
        self._drive.start_live_view()
        self._forget_events()
        if self._increment is not None and frames:
            self._begin_bracket(frames)

    def home(self) -> None:
        """To the far stop; nothing before a bracket, which homes on its way where it can."""
        if self._increment is None:
            self.focus.home()

    def go_to(self, diopters: float) -> Achieved:
        """By steps, through the calibration; in a bracket, where its frame was taken."""
        if self._bracket is not None:
            return self._bracket.go_to(diopters)
        return self.focus.go_to(diopters)

    def settle(self) -> Settled:
        """Until live view stands still; a bracket waits for its lens by itself."""
        if self._bracket is not None:
            return Settled(0.0, 0, True, "the camera's own focus bracketing")
        return self.focus.settle()

    def shoot(self, folder: Path, stem: str, exposure: Exposure) -> Shot:
        """Release, wait for the files, and write them to ``folder/stem.SUFFIX``; of a bracket, fetch the frame.

        Raises:
            BadFrame: a file came cut, or none came.
            CameraError: see :mod:`~dualpix.capture.camera_protocol`.
            OutputError: a file cannot be written.
        """
        achieved = None
        if self._bracket is None:
            self._expose(exposure)
            self._forget_events()
            taken_at = utc_now()
            self._release()
            contents = self._wait_for_files(self._files_a_frame(), exposure.exposure_s or 0.0)
        else:
            contents, taken_at = self._bracket_files(self._bracket, exposure.exposure_s or 0.0)
            achieved = self._bracket.achieved()
        paths = self._fetch_all(contents, folder, stem)
        names = [content_path(content)[1] for content in contents]
        return Shot(paths, self._reported(), taken_at, achieved, {"names": names})

    def leave(self) -> None:
        """Focus back to where it was found, settings as they were, live view off."""
        try:
            self.focus.return_to_start()
        finally:
            self._bracket = None
            for endpoint in reversed(list(self._found)):
                self._link.put(endpoint, self._found[endpoint])
                del self._found[endpoint]
            self._drive.stop_live_view()
            if self._link.has(_POLLING, "delete"):
                self._link.delete(_POLLING)

    def close(self) -> None:
        """Let go of the connection; never raises."""
        self._drive.close()

    # settings

    def _prepare_setting(self, key: str, setting: Any) -> None:
        """One frame a release, in raw, where the camera lets that be chosen."""
        if not isinstance(setting, dict) or not self._link.has(f"shooting/settings/{key}", "put"):
            return
        if key == "drive" and "single" in setting.get("ability", []):
            self._change("shooting/settings/drive", "single", setting)
        if key == "stillimagequality" and "raw" not in (word.quality(setting.get("value")) or ""):
            self._change(_QUALITY, word.first_raw(setting), setting)

    def _change(self, endpoint: str, value: Any, setting: Mapping[str, Any]) -> None:
        """Set, and remember for :meth:`leave` what was found; nothing where it is set already."""
        if setting.get("value") != value:
            self._link.put(endpoint, value)
            if setting.get("value") is not None:
                self._found.setdefault(endpoint, setting["value"])

    def _expose(self, exposure: Exposure) -> None:
        settings = self._settings = self._settings or self._link.get("shooting/settings")
        for key, chosen in word.for_exposure(settings, exposure).items():
            self._change(f"shooting/settings/{key}", chosen, settings[key])
            settings[key]["value"] = chosen

    def _reported(self) -> Exposure:
        self._settings = self._link.get("shooting/settings")
        return Exposure(*(word.number(word.value(self._settings, key)) for key in ("av", "tv", "iso")))

    # release and files

    def _release(self) -> None:
        try:
            self._link.post("shooting/control/shutterbutton", {"af": False})
        except CameraBusy as error:
            if (room := room_bytes(self._link)) is not None and room < min(self._raw_bytes, 1 << 20):
                raise CardFull("the card is full", hint="put in another one") from error
            raise

    def _files_a_frame(self) -> int:
        value = word.value(self._settings, "stillimagequality")
        return max(1, sum(kind != "none" for kind in value.values())) if isinstance(value, dict) else 1

    def _wait_for_files(self, wanted: int, exposure_s: float) -> list[str]:
        """What the camera tells of new files, in the order of their coming."""
        deadline = time.monotonic() + exposure_s + _FILE_LIMIT_S
        found: list[str] = []
        while len(found) < wanted:
            if time.monotonic() > deadline:
                raise BadFrame(
                    f"{len(found)} files came within {_FILE_LIMIT_S + exposure_s:.0f} s of the release",
                    expected=str(wanted),
                    hint="is there a card in the camera, and is it in single-frame mode?",
                )
            found += self._news(wait=True)
        return found

    def _news(self, *, wait: bool) -> list[str]:
        """Files that the camera has told of since, each once."""
        query = {True: "timeout=short", False: "timeout=immediately"}[wait]
        if self._link.version(_POLLING) < 110:
            query = f"continue={'on' if wait else 'off'}"
        try:
            said = self._link.get(_POLLING, query)
        except CameraBusy as error:
            # somebody left an earlier question open; or it is busy: the release has happened, and a second one
            # instead of patience would make two frames of one
            if "already started" in str(error).lower() and self._link.has(_POLLING, "delete"):
                self._link.delete(_POLLING)
            elif not wait:
                raise
            time.sleep(0.02)
            return []
        contents = said.get("addedcontents")
        new = [str(c) for c in contents if str(c) not in self._taken] if isinstance(contents, list) else []
        self._taken.update(new)
        return new

    def _forget_events(self) -> None:
        """Take note of files of earlier releases that came too late, lest they be taken for this one's."""
        for _ in range(_STALE_EVENTS):
            if not self._news(wait=False):
                return

    def _fetch_all(self, contents: Sequence[str], folder: Path, stem: str) -> tuple[Path, ...]:
        """The raw file first; none is left if one fails."""
        suffixes = {content: PurePosixPath(content_path(content)[1]).suffix.lower() for content in contents}
        with all_or_none() as written:
            for content in sorted(contents, key=lambda c: suffixes[c] in PICTURES):
                written.append(self._fetch(content, folder / f"{stem}{suffixes[content]}"))
        return tuple(written)

    def _fetch(self, content: str, path: Path) -> Path:
        def once() -> int:
            with temporary.open("wb") as file:
                return self._link.download(content, file, _MAX_FILE_BYTES)

        with atomic_path(path) as temporary:
            size = patiently(once)
        if path.suffix not in PICTURES:
            self._raw_bytes = size
        return path

    # the camera's own bracket

    def _begin_bracket(self, frames: Sequence[PlannedFrame]) -> None:
        bracket = Bracket.of(frames, self.info.focal_length_mm)
        if not self._link.has(BRACKET, "put"):
            raise CameraError(f"'{self.info.model}' has no focus bracketing that can be set from here")
        self._expose(frames[0].exposure)
        start_sigma_d = None
        if self.focus.calibration is not None:
            start_sigma_d = self.focus.go_to(bracket.start_d).uncertainty_d
            self.focus.settle()
        bracket.start_sigma_d = start_sigma_d
        self._change(BRACKET, "enable", self._link.get(BRACKET))
        for key, value in (("numberofshots", bracket.shots), ("focusincrement", self._increment)):
            self._change(f"{BRACKET}/{key}", value, self._link.get(f"{BRACKET}/{key}"))
        self._forget_events()
        bracket.begun_at = utc_now()
        self._release()
        self.focus.forget()  # the camera moves the lens by itself now
        self._bracket = bracket

    def _bracket_files(self, bracket: Bracket, exposure_s: float) -> tuple[list[str], str]:
        place, a_frame = bracket.place(), self._files_a_frame()
        missing = (place + 1) * a_frame - len(bracket.contents)
        if missing > 0:
            bracket.contents += self._wait_for_files(missing, exposure_s * (place + 1))
        return bracket.contents[place * a_frame : (place + 1) * a_frame], bracket.begun_at
