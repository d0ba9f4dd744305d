"""Small writers of the RGB-D formats, each as its data set lays it out, from one known picture and depth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np
import numpy.typing as npt
import scipy.io

Depth = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Truth:
    """What every writer writes: an sRGB picture and planar depth with a hole."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3) R, G, B"""
    depth_m: Depth
    """(H, W), whole mm"""
    hole: npt.NDArray[np.bool_]

    @property
    def with_zeros(self) -> Depth:
        return np.where(self.hole, 0, self.depth_m).astype(np.float32)


def truth(height: int = 48, width: int = 64, seed: int = 1) -> Truth:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    slope = np.linspace(1.2, 4.0, width)[None] + np.linspace(0, 0.3, height)[:, None]
    depth = np.round(slope * 1000).astype(np.float32) / 1000
    depth[10:30, 20:40] = 0.8
    hole = np.zeros((height, width), bool)
    hole[12:28, 40:46] = True  # the shadow beside the near object
    hole[:2] = True
    return Truth(image, depth, hole)


def write_image(path: Path, image: npt.NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def write_plane(path: Path, plane: npt.NDArray[np.generic]) -> Path:
    """A PNG or, by its suffix, an .npy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, plane)
    else:
        assert cv2.imwrite(str(path), np.asarray(plane))
    return path


def millimetres(depth_m: Depth) -> npt.NDArray[np.uint16]:
    return np.rint(depth_m * 1000).astype(np.uint16)


def write_generic(folder: Path, t: Truth, name: str = "a") -> None:
    write_image(folder / f"{name}.png", t.image)
    write_plane(folder / f"{name}.depth.png", millimetres(t.with_zeros))


def write_nyuv2(folder: Path, truths: list[Truth], *, raw: bool = False) -> None:
    """Column-major, so axes are reversed; MATLAB's own 512-byte block in front.

    ``raw``: as it is published, ``depths`` painted in everywhere and holes in ``rawDepths`` alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        file["images"] = np.stack([t.image.transpose(2, 1, 0) for t in truths])
        file["depths"] = np.stack([(t.depth_m if raw else t.with_zeros).T for t in truths])
        if raw:
            file["rawDepths"] = np.stack([t.with_zeros.T for t in truths])
        file["labels"] = np.zeros((len(truths), 4, 4), np.uint16)


def uv_camera(field_rad: float, size_hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    """M_cam_from_uv of a camera that looks straight ahead."""
    half = np.tan(field_rad / 2)
    return np.diag([half, half * size_hw[0] / size_hw[1], -1.0])


def write_hypersim(
    folder: Path,
    t: Truth,
    radiance: npt.NDArray[np.float16],
    camera: npt.NDArray[np.float64] | None = None,
) -> None:
    """Depth as the length of the ray, NaN in the hole; rays of M_cam_from_uv, by default 60 degrees wide."""
    height, width = t.depth_m.shape
    camera = uv_camera(np.pi / 3, (height, width)) if camera is None else camera
    # as the data set's notebook casts them: half a pixel in from -1 and 1, v upwards
    u = np.linspace(-1 + 1 / width, 1 - 1 / width, width)
    v = np.linspace(-1 + 1 / height, 1 - 1 / height, height)[::-1]
    rays = np.stack(np.broadcast_arrays(u[None], v[:, None], 1.0), axis=-1) @ camera.T
    ray = np.linalg.norm(rays, axis=-1) / -rays[..., 2]
    for kind, name, array in (
        ("final", "color", radiance),
        ("geometry", "depth_meters", np.where(t.hole, np.nan, t.depth_m * ray).astype(np.float16)),
    ):
        path = folder / "images" / f"scene_cam_00_{kind}_hdf5" / f"frame.0000.{name}.hdf5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["dataset"] = array


def write_arkitscenes(folder: Path, t: Truth, video: str, sky: str) -> None:
    """As the sensor lies: the upright truth turned so that its top points to ``sky``."""
    turns = {"Up": 0, "Left": 1, "Down": 2, "Right": 3}[sky]
    image, depth = np.rot90(t.image, turns), np.rot90(millimetres(t.with_zeros), turns)
    top, name = folder / "Validation" / video, f"{video}_1.100"
    write_image(top / "wide" / f"{name}.png", np.ascontiguousarray(image))
    write_plane(top / "highres_depth" / f"{name}.png", np.ascontiguousarray(depth))
    intrinsics = top / "wide_intrinsics" / f"{name}.pincam"
    intrinsics.parent.mkdir(parents=True)
    intrinsics.write_text(f"{image.shape[1]} {image.shape[0]} 50.5 51.5 30.25 20.75\n")
    (folder / "metadata.csv").write_text(f"video_id,visit_id,fold,sky_direction\n{video},1,Validation,{sky}\n")


def write_ibims_mat(folder: Path, t: Truth, *, compressed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    k = np.array([[50.0, 0, 31], [0, 51, 23], [0, 0, 1]])
    masks = {"mask_invalid": (~t.hole).astype(np.uint8), "mask_transp": np.ones(t.hole.shape, np.uint8)}
    data = {"rgb": t.image, "depth": t.depth_m.astype(np.float64), "calib": k.T, **masks}
    scipy.io.savemat(folder / "corridor_01.mat", {"data": data}, do_compression=compressed)


def write_ibims_png(folder: Path, t: Truth) -> None:
    write_image(folder / "rgb/corridor_01.png", t.image)
    write_plane(folder / "depth/corridor_01.png", np.rint(t.depth_m * 65535 / 50).astype(np.uint16))
    write_plane(folder / "mask_invalid/corridor_01.png", (~t.hole).astype(np.uint8) * 255)
    write_plane(folder / "mask_transp/corridor_01.png", np.full(t.hole.shape, 255, np.uint8))
    (folder / "calib").mkdir()
    (folder / "calib/corridor_01.txt").write_text("50.0,51.0,31.0,23.0\n")


def write_middlebury(folder: Path, t: Truth) -> None:
    focal, baseline_mm, doffs = 994.978, 193.001, 31.278
    disparity = np.where(t.hole, np.inf, focal * baseline_mm / (t.depth_m * 1000) - doffs)
    write_image(folder / "im0.png", t.image)
    write_pfm(folder / "disp0.pfm", disparity.astype(np.float32))
    calib = f"cam0=[{focal} 0 311.193; 0 {focal} 254.877; 0 0 1]\ncam1=[{focal} 0 342.471; 0 {focal} 254.877; 0 0 1]\n"
    (folder / "calib.txt").write_text(f"{calib}doffs={doffs}\nbaseline={baseline_mm}\nwidth=64\nheight=48\nndisp=64\n")


def write_pfm(path: Path, samples: Depth, *, big_endian: bool = False) -> None:
    header = f"Pf\n{samples.shape[1]} {samples.shape[0]}\n{1.0 if big_endian else -1.0}\n".encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + samples[::-1].astype(">f4" if big_endian else "<f4").tobytes())


def write_diode(folder: Path, t: Truth, *, outdoor: bool = False) -> None:
    stem = folder / ("outdoor" if outdoor else "indoors") / "scene_00001/scan_00183" / "00019_00183_indoors_000_010"
    write_image(stem.with_suffix(".png"), t.image)
    write_plane(stem.with_name(f"{stem.name}_depth.npy"), t.with_zeros[..., None])
    write_plane(stem.with_name(f"{stem.name}_depth_mask.npy"), (~t.hole).astype(np.float32))


def write_tartanair(folder: Path, t: Truth) -> None:
    depth = np.where(t.hole, np.float32(10000), t.depth_m).astype(np.float32)  # its sky
    write_image(folder / "P000/image_left/000003_left.png", t.image)
    write_plane(folder / "P000/depth_left/000003_left_depth.npy", depth)
