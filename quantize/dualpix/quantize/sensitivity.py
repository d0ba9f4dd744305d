"""Moved to :mod:`dualpix.quantize.search`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.quantize.search")
