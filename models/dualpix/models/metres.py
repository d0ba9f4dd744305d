"""Moved to :mod:`dualpix.models.predict.metres`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.models.predict.metres")
