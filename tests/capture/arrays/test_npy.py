"""One bounded reader of ``.npy``: values as stored, whoever wrote them; and one line for whatever is no array."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.arrays.npy import read_npy
from dualpix.capture.errors import DecodeError, DualpixError

TRUTH = np.array([[0.5, np.inf, 3.0], [np.nan, 0.0, -1.0]])


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + size + text.encode("latin-1")


def claimed(shape: str, descr: str = "'<f4'") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_values_are_those_stored(tmp_path: Path, dtype: str, order: Any) -> None:
    np.save(tmp_path / "a.npy", np.asarray(TRUTH, dtype, order=order))
    read = read_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(read, TRUTH.astype(dtype))
    assert read.dtype.isnative and read.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i4", ">i8", "<u8"])
def test_integers_are_those_stored(tmp_path: Path, dtype: str) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), values)


def test_a_header_of_python_2_and_one_of_version_2(tmp_path: Path) -> None:
    """Python 2 wrote its long integers with an L; NumPy writes version 2 for long headers."""
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    (tmp_path / "a.npy").write_bytes(claimed("(2L, 3L)") + values.tobytes())
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), values)
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"
    (tmp_path / "b.npy").write_bytes(header(text, b"\x02\x00") + values.tobytes())
    np.testing.assert_array_equal(read_npy(tmp_path / "b.npy"), values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"'a\.npy' has 0 bytes; expected a complete file; it is cut or damaged"),
        (b"\x93NUM", "has 4 bytes; expected a complete file"),
        (b"PK\x03\x04" + b"x" * 50, r"'a\.npy' is a ZIP archive; expected an \.npy file"),
        (b"\x80\x04\x95", "is a Python pickle, never unpickled here"),
        (b"depth 1 2 3", r"is no \.npy file; expected an array that numpy\.save wrote"),
        (claimed("(1000000000000, 192)"), "claims 768000000000000 bytes of samples; expected at most 1024 MiB"),
        (claimed("(2, 3)"), r"has 0 bytes of samples; expected 24 for \(2, 3\) float32"),
        (claimed("(2, 3)") + bytes(25), "has 25 bytes of samples"),
        (claimed("(-2, 3)") + bytes(24), "holds an empty array"),
        (claimed("(0, 3)"), "holds an empty array"),
        (claimed("(" * 2000), "a broken .npy header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{}", "a broken .npy header"),
        (header("{}", b"\x03\x00"), "a broken .npy header"),
        (claimed("(2, 3)", "'|O'") + bytes(48), "holds Python objects, never unpickled here"),
        (claimed("(2, 3)", "'<c8'") + bytes(48), r"is no plane of numbers: complex64 \(2, 3\); expected an \.npy with"),
        (claimed("(2, 3)", "[('z', '<f4'), ('c', '<f4')]") + bytes(48), "is no plane of numbers"),
        (claimed("(2, 3)", "'<U4'") + bytes(96), "is no plane of numbers"),
        (claimed("(2, 3)", "'<M8[s]'") + bytes(48), "is no plane of numbers"),
        (claimed("(2, 3)", "'|b1'") + bytes(6), "is no plane of numbers: bool"),
        (claimed("(2, 3, 4)") + bytes(96), r"is no plane of numbers: float32 \(2, 3, 4\)"),
        (claimed("()") + bytes(4), r"is no plane of numbers: float32 \(\)"),
    ],
)
def test_what_is_no_plane_of_numbers_is_refused_in_a_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=message) as caught:
            read_npy(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_long_doubles_are_another_number_on_every_machine(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.longdouble))
    with pytest.raises(DecodeError, match="is no plane of numbers"):
        read_npy(tmp_path / "a.npy")


def test_other_axes_kinds_and_errors_are_asked_for(tmp_path: Path) -> None:
    class MineError(DualpixError):
        pass

    np.save(tmp_path / "a.npy", np.ones((2, 3, 4), bool))
    assert read_npy(tmp_path / "a.npy", axes=(2, 3), kinds="b").all()
    with pytest.raises(MineError, match="expected a mask"):
        read_npy(tmp_path / "a.npy", expected="a mask", error=MineError)
    with pytest.raises(MineError, match="expected at most 0 MiB"):
        read_npy(tmp_path / "a.npy", axes=(3,), kinds="b", most_bytes=5, error=MineError)
    with pytest.raises(MineError, match=r"cannot read '.*gone\.npy': No such file"):
        read_npy(tmp_path / "gone.npy", error=MineError)
    with pytest.raises(MineError, match="cannot read"):
        read_npy(tmp_path, error=MineError)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """It would be waited for without end."""
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(DecodeError, match="is no ordinary file"):
        read_npy(tmp_path / "a.npy")


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), whole=st.booleans())
def test_any_bytes_are_an_array_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, whole: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npy"
    buffer = io.BytesIO()
    np.save(buffer, TRUTH)
    path.write_bytes(buffer.getvalue()[: 80 if whole else 8] + data)
    try:
        assert read_npy(path).ndim == 2
    except DecodeError as error:
        assert "\n" not in str(error)
