"""What Python makes of focus stacks, for the app's core: see ``make_golden.py``.

Convention: as there. Frames are small raw files of every form that the app may meet; what is matched is a formula,
which both sides evaluate, so that its motion is known exactly.
"""

from __future__ import annotations

import base64
import math
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from tests.support.dng import write_frame_dng

from dualpix.capture.raw.containers.tiff import ASCII, BYTE, LONG, RATIONAL, SHORT, SRATIONAL, Tag, ifd_bytes
from dualpix.capture.raw.develop.geometry import Crop
from dualpix.capture.raw.write.dng import write_dual_pixel_dng
from dualpix.capture.stack.judge.align import Matrix, estimate_alignment
from dualpix.capture.stack.keep.frames import read_light
from dualpix.capture.stack.keep.listing import ListedFrame
from dualpix.capture.stack.keep.load import exposure_gains, light_of
from dualpix.models.prepare import blur_px_per_diopter, stack_inputs, width_per_focal
from dualpix.models.tasks.focus_stack import FARTHEST_M, NEAREST_M

Doubles = npt.NDArray[np.float64]
OUT_WH = (10, 7)
"""Of the reduced frames: a half of their cells."""
SIZE_WH = (128, 96)
DIOPTERS = (0.1, 0.9, 1.8, 2.6, 3.5)


def stack() -> dict[str, Any]:
    """The content of ``core-stack.json``."""
    rng = np.random.default_rng(17)
    return {
        "frames": frames(rng),
        "inputs": inputs(rng),
        "warp": warp(rng),
        "alignment": alignment(),
        "enlarged": enlarged(rng),
    }


# --- raw frames ----------------------------------------------------------------------------------------------------


def frames(rng: np.random.Generator) -> dict[str, Any]:
    """Files, the light in them, its tiles, and the gains that bring all to the light of the first."""
    height, width = 28, 40
    scene = cv2.resize(rng.uniform(0.05, 0.7, (5, 6)), (width, height), interpolation=cv2.INTER_CUBIC)
    crop = Crop(4, 2, width, height)
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, share in (("plain", 1.0), ("dual", 0.83), ("phone", 1.21)):
            path = folder / f"{kind}.dng"
            _write(path, kind, scene * share, crop)
            files[kind] = path.read_bytes()
        paths = {kind: folder / f"{kind}.dng" for kind in files}
        decoded = {kind: read_light(path) for kind, path in paths.items()}
        listed = {kind: ListedFrame(path, 1.0, 0.01, "test", 0, iso=100) for kind, path in paths.items()}
        light = {kind: light_of(listed[kind], decoded[kind]) for kind in files}
        gains = exposure_gains(list(light.values()))
    out = []
    for kind, content in files.items():
        image = decoded[kind].image
        tiles = light[kind].tiles.ravel()
        out.append(
            {
                "kind": kind,
                "file": base64.b64encode(content).decode(),
                "cells": [image.shape[1], image.shape[0]],
                "light": _float32(_reduced(image.transpose(2, 0, 1).astype(np.float64), *OUT_WH)).ravel().tolist(),
                "tiles": [None if math.isnan(t) else t for t in tiles.tolist()],
            }
        )
    return {"files": out, "gains": gains, "out": OUT_WH}


def _write(path: Path, kind: str, scene: Doubles, crop: Crop) -> None:
    full = np.pad(scene, ((crop.top, 2), (crop.left, 2)), mode="edge")
    full[crop.top + 3 : crop.top + 9, crop.left + 5 : crop.left + 13] = 2.0  # a light
    if kind == "phone":
        levels = (64.0, 63.75, 64.5, 65.25)
        _write_phone(path, np.rint(full * 959 + 64).clip(0, 1023).astype(np.uint16), crop, levels)
        return
    codes = np.rint(full * 13496 + 512).clip(0, 14008).astype(np.uint16)
    if kind == "plain":
        write_frame_dng(path, codes, crop)
    else:
        write_dual_pixel_dng(path, codes, np.asarray(codes // 2 + 256, np.uint16), white=14008, crop=crop)


def _write_phone(path: Path, samples: npt.NDArray[np.uint16], crop: Crop, black: Sequence[float]) -> None:
    """As DngCreator writes one: rational black levels of a cell, strips of a few rows, here of a GRBG mosaic."""
    height, width = samples.shape
    rows = 5
    strips = [samples[top : top + rows].astype("<u2").tobytes() for top in range(0, height, rows)]

    def header(starts: Sequence[int]) -> bytes:
        tags = [
            Tag(0x00FE, LONG, [0]), Tag(0x0100, LONG, [width]), Tag(0x0101, LONG, [height]), Tag(0x0102, SHORT, [16]),
            Tag(0x0103, SHORT, [1]), Tag(0x0106, SHORT, [32803]), Tag(0x010F, ASCII, b"Google"),
            Tag(0x0110, ASCII, b"Pixel 4"), Tag(0x0111, LONG, list(starts)), Tag(0x0112, SHORT, [1]),
            Tag(0x0115, SHORT, [1]), Tag(0x0116, LONG, [rows]), Tag(0x0117, LONG, [len(s) for s in strips]),
            Tag(0x011C, SHORT, [1]), Tag(0x828D, SHORT, [2, 2]), Tag(0x828E, BYTE, [1, 0, 2, 1]),
            Tag(0xC612, BYTE, [1, 4, 0, 0]), Tag(0xC614, ASCII, b"Pixel 4-google-google"), Tag(0xC619, SHORT, [2, 2]),
            Tag(0xC61A, RATIONAL, list(black)), Tag(0xC61D, LONG, [1023]), Tag(0xC61F, LONG, [0, 0]),
            Tag(0xC620, LONG, [crop.width, crop.height]), Tag(0xC621, SRATIONAL, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
            Tag(0xC628, RATIONAL, [1, 1, 1]), Tag(0xC65A, SHORT, [21]),
            Tag(0xC68D, LONG, [crop.top, crop.left, crop.top + crop.height, crop.left + crop.width]),
        ]  # fmt: skip
        return struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes(tags, 8)

    first = len(header([0] * len(strips)))
    starts = (first + np.cumsum([0, *(len(s) for s in strips[:-1])])).tolist()
    path.write_bytes(header(starts) + b"".join(strips))


# --- what networks see ---------------------------------------------------------------------------------------------


def inputs(rng: np.random.Generator) -> dict[str, Any]:
    """Linear frames and focus, and what the network is to see of them."""
    linear = _float32(rng.uniform(-0.02, 1.2, (3, 3, 4, 5)))
    linear[2] *= 4
    diopters = [0.0, 1.25, 8.0]
    distances = np.minimum([math.inf, *(1 / d for d in diopters[1:])], FARTHEST_M)
    seen, focus = stack_inputs(torch.from_numpy(_float32(linear))[None], torch.from_numpy(distances)[None])
    # a part of 1900 colour pixels, each of two of a sensor of 1.2 um, behind a lens of 6.9 mm
    width = width_per_focal(1900, torch.tensor([6.9]), torch.tensor([2.4]))
    # at f/1.73, shown to a network in 512 px
    pitch_um = torch.tensor([2.4 * 1900 / 512])
    blur = blur_px_per_diopter(focus.float(), torch.tensor([6.9]), torch.tensor([1.73]), pitch_um)
    return {
        "linear": linear.reshape(3, -1).tolist(), "size": [5, 4], "diopters": diopters, "width": width.tolist(),
        "blur": blur[0].tolist(),
        "frames": _float32(seen.numpy()).ravel().tolist(), "focus": focus.numpy().ravel().tolist(),
    }  # fmt: skip


def enlarged(rng: np.random.Generator) -> dict[str, Any]:
    """Depth brought back to another size, as :func:`dualpix.models.stacks.depth.predict_stack_depth` does."""
    depth = _float32(rng.uniform(0.2, 3.0, (4, 6)))
    depth[0, 0], depth[1, 2] = 2e4, -1.0
    diopters = 1.0 / np.maximum(depth, NEAREST_M)
    full = cv2.resize(diopters, (15, 11), interpolation=cv2.INTER_LINEAR)
    return {
        "depth_m": depth.ravel().tolist(), "size": [6, 4], "out": [15, 11],
        "full_m": (1.0 / np.maximum(full, 1.0 / FARTHEST_M)).ravel().tolist(),
    }  # fmt: skip


# --- alignment -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wave:
    """Of the scene that is matched: one cosine."""

    amount: float
    along_x: float
    along_y: float
    phase: float


def _waves() -> list[Wave]:
    rng = np.random.default_rng(23)
    return [Wave(*rng.uniform((0.2, -0.5, -0.5, 0), (1.0, 0.5, 0.5, 2 * math.pi)).tolist()) for _ in range(24)]


def scene_at(x: Doubles, y: Doubles) -> Doubles:
    """Root of light of the scene."""
    value = np.zeros_like(x)
    for wave in _waves():
        value += wave.amount * np.cos(wave.along_x * x + wave.along_y * y + wave.phase)
    return np.asarray(0.5 + 0.02 * value)


def true_maps() -> list[Matrix]:
    """From the scene to each frame: breathing, and a hand that shakes."""
    width, height = SIZE_WH
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shake = [(0.0, 0.0, 0.0), (0.8, -0.5, 0.2), (-0.6, 0.9, -0.15), (1.4, 0.3, 0.1), (-0.7, -1.1, 0.3)]
    out = []
    for d, (dx, dy, degrees) in zip(DIOPTERS, shake, strict=True):
        scale, angle = 1 + 0.012 * (d - DIOPTERS[0]), math.radians(degrees)
        turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        out.append(np.column_stack([turn, centre - turn @ centre + (dx, dy)]))
    return out


def alignment() -> dict[str, Any]:
    """Frames as a formula, and where :func:`estimate_alignment` finds them."""
    width, height = SIZE_WH
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    grays = []
    for matrix in true_maps():
        back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
        roots = scene_at(back[0, 0] * x + back[0, 1] * y + back[0, 2], back[1, 0] * x + back[1, 1] * y + back[1, 2])
        grays.append((roots**2).astype(np.float32))
    found = estimate_alignment(np.stack(grays), DIOPTERS)
    true = [np.vstack([m, [0, 0, 1]]) for m in true_maps()]
    relative = [(m @ np.linalg.inv(true[found.reference]))[:2] for m in true]
    return {
        "size": SIZE_WH, "diopters": DIOPTERS,
        "waves": [[w.amount, w.along_x, w.along_y, w.phase] for w in _waves()],
        "maps": [m.ravel().tolist() for m in true_maps()],
        "relative": [m.ravel().tolist() for m in relative], "reference": found.reference,
        "found": [m.ravel().tolist() for m in found.matrices], "beta": found.beta,
        "correlation": list(found.correlation), "linear": found.linear,
    }  # fmt: skip


def warp(rng: np.random.Generator) -> dict[str, Any]:
    """A picture (3, 6, 8) through a map, by Keys' cubic with slope -3/4 as OpenCV has it, but between its steps."""
    picture = _float32(rng.uniform(0, 1, (3, 6, 8)))
    matrix = np.array([[1.01, -0.02, 0.3], [0.015, 0.99, -0.4]])
    return {
        "picture": picture.ravel().tolist(), "size": [8, 6], "matrix": matrix.ravel().tolist(),
        "warped": _float32(exactly_warped(picture, matrix)).ravel().tolist(),
    }  # fmt: skip


def exactly_warped(picture: Doubles, matrix: Matrix) -> Doubles:
    """(C, H, W) as :func:`dualpix.capture.stack.judge.align.warped` makes it, without its steps of 1/32 px."""
    _, height, width = picture.shape
    out = np.empty_like(picture)
    for row in range(height):
        for column in range(width):
            x, y = matrix @ (column, row, 1)
            left, top = math.floor(x), math.floor(y)
            columns = np.clip(np.arange(left - 1, left + 3), 0, width - 1)
            rows = np.clip(np.arange(top - 1, top + 3), 0, height - 1)
            out[:, row, column] = _weights(y - top) @ picture[:, rows][:, :, columns] @ _weights(x - left)
    return out


def _weights(share: float) -> Doubles:
    away = np.abs(np.array([share + 1, share, 1 - share, 2 - share]))
    a = -0.75
    near = (a + 2) * away**3 - (a + 3) * away**2 + 1
    return np.where(away <= 1, near, a * away**3 - 5 * a * away**2 + 8 * a * away - 4 * a)


def _reduced(picture: Doubles, width: int, height: int) -> Doubles:
    from tests.android_demo.make_golden import reduced

    return reduced(picture, width, height)


def _float32(values: Any) -> Doubles:
    return np.asarray(values, np.float32).astype(np.float64)
