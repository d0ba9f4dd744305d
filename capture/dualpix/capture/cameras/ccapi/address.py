"""Where a camera with the Camera Control API is, and as whom we come."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from dualpix.capture.errors import DualpixError

_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}|[0-9A-Fa-f:.]{2,45}")


@dataclass(frozen=True)
class Address:
    """Where a camera is, and as whom we come."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    user: str | None = None
    password: str = ""

    @property
    def public(self) -> str:
        """Without the password, as it may be shown and stored."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @staticmethod
    def parse(text: str) -> Address:
        """Read ``http://[USER:PASSWORD@]HOST[:PORT]``, or https.

        Raises:
            DualpixError: it is not of this form; the message does not repeat the password.
        """
        shown = re.sub(r"//[^/@]*@", "//...@", text)
        wrong = DualpixError(f"camera address '{shown}'", expected="http://[USER:PASSWORD@]HOST[:PORT], or https")
        try:
            parts = urlsplit(text)
            port, host = parts.port, parts.hostname or ""
        except ValueError as error:
            raise wrong from error
        plain = parts.path in ("", "/", "/ccapi", "/ccapi/") and not parts.query and not parts.fragment
        if not plain or not _HOST.fullmatch(host) or port == 0:
            raise wrong
        user = None if parts.username is None else unquote(parts.username)
        if parts.scheme == "http":
            return Address("http", host, port or 8080, user, unquote(parts.password or ""))
        if parts.scheme == "https":
            return Address("https", host, port or 443, user, unquote(parts.password or ""))
        raise wrong
