"""Damaged DNG and TIFF of the forms that are unpacked here give light or one line, never another exception."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.tiffs import RATIONAL, SHORT, SRATIONAL, Form, dng_tags, write_tiff

from dualpix.capture.errors import DualpixError
from dualpix.capture.raw import decode_capture
from dualpix.capture.raw.containers.images import read_picture
from dualpix.capture.raw.inspect import inspect
from dualpix.capture.stack.keep.frames import read_light

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RNG = np.random.default_rng(8)
COUNTS = RNG.integers(600, 10000, (24, 32)).astype(np.uint16)
SHARES = (COUNTS / 14008).astype(np.float32)
PAIR = np.stack([COUNTS, COUNTS // 2 + 256], axis=-1)
RGB = np.stack([COUNTS] * 3, axis=-1)
LEVELS: dict[str, Any] = {"black": (SHORT, [512, 512]), "white": [14000, 14000]}
ROWS, COLUMNS = {"xC61C": (SRATIONAL, list(range(24)))}, {"xC61B": (SRATIONAL, list(range(32)))}
PATTERN: dict[str, Any] = {"black": (RATIONAL, [512] * 32), "repeat": (4, 4), "white": [14000, 14000]}
DNGS: dict[str, tuple[npt.NDArray[Any], dict[str, Any], Form]] = {
    "half floats": (SHARES, ROWS, Form(float_bits=16, compression=8, predictor=34894, tile_hw=(16, 16))),
    "24-bit floats": (SHARES, {}, Form(float_bits=24)),
    "planar": (PAIR, {**LEVELS, **COLUMNS}, Form(planar=True, compression=8, predictor=2)),
    "BigTIFF": (PAIR, LEVELS, Form(big=True, order=">")),
    "pattern": (PAIR, PATTERN, Form()),
}
TIFFS: dict[str, tuple[npt.NDArray[Any], Form]] = {
    "planar tiles": (RGB, Form(planar=True, compression=8, predictor=2, tile_hw=(16, 16))),
    "24-bit floats": (RGB / np.float32(14008), Form(compression=8, predictor=3, float_bits=24)),
    "12 bits": (COUNTS >> 4, Form(int_bits=12, big=True)),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder, found = tmp_path_factory.mktemp("forms"), {}
    for name, (samples, tags, form) in DNGS.items():
        write_tiff(folder / "a.dng", samples, dng_tags(**tags), form)
        found[f"{name}.dng"] = (folder / "a.dng").read_bytes()
    for name, (samples, form) in TIFFS.items():
        write_tiff(folder / "a.tif", samples, {}, form)
        found[f"{name}.tif"] = (folder / "a.tif").read_bytes()
    assert cv2.imwrite(str(folder / "a.tif"), SHARES, [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_PREDICTOR, 3])
    return {**found, "LZW.tif": (folder / "a.tif").read_bytes()}


NAMES = [*(f"{name}.dng" for name in DNGS), *(f"{name}.tif" for name in TIFFS), "LZW.tif"]
changes = st.lists(
    st.tuples(
        st.integers(0, 900),
        st.one_of(
            st.binary(min_size=1, max_size=2),
            st.sampled_from([b"\xff" * 4, bytes(4), b"\1\0\0\0", b"\xff\xff\xff\x7f"]),
        ),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("name", NAMES)
@FUZZ
@given(changed=changes, kept=st.floats(0.3, 1.4))
def test_light_or_one_line(
    originals: dict[str, bytes], tmp_path: Path, name: str, changed: list[tuple[int, bytes]], kept: float
) -> None:
    data = bytearray(originals[name])
    for at, new in changed:
        data[at % len(data) : at % len(data) + len(new)] = new
    path = tmp_path / f"a{Path(name).suffix}"
    path.write_bytes(data[: int(len(data) * min(kept, 1.0))])
    readers: tuple[Callable[[Path], Any], ...] = (read_light, read_picture)
    if path.suffix == ".dng":
        readers = (read_light, decode_capture, lambda file: inspect(file, levels=True))
    for read in readers:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                found = read(path)
            except DualpixError as error:
                assert "\n" not in str(error)
                continue
        image = getattr(found, "image", found)
        light = getattr(image, "combined", image)
        if isinstance(light, np.ndarray):
            assert np.isfinite(light).all()
