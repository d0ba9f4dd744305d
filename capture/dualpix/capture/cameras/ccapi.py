"""Canon over the network, by the Camera Control API: HTTP requests on whatever the camera lists.

Addresses: ``http://HOST:8080`` as the camera shows it, with ``USER:PASSWORD@`` where it asks for them, or https.
Options: ``verify=no`` accepts the camera's own certificate; ``focal_length_mm``, which a zoom lens does not tell;
``bracket=INCREMENT`` (1 to 10) lets the camera shoot the stack by itself, by its focus bracketing.

Focus steps need live view. A step that the camera refuses for the moment is sent again for a while here, because it has
had no effect, and starting over would home the lens; so is a question for the file of a release that has happened. All
else that is refused is the caller's to try again. Files stay on the card.

To the first frame of a bracket of the camera's own, the nearest, the lens is brought through its calibration; without
one it is taken to stand there, to within a step, where the photographer has put it. See
:mod:`~dualpix.capture.cameras.ccapi_bracket` for what is known of the others.

Canon tells no focus distance, and dual-pixel raw can neither be switched on nor seen from here.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from dualpix.capture.camera_protocol import (
    Achieved,
    BadFrame,
    CameraBusy,
    CameraError,
    CameraInfo,
    CameraLost,
    CameraStatus,
    CardFull,
    Direction,
    Exposure,
    PlannedFrame,
    Settled,
    Shot,
)
from dualpix.capture.cameras import ccapi_words as word
from dualpix.capture.cameras.ccapi_bracket import Bracket
from dualpix.capture.cameras.ccapi_discovery import discover
from dualpix.capture.cameras.ccapi_http import Address, CcapiLink, content_path
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_path
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.driven import DrivenFocus
from dualpix.capture.types import FloatImage

T = TypeVar("T")

_CHANGED: dict[str, dict[str, Any]] = {}
"""By camera: settings before they were changed, until they are put back. Kept here, because a connection may break in
between, and another one has to do it."""

_OPTIONS = ("verify", "focal_length_mm", "bracket")
_SIZES = (1, 2, 3)
_MAX_PICTURE_BYTES = 16 << 20
_MAX_PICTURE_PIXELS = 4096 * 4096
_MAX_FILE_BYTES = 1 << 30
_RAW_BYTES = 60 << 20
"""Of a frame, for the room on the card, as long as none has come."""
_PATIENCE_S = 3.0
"""How long a step or a file that the camera refuses for the moment is asked for."""
_FIND_S = 3.0
_FILE_LIMIT_S = 30.0
"""Longest wait for a file after the exposure."""
_STALE_EVENTS = 100
_PICTURES = (".jpg", ".hif")
_LIVE_VIEW, _POLLING = "shooting/liveview", "event/polling"
_BRACKET = "shooting/settings/focusbracketing"
_QUALITY = "shooting/settings/stillimagequality"
_POWER = "functions/autopoweroff"


class CcapiDrive:
    """The lens of a camera through live view: a :class:`~.protocol.FocusDrive`."""

    def __init__(self, link: CcapiLink, focal_length_mm: float | None = None) -> None:
        """Ask who is there; nothing is changed yet.

        Raises:
            CameraError: of the kind the failure is.
        """
        self._link = link
        self._info = _describe(link, focal_length_mm)
        self._live = False

    @property
    def info(self) -> CameraInfo:
        """Who is there."""
        return self._info

    @property
    def step_sizes(self) -> tuple[int, ...]:
        """1, 2, 3."""
        return _SIZES

    @property
    def live(self) -> bool:
        """Whether live view is on."""
        return self._live

    def drive(self, direction: Direction, size: int) -> None:
        """One step; returns when the camera has taken it, before the lens has arrived.

        Raises:
            CameraBusy: not within some seconds.
            CameraError: of the kind the failure is.
        """
        if size not in _SIZES:
            raise ValueError(f"step size {size}, expected one of {_SIZES}")
        self.start_live_view()
        _patiently(lambda: self._link.post("shooting/control/drivefocus", {"value": f"{direction}{size}"}))

    def live_view(self) -> FloatImage:
        """(H, W) gray in [0, 1].

        Raises:
            BadFrame: what came is no picture.
            CameraError: of the kind the failure is.
        """
        self.start_live_view()
        data = _patiently(lambda: self._link.picture(f"{_LIVE_VIEW}/flip", _MAX_PICTURE_BYTES))
        return _gray(data)

    def start_live_view(self) -> None:
        """Switch it on, if this has not been done yet."""
        if not self._live:
            _patiently(lambda: self._link.post(_LIVE_VIEW, {"liveviewsize": "medium", "cameradisplay": "keep"}))
            self._live = True

    def stop_live_view(self) -> None:
        """Switch it off."""
        if self._live:
            self._link.post(_LIVE_VIEW, {"liveviewsize": "off", "cameradisplay": "keep"})
            self._live = False

    def close(self) -> None:
        """Let go of the connection; never raises."""
        with suppress(CameraError):
            self.stop_live_view()
        self._link.close()


class CcapiCamera:
    """A :class:`~.protocol.Camera` on the Camera Control API."""

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
        room = _room_bytes(link)
        temperature = _said(link, "devicestatus/temperature").get("status")
        return CameraStatus(
            exposure_mode=word.mode(word.value(settings, "shootingmode", "shootingmodedial")),
            focus_mode=word.mode(word.value(settings, "focusmode", "afoperation")),
            stabiliser=word.switch(word.value(settings, "imagestabilizer", "imagestabilization", "ismode")),
            battery_percent=_battery(link),
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
            taken_at = _now()
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
            if (room := _room_bytes(self._link)) is not None and room < min(self._raw_bytes, 1 << 20):
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
        written: list[Path] = []
        try:
            for content in sorted(contents, key=lambda c: suffixes[c] in _PICTURES):
                written.append(self._fetch(content, folder / f"{stem}{suffixes[content]}"))
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        return tuple(written)

    def _fetch(self, content: str, path: Path) -> Path:
        def once() -> int:
            with temporary.open("wb") as file:
                return self._link.download(content, file, _MAX_FILE_BYTES)

        with atomic_path(path) as temporary:
            size = _patiently(once)
        if path.suffix not in _PICTURES:
            self._raw_bytes = size
        return path

    # the camera's own bracket

    def _begin_bracket(self, frames: Sequence[PlannedFrame]) -> None:
        bracket = Bracket.of(frames, self.info.focal_length_mm)
        if not self._link.has(_BRACKET, "put"):
            raise CameraError(f"'{self.info.model}' has no focus bracketing that can be set from here")
        self._expose(frames[0].exposure)
        start_sigma_d = None
        if self.focus.calibration is not None:
            start_sigma_d = self.focus.go_to(bracket.start_d).uncertainty_d
            self.focus.settle()
        bracket.start_sigma_d = start_sigma_d
        self._change(_BRACKET, "enable", self._link.get(_BRACKET))
        for key, value in (("numberofshots", bracket.shots), ("focusincrement", self._increment)):
            self._change(f"{_BRACKET}/{key}", value, self._link.get(f"{_BRACKET}/{key}"))
        self._forget_events()
        bracket.begun_at = _now()
        self._release()
        self.focus.forget()  # the camera moves the lens by itself now
        self._bracket = bracket

    def _bracket_files(self, bracket: Bracket, exposure_s: float) -> tuple[list[str], str]:
        place, a_frame = bracket.place(), self._files_a_frame()
        missing = (place + 1) * a_frame - len(bracket.contents)
        if missing > 0:
            bracket.contents += self._wait_for_files(missing, exposure_s * (place + 1))
        return bracket.contents[place * a_frame : (place + 1) * a_frame], bracket.begun_at


def find() -> list[CameraInfo]:
    """Cameras that answer on the network, with what they offer where they tell it.

    Raises:
        DualpixError: see :func:`~dualpix.capture.cameras.ccapi_discovery.discover`.
    """
    found = []
    for described in discover():
        link = CcapiLink(described.address, timeout_s=_FIND_S)
        info = CameraInfo("ccapi", described.address.public, "Canon", described.model, described.serial)
        with suppress(CameraError):
            link.connect()
            info = _describe(link, None)
        link.close()
        found.append(info)
    return found


def remark(info: CameraInfo) -> str:
    """Why a camera that was found did not tell what it can do; empty where it did."""
    if info.capabilities:
        return ""
    link = CcapiLink(Address.parse(info.address), timeout_s=_FIND_S)
    try:
        link.connect()
    except CameraError as error:
        return str(error)
    finally:
        link.close()
    return "offers neither live view nor focus from here"


def open_drive(address: str | None, options: Mapping[str, str]) -> CcapiDrive:
    """The bare lens of a camera.

    Raises:
        CameraError: nobody there, or it refuses.
        DualpixError: address or options are none, or several cameras answer.
    """
    settings = _Settings.of(options)
    return CcapiDrive(_connected(address, settings), settings.focal_length_mm)


def open_camera(
    address: str | None, calibration: LensCalibration | None = None, options: Mapping[str, str] | None = None
) -> CcapiCamera:
    """Connect to a camera; nothing on it is changed yet.

    Raises:
        CameraError: nobody there, or it refuses.
        DualpixError: address or options are none, or several cameras answer.
    """
    settings = _Settings.of(options or {})
    return CcapiCamera(_connected(address, settings), calibration, settings.focal_length_mm, settings.increment)


@dataclass(frozen=True)
class _Settings:
    verify: bool
    focal_length_mm: float | None
    increment: int | None

    @staticmethod
    def of(options: Mapping[str, str]) -> _Settings:
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise DualpixError(f"unknown option '{unknown[0]}' of camera 'ccapi'", expected=", ".join(_OPTIONS))
        focal, increment, verify = options.get("focal_length_mm"), options.get("bracket"), options.get("verify", "yes")
        if verify not in ("yes", "no"):
            raise DualpixError(f"verify={verify}", expected="yes or no")
        focal_length_mm = None if focal is None else word.number(focal)
        if focal is not None and not (focal_length_mm and 1 <= focal_length_mm <= 5000):
            raise DualpixError(f"focal length '{focal}'", expected="millimetres, e.g. focal_length_mm=35")
        if increment is not None and not (increment.isdecimal() and 1 <= int(increment) <= 10):
            raise DualpixError(f"focus increment '{increment}'", expected="a whole number from 1 to 10")
        return _Settings(verify == "yes", focal_length_mm, int(increment) if increment else None)


def _connected(address: str | None, settings: _Settings) -> CcapiLink:
    link = CcapiLink(_only_one() if address is None else Address.parse(address), verify=settings.verify)
    try:
        link.connect()
    except CameraError:
        link.close()
        raise
    return link


def _only_one() -> Address:
    there = discover()
    if not there:
        raise CameraLost("no Canon camera answers on the network", hint="give its --address http://HOST:8080")
    if len(there) > 1:
        known = ", ".join(described.address.public for described in there)
        raise DualpixError(f"{len(there)} Canon cameras answer: {known}", hint="choose one with --address")
    return there[0].address


def _patiently(what: Callable[[], T]) -> T:
    """Ask again while the camera is busy, for some seconds."""
    give_up, pause = time.monotonic() + _PATIENCE_S, 0.01
    while True:
        try:
            return what()
        except CameraBusy:
            if time.monotonic() > give_up:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.25)


def _describe(link: CcapiLink, focal_length_mm: float | None) -> CameraInfo:
    device = _said(link, "deviceinformation")
    lens = str(_said(link, "devicestatus/lens").get("name") or "") or None
    apertures = (word.number(choice) for choice in word.abilities(link.get("shooting/settings"), "av"))
    f_numbers = tuple(sorted({n for n in apertures if n}))
    offers = {
        "live_view": link.has(_LIVE_VIEW, "post") and link.has(f"{_LIVE_VIEW}/flip"),
        "focus_drive": link.has("shooting/control/drivefocus", "post"),
        "aperture": len(f_numbers) > 1,
        "camera_bracket": link.has(_BRACKET, "put"),
    }
    return CameraInfo(
        backend="ccapi",
        address=link.address.public,
        make=word.text(device, "manufacturer"),
        model=word.text(device, "productname"),
        serial=word.text(device, "serialnumber"),
        firmware=word.text(device, "firmwareversion"),
        lens=lens,
        focal_length_mm=focal_length_mm or word.prime_mm(lens),
        f_numbers=f_numbers,
        capabilities=tuple(name for name, there in offers.items() if there),
    )


def _said(link: CcapiLink, endpoint: str) -> dict[str, Any]:
    """What the camera says there; nothing where it does not offer it."""
    return link.get(endpoint) if link.has(endpoint) else {}


def _battery(link: CcapiLink) -> float | None:
    """Percent of the fullest; by words on older cameras."""
    listed = _said(link, "devicestatus/batterylist").get("batterylist")
    levels = [entry.get("level") for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    levels = levels or [_said(link, "devicestatus/battery").get("level")]
    words = {"full": 100.0, "high": 75.0, "half": 50.0, "quarter": 25.0, "low": 10.0}
    known = [words.get(str(level), word.number(level)) for level in levels]
    return max((level for level in known if level is not None), default=None)


def _room_bytes(link: CcapiLink) -> int | None:
    """Free on the cards that can be written."""
    listed = _said(link, "devicestatus/storage").get("storagelist")
    if not isinstance(listed, list):
        return None
    cards = [card for card in listed if isinstance(card, dict) and card.get("accesscapability") != "readonly"]
    return sum(int(card["spacesize"]) for card in cards if isinstance(card.get("spacesize"), int))


def _gray(data: bytes) -> FloatImage:
    """(H, W) in [0, 1] of a JPEG.

    Raises:
        BadFrame: it is none, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            if picture.width * picture.height > _MAX_PICTURE_PIXELS:
                raise BadFrame(f"live view of {picture.width} x {picture.height}")
            return np.asarray(picture.convert("L"), np.float32) / np.float32(255)
    except (OSError, ValueError) as error:
        raise BadFrame(f"live view of {len(data)} bytes that is no picture", expected="a JPEG") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
