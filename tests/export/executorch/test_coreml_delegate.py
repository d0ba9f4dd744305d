from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny_net import scene, sqnr_db, tiny_net
from torch import nn

from dualpix.export.artefact import BuildRequest, ExportError
from dualpix.export.executorch import coreml_delegate
from dualpix.export.executorch.coreml_delegate import unpack
from dualpix.export.executorch.program import read_structure
from dualpix.quantize.calibration import CalibrationSet

_METADATA = b'{"inputNames": ["left", "right"]}'


def _payload(nodes: list[dict[str, Any]], data: bytes = _METADATA) -> bytes:
    return data + json.dumps({"nodes": nodes}).encode()[::-1]


def _file(offset: int = 0, size: int = len(_METADATA)) -> dict[str, Any]:
    return {"kind": 0, "children": {}, "dataRegion": {"offset": offset, "size": size}}


def _folder(**children: int) -> dict[str, Any]:
    return {"kind": 1, "children": children, "dataRegion": {"offset": 0, "size": 0}}


def test_a_payload_is_unpacked(tmp_path: Path) -> None:
    nodes = [_file(), _file(2, 10), _folder(**{"inner.bin": 1}), _folder(**{"metadata.json": 0, "weights": 2})]
    assert unpack(_payload(nodes), tmp_path) == ("left", "right")
    assert (tmp_path / "weights" / "inner.bin").read_bytes() == _METADATA[2:12]


@pytest.mark.parametrize(
    "nodes",
    [
        [_file(), _folder(**{"../metadata.json": 0})],
        [_file(), _folder(**{"/metadata.json": 0})],
        [_file(), _folder(**{"..": 0})],
        [_file(), _folder(**{"a/b": 0})],
        [_file(0, 10**9), _folder(**{"metadata.json": 0})],
        [_file(-4, 8), _folder(**{"metadata.json": 0})],
        [_file(), _folder(**{"metadata.json": 0, "again": 1})],
        [_file(), _folder(**{"metadata.json": 7})],
        [_file(), _folder(**{"other.json": 0})],
        [],
    ],
)
def test_a_damaged_or_hostile_directory_is_refused(tmp_path: Path, nodes: list[dict[str, Any]]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(ExportError, match="inside is damaged"):
        unpack(_payload(nodes), folder)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_bytes_that_are_no_payload_are_refused(tmp_path: Path) -> None:
    for payload in (b"", b"}", b"\0" * 100, _METADATA):
        with pytest.raises(ExportError, match="inside is damaged"):
            unpack(payload, tmp_path)


class _Crossed(nn.Module):
    """Works on its second input first: the delegate lists them in that order."""

    def __init__(self) -> None:
        super().__init__()
        self.far, self.near = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.far(right) - 2 * self.near(left)


@pytest.mark.skipif(sys.platform == "darwin", reason="runs here")
def test_inputs_reach_the_delegate_in_its_own_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs, names = (torch.rand(1, 1, 8, 12), torch.rand(1, 1, 8, 12)), ("left", "right")
    request = BuildRequest(_Crossed().eval(), "fp16", tmp_path / "a.pte", inputs, names, ("y",), CalibrationSet((), ""))
    coreml_delegate.build(request)  # refuses a program that computes something else
    assert read_structure(tmp_path / "a.pte").delegates[0].takes == (1, 0)


@pytest.mark.skipif(sys.platform == "darwin", reason="runs here")
def test_the_program_inside_is_interpreted(tmp_path: Path) -> None:
    net, path, inputs = tiny_net(), tmp_path / "a.pte", scene((32, 48))
    names = ("image", "left", "right")
    request = BuildRequest(net, "fp16", path, inputs, names, ("disparity_px",), CalibrationSet((inputs,), ""))
    artefact = coreml_delegate.build(request)
    assert artefact.emulated and artefact.predict and artefact.delegation
    assert artefact.delegation.compute_share == 1.0 and artefact.details["agreement_db"] > 40
    other = scene((32, 48))
    again = coreml_delegate.load(path, names, "disparity_px")
    assert again
    with torch.no_grad():
        assert sqnr_db(net(*other), again(other)) > 40
    assert "built without CoreMLBackend" in str(coreml_delegate.can_run())
    with pytest.raises(ExportError, match="no precision 'int8'"):
        coreml_delegate.build(BuildRequest(net, "int8", path, inputs, names, ("y",), CalibrationSet((inputs,), "")))
