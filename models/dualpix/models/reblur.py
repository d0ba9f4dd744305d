"""Moved to :mod:`dualpix.models.losses.reblur`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.models.losses.reblur")
