"""Moved to :mod:`dualpix.export.executorch.stored`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.export.executorch.stored")
