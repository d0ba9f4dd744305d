"""Every block equals its plain form, in values and in gradients, over random shapes."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.attention import TokenAttention, WindowAttention, from_windows, roll, to_windows
from dualpix.models.blocks.channels import ChannelMean, LayerNorm2d, LayerNormTokens, float_islands
from dualpix.models.blocks.correlation import (
    BAND_WIDTH_PX,
    CorrelationBand,
    CorrelationShifts,
    SoftArgmax,
    TentLookup,
    correlation,
    correlation_plain,
    look_up_plain,
    soft_argmax_plain,
)
from dualpix.models.blocks.recurrent import ConvGRU, SeparableConvGRU
from dualpix.models.blocks.resize import (
    AntialiasedShrink,
    ConvexUpsample,
    mean_pool,
    pixel_shuffle,
    pixel_unshuffle,
    upsample,
)

Form = Callable[..., Tensor]

sizes = st.integers(1, 4)
seeds = st.integers(0, 2**16)
few = settings(max_examples=8, deadline=None)


def _random(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def _agree(block: Form, plain: Form, inputs: list[Tensor], parameters: nn.Module | None = None) -> None:
    """Same values, and the same gradients of a random projection of them to inputs and parameters."""
    weights = [] if parameters is None else list(parameters.parameters())
    leaves = [x.clone().requires_grad_() for x in inputs]
    results = []
    for form in (block, plain):
        y = form(*leaves)
        generator = torch.Generator().manual_seed(3)
        total = (y * torch.randn(y.shape, generator=generator)).sum()
        results.append((y, torch.autograd.grad(total, [*leaves, *weights])))
    (y, gradients), (expected, expected_gradients) = results
    assert y.shape == expected.shape
    torch.testing.assert_close(y, expected, atol=2e-5, rtol=2e-5)
    for found, right in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(found, right, atol=1e-4, rtol=1e-4)


@few
@given(b=sizes, c=st.integers(1, 9), h=sizes, w=sizes, seed=seeds)
def test_sums_over_channels(b: int, c: int, h: int, w: int, seed: int) -> None:
    inputs = _random(seed, (b, c, h, w))
    _agree(ChannelMean(c), lambda x: x.mean(1, keepdim=True), inputs)


@few
@given(b=sizes, c=st.integers(3, 9), h=sizes, w=sizes, seed=seeds)
def test_layer_norms(b: int, c: int, h: int, w: int, seed: int) -> None:
    image, tokens, gain, bias = _random(seed, (b, c, h, w), (b, h, c), (c,), (c,))
    for norm, x in ((LayerNorm2d(c, 1e-3), image), (LayerNormTokens(c, 1e-3), tokens)):
        norm.load_state_dict({"weight": gain, "bias": bias})
        _agree(norm, norm.plain, [x], norm)


def test_float_islands_are_paths_of_submodules() -> None:
    network = nn.ModuleDict(
        {"a": nn.Sequential(nn.ReLU(), LayerNorm2d(3)), "b": SoftArgmax(2), "c": nn.Conv2d(1, 1, 1)}
    )
    assert float_islands(network) == ("a.1.mean", "b.expected")
    assert float_islands(LayerNorm2d(3)) == ("mean",)
    modules = dict(network.named_modules())
    assert all(path in modules for path in float_islands(network))


def test_a_token_norm_takes_the_weights_of_torchs() -> None:
    own = LayerNormTokens(6)
    own.load_state_dict(nn.LayerNorm(6).state_dict())


@few
@given(b=sizes, c=st.integers(1, 5), h=sizes, w=st.integers(1, 12), reach=st.integers(0, 8), seed=seeds)
def test_correlation_in_both_forms(b: int, c: int, h: int, w: int, reach: int, seed: int) -> None:
    inputs = _random(seed, (b, c, h, w), (b, c, h, w))
    for form in (CorrelationBand(c, reach), CorrelationShifts(c, reach)):
        _agree(form, lambda left, right: correlation_plain(left, right, reach), inputs)


@pytest.mark.parametrize("shift_px", [-3, 0, 2])
def test_the_largest_correlation_is_at_the_disparity(shift_px: int) -> None:
    """House convention: left(x) is seen again at right(x + d)."""
    (left,) = _random(1, (1, 16, 4, 20))
    right = torch.roll(left, shift_px, 3)
    for form in (CorrelationBand(16, 4), CorrelationShifts(16, 4)):
        best = form(left, right).argmax(1) - 4
        assert (best[:, :, 4:-4] == shift_px).all()


def test_the_form_follows_the_width() -> None:
    assert isinstance(correlation(8, 4, BAND_WIDTH_PX), CorrelationBand)
    assert isinstance(correlation(8, 4, BAND_WIDTH_PX + 1), CorrelationShifts)


@few
@given(b=sizes, h=sizes, w=sizes, reach=st.integers(1, 6), radius=st.integers(0, 3), seed=seeds)
def test_look_up_inside_and_outside_the_volume(b: int, h: int, w: int, reach: int, radius: int, seed: int) -> None:
    volume, at = _random(seed, (b, 2 * reach + 1, h, w), (b, 1, h, w))
    at = at * reach  # a third of the samples lies outside, where both see zeros
    at = at + 0.05 * ((at - at.round()).abs() < 0.02)  # at a whole shift the slope has two sides
    _agree(TentLookup(reach, radius), lambda v, d: look_up_plain(v, d, radius), [volume, at])


def test_a_ramp_is_looked_up_exactly_at_any_width() -> None:
    shifts = torch.arange(-8.0, 9.0).reshape(1, 17, 1, 1).expand(1, 17, 1, 500)
    at = torch.linspace(-5, 5, 500).reshape(1, 1, 1, 500)
    torch.testing.assert_close(TentLookup(8, 1)(shifts, at), torch.cat([at - 1, at, at + 1], 1))


@few
@given(b=sizes, h=sizes, w=sizes, reach=st.integers(0, 8), gain=st.floats(0.1, 20), seed=seeds)
def test_soft_argmax(b: int, h: int, w: int, reach: int, gain: float, seed: int) -> None:
    (scores,) = _random(seed, (b, 2 * reach + 1, h, w))
    _agree(SoftArgmax(reach), soft_argmax_plain, [gain * scores])


def test_soft_argmax_of_one_peak_is_its_signed_shift() -> None:
    scores = torch.zeros(1, 9, 1, 2)
    scores[0, 1, 0, 0] = scores[0, 6, 0, 1] = 60.0
    torch.testing.assert_close(SoftArgmax(4)(scores).flatten(), torch.tensor([-3.0, 2.0]))


@few
@given(b=sizes, n=st.integers(1, 7), heads=sizes, width=sizes, seed=seeds)
def test_token_attention(b: int, n: int, heads: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    attention = TokenAttention(heads * width, heads)
    _agree(attention, attention.plain, _random(seed, (b, n, heads * width)), attention)


@few
@given(b=st.integers(1, 2), rows=sizes, columns=sizes, window=st.integers(2, 4), shift=st.integers(0, 3), seed=seeds)
def test_window_attention(b: int, rows: int, columns: int, window: int, shift: int, seed: int) -> None:
    torch.manual_seed(seed)
    size = (rows * window, columns * window)
    attention = WindowAttention(6, 2, window, shift_px=min(shift, window - 1), size_hw=size)
    nn.init.normal_(attention.position_bias)
    _agree(attention, attention.plain, _random(seed, (b, 6, *size)), attention)


def test_a_shift_brings_no_strangers_together() -> None:
    """The first column and the last share a window after the roll; neither may see the other."""
    attention = WindowAttention(4, 1, 4, shift_px=2, size_hw=(8, 8))
    (x,) = _random(2, (1, 4, 8, 8))
    changed = x.clone()
    changed[:, :, :, -1] += 5.0
    with torch.no_grad():
        difference = (attention(x) - attention(changed)).abs().amax((0, 1, 2))
    assert difference[-1] > 1e-3
    assert (difference[:2] == 0).all()


def test_a_shift_without_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="needs size_hw"):
        WindowAttention(4, 1, 4, shift_px=2)


@few
@given(b=sizes, c=sizes, rows=sizes, columns=sizes, window=sizes, seed=seeds)
def test_windows_there_and_back(b: int, c: int, rows: int, columns: int, window: int, seed: int) -> None:
    h, w = rows * window, columns * window
    (x,) = _random(seed, (b, c, h, w))
    tokens = to_windows(x, window)
    assert tokens.shape == (b * rows * columns, window**2, c)
    assert torch.equal(tokens[0], x[0, :, :window, :window].flatten(1).T)
    assert torch.equal(from_windows(tokens, (b, h, w), window), x)


@few
@given(h=st.integers(1, 6), w=st.integers(1, 6), y=st.integers(-9, 9), s=st.integers(-9, 9), seed=seeds)
def test_roll(h: int, w: int, y: int, s: int, seed: int) -> None:
    _agree(lambda x: roll(x, y, s), lambda x: torch.roll(x, (y, s), (2, 3)), _random(seed, (2, 3, h, w)))


@few
@given(b=sizes, c=sizes, h=sizes, w=sizes, factor=st.integers(2, 5), seed=seeds)
def test_resizing_by_whole_factors(b: int, c: int, h: int, w: int, factor: int, seed: int) -> None:
    small, large, many = _random(seed, (b, c, h, w), (b, c, h * factor, w * factor), (b, c * factor**2, h, w))
    enlarged = (h * factor, w * factor)
    _agree(
        lambda x: upsample(x, factor),
        lambda x: F.interpolate(x, size=enlarged, mode="bilinear", align_corners=False),
        [small],
    )
    _agree(lambda x: mean_pool(x, factor), lambda x: F.interpolate(x, size=(h, w), mode="area"), [large])
    shrink = AntialiasedShrink(c, factor, enlarged)
    if w > 1:  # torch's own result of one column is not what its tent says; see the next test
        _agree(shrink, shrink.plain, [large])
    _agree(lambda x: pixel_shuffle(x, factor), lambda x: F.pixel_shuffle(x, factor), [many])
    _agree(lambda x: pixel_unshuffle(x, factor), lambda x: F.pixel_unshuffle(x, factor), [large])


def _tent_matrix(count: int, factor: int) -> Tensor:
    """(count, count * factor): each row averages around the middle of its ``factor`` pixels."""
    middles = (torch.arange(count) + 0.5)[:, None] * factor - 0.5
    tents = (1 - (torch.arange(count * factor)[None] - middles).abs() / factor).clamp_min(0)
    return tents / tents.sum(1, keepdim=True)


@few
@given(h=sizes, w=sizes, factor=st.integers(2, 5), seed=seeds)
def test_antialiased_shrinking_is_a_product_of_tents(h: int, w: int, factor: int, seed: int) -> None:
    (x,) = _random(seed, (1, 2, h * factor, w * factor))
    rows, columns = _tent_matrix(h, factor), _tent_matrix(w, factor)
    _agree(AntialiasedShrink(2, factor, (h * factor, w * factor)), lambda y: rows @ y @ columns.T, [x])


@few
@given(b=sizes, h=sizes, w=sizes, factor=st.integers(1, 4), gain=st.floats(0.1, 40), seed=seeds)
def test_convex_upsampling(b: int, h: int, w: int, factor: int, gain: float, seed: int) -> None:
    disparity, scores = _random(seed, (b, 1, h, w), (b, 9 * factor**2, h, w))
    up = ConvexUpsample(factor)
    _agree(up, up.plain, [disparity, gain * scores])


def test_convex_upsampling_gives_fine_pixels() -> None:
    up = ConvexUpsample(4)(torch.full((1, 1, 5, 5), 1.5), torch.zeros(1, 144, 5, 5))
    torch.testing.assert_close(up[:, :, 4:-4, 4:-4], torch.full((1, 1, 12, 12), 6.0))


@few
@given(b=sizes, h=sizes, w=sizes, hidden=sizes, given_=sizes, steps=st.integers(1, 3), seed=seeds)
def test_unrolled_grus(b: int, h: int, w: int, hidden: int, given_: int, steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    for cell in (ConvGRU(hidden, given_), SeparableConvGRU(hidden, given_)):

        def unrolled(state: Tensor, x: Tensor, cell: nn.Module = cell) -> Tensor:
            seen = cell.look(x)  # type: ignore[operator]
            for _ in range(steps):
                state = cell(state, seen)
            return state

        def plain(state: Tensor, x: Tensor, cell: nn.Module = cell) -> Tensor:
            for _ in range(steps):
                state = cell.plain(state, x)  # type: ignore[operator]
            return state

        _agree(unrolled, plain, _random(seed, (b, hidden, h, w), (b, given_, h, w)), cell)
