"""State dicts of other implementations under the names used here: the same tensors, called otherwise.

Here EfficientNet-Lite has names of its own, DINOv2 and Depth Anything V2 those of their authors. Each function takes a
state dict of any origin and gives it back under those names where it knows the origin, untouched where it does not;
what then does not fit is refused by name (:mod:`checkpoints`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]
Rename = Callable[[State], dict[str, Tensor]]


def efficientnet_lite(state: State, stage_repeats: tuple[int, ...]) -> dict[str, Tensor]:
    """From ``efficientnet-pytorch`` (``_blocks.0._expand_conv``) or timm (``blocks.0.0.conv_dw``)."""
    if "_conv_stem.weight" in state:
        return {_from_efficientnet_pytorch(key): value for key, value in state.items()}
    if "conv_stem.weight" in state:
        return _from_timm_lite(state, stage_repeats)
    return dict(state)


_ENDS = {
    "_conv_stem": "trunk.stem.conv", "_bn0": "trunk.stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm",
    "_fc": "classifier",
}  # fmt: skip
_PARTS = {
    "_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm",
}  # fmt: skip


def _from_efficientnet_pytorch(key: str) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block and block[2] in _PARTS:
        return f"trunk.blocks.{block[1]}.{_PARTS[block[2]]}.{block[3]}"
    module, _, tensor = key.rpartition(".")
    return f"{_ENDS[module]}.{tensor}" if module in _ENDS else key


_TIMM_ENDS = {
    "conv_stem": "trunk.stem.conv", "bn1": "trunk.stem.norm", "conv_head": "head.conv", "bn2": "head.norm",
    "classifier": "classifier",
}  # fmt: skip
_TIMM_FIRST = {"conv_dw": "depthwise.conv", "bn1": "depthwise.norm", "conv_pw": "project.conv", "bn2": "project.norm"}
_TIMM_PARTS = {
    "conv_pw": "expand.conv", "bn1": "expand.norm", "conv_dw": "depthwise.conv", "bn2": "depthwise.norm",
    "conv_pwl": "project.conv", "bn3": "project.norm",
}  # fmt: skip


def _from_timm_lite(state: State, stage_repeats: tuple[int, ...]) -> dict[str, Tensor]:
    starts = [sum(stage_repeats[:i]) for i in range(len(stage_repeats))]

    def renamed(key: str) -> str:
        block = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(\w+)", key)
        module, _, tensor = key.rpartition(".")
        if block is None or int(block[1]) >= len(starts):
            return f"{_TIMM_ENDS[module]}.{tensor}" if module in _TIMM_ENDS else key
        parts = _TIMM_FIRST if block[1] == "0" else _TIMM_PARTS  # its first stage has no expansion and names of its own
        if block[3] not in parts:
            return key
        return f"trunk.blocks.{starts[int(block[1])] + int(block[2])}.{parts[block[3]]}.{block[4]}"

    return {renamed(key): value for key, value in state.items()}


def dinov2(state: State) -> dict[str, Tensor]:
    """From transformers (``Dinov2Model``, ``Dinov2Backbone``)."""
    if "embeddings.cls_token" in state:
        return _joined_qkv({_from_transformers_vit(key): value for key, value in state.items()})
    return dict(state)


def depth_anything(state: State) -> dict[str, Tensor]:
    """From transformers (``DepthAnythingForDepthEstimation``)."""
    if "backbone.embeddings.cls_token" not in state:
        return dict(state)
    inner = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    encoder = {f"pretrained.{key}": value for key, value in dinov2(inner).items()}
    decoder = {_from_transformers_head(k): v for k, v in state.items() if not k.startswith("backbone.")}
    return encoder | decoder


_VIT_ENDS = {
    "embeddings.cls_token": "cls_token", "embeddings.mask_token": "mask_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight", "layernorm.bias": "norm.bias",
}  # fmt: skip
_VIT_PARTS = (
    ("attention.attention.query", "attn.q"), ("attention.attention.key", "attn.k"),
    ("attention.attention.value", "attn.v"), ("attention.output.dense", "attn.proj"),
    ("attention.q_proj", "attn.q"), ("attention.k_proj", "attn.k"), ("attention.v_proj", "attn.v"),
    ("attention.o_proj", "attn.proj"),  # since transformers 5
    ("layer_scale1.lambda1", "ls1.gamma"), ("layer_scale2.lambda1", "ls2.gamma"),
)  # fmt: skip


def _from_transformers_vit(key: str) -> str:
    if key in _VIT_ENDS:
        return _VIT_ENDS[key]
    if not key.startswith("encoder.layer."):
        return key
    key = "blocks." + key.removeprefix("encoder.layer.")
    for theirs, ours in _VIT_PARTS:
        key = key.replace(f".{theirs}", f".{ours}")
    return key


def _joined_qkv(state: State) -> dict[str, Tensor]:
    """Query, key and value of a block in one tensor, in this order."""
    joined: dict[str, Tensor] = {}
    for key, value in state.items():
        part = re.fullmatch(r"(blocks\.\d+\.attn)\.([qkv])\.(weight|bias)", key)
        rest = [state.get(f"{part[1]}.{letter}.{part[3]}") for letter in "kv"] if part else []
        if part is None or any(other is None for other in rest):
            joined[key] = value
        elif part[2] == "q":
            joined[f"{part[1]}.qkv.{part[3]}"] = torch.cat([value, *(other for other in rest if other is not None)])
    return joined


_HEAD_PARTS = (
    (r"neck\.reassemble_stage\.layers\.(\d)\.projection", r"depth_head.projects.\1"),
    (r"neck\.reassemble_stage\.layers\.(\d)\.resize", r"depth_head.resize_layers.\1"),
    (r"head\.conv1", "depth_head.scratch.output_conv1"),
    (r"head\.conv2", "depth_head.scratch.output_conv2.0"),
    (r"head\.conv3", "depth_head.scratch.output_conv2.2"),
)
_FUSION_PARTS = (
    ("projection", "out_conv"), ("residual_layer1.convolution", "resConfUnit1.conv"),
    ("residual_layer2.convolution", "resConfUnit2.conv"),
)  # fmt: skip


def _from_transformers_head(key: str) -> str:
    for theirs, ours in _HEAD_PARTS:
        key = re.sub(rf"^{theirs}(?=\.)", ours, key)
    if layer := re.fullmatch(r"neck\.convs\.(\d)\.weight", key):
        return f"depth_head.scratch.layer{int(layer[1]) + 1}_rn.weight"
    if fusion := re.fullmatch(r"neck\.fusion_stage\.layers\.(\d)\.(.+)", key):
        inner = fusion[2]
        for theirs, ours in _FUSION_PARTS:
            inner = inner.replace(theirs, ours)
        return f"depth_head.scratch.refinenet{4 - int(fusion[1])}.{inner}"  # theirs counts from the coarsest
    return key
