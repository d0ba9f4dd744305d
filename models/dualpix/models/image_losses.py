"""Moved to :mod:`dualpix.models.losses.image`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.models.losses.image")
