"""DINOv2's transformer: positions as published, one size kept for export, one function in eager mode and exported."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.foundation import TINY_VIT, tiny_vit

from dualpix.models.foundation.vit import VIT, DinoViT


def _cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75, torch's."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0.0


def _resize_matrix(target: int, scale: float, source: int = 37) -> np.ndarray:
    """(target, source): bicubic by ``scale``, borders repeated."""
    matrix = np.zeros((target, source))
    for i in range(target):
        place = (i + 0.5) / scale - 0.5
        for tap in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[i, min(max(tap, 0), source - 1)] += _cubic(place - tap)
    return matrix


@pytest.mark.parametrize("offset", [0.1, 0.0])
@pytest.mark.parametrize("grid", [(4, 5), (37, 50), (60, 37)])
def test_positions_are_resized_as_published(grid: tuple[int, int], offset: float) -> None:
    """The scale that is sampled by is (side + 0.1) / 37, not side / 37."""
    network = DinoViT(replace(TINY_VIT, position_offset=offset))
    table = network.pos_embed[0, 1:].detach().double().numpy().reshape(37, 37, -1)
    rows, columns = (_resize_matrix(side, (side + offset) / 37) for side in grid)
    expected = np.einsum("yh,xw,hwc->yxc", rows, columns, table).reshape(1, -1, table.shape[2])
    seen = network.patch_positions(*grid).detach().numpy()
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_the_offset_is_no_trifle() -> None:
    network = tiny_vit()
    plain = DinoViT(replace(TINY_VIT, position_offset=0.0))
    plain.load_state_dict(network.state_dict())
    difference = (network.patch_positions(8, 8) - plain.patch_positions(8, 8)).abs().max()
    assert difference > 0.05 * network.pos_embed.std()


def test_trained_size_takes_the_table_as_it_is() -> None:
    network = tiny_vit()
    assert torch.equal(network.patch_positions(37, 37), network.pos_embed[:, 1:])


def test_features_are_the_tapped_blocks_in_order() -> None:
    network = tiny_vit()
    image = torch.randn(2, 3, 42, 70)
    with torch.no_grad():
        features = network(image)
        tokens = network.embed(image)
        for i, block in enumerate(network.blocks):
            tokens = block(tokens)
            if i in TINY_VIT.taps:
                seen = features[TINY_VIT.taps.index(i)]
                expected = network.norm(tokens)[:, 1:].reshape(2, 3, 5, TINY_VIT.channels)
                torch.testing.assert_close(seen.permute(0, 2, 3, 1), expected)


def test_a_fixed_size_is_for_export_and_refuses_another_there() -> None:
    network, image = tiny_vit(), torch.randn(2, 3, 42, 70)
    network.fix_size((42, 70))
    assert set(network.state_dict()) == set(tiny_vit().state_dict()), "what is kept is not saved"
    turned = image.transpose(2, 3)
    network(turned)
    with pytest.raises(ValueError, match=r"5 x 3 patches, fixed at \(3, 5\)"):
        torch.export.export(network, (turned,))


def test_a_fixed_size_follows_a_state_dict_that_is_loaded() -> None:
    network, image = tiny_vit(), torch.randn(1, 3, 42, 70)
    network.fix_size((42, 70))
    other = {key: value * 1.5 for key, value in network.state_dict().items()}
    network.load_state_dict(other)
    with torch.no_grad():
        seen, expected = torch.export.export(network, (image,)).module()(image), network(image)
    for a, b in zip(seen, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_exported_form_is_the_same_function(batch: int) -> None:
    network, image = tiny_vit(), torch.randn(batch, 3, 42, 70)
    network.fix_size((42, 70))
    program = torch.export.export(network, (image,))
    kinds = {str(node.target) for node in program.graph.nodes}
    assert not any("scaled_dot_product" in kind or "layer_norm" in kind for kind in kinds), "the delegated forms"
    with torch.no_grad():
        for a, b in zip(program.module()(image), network(image), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_autocast_keeps_norms_in_float32() -> None:
    network, image = tiny_vit(), torch.randn(1, 3, 42, 70)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        halves = network(image)
    with torch.no_grad():
        whole = network(image)
    for a, b in zip(halves, whole, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().mean() < 0.05


def test_timm_computes_the_same() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed: no second implementation to compare with")
    theirs = timm.create_model("vit_small_patch14_dinov2", pretrained=False, dynamic_img_size=True).eval()
    ours = DinoViT(replace(VIT["vits"], position_offset=0.0, position_antialias=True)).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        ours.load_state_dict({**ours.state_dict(), **theirs.state_dict()})
        image = torch.randn(1, 3, 140, 224)
        expected = theirs.forward_intermediates(image, indices=[2, 5, 8, 11], norm=True, intermediates_only=True)
        for a, b in zip(ours(image), expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
