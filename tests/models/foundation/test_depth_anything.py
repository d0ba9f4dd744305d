"""Depth Anything V2: the published names and sizes, its maps and depth, and transformers' where it is installed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from tests.support.foundation import stirred, tiny_depth_anything
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.models.foundation import foundation, names
from dualpix.models.foundation.depth_anything import DPT, DepthAnythingV2, depth_anything_v2
from dualpix.models.foundation.vit import VIT

Shapes = dict[str, tuple[int, ...]]


def _published_vit(c: int, blocks: int) -> Shapes:
    """Names and shapes of facebookresearch/dinov2's vision_transformer.py, written down from there."""
    shapes: Shapes = {"cls_token": (1, 1, c), "pos_embed": (1, 1370, c), "mask_token": (1, c)}
    shapes |= {"patch_embed.proj.weight": (c, 3, 14, 14), "patch_embed.proj.bias": (c,)}
    shapes |= {"norm.weight": (c,), "norm.bias": (c,)}
    for i in range(blocks):
        for layer, out, into in (
            ("attn.qkv", 3 * c, c),
            ("attn.proj", c, c),
            ("mlp.fc1", 4 * c, c),
            ("mlp.fc2", c, 4 * c),
        ):
            shapes |= {f"blocks.{i}.{layer}.weight": (out, into), f"blocks.{i}.{layer}.bias": (out,)}
        for vector in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            shapes[f"blocks.{i}.{vector}"] = (c,)
    return shapes


def _published_depth_anything(c: int, blocks: int, width: int, parts: tuple[int, ...]) -> Shapes:
    """Names and shapes of DepthAnything/Depth-Anything-V2's dpt.py and util/blocks.py, written down from there."""
    shapes = {f"pretrained.{key}": shape for key, shape in _published_vit(c, blocks).items()}
    convolutions: dict[str, tuple[tuple[int, ...], int]] = {}
    for i, part in enumerate(parts):
        convolutions[f"projects.{i}"] = ((part, c, 1, 1), part)
        shapes[f"depth_head.scratch.layer{i + 1}_rn.weight"] = (width, part, 3, 3)
        for unit in ("resConfUnit1", "resConfUnit2"):
            for n in (1, 2):
                convolutions[f"scratch.refinenet{i + 1}.{unit}.conv{n}"] = ((width, width, 3, 3), width)
        convolutions[f"scratch.refinenet{i + 1}.out_conv"] = ((width, width, 1, 1), width)
    convolutions["resize_layers.0"] = ((parts[0], parts[0], 4, 4), parts[0])
    convolutions["resize_layers.1"] = ((parts[1], parts[1], 2, 2), parts[1])
    convolutions["resize_layers.3"] = ((parts[3], parts[3], 3, 3), parts[3])
    convolutions["scratch.output_conv1"] = ((width // 2, width, 3, 3), width // 2)
    convolutions["scratch.output_conv2.0"] = ((32, width // 2, 3, 3), 32)
    convolutions["scratch.output_conv2.2"] = ((1, 32, 1, 1), 1)
    for key, (weight, bias) in convolutions.items():
        shapes |= {f"depth_head.{key}.weight": weight, f"depth_head.{key}.bias": (bias,)}
    return shapes


@pytest.mark.parametrize(
    ("variant", "published", "millions"),
    [
        ("vits", (384, 12, 64, (48, 96, 192, 384)), 24.79),
        ("vitb", (768, 12, 128, (96, 192, 384, 768)), 97.47),
        ("vitl", (1024, 24, 256, (256, 512, 1024, 1024)), 335.32),
    ],
)
def test_names_shapes_and_size_are_the_published_ones(
    variant: str, published: tuple[int, int, int, tuple[int, ...]], millions: float
) -> None:
    with torch.device("meta"):
        network = depth_anything_v2(variant)
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == _published_depth_anything(*published)
    encoder = {k: tuple(v.shape) for k, v in network.pretrained.state_dict().items()}
    assert encoder == _published_vit(*published[:2])
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions


def test_maps_come_at_their_strides_and_depth_at_the_images_size() -> None:
    image = torch.randn(2, 3, 56, 84)
    with torch.no_grad():
        maps, depth = tiny_depth_anything().with_depth(image)
    assert [tuple(m.shape) for m in maps] == [(2, 16, 32, 48), (2, 16, 16, 24), (2, 16, 8, 12), (2, 16, 4, 6)]
    assert depth.shape == (2, 1, 56, 84)
    assert depth.min() >= 0 and depth.max() > 0


def test_an_odd_grid_of_patches_keeps_its_size() -> None:
    with torch.no_grad():
        maps, depth = tiny_depth_anything().with_depth(torch.randn(1, 3, 42, 70))
    assert [tuple(m.shape[2:]) for m in maps] == [(24, 40), (12, 20), (6, 10), (3, 5)]
    assert depth.shape == (1, 1, 42, 70)


def test_a_metric_model_gives_metres_within_its_limit() -> None:
    image = torch.randn(1, 3, 56, 56)
    relative, metric = tiny_depth_anything(), tiny_depth_anything(20.0)
    with torch.no_grad():
        raw = relative.depth_head.raw_depth(relative(image)[0], (56, 56))
        depth_m = metric.with_depth(image)[1]
    torch.testing.assert_close(depth_m, 20 * torch.sigmoid(raw))


def test_depth_of_a_model_without_a_head_is_refused() -> None:
    with pytest.raises(DualpixError, match="has no depth head"):
        foundation("efficientnet-lite0").with_depth(torch.rand(1, 3, 32, 32))


_TRANSFORMERS = (
    (r"^pretrained\.(cls_token|mask_token)$", r"backbone.embeddings.\1"),
    (r"^pretrained\.pos_embed$", "backbone.embeddings.position_embeddings"),
    (r"^pretrained\.patch_embed\.proj\.", "backbone.embeddings.patch_embeddings.projection."),
    (r"^pretrained\.norm\.", "backbone.layernorm."),
    (r"^pretrained\.blocks\.", "backbone.encoder.layer."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"^depth_head\.projects\.(\d)\.", r"neck.reassemble_stage.layers.\1.projection."),
    (r"^depth_head\.resize_layers\.(\d)\.", r"neck.reassemble_stage.layers.\1.resize."),
    (r"^depth_head\.scratch\.output_conv1\.", "head.conv1."),
    (r"^depth_head\.scratch\.output_conv2\.0\.", "head.conv2."),
    (r"^depth_head\.scratch\.output_conv2\.2\.", "head.conv3."),
    (r"resConfUnit([12])\.conv", r"residual_layer\1.convolution"),
    (r"out_conv\.", "projection."),
    *((rf"^depth_head\.scratch\.layer{i}_rn\.", f"neck.convs.{i - 1}.") for i in range(1, 5)),
    *((rf"^depth_head\.scratch\.refinenet{i}\.", f"neck.fusion_stage.layers.{4 - i}.") for i in range(1, 5)),
)


def _transformers_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as transformers saves it: the other way round, and written apart from ``names``."""
    theirs: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, replacement in _TRANSFORMERS:
            key = re.sub(pattern, replacement, key)
        if ".attn.qkv." in key:
            for part, name in zip(value.chunk(3), ("query", "key", "value"), strict=True):
                theirs[key.replace("attn.qkv", f"attention.attention.{name}")] = part.clone()
        else:
            theirs[key] = value
    return theirs


@pytest.mark.parametrize("since_5", [False, True], ids=["query", "q_proj"])
def test_names_of_transformers_are_known(since_5: bool) -> None:
    state = tiny_depth_anything().state_dict()
    theirs = _transformers_of(state)
    if since_5:
        for name in ("query", "key", "value"):
            theirs = {
                k.replace(f"attention.attention.{name}", f"attention.{name[0]}_proj"): v for k, v in theirs.items()
            }
        theirs = {k.replace("attention.output.dense", "attention.o_proj"): v for k, v in theirs.items()}
    back = names.depth_anything(theirs)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize(("kind", "max_depth_m"), [("relative", None), ("metric", 20)])
def test_transformers_computes_the_same(kind: str, max_depth_m: int | None) -> None:
    """The head, too: transformers resizes positions without the offset, which is the one difference."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: nothing to compare with")
    config, head = VIT["vits"], DPT["vits"]
    backbone = transformers.Dinov2Config(
        hidden_size=config.channels, num_hidden_layers=config.blocks, num_attention_heads=config.heads,
        image_size=518, patch_size=14, out_indices=[i + 1 for i in config.taps], apply_layernorm=True,
        reshape_hidden_states=False,
    )  # fmt: skip
    theirs = stirred(
        lambda: transformers.DepthAnythingForDepthEstimation(
            transformers.DepthAnythingConfig(
                backbone_config=backbone, reassemble_hidden_size=config.channels,
                neck_hidden_sizes=list(head.reassembled), fusion_hidden_size=head.channels,
                depth_estimation_type=kind, max_depth=max_depth_m or 1,
            )
        )
    )  # fmt: skip
    ours = DepthAnythingV2(replace(config, position_offset=0.0), head, max_depth_m).eval()
    ours.load_state_dict(names.depth_anything(theirs.state_dict()))
    image = torch.randn(1, 3, 140, 224)
    with torch.no_grad():
        expected = theirs(pixel_values=image).predicted_depth
        seen = ours.with_depth(image)[1][:, 0]
    assert expected.std() > 0, "else nothing is compared"
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=1e-5)
