"""Moved to :mod:`dualpix.export.own.states`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.export.own.states")
