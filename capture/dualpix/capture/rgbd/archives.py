"""Data sets in one file of many arrays: NYUv2 (HDF5) and iBims-1 (MATLAB 5). h5py and scipy are optional."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.arrays.hdf5 import open_hdf5
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_bounded
from dualpix.capture.raw.containers.images import check_size, read_picture
from dualpix.capture.rgbd.arrays import read_depth_file
from dualpix.capture.rgbd.mat5 import plain_mat5
from dualpix.capture.rgbd.reader import depth_of, numbers_in, pinhole, starts_with
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

_HDF5_MAGIC, _MAT5_MAGIC = b"\x89HDF", b"MATLAB 5"


class Nyuv2:
    """``nyu_depth_v2_labeled.mat``: HDF5 (MATLAB 7.3), images (N, 3, W, H) uint8, in-painted depths (N, W, H) in m.

    Column-major: axes are reversed. Where ``rawDepths`` is 0 the camera measured nothing and ``depths`` was painted in
    from the colours around: holes, here as everywhere. Silberman et al., ECCV 2012; the intrinsics are those of the
    toolbox's RGB camera.
    """

    name = "nyuv2"
    summary = "nyu_depth_v2_labeled.mat (needs h5py); extracted PNG folders are read as generic"
    intrinsics = Intrinsics(518.8579, 519.4696, 325.5824, 253.7362)
    _raw = "rawDepths"
    _max_pictures = 100_000

    def find(self, tree: Tree) -> Iterator[RgbdSource | Unused]:
        """One source per picture in each HDF5 ``.mat`` file."""
        for path in tree.named(".mat"):
            if not _is_hdf5(path):
                continue
            try:
                count = self._count(path)
                scenes = self._scenes(path, count)
            except DualpixError as error:
                yield Unused(path, str(error), error)
                continue
            for index in range(count):
                yield RgbdSource(self.name, path, None, index, f"{tree.name(path)}/{index:04}", scene=scenes[index])

    def _count(self, path: Path) -> int:
        """The number of pictures, if the file can hold so many."""
        with open_hdf5(path, RgbdError) as file:
            images, depths = file.array("images", (4,), "u"), file.array("depths", (3,))
            count = depths.shape[0]
            if images.shape != (count, 3, *depths.shape[1:]):
                raise images.wrong(f"is {images.shape} and 'depths' {depths.shape}", "(N, 3, W, H) and (N, W, H)")
            if count > self._max_pictures or not (images.fits_the_file() and depths.fits_the_file()):
                raise images.wrong(
                    f"claims {count} pictures in a file of {path.stat().st_size} bytes", "a complete file"
                )
            return count

    def _scenes(self, path: Path, count: int) -> list[str]:
        """The room of each picture, or nothing where the file does not say."""
        with open_hdf5(path, RgbdError) as file:
            scenes = file.cell_texts("scenes", most=count) if "scenes" in file else []
        return scenes if len(scenes) == count else [""] * count

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read one of the pictures."""
        path, warnings, valid = source.image, [], None
        with open_hdf5(path, RgbdError) as file:
            images, depths = file.array("images", (4,), "u"), file.array("depths", (3,))
            check_size(path, *depths.shape[1:])
            image, depth = images.read(source.index), depths.read(source.index)
            if self._raw in file:
                raw = file.array(self._raw, (3,))
                if raw.shape != depths.shape:
                    raise raw.wrong(f"is {raw.shape}", f"{depths.shape} as 'depths'")
                valid = np.ascontiguousarray(raw.read(source.index).T > 0)
            else:
                warnings.append(f"'{path.name}' has no {self._raw}: in-painted depth counts as measured")
        return make_sample(
            source,
            np.ascontiguousarray(image.transpose(2, 1, 0)),
            np.ascontiguousarray(depth.T),
            unit_m=METRES[unit or "m"],
            unit_given=unit is not None,
            valid=valid,
            intrinsics=self.intrinsics if image.shape[1:] == (640, 480) else None,
            warnings=warnings,
        )


class Ibims:
    """iBims-1 (Koch et al., ECCVW 2018): MATLAB 5 files, or its PNG folders ``rgb``, ``depth``, ``calib``, ``mask_*``.

    PNG depth is uint16 with 65535 = 50 m; in the masks 0 is invalid, or transparent.
    """

    name = "ibims"
    summary = "ibims1_core_mat (needs scipy) and ibims1_core_raw"
    _max_mat_bytes, _max_unpacked_bytes, _png_unit_m = 64 << 20, 512 << 20, 50.0 / 65535

    def find(self, tree: Tree) -> Iterator[RgbdSource | Unused]:
        """MATLAB 5 files, and PNG pairs with a mask folder beside."""
        for path in tree.named(".mat"):
            if starts_with(path, _MAT5_MAGIC):
                yield RgbdSource(self.name, path, None, 0, tree.name(path))
        for depth in tree.named(".png"):
            top = depth.parent.parent
            image = top / "rgb" / depth.name
            masks = [top / kind / depth.name for kind in ("mask_invalid", "mask_transp")]
            if depth.parent.name == "depth" and {image, masks[0]} <= tree.known:
                camera = tree.first(top / "calib" / f"{depth.stem}.txt")
                there = tuple(path for path in masks if path in tree.known)
                yield RgbdSource(self.name, image, depth, 0, tree.name(image), there, camera)

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read either form."""
        return self._read_mat(source, unit) if source.depth is None else self._read_png(source, unit)

    def _read_png(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        return make_sample(
            source,
            read_picture(source.image),
            read_depth_file(depth_of(source)),
            unit_m=self._png_unit_m if unit is None else METRES[unit],
            unit_given=unit is not None,
            valid=_all(source, [read_picture(path) > 0 for path in source.masks]),
            intrinsics=None if source.camera is None else pinhole(np.array(numbers_in(source.camera, 4))),
        )

    def _read_mat(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        path = source.image
        try:
            scipy_io = import_module("scipy.io")
        except ImportError as error:
            raise RgbdError(
                f"'{path.name}' needs scipy, which is not installed", hint="pip install 'dualpix[rgbd]'"
            ) from error
        packed = read_bounded(path, self._max_mat_bytes, f"'{path}'", expected="an iBims-1 .mat file", error=RgbdError)
        try:
            data = scipy_io.loadmat(io.BytesIO(plain_mat5(packed, self._max_unpacked_bytes)))["data"]
            image, depth, calib = (np.asarray(data[field][0][0]) for field in ("rgb", "depth", "calib"))
            masks = [np.asarray(data[field][0][0]) > 0 for field in ("mask_invalid", "mask_transp")]
        except Exception as error:  # scipy raises what its parser trips over
            raise RgbdError(f"'{path.name}' is no iBims-1 file, or damaged", expected="rgb, depth, masks") from error
        _check_plane(source, image, depth, calib)
        return make_sample(
            source,
            image,
            depth,
            unit_m=METRES[unit or "m"],
            unit_given=unit is not None,
            valid=_all(source, masks),
            intrinsics=pinhole(calib.ravel()),
        )


def _all(source: RgbdSource, masks: list[Mask]) -> Mask | None:
    shapes = {mask.shape for mask in masks}
    if len(shapes) > 1:
        raise RgbdError(f"'{source.name}': masks of different sizes, {sorted(map(str, shapes))}")
    return np.logical_and.reduce(masks) if masks else None


def _check_plane(source: RgbdSource, image: npt.NDArray[Any], depth: npt.NDArray[Any], calib: npt.NDArray[Any]) -> None:
    if (
        image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or depth.dtype.kind not in "fu"
        or depth.ndim != 2
    ):
        raise RgbdError(
            f"'{source.image.name}' has {image.dtype} {image.shape} and {depth.dtype} {depth.shape}",
            expected="an 8-bit RGB image and depth",
        )
    if calib.dtype.kind not in "fui" or calib.size not in (4, 9) or not np.isfinite(calib).all():
        raise RgbdError(f"'{source.image.name}' has calib {calib.dtype} {calib.shape}", expected="a camera matrix")
    check_size(source.image, image.shape[1], image.shape[0])


def _is_hdf5(path: Path) -> bool:
    """MATLAB puts a header of its own of 512 bytes in front."""
    return starts_with(path, _HDF5_MAGIC) or starts_with(path, _HDF5_MAGIC, 512)
