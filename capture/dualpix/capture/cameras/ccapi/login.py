"""User and password of a camera over HTTP."""

from __future__ import annotations

import base64
import hashlib
import secrets
from urllib.request import parse_http_list, parse_keqv_list


class Login:
    """User and password, by the scheme that the camera asks for: digest where it is offered, else basic."""

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password
        self._basic = False
        self._challenge: dict[str, str] = {}
        self._count = 0

    def learn(self, challenges: list[str] | None) -> bool:
        """Take the camera's challenge; whether there is something new to try."""
        for challenge in challenges or []:
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "digest":
                fields = parse_keqv_list(parse_http_list(rest))
                repeated = fields.get("nonce") == self._challenge.get("nonce")
                self._challenge, self._count = fields, 0
                return not repeated
        offered = any(challenge.lower().startswith("basic") for challenge in challenges or [])
        new, self._basic = offered and not self._basic, offered
        return new

    def header(self, method: str, path: str) -> str | None:
        """The header that answers the challenge; None before there was one."""
        if self._challenge:
            return self._digest(method, path)
        if self._basic:
            return "Basic " + base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        return None

    def _digest(self, method: str, path: str) -> str:
        realm, nonce = self._challenge.get("realm", ""), self._challenge.get("nonce", "")
        algorithm = self._challenge.get("algorithm", "MD5")
        name = "sha256" if algorithm.upper().startswith("SHA-256") else "md5"

        def digest(text: str) -> str:
            # what the protocol of 1999 asks for; nothing here rests on its strength
            return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()

        self._count += 1
        count, own = f"{self._count:08x}", secrets.token_hex(8)
        secret, request = digest(f"{self._user}:{realm}:{self._password}"), digest(f"{method}:{path}")
        fields = {"username": self._user, "realm": realm, "nonce": nonce, "uri": path}
        tail = f", algorithm={algorithm}"
        if "auth" in [q.strip() for q in self._challenge.get("qop", "").split(",")]:
            fields["response"] = digest(f"{secret}:{nonce}:{count}:{own}:auth:{request}")
            fields["cnonce"] = own
            tail += f", qop=auth, nc={count}"
        else:
            fields["response"] = digest(f"{secret}:{nonce}:{request}")
        if "opaque" in self._challenge:
            fields["opaque"] = self._challenge["opaque"]
        return "Digest " + ", ".join(f'{key}="{value}"' for key, value in fields.items()) + tail
