"""A test camera that speaks PTP/IP as a Canon EOS does, well enough for the real libgphoto2 to drive it as one.

    python -m dualpix.capture.cameras.testing.eos --port 0 --seed 3 --faults faults.json --state state.jsonl
    {"port": 40123, "pid": 4711}
    gphoto2 --port ptpip:127.0.0.1:40123:40123 --summary

It must be a process of its own: libgphoto2's exit() holds Python's lock while it waits for the camera. The port stands
twice in libgphoto2's address, for commands and for events.

Convention: operation, property and event numbers are those of libgphoto2's ptp2 driver. What a real body shows in this
place and this one shows too: properties and lists of values come as events; focus steps are refused without live view;
live view over PTP/IP is not ready until it is also shown on the camera's own screen (``output = TFT + PC``); a release
returns before the file is there. Raw files have Canon's object format, but are dual-pixel DNGs and called so: that is
the one dual-pixel format this project writes, and what a decoder makes of them can be checked against the truth.

Faults are those of :mod:`~dualpix.capture.cameras.testing.faults`; ``poll`` counts requests for events while a release
is under way, ``download`` the first request of each file, ``status`` reading the battery or the storage.
"""

from __future__ import annotations

import struct
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dualpix.capture.camera_protocol import CardFull
from dualpix.capture.cameras.hidden.camera import HiddenCamera, Still
from dualpix.capture.cameras.testing.faults import FaultPlan, Kind, Operation
from dualpix.capture.cameras.testing.process import announce, options_from, parser_for, wait_for_end
from dualpix.capture.cameras.testing.ptpip import (
    BUSY,
    GENERAL_ERROR,
    INVALID_HANDLE,
    INVALID_PARAMETER,
    NO_SUCH_PROPERTY,
    OK,
    STORE_FULL,
    Disconnected,
    PtpIpServer,
    Reply,
    array16,
    array32,
    text,
)
from dualpix.capture.errors import DualpixError

_NOT_READY = 0xA102
_JPEG, _CR3, _BATTERY, _FRIENDLY_NAME = 0x3801, 0xB108, 0x5001, 0xD402
_STORE = 0x00010001
_CARD, _HOST = 2, 4
_SCREEN_AND_HOST = 3
_FAR = 0x8000
_HOST_ROOM = 9999

_APERTURE, _SHUTTER, _ISO, _EXPOSURE_MODE, _DRIVE_MODE, _FOCUS_MODE = 0xD101, 0xD102, 0xD103, 0xD105, 0xD106, 0xD108
_BATTERY_LEVEL, _MODEL_ID, _SHOTS_LEFT, _DESTINATION, _QUALITY = 0xD111, 0xD116, 0xD11B, 0xD11C, 0xD120
_QUALITY_CARD, _LENS_STATUS, _SERIAL, _OUTPUT, _CONTINUOUS_AF, _LENS_NAME = (
    0xD122,
    0xD1A8,
    0xD1AF,
    0xD1B0,
    0xD1C9,
    0xD1D8,
)
_AUTO_POWER_OFF, _OWNER, _ARTIST = 0xD114, 0xD115, 0xD1D0

_OPERATIONS = (
    *range(0x1001, 0x100C), 0x1014, 0x1015, 0x101B, *range(0x9101, 0x9105), *range(0x9107, 0x910A), 0x9110,
    *range(0x9114, 0x9118), *range(0x911A, 0x911E), *range(0x9127, 0x912A), 0x913D, *range(0x9151, 0x9156), 0x9158,
    0x9160,
)  # fmt: skip

_F_CODES = {1.8: 0x15, 2.0: 0x18, 2.8: 0x20, 4.0: 0x28, 5.6: 0x30, 8.0: 0x38, 11.0: 0x40, 16.0: 0x48}
_SLOW_S = {0x18: 15.0, 0x20: 8.0, 0x28: 4.0, 0x30: 2.0, 0x38: 1.0, 0x40: 0.5}
_FAST = {
    0x48: 4, 0x4B: 5, 0x4D: 6, 0x50: 8, 0x53: 10, 0x55: 13, 0x58: 15, 0x5B: 20, 0x5D: 25, 0x60: 30, 0x63: 40, 0x65: 50,
    0x68: 60, 0x6B: 80, 0x6D: 100, 0x70: 125, 0x73: 160, 0x75: 200, 0x78: 250, 0x7B: 320, 0x7D: 400, 0x80: 500,
    0x83: 640, 0x85: 800, 0x88: 1000, 0x8B: 1250, 0x8D: 1600, 0x90: 2000, 0x93: 2500, 0x95: 3200, 0x98: 4000,
}  # fmt: skip
_SECONDS = {**_SLOW_S, **{code: 1 / fraction for code, fraction in _FAST.items()}}
_ISOS = {0x48: 100.0, 0x50: 200.0, 0x58: 400.0, 0x60: 800.0, 0x68: 1600.0, 0x70: 3200.0, 0x78: 6400.0, 0x80: 12800.0}

_MANUAL_EXPOSURE, _MANUAL_FOCUS, _ONE_SHOT = 3, 3, 0


def _quality(*files: tuple[int, int, int]) -> bytes:
    """An image format: count, then per file size, type, picture size, compression."""
    return struct.pack("<I", len(files)) + b"".join(struct.pack("<4I", 16, *file) for file in files)


_RAW, _LARGE = (6, 0, 4), (1, 0, 3)
_QUALITIES = {"RAW": _quality(_RAW), "L": _quality(_LARGE), "RAW + L": _quality(_RAW, _LARGE)}


@dataclass(frozen=True)
class Setup:
    """How the camera is set by its own knobs and menus."""

    model: str = "Canon EOS R5"
    firmware: str = "3-1.8.1"
    battery_percent: int = 80
    exposure_mode: int = _MANUAL_EXPOSURE
    focus_mode: int = _MANUAL_FOCUS
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
            _APERTURE: 0x20, _SHUTTER: 0x68, _ISO: 0x48, _EXPOSURE_MODE: self.setup.exposure_mode, _DRIVE_MODE: 0,
            _FOCUS_MODE: self.setup.focus_mode, _BATTERY_LEVEL: 2, _AUTO_POWER_OFF: 60, _SHOTS_LEFT: 0,
            _DESTINATION: _CARD, _OUTPUT: 0, _CONTINUOUS_AF: 0, _LENS_STATUS: 1, _MODEL_ID: 0x80000421,
        }  # fmt: skip
        self._lists = {
            _APERTURE: [_F_CODES[n] for n in camera.body.f_numbers], _SHUTTER: list(_SECONDS), _ISO: list(_ISOS),
            _DESTINATION: [_CARD, _HOST], _FOCUS_MODE: [self.setup.focus_mode], _OUTPUT: [0, 1, 2, 3],
            _CONTINUOUS_AF: [0, 1], _DRIVE_MODE: [0, 4, 5],
        }  # fmt: skip
        body = camera.body
        self._texts = {_LENS_NAME: body.lens, _SERIAL: body.serial, _OWNER: "", _ARTIST: ""}

    def connect(self) -> bool:
        """Let a client in, unless the faults say otherwise."""
        kind = self.faults.at("connect")
        with self._lock:
            if self._refusals or kind is not None:
                self._refusals = max(0, self._refusals - 1)
                return False
            self._events.clear()
            self._objects = {handle: o for handle, o in self._objects.items() if o.on_card}
            self._numbers[_OUTPUT] = 0
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
        elif prop in (_QUALITY, _QUALITY_CARD):
            value = _QUALITIES[self._quality]
        else:
            value = struct.pack("<I", self._numbers[prop])
        self._tell(0xC189, struct.pack("<I", prop) + value)

    def _tell_list(self, prop: int) -> None:
        if prop in (_QUALITY, _QUALITY_CARD):
            count, values = len(_QUALITIES), b"".join(_QUALITIES.values())
        else:
            count, values = len(self._lists[prop]), struct.pack(f"<{len(self._lists[prop])}I", *self._lists[prop])
        self._tell(0xC18A, struct.pack("<III", prop, 3, count) + values)

    def _tell_shots_left(self) -> None:
        self._numbers[_SHOTS_LEFT] = self._room()
        self._tell_value(_SHOTS_LEFT)

    def _room(self) -> int:
        """For so many frames."""
        if self._full:
            return 0
        return _HOST_ROOM if self._numbers[_DESTINATION] == _HOST else self.camera.free_frames

    def _op_9115(self, parameters: Sequence[int], data: bytes) -> Reply:
        """SetEventMode: all that can be known is told once."""
        self._numbers[_SHOTS_LEFT] = self._room()
        for prop in (*self._numbers, *self._texts, _QUALITY):
            self._tell_value(prop)
        for prop in (*self._lists, _QUALITY):
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
        info += array16(_OPERATIONS) + array16([0x4002, 0xC101]) + array16([_BATTERY, _FRIENDLY_NAME])
        info += array16([]) + array16([0x3001, _JPEG, _CR3])
        return Reply(data=info + text("Canon Inc.") + text(setup.model) + text(setup.firmware) + text(body.serial))

    def _op_1014(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetDevicePropDesc."""
        if parameters[0] == _BATTERY:
            refused = self._fault("status")
            level = self.setup.battery_percent
            return refused or Reply(data=struct.pack("<HHBBB4B", _BATTERY, 2, 0, 100, level, 1, 0, 100, 1))
        if parameters[0] == _FRIENDLY_NAME:
            return Reply(data=struct.pack("<HHB", _FRIENDLY_NAME, 0xFFFF, 0) + text("") + text(self.name) + b"\0")
        return Reply(NO_SUCH_PROPERTY)

    def _op_1004(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetStorageIDs."""
        return Reply(data=array32([_STORE]))

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
        if prop in (_QUALITY, _QUALITY_CARD):
            chosen = [name for name, code in _QUALITIES.items() if data[8:] == code]
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
        if prop == _DESTINATION:
            self._tell_shots_left()
        return Reply()

    def _op_911a(self, parameters: Sequence[int], data: bytes) -> Reply:
        """PCHDDCapacity: the host says that it has room."""
        self._tell_shots_left()
        return Reply()

    # live view and focus

    def _op_9151(self, parameters: Sequence[int], data: bytes) -> Reply:
        """InitiateViewfinder."""
        self._numbers[_OUTPUT] |= 2
        self._tell_value(_OUTPUT)
        return Reply()

    def _op_9152(self, parameters: Sequence[int], data: bytes) -> Reply:
        """TerminateViewfinder."""
        self._numbers[_OUTPUT] = 0
        self._tell_value(_OUTPUT)
        return Reply()

    def _op_9153(self, parameters: Sequence[int], data: bytes) -> Reply:
        """GetViewFinderData."""
        refused = self._fault("live_view")
        if refused:
            return refused
        if self._numbers[_OUTPUT] != _SCREEN_AND_HOST:
            return Reply(_NOT_READY)
        picture = self.camera.live_view_jpeg()
        return Reply(data=struct.pack("<II", 8 + len(picture), 1) + picture)

    def _op_9155(self, parameters: Sequence[int], data: bytes) -> Reply:
        """DriveLens: 1 to 3 towards near, with the highest bit of 16 towards far."""
        refused = self._fault("drive")
        if refused:
            return refused
        if not self._numbers[_OUTPUT] & 2:
            return Reply(BUSY)
        size = parameters[0] & 7
        if size not in self.camera.lens.truth.sizes:
            return Reply(INVALID_PARAMETER)
        self.camera.drive("far" if parameters[0] & _FAR else "near", size)
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
            f_numbers = {code: n for n, code in _F_CODES.items()}
            settings = (
                f_numbers[self._numbers[_APERTURE]], _SECONDS[self._numbers[_SHUTTER]], _ISOS[self._numbers[_ISO]],
            )  # fmt: skip
            to_card = self._numbers[_DESTINATION] == _CARD
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
        files = {"RAW": ("DNG", _CR3, still.raw), "L": ("JPG", _JPEG, still.jpeg)}
        for part in self._quality.split(" + "):
            suffix, code, data = files[part]
            handle, self._next_handle = self._next_handle, self._next_handle + 1
            self._objects[handle] = _Object(f"{name}.{suffix}", code, data, to_card)
            names = _padded(f"{name}.{suffix}")
            if to_card:
                head = struct.pack("<IIHHIIIII", handle, _STORE, code, 0, 0, 0x10, len(data), 0, handle)
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
            struct.pack("<9I", 56, handle, _STORE, o.format, 0, 0x20, len(o.data), 0, 0)
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
        head = struct.pack("<IHHI", _STORE, found.format, 0, len(found.data))
        head += struct.pack("<H10I", _JPEG, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)[:40]
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends."""
    parser = parser_for("a test camera that speaks PTP/IP like a Canon EOS")
    parser.add_argument("--quality", choices=sorted(_QUALITIES), default="RAW")
    parser.add_argument("--battery", type=int, default=80, help="percent")
    parser.add_argument("--exposure-mode", choices=("M", "Av"), default="M")
    parser.add_argument("--focus-mode", choices=("MF", "AF"), default="MF")
    parser.add_argument("--bracket", type=int, default=1, help="frames of a release, focused ever nearer")
    parser.add_argument("--bracket-step", type=int, default=1, choices=(1, 2, 3))
    parsed = parser.parse_args(arguments)
    try:
        options = options_from(parsed)
    except DualpixError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    setup = Setup(
        battery_percent=parsed.battery,
        exposure_mode=_MANUAL_EXPOSURE if parsed.exposure_mode == "M" else 2,
        focus_mode=_MANUAL_FOCUS if parsed.focus_mode == "MF" else _ONE_SHOT,
        quality=parsed.quality, bracket=parsed.bracket, bracket_step=parsed.bracket_step,
    )  # fmt: skip
    server = PtpIpServer(EosCamera(options.camera(), options.faults, setup), options.port)
    announce(server.port)
    wait_for_end(options.faults)
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
