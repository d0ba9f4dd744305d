"""User and password that a test camera asks for over HTTP."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Literal
from urllib.request import parse_http_list, parse_keqv_list


class Login:
    """A user and a password, asked for by ``basic`` or ``digest``."""

    def __init__(self, scheme: Literal["basic", "digest"], user: str, password: str) -> None:
        self.scheme, self.user, self.password = scheme, user, password
        self.nonce = secrets.token_hex(8)

    @property
    def challenge(self) -> str:
        """For the header WWW-Authenticate."""
        if self.scheme == "basic":
            return 'Basic realm="camera"'
        return f'Digest realm="camera", nonce="{self.nonce}", qop="auth", algorithm=MD5, opaque="o"'

    def accepts(self, method: str, target: str, header: str | None) -> bool:
        """Whether a request may pass."""
        scheme, _, rest = (header or "").partition(" ")
        if self.scheme == "basic":
            return header == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        said = parse_keqv_list(parse_http_list(rest))
        if scheme != "Digest" or said.get("uri") != target or said.get("nonce") != self.nonce:
            return False

        def digest(text: str) -> str:
            return hashlib.new("md5", text.encode(), usedforsecurity=False).hexdigest()

        secret = digest(f"{self.user}:camera:{self.password}")
        request = digest(f"{method}:{target}")
        counted = f"{said.get('nc')}:{said.get('cnonce')}:auth"
        return said.get("response") == digest(f"{secret}:{self.nonce}:{counted}:{request}")
