"""The result folder of ``dualpix decode``: written whole or not at all.

TIFF files are linear, black-subtracted, 16-bit: ``value = code / 65535 * full_scale`` with one ``full_scale`` for the
three views, stated in ``decode.json``: 1.0 (white level), or more where a view exceeds it, so that no light clips.
Negative values (noise around black) are stored as 0; the floats of :func:`dualpix.capture.raw.decode` keep them.
"""

from __future__ import annotations

import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rawpy
import tifffile

from dualpix.capture.errors import OutputError
from dualpix.capture.files import atomic_dir, write_json
from dualpix.capture.picture import square_pixels, to_display
from dualpix.capture.raw import RawCapture
from dualpix.capture.types import FloatImage

SIDECAR = "decode.json"


def write_capture(capture: RawCapture, inputs: list[Path], folder: Path, *, frames: bool = False) -> dict[str, Any]:
    """Write a decoded capture as ``folder``; an earlier result there is replaced, any other folder is left alone.

    Args:
        capture: what to write.
        inputs: the files it came from, named in the sidecar.
        folder: the result folder; its parents are made.
        frames: also write ``frames.npz`` with the untouched sensor frames.

    Returns:
        The content of ``decode.json``.

    Raises:
        OutputError: the folder cannot be written or holds something else.
    """
    with atomic_dir(folder, SIDECAR) as temporary:
        return _write_files(capture, inputs, temporary, frames)


def _write_files(capture: RawCapture, inputs: list[Path], folder: Path, frames: bool) -> dict[str, Any]:
    image = capture.image
    views = {"left": image.left, "right": image.right, "combined": image.combined}
    full_scale = _full_scale(list(views.values()))
    for name, view in views.items():
        _write_tiff(folder / f"{name}.tiff", view, full_scale)
    _write_png(folder / "saturated.png", image.saturated.astype(np.uint8) * 255)
    _write_png(folder / "preview.png", _preview(capture)[..., ::-1])
    if frames:
        arrays: dict[str, Any] = dict(capture.frames())
        np.savez_compressed(folder / "frames.npz", **arrays)
    record = _sidecar(capture, inputs, full_scale)
    write_json(folder / SIDECAR, record)
    return record


def _full_scale(views: list[FloatImage]) -> float:
    peak = max(float(v.max()) for v in views)
    return max(1.0, math.ceil(peak * 1000) / 1000)


def _write_tiff(path: Path, view: FloatImage, full_scale: float) -> None:
    codes = np.round(np.clip(view / np.float32(full_scale), 0, 1) * 65535).astype(np.uint16)
    description = f"linear light, black-subtracted; value = code / 65535 * {full_scale:g}"
    photometric = "rgb" if view.ndim == 3 else "minisblack"
    tifffile.imwrite(path, codes, photometric=photometric, description=description, software="dualpix", metadata=None)


def _write_png(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(".png", np.ascontiguousarray(picture))
    if not done:
        raise OutputError(f"cannot encode '{path.name}' of {picture.shape}")
    path.write_bytes(data.tobytes())


def _preview(capture: RawCapture) -> npt.NDArray[np.uint8]:
    if capture.details.get("encoding", "").startswith("srgb"):  # exported for display: shown as it was
        picture = to_display(capture.image.combined, white_balance=(1.0, 1.0, 1.0), exposure=1.0)
    else:
        picture = to_display(capture.image.combined, white_balance=capture.details.get("white_balance"))
    return square_pixels(picture, capture.image.meta.pixel_aspect, capture.image.baseline, smooth=True)


def _sidecar(capture: RawCapture, inputs: list[Path], full_scale: float) -> dict[str, Any]:
    image = capture.image
    height, width = image.size_hw
    return {
        "inputs": [path.name for path in inputs],
        "decoder": capture.decoder,
        "meta": image.meta.to_json(),
        "baseline": image.baseline,
        "sign": f"{image.baseline}_right - {image.baseline}_left > 0 behind the focus plane",
        "size": {"width": width, "height": height, "channels": 3 if image.left.ndim == 3 else 1},
        "saturated_fraction": round(float(image.saturated.mean()), 6),
        "tiff": {
            "full_scale": full_scale,
            "meaning": "linear value = code / 65535 * full_scale, 1.0 = white level; negative values are stored as 0",
        },
        "sensor": dict(capture.details),
        "versions": {
            "dualpix": version("dualpix"),
            "libraw": ".".join(map(str, rawpy.libraw_version)),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
    }
