"""Weights of few bits and int8 activations, as Core AI's own operators in the graph.

coreai-opt 0.3.0 quantises a finished program and leaves alone, without a word, weights of 1024 values or fewer and
those of every transposed convolution. Here they are replaced in the graph before it is converted, by the operators
(``coreai::...``) that coreai-torch registers for this, which torch runs as well: what the program must compute is known
before it is made.

===========  =====================================================  ==============================================
``int8``     codes times a scale for each output channel            ``coreai::constexpr_blockwise_shift_scale``
``palette``  4-bit places in 16 values for some output channels     ``coreai::lut_to_dense``
===========  =====================================================  ==============================================

Convention: a weight is (output, input / groups, ...), of a transposed convolution (input, output / groups, ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx

from dualpix.export.coreml.convert import palette
from dualpix.quantize.graph.nodes import (
    DEQUANTISE,
    QUANTISE,
    Maker,
    argument,
    attribute,
    cleaned,
    derived_name,
    is_call,
    is_constant,
    value_of,
)
from dualpix.quantize.graph.resizing import MATRIX
from dualpix.quantize.keep import KeepFloat, module_path
from dualpix.quantize.score import sqnr_db

Kind = Literal["int8", "palette"]

SMALL = 256
"""Weights of fewer values stay: their scales and the operator would take what they save."""
PALETTE_CHANNELS = 2
"""Output channels that share a palette, where they divide."""
_LEAST_PALETTE_DB = 17.0
"""A weight that 16 values hold worse than this is stored as int8."""
_MOST_SHARE, _LEAST_SAVED_BYTES, _FLOAT16_BYTES = 0.75, 512, 2
"""Palettes that take more of what int8 takes, or save less, are not worth what they lose."""
_LAYERS = ("aten.conv1d.", "aten.conv2d.", "aten.conv3d.", "aten.conv_transpose", "aten.linear.")
_PER_CHANNEL = "quantized_decomposed.dequantize_per_channel.default"
_CODES = 127.0


@dataclass(frozen=True)
class Stored:
    """What became of the weights."""

    layers: dict[str, str]
    """Kind by name of the weight."""
    left: tuple[str, ...]
    """Names of those that stay float."""


def register_operators() -> None:
    """Make ``torch.ops.coreai`` known: coreai-torch registers them in a module that it does not itself import."""
    import coreai_torch._compression.custom_layers  # noqa: F401


def store_weights(graph_module: fx.GraphModule, kind: Kind, keep_float: KeepFloat) -> Stored:
    """Replace the weights of convolutions and linear layers; changes the graph.

    Args:
        graph_module: float32, as :func:`~dualpix.quantize.graph.float_graph` gives it.
        kind: how to store them.
        keep_float: layers to leave alone.
    """
    found: dict[str, list[fx.Node]] = {}
    for node in graph_module.graph.nodes:
        if is_call(node, _LAYERS) and is_constant(argument(node, "weight")):
            found.setdefault(str(argument(node, "weight").target), []).append(node)
    stored: dict[str, str] = {}
    left: list[str] = []
    for name, layers in found.items():
        value = value_of(graph_module, argument(layers[0], "weight")).detach()
        if value.numel() < SMALL or MATRIX in name or any(keep_float(module_path(n)) for n in layers):
            left.append(name)
            continue
        axis = _output_axis(layers[0])
        held = palettes(value, axis) if kind == "palette" and _palette_pays(value, axis) else None
        held = held if held and _palette_holds(value, *held) else None
        for layer in layers:
            with graph_module.graph.inserting_before(layer):
                weight = argument(layer, "weight")
                made = _palette(graph_module, layer, *held) if held else _int8(graph_module, layer, value)
                layer.replace_input_with(weight, made)
        stored[name] = "palette" if held else "int8"
    cleaned(graph_module)
    return Stored(stored, tuple(left))


def _output_axis(layer: fx.Node) -> int:
    return 1 if is_call(layer, "aten.conv_transpose") else 0


def _int8(graph_module: fx.GraphModule, layer: fx.Node, value: Tensor) -> fx.Node:
    weight = argument(layer, "weight")
    codes, scale = int8_codes(value, _output_axis(layer), _groups(layer))
    held = attribute(graph_module, derived_name("codes", weight), weight, codes)
    scales = attribute(graph_module, derived_name("scale", weight), weight, scale)
    return Maker(graph_module.graph, layer)(torch.ops.coreai.constexpr_blockwise_shift_scale.default, held, scales)


def _groups(layer: fx.Node) -> int:
    return int(argument(layer, "groups")) if is_call(layer, "aten.conv_transpose") else 1


def int8_codes(value: Tensor, axis: int, groups: int = 1) -> tuple[Tensor, Tensor]:
    """Symmetric int8 codes of a weight, and their scales with one for each output channel, in the weight's rank.

    Groups of a transposed convolution lie along its first axis, each with output channels of its own.
    """
    if axis == 0:
        largest = value.abs().amax(list(range(1, value.dim())), keepdim=True)
    else:
        split = value.reshape(groups, -1, *value.shape[1:])
        largest = split.abs().amax([1, *range(3, split.dim())], keepdim=True).squeeze(1)
    scale = (largest / _CODES).clamp_min(torch.finfo(torch.float32).tiny)
    spread = scale.repeat_interleave(value.shape[0] // scale.shape[0], 0)
    return torch.round(value / spread).clamp(-_CODES, _CODES).to(torch.int8), scale


def _palette(graph_module: fx.GraphModule, layer: fx.Node, places: Tensor, luts: Tensor) -> fx.Node:
    weight = argument(layer, "weight")
    held = attribute(graph_module, derived_name("indices", weight), weight, places)
    lut = attribute(graph_module, derived_name("lut", weight), weight, luts)
    return Maker(graph_module.graph, layer)(torch.ops.coreai.lut_to_dense.default, held, lut, 0)


def palettes(value: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Places (in the weight's shape, uint8) and palettes (1, .., groups, .., 1, 16, 1) of a weight in float32."""
    channels = value.shape[axis]
    share = PALETTE_CHANNELS if channels % PALETTE_CHANNELS == 0 else channels
    places, luts = [], []
    for part in torch.split(value, share, axis):
        lut, place = palette(part.numpy())
        places.append(torch.from_numpy(place.reshape(part.shape)))
        luts.append(torch.from_numpy(lut))
    shape = [1] * value.dim()
    shape[axis] = len(luts)
    return torch.cat(places, axis), torch.stack(luts).reshape(*shape, 16, 1)


def _palette_pays(value: Tensor, axis: int) -> bool:
    """Whether palettes of a weight take clearly less than its int8 codes would.

    Depthwise layers and 1x1 convolutions of few inputs have few values per channel: their palettes are as large as what
    they save, and such layers lose the most by them.
    """
    channels, values = value.shape[axis], value.numel()
    shared = channels // PALETTE_CHANNELS if channels % PALETTE_CHANNELS == 0 else 1
    as_palette = values / 2 + shared * 16 * _FLOAT16_BYTES
    as_int8 = values + channels * _FLOAT16_BYTES
    return as_palette <= _MOST_SHARE * as_int8 and as_int8 - as_palette >= _LEAST_SAVED_BYTES


def _palette_holds(value: Tensor, places: Tensor, luts: Tensor) -> bool:
    return sqnr_db(value, torch.ops.coreai.lut_to_dense(places, luts, 0)) >= _LEAST_PALETTE_DB


# ---------------------------------------------------------------------------------------------------------------------
# activations


def store_codes(graph_module: fx.GraphModule) -> int:
    """Write the int8 operators of :func:`~dualpix.quantize.ptq.quantise_static` as Core AI's; changes the graph.

    Returns:
        How many activations are quantised.
    """
    graph, activations = graph_module.graph, 0
    for node in list(graph.nodes):
        with graph.inserting_before(node):
            made = None
            if is_call(node, QUANTISE):
                scale, zero = _scale_and_zero(graph_module, node)
                made = Maker(graph, node)(torch.ops.coreai.quantize.default, node.args[0], scale, torch.int8, zero)
                activations += 1
            elif is_call(node, DEQUANTISE):
                scale, zero = _scale_and_zero(graph_module, node)
                made = Maker(graph, node)(torch.ops.coreai.dequantize.default, node.args[0], scale, zero)
            elif is_call(node, _PER_CHANNEL):
                made = _restored(graph_module, node)
        if made is not None:
            node.replace_all_uses_with(made)
    cleaned(graph_module)
    return activations


def _scale_and_zero(graph_module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, fx.Node]:
    """Of an activation, as tensors without axes."""
    scale, zero = float(node.args[1]), int(node.args[2])  # type: ignore[arg-type]
    like: Any = node.args[0] if is_call(node, QUANTISE) else node
    return (
        attribute(graph_module, derived_name("scale", scale.hex()), like, torch.tensor(scale)),
        attribute(graph_module, derived_name("zero", zero), like, torch.tensor(zero, dtype=torch.int8)),
    )


def _restored(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node:
    """A weight of int8 codes with a scale for each place along an axis."""
    codes, scale, axis = node.args[0], node.args[1], int(node.args[3])  # type: ignore[arg-type]
    shape = [1] * len(node.meta["val"].shape)
    shape[axis] = -1
    scales = value_of(graph_module, scale).detach().float().reshape(shape)
    held = attribute(graph_module, derived_name("scales", scale), node, scales)
    return Maker(graph_module.graph, node)(torch.ops.coreai.constexpr_blockwise_shift_scale.default, codes, held)
