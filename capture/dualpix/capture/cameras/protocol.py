"""Moved to :mod:`dualpix.capture.camera_protocol`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.capture.camera_protocol")
