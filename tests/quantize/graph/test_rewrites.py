"""Rewrites that leave the function as it is, on graphs alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F

from dualpix.quantize.graph import float_graph
from dualpix.quantize.graph.ranks import limit_rank
from dualpix.quantize.graph.resizing import is_by_ratio, resize_by_products, resizes
from dualpix.quantize.graph.volumes import volumes_as_pictures
from dualpix.quantize.graph.xnnpack import extremes_in_place, patches_as_slices, reshapes_by_name

Pass = Callable[[fx.GraphModule], Any]


class _Plain(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def _rewritten(function: Callable[..., Tensor] | nn.Module, change: Pass, *shapes: tuple[int, ...]) -> fx.GraphModule:
    """The graph after ``change``, which must have changed something and nothing of the result."""
    torch.manual_seed(0)
    net = function if isinstance(function, nn.Module) else _Plain(function)
    inputs = tuple(torch.randn(shape) for shape in shapes)
    with torch.no_grad():
        graph = float_graph(net.eval(), inputs)
        assert change(graph) != 0
        torch.testing.assert_close(graph(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)
    return graph


def _largest_rank(graph: fx.GraphModule) -> int:
    return max(n.meta["val"].dim() for n in graph.graph.nodes if n.op == "call_function")


def _by_products(graph: fx.GraphModule) -> int:
    return resize_by_products(graph, lambda node: True, 1 << 20)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["nearest", "nearest-exact", "bilinear", "bicubic", "area"]),
    st.tuples(st.integers(1, 12), st.integers(2, 12)),
    st.one_of(st.floats(0.3, 2.7), st.tuples(st.integers(1, 15), st.integers(1, 15))),
    st.booleans(),
    st.booleans(),
)
def test_a_resize_is_a_product_along_each_axis(
    mode: str, size: tuple[int, int], to: float | tuple[int, int], aligned: bool, antialias: bool
) -> None:
    smooth = mode in ("bilinear", "bicubic")
    options: dict[str, Any] = {"align_corners": aligned, "antialias": antialias} if smooth else {}
    if isinstance(to, tuple):
        options["size"] = to
    else:
        to = max(to, 1.0 / min(size) + 0.01)  # at least one pixel is left
        options["scale_factor"] = to
    net, inputs = _Plain(lambda x: F.interpolate(x, mode=mode, **options)), (torch.randn(1, 3, *size),)
    graph = float_graph(net, inputs)
    _by_products(graph)
    assert mode == "area" or not resizes(graph.graph)
    torch.testing.assert_close(graph(*inputs), net(*inputs), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "mode", "options"),
    [
        ((1, 3, 17), "linear", {"scale_factor": 1.3}),
        ((1, 3, 17), "nearest", {"scale_factor": 0.7}),
        ((2, 3, 4, 6, 5), "trilinear", {"scale_factor": 1.7}),
        ((1, 3, 4, 6, 5), "trilinear", {"size": (7, 3, 9), "align_corners": True}),
        ((1, 3, 4, 6, 5), "nearest", {"scale_factor": (2.0, 1.3, 0.6)}),
    ],
)
def test_a_resize_of_any_number_of_axes(shape: tuple[int, ...], mode: str, options: dict[str, Any]) -> None:
    _rewritten(lambda x: F.interpolate(x, mode=mode, **options), _by_products, shape)


def test_a_column_of_pixels_is_resized_as_any_picture() -> None:
    """torch 2.13 itself repeats the first row of such a column when it filters."""
    wide = torch.randn(1, 1, 12, 4)

    def graph_of(x: Tensor) -> fx.GraphModule:
        narrowed = _Plain(lambda y: F.interpolate(y, size=(6, y.shape[3]), mode="bilinear", antialias=True))
        graph = float_graph(narrowed, (x,))
        _by_products(graph)
        return graph

    narrow = wide[..., :1].contiguous()
    torch.testing.assert_close(graph_of(narrow)(narrow), graph_of(wide)(wide)[..., :1])
    torch.testing.assert_close(graph_of(wide)(wide), F.interpolate(wide, (6, 4), mode="bilinear", antialias=True))


def test_which_factors_are_ratios() -> None:
    def by_ratio(**options: Any) -> bool:
        graph = float_graph(_Plain(lambda x: F.interpolate(x, mode="bilinear", **options)), (torch.rand(1, 1, 12, 16),))
        (node,) = resizes(graph.graph)
        return is_by_ratio(node)

    assert by_ratio(scale_factor=2.0) and by_ratio(size=(7, 9)) and by_ratio(scale_factor=0.25)
    assert by_ratio(scale_factor=1.3, align_corners=True) and by_ratio(scale_factor=1.3, recompute_scale_factor=True)
    assert not by_ratio(scale_factor=1.3) and not by_ratio(scale_factor=(2.0, 0.7))


def test_a_matrix_that_is_too_large_is_not_made() -> None:
    graph = float_graph(_Plain(lambda x: F.interpolate(x, scale_factor=1.3)), (torch.rand(1, 1, 30, 40),))
    assert resize_by_products(graph, lambda node: True, 1000) == 0 and len(resizes(graph.graph)) == 1


def _convex(x: Tensor, mask: Tensor) -> Tensor:
    """RAFT's convex upsampling (Teed, Deng, ECCV 2020), with 7 axes."""
    b, _, h, w = x.shape
    weights = mask.view(b, 1, 9, 4, 4, h, w).softmax(2)
    patches = F.unfold(x, 3, padding=1).view(b, 1, 9, 1, 1, h, w)
    return (weights * patches).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(b, 1, 4 * h, 4 * w)


@pytest.mark.parametrize("most", [5, 6])
def test_convex_upsampling_needs_five_axes(most: int) -> None:
    graph = _rewritten(_convex, lambda g: limit_rank(g, most), (1, 1, 4, 6), (1, 144, 4, 6))
    assert _largest_rank(graph) <= most


_SEVEN = (1, 2, 3, 1, 4, 2, 2)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.permute(0, 1, 2, 3, 5, 6, 4).flatten(1),
        lambda x: x.transpose(1, 2).flatten(2),
        lambda x: x.softmax(4).flatten(),
        lambda x: x.sum((1, 4), keepdim=True).flatten(),
        lambda x: x.mean((2, 3)).flatten(),
        lambda x: x.amax(2).flatten(),
        lambda x: x[:, :, 1:3].flatten(),
        lambda x: (x * 2 + x[:, :1] - x.relu()).flatten(),
        lambda x: torch.maximum(x, x[..., :1]).flatten(),
        lambda x: x[:, :, :1].expand(-1, -1, 3, -1, -1, -1, -1).flatten(),
        lambda x: x.squeeze(3).unsqueeze(0).flatten(),
        lambda x: F.log_softmax(x, -1).flatten(),
    ],
)
def test_operators_on_seven_axes_need_fewer(function: Callable[[Tensor], Tensor]) -> None:
    shape = _SEVEN
    graph = _rewritten(lambda x: function(x.view(shape)), lambda g: limit_rank(g, 5), (1, 6, 4, 4))
    assert _largest_rank(graph) <= 5


def test_what_needs_all_its_axes_is_left_alone() -> None:
    turned = _Plain(lambda x: x.view([2] * 7).permute(6, 4, 2, 0, 5, 3, 1).flatten())
    graph = float_graph(turned, (torch.rand(128),))
    limit_rank(graph, 5)
    assert _largest_rank(graph) == 7
    assert torch.equal(graph(torch.arange(128.0)), turned(torch.arange(128.0)))


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2)),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 2),
    st.booleans(),
)
def test_volumes_are_pictures(
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    padding: int,
    dilation: int,
    groups: int,
    batch: int,
    bias: bool,
) -> None:
    net = nn.Conv3d(4, 8, kernel, stride, padding, dilation, groups, bias)
    graph = _rewritten(net, volumes_as_pictures, (batch, 4, 6, 7, 8))
    assert not any("conv3d" in str(n.target) for n in graph.graph.nodes)


@pytest.mark.parametrize(
    "options", [{}, {"padding": 1}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"stride": (1, 3), "padding": (2, 0)}]
)
def test_patches_are_slices(options: dict[str, Any]) -> None:
    _rewritten(lambda x: F.unfold(x, (3, 2), **options), patches_as_slices, (2, 3, 8, 9))
    _rewritten(lambda x: F.unfold(x, 1), patches_as_slices, (1, 3, 4, 5))


@pytest.mark.parametrize(
    "function",
    [lambda x: x.max(1)[0], lambda x: x.min(-1)[0], lambda x: x.amax((2, 3)), lambda x: x.max(1, keepdim=True)[0]],
)
def test_extremes_keep_their_axis(function: Callable[[Tensor], Tensor]) -> None:
    graph = _rewritten(function, extremes_in_place, (2, 3, 4, 5))
    assert {str(n.target).split(".")[1] for n in graph.graph.nodes if n.op == "call_function"} <= {
        "amax", "amin", "reshape",
    }  # fmt: skip


def test_a_position_is_not_lost() -> None:
    graph = float_graph(_Plain(lambda x: x.max(1)[1] + x.max(1)[0]), (torch.rand(1, 3, 4, 4),))
    assert extremes_in_place(graph) == 1, "of two, one gives its position"


def test_changes_of_shape_are_reshapes() -> None:
    def change(graph: fx.GraphModule) -> int:
        reshapes_by_name(graph)
        return 1

    graph = _rewritten(lambda x: x.squeeze(1).unsqueeze(0).flatten(2).unflatten(2, (4, -1)), change, (2, 1, 4, 6))
    assert {str(n.target) for n in graph.graph.nodes if n.op == "call_function"} == {"aten.reshape.default"}
