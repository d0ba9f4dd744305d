"""A scene with depth for tests of pages and of refocusing."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import cv2
import numpy as np

from dualpix.capture.pictures.colour_map import Rgb
from dualpix.capture.pictures.display import srgb_from_linear
from dualpix.capture.pictures.points import Pinhole
from dualpix.capture.scenes import make_scene
from dualpix.capture.types import FloatImage
from dualpix.models.view.codes import Digits
from dualpix.models.view.scene import Defocus, Estimate, Picture, Scene, ValueMap


def shown_scene(size_hw: tuple[int, int] = (96, 128), seed: int = 3, *, px_per_unit: float = 10.0) -> Scene:
    """A procedural scene as a stack's result: disparity as coordinate, metres, confidence."""
    made = make_scene(seed, size_hw)
    near = np.asarray(made.proximity(), np.float32)  # 0 far, 1 near
    rgb = np.rint(np.clip(srgb_from_linear(np.asarray(made.all_in_focus(), np.float32)), 0, 1) * 255).astype(np.uint8)
    disparity = (0.5 - near).astype(np.float32)
    depth = (1 / (0.4 + 1.6 * near)).astype(np.float32)
    depth[:3, :5] = np.nan
    depth[5, 7] = np.inf
    sure = np.linspace(0, 1, near.size, dtype=np.float32).reshape(near.shape)
    maps = (
        ValueMap("disparity", "disparity", disparity, "px", "diverging", Digits("fixed", 3), (-0.5, 0.5)),
        ValueMap("depth", "depth from the lens", depth, "m", "depth", Digits("significant", 4), (0.4, 2.0)),
        ValueMap("confidence", "confidence", sure, "", "sequential", Digits("fixed", 3), (0.0, 1.0)),
    )
    defocus = Defocus("disparity", px_per_unit, 2.0, 0.05, 1.2, -1.6)
    views = tuple(Picture(name, f"{name} half", np.roll(rgb, shift, 1)) for name, shift in (("left", -2), ("right", 2)))
    return Scene(
        "scene", "dual-pixel", size_hw, picture=Picture("picture", "full aperture", rgb), views=views,
        estimates=(Estimate("method", maps, defocus, (("method", "one"),)),),
        pinhole=Pinhole(150.0, 150.0, (size_hw[1] - 1) / 2, (size_hw[0] - 1) / 2),
    )  # fmt: skip


def data_of(page: bytes) -> dict[str, Any]:
    """The JSON of a page, as a browser takes it from its block."""
    found = re.search(rb'<script id="data" type="application/json">(.*?)</script', page, re.S | re.I)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    first = re.search(rb'<img id="first" src="([^"]*)"', page)
    for told in data["scenes"]:
        for picture in told["pictures"]:
            if picture["uri"] is None:
                assert first is not None
                picture["uri"] = first[1].decode()
    return data


def picture_of(uri: str) -> Rgb:
    """A picture from its data URI."""
    data = base64.b64decode(uri.partition("base64,")[2])
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.asarray(bgr[..., ::-1], np.uint8)


def psnr_db(one: FloatImage | Rgb, other: FloatImage | Rgb) -> float:
    """Of 8-bit pictures."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)))
