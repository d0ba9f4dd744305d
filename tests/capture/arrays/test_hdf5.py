"""Arrays of HDF5 files come from the file itself, and take the memory that they are declared to need."""

from __future__ import annotations

import resource
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.support import rgbd as write
from tests.support.rgbd import truth

from dualpix.capture.arrays.hdf5 import open_hdf5
from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.rgbd import RgbdError, find_rgbd, read_rgbd
from dualpix.capture.stack.keep.ddff import ddff_stacks, read_ddff_slice
from dualpix.capture.stack.keep.layouts import read_layout

SECRET = b"not yours to see" * 400


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.bin"
    path.write_bytes(SECRET)
    return path


def read(path: Path, name: str = "a", *index: int, axes: tuple[int, ...] = (2,)) -> Any:
    with open_hdf5(path) as file:
        return file.array(name, axes).read(*index)


def refused(path: Path, message: str, name: str = "a", *index: int) -> None:
    with pytest.raises(DecodeError, match=message) as caught:
        read(path, name, *index)
    assert "\n" not in str(caught.value)


# What is read


@pytest.mark.parametrize(
    "packed",
    [
        {},
        {"chunks": (5, 7)},
        {"chunks": (24, 32), "compression": "gzip"},
        {"chunks": (7, 9), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (7, 9), "compression": "lzf", "shuffle": True},
        {"chunks": (24, 32), "fletcher32": True, "maxshape": (None, 32)},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["f2", ">f4", "f8", "u1", "<u2", "i8"])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_samples_are_those_stored(tmp_path: Path, packed: dict[str, Any], dtype: str, libver: str) -> None:
    values = np.random.default_rng(0).integers(0, 100, (24, 32)).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        file.create_dataset("a", data=values, **packed)
    found = read(tmp_path / "a.h5")
    np.testing.assert_array_equal(found, values)
    assert found.dtype.isnative
    np.testing.assert_array_equal(read(tmp_path / "a.h5", "a", 11), values[11])


def test_chunks_that_were_never_written_are_the_fill_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("a", (24, 32), "f4", chunks=(8, 32), compression="gzip", fillvalue=7.0)
        data[:8] = 1.0
    found = read(tmp_path / "a.h5")
    assert (found[:8] == 1).all() and (found[8:] == 7).all()


def test_links_within_the_file_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/inside"] = np.ones((2, 3))
        file["hard"] = file["group/inside"]
        file["a"] = h5py.SoftLink("/group/again")
        file["group/again"] = h5py.SoftLink("inside")
    assert read(tmp_path / "a.h5").shape == read(tmp_path / "a.h5", "hard").shape == (2, 3)


def test_attributes_are_numbers_or_nothing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.ones((2, 3))
        values = {"one": 2.0, "three": (1, 2, 3), "text": "x", "many": np.zeros(99), "none": h5py.Empty("f")}
        file["a"].attrs.update(values)
    with open_hdf5(tmp_path / "a.h5") as opened:
        array = opened.array("a", (2,))
        found = {name: array.attribute(name) for name in ("one", "three", "text", "many", "none", "gone")}
    assert found["one"] is not None and found["one"].tolist() == [2.0]
    assert found["three"] is not None and found["three"].tolist() == [1.0, 2.0, 3.0]
    assert found["text"] is found["many"] is found["none"] is found["gone"] is None


# Nothing from another file


def _external(file: Any, secret: Path) -> None:
    file.create_dataset("a", (8, 32), "u1", external=[(str(secret), 0, 256)])


def _linked(file: Any, secret: Path) -> None:
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["b"] = np.frombuffer(SECRET[:256], np.uint8).reshape(8, 32)
    file["a"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/b")


def _linked_behind_a_soft_link(file: Any, secret: Path) -> None:
    _linked(file, secret)
    file["group/way"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/")
    del file["a"]
    file["a"] = h5py.SoftLink("/group/way/b")


def _virtual(file: Any, secret: Path) -> None:
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["b"] = np.frombuffer(SECRET[:256], np.uint8).reshape(8, 32)
    layout = h5py.VirtualLayout((8, 32), "u1")
    layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "b", (8, 32))
    file.create_virtual_dataset("a", layout)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_external, "'a' has its samples in another file, which is not read"),
        (_virtual, "'a' has its samples in another file, which is not read"),
        (_linked, "'a' is a link to another file, which is not followed"),
        (_linked_behind_a_soft_link, "link to another file, which is not followed"),
    ],
)
def test_another_file_is_never_read(
    tmp_path: Path, secret: Path, make: Callable[[Any, Path], None], message: str
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file, secret)
    with h5py.File(tmp_path / "a.h5") as file:  # what anybody else would get
        assert file["a"][...].tobytes() == SECRET[:256]
    refused(tmp_path / "a.h5", message)


def test_no_reader_renders_another_file(tmp_path: Path, secret: Path) -> None:
    """Each kind of HDF5 input with its samples in a file of the user's."""
    nyu = tmp_path / "nyu"
    write.write_nyuv2(nyu, [truth(24, 32)])
    with h5py.File(nyu / "nyu_depth_v2_labeled.mat", "a") as file:
        del file["images"]
        file.create_dataset("images", (1, 3, 32, 24), "u1", external=[(str(secret), 0, 2304)])
    with pytest.raises(RgbdError, match="'images' has its samples in another file"):
        find_rgbd(nyu)
    hyper = tmp_path / "hyper"
    write.write_hypersim(hyper / "ai_001_001", truth(24, 32), np.ones((24, 32, 3), np.float16))
    color = next(hyper.rglob("*.color.hdf5"))
    with h5py.File(color, "w") as file:
        file.create_dataset("dataset", (24, 32, 3), "f2", external=[(str(secret), 0, 4608)])
    (source,) = find_rgbd(hyper)
    with pytest.raises(RgbdError, match="'dataset' has its samples in another file"):
        read_rgbd(source)
    ddff = tmp_path / "ddff.h5"
    with h5py.File(ddff, "w") as file:
        file.create_dataset("stack_val", (1, 2, 8, 12, 3), "u1", external=[(str(secret), 0, 576)])
    for attempt in (lambda: read_layout(ddff), lambda: read_ddff_slice(ddff, "stack_val", 0, 0)):
        with pytest.raises(DualpixError, match="'stack_val' has its samples in another file"):
            attempt()


# Sizes


def bomb(path: Path, unpacked: int, chunk: int = 64) -> None:
    """A chunk of ``chunk`` x ``chunk`` bytes whose stream goes on."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a", (chunk, chunk), "u1", chunks=(chunk, chunk), compression="gzip")
        packer = zlib.compressobj(9)
        stream = b"".join(packer.compress(bytes(1 << 20)) for _ in range(unpacked >> 20)) + packer.flush()
        data.id.write_direct_chunk((0, 0), stream, 0)


def test_a_chunk_that_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    """In a process with so little memory that the library, which unpacks it all, would die of it."""
    bomb(tmp_path / "a.h5", 512 << 20)
    code = (
        "import resource, sys\nfrom pathlib import Path\nimport numpy, h5py\n"
        "from dualpix.capture.arrays.hdf5 import open_hdf5\n"
        "used = int(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmData')))\n"
        "resource.setrlimit(resource.RLIMIT_DATA, ((used << 10) + (128 << 20),) * 2)\n"
        "with open_hdf5(Path(sys.argv[1])) as file:\n    file.array('a', (2,)).read()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.h5"], capture_output=True, text=True)
    assert "has a chunk of" in done.stderr and "for 4096" in done.stderr, done.stderr
    bomb(tmp_path / "a.h5", 4 << 20)  # short enough to look like a chunk
    refused(tmp_path / "a.h5", "unpacks to more than it may")


@pytest.mark.parametrize(
    ("shape", "chunks", "message"),
    [
        ((1 << 20, 1 << 20), (64, 64), "would take 1099511627776 bytes; expected at most 1024 MiB"),
        ((64, 64), None, None),
        ((30000, 30000), (1, 1), "is cut into 900000000 chunks"),
        ((20000, 20000), (20000, 20000), "is stored in chunks of 400000000 bytes; expected at most 256 MiB"),
    ],
)
def test_claims_are_looked_at_before_memory_is_taken(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...] | None, message: str | None
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", shape, "u1", chunks=chunks)
    assert (tmp_path / "a.h5").stat().st_size < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if message is None:
        assert read(tmp_path / "a.h5").shape == shape
    else:
        refused(tmp_path / "a.h5", message)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


# What is no array of numbers


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("group", "'a' is a group or a type; expected an array"),
        (np.ones((2, 3, 4)), r"'a' is float64 \(2, 3, 4\); expected numbers of 2 axes"),
        (np.ones((2, 3), np.complex64), r"'a' is complex64 \(2, 3\)"),
        (np.ones((2, 3), [("z", "f4")]), "'a' is "),
        (np.full((2, 3), b"text"), "'a' is "),
        (np.ones((0, 3)), r"'a' is float64 \(0, 3\)"),
        (np.ones((2, 3), np.longdouble), "'a' is "),
        (3.0, r"'a' is float64 \(\)"),
        (h5py.Empty("f"), "'a' is float32 None"),
    ],
    ids=str,
)
def test_other_things_in_its_place(tmp_path: Path, value: Any, message: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if isinstance(value, str):
            file.create_group("a")
        else:
            file["a"] = value
    refused(tmp_path / "a.h5", message)


def test_names_and_places_that_are_not_there(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.ones((2, 3))
        file["loop"] = h5py.SoftLink("/loop")
        file["dangling"] = h5py.SoftLink("/nowhere")
    refused(tmp_path / "a.h5", r"'a\.h5': 'b' is missing", "b")
    refused(tmp_path / "a.h5", "'/nowhere' is missing", "dangling")
    refused(tmp_path / "a.h5", "is a link to another file", "loop")
    refused(tmp_path / "a.h5", r"has the shape \(2, 3\); expected an entry \(2,\)", "a", 2)
    refused(tmp_path / "gone.h5", "cannot read '.*gone.h5': No such file")
    (tmp_path / "text.h5").write_text("no HDF5")
    refused(tmp_path / "text.h5", r"the HDF5 file 'text\.h5' is damaged or lacks an array")


def test_filters_of_others_are_named(tmp_path: Path) -> None:
    """Plug-ins, and those of the library whose output has no known size."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=np.arange(96).reshape(8, 12), chunks=(8, 12), scaleoffset=8)
    refused(tmp_path / "a.h5", r"is packed by the filters 6 scaleoffset; expected gzip, lzf or none; h5repack")


def test_stacks_that_a_file_cannot_hold_are_not_counted(tmp_path: Path) -> None:
    """A few KB that declare a hundred million stacks: a listing of them would take the memory."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("stack_val", (10**8, 10, 48, 64, 3), "u1", chunks=(1, 1, 48, 64, 3))
    with pytest.raises(DecodeError, match="stack_val claims 100000000 stacks in a file of"):
        ddff_stacks(tmp_path / "a.h5")
