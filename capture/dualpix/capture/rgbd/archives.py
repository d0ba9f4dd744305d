"""Data sets in HDF5 and MATLAB files: NYUv2, Hypersim, iBims-1. h5py and scipy are optional."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.raw.images import check_size, read_picture
from dualpix.capture.rgbd.arrays import hdf5_array, open_hdf5, read_depth_file
from dualpix.capture.rgbd.reader import depth_of, numbers_in, pinhole, starts_with
from dualpix.capture.rgbd.sample import (
    METRES,
    DepthUnit,
    Intrinsics,
    RgbdError,
    RgbdSample,
    RgbdSource,
    make_sample,
    planar_depth,
)
from dualpix.capture.rgbd.tree import Tree
from dualpix.capture.types import FloatImage, Mask

_HDF5_MAGIC, _MAT5_MAGIC = b"\x89HDF", b"MATLAB 5"


class Nyuv2:
    """``nyu_depth_v2_labeled.mat``: HDF5 (MATLAB 7.3), images (N, 3, W, H) uint8 and in-painted depths (N, W, H) in m.

    Column-major: axes are reversed. Silberman et al., ECCV 2012; the intrinsics are those of the toolbox's RGB camera.
    """

    name = "nyuv2"
    summary = "nyu_depth_v2_labeled.mat (needs h5py); extracted PNG folders are read as generic"
    intrinsics = Intrinsics(518.8579, 519.4696, 325.5824, 253.7362)

    def find(self, tree: Tree) -> Iterator[RgbdSource]:
        """One source per picture in each HDF5 ``.mat`` file."""
        for path in tree.named(".mat"):
            if not _is_hdf5(path):
                continue
            with open_hdf5(path) as file:
                count = int(file["depths"].shape[0])
            for index in range(count):
                yield RgbdSource(self.name, path, None, index, f"{tree.name(path)}/{index:04}")

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read one of the pictures."""
        with open_hdf5(source.image) as file:
            images, depths = file["images"], file["depths"]
            _check_stack(source, images, 4)
            _check_stack(source, depths, 3)
            image, depth = np.asarray(images[source.index]), np.asarray(depths[source.index])
        return make_sample(
            source,
            np.ascontiguousarray(image.transpose(2, 1, 0)),
            np.ascontiguousarray(depth.T),
            unit_m=METRES[unit or "m"],
            unit_given=unit is not None,
            intrinsics=self.intrinsics if image.shape[1:] == (640, 480) else None,
        )


class Hypersim:
    """``frame.IIII.color.hdf5`` (unbounded radiance) and ``frame.IIII.depth_meters.hdf5``, array "dataset" in both.

    Depth is the distance **along the ray** (the data set's README) and becomes planar here; the horizontal field of
    view is 60 degrees with square pixels. Radiance is exposed as the data set's tone mapping does: the 90th percentile
    of brightness becomes 0.8 after a curve of 1/2.2.
    """

    name = "hypersim"
    summary = "scene_cam_XX_final_hdf5 and scene_cam_XX_geometry_hdf5 (needs h5py)"
    _depth_end, _half_field_rad = ".depth_meters.hdf5", math.radians(30.0)

    def find(self, tree: Tree) -> Iterator[RgbdSource]:
        """Depth frames with their colour frame, in the folder beside or in the same."""
        for depth in tree.named(self._depth_end):
            color = depth.name.removesuffix(self._depth_end) + ".color.hdf5"
            folder = depth.parent
            beside = folder.with_name(folder.name.replace("_geometry_hdf5", "_final_hdf5"))
            image = tree.first(beside / color, folder / color)
            if image is not None:
                yield RgbdSource(self.name, image, depth, 0, tree.name(image).removesuffix(".color"))

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read, expose and make planar."""
        with open_hdf5(source.image) as file:
            radiance = hdf5_array(source.image, file["dataset"], kinds="f").astype(np.float32)
        depth_path = depth_of(source)
        with open_hdf5(depth_path) as file:
            distance = hdf5_array(depth_path, file["dataset"]).astype(np.float32)
        height, width = distance.shape[:2]
        focal = width / 2 / math.tan(self._half_field_rad)
        camera = Intrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2)
        return make_sample(
            source,
            _exposed(radiance),
            planar_depth(distance, camera),
            unit_m=METRES[unit or "m"],
            unit_given=unit is not None,
            intrinsics=camera,
        )


class Ibims:
    """iBims-1 (Koch et al., ECCVW 2018): MATLAB 5 files, or its PNG folders ``rgb``, ``depth``, ``calib``, ``mask_*``.

    PNG depth is uint16 with 65535 = 50 m; in the masks 0 is invalid, or transparent.
    """

    name = "ibims"
    summary = "ibims1_core_mat (needs scipy) and ibims1_core_raw"
    _max_mat_bytes, _png_unit_m = 64 << 20, 50.0 / 65535

    def find(self, tree: Tree) -> Iterator[RgbdSource]:
        """MATLAB 5 files, and PNG pairs with a mask folder beside."""
        for path in tree.named(".mat"):
            if starts_with(path, _MAT5_MAGIC):
                yield RgbdSource(self.name, path, None, 0, tree.name(path))
        for depth in tree.named(".png"):
            top = depth.parent.parent
            image = top / "rgb" / depth.name
            if depth.parent.name == "depth" and {image, top / "mask_invalid" / depth.name} <= tree.known:
                yield RgbdSource(self.name, image, depth, 0, tree.name(image))

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read either form."""
        return self._read_mat(source, unit) if source.depth is None else self._read_png(source, unit)

    def _read_png(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        top = source.image.parent.parent
        masks = [top / kind / source.image.name for kind in ("mask_invalid", "mask_transp")]
        valid = [read_picture(path) > 0 for path in masks if path.is_file()]
        calib = top / "calib" / f"{source.image.stem}.txt"
        return make_sample(
            source,
            read_picture(source.image),
            read_depth_file(depth_of(source)),
            unit_m=self._png_unit_m if unit is None else METRES[unit],
            unit_given=unit is not None,
            valid=_all(source, valid),
            intrinsics=pinhole(np.array(numbers_in(calib, 4))) if calib.is_file() else None,
        )

    def _read_mat(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        path = source.image
        try:
            scipy_io = import_module("scipy.io")
        except ImportError as error:
            raise RgbdError(
                f"'{path.name}' needs scipy, which is not installed", hint="pip install 'dualpix[rgbd]'"
            ) from error
        if path.stat().st_size > self._max_mat_bytes:
            raise RgbdError(f"'{path.name}' has over {self._max_mat_bytes >> 20} MiB", expected="an iBims-1 .mat file")
        try:
            data = scipy_io.loadmat(path)["data"]
            image, depth, calib = (np.asarray(data[field][0][0]) for field in ("rgb", "depth", "calib"))
            masks = [np.asarray(data[field][0][0]) > 0 for field in ("mask_invalid", "mask_transp")]
        except Exception as error:  # scipy raises what its parser trips over
            raise RgbdError(f"'{path.name}' is no iBims-1 file, or damaged", expected="rgb, depth, masks") from error
        _check_plane(source, image, depth)
        return make_sample(
            source,
            image,
            depth,
            unit_m=METRES[unit or "m"],
            unit_given=unit is not None,
            valid=_all(source, masks),
            intrinsics=pinhole(calib.ravel()),
        )


def _exposed(radiance: FloatImage) -> FloatImage:
    if radiance.ndim != 3 or radiance.shape[2] < 3:
        return radiance
    brightness = radiance[..., :3] @ np.array([0.3, 0.59, 0.11], np.float32)
    lit = brightness[np.isfinite(brightness) & (brightness > 0)]
    level = float(np.percentile(lit, 90)) if lit.size else 1.0
    return (radiance * np.float32(0.8**2.2 / level)).astype(np.float32)


def _all(source: RgbdSource, masks: list[Mask]) -> Mask | None:
    shapes = {mask.shape for mask in masks}
    if len(shapes) > 1:
        raise RgbdError(f"'{source.name}': masks of different sizes, {sorted(map(str, shapes))}")
    return np.logical_and.reduce(masks) if masks else None


def _check_stack(source: RgbdSource, array: Any, axes: int) -> None:
    """A stack of pictures whose last axes are (W, H)."""
    shape = tuple(array.shape)
    if len(shape) != axes or source.index >= shape[0] or (axes == 4 and shape[1] != 3):
        raise RgbdError(
            f"'{source.image.name}' has an array of {shape}", expected="images (N, 3, W, H), depths (N, W, H)"
        )
    if np.dtype(array.dtype).kind not in "fu":
        raise RgbdError(f"'{source.image.name}' has an array of {array.dtype}", expected="numbers")
    check_size(source.image, shape[-2], shape[-1])


def _check_plane(source: RgbdSource, image: npt.NDArray[Any], depth: npt.NDArray[Any]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or depth.dtype.kind not in "fu" or depth.ndim != 2:
        raise RgbdError(
            f"'{source.image.name}' has {image.dtype} {image.shape}", expected="an 8-bit RGB image and depth"
        )


def _is_hdf5(path: Path) -> bool:
    """MATLAB puts a header of its own of 512 bytes in front."""
    return starts_with(path, _HDF5_MAGIC) or starts_with(path, _HDF5_MAGIC, 512)
