"""Names of what ``dualpix evaluate`` knows, without importing torch: a command answers a wrong name at once."""

from __future__ import annotations

PROTOCOLS = (
    "pixel4-xin",
    "dp119",
    "dpd-disp-iccp",
    "dpd-disp-fmdp",
    "google-dp",
    "ddd-syn",
    "ddd-syn-image",
    "dpdd",
    "ddff12",
    "zedd",
    "infinigen-defocus",
    "ibims1",
    "ibims1-adaptive",
    "nyuv2-stacks",
    "fod500",
    "simulated-camera",
    "labelled",
)
"""Each is ``PROTOCOL`` of the module of that name in :mod:`dualpix.models.evaluate.protocols`, - for _."""
CAMERAS = ("phone", "fullframe", "macro")
"""Kinds of rendered validation sets."""
STACKS = ("stack-fixed", "stack-diopters")
"""Lists of focus distances of rendered stacks, of scenes or of the pictures of a folder."""
RENDERED = ("rendered", *(f"rendered:{kind}" for kind in (*CAMERAS, *STACKS)))
TAKE_FOLDERS = tuple(f"rendered:{kind}" for kind in STACKS)
"""Of the rendered ones, those that may be of a folder."""
PAIR_METHODS = ("sgbm", "zncc", "network")
STACK_METHODS = ("blur", "sharpness", "argmax", "network")
IMAGE_METHODS = ("input",)
METHODS = tuple(dict.fromkeys((*PAIR_METHODS, *STACK_METHODS, *IMAGE_METHODS)))
