"""Benchmarks' folders in their official layouts, small, with pictures of noise and truths that are easy to reckon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np

from dualpix.models.evaluate.protocols import dpd_disp_fmdp

Array = np.ndarray


def noise(size_hw: tuple[int, int], seed: int = 0, dtype: type = np.uint8, channels: int = 3) -> Array:
    """A picture that can be matched."""
    rng, top = np.random.default_rng(seed), np.iinfo(dtype).max
    shape = (*size_hw, channels) if channels > 1 else size_hw
    smooth = cv2.GaussianBlur(rng.random(shape, np.float32), (0, 0), 2)
    return np.rint((smooth - smooth.min()) / np.ptp(smooth) * 0.8 * top + 0.1 * top).astype(dtype)


def halves(size_hw: tuple[int, int], left: float, right: float, dtype: type = np.float32) -> Array:
    """A map of two values, side by side."""
    values = np.full(size_hw, left, dtype)
    values[:, size_hw[1] // 2 :] = right
    return values


def write(path: Path, values: Array) -> None:
    """A picture (R, G, B) or an array, by its suffix; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".pfm":
        header = f"Pf\n{values.shape[1]} {values.shape[0]}\n-1.0\n".encode()
        path.write_bytes(header + np.ascontiguousarray(values[::-1], "<f4").tobytes())
    else:
        assert cv2.imwrite(str(path), values[..., ::-1] if values.ndim == 3 else values)


def write_pair(left: Path, right: Path, size_hw: tuple[int, int], **options: object) -> None:
    view = noise(size_hw, **options)  # type: ignore[arg-type]
    write(left, view)
    write(right, np.roll(view, 1, axis=1))


def dpd_disp_iccp(folder: Path) -> None:
    write_pair(folder / "005_L.jpg", folder / "005_R.jpg", (700, 800))
    write(folder / "005_D.TIF", halves((700, 800), 51, 102, np.uint8))


def dpd_disp_fmdp_tree(folder: Path) -> None:
    """Of the real size, which the crop is of; grey, to be quick."""
    size = (dpd_disp_fmdp.CROP_HW[0], 5180)
    left, right = (folder / f"test_{half}/source/seq_1/007_{half.upper()}.jpg" for half in "lr")
    ramp = np.broadcast_to(np.arange(size[1], dtype=np.int32) % 251, size).astype(np.uint8)
    write(left, ramp)
    write(right, np.roll(ramp, 1, axis=1))
    write(folder / "test_c/target_depth/seq_1/007_D.TIF", halves(size, 51, 102, np.uint8))


def google_dp(folder: Path) -> None:
    size, capture = (520, 390), "20180302_x"
    left, right = (folder / f"test/{s}_pd/{capture}/result_{s}Pd_center.png" for s in ("left", "right"))
    view = noise((1040, 780), channels=1)
    write(left, view)
    write(right, np.roll(view, 2, axis=0))
    write(folder / f"test/merged_depth/{capture}/result_merged_depth_center.png", halves(size, 51, 102, np.uint8))
    write(folder / f"test/merged_conf/{capture}/result_merged_conf_center.npy", halves(size, 1, 3))


def ddd_syn(folder: Path) -> None:
    for name in ("6001", "6002"):
        write_pair(folder / f"testing/dp/{name}_l.png", folder / f"testing/dp/{name}_r.png", (48, 64))
        write(folder / f"testing/disp/{name}_dm.pfm", halves((48, 64), 0.5, 2.0))
        write(folder / f"testing/gt/{name}_m.png", noise((48, 64), 7))


def dpdd(folder: Path) -> None:
    for number, part in enumerate(("test_c/source", "test_l/source", "test_r/source", "test_c/target")):
        write(folder / part / "1P0A0917.png", noise((48, 64), number, np.uint16))


def ddff12(folder: Path) -> None:
    with h5py.File(folder / "my_ddff_trainVal.h5", "w") as file:
        frames = np.stack([noise((40, 48), seed) for seed in range(10)]).astype(np.float32)
        file["stack_val"] = np.stack([frames, frames[:, ::-1]])
        truth = halves((40, 48), 0.05, 0.2)
        truth[:4] = 0
        file["disp_val"] = np.stack([truth, truth[::-1]])


def zedd(folder: Path) -> None:
    codes = ("6D3E", "4EA8", "3B39", "2D09", "2371", "1DB4", "183F", "1657", "1113")
    metres = (0.82, 1.2, 1.73, 2.3, 3.08, 4.0, 4.93, 6.2, 8.1)
    lines = [f"run_{run}\t{code}\t{m}" for run, code, m in zip(range(1, 10), codes, metres, strict=True)]
    (folder / "metadata.txt").write_text("# run, motor, metres\n" + "\n".join(lines) + "\n")
    scene = folder / "val/val_0001"
    for run in (1, 3, 5, 7, 9):
        path = scene / f"focus_stack/img_run_{run}_motor_{codes[run - 1]}_aperture_F2.8.jpg"
        write(path, noise((608, 912), run))
    depth = halves((608, 912), 1.0, 4.0)
    depth[:100] = np.nan
    write(scene / "gt/depth.npy", depth)
    (scene / "gt/K.txt").write_text("1322.35 0 469.0\n0 1324.8 298.6\n0 0 1\n")


def infinigen_defocus(folder: Path) -> None:
    for scene in ("1a4897de_1", "1a4897de_2"):
        for metres in ("0.80", "1.70", "3.00", "4.70", "8.00"):
            write(folder / scene / f"image_ap_1.40_fd_{metres}.png", noise((48, 64), int(float(metres) * 10)))
        depth = halves((48, 64), 1.0, 4.0)
        depth[:8] = np.inf
        write(folder / scene / "depth.npy", depth)


def ibims1(folder: Path) -> None:
    root, name = folder / "ibims1_core_raw", "kitchen_01"
    write(root / f"rgb/{name}.png", noise((48, 64)))
    depth = halves((48, 64), 1.0, 4.0)
    depth[:6] = 0
    write(root / f"depth/{name}.png", np.rint(depth * 65535 / 50).astype(np.uint16))
    valid, opaque = np.full((2, 48, 64), 255, np.uint8)
    valid[:, :4], opaque[:, -4:] = 0, 0
    write(root / f"mask_invalid/{name}.png", valid)
    write(root / f"mask_transp/{name}.png", opaque)
    (root / "calib").mkdir()
    (root / f"calib/{name}.txt").write_text("55.0,55.2,32.0,24.0\n")


def nyuv2(folder: Path) -> None:
    write(folder / "test/bathroom/rgb_00045.jpg", noise((480, 640)))
    depth = halves((480, 640), 1000, 4000, np.uint16)
    depth[:60] = 0
    write(folder / "test/bathroom/sync_depth_00045.png", depth)
    (folder / "nyu_test.txt").write_text("bathroom/rgb_00045.jpg bathroom/sync_depth_00045.png 518.8579\n")


def fod500(folder: Path) -> None:
    for number in ("000399", "000400"):
        for frame in range(5):
            write(folder / f"fs_6/{number}_0{frame}All.tif", noise((32, 32), frame))
        depth = halves((32, 32), 0.2, 1.0)
        depth[:4] = 0
        write(folder / f"fs_6/{number}Dpt.npy", depth)


def labelled(folder: Path) -> None:
    """As `dualpix rig label` writes it: a disparity with holes, and how sure it is."""
    truth = np.tile(np.linspace(-2, 3, 64, dtype=np.float32), (48, 1))
    truth[:10] = np.nan
    sure = np.where(np.isfinite(truth), np.float32(0.9), np.float32(0))
    write_pair(folder / "scene0_left.png", folder / "scene0_right.png", (48, 64))
    write(folder / "scene0_disparity_px.npy", truth)
    write(folder / "scene0_confidence.npy", sure)


MAKERS: dict[str, Callable[[Path], None]] = {
    "dpd-disp-iccp": dpd_disp_iccp,
    "dpd-disp-fmdp": dpd_disp_fmdp_tree,
    "google-dp": google_dp,
    "ddd-syn": ddd_syn,
    "ddd-syn-image": ddd_syn,
    "dpdd": dpdd,
    "ddff12": ddff12,
    "zedd": zedd,
    "infinigen-defocus": infinigen_defocus,
    "ibims1": ibims1,
    "ibims1-adaptive": ibims1,
    "nyuv2-stacks": nyuv2,
    "fod500": fod500,
    "labelled": labelled,
}
