"""Moved to :mod:`dualpix.models.stacks.network`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.models.stacks.network")
