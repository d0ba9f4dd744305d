"""Moved to :mod:`dualpix.capture.synthesis.sensor`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.capture.synthesis.sensor")
