from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.export.profile.conftest import SHAPE, SmallFiles

from dualpix.capture.errors import DualpixError
from dualpix.export.errors import ProfileError
from dualpix.export.executorch.stored import read_program, read_record, record_of, source_line

_PIXELS = SHAPE[2] * SHAPE[3]


def test_a_program_tells_its_inputs_work_and_what_is_delegated(small_files: SmallFiles) -> None:
    program = read_program(small_files.narrow)
    assert program.input_shapes == (SHAPE,)
    assert program.arena_bytes >= 2 * 4 * 4 * _PIXELS, "input and output of cumsum at least"
    nodes = [n for call in program.calls for n in call.nodes or ()]
    convolutions = [n for n in nodes if n.kind == "Conv2d"]
    assert [n.macs for n in convolutions] == [_PIXELS * 8 * 3 * 9, _PIXELS * 4 * 8]
    assert convolutions[0].bytes == 4 * (_PIXELS * 3 + _PIXELS * 8 + 8 * 3 * 9 + 8)
    outside = [c for c in program.calls if c.name and c.nodes is None]
    assert [c.name for c in outside] == ["cumsum.out"]
    macs, operators = program.shares()
    assert macs == 1.0
    assert operators == len(nodes) / (len(nodes) + 1)


def test_a_record_names_layers_and_our_source_lines(small_files: SmallFiles) -> None:
    record = read_record(record_of(small_files.narrow) or Path())
    convolutions = [layer for layer in record.layers.values() if layer.kind == "convolution"]
    assert {layer.module for layer in convolutions} == {"stem.0", "deep"}
    here = Path(__file__).with_name("conftest.py")
    for layer in convolutions:
        name, line = str(layer.source).rsplit(":", 1)
        assert name.endswith("profile/conftest.py")
        assert "self.deep(self.stem(x))" in here.read_text().splitlines()[int(line) - 1]


def test_a_record_keeps_no_weights_and_no_pickles(small_files: SmallFiles) -> None:
    with zipfile.ZipFile(small_files.narrow.with_suffix(".etrecord")) as archive:
        assert all(archive.read(name)[:1] == b"{" for name in archive.namelist())


def test_a_program_without_a_record_is_fine(small_files: SmallFiles) -> None:
    assert record_of(small_files.wide) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" * 40, "is no ExecuTorch program"),
        (b"\x20\0\0\0ET11" + bytes(200), "another ExecuTorch"),
        (b"\x20\0\0\0ET12" + b"\xff" * 200, r"net\.pte"),
    ],
    ids=["empty", "picture", "foreign version", "damaged"],
)
def test_files_that_are_no_program_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.pte"
    path.write_bytes(content)
    with pytest.raises(DualpixError, match=message):
        read_program(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DualpixError, match=r"net\.pte"):
        read_program(tmp_path / "net.pte")


@pytest.mark.parametrize("kind", ["text", "other zip"])
def test_records_of_something_else_are_refused(tmp_path: Path, small_files: SmallFiles, kind: str) -> None:
    shutil.copy(small_files.wide, tmp_path / "net.pte")
    record = tmp_path / "net.etrecord"
    if kind == "text":
        record.write_text("not a zip")
    else:
        with zipfile.ZipFile(record, "w") as archive:
            archive.writestr("debug_handle_map", "{}")
    with pytest.raises(ProfileError, match=r"no record of an export|cannot be unpacked"):
        read_record(record)


def test_the_source_line_is_the_innermost_of_ours() -> None:
    trace = (
        'File "/a/dualpix/models/networks/net.py", line 7, in forward\n    x\n'
        'File "/a/dualpix/models/blocks.py", line 70, in forward\n    y\n'
        'File "/v/site-packages/torch/nn/modules/conv.py", line 565, in forward\n    z'
    )
    assert source_line(trace) == "dualpix/models/blocks.py:70"
    assert source_line('File "/home/me/work/net.py", line 3, in forward') == "work/net.py:3"
    assert source_line('File "/v/site-packages/torch/nn/functional.py", line 3, in relu') is None
    assert source_line("") is None


def test_conversions_belong_to_the_layer_that_made_their_input(tmp_path: Path) -> None:
    def node(name: str, target: str, given: str, handle: int, module: str) -> dict[str, Any]:
        meta = {"debug_handle": str(handle)} | (
            {"nn_module_stack": f"L,,Net;L.{module},{module},Conv"} if module else {}
        )
        inputs = [{"name": "input", "arg": {"as_tensor": {"name": given}}}]
        return {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": name}}], "metadata": meta}

    edge = "executorch.exir.dialects.edge.ops"
    nodes = [
        node("c", f"{edge}.aten.convolution.default", "x", 1, "stem.0"),
        node("q", f"{edge}.quantized_decomposed.quantize_per_tensor.default", "c", 2, ""),
        node("d", f"{edge}.quantized_decomposed.dequantize_per_tensor.default", "q", 3, ""),
        node("s", f"{edge}.aten.add.Tensor", "d", 4, ""),
    ]
    path = tmp_path / "net.etrecord"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "edge_dialect_exported_program/forward", json.dumps({"graph_module": {"graph": {"nodes": nodes}}})
        )
        archive.writestr("debug_handle_map", '{"forward": {"0": 4, "1": [1, 2]}}')
    record = read_record(path)
    assert {h: (layer.kind, layer.module) for h, layer in record.layers.items()} == {
        1: ("convolution", "stem.0"),
        2: ("quantize_per_tensor", "stem.0"),
        3: ("dequantize_per_tensor", "stem.0"),
        4: ("add.Tensor", None),
    }
    assert record.handles == {0: 4}
