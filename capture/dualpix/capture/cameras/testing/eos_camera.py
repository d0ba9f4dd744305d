"""A Canon EOS as PTP has it: its events, settings, live view, releases and files, in front of a hidden lens and scene.

Convention: operation, property and event numbers are those of libgphoto2's ptp2 driver. What a real body shows in this
place and this one shows too: properties and lists of values come as events; focus steps are refused without live view;
live view over PTP/IP is not ready until it is also shown on the camera's own screen (``output = TFT + PC``); a release
returns before the file is there. Raw files have Canon's object format, but are dual-pixel DNGs and called so: that is
the one dual-pixel format this project writes, and what a decoder makes of them can be checked against the truth.

Faults are those of :mod:`~dualpix.capture.cameras.hidden.faults`; ``poll`` counts requests for events while a release
is under way, ``download`` the first request of each file, ``status`` reading the battery or the storage.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dualpix.capture.camera_protocol import CardFull
from dualpix.capture.cameras.hidden.camera import HiddenCamera, Still
from dualpix.capture.cameras.hidden.faults import FaultPlan, Kind, Operation
from dualpix.capture.cameras.testing import eos_codes as ptp
from dualpix.capture.cameras.testing.ptpip import (
    BUSY,
    GENERAL_ERROR,
    INVALID_HANDLE,
    INVALID_PARAMETER,
    NO_SUCH_PROPERTY,
    OK,
    STORE_FULL,
    Disconnected,
    Reply,
    array16,
    array32,
    text,
)


@dataclass(frozen=True)
class Setup:
    """How the camera is set by its own knobs and menus."""

    model: str = "Canon EOS R5"
    firmware: str = "3-1.8.1"
    battery_percent: int = 80
    exposure_mode: int = ptp.MANUAL_EXPOSURE
    focus_mode: int = ptp.MANUAL_FOCUS
    quality: str = "RAW"
    bracket: int = 1
    """Frames of a release: more than one is focus bracketing in the camera, from where the focus is towards near."""
    bracket_step: int = 1
    """Size of the focus step between them."""


@dataclass
class _Object:
    """A file on the card or in the camera's memory."""

    name: str
    format: int
    data: bytes
    on_card: bool


class EosCamera:
    """A Canon EOS in front of a hidden lens and scene: a :class:`~.ptpip.Responder`."""

    def __init__(self, camera: HiddenCamera, faults: FaultPlan | None = None, setup: Setup | None = None) -> None:
        self.camera, self.faults, self.setup = camera, faults or FaultPlan(), setup or Setup()
        self.name = self.setup.model
        self._lock = threading.RLock()
        self._events: list[bytes] = []
        self._objects: dict[int, _Object] = {}
        self._next_handle = 0x91A10001
        self._pending = 0
        self._previous = b""
        self._refusals = 0
        self._full = False
        self._quality = self.setup.quality
        self._numbers = {
            ptp.APERTURE: 0x20, ptp.SHUTTER: 0x68, ptp.ISO: 0x48, ptp.EXPOSURE_MODE: self.setup.exposure_mode,
            ptp.DRIVE_MODE: 0, ptp.FOCUS_MODE: self.setup.focus_mode, ptp.BATTERY_LEVEL: 2, ptp.AUTO_POWER_OFF: 60,
            ptp.SHOTS_LEFT: 0, ptp.DESTINATION: ptp.CARD, ptp.OUTPUT: 0, ptp.CONTINUOUS_AF: 0, ptp.LENS_STATUS: 1,
            ptp.MODEL_ID: 0x80000421,
        }  # fmt: skip
        self._lists = {
            ptp.APERTURE: [ptp.F_CODES[n] for n in camera.body.f_numbers], ptp.SHUTTER: list(ptp.SECONDS),
            ptp.ISO: list(ptp.ISOS), ptp.DESTINATION: [ptp.CARD, ptp.HOST], ptp.FOCUS_MODE: [self.setup.focus_mode],
            ptp.OUTPUT: [0, 1, 2, 3], ptp.CONTINUOUS_AF: [0, 1], ptp.DRIVE_MODE: [0, 4, 5],
        }  # fmt: skip
        body = camera.body
        self._texts = {ptp.LENS_NAME: body.lens, ptp.SERIAL: body.serial, ptp.OWNER: "", ptp.ARTIST: ""}

    def connect(self) -> bool:
        """Let a client in, unless the faults say otherwise."""
        kind = self.faults.at("connect")
        with self._lock:
            if self._refusals or kind is not None:
                self._refusals = max(0, self._refusals - 1)
                return False
            self._events.clear()
            self._objects = {handle: o for handle, o in self._objects.items() if o.on_card}
            self._numbers[ptp.OUTPUT] = 0
            # who comes back has put in another card, and switched off and on, which frees a lens
            self._full = self.camera.lens.stuck = False
            return True

    def operation(self, code: int, parameters: Sequence[int], data: bytes) -> Reply:
        """Carry out one operation; those that are not known are accepted and do nothing."""
        handler = getattr(self, f"_op_{code:04x}", None)
        if handler is None:
            return Reply()
        try:
            with self._lock:
                reply: Reply = handler(parameters, data)
                return reply
        except (IndexError, struct.error):
            return Reply(INVALID_PARAMETER)

    # faults

    def _fault(self, operation: Operation) -> Reply | None:
        """The answer that a fault gives instead of the camera's; ``truncated`` and ``duplicate`` are left to others."""
        kind = self.faults.at(operation)
        if kind == "stuck":
            self.camera.lens.stuck = True
        return self._refusal(kind)

    def _refusal(self, kind: Kind | None) -> Reply | None:
        if kind == "busy":
            return Reply(BUSY)
        if kind == "card_full":
            self._full = True
            self._tell_shots_left()
            return Reply(STORE_FULL)
        if kind in ("drop_connection", "lost"):
            if kind == "lost":
                self._refusals = 1
                self.camera.fall_asleep()
            raise Disconnected
        return None

    # events

    def _tell(self, code: int, payload: bytes) -> None:
        self._events.append(struct.pack("<II", 8 + len(payload), code) + payload)

    def _tell_value(self, prop: int) -> None:
        if prop in self._texts:
            value = _padded(self._texts[prop])
        elif prop in (ptp.QUALITY, ptp.QUALITY_CARD):
            value = ptp.QUALITIES[self._quality]
        else:
            value = struct.pack("<I", self._numbers[prop])
        self._tell(0xC189, struct.pack("<I", prop) + value)

    def _tell_list(self, prop: int) -> None:
        if prop in (ptp.QUALITY, ptp.QUALITY_CARD):
            count, values = len(ptp.QUALITIES), b"".join(ptp.QUALITIES.values())
        else:
            count, values = len(self._lists[prop]), struct.pack(f"<{len(self._lists[prop])}I", *self._lists[prop])
        self._tell(0xC18A, struct.pack("<III", prop, 3, count) + values)

    def _tell_shots_left(self) -> None:
        self._numbers[ptp.SHOTS_LEFT] = self._room()
        self._tell_value(ptp.SHOTS_LEFT)

    def _room(self) -> int:
        """For so many frames."""
        if self._full:
            return 0
        return ptp.HOST_ROOM if self._numbers[ptp.DESTINATION] == ptp.HOST else self.camera.free_frames

    def _op_9115(self, parameters: Sequence[int], data: bytes) -> Reply:
        """SetEventMode: all that can be known is told once."""
        self._numbers[ptp.SHOTS_LEFT] = self._room()
        for prop in (*self._numbers, *self._texts, ptp.QUALITY):
            self._tell_value(prop)
        for prop in (*self._lists, ptp.QUALITY):
            self._tell_list(prop)
        return Reply()

    def _op_9116(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetEvent."""
        if self._pending:
            refused = self._fault("poll")
            if refused:
                return refused
        told, self._events = self._events, []
        return Reply(data=b"".join(told) + struct.pack("<II", 8, 0))

    # who is there

    def _op_1001(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetDeviceInfo."""
        body, setup = self.camera.body, self.setup
        info = struct.pack("<HIH", 100, 0x0B, 100) + text("") + struct.pack("<H", 0)
        info += array16(ptp.OPERATIONS) + array16([0x4002, 0xC101]) + array16([ptp.BATTERY, ptp.FRIENDLY_NAME])
        info += array16([]) + array16([0x3001, ptp.JPEG, ptp.CR3])
        return Reply(data=info + text("Canon Inc.") + text(setup.model) + text(setup.firmware) + text(body.serial))

    def _op_1014(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetDevicePropDesc."""
        if parameters[0] == ptp.BATTERY:
            refused = self._fault("status")
            level = self.setup.battery_percent
            return refused or Reply(data=struct.pack("<HHBBB4B", ptp.BATTERY, 2, 0, 100, level, 1, 0, 100, 1))
        if parameters[0] == ptp.FRIENDLY_NAME:
            return Reply(data=struct.pack("<HHB", ptp.FRIENDLY_NAME, 0xFFFF, 0) + text("") + text(self.name) + b"\0")
        return Reply(NO_SUCH_PROPERTY)

    def _op_1004(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetStorageIDs."""
        return Reply(data=array32([ptp.STORE]))

    _op_9101 = _op_1004

    def _op_1005(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetStorageInfo."""
        refused = self._fault("status")
        sizes = struct.pack("<HHHQQI", 4, 3, 0, 64 << 30, self.camera.free_frames << 20, self.camera.free_frames)
        return refused or Reply(data=sizes + text("SD") + text("EOS"))

    _op_9102 = _op_1005

    def _op_9108(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetDeviceInfoEx: events, properties."""
        return Reply(data=struct.pack("<I", 0) + array32([0xC181, 0xC189]) + array32(list(self._numbers)) + array32([]))

    # settings

    def _op_9110(self, parameters: Sequence[int], data: bytes) -> Reply:
        """SetDevicePropValueEx."""
        refused = self._fault("set")
        if refused:
            return refused
        _, prop = struct.unpack_from("<II", data)
        if prop in (ptp.QUALITY, ptp.QUALITY_CARD):
            chosen = [name for name, code in ptp.QUALITIES.items() if data[8:] == code]
            if not chosen:
                return Reply(INVALID_PARAMETER)
            self._quality = chosen[0]
        elif prop in self._texts:
            self._texts[prop] = data[8:].rstrip(b"\0").decode("ascii", "replace")
        elif prop in self._numbers:
            (value,) = struct.unpack_from("<I", data, 8)
            if value not in self._lists.get(prop, [value]):
                return Reply(INVALID_PARAMETER)
            self._numbers[prop] = value
        else:
            return Reply(NO_SUCH_PROPERTY)
        self._tell_value(prop)
        if prop == ptp.DESTINATION:
            self._tell_shots_left()
        return Reply()

    def _op_911a(self, parameters: Sequence[int], data: bytes) -> Reply:
        """PCHDDCapacity: the host says that it has room."""
        self._tell_shots_left()
        return Reply()

    # live view and focus

    def _op_9151(self, parameters: Sequence[int], data: bytes) -> Reply:
        """InitiateViewfinder."""
        self._numbers[ptp.OUTPUT] |= 2
        self._tell_value(ptp.OUTPUT)
        return Reply()

    def _op_9152(self, parameters: Sequence[int], data: bytes) -> Reply:
        """TerminateViewfinder."""
        self._numbers[ptp.OUTPUT] = 0
        self._tell_value(ptp.OUTPUT)
        return Reply()

    def _op_9153(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetViewFinderData."""
        refused = self._fault("live_view")
        if refused:
            return refused
        if self._numbers[ptp.OUTPUT] != ptp.SCREEN_AND_HOST:
            return Reply(ptp.NOT_READY)
        picture = self.camera.live_view_jpeg()
        return Reply(data=struct.pack("<II", 8 + len(picture), 1) + picture)

    def _op_9155(self, parameters: Sequence[int], data: bytes) -> Reply:
        """DriveLens: 1 to 3 towards near, with the highest bit of 16 towards far."""
        refused = self._fault("drive")
        if refused:
            return refused
        if not self._numbers[ptp.OUTPUT] & 2:
            return Reply(BUSY)
        size = parameters[0] & 7
        if size not in self.camera.lens.truth.sizes:
            return Reply(INVALID_PARAMETER)
        self.camera.drive("far" if parameters[0] & ptp.FAR else "near", size)
        return Reply()

    # release

    def _op_9128(self, parameters: Sequence[int], data: bytes) -> Reply:
        """RemoteReleaseOn: bit 0 half, bit 1 full."""
        if not parameters[0] & 2:
            return Reply(parameters=(0,))
        refused = self._fault("shoot")
        if refused:
            return refused
        if self._pending:
            return Reply(BUSY)
        if self._room() < self.setup.bracket:
            return Reply(STORE_FULL)
        self._pending = self.setup.bracket
        threading.Thread(target=self._expose, daemon=True).start()
        return Reply(parameters=(0,))

    def _op_9129(self, parameters: Sequence[int], data: bytes) -> Reply:
        """RemoteReleaseOff."""
        return Reply(parameters=(0,))

    def _expose(self) -> None:
        """The release and what follows, while the client asks for events."""
        with self._lock:
            f_numbers = {code: n for n, code in ptp.F_CODES.items()}
            settings = (
                f_numbers[self._numbers[ptp.APERTURE]],
                ptp.SECONDS[self._numbers[ptp.SHUTTER]],
                ptp.ISOS[self._numbers[ptp.ISO]],
            )
            to_card = self._numbers[ptp.DESTINATION] == ptp.CARD
        for number in range(self.setup.bracket):
            if number:
                self.camera.drive("near", self.setup.bracket_step)
                while self.camera.lens.moving:
                    time.sleep(0.001)
            name = f"IMG_{len(self.camera.shots) + 1:04d}"
            try:
                still = self.camera.release(*settings, f"{name}.DNG", to_card=to_card)
            except CardFull:
                still = None
            with self._lock:
                if still is not None:
                    self._file(still, name, to_card)
                self._pending -= 1
        with self._lock:
            self._tell_shots_left()
            self._tell(0xC18B, struct.pack("<I", 0))

    def _file(self, still: Still, name: str, to_card: bool) -> None:
        files = {"RAW": ("DNG", ptp.CR3, still.raw), "L": ("JPG", ptp.JPEG, still.jpeg)}
        for part in self._quality.split(" + "):
            suffix, code, data = files[part]
            handle, self._next_handle = self._next_handle, self._next_handle + 1
            self._objects[handle] = _Object(f"{name}.{suffix}", code, data, to_card)
            names = _padded(f"{name}.{suffix}")
            if to_card:
                head = struct.pack("<IIHHIIIII", handle, ptp.STORE, code, 0, 0, 0x10, len(data), 0, handle)
                self._tell(0xC181, head + names)
            else:
                self._tell(0xC186, struct.pack("<IHHIII", handle, code, 0, 0, len(data), 0) + names)

    # files

    def _op_1007(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetObjectHandles."""
        return Reply(data=array32([handle for handle, o in self._objects.items() if o.on_card]))

    def _op_9109(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetObjectInfoEx: what lies on the card."""
        rows = [
            struct.pack("<9I", 56, handle, ptp.STORE, o.format, 0, 0x20, len(o.data), 0, 0)
            + o.name.encode().ljust(16, b"\0")
            + struct.pack("<I", 0)
            for handle, o in self._objects.items()
            if o.on_card
        ]
        return Reply(data=struct.pack("<I", len(rows)) + b"".join(rows))

    def _op_1008(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetObjectInfo."""
        found = self._objects.get(parameters[0])
        if found is None:
            return Reply(INVALID_HANDLE)
        head = struct.pack("<IHHI", ptp.STORE, found.format, 0, len(found.data))
        head += struct.pack("<H10I", ptp.JPEG, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)[:40]
        return Reply(data=head + text(found.name) + text("20260101T000000") * 2 + text(""))

    def _op_1009(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetObject."""
        return self._send(parameters[0], 0, None)

    def _op_101b(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetPartialObject."""
        return self._send(parameters[0], parameters[1], parameters[2])

    _op_9107 = _op_101b

    def _send(self, handle: int, start: int, count: int | None) -> Reply:
        found = self._objects.get(handle)
        if found is None:
            return Reply(INVALID_HANDLE)
        if start == 0:
            reply = self._prepare_to_send(found)
            if reply is not None:
                return reply
        if start > len(found.data):
            return Reply(GENERAL_ERROR)
        end = len(found.data) if count is None else start + count
        with self.camera.busy():
            part = found.data[start:end]
        return Reply(OK, part, (len(part),))

    def _prepare_to_send(self, found: _Object) -> Reply | None:
        """Let the fault of this download happen to the file."""
        kind = self.faults.at("download")
        refused = self._refusal(kind)
        if refused:
            return refused
        whole = found.data
        if kind == "duplicate" and self._previous:
            found.data = self._previous
        if kind == "truncated":
            found.data = whole[: len(whole) // 2]
            half, found.data = found.data, b""  # who asks for the rest is refused
            return Reply(OK, half, (len(half),))
        self._previous = whole
        return None

    def _op_9117(self, parameters: Sequence[int], data: bytes) -> Reply:
        """TransferComplete: the camera's memory is free again."""
        if parameters[0] in self._objects and not self._objects[parameters[0]].on_card:
            del self._objects[parameters[0]]
        return Reply()

    def _op_100b(self, parameters: Sequence[int], data: bytes) -> Reply:
        """DeleteObject."""
        gone = self._objects.pop(parameters[0], None)
        return Reply() if gone else Reply(INVALID_HANDLE)


def _padded(value: str) -> bytes:
    """With its terminator, to a multiple of 4 bytes."""
    encoded = value.encode("ascii", "replace") + b"\0"
    return encoded + b"\0" * (-len(encoded) % 4)
