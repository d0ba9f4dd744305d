"""Moved to :mod:`dualpix.models.evaluate.validation`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.models.evaluate.validation")
