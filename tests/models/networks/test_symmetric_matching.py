"""All pairs of both halves with the view between them: against the usual form, and a known shift is found."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.networks.symmetric_matching import LEVELS, RADIUS, SymmetricMatching

TAPS = 2 * RADIUS + 1


def published(centre: Tensor, left: Tensor, right: Tensor, half_px: Tensor) -> Tensor:
    """RAFT-Stereo's volume, pyramid of the volume and ``grid_sample``, once for each half; windows of L turned over."""
    b, c, h, w = centre.shape
    x = torch.arange(w, dtype=centre.dtype)
    found = []
    for side, view in ((-1, left), (1, right)):
        volume = torch.einsum("bchx,bchs->bhxs", centre, view) / c**0.5
        lines = volume.reshape(b * h * w, 1, 1, w)
        for level in range(LEVELS):
            columns = lines.shape[3]
            at = ((x + side * half_px[:, 0]) / 2**level).reshape(-1, 1) + torch.arange(-RADIUS, RADIUS + 1)
            place = 2 * at / (columns - 1) - 1
            grid = torch.stack([place, torch.zeros_like(place)], -1)[:, None]
            taps = F.grid_sample(lines, grid, padding_mode="zeros", align_corners=True)
            taps = taps.reshape(b, h, w, TAPS).permute(0, 3, 1, 2)
            found.append(taps.flip(1) if side < 0 else taps)
            if level < LEVELS - 1:
                lines = F.avg_pool2d(lines, (1, 2), (1, 2))
    return torch.cat(found, 1)


def features(h: int = 2, w: int = 16, channels: int = 4, batch: int = 2, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, channels, h, w, generator=generator, dtype=torch.float64) for _ in range(3)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1.0, 6.0, 40.0]), st.sampled_from([16, 32, 48]))
def test_equals_the_published_form(seed: int, reach_px: float, width: int) -> None:
    views = features(w=width, seed=seed)
    matching = SymmetricMatching(views[0].shape[1]).double()
    half_px = (2 * torch.rand(2, 1, 2, width, dtype=torch.float64) - 1) * reach_px
    seen = matching(matching.volumes(*views), half_px)
    assert seen.shape == (2, SymmetricMatching.similarities, 2, width) == (2, 72, 2, width)
    torch.testing.assert_close(seen, published(*views, half_px), atol=1e-9, rtol=1e-9)


def test_by_hand() -> None:
    """One channel of 1 in C; L and R are ramps: what is looked up is the place itself."""
    width = 16
    ramp = torch.arange(width, dtype=torch.float32).reshape(1, 1, 1, width)
    matching = SymmetricMatching(1)
    seen = matching(matching.volumes(torch.ones_like(ramp), ramp, 100 * ramp), torch.full_like(ramp, 1.5))
    left, right = seen[0, :TAPS, 0, 8], seen[0, LEVELS * TAPS : LEVELS * TAPS + TAPS, 0, 8]
    offsets = torch.arange(-RADIUS, RADIUS + 1)
    torch.testing.assert_close(left, 8 - 1.5 - offsets)  # a larger h is further to the left in L ...
    torch.testing.assert_close(right[:-1], 100 * (8 + 1.5 + offsets[:-1]))  # ... and to the right in R
    # level 1: columns of two, (8 - 1.5) / 2 = 3.25, whose means are 0.5, 2.5, 4.5 ...
    torch.testing.assert_close(float(seen[0, TAPS + RADIUS, 0, 8]), 0.5 + 2 * 3.25)
    # ten columns of level 0 further nothing is left but zeros
    far = matching(matching.volumes(torch.ones_like(ramp), ramp + 1, ramp + 1), torch.full_like(ramp, 1e9))
    assert not far.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(-12, 12), st.integers(-3, 3), st.integers(0, 1000))
def test_a_known_shift_is_found_with_its_sign(half_px: int, off_px: int, seed: int) -> None:
    """A point at x of C lies at x - h in L and x + h in R: ``x_right - x_left`` is 2 h."""
    centre = F.normalize(features(w=64, channels=32, batch=1, seed=seed)[0], dim=1)
    left, right = centre.roll(-half_px, 3), centre.roll(half_px, 3)
    x = 32
    assert torch.equal(left[..., x - half_px], centre[..., x]) and torch.equal(right[..., x + half_px], centre[..., x])
    matching = SymmetricMatching(32).double()
    guess = torch.full((1, 1, 2, 64), float(half_px - off_px), dtype=torch.float64)
    seen = matching(matching.volumes(centre, left, right), guess)[0, :, 0, x]
    for side in (0, LEVELS * TAPS):
        assert int(seen[side : side + TAPS].argmax()) - RADIUS == off_px


def test_an_odd_column_stays_alone() -> None:
    """Published, it is dropped; widths of multiples of 32 px at full size have none."""
    views = features(w=12)
    volumes = SymmetricMatching(4).double().volumes(*views)
    assert [v.shape[3] for v in volumes] == [12, 6, 3, 2] * 2
    torch.testing.assert_close(volumes[3][..., 1], volumes[2][..., 2])
    assert [v.shape[3] for v in SymmetricMatching(4).double().volumes(*features(w=4))] == [4, 2, 1, 1] * 2


def test_no_number_stays_none() -> None:
    matching = SymmetricMatching(4).double()
    half_px = torch.zeros(2, 1, 2, 16, dtype=torch.float64)
    half_px[0, 0, 1, 3] = float("nan")
    seen = matching(matching.volumes(*features()), half_px)
    assert seen.isnan().all(1)[0, 1, 3] and int(seen.isnan().any(1).sum()) == 1


class _Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matching = SymmetricMatching(4)

    def forward(self, centre: Tensor, left: Tensor, right: Tensor, half_px: Tensor) -> Tensor:
        seen: Tensor = self.matching(self.matching.volumes(centre, left, right), half_px)
        return seen


@pytest.mark.parametrize("width", [16, 20])
def test_fixed_for_export_it_is_the_same_without_an_index(width: int) -> None:
    network = _Both().eval()
    views = [view[:1].float() for view in features(w=width)]
    half_px = 12 * torch.rand(1, 1, 2, width) - 6
    expected = network(*views, half_px)
    network.matching.fix_width(width)
    assert not network.state_dict()
    assert torch.equal(network(*views, half_px), expected)  # eager never reads it
    exported = torch.export.export(network, (*views, half_px))
    assert not [n for n in exported.graph.nodes if "gather" in str(n.target) or "index" in str(n.target)]
    torch.testing.assert_close(exported.module()(*views, half_px), expected, atol=1e-5, rtol=1e-5)
    network.matching.fix_width(None)
    assert torch.equal(network(*views, half_px), expected)
