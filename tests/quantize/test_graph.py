"""Each graph pass beside what happens without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from tests.support.tiny_net import scene, sqnr_db, tiny_net
from torch import Tensor, fx, nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from dualpix.export.artefact import ExportError
from dualpix.export.executorch.probe import run_apart
from dualpix.export.executorch.xnnpack import lower
from dualpix.quantize.graph import fold_batch_norm, harmonise_scales, unshare_weights

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
    path.write_bytes(lower(torch.export.export(graph, inputs))[0])
    return run_apart(path, inputs)


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
    folded = fold_batch_norm(net)
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
    assert prepared_gap(fold_batch_norm(net)) > 80


@torch.no_grad()
def test_shared_weights_load_and_shared_biases_are_right(tmp_path: Path) -> None:
    net, inputs = fold_batch_norm(tiny_net()), scene()
    expected = net(*inputs)

    def converted(prepare: bool, share_biases: bool = False) -> fx.GraphModule:
        graph = torch.export.export(net, inputs).module()
        if prepare:
            graph = _share_biases_only(graph) if share_biases else unshare_weights(graph)
        return convert_pt2e(_prepare(graph, inputs))

    with pytest.raises(ExportError, match=r"does not load: .*convolution"):
        _run(converted(prepare=False), inputs, tmp_path / "shared.pte")
    shared_biases = sqnr_db(expected, _run(converted(True, share_biases=True), inputs, tmp_path / "biases.pte"))
    apart = converted(True)
    gained = sqnr_db(expected, _run(apart, inputs, tmp_path / "apart.pte"))
    assert gained > 25
    assert gained > shared_biases + 6, "a shared bias is read in the other call's units"
    assert abs(gained - sqnr_db(expected, apart(*inputs))) < 3, "the runtime agrees with the emulation"


def test_unsharing_copies_vectors_and_leaves_weights_one_tensor() -> None:
    net, inputs = fold_batch_norm(tiny_net()), scene()
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
        _run(converted(), inputs, tmp_path / "plain.pte")
    graph = converted()
    assert harmonise_scales(graph) == 3
    assert sqnr_db(net(*inputs), _run(graph, inputs, tmp_path / "harmonised.pte")) > 20
    assert harmonise_scales(graph) == 0, "nothing is left to change"
