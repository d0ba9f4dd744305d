"""Data sets in folders of pictures and arrays: Middlebury, DIODE, TartanAir."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from dualpix.capture.raw.containers.images import read_picture
from dualpix.capture.rgbd.arrays import read_depth_file, read_npy, read_pfm, read_text
from dualpix.capture.rgbd.reader import depth_of, pinhole
from dualpix.capture.rgbd.sample import (
    METRES,
    DepthUnit,
    Intrinsics,
    RgbdError,
    RgbdSample,
    RgbdSource,
    Unused,
    make_sample,
)
from dualpix.capture.rgbd.tree import Tree
from dualpix.capture.types import Mask


class Middlebury:
    """Middlebury stereo 2014 and 2021: ``im0.png``, ``disp0.pfm`` or ``disp0GT.pfm``, ``calib.txt``.

    ``Z = baseline * f / (d + doffs)`` in mm; a disparity of infinity is unknown (Scharstein et al., GCPR 2014).
    """

    name = "middlebury"
    summary = "folders with im0.png, disp0.pfm (or disp0GT.pfm) and calib.txt"

    def find(self, tree: Tree) -> Iterator[RgbdSource | Unused]:
        """Folders with a ``calib.txt``."""
        for calib in tree.named("calib.txt"):
            folder = calib.parent
            image = tree.first(folder / "im0.png")
            disparity = tree.first(folder / "disp0.pfm", folder / "disp0GT.pfm")
            if image and disparity:
                yield RgbdSource(self.name, image, disparity, 0, tree.name(image), camera=calib)

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read, and turn disparity into depth."""
        calib = source.camera or source.image.parent / "calib.txt"
        entries = dict(line.split("=", 1) for line in read_text(calib).splitlines() if "=" in line)
        try:
            matrix = np.array([float(t) for t in entries["cam0"].strip("[] \t").replace(";", " ").split()])
            baseline_mm, doffs = float(entries["baseline"]), float(entries["doffs"])
        except (KeyError, ValueError) as error:
            raise RgbdError(f"'{calib}' is no Middlebury calibration", expected="cam0, doffs, baseline") from error
        camera = pinhole(matrix)
        if camera is None or not 0 < baseline_mm < math.inf or not np.isfinite([*matrix, doffs]).all():
            raise RgbdError(f"'{calib}' is no Middlebury calibration", expected="cam0 of 9 numbers, a baseline > 0")
        disparity = read_pfm(depth_of(source))
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.where(np.isfinite(disparity), baseline_mm * camera.fx / (disparity + doffs), 0)
        return make_sample(
            source,
            read_picture(source.image),
            depth,
            unit_m=METRES[unit or "mm"],
            unit_given=unit is not None,
            intrinsics=camera,
        )


class Diode:
    """DIODE (Vasiljevic et al. 2019): ``NAME.png``, ``NAME_depth.npy`` in m, ``NAME_depth_mask.npy``, 1 = valid.

    The scanner gets no return from the sky: outdoors, what is invalid and reaches the top of the picture is infinitely
    far. The field of view that the data set states does not fit its surfaces (its issue 20): no intrinsics.
    """

    name = "diode"
    summary = "NAME.png with NAME_depth.npy and NAME_depth_mask.npy; outdoors the sky is infinitely far"
    _end = "_depth_mask.npy"

    def find(self, tree: Tree) -> Iterator[RgbdSource | Unused]:
        """Masks with their depth and image."""
        for mask in tree.named(self._end):
            stem = mask.name.removesuffix(self._end)
            image, depth = mask.with_name(f"{stem}.png"), mask.with_name(f"{stem}_depth.npy")
            if {image, depth} <= tree.known:
                yield RgbdSource(self.name, image, depth, 0, tree.name(image), masks=(mask,))

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read, and put the sky far away."""
        depth_path = depth_of(source)
        depth = read_depth_file(depth_path).astype(np.float32)
        (mask_path,) = source.masks
        mask = read_npy(mask_path)
        if mask.size != depth.size:
            raise RgbdError(
                f"'{mask_path.name}' is {mask.shape} (h, w), the depth {depth.shape}", expected="one of each"
            )
        valid = mask.reshape(depth.shape) > 0.5
        if any(part.startswith("outdoor") for part in source.image.parts):
            sky = _touching_top(~valid)
            depth, valid = np.where(sky, np.float32(np.inf), depth), valid | sky
        return make_sample(
            source,
            read_picture(source.image),
            depth,
            unit_m=METRES[unit or "m"],
            unit_given=unit is not None,
            valid=valid,
        )


class TartanAir:
    """TartanAir (Wang et al., IROS 2020): ``image_left/N_left.png``, ``depth_left/N_left_depth.npy`` planar, in m.

    The sky is a sphere at some thousand metres; from a kilometre on, things are infinitely far. 90 degrees wide.
    """

    name = "tartanair"
    summary = "image_left/N_left.png with depth_left/N_left_depth.npy, and the same for right"
    _sky_m = 1000.0

    def find(self, tree: Tree) -> Iterator[RgbdSource | Unused]:
        """Depth files in ``depth_left`` or ``depth_right`` with their image."""
        for depth in tree.named("_depth.npy"):
            folder = depth.parent
            if folder.name in ("depth_left", "depth_right"):
                stem = depth.name.removesuffix("_depth.npy")
                image = folder.with_name(folder.name.replace("depth", "image")) / f"{stem}.png"
                if image in tree.known:
                    yield RgbdSource(self.name, image, depth, 0, tree.name(image))

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read one view."""
        image, depth = read_picture(source.image), read_depth_file(depth_of(source)).astype(np.float32)
        unit_m, width, height = METRES[unit or "m"], image.shape[1], image.shape[0]
        return make_sample(
            source,
            image,
            np.where(depth * unit_m >= self._sky_m, np.float32(np.inf), depth),
            unit_m=unit_m,
            unit_given=unit is not None,
            intrinsics=Intrinsics(width / 2, width / 2, width / 2, height / 2),
        )


def _touching_top(region: Mask) -> Mask:
    """The parts of ``region`` (H, W) that reach the first row."""
    labels = np.asarray(cv2.connectedComponents(region.astype(np.uint8), connectivity=4)[1])
    top = np.unique(labels[0][region[0]])
    return np.isin(labels, top) & region
