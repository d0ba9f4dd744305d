"""The protocols, by name. A new one is a module with a ``PROTOCOL`` and one line in ``_MODULES``."""

from __future__ import annotations

from dualpix.capture.errors import UnknownNameError
from dualpix.models.evaluate.protocol import Protocol
from dualpix.models.evaluate.protocols import (
    ddd_syn,
    ddd_syn_image,
    ddff12,
    dp119,
    dpd_disp_fmdp,
    dpd_disp_iccp,
    dpdd,
    fod500,
    google_dp,
    ibims1,
    ibims1_adaptive,
    infinigen_defocus,
    nyuv2_stacks,
    pixel4_xin,
    zedd,
)

_MODULES = (
    pixel4_xin,
    dp119,
    dpd_disp_iccp,
    dpd_disp_fmdp,
    google_dp,
    ddd_syn,
    ddd_syn_image,
    dpdd,
    ddff12,
    zedd,
    infinigen_defocus,
    ibims1,
    ibims1_adaptive,
    nyuv2_stacks,
    fod500,
)
PROTOCOLS: dict[str, Protocol] = {module.PROTOCOL.name: module.PROTOCOL for module in _MODULES}


def protocol_named(name: str) -> Protocol:
    """Look a protocol up.

    Raises:
        UnknownNameError: no protocol of that name; the message lists the known ones.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, list(PROTOCOLS))
    return PROTOCOLS[name]
