"""Each graph pass beside what happens without it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tiny_net import scene, sqnr_db, tiny_net
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from dualpix.export.artefact import ExportError
from dualpix.export.executorch.probe import run_apart
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.xnnpack import lower
from dualpix.quantize import graph as passes
from dualpix.quantize.graph import fold_batch_norm, harmonise_scales, unshare_weights
from dualpix.quantize.graph.capture import captured
from dualpix.quantize.ptq import quantise_static

_OPERATORS = (torch.ops.aten.conv2d.default, torch.ops.aten.cat.default)


def _prepare(
    graph: fx.GraphModule, inputs: tuple[Tensor, ...], operators: tuple[Any, ...] = _OPERATORS
) -> fx.GraphModule:
    quantizer = XNNPACKQuantizer()
    for operator in operators:
        quantizer.set_operator_type(operator, get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(graph, quantizer)
    prepared(*inputs)
    return prepared


def _run(graph: fx.GraphModule, inputs: tuple[Tensor, ...], path: Path) -> Tensor:
    """In this process: to start the runtime in another costs five seconds."""
    path.write_bytes(lower(torch.export.export(graph, inputs))[0])
    output: Tensor = PteProgram(path)(inputs)
    return output


def _run_refused(graph: fx.GraphModule, inputs: tuple[Tensor, ...], path: Path) -> None:
    """Apart, where what the runtime says of a program that it refuses is read."""
    path.write_bytes(lower(torch.export.export(graph, inputs))[0])
    run_apart(path, inputs)


def _share_biases_only(graph: fx.GraphModule) -> fx.GraphModule:
    """The simpler pass: a node per use of a weight, but one tensor for all."""
    for node in list(graph.graph.nodes):
        if node.op == "get_attr":
            for user in list(node.users)[1:]:
                with graph.graph.inserting_before(user):
                    own = graph.graph.get_attr(node.target)
                    own.meta = dict(node.meta)
                user.replace_input_with(node, own)
    graph.recompile()
    return graph


@torch.no_grad()
def test_folding_keeps_the_function_and_the_module() -> None:
    net, inputs = tiny_net(), scene()
    before = net(*inputs)
    folded = fold_batch_norm(net, inputs)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(*inputs), before, atol=1e-5, rtol=1e-5)
    assert torch.equal(net(*inputs), before), "the module itself must not change"


@torch.no_grad()
def test_siamese_batch_norm_is_folded_once() -> None:
    net, inputs = tiny_net(), scene()
    expected = net(*inputs)

    def prepared_gap(module: nn.Module) -> float:
        return sqnr_db(expected, _prepare(torch.export.export(module, inputs).module(), inputs)(*inputs))

    assert prepared_gap(net) < 20, "prepare_pt2e folds per call: the reason for the pass has gone"
    assert prepared_gap(fold_batch_norm(net, inputs)) > 80


@torch.no_grad()
def test_shared_weights_load_and_shared_biases_are_right(tmp_path: Path) -> None:
    inputs = scene()
    net = fold_batch_norm(tiny_net(), inputs)
    expected = net(*inputs)

    def converted(prepare: bool, share_biases: bool = False) -> fx.GraphModule:
        graph = torch.export.export(net, inputs).module()
        if prepare:
            graph = _share_biases_only(graph) if share_biases else unshare_weights(graph)
        return convert_pt2e(_prepare(graph, inputs))

    with pytest.raises(ExportError, match=r"does not load: .*convolution"):
        _run_refused(converted(prepare=False), inputs, tmp_path / "shared.pte")
    shared_biases = sqnr_db(expected, _run(converted(True, share_biases=True), inputs, tmp_path / "biases.pte"))
    apart = converted(True)
    gained = sqnr_db(expected, _run(apart, inputs, tmp_path / "apart.pte"))
    assert gained > 25
    assert gained > shared_biases + 6, "a shared bias is read in the other call's units"
    assert abs(gained - sqnr_db(expected, apart(*inputs))) < 3, "the runtime agrees with the emulation"


def test_unsharing_copies_vectors_and_leaves_weights_one_tensor() -> None:
    inputs = scene()
    net = fold_batch_norm(tiny_net(), inputs)
    graph = unshare_weights(torch.export.export(net, inputs).module())
    nodes = [n for n in graph.graph.nodes if n.op == "get_attr"]
    assert all(len(n.users) == 1 for n in nodes)
    names = [str(n.target) for n in nodes]
    assert names.count("encode.0.weight") == 2
    assert names.count("encode.0.bias") == 1 and any(n.startswith("_encode_0_bias_use") for n in names)


class _Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([self.small(x), self.large(x)], 1))


@torch.no_grad()
def test_moved_values_get_one_scale(tmp_path: Path) -> None:
    """A concatenation that was left float between int8 convolutions, each with a scale of its own."""
    torch.manual_seed(0)
    net, inputs = _Joined().eval(), (torch.rand(1, 3, 32, 32),)
    net.large.weight.mul_(3)

    def converted() -> fx.GraphModule:
        graph = unshare_weights(torch.export.export(net, inputs).module())
        return convert_pt2e(_prepare(graph, inputs, (torch.ops.aten.conv2d.default,)))

    with pytest.raises(ExportError, match=r"does not load: .*cat"):
        _run_refused(converted(), inputs, tmp_path / "plain.pte")
    graph = converted()
    assert harmonise_scales(graph) == 3
    assert sqnr_db(net(*inputs), _run(graph, inputs, tmp_path / "harmonised.pte")) > 20
    assert harmonise_scales(graph) == 0, "nothing is left to change"


class _ByHand(nn.Module):
    """A siamese pair whose convolution and batch norm are no ``nn.Sequential``."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.last = nn.Conv2d(16, 4, 1)

    def encode(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.convolution(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([self.encode(x), self.encode(x.flip(3))], 1))


def _float_graph(net: nn.Module, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    graph: fx.GraphModule = torch.export.export(net.eval(), inputs).module()
    return graph


def _operators(graph: fx.GraphModule) -> Counter[str]:
    return Counter(str(n.target).split(".")[1] for n in graph.graph.nodes if n.op == "call_function")


@torch.no_grad()
def test_batch_norm_called_by_hand_is_folded_once() -> None:
    torch.manual_seed(0)
    net, inputs = _ByHand(), (torch.rand(1, 3, 16, 16),)
    nn.init.uniform_(net.norm.weight, 2.0, 4.0)
    nn.init.uniform_(net.norm.running_var, 0.1, 0.5)
    expected = net.eval()(*inputs)
    assert _operators(_float_graph(fold_batch_norm(net, inputs), inputs))["batch_norm"] == 0
    graph = passes.fold_batch_norm_graph(_float_graph(net, inputs))
    assert _operators(graph)["batch_norm"] == 0
    stored = list(torch.export.export(graph, inputs).state_dict)
    assert len([n for n in stored if n.startswith("_folded") and not n.endswith("bias")]) == 1, "both calls share it"
    assert not [n for n in stored if n.startswith("norm")], "what is not used would end up in the file"
    assert sqnr_db(expected, _prepare(unshare_weights(graph), inputs)(*inputs)) > 80


@torch.no_grad()
def test_folding_an_exported_graph_copies_it() -> None:
    net, inputs = _ByHand(), (torch.rand(1, 3, 16, 16),)
    graph = _float_graph(net, inputs)
    assert _operators(fold_batch_norm(graph, inputs))["batch_norm"] == 0  # type: ignore[arg-type]
    assert _operators(graph)["batch_norm"] == 2


class _Function(nn.Module):
    """Convolution, a function of its output, convolution."""

    def __init__(self, function: Any, channels: int = 8) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(channels, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


@torch.no_grad()
def test_softmax_beside_a_convolution_is_wrong_without_three_axes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, inputs = _Function(lambda x: torch.softmax(x, -1)).eval(), (torch.rand(1, 3, 16, 24),)
    net.first.weight.mul_(8.0)
    expected = net(*inputs)
    wrong = _run(_float_graph(net, inputs), inputs, tmp_path / "wrong.pte")
    assert sqnr_db(expected, wrong) < 30, "XNNPACK's channels-last pass moves the axis now: the pass can go"
    graph = _float_graph(net, inputs)
    assert passes.softmax_on_three_axes(graph) == 1
    assert sqnr_db(expected, _run(graph, inputs, tmp_path / "right.pte")) > 90


@torch.no_grad()
def test_layer_norm_in_float16_is_wrong_unless_it_computes_in_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, inputs = nn.LayerNorm(384).half().eval(), (torch.randn(1, 37, 384).half(),)
    expected = net(*inputs).float()
    wrong = _run(_float_graph(net, inputs), inputs, tmp_path / "wrong.pte").float()
    assert sqnr_db(expected, wrong) < 20, "the runtime's kernel is right now: the pass can go"
    graph = _float_graph(net, inputs)
    assert passes.layer_norm_in_float32(graph) == 1
    assert sqnr_db(expected, _run(graph, inputs, tmp_path / "right.pte").float()) > 60
    assert passes.layer_norm_in_float32(_float_graph(net.float(), (inputs[0].float(),))) == 0


@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 3, 4, 5), 1), ((2, 3, 4, 5), -1), ((4, 5, 6), 0), ((2, 1, 3, 2, 4), 2)]
)
def test_softmax_over_any_axis_stays_the_same(shape: tuple[int, ...], axis: int) -> None:
    net, inputs = _Plain(lambda x: torch.softmax(x, axis)), (torch.randn(shape),)
    graph = _float_graph(net, inputs)
    assert passes.softmax_on_three_axes(graph) == 1
    torch.testing.assert_close(graph(*inputs), net(*inputs))


class _Plain(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)  # type: ignore[no-any-return]


@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_becomes_products(scale: float | None) -> None:
    net = _Plain(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=scale))
    inputs = (torch.randn(1, 2, 5, 4), torch.randn(1, 2, 7, 4), torch.randn(1, 2, 7, 6))
    graph = _float_graph(net, inputs)
    assert passes.attention_as_products(graph) == 1
    assert _operators(graph)["bmm"] == 2 and _operators(graph)["scaled_dot_product_attention"] == 0
    torch.testing.assert_close(graph(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)
    causal = _float_graph(_Plain(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True)), inputs[:1])
    assert passes.attention_as_products(causal) == 0, "a mask is not dropped"


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.sampled_from([2, 3, 5]), st.integers(0, 2), st.booleans(), st.sampled_from([8, 12, 10]))
def test_narrow_convolutions_widen_to_the_same_function(
    channels: int, kernel: int, padding: int, bias: bool, size: int
) -> None:
    net, inputs = nn.Conv2d(3, channels, kernel, padding=padding, bias=bias), (torch.randn(1, 3, size, size + 4),)
    graph = _float_graph(net, inputs)
    passes.widen_narrow_convolutions(graph)
    torch.testing.assert_close(graph(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)


class _Maps(nn.Module):
    """Three maps of one channel each, as a fusion of three sources has them."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList([nn.Conv2d(8, 1, 3, padding=1) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = (torch.sigmoid(m(x)) for m in self.maps)
        return a * x + b - c


def test_narrow_convolutions_of_one_input_are_joined() -> None:
    net, inputs = _Maps(), (torch.randn(1, 8, 12, 16),)
    graph = _float_graph(net, inputs)
    assert passes.join_narrow_convolutions(graph) == 2
    assert passes.widen_narrow_convolutions(graph) == 1
    assert _operators(graph)["conv2d"] == 1 and _operators(graph)["pixel_shuffle"] == 1
    torch.testing.assert_close(graph(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)
    apart = _float_graph(net, inputs)
    assert passes.join_narrow_convolutions(apart, kind=lambda n: str(n.args[1])) == 0, "kinds are not mixed"


class _Offset(nn.Module):
    """Expected position of a match: a product with one constant column, less that column."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("position", torch.arange(8.0).reshape(1, 8, 1))

    position: Tensor

    def forward(self, scores: Tensor) -> Tensor:
        column = self.position.expand(scores.shape[0], -1, -1)
        return torch.bmm(torch.softmax(scores, -1), column) - column


@torch.no_grad()
def test_a_product_with_a_constant_is_delegated(tmp_path: Path) -> None:
    net, inputs = _Offset(), (torch.randn(6, 8, 8),)
    graph = _float_graph(net, inputs)
    left = lower(torch.export.export(graph, inputs))[1].left_operators
    assert "expand_copy" in left, "the delegate takes it now: the pass can go"
    assert passes.constant_products_as_linear(graph) == 1
    assert not lower(torch.export.export(graph, inputs))[1].left_operators
    assert sqnr_db(net(*inputs), _run(graph, inputs, tmp_path / "a.pte")) > 90


def _shifted(x: Tensor) -> Tensor:
    """Products with shifted copies, as a correlation has them: padding that is read by slices."""
    padded = F.pad(x, (1, 1))
    return torch.cat([x * padded[..., i : i + x.shape[3]] for i in range(3)], 1)


@torch.no_grad()
def test_padding_between_int8_and_float_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, inputs = _Function(_shifted, 24).eval(), (torch.rand(1, 3, 16, 16),)
    graph = quantise_static(net, [inputs])
    with pytest.raises(ExportError, match=r"does not load: .*StaticConstantPad"):
        _run_refused(graph, inputs, tmp_path / "plain.pte")
    assert passes.move_codes(graph) == 1
    emulated = graph(*inputs)
    assert sqnr_db(net(*inputs), emulated) > 20
    assert sqnr_db(emulated, _run(graph, inputs, tmp_path / "moved.pte")) > 30


class _Residual(nn.Module):
    """A sum that a convolution reads, and an attention over its rows, and a concatenation of both results."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8, 8))
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.a(x))
        both = first + self.b(first)
        rows = both.permute(0, 2, 3, 1).reshape(-1, 4, 8)
        mixed = torch.bmm(torch.softmax(torch.bmm(rows, rows.transpose(1, 2)), -1), rows)
        image = mixed.reshape(1, x.shape[2], x.shape[3], 8).permute(0, 3, 1, 2)
        return self.last(torch.cat([self.c(both), image], 1))


@torch.no_grad()
def test_codes_move_where_floats_did(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, inputs = _Residual().eval(), (torch.rand(1, 3, 16, 16),)
    graph = quantise_static(net, [inputs])
    before, expected = graph(*inputs), net(*inputs)
    assert passes.share_quantised_sums(graph) == 1
    passes.join_codes(graph)
    assert passes.move_codes(graph) >= 4
    after = graph(*inputs)
    assert sqnr_db(expected, after) > sqnr_db(expected, before) - 3, "no more than one more rounding"
    assert sqnr_db(after, _run(graph, inputs, tmp_path / "a.pte")) > 30


class _Tokens(nn.Module):
    """An operation in place, and tokens that change places behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Linear(8, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(self.a(x))
        frames, channels, h, w = y.shape
        tokens = self.b(y.reshape(frames, channels, h * w).permute(2, 0, 1))
        folded = tokens.reshape(h * w, frames, 2, channels // 2).permute(0, 2, 1, 3).reshape(h * w * 2, frames, -1)
        back = folded.reshape(h * w, 2, frames, -1).permute(0, 2, 1, 3).reshape(h * w, frames, channels)
        out: Tensor = self.c(back.permute(1, 2, 0).reshape(frames, channels, h, w))
        return out


def test_a_reshape_behind_a_copy_runs_in_any_order_of_memory() -> None:
    """An operation in place has the graph decomposed, and a reshape becomes a copy and a view of it."""
    torch.manual_seed(0)
    network, inputs = _Tokens().eval(), (torch.randn(3, 3, 4, 6),)
    with torch.no_grad():
        assert torch.allclose(captured(network, inputs)(*inputs), network(*inputs), atol=1e-6)
