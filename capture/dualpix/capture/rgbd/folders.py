"""Data sets in folders of pictures and arrays: ARKitScenes, Middlebury, DIODE, TartanAir, and any other."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from dualpix.capture.raw.images import read_picture
from dualpix.capture.rgbd.arrays import read_depth_file, read_npy, read_pfm, read_text
from dualpix.capture.rgbd.reader import depth_of, numbers_in, pinhole
from dualpix.capture.rgbd.sample import (
    METRES,
    DepthUnit,
    Intrinsics,
    RgbdError,
    RgbdSample,
    RgbdSource,
    make_sample,
)
from dualpix.capture.rgbd.tree import IMAGE_SUFFIXES, Tree
from dualpix.capture.types import Mask

_TURNS = {"up": 0, "left": 3, "down": 2, "right": 1}  # quarter turns against the clock that bring the sky up


class ArkitScenes:
    """Apple ARKitScenes: PNG images, uint16 mm depth, one-line ``.pincam`` intrinsics (its DATA.md).

    Pictures lie as the tablet's sensor does; where ``metadata.csv`` (``video_id``, ``sky_direction``) is found, they
    are turned so that the sky is up.
    """

    name = "arkitscenes"
    summary = "wide or vga_wide with highres_depth, lowres_wide with lowres_depth; turned upright by metadata.csv"
    _folders = (("highres_depth", "wide"), ("highres_depth", "vga_wide"), ("lowres_depth", "lowres_wide"))

    def find(self, tree: Tree) -> Iterator[RgbdSource]:
        """Images and depths of one name in sibling folders, with intrinsics beside."""
        for depth in tree.named(".png"):
            for depths, images in self._folders:
                image = depth.parent.with_name(images) / depth.name
                marked = depth.parent.with_name(f"{images}_intrinsics") / f"{depth.stem}.pincam"
                if depth.parent.name == depths and image in tree.known and marked in tree.known:
                    yield RgbdSource(self.name, image, depth, 0, tree.name(image))
                    break

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read and turn upright."""
        image, depth = read_picture(source.image), read_depth_file(depth_of(source))
        folder = source.image.parent
        camera = self._intrinsics(folder.with_name(f"{folder.name}_intrinsics") / f"{source.image.stem}.pincam")
        turns = _TURNS.get(self._sky(folder.parent), 0)
        return make_sample(
            source,
            np.ascontiguousarray(np.rot90(image, turns)),
            np.ascontiguousarray(np.rot90(depth, turns)),
            unit_m=METRES[unit or "mm"],
            unit_given=unit is not None,
            intrinsics=camera.turned(turns, (image.shape[0], image.shape[1])),
        )

    def _intrinsics(self, path: Path) -> Intrinsics:
        numbers = numbers_in(path, 6)
        return Intrinsics(*numbers[2:6])

    def _sky(self, video: Path) -> str:
        for folder in list(video.parents)[:3]:
            path = folder / "metadata.csv"
            if path.is_file():
                rows = csv.DictReader(io.StringIO(read_text(path, 1 << 24)))
                found = (row.get("sky_direction") for row in rows if row.get("video_id") == video.name)
                return (next(found, None) or "").strip().lower()
        return ""


class Middlebury:
    """Middlebury stereo 2014 and 2021: ``im0.png``, ``disp0.pfm`` or ``disp0GT.pfm``, ``calib.txt``.

    ``Z = baseline * f / (d + doffs)`` in mm; a disparity of infinity is unknown (Scharstein et al., GCPR 2014).
    """

    name = "middlebury"
    summary = "folders with im0.png, disp0.pfm (or disp0GT.pfm) and calib.txt"

    def find(self, tree: Tree) -> Iterator[RgbdSource]:
        """Folders with a ``calib.txt``."""
        for calib in tree.named("calib.txt"):
            folder = calib.parent
            image = tree.first(folder / "im0.png")
            disparity = tree.first(folder / "disp0.pfm", folder / "disp0GT.pfm")
            if image and disparity:
                yield RgbdSource(self.name, image, disparity, 0, tree.name(image))

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read, and turn disparity into depth."""
        calib = source.image.parent / "calib.txt"
        entries = dict(line.split("=", 1) for line in read_text(calib).splitlines() if "=" in line)
        try:
            matrix = np.array([float(t) for t in entries["cam0"].strip("[] \t").replace(";", " ").split()])
            baseline_mm, doffs = float(entries["baseline"]), float(entries["doffs"])
        except (KeyError, ValueError) as error:
            raise RgbdError(f"'{calib}' is no Middlebury calibration", expected="cam0, doffs, baseline") from error
        camera = pinhole(matrix)
        if camera is None or not baseline_mm > 0:
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

    def find(self, tree: Tree) -> Iterator[RgbdSource]:
        """Masks with their depth and image."""
        for mask in tree.named(self._end):
            stem = mask.name.removesuffix(self._end)
            image, depth = mask.with_name(f"{stem}.png"), mask.with_name(f"{stem}_depth.npy")
            if {image, depth} <= tree.known:
                yield RgbdSource(self.name, image, depth, 0, tree.name(image))

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read, and put the sky far away."""
        depth_path = depth_of(source)
        depth = read_depth_file(depth_path).astype(np.float32)
        valid = read_npy(source.image.with_name(f"{source.image.stem}{self._end}")).reshape(depth.shape[:2]) > 0.5
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

    def find(self, tree: Tree) -> Iterator[RgbdSource]:
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


class Generic:
    """Any folder: an image and a depth file of one name, or the rows of an ``index.csv``.

    Names: ``NAME.png`` with ``NAME.depth.png``, ``NAME_depth.png`` or ``NAME-depth.png``, or the same name in sibling
    folders ``rgb`` (``image``, ``images``, ``color``, ``colour``) and ``depth`` (``depths``). Images are PNG, JPEG or
    TIFF; integers are taken as sRGB, floats as linear. Depth is PNG, TIFF, NPY or PFM; integers are mm and floats m
    unless told otherwise. The columns ``image`` and ``depth`` of an ``index.csv`` name files beside it.
    """

    name = "generic"
    summary = "image with depth PNG / TIFF (uint16 mm), NPY, TIFF or PFM (float m); or index.csv with image,depth"
    _depth_ends = (".depth", "_depth", "-depth")
    _depth_suffixes = (".png", ".tif", ".tiff", ".npy", ".pfm", ".exr")
    _depth_folders, _image_folders = ("depth", "depths"), ("rgb", "image", "images", "color", "colour")
    _max_rows = 1_000_000

    def find(self, tree: Tree) -> Iterator[RgbdSource]:
        """The rows of index files first, then names."""
        for index in tree.named("index.csv"):
            yield from self._rows(tree, index)
        for depth in tree.files:
            if depth.suffix.lower() in self._depth_suffixes:
                image = tree.first(*self._images(depth))
                if image is not None:
                    yield RgbdSource(self.name, image, depth, 0, tree.name(image))

    def _images(self, depth: Path) -> Iterator[Path]:
        for end in self._depth_ends:
            if depth.stem.endswith(end):
                stem = depth.stem.removesuffix(end)
                yield from (depth.with_name(stem + suffix) for suffix in IMAGE_SUFFIXES)
        if depth.parent.name in self._depth_folders:
            for folder in self._image_folders:
                beside = depth.parent.with_name(folder)
                yield from (beside / (depth.stem + suffix) for suffix in IMAGE_SUFFIXES)

    def _rows(self, tree: Tree, index: Path) -> Iterator[RgbdSource]:
        rows = csv.DictReader(io.StringIO(read_text(index, 1 << 26)))
        if not {"image", "depth"} <= set(rows.fieldnames or ()):
            return  # some other table
        for number, row in enumerate(rows):
            image, depth = (index.parent / (row[column] or "") for column in ("image", "depth"))
            if number >= self._max_rows or not row["image"] or not row["depth"]:
                raise RgbdError(f"'{index}' row {number + 2} lacks a file name", expected="columns image,depth")
            name = (index.parent.relative_to(tree.root) / row["image"]).with_suffix("").as_posix()
            yield RgbdSource(self.name, image, depth, 0, name)

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read one pair."""
        image, depth = read_picture(source.image), read_depth_file(depth_of(source))
        usual: DepthUnit = "m" if depth.dtype.kind == "f" else "mm"
        return make_sample(source, image, depth, unit_m=METRES[unit or usual], unit_given=unit is not None)


def _touching_top(region: Mask) -> Mask:
    """The parts of ``region`` (H, W) that reach the first row."""
    labels = np.asarray(cv2.connectedComponents(region.astype(np.uint8), connectivity=4)[1])
    top = np.unique(labels[0][region[0]])
    return np.isin(labels, top) & region
