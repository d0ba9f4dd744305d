"""Answers over HTTP that end in time: a byte now and then would keep one alive for ever."""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_MOST_WAITS = 4
"""A request may take so many times the longest wait in all: a byte now and then would keep it alive for ever."""


class Deadline:
    """When the request that is under way must have ended."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        self._limit_s, self._until_s = 0.0, 0.0

    def start(self) -> None:
        """A request begins."""
        self._limit_s = _MOST_WAITS * self.wait_s
        self._until_s = time.monotonic() + self._limit_s

    def extend(self, seconds: float) -> None:
        """It may take longer."""
        self._limit_s += seconds
        self._until_s += seconds

    def next_wait_s(self) -> float:
        """How long the next byte may be waited for.

        Raises:
            TimeoutError: the time is over.
        """
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"the answer did not end within {self._limit_s:.3g} s")
        return min(self.wait_s, left_s)


class _Timed(io.RawIOBase):
    """What comes out of a socket until a deadline."""

    def __init__(self, raw: io.RawIOBase, connected: socket.socket, deadline: Deadline) -> None:
        self._raw, self._socket, self._deadline = raw, connected, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        self._socket.settimeout(self._deadline.next_wait_s())
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            self._deadline.next_wait_s()  # says which of both times is over
            raise

    def close(self) -> None:
        self._raw.close()
        super().close()


class TimedResponse(http.client.HTTPResponse):
    """An answer that ends, or is an error, by the deadline."""

    def __init__(self, connected: socket.socket, *arguments: Any, deadline: Deadline, **more: Any) -> None:
        super().__init__(connected, *arguments, **more)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), connected, deadline))
