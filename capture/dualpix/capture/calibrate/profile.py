"""Moved to :mod:`dualpix.capture.profiles.profile`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.capture.profiles.profile")
