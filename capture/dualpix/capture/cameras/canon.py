"""Canon EOS through libgphoto2 (the ``gphoto2`` package): USB, and PTP/IP where the camera offers it.

Addresses are libgphoto2's ports: ``usb:001,004``, or ``ptpip:HOST`` with a port or two (``ptpip:127.0.0.1:15740``).
Options: ``target`` = ``ram`` (default: frames go straight to the host, the card stays empty) or ``card``;
``focal_length_mm``, which a zoom lens does not tell.

What libgphoto2 needs, and why things are done the way they are here:

- It sends a setting only if the widget was changed, so every focus step fetches the widget anew: from one cached widget
  a second ``Near 2`` would move nothing.
- Focus steps are refused without live view. Over PTP/IP live view also has to be shown on the camera's screen.
- The memory of a picture belongs to its ``CameraFile``, which has to outlive what is made of it.
- ``trigger_capture`` sleeps for 150 ms for the sake of autofocus; pressing the remote release does not.
- One release may give several files, each a later event.
- PTP/IP opens a second connection for events, to port 15740 unless the address says otherwise.
- A lost camera is ``Unspecified error`` as often as an I/O error; whether it still answers tells the two apart.
- ``exit()`` ends live view and gives the destination back, but holds Python's lock while it waits for the camera.

Canon tells no focus distance: positions are counted steps through a calibration. Nor can dual-pixel raw be switched on
or seen from here: it is a menu setting, and shows in the files.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

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
from dualpix.capture.cameras import missing_extra
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import write_bytes
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.driven import DrivenFocus
from dualpix.capture.types import FloatImage

_OPTIONS = ("target", "focal_length_mm")
_TARGETS = {"ram": "Internal RAM", "card": "Memory card"}
_ADDRESS = re.compile(r"usb:\d{1,3},\d{1,3}|(?P<host>ptpip:[A-Za-z0-9.\-]{1,253})(?::(\d{1,5}))?(?::(\d{1,5}))?")
_DEFAULT_PORT = "15740"
_SIZES = (1, 2, 3)
_MOST_PICTURE_BYTES = 1 << 25
_MOST_FILE_BYTES = 1 << 30
_EVENT_WAIT_MS = 5
_FILE_LIMIT_S = 30.0
"""Longest wait for a file after the exposure."""
_FAILED_LIMIT_S = 3.0
"""The same once something went wrong while waiting."""
_LATE_FILE_S = 0.3
"""The same once the camera says that it is done, too."""
_STALE_EVENTS = 100
_ERROR_UNSPECIFIED, _NO_MEMORY, _IN_PROGRESS, _NO_SPACE = -1, -3, -110, -115
_UNKNOWN_MODEL, _USB_CLAIM = -105, -53
_GONE = frozenset({-7, -10, -31, -34, -35, -52, -60})
"""I/O error, time out, and what USB says when nobody is there."""
_MANUAL = "Manual"


class _Link:
    """An open libgphoto2 camera; every failure becomes a :class:`CameraError`."""

    def __init__(self, gp: Any, camera: Any, address: str) -> None:
        self.gp, self._camera, self.address = gp, camera, address
        self._lost = False
        self._found: dict[str, str] = {}
        """Settings before they were changed."""
        self._known: dict[str, list[str] | None] = {}
        """Choices of each setting that was asked for; None: there is no such setting."""

    def call(self, what: str, method: str, *arguments: Any) -> Any:
        """``camera.method(*arguments)``.

        Raises:
            CameraError: of the kind that the failure is.
        """
        if self._lost:
            raise CameraLost(f"not connected to the camera at '{self.address}'", hint="open it again")
        try:
            return getattr(self._camera, method)(*arguments)
        except self.gp.GPhoto2Error as error:
            raise self._translated(what, error.code, error.string) from error

    def _translated(self, what: str, code: int, words: str) -> CameraError:
        text = f"{what} failed: {words} ({code})"
        if code == _IN_PROGRESS:
            return CameraBusy(text)
        if code in (_NO_SPACE, _NO_MEMORY):
            return CardFull(text, hint="make room on the card")
        if code in _GONE or not self._answers():
            self._lost = True
            return CameraLost(text, hint="check cable and power, then go on with --resume")
        if code == _ERROR_UNSPECIFIED:
            return CameraError(
                text, hint="set lens and camera to manual focus, switch mirror lock-up off, or switch off and on"
            )
        return CameraError(text)

    def _answers(self) -> bool:
        """Whether the camera still does."""
        try:
            # settings come from what libgphoto2 remembers, whether or not the camera is still there; this does not
            self._camera.get_storageinfo()
        except self.gp.GPhoto2Error as error:
            return bool(error.code == _IN_PROGRESS)
        return True

    def check(self) -> None:
        """Make sure that the camera is there.

        Raises:
            CameraError: it is not, or has no time.
        """
        self.call("asking the camera", "get_storageinfo")

    def has(self, name: str) -> bool:
        """Whether there is such a setting; does not change while connected."""
        return self._look_up(name) is not None

    def get(self, name: str) -> str | None:
        """A setting as text; None where there is none of that name."""
        widget = self._widget_or_none(name)
        return None if widget is None else str(widget.get_value())

    def choices(self, name: str) -> list[str]:
        """What a setting can be set to; nothing where it is not chosen from a list. Does not change while connected."""
        return self._look_up(name) or []

    def _look_up(self, name: str) -> list[str] | None:
        if name not in self._known:
            widget = self._widget_or_none(name)
            chosen = widget is not None and widget.get_type() in (self.gp.GP_WIDGET_RADIO, self.gp.GP_WIDGET_MENU)
            found = [str(choice) for choice in widget.get_choices()] if chosen else []
            self._known[name] = None if widget is None else found
        return self._known[name]

    def set(self, name: str, value: str | int, *, remember: bool = False) -> None:
        """Change a setting; a widget is sent only where it differs from the one just fetched.

        Args:
            name: of the widget.
            value: of its kind: text for a choice, 0 or 1 for a switch.
            remember: :meth:`restore` is to bring the value back that was found.
        """
        widget = self.call(f"reading '{name}'", "get_single_config", name)
        if remember:
            self._found.setdefault(name, str(widget.get_value()))
        widget.set_value(value)
        self.call(f"setting '{name}' to '{value}'", "set_single_config", name, widget)

    def restore(self) -> None:
        """Bring settings back to what they were found at."""
        for name in list(self._found):
            if self.get(name) != self._found[name]:
                self.set(name, self._found[name])
            del self._found[name]

    def close(self) -> None:
        """Give the camera back to its buttons; never raises."""
        with suppress(self.gp.GPhoto2Error):
            self._camera.exit()
        self._lost = True

    def _widget_or_none(self, name: str) -> Any:
        try:
            return self.call(f"reading '{name}'", "get_single_config", name)
        except (CameraBusy, CameraLost):
            raise
        except CameraError:
            return None


class CanonDrive:
    """The lens of an EOS through live view: a :class:`~.protocol.FocusDrive`."""

    def __init__(self, link: _Link, focal_length_mm: float | None = None) -> None:
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

    def drive(self, direction: Direction, size: int) -> None:
        """One step; returns when the camera has taken the command, before the lens has arrived."""
        if size not in _SIZES:
            raise ValueError(f"step size {size}, expected one of {_SIZES}")
        self.start_live_view()
        self._link.set("manualfocusdrive", f"{direction.capitalize()} {size}")

    def live_view(self) -> FloatImage:
        """(H, W) gray in [0, 1].

        Raises:
            BadFrame: what came is no picture.
        """
        self.start_live_view()
        file = self._link.call("live view", "capture_preview")
        data = np.frombuffer(memoryview(file.get_data_and_size()), np.uint8)
        if not 0 < data.size <= _MOST_PICTURE_BYTES:
            raise BadFrame(f"live view of {data.size} bytes", expected="a JPEG")
        picture = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise BadFrame(f"live view of {data.size} bytes that is no picture", expected="a JPEG")
        return picture.astype(np.float32) / np.float32(255)

    def start_live_view(self) -> None:
        """Switch it on, if this has not been done yet."""
        if self._live:
            return
        link = self._link
        if not link.has("viewfinder"):
            raise CameraError(
                f"'{self._info.model}' has no live view that can be switched on from here",
                expected="a Canon EOS with live view, switched on",
            )
        link.set("viewfinder", 1)
        if link.address.startswith("ptpip:") and "TFT + PC" in link.choices("output"):
            link.set("output", "TFT + PC")
        self._live = True

    def stop_live_view(self) -> None:
        """Switch it off."""
        if self._live:
            self._link.set("viewfinder", 0)
            self._live = False

    @property
    def live(self) -> bool:
        """Whether it is on."""
        return self._live

    def close(self) -> None:
        """Let go of the camera; never raises."""
        self._link.close()


class CanonCamera:
    """A :class:`~.protocol.Camera` on libgphoto2."""

    def __init__(
        self, link: _Link, calibration: LensCalibration | None, target: str, focal_length_mm: float | None = None
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
        self._change("capturetarget", _TARGETS[self._target])
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
        taken_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._release()
        wanted = (self._link.get("imageformat") or "").count("+") + 1
        names = self._wait_for_files(wanted, exposure.exposure_s or 0.0)
        files = sorted((self._fetch(place) for place in names), key=lambda file: file.suffix in _PICTURES)
        paths = _write_all(folder, stem, files)
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
            name: _nearest(name, value, self._link.choices(name)) for name, value in wanted.items() if value is not None
        }

    def _expose(self, exposure: Exposure) -> None:
        for name, word in self._settings(exposure).items():
            if self._set.get(name) != word:
                self._set.pop(name, None)
                self._link.set(name, word, remember=True)
                self._set[name] = word

    def _reported(self) -> Exposure:
        values = (_number(self._link.get(name)) for name in ("aperture", "shutterspeed", "iso"))
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

    def _fetch(self, place: tuple[str, str]) -> _File:
        gp = self._link.gp
        size = int(self._link.call("reading a file's size", "file_get_info", *place).file.size)
        if not 0 < size <= _MOST_FILE_BYTES:
            raise BadFrame(f"the camera tells of a file of {size} bytes", expected=f"up to {_MOST_FILE_BYTES}")
        file = self._link.call("the download", "file_get", *place, gp.GP_FILE_TYPE_NORMAL)
        data = bytes(memoryview(file.get_data_and_size()))
        if len(data) != size:
            raise BadFrame(f"{len(data)} bytes of '{place[1]}' arrived", expected=str(size))
        return _File(place[1], _suffix(data, place[1]), data)


@dataclass(frozen=True)
class _File:
    name: str
    """On the camera."""
    suffix: str
    data: bytes


_PICTURES = (".jpg", ".hif")


def find(addresses: Sequence[str] = ()) -> list[CameraInfo]:
    """Canon cameras on USB, by name alone, and those of ``addresses`` that answer.

    Cameras on USB are listed without opening them, which would take them from their user. Those on PTP/IP announce
    nothing that could be listed: they are found where their address is given.

    Raises:
        DualpixError: the ``gphoto2`` package is missing.
    """
    gp = _gphoto2()
    found = [CameraInfo("canon", port, make="Canon", model=model) for model, port in _on_usb(gp)]
    for address in addresses:
        with suppress(CameraError):
            drive = open_drive(address, {})
            found.append(drive.info)
            drive.close()
    return found


def open_drive(address: str | None, options: Mapping[str, str]) -> CanonDrive:
    """The bare lens of a camera.

    Raises:
        CameraError: nobody there, or it refuses.
        DualpixError: address or options are none, several cameras answer, or the ``gphoto2`` package is missing.
    """
    _, focal_length_mm = _read_options(options)
    return CanonDrive(_connect(address), focal_length_mm)


def open_camera(address: str | None, calibration: LensCalibration | None, options: Mapping[str, str]) -> CanonCamera:
    """Connect to a camera; nothing on it is changed yet.

    Raises:
        CameraError: nobody there, or it refuses.
        DualpixError: address or options are none, several cameras answer, or the ``gphoto2`` package is missing.
    """
    target, focal_length_mm = _read_options(options)
    return CanonCamera(_connect(address), calibration, target, focal_length_mm)


def _read_options(options: Mapping[str, str]) -> tuple[str, float | None]:
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise DualpixError(f"unknown option '{unknown[0]}' of a Canon camera", expected=", ".join(_OPTIONS))
    target, focal = options.get("target", "ram"), options.get("focal_length_mm")
    if target not in _TARGETS:
        raise DualpixError(f"unknown target '{target}'", expected=" or ".join(_TARGETS))
    focal_length_mm = None if focal is None else _number(focal)
    if focal is not None and not (focal_length_mm and 1 <= focal_length_mm <= 5000):
        raise DualpixError(f"focal length '{focal}'", expected="millimetres, e.g. focal_length_mm=35")
    return target, focal_length_mm


def _gphoto2() -> Any:
    try:
        return import_module("gphoto2")
    except ImportError as error:
        raise missing_extra("gphoto2", "canon") from error


def _on_usb(gp: Any) -> list[tuple[str, str]]:
    """(model, port) of the Canon cameras on USB."""
    cameras = gp.Camera.autodetect()
    found = [(str(cameras.get_name(i)), str(cameras.get_value(i))) for i in range(cameras.count())]
    return [(model, port) for model, port in found if model.startswith("Canon")]


def _connect(address: str | None) -> _Link:
    gp = _gphoto2()
    return _open(gp, *_whom(gp, address))


def _open(gp: Any, model: str, port: str) -> _Link:
    ports, abilities, camera = gp.PortInfoList(), gp.CameraAbilitiesList(), gp.Camera()
    try:
        ports.load()
        abilities.load()
        camera.set_abilities(abilities[abilities.lookup_model(model)])
        camera.set_port_info(ports[ports.lookup_path(port)])
        camera.init()
    except gp.GPhoto2Error as error:
        raise _refused(port, error.code, error.string) from error
    return _Link(gp, camera, port)


def _refused(port: str, code: int, words: str) -> CameraError:
    text = f"cannot open the camera at '{port}': {words} ({code})"
    if code == _IN_PROGRESS:
        return CameraBusy(text)
    hints = {
        _USB_CLAIM: "another program holds it: close it, or stop gvfs-gphoto2-volume-monitor",
        _UNKNOWN_MODEL: "see 'dualpix cameras' for those that are connected",
    }
    return CameraLost(text, hint=hints.get(code, "is it switched on and awake?"))


def _whom(gp: Any, address: str | None) -> tuple[str, str]:
    """(libgphoto2's model, its port) of an address, or of the only camera there is."""
    if address is None:
        there = _on_usb(gp)
        if not there:
            raise CameraLost("no Canon camera on USB", hint="switch it on, or give its --address")
        if len(there) > 1:
            raise DualpixError(
                f"{len(there)} Canon cameras on USB",
                expected="one, or one of --address " + ", ".join(port for _, port in there),
            )
        return there[0]
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise DualpixError(
            f"'{address}' is no address of a Canon camera", expected="usb:BUS,DEVICE or ptpip:HOST[:PORT]"
        )
    if match["host"] is None:
        for model, port in _on_usb(gp):
            if port == address:
                return model, port
        raise CameraLost(f"no Canon camera at '{address}'", hint="see 'dualpix cameras' for those that are connected")
    command = match[2] or _DEFAULT_PORT
    return "PTP/IP Camera", f"{match['host']}:{command}:{match[3] or command}"


def _describe(link: _Link, focal_length_mm: float | None) -> CameraInfo:
    lens = link.get("lensname") or None
    apertures = (_number(choice) for choice in link.choices("aperture"))
    f_numbers = tuple(sorted({f_number for f_number in apertures if f_number}))
    has = {"viewfinder": "live_view", "manualfocusdrive": "focus_drive"}
    return CameraInfo(
        backend="canon",
        address=link.address,
        make=link.get("manufacturer"),
        model=link.get("cameramodel"),
        serial=link.get("eosserialnumber") or link.get("serialnumber"),
        firmware=link.get("deviceversion"),
        lens=lens,
        focal_length_mm=focal_length_mm or _prime_mm(lens),
        f_numbers=f_numbers,
        capabilities=(
            *(word for name, word in has.items() if link.has(name)),
            *(("aperture",) if len(f_numbers) > 1 else ()),
        ),
    )


def _prime_mm(lens: str | None) -> float | None:
    """The focal length in a lens's name, where it is one: ``RF50mm F1.2 L USM``, not ``RF24-105mm``."""
    match = re.search(r"(?<![\d.\-])(\d{1,4}(?:\.\d)?) ?mm", lens or "")
    return float(match[1]) if match else None


def _nearest(name: str, wanted: float, choices: Sequence[str]) -> str:
    """The choice that is the value, within a sixth of a stop, which is what rounded names of exposures need."""
    known = {choice: value for choice in choices if (value := _number(choice))}
    if not known:
        raise CameraError(
            f"the camera does not let '{name}' be set", hint="switch it to manual exposure (M); a lens needs contacts"
        )
    stops = 2 if name == "aperture" else 1
    best = min(known, key=lambda choice: abs(math.log2(known[choice] / wanted)))
    if abs(stops * math.log2(known[best] / wanted)) > 1 / 6:
        raise CameraError(f"the camera has no {name} {wanted:g}", expected="one of " + ", ".join(known))
    return best


def _number(text: str | None) -> float | None:
    """``2.8``, ``f/2.8``, ``1/60``, ``0.5``; None for words."""
    match = re.fullmatch(r"(?:f/?)?(\d{1,6}(?:\.\d{1,4})?)(?:/(\d{1,6}))?", (text or "").strip().lower())
    if match is None or (match[2] is not None and int(match[2]) == 0):
        return None
    return float(match[1]) / float(match[2] or 1)


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


def _suffix(data: bytes, name: str) -> str:
    """From what the file is: in the camera's memory files have made-up names."""
    if data.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return ".cr2" if data[8:10] == b"CR" else ".dng"
    if data[4:11] == b"ftypcrx":
        return ".cr3"
    if data[4:8] == b"ftyp":
        return ".hif"
    suffix = Path(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{2,4}", suffix) else ".bin"


def _write_all(folder: Path, stem: str, files: Sequence[_File]) -> tuple[Path, ...]:
    """All of them or none."""
    paths: list[Path] = []
    try:
        for file in files:
            path = folder / f"{stem}{file.suffix}"
            write_bytes(path, file.data)
            paths.append(path)
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return tuple(paths)
