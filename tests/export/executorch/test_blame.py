from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch import Tensor, nn

from dualpix.export.artefact import ExportError, quiet
from dualpix.export.executorch.blame import layer_named_in, reason_in
from dualpix.export.executorch.partition import partitioner
from dualpix.export.executorch.probe import run_apart

KERNEL = """[cpuinfo_utils.cpp:71] Reading file /sys/devices/soc0/image_version
[kernel_ops_util.cpp:394] Check failed (in.dim() == 3 || in.dim() == 4): Expect input tensor to be 3-D or 4-D, got 5.
[op_convolution.cpp:363] Check failed (check_convolution_args( in, weight, bias, groups, out)): 
[method.cpp:1483] KernelCall failed at instruction 0:3 in operator aten::convolution.out: 0x12
[method.cpp:1493] arg 0 with type id 1
Traceback (most recent call last):
  File "probe.py", line 53, in main
"""  # noqa: W291 - as the runtime writes it


def test_the_first_explanation_and_the_operator_are_told() -> None:
    found = reason_in(KERNEL)
    assert found == "Expect input tensor to be 3-D or 4-D, got 5 (aten::convolution.out at instruction 0:3)"
    assert reason_in("Traceback\nValueError: no line of the runtime") == ""
    assert reason_in("[method.cpp:1502] CALL_DELEGATE execute failed at instruction 0:1: 0x1") == (
        "a delegate at instruction 0:1"
    )


class _Volume(nn.Module):
    """A 3-D convolution, which the portable kernel refuses when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.heads = nn.Conv2d(1, 8, 3, padding=1), nn.ModuleDict({"volume": nn.Conv3d(2, 1, 3, padding=1)})

    def forward(self, x: Tensor) -> Tensor:
        return self.heads["volume"](self.flat(x).view(1, 2, 4, 8, 8)).squeeze(1)


class _Shuffle(nn.Module):
    """Seven axes, one more than XNNPACK has: our partitioner leaves them out, executorch's own hands them over."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return (x.view(b, 1, 4, 2, c // 8, h, w).softmax(2) * x.view(b, 1, 4, 2, c // 8, h, w)).sum(2).flatten()


class _Seven(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.shuffle = nn.Conv2d(1, 8, 3, padding=1), _Shuffle()

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.conv(x))


def _lowered(net: nn.Module, inputs: tuple[Tensor, ...], partitioner: Any) -> tuple[bytes, Any]:
    with quiet(), torch.no_grad():
        exported = torch.export.export(net, inputs)
        edge = to_edge_transform_and_lower(exported, partitioner=[partitioner], generate_etrecord=True)
        program = edge.to_executorch()
        return bytes(program.buffer), program.get_etrecord()


@pytest.mark.parametrize(
    ("module", "made_by", "fault", "layer"),
    [
        (
            _Volume,
            partitioner,
            "the program does not run: Expect input tensor to be 3-D or 4-D",
            "'heads.volume' (convolution, ",
        ),
        (_Seven, XnnpackPartitioner, "'a.pte' does not load: [XNNCompiler.cpp:", "'shuffle' (view_copy, "),
    ],
)
def test_a_number_of_the_runtime_is_a_layer_of_the_network(
    module: type[nn.Module], made_by: Callable[[], Any], fault: str, layer: str, tmp_path: Path
) -> None:
    net, inputs = module().eval(), (torch.rand(1, 1, 8, 8),)
    buffer, record = _lowered(net, inputs, made_by())
    (tmp_path / "a.pte").write_bytes(buffer)
    with pytest.raises(ExportError) as raised:
        run_apart(tmp_path / "a.pte", inputs)
    assert str(raised.value).startswith(fault), raised.value
    found = layer_named_in(str(raised.value), tmp_path / "a.pte", record, net)
    assert found.startswith(f"; it is of {layer}") and Path(__file__).name in found, found
    first = inspect.getsourcelines(module if module is _Volume else _Shuffle)[1]
    assert first < int(found.rstrip(")").rsplit(":", 1)[1]) < first + 12, "the line of the call"


def test_what_xnnpack_has_no_axes_for_is_left_to_other_kernels(tmp_path: Path) -> None:
    net, inputs = _Seven().eval(), (torch.rand(1, 1, 8, 8),)
    (tmp_path / "a.pte").write_bytes(_lowered(net, inputs, partitioner())[0])
    with torch.no_grad():
        torch.testing.assert_close(run_apart(tmp_path / "a.pte", inputs), net(*inputs), atol=1e-5, rtol=1e-5)


def test_no_number_is_no_layer(tmp_path: Path) -> None:
    assert layer_named_in("brings the runtime down: SIGSEGV", tmp_path / "a.pte", None, nn.ReLU()) == ""
