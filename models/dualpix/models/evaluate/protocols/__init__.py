"""The protocols, by name. A new one is a module with a ``PROTOCOL`` and its name in :mod:`..protocol_names`."""

from __future__ import annotations

from importlib import import_module

from dualpix.capture.errors import UnknownNameError
from dualpix.models.evaluate import protocol_names
from dualpix.models.evaluate.protocol import Protocol


def _stated(name: str) -> Protocol:
    protocol: Protocol = import_module(f"{__name__}.{name.replace('-', '_')}").PROTOCOL
    if protocol.name != name:
        raise ValueError(f"the protocol in the module of '{name}' is '{protocol.name}'")
    return protocol


PROTOCOLS: dict[str, Protocol] = {name: _stated(name) for name in protocol_names.PROTOCOLS}


def protocol_named(name: str) -> Protocol:
    """Look a protocol up.

    Raises:
        UnknownNameError: no protocol of that name; the message lists the known ones.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, list(PROTOCOLS))
    return PROTOCOLS[name]
