"""Moved to :mod:`dualpix.capture.cameras.android.device`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.capture.cameras.android.device")
