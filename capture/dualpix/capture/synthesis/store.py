"""Samples to files: the members of a sample, folders, and WebDataset shards.

Views are 16-bit PNG of linear light, ``light = code / 65535 * full_scale`` with the one ``full_scale`` of ``json``;
noise below zero is cut off. ``depth.npy`` (or ``.tiff``) is float32 in m, filled; ``measured.png`` is 0 where it was
filled. ``saturated.png``, of pairs through a sensor, is 255 where a sample clipped. In ``json`` a focus at infinity is
the text "inf".
The bytes depend on the sample alone: no dates, no names of machines.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from dualpix.capture.errors import OutputError
from dualpix.capture.files import json_ready
from dualpix.capture.raw.write.writers import Coding, full_scale_for

if TYPE_CHECKING:  # torch would come along
    from dualpix.capture.synthesis.sample import RenderedSample

DepthFormat = Literal["npy", "tiff"]
ViewFormat = Literal["png", "tiff"]
_PNG_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def members_of(sample: RenderedSample, views: ViewFormat, depth: DepthFormat) -> dict[str, bytes]:
    """The files of a sample by ending: "left.png" ... "depth.npy", "measured.png", "json"."""
    images: dict[str, npt.NDArray[np.float32]] = {}
    if sample.left is not None and sample.right is not None:
        images |= {"left": sample.left, "right": sample.right}
    images |= {f"frame{number:02}": frame for number, frame in enumerate(sample.stack)}
    return _encoded(sample, images, views, depth)


def with_sharp(sample: RenderedSample, views: ViewFormat, depth: DepthFormat) -> dict[str, bytes]:
    """As :func:`members_of`, with the all-in-focus picture as "sharp"."""
    members = members_of(sample, views, depth)
    coding = Coding(16, full_scale=json.loads(members["json"])["full_scale"])
    return {f"sharp.{views}": _image(sample.view.image, coding, views), **members}


def _encoded(
    sample: RenderedSample, images: Mapping[str, npt.NDArray[np.float32]], views: ViewFormat, depth: DepthFormat
) -> dict[str, bytes]:
    peak = max(float(sample.view.image.max()), *(float(image.max()) for image in images.values()))
    coding = Coding(16, full_scale=full_scale_for(peak))
    members = {f"{name}.{views}": _image(image, coding, views) for name, image in images.items()}
    members[f"depth.{depth}"] = _depth(sample.view.depth_m, depth)
    members["measured.png"] = _png(sample.view.measured.astype(np.uint8) * 255)
    if sample.saturated is not None:
        members["saturated.png"] = _png(sample.saturated.astype(np.uint8) * 255)
    told = json_ready(about(sample, coding), infinity="inf")
    members["json"] = (json.dumps(told, indent=1, allow_nan=False) + "\n").encode()
    return members


def about(sample: RenderedSample, coding: Coding) -> dict[str, Any]:
    """The content of a sample's ``json``."""
    lens, view = sample.lens, sample.view
    height, width = view.depth_m.shape
    return {
        "index": sample.spec.index,
        "name": view.name,
        "source": view.source,
        "size": {"width": width, "height": height},
        "full_scale": coding.full_scale,
        "light": coding.meaning,
        "lens": {
            "focal_length_mm": lens.focal_length_mm,
            "f_number": round(lens.f_number, 6),
            "focus_distance_m": lens.focus_distance_m,
            "pixel_pitch_um": lens.pixel_pitch_um,
            "disparity_gain": lens.disparity_gain,
        },
        "baseline": "x",
        "coc_px": _range(sample.coc_px),
        "disparity_px": _range(sample.disparity_px),
        "disparity_gain_grid": None if sample.gain is None else [[round(float(k), 6) for k in r] for r in sample.gain],
        "depth_m": _range(view.depth_m[np.isfinite(view.depth_m)]),
        "filled_fraction": round(1 - float(view.measured.mean()), 6),
        "stack_focus_distance_m": list(sample.stack_focus_m),
        "warnings": list(view.warnings),
    }


def write_folder(folder: Path, members: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Write the members as files of ``folder``; returns name, size and digest of each."""
    return [_written(folder, "sample.json" if name == "json" else name, data) for name, data in members.items()]


class ShardWriter:
    """``with ShardWriter(path) as shard: shard.add("000001", members)``: a plain tar in the order of WebDataset."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Add a sample; all members of a key lie together, as WebDataset expects."""
        for name, data in members.items():
            entry = tarfile.TarInfo(f"{key}.{name}")  # no owner, no date: the same sample gives the same bytes
            entry.size, entry.mode = len(data), 0o644
            self._tar.addfile(entry, io.BytesIO(data))


def digest_of(path: Path) -> dict[str, Any]:
    """Name, size and SHA-256 of a file."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256}


def _written(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    (folder / name).write_bytes(data)
    return {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _image(light: npt.NDArray[np.float32], coding: Coding, kind: ViewFormat) -> bytes:
    codes = coding.encode(light)
    return _png(codes[..., ::-1]) if kind == "png" else _tiff(codes, "rgb")


def _depth(depth_m: npt.NDArray[np.float32], kind: DepthFormat) -> bytes:
    if kind == "tiff":
        return _tiff(depth_m, "minisblack")
    buffer = io.BytesIO()
    np.save(buffer, depth_m, allow_pickle=False)
    return buffer.getvalue()


def _png(codes: npt.NDArray[Any]) -> bytes:
    done, data = cv2.imencode(".png", np.ascontiguousarray(codes), _PNG_FAST)
    if not done:
        raise OutputError(f"cannot encode a picture of {codes.shape} as PNG")
    return data.tobytes()


def _tiff(samples: npt.NDArray[Any], photometric: str) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.ascontiguousarray(samples), photometric=photometric, metadata=None, software=False)
    return buffer.getvalue()


def _range(values: npt.NDArray[np.float32]) -> list[float]:
    return [round(float(values.min()), 5), round(float(values.max()), 5)] if values.size else []
