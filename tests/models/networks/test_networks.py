"""The compact DiFuse-Net: shapes, size, attention against a loop, and operators that phones have."""

from __future__ import annotations

import pytest
import torch
from tests.support.network_options import NEEDED
from torch import Tensor

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.models.blocks import WindowedParallaxAttention
from dualpix.models.networks import NETWORKS, build_network, network_spec
from dualpix.models.networks.spec import first_output
from dualpix.models.prepare import MEAN_LEVEL, network_inputs
from dualpix.models.tasks import DUAL_PIXEL


def inputs(b: int = 1, h: int = 64, w: int = 96) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return (
        torch.rand(b, 3, h, w, generator=g), torch.rand(b, 1, h, w, generator=g), torch.rand(b, 1, h, w, generator=g)
    )  # fmt: skip


def test_the_compact_network_is_compact() -> None:
    assert sum(p.numel() for p in build_network("difusenet").parameters()) == 843_370


@pytest.mark.parametrize("name", sorted(name for name, spec in NETWORKS.items() if spec.task == DUAL_PIXEL.name))
def test_shapes_and_finiteness(name: str) -> None:
    torch.manual_seed(0)
    network, spec = build_network(name, NEEDED.get(name)).eval(), network_spec(name, NEEDED.get(name))
    # published forms are for comparison, no phone runs them
    assert name.endswith("-paper") or sum(p.numel() for p in network.parameters()) <= 2_500_000
    for b, h, w in ((1, 64, 96), (2, 32, 160)):
        given = dict(zip(("image", "left", "right"), inputs(b, h, w), strict=True))
        outputs = network(*(given[field] for field in spec.input_names))
        out = first_output(outputs)
        assert out.shape == (b, 1, h, w) and torch.isfinite(out).all()
        assert isinstance(outputs, Tensor) or len(outputs) == len(spec.outputs)


def test_unknown_network_and_options() -> None:
    with pytest.raises(
        UnknownNameError, match="unknown network 'unet'; expected one of: " + ", ".join(sorted(NETWORKS))
    ):
        network_spec("unet")
    assert build_network("difusenet", {"window": 4, "dp_channels": [8, 16]}).config.window == 4  # type: ignore[union-attr]
    with pytest.raises(DualpixError, match="expected 'other' or 'own'"):
        build_network("difusenet", {"attended": "both"})
    with pytest.raises(DualpixError, match="window is 12, expected 2, 4 or 8"):
        build_network("difusenet", {"window": 12})


def loop_attention(module: WindowedParallaxAttention, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The definition, pixel by pixel: matched features of the other view and expected offset, for the left view."""
    query, key = module.query(left), module.key(right)
    _, c, h, w = left.shape
    k = module.window
    attended, offset = torch.zeros_like(left), torch.zeros(1, 1, h, w)
    for y in range(h):
        for x in range(w):
            start = x // k * k
            scores = torch.stack([(query[0, :, y, x] * key[0, :, y, start + j]).sum() for j in range(k)]) * c**-0.5
            weights = torch.softmax(scores, 0)
            source = right if module.attended == "other" else left
            attended[0, :, y, x] = sum(weights[j] * source[0, :, y, start + j] for j in range(k))
            offset[0, 0, y, x] = sum(weights[j] * (start + j - x) for j in range(k))
    return attended, offset


@pytest.mark.parametrize("attended", ["other", "own"])
def test_attention_equals_its_definition(attended: str) -> None:
    torch.manual_seed(1)
    module = WindowedParallaxAttention(6, window=4, attended=attended).eval()
    left, right = torch.randn(1, 6, 3, 8), torch.randn(1, 6, 3, 8)
    captured: list[Tensor] = []
    module.merge.register_forward_pre_hook(lambda _, args: captured.append(args[0]))
    with torch.inference_mode():
        module(left, right)
        expected = loop_attention(module, left, right)
    torch.testing.assert_close(captured[0][:, 6:12], expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(captured[0][:, 12:], expected[1], rtol=1e-5, atol=1e-5)


def test_expected_offset_finds_a_shift() -> None:
    # identity projections and sharp one-hot features: the offset must be the shift that was put in
    module = WindowedParallaxAttention(8, window=8).eval()
    with torch.no_grad():
        for projection in (module.query, module.key):
            projection.weight.copy_(30 * torch.eye(8)[:, :, None, None])
    left = torch.eye(8)[None, :, None, :]
    captured: list[Tensor] = []
    module.merge.register_forward_pre_hook(lambda _, args: captured.append(args[0]))
    with torch.inference_mode():
        module(left, left.roll(2, -1))
    torch.testing.assert_close(captured[0][0, 16, 0, :6], torch.full((6,), 2.0))  # right sees it 2 px further right
    torch.testing.assert_close(captured[1][0, 16, 0, 2:], torch.full((6,), 2.0))  # negated: the same sign for both


def test_only_operators_that_backends_delegate() -> None:
    exported = torch.export.export(build_network("difusenet").eval(), inputs()).run_decompositions({})
    used = {str(n.target) for n in exported.graph.nodes if n.op == "call_function"}
    forbidden = (
        "scaled_dot_product",
        "grid_sampler",
        "hardswish",
        "gather",
        "index",
        "upsample_nearest",
        "bicubic",
        "roll",
    )
    assert not [op for op in used if any(f in op for f in forbidden)]
    for node in exported.graph.nodes:
        if node.op == "call_function" and "_softmax" in str(node.target):
            assert node.meta["val"].ndim == 3  # on 4-D next to a convolution XNNPACK computes it over the wrong axis


def test_network_inputs_do_not_depend_on_exposure_and_keep_the_halves_comparable() -> None:
    g = torch.Generator().manual_seed(2)
    left, right, combined = (torch.rand(1, c, 32, 32, generator=g) for c in (1, 1, 3))
    image_a, left_a, right_a = network_inputs(left, right, combined)
    image_b, left_b, right_b = network_inputs(0.1 * left, 0.1 * right, 0.1 * combined)
    for a, b in ((image_a, image_b), (left_a, left_b), (right_a, right_b)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    assert float(((left_a + 0.4) ** 2 + (right_a + 0.4) ** 2).mean()) == pytest.approx(2 * MEAN_LEVEL, rel=0.02)
    grey, _, _ = network_inputs(left, right, combined[:, :1])
    assert grey.shape == (1, 3, 32, 32) and torch.equal(grey[:, 0], grey[:, 2])
    dark = network_inputs(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), -0.01), torch.zeros(1, 1, 8, 8))
    assert all(torch.isfinite(t).all() for t in dark)
