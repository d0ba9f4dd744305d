"""A connection to a Canon EOS by libgphoto2: its calls, its settings, its failures as a camera's.

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
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from dualpix.capture.camera_protocol import CameraBusy, CameraError, CameraLost, CardFull

_ERROR_UNSPECIFIED, _NO_MEMORY, IN_PROGRESS, _NO_SPACE = -1, -3, -110, -115
_GONE = frozenset({-7, -10, -31, -34, -35, -52, -60})
"""I/O error, time out, and what USB says when nobody is there."""


class CanonLink:
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
        if code == IN_PROGRESS:
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
            return bool(error.code == IN_PROGRESS)
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
