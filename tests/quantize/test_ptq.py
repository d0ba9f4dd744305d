from __future__ import annotations

import pytest
import torch
from tests.support.tiny_net import scene, sqnr_db, tiny_net
from torch import fx

from dualpix.capture.errors import DualpixError
from dualpix.quantize.ptq import keep_modules, quantise_static


def _int8_operators(graph: fx.GraphModule) -> int:
    """Convolutions with int8 weights, and concatenations with an int8 result."""
    nodes = [n for n in graph.graph.nodes if n.op == "call_function"]
    convolutions = [n for n in nodes if str(n.target).startswith("aten.conv2d")]
    cats = [n for n in nodes if str(n.target).startswith("aten.cat")]
    weights = sum("dequantize" in str(n.args[1].target) for n in convolutions)
    return weights + sum(any("quantize_per_tensor" in str(u.target) for u in n.users) for n in cats)


@torch.no_grad()
def test_kept_modules_stay_float_and_the_rest_does_not() -> None:
    net, inputs = tiny_net(), scene()
    full = quantise_static(net, [scene(), scene(), inputs])
    assert _int8_operators(full) == 8  # seven calls of convolutions, one cat
    kept = quantise_static(net, [scene(), inputs], keep_modules("encode", "head"))
    assert _int8_operators(kept) == 3  # image, join, cat
    everything = quantise_static(net, [inputs], lambda path: True)
    assert _int8_operators(everything) == 0
    expected = net(*inputs)
    assert 20 < sqnr_db(expected, full(*inputs)) < sqnr_db(expected, everything(*inputs))
    assert sqnr_db(expected, everything(*inputs)) > 90


def test_prefixes_end_at_dots() -> None:
    keep = keep_modules("head", "a.b")
    assert keep("head") and keep("head.0") and keep("a.b.c")
    assert not keep("heads.0") and not keep("a") and not keep("")


def test_no_calibration_is_a_user_error() -> None:
    with pytest.raises(DualpixError, match="no calibration samples"):
        quantise_static(tiny_net(), [])
