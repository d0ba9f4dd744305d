"""A picture and its depth, both the right way up.

Cameras and phones store the rows as the sensor lies and say in an EXIF tag how to turn them; PNG (eXIf chunk) and TIFF
can say the same. Depth that people made for such a picture is of the picture as viewers show it, or as it is stored,
depending on which library read it: OpenCV and browsers turn JPEGs, Pillow and most others do not. So:

- A depth file with an orientation of its own is turned by that.
- Else a quarter turn shows in the sizes, unless the picture is square.
- Else, half a turn or a mirror image, depth is taken to be of the picture as shown, and the sample says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from dualpix.capture.raw.containers.hints import read_hints
from dualpix.capture.raw.containers.images import picture_kind, read_bounded, read_picture
from dualpix.capture.raw.develop.geometry import upright
from dualpix.capture.rgbd.arrays import read_depth_file

Plane = npt.NDArray[Any]


@dataclass(frozen=True)
class Shown:
    """Samples as stored, but for the way up."""

    image: Plane
    """(H, W) or (H, W, 3)"""
    depth: Plane
    """(H, W) where the file fits the picture."""
    warnings: tuple[str, ...] = ()


def read_shown(image_path: Path, depth_path: Path) -> Shown:
    """Read both files and turn them upright; sizes that do not fit are left to the caller.

    Raises:
        DualpixError: one of them cannot be read.
    """
    stored, depth = read_picture(image_path), read_depth_file(depth_path)
    orientation, own = orientation_of(image_path), orientation_of(depth_path)
    image = upright(stored, orientation)
    for turned, warning in _readings(depth, orientation, own, stored.shape[:2] == image.shape[:2]):
        if turned.shape == image.shape[:2]:
            return Shown(image, turned, (warning,) if warning else ())
    return Shown(image, depth)


def orientation_of(path: Path) -> int:
    """EXIF orientation 1..8 that a file states; 1 where it says nothing, or is no picture.

    Raises:
        DecodeError: it cannot be read.
    """
    data = read_bounded(path)
    kind = picture_kind(data[:16])
    return 1 if kind is None else read_hints(data, kind).orientation


def _readings(depth: Plane, orientation: int, own: int, same_size: bool) -> Iterator[tuple[Plane, str]]:
    """What the depth may mean, the likeliest first, with what is to be said of it."""
    turned = f"the picture is turned by its EXIF orientation {orientation}"
    if own != 1:
        yield upright(depth, own), ""
        yield depth, f"the depth's EXIF orientation {own} does not fit the picture: taken as it is stored"
    elif orientation == 1:
        yield depth, ""
    elif same_size:
        yield depth, f"{turned}; depth is taken to be of the picture as shown, which sizes cannot tell"
    else:
        yield depth, f"{turned}; depth is of the picture as shown, by its size"
        yield upright(depth, orientation), f"{turned}, and so is the depth, which has the size of the picture as stored"
