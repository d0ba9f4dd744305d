"""The small valid files that fuzzing starts from, one folder each: ``python -m tests.fuzz.seeds`` writes those that
are missing.

Every kind of input the decoder takes, in each way of storing samples that leads to other code. They are kept as files,
so that a mutation named by its number stays what it was when a writer changes.
"""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from tests.fuzz.case import SEEDS, Case
from tests.fuzz.mutate import png_chunk
from tests.support.cr2 import Shot
from tests.support.dng import write_frame_dng
from tests.support.dump import interleave, stretch, write_dump
from tests.support.fixtures import Recipe, Truth, small_body, suffix, write
from tests.support.pgm import write_pdcapture

from dualpix.capture.profiles.profile import CameraProfile, Shading, write_profile
from dualpix.capture.raw.containers.tiff import SHORT, Tag
from dualpix.capture.raw.develop.geometry import Crop
from dualpix.capture.raw.write.dng import write_dual_pixel_dng
from dualpix.capture.raw.write.metadata import exif_block
from dualpix.capture.types import CaptureMeta

SIZE_HW, CROP = (44, 120), Crop(44, 8, 72, 36)
# Too few masked samples to measure black on: the metadata tell it.
SMALL_HW, SMALL_CROP = (32, 88), Crop(24, 8, 64, 24)
PAIR_HW = (24, 32)
Samples = npt.NDArray[Any]


def write_seeds(folder: Path) -> None:
    """Write the seeds that have no folder below ``folder`` yet: other versions of libraries write other bytes."""
    for case in (*_raws(), *_pairs(), *_arrays(), *_phones(), *_sheets()):
        if not (folder / case.kind).exists():
            case.save(folder / case.kind)


def _raws() -> list[Case]:
    turned = Shot(orientation=6, lens="EF50mm f/1.4 USM", focus_m=(2.41, 2.12))
    cases = [
        _raw("cr2", Recipe(full=500)),
        _raw("cr2-turned", Recipe(full=500, shot=turned, slices=(2, 44, 32), components=2, highlight=60.0)),
        _raw("cr3", Recipe("CR3", full=500)),
        _raw("cr3-one-tile", Recipe("CR3", full=500, tile_columns=1, shot=turned, seed=3)),
        _raw("c-raw", Recipe("C-RAW", full=500, quantiser=10)),
        _raw("dng-strip", Recipe("DNG-strip", full=500, bits=14), SMALL_HW, SMALL_CROP),
        _raw("dng-strip-ljpeg", Recipe("DNG-strip-ljpeg", full=500)),
        _raw("dng-tiles-ljpeg", Recipe("DNG-tiles-ljpeg", full=500, shot=turned)),
    ]
    truth = _truth()
    own = _written(
        lambda path: write_dual_pixel_dng(
            path,
            truth.composite,
            truth.half,
            white=16383,
            crop=SMALL_CROP,
            meta=CaptureMeta(f_number=1.8, focal_length_mm=50.0, pixel_pitch_um=10.0, disparity_gain=0.3),
        ),
        ".dng",
    )
    cases.append(Case("dng-own", "a.dng", {"a.dng": own}))
    for jpeg in (False, True):
        both = [
            _written(lambda path, f=frame, j=jpeg: write_frame_dng(path, f, SMALL_CROP, lossless_jpeg=j), ".dng")
            for frame in (truth.composite, truth.half)
        ]
        files = {"a.dng": both[0], "a_sub.dng": both[1]}
        cases.append(Case("dng-pair-ljpeg" if jpeg else "dng-pair", "a.dng", files))
    return cases


def _raw(kind: str, recipe: Recipe, size_hw: tuple[int, int] = SIZE_HW, crop: Crop = CROP) -> Case:
    ending = suffix(recipe.kind)
    whole = replace(recipe, body=small_body(recipe.kind, size_hw, crop), tile_wh=(64, 32))
    return Case(kind, f"a{ending}", {f"a{ending}": _written(lambda path: write(path, whole), ending)})


def _truth() -> Truth:
    with tempfile.TemporaryDirectory() as folder:
        body = small_body("DNG-strip", SMALL_HW, SMALL_CROP)
        return write(Path(folder) / "a.dng", Recipe("DNG-strip", body, full=500))


def _written(writer: Callable[[Path], Any], ending: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{ending}"
        writer(path)
        return path.read_bytes()


def _texture(size_hw: tuple[int, int], channels: int = 1, seed: int = 0) -> Samples:
    """(H, W) or (H, W, 3) float in 0..1."""
    noise = np.random.default_rng(seed).random((*size_hw, channels)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5).reshape(*size_hw, channels)
    return ((smooth - smooth.min()) / np.ptp(smooth)).squeeze()


def _two(dtype: str, channels: int = 1, seed: int = 0) -> tuple[Samples, Samples]:
    texture = _texture(PAIR_HW, channels, seed)
    scale = np.iinfo(dtype).max if dtype.startswith("u") else 1
    left = (texture * scale).astype(dtype)
    return left, np.roll(left, 1, axis=1)


def _pairs() -> list[Case]:
    gray8, gray16, rgb8, float32 = _two("uint8"), _two("uint16"), _two("uint8", 3), _two("float32")
    exif = exif_block([Tag(0x0112, SHORT, [6])], [Tag(0xA001, SHORT, [1])])
    return [
        _pair("pgm", ".pgm", gray8, lambda v: f"P5\n# text\n{v.shape[1]} {v.shape[0]}\n255\n".encode() + v.tobytes()),
        _pair("png-16", ".png", gray16, _encoded(".png")),
        _pair("png-rgb", ".png", rgb8, lambda v: _tagged_png(_encoded(".png")(v), exif)),
        _pair("jpeg", ".jpg", rgb8, lambda v: _tagged_jpeg(_encoded(".jpg")(v), exif)),
        _pair("jpeg-progressive", ".jpg", gray8, _encoded(".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])),
        _pair("tiff", ".tif", gray16, _tiff(extratags=[(0x0112, 3, 1, 8, True), (0x8773, 7, 160, _profile(), True)])),
        _pair("tiff-lzw", ".tif", rgb8, _encoded(".tif", [cv2.IMWRITE_TIFF_COMPRESSION, 5])),
        _pair("tiff-deflate-float", ".tif", float32, _tiff(compression="zlib")),
        _pair("tiff-tiled", ".tif", rgb8, _tiff(tile=(32, 32))),
        _pair("tiff-strips", ".tif", gray16, _tiff(rowsperstrip=5, byteorder=">")),
    ]


def _pair(kind: str, ending: str, halves: tuple[Samples, Samples], encode: Callable[[Samples], bytes]) -> Case:
    names = f"a_left{ending}", f"a_right{ending}"
    return Case(kind, names[0], {name: encode(half) for name, half in zip(names, halves, strict=True)})


def _encoded(ending: str, settings: list[int] | None = None) -> Callable[[Samples], bytes]:
    return lambda view: bytes(cv2.imencode(ending, view, settings or [])[1])


def _tiff(**settings: Any) -> Callable[[Samples], bytes]:
    settings = {"byteorder": "<", **settings}

    def encode(view: Samples) -> bytes:
        buffer = io.BytesIO()
        order = settings["byteorder"]
        options = {key: value for key, value in settings.items() if key != "byteorder"}
        photometric = "rgb" if view.ndim == 3 else "minisblack"
        tifffile.imwrite(buffer, view, byteorder=order, photometric=photometric, metadata=None, **options)
        return buffer.getvalue()

    return encode


def _equal_rows_png(row: Samples, height: int) -> bytes:
    """A 16-bit gray PNG of one row (1, W) again and again: filter Up leaves nothing of the others."""
    lines = b"\0" + row.astype(">u2").tobytes() + (b"\2" + bytes(2 * row.size)) * (height - 1)
    header = struct.pack(">IIBBBBB", row.size, height, 16, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


def _tagged_png(data: bytes, exif: bytes) -> bytes:
    """With the chunks the decoder looks at."""
    profile = png_chunk(b"iCCP", b"p\0\0" + zlib.compress(_profile()))
    return data[:33] + png_chunk(b"sRGB", b"\0") + profile + png_chunk(b"eXIf", exif) + data[33:]


def _tagged_jpeg(data: bytes, exif: bytes) -> bytes:
    body = b"Exif\0\0" + exif
    return data[:2] + struct.pack(">HH", 0xFFE1, len(body) + 2) + body + data[2:]


def _profile() -> bytes:
    """As much of an ICC profile as says that its curve is the identity."""
    curve = struct.pack(">4s4xI", b"curv", 0)
    return bytes(128) + struct.pack(">I4sII", 1, b"kTRC", 148, len(curve)) + curve.ljust(12, b"\0")


def _arrays() -> list[Case]:
    gray, colour = _two("uint16"), _two("uint16", 3)

    def npy(view: Samples) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, view)
        return buffer.getvalue()

    def npz(save: Callable[..., None], halves: tuple[Samples, Samples]) -> bytes:
        buffer = io.BytesIO()
        save(buffer, left=halves[0], right=halves[1])
        return buffer.getvalue()

    return [
        _pair("npy", ".npy", gray, npy),
        _pair("npy-fortran", ".npy", colour, lambda view: npy(np.asfortranarray(view.astype(">u2")))),
        Case("npz", "a.npz", {"a.npz": npz(np.savez, gray)}),
        Case("npz-deflate", "a.npz", {"a.npz": npz(np.savez_compressed, _two("uint8", 3))}),
    ]


def _phones() -> list[Case]:
    raw = [(64 + 900 * _texture((20, 32), seed=s)).astype(np.uint16) for s in (0, 1)]
    dump = _written(lambda path: write_dump(path, interleave(*raw), bits=10, stride_bytes=96), ".raw")
    wide = _written(lambda path: write_dump(path, stretch(interleave(*raw))), ".raw")
    pgm = [_written(lambda path, r=half: write_pdcapture(path, r), ".pgm") for half in raw]
    # Large ones, whose size tells their kind, but plain.
    ramp = np.arange(2016, dtype=np.uint16)[None]
    shifted = np.roll(ramp, 3)
    depth = [_equal_rows_png(half % 960 + 64, 756) for half in (ramp, shifted)]
    pixel4 = [_equal_rows_png(half * 7 + 1024, 1512) for half in (ramp, shifted)]
    return [
        Case("dump-10", "a.raw", {"a.raw": dump}, {"dump": "64x20x10:96"}),
        Case("dump-16", "a.raw", {"a.raw": wide}, {"dump": "64x20"}),
        Case("pgm-pdcapture", "a_left.pgm", {"a_left.pgm": pgm[0], "a_right.pgm": pgm[1]}),
        Case("png-raw-depth", "a_left.png", {"a_left.png": depth[0], "a_right.png": depth[1]}),
        Case("png-pixel4", "a_left.png", {"a_left.png": pixel4[0], "a_right.png": pixel4[1]}),
    ]


def _sheets() -> list[Case]:
    """What else a decode reads: a shading profile, white sheets."""
    light = np.linspace(0.5, 1, 12, dtype=np.float32).reshape(3, 4, 1)
    shading = Shading(light, light[:, ::-1].copy(), (1.1,), 0.1, 0.2)
    profile = CameraProfile(PAIR_HW, shading, f_number=1.8, sources=("a.npz",))
    text = _written(lambda path: write_profile(path, profile), ".json")
    halves = next(case for case in _arrays() if case.kind == "npz").files["a.npz"]
    return [
        Case("shading-profile", "a.npz", {"a.npz": halves, "p.json": text}, {"shading": "p.json"}),
        Case("flat-field", "a.npz", {"a.npz": halves, "s.npz": halves}, {"flat_field": ["s.npz", "s.npz"]}),
    ]


if __name__ == "__main__":
    write_seeds(SEEDS)
    size = sum(path.stat().st_size for path in SEEDS.rglob("*") if path.is_file())
    print(f"{len(list(SEEDS.iterdir()))} seeds, {size / 1e3:.0f} kB in {SEEDS}")
