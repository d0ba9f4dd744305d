"""The readers of RGB-D data sets, all to :class:`~dualpix.capture.rgbd.sample.RgbdSample`.

Each states where its facts come from. None of the data comes with this package; nothing is downloaded.
"""

from __future__ import annotations

from dualpix.capture.rgbd.archives import Ibims, Nyuv2
from dualpix.capture.rgbd.arkit import ArkitScenes
from dualpix.capture.rgbd.folders import Diode, Middlebury, TartanAir
from dualpix.capture.rgbd.generic import Generic
from dualpix.capture.rgbd.hypersim import Hypersim
from dualpix.capture.rgbd.reader import Reader

__all__ = ["READERS", "Reader"]

READERS: tuple[Reader, ...] = (
    Nyuv2(), Hypersim(), ArkitScenes(), Ibims(), Middlebury(), Diode(), TartanAir(), Generic(),
)  # fmt: skip
"""In the order in which they are asked; a file belongs to the first that takes it."""
