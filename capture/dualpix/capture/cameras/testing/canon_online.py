"""A Canon camera with the Camera Control API, whatever the cable: what it can be asked, and what it answers.

Convention: endpoints, words and refusals as Canon's reference has them. The camera's own bracket goes from near to far
by steps constant in diopters, an increment of 10 being the depth of field of a 30 um circle, and ends at infinity.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dualpix.capture.camera_protocol import CardFull, Direction
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.hidden.faults import FaultPlan, Kind, Operation
from dualpix.capture.cameras.testing.login import Login

_SHORT_S = 0.5
_TVS = (
    "1/4000", "1/3200", "1/2500", "1/2000", "1/1600", "1/1250", "1/1000", "1/800", "1/640", "1/500", "1/400", "1/320",
    "1/250", "1/200", "1/160", "1/125", "1/100", "1/80", "1/60", "1/50", "1/40", "1/30", "1/25", "1/20", "1/15",
    "1/13", "1/10", "1/8", "1/6", "1/5", "1/4", '0"3', '0"4', '0"5', '0"6', '0"8', '1"', '1"3', '1"6', '2"', '2"5',
    '3"2', '4"', '5"', '6"', '8"', '10"', '13"', '15"', '20"', '25"', '30"',
)  # fmt: skip
_ISOS = ("auto", "100", "200", "400", "800", "1600", "3200", "6400", "12800")
_CIRCLE_M = 30e-6
_FRAME_BYTES = 64 << 20
"""That a frame of a real camera takes on a card."""
_CONTENTS = "contents/card1/100CANON"
_JPEG_EXTENSION = "JPG"


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """Answer with a status and Canon's words for it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Cut(Exception):  # noqa: N818 - a fault, not an error
    """Break the connection instead of an answer."""


class CanonOnline:
    """The camera: what it can be asked, whatever the cable."""

    def __init__(
        self, camera: HiddenCamera, faults: FaultPlan, *, old: bool = False, login: Login | None = None
    ) -> None:
        """Switch it on.

        Args:
            camera: what stands behind.
            faults: that it commits.
            old: of the first version.
            login: that it asks for.
        """
        self.camera, self.faults, self.old, self.login = camera, faults, old, login
        self.refuse_connections = 0
        self.breaks: list[Callable[[], None]] = []
        """Cut the connections there are."""
        self.files: dict[str, bytes] = {}
        self.settings = _settings(camera)
        self.power_off, self.live = "30", False
        self.refused_puts = 0
        self._last_file = b""
        self._news: list[str] = []
        self._changed = threading.Condition()
        self._shooting = False
        self._handlers = self._endpoints()

    # requests

    def answer(self, method: str, target: str, body: Any) -> dict[str, Any] | bytes | tuple[bytes, int]:
        """JSON, a file, or the part of a file that arrives and the size that was promised.

        Raises:
            Refused, Cut: as the camera and its faults want it.
        """
        parts = urlsplit(target)
        if parts.path == "/ccapi":
            self._strike("status")
            return self._listing()
        match = re.fullmatch(r"/ccapi/ver(\d{3})/([a-z0-9]+(?:/[A-Za-z0-9_.]+)*)", parts.path)
        if match is None:
            raise Refused(404, "Not found")
        if match[2].startswith(_CONTENTS):
            return self._file(method, match[2].rpartition("/")[2])
        version, handler = self._handlers.get((match[2], method), (0, None))
        if handler is None or int(match[1]) != (100 if self.old else version):
            raise Refused(404, "Not found")
        answer: dict[str, Any] | bytes = handler(body if method in ("put", "post") else parse_qs(parts.query))
        return answer

    def connected(self) -> None:
        """Somebody connects.

        Raises:
            Cut: not this time.
            Refused: not yet.
        """
        if self.refuse_connections:
            self.refuse_connections -= 1
            raise Cut
        self._strike("connect")
        self.camera.lens.stuck = False

    def _strike(self, operation: Operation) -> Kind | None:
        kind = self.faults.at(operation)
        if kind == "busy":
            raise Refused(503, "Device busy")
        if kind == "card_full":
            raise Refused(503, "Can not write to card")
        if kind in ("drop_connection", "lost"):
            if kind == "lost":
                self.camera.fall_asleep()
                self.live, self.refuse_connections = False, 1
            for cut in list(self.breaks):
                cut()
            raise Cut
        if kind == "stuck":
            self.camera.lens.stuck = True
        return kind

    def _endpoints(self) -> dict[tuple[str, str], tuple[int, Callable[[Any], Any]]]:
        """(endpoint, method) -> version, handler."""
        body = self.camera.body
        live = "shooting/liveview"
        told: Mapping[str, tuple[int, Callable[[], dict[str, Any]]]] = {
            "deviceinformation": (100, lambda: {
                "manufacturer": "Canon.Inc", "productname": body.model, "serialnumber": body.serial,
                "firmwareversion": body.firmware, "guid": "", "macaddress": "",
            }),
            "devicestatus/lens": (100, lambda: {"mount": True, "name": body.lens}),
            "devicestatus/temperature": (100, lambda: {"status": "normal"}),
            "devicestatus/battery": (100, lambda: {"name": "LP-E6", "level": "high", "quality": "good"}),
            "devicestatus/storage": (110, self._storage),
            "shooting/settings": (110, lambda: self.settings),
            "functions/autopoweroff": (100, lambda: {"value": self.power_off, "ability": ["15", "30", "disable"]}),
        }  # fmt: skip
        if not self.old:
            level = {"batterylist": [{"position": "camera", "name": "LP-E6NH", "level": "87", "quality": "good"}]}
            told = {**told, "devicestatus/batterylist": (110, lambda: level)}
        out: dict[tuple[str, str], tuple[int, Callable[[Any], Any]]] = {
            (name, "get"): (version, self._asked(tell)) for name, (version, tell) in told.items()
        }
        for key in self.settings:
            name = _endpoint(key)
            out[name, "get"] = 100, self._asked(partial(self.settings.__getitem__, key))
            out[name, "put"] = 100, partial(self._put, key)
        out["functions/autopoweroff", "put"] = 100, self._put_power
        out[live, "post"] = 100, self._switch_live_view
        out[f"{live}/flip", "get"] = 100, self._flip
        out["shooting/control/drivefocus", "post"] = 100, self._drive
        out["shooting/control/shutterbutton", "post"] = 100, self._press
        out["event/polling", "get"] = 110, self._poll
        out["event/polling", "delete"] = 110, lambda query: {}
        return out

    def _listing(self) -> dict[str, Any]:
        listed: dict[str, dict[str, Any]] = {}
        versions: dict[str, list[Any]] = {}
        for (name, method), (version, _) in self._handlers.items():
            path = f"/ccapi/ver{100 if self.old else version}/{name}"
            if path not in listed:
                full = f"http://127.0.0.1:1{path}" if self.old else path
                listed[path] = {"path": full, "get": False, "put": False, "post": False, "delete": False}
                versions.setdefault(path.split("/")[2], []).append(listed[path])
            listed[path][method] = True
        return versions

    def _asked(self, tell: Callable[[], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
        def asked(query: Any) -> dict[str, Any]:
            self._strike("status")
            return tell()

        return asked

    def _storage(self) -> dict[str, Any]:
        free = self.camera.free_frames * _FRAME_BYTES
        card = {"name": "card1", "accesscapability": "readwrite", "maxsize": 64 << 30, "spacesize": free}
        return {"storagelist": [card]}

    def _put(self, key: str, body: Any) -> dict[str, Any]:
        self._strike("set")
        setting, value = self.settings[key], body.get("value") if isinstance(body, dict) else None
        if not _allowed(setting["ability"], value):
            self.refused_puts += 1
            raise Refused(400, "Invalid parameter")
        setting["value"] = value
        return {"value": value}

    def _put_power(self, body: Any) -> dict[str, Any]:
        self._strike("set")
        if body.get("value") not in ("15", "30", "disable"):
            raise Refused(400, "Invalid parameter")
        self.power_off = body["value"]
        return {}

    # live view, lens

    def _switch_live_view(self, body: Any) -> dict[str, Any]:
        self._strike("set")
        if body.get("liveviewsize") not in ("off", "small", "medium"):
            raise Refused(400, "Invalid parameter")
        self.live = body["liveviewsize"] != "off"
        return {}

    def _flip(self, query: Any) -> bytes:
        self._strike("live_view")
        if not self.live:
            raise Refused(503, "Not started")
        if self._shooting:
            raise Refused(503, "During shooting or recording")
        return self.camera.live_view_jpeg()

    def _drive(self, body: Any) -> dict[str, Any]:
        self._strike("drive")
        match = re.fullmatch(r"(near|far)([123])", str(body.get("value")))
        if match is None:
            raise Refused(400, "Invalid parameter")
        if not self.live or self._shooting:
            raise Refused(503, "Device busy")
        direction: Direction = "near" if match[1] == "near" else "far"
        self.camera.drive(direction, int(match[2]))
        return {}

    # shutter, files

    def _press(self, body: Any) -> dict[str, Any]:
        kind = self._strike("shoot")
        if body != {"af": False}:
            raise Refused(503, "Out of focus")
        if self._shooting:
            raise Refused(503, "During shooting or recording")
        if not self.camera.free_frames:
            raise Refused(503, "Can not write to card")
        self._shooting = True
        bracket = self.settings.get("focusbracketing", {}).get("value") == "enable"
        threading.Thread(target=self._shoot, args=(bracket, kind), daemon=True).start()
        return {}

    def _shoot(self, bracket: bool, kind: Kind | None) -> None:
        shots = self.settings["focusbracketing/numberofshots"]["value"] if bracket else 1
        try:
            for shot in range(shots):
                if shot and not self._step_of_bracket():
                    break
                self._release(kind, last=shot + 1 == shots)
        except CardFull:  # shows as a file that does not come
            pass
        finally:
            self._shooting = False

    def _release(self, kind: Kind | None, last: bool) -> None:
        name = f"IMG_{len(self.camera.shots) + 1:04d}"
        f_number, exposure_s, iso = (_number(self.settings[key]["value"]) for key in ("av", "tv", "iso"))
        still = self.camera.release(f_number, exposure_s, iso, f"{name}.DNG")
        quality = self.settings["stillimagequality"]["value"]
        raw = still.raw[: len(still.raw) // 2] if kind == "truncated" else still.raw
        if kind == "duplicate" and self._last_file:
            raw = self._last_file
        files = {"DNG": raw} if quality["raw"] != "none" else {}
        if quality["jpeg"] != "none":
            files[_JPEG_EXTENSION] = still.jpeg
        version = 100 if self.old else 130
        with self._changed:
            for extension, data in files.items():
                self.files[f"{name}.{extension}"] = data
                self._news.append(f"/ccapi/ver{version}/{_CONTENTS}/{name}.{extension}")
            self._last_file, self._shooting = raw, not last
            self._changed.notify_all()

    def _step_of_bracket(self) -> bool:
        """One step towards far; whether there was room."""
        lens, increment = self.camera.lens, self.settings["focusbracketing/focusincrement"]["value"]
        f_number, focal_m = _number(self.settings["av"]["value"]), self.camera.body.focal_length_mm / 1000
        step_d = increment / 10 * 2 * _CIRCLE_M * f_number / focal_m**2
        a, b, c = lens.truth.coefficients
        slope = b + 2 * c * lens.glass
        target = lens.glass - step_d / slope
        if a + b * target + c * target**2 < 0:
            return False
        lens.move_to(target - lens.truth.backlash / 2)  # pulls the glass along from its far side
        self.camera.account_move()
        while lens.moving:
            time.sleep(0.0005)
        return True

    def _poll(self, query: Any) -> dict[str, Any]:
        self._strike("poll")
        waits = query.get("timeout", [""])[0] in ("short", "long") or query.get("continue", [""])[0] == "on"
        with self._changed:
            if waits:
                self._changed.wait_for(lambda: bool(self._news), _SHORT_S)
            news, self._news = self._news, []
        return {"addedcontents": news} if news else {}

    def _file(self, method: str, name: str) -> bytes | tuple[bytes, int]:
        kind = self._strike("download")
        data = self.files.get(name)
        if data is None or method != "get":
            raise Refused(404, "Not found")
        if kind == "duplicate":
            earlier = [files for known, files in self.files.items() if known < name]
            data = earlier[-1] if earlier else data
        return (data[: len(data) // 2], len(data)) if kind == "truncated" else data


def _settings(camera: HiddenCamera) -> dict[str, dict[str, Any]]:
    """Value and ability of each, by what follows ``shooting/settings/``."""
    f_numbers = [f"f{n:.1f}" if n < 10 else f"f{n:.0f}" for n in camera.body.f_numbers]
    return {
        "shootingmodedial": {"value": "m", "ability": ["m"]},
        "afoperation": {"value": "manual", "ability": ["manual", "oneshot"]},
        "av": {"value": f_numbers[0], "ability": f_numbers},
        "tv": {"value": "1/60", "ability": list(_TVS)},
        "iso": {"value": "100", "ability": list(_ISOS)},
        "drive": {"value": "highspeed", "ability": ["single", "highspeed"]},
        "stillimagequality": {
            "value": {"raw": "none", "jpeg": "large_fine"},
            "ability": {"raw": ["none", "raw", "craw"], "jpeg": ["none", "large_fine"]},
        },
        "focusbracketing": {"value": "disable", "ability": ["enable", "disable"]},
        "focusbracketing/numberofshots": {"value": 100, "ability": {"min": 2, "max": 999, "step": 1}},
        "focusbracketing/focusincrement": {"value": 4, "ability": {"min": 1, "max": 10, "step": 1}},
    }


def _endpoint(key: str) -> str:
    return f"shooting/settings/{key}"


def _allowed(ability: Any, value: Any) -> bool:
    if isinstance(ability, list):
        return value in ability
    if "min" in ability:
        return isinstance(value, int) and ability["min"] <= value <= ability["max"]
    return isinstance(value, dict) and all(value.get(key) in words for key, words in ability.items())


def _number(word: str) -> float:
    """``f2.8``, ``1/60``, ``0"5``, ``100``."""
    if '"' in word:
        return float(word.replace('"', ".") + "0")
    numerator, _, denominator = word.lstrip("f").partition("/")
    return float(numerator) / float(denominator or 1)
