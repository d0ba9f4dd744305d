"""Moved to :mod:`dualpix.capture.arrays.npy`."""

from dualpix.capture.moved import forward

__getattr__ = forward(__name__, "dualpix.capture.arrays.npy")
