"""Moved to :mod:`dualpix.capture.raw.write.dng`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.capture.raw.write.dng")
