"""Pairs of NumPy arrays: bit-exact in every type, and nothing that is unpickled, cut or absurd."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualpix.capture.errors import DecodeError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.raw import decode, decode_capture

Array = npt.NDArray[Any]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def halves(dtype: str = "float32", shape: tuple[int, ...] = (12, 16)) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    left, right = rng.random((2, *shape))
    top = 1.0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    return (left * top).astype(dtype), (right * top).astype(dtype)


def write_pair(folder: Path, left: Array, right: Array) -> Path:
    np.save(folder / "a_left.npy", left)
    np.save(folder / "a_right.npy", right)
    return folder / "a_left.npy"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", ">u2", ">f4"])
@pytest.mark.parametrize("shape", [(12, 16), (12, 16, 3)])
@pytest.mark.parametrize("form", ["npy", "npz", "compressed"])
def test_arrays_are_bit_exact(tmp_path: Path, dtype: str, shape: tuple[int, ...], form: str) -> None:
    left, right = halves(dtype, shape)
    path = tmp_path / "a.npz"
    if form == "npy":
        path = write_pair(tmp_path, left, right)
    else:
        (np.savez if form == "npz" else np.savez_compressed)(path, left=left, right=right, depth=left)
    capture = decode_capture(path, equalise=False)
    assert capture.decoder == "numpy"
    frames, image = capture.frames(), capture.image
    assert np.array_equal(frames["frame0"], left) and np.array_equal(frames["frame1"], right)
    light = [
        np.asarray(v / (1 if left.dtype.kind == "f" else np.iinfo(left.dtype).max), np.float32)
        for v in halves(dtype, shape)
    ]
    if dtype == "uint8":
        light = [linear_from_srgb(v) for v in light]
    assert np.allclose(image.left, light[0], atol=1e-6) and np.allclose(image.right, light[1], atol=1e-6)
    assert np.allclose(image.combined, (light[0] + light[1]) / 2, atol=1e-6)
    assert image.left.dtype == np.float32
    assert image.meta.provenance["tone"] == f"{'srgb' if dtype == 'uint8' else 'linear'} (assumed)"


def test_column_order_is_understood(tmp_path: Path) -> None:
    left, right = halves()
    path = write_pair(tmp_path, np.asfortranarray(left), np.asfortranarray(right))
    assert np.array_equal(decode(path, equalise=False).left, left)


def test_saturation_and_light_above_white(tmp_path: Path) -> None:
    left, right = (v * 0.5 for v in halves("float64"))
    left[2, 3], right[4, 5], right[6, 7] = 1.5, 1.0, -0.25
    image = decode(write_pair(tmp_path, left, right), equalise=False)
    assert sorted(zip(*np.nonzero(image.saturated), strict=True)) == [(2, 3), (4, 5)]
    assert image.left[2, 3] == 1.5 and image.right[6, 7] == -0.25


class Trap:
    """Would leave a file behind if it were unpickled."""

    path = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (Trap.path, "w")


@pytest.mark.parametrize("archive", [False, True])
def test_objects_are_never_unpickled(tmp_path: Path, archive: bool) -> None:
    Trap.path = str(tmp_path / "sprung")
    objects = np.full((8, 8), Trap(), object)
    if archive:
        path = tmp_path / "a.npz"
        np.savez(path, left=objects, right=objects)
    else:
        path = write_pair(tmp_path, objects, objects)
    with pytest.raises(DecodeError, match="holds Python objects, never unpickled here"):
        decode(path)
    assert not (tmp_path / "sprung").exists()


def test_the_trap_would_spring(tmp_path: Path) -> None:
    Trap.path = str(tmp_path / "sprung")
    path = write_pair(tmp_path, np.full((1, 1), Trap(), object), np.zeros(1))
    np.load(path, allow_pickle=True)
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8), np.int16),
        np.zeros((8, 8), np.complex64),
        np.zeros((8, 8), np.uint32),
        np.zeros((8, 8), [("a", "u1")]),
        np.zeros(64, np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3, 1), np.uint8),
        np.array("text"),
    ],
    ids=str,
)
def test_other_arrays(tmp_path: Path, array: Array) -> None:
    with pytest.raises(DecodeError, match=r"holds an array of .*expected \(H, W\) or \(H, W, 3\) of uint8, uint16"):
        decode(write_pair(tmp_path, array, array))


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999, 99999), }\n"), "claims 99999x99999 pixels"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (11000, 11000, 3), }\n"), "0 bytes of samples"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 5), }\n"), "claims 5x0 pixels"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-4, 5), }\n"), "claims 5x-4 pixels|broken"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': ('a', 5), }\n"), "broken .npy header"),
        (header("{'descr': '<q9', 'fortran_order': False, 'shape': (4, 5), }\n"), "broken .npy header"),
        (header("__import__('os').getpid()\n"), "broken .npy header"),
        (header("(" * 3000 + "\n"), "broken .npy header"),
        (header("{}", b"\x09\x00"), "broken .npy header"),
        (b"\x93NUMPY\x01", "broken .npy header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{}", "broken .npy header"),
    ],
)
def test_headers_that_lie(tmp_path: Path, data: bytes, message: str) -> None:
    """Refused from the header: no memory is taken for what it claims."""
    for side in ("left", "right"):
        (tmp_path / f"a_{side}.npy").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=message):
            decode(tmp_path / "a_left.npy")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keep", [20, 127, 128, 200, -1])
def test_cut_arrays(tmp_path: Path, keep: int) -> None:
    path = write_pair(tmp_path, *halves())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DecodeError, match="it is cut or damaged, copy it again"):
        decode(path)


def test_bytes_too_many(tmp_path: Path) -> None:
    path = write_pair(tmp_path, *halves())
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DecodeError, match=r"769 bytes of samples; expected 768 for \(12, 16\) float32"):
        decode(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    left, right = halves("float64")
    right[3, 4] = bad
    with pytest.raises(DecodeError, match=r"'a_right.npy' has 1 values that are NaN or infinite"):
        decode(write_pair(tmp_path, left, right))


def test_unequal_and_missing_halves(tmp_path: Path) -> None:
    left, right = halves()
    with pytest.raises(DecodeError, match=r"is 16x12 float32 and 'a_right.npy' is 16x11 float32"):
        decode(write_pair(tmp_path, left, right[1:]))
    np.savez(tmp_path / "a.npz", left=left, other=right)
    with pytest.raises(DecodeError, match="has no array 'right'; expected left and right, not: left, other"):
        decode(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", left=left, right=right)
    with pytest.raises(DecodeError, match="leave out --right"):
        decode(tmp_path / "b.npz", right=tmp_path / "a_right.npy")
    np.save(tmp_path / "alone.npy", left)
    with pytest.raises(DecodeError, match="is one picture, its other half is not named"):
        decode(tmp_path / "alone.npy")


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path) -> None:
    claim = header("{'descr': '|u1', 'fortran_order': False, 'shape': (6000, 20000, 3), }\n")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for side in ("left", "right"):
            with archive.open(f"{side}.npy", "w", force_zip64=True) as entry:
                entry.write(claim + bytes(1000))
    data = bytearray((tmp_path / "bomb.npz").read_bytes())
    for at in (i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"):  # the sizes in the directory
        data[at + 24 : at + 28] = (len(claim) + 360_000_000).to_bytes(4, "little")
    (tmp_path / "bomb.npz").write_bytes(bytes(data))
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="cut or damaged"):
            decode(tmp_path / "bomb.npz")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_an_array_of_more_than_a_gigabyte_in_an_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, left=np.zeros((4, 4)), right=np.zeros((4, 4)))
    data = bytearray(buffer.getvalue())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (1 << 31).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(bytes(data))
    with pytest.raises(DecodeError, match="has 2147483648 bytes; expected at most 1 GiB"):
        decode(tmp_path / "a.npz")


@pytest.fixture(scope="module")
def archive() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, left=halves()[0], right=halves()[1])
    return buffer.getvalue()


@QUICK
@given(changes=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), max_size=6), keep=st.floats(0, 1))
def test_damaged_archives(archive: bytes, tmp_path: Path, changes: list[tuple[float, int]], keep: float) -> None:
    data = bytearray(archive)
    for where, value in changes:
        data[int(where * len(data))] = value
    (tmp_path / "a.npz").write_bytes(bytes(data[: max(int(keep * len(data)), 1)]))
    try:
        image = decode(tmp_path / "a.npz")
    except DecodeError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(image.left).all() and np.isfinite(image.right).all()
