"""Elementwise operators, activations, comparisons and reductions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.export.coreml.operators.call import OPERATORS, Call, Operator, operator

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": torch.true_divide,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "pow": torch.pow,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "floor": torch.floor,
    "identity": lambda x: x,
    "logical_not": torch.logical_not,
    "relu": F.relu,
    "relu6": F.relu6,
    "round": torch.round,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "silu": F.silu,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}

_SCALED: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "clamped_relu": lambda x, a, b: torch.where(x >= 0, x, a * x).clamp(max=b),
    "clip": lambda x, a, b: x.clamp(a, b),
    "linear_activation": lambda x, a, b: a * x + b,
    "scaled_tanh": lambda x, a, b: a * torch.tanh(b * x),
    "sigmoid_hard": lambda x, a, b: (a * x + b).clamp(0.0, 1.0),
}
"""Functions of x, alpha and beta."""

_BENT: dict[str, Callable[[Tensor, float], Tensor]] = {
    "elu": lambda x, a: F.elu(x, a),
    "leaky_relu": lambda x, a: F.leaky_relu(x, a),
    "threshold": lambda x, a: x.clamp(min=a),
    "thresholded_relu": lambda x, a: torch.where(x >= a, x, torch.zeros_like(x)),
}
"""Functions of x and alpha."""

_SHIFTED: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "inverse": (torch.reciprocal, 1e-4),
    "log": (torch.log, 1e-45),
    "rsqrt": (torch.rsqrt, 1e-12),
}
"""Functions of x + epsilon, with the format's default epsilon."""

_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "reduce_log_sum_exp": lambda x, axes, keep: x.logsumexp(axes, keep),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keep),
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keep),
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keep),
}


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return Operator(lambda call: function(call.tensor("x"), call.tensor("y")), frozenset({"x", "y"}))


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return Operator(lambda call: function(call.tensor("x")), frozenset({"x"}))


def _scaled(function: Callable[[Tensor, float, float], Tensor]) -> Operator:
    parameters = frozenset({"x", "alpha", "beta"})
    return Operator(lambda call: function(call.tensor("x"), call.number("alpha"), call.number("beta")), parameters)


def _bent(function: Callable[[Tensor, float], Tensor]) -> Operator:
    return Operator(lambda call: function(call.tensor("x"), call.number("alpha")), frozenset({"x", "alpha"}))


def _shifted(function: Callable[[Tensor], Tensor], epsilon: float) -> Operator:
    def run(call: Call) -> Tensor:
        return function(call.tensor("x") + call.number("epsilon", epsilon))

    return Operator(run, frozenset({"x", "epsilon"}))


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def run(call: Call) -> Tensor:
        x = call.tensor("x")
        return function(x, call.ints("axes", range(x.dim())), call.flag("keep_dims"))

    return Operator(run, frozenset({"x", "axes", "keep_dims"}))


OPERATORS |= {name: _binary(f) for name, f in _BINARY.items()}
OPERATORS |= {name: _unary(f) for name, f in _UNARY.items()}
OPERATORS |= {name: _scaled(f) for name, f in _SCALED.items()}
OPERATORS |= {name: _bent(f) for name, f in _BENT.items()}
OPERATORS |= {name: _shifted(f, epsilon) for name, (f, epsilon) in _SHIFTED.items()}
OPERATORS |= {name: _reduction(f) for name, f in _REDUCTIONS.items()}


@operator("gelu", "x mode")
def _gelu(call: Call) -> Tensor:
    x, mode = call.tensor("x"), call.text("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    approximations = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}
    if mode not in approximations:
        call.fail(f"mode '{mode}'")
    return F.gelu(x, approximate=approximations[mode])


@operator("prelu", "x alpha")
def _prelu(call: Call) -> Tensor:
    return F.prelu(call.tensor("x"), call.tensor("alpha"))


@operator("softplus_parametric", "x alpha beta")
def _softplus_parametric(call: Call) -> Tensor:
    x = call.tensor("x")
    shape = [-1] + [1] * (x.dim() - 2)
    alpha, beta = (call.tensor(name).reshape(shape) for name in ("alpha", "beta"))
    return alpha * F.softplus(beta * x)


@operator("softmax", "x axis")
def _softmax(call: Call) -> Tensor:
    return torch.softmax(call.tensor("x"), call.integer("axis", -1))


@operator("select", "cond a b")
def _select(call: Call) -> Tensor:
    return torch.where(call.tensor("cond").bool(), call.tensor("a"), call.tensor("b"))


_CAST_TYPES = {
    "fp16": torch.float32, "fp32": torch.float32, "int32": torch.int32, "int16": torch.int16, "uint16": torch.int64,
    "int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool,
}  # fmt: skip
"""The type a value is held in; rounding to float16 is done where the result is stored."""


@operator("cast", "x dtype")
def _cast(call: Call) -> Tensor:
    dtype = call.text("dtype")
    if dtype not in _CAST_TYPES:
        call.fail(f"type '{dtype}'")
    return call.tensor("x").to(_CAST_TYPES[dtype])


@operator("reduce_argmax reduce_argmin", "x axis keep_dims output_dtype")
def _arg_extreme(call: Call) -> Tensor:
    function = torch.argmax if call.kind == "reduce_argmax" else torch.argmin
    return function(call.tensor("x"), call.integer("axis", -1), call.flag("keep_dims"))


@operator("cumsum", "x axis exclusive reverse")
def _cumsum(call: Call) -> Tensor:
    x, axis, reverse = call.tensor("x"), call.integer("axis", 0), call.flag("reverse")
    x = x.flip(axis) if reverse else x
    total = x.cumsum(axis)
    total = total - x if call.flag("exclusive") else total
    return total.flip(axis) if reverse else total


@operator("quantize", "input zero_point scale axis output_dtype")
def _quantize(call: Call) -> Tensor:
    low, high = {"int8": (-128, 127), "uint8": (0, 255)}.get(call.text("output_dtype"), (0, 0))
    if low == high:
        call.fail(f"type '{call.text('output_dtype')}'")
    x = call.tensor("input")
    scale, zero = _along_axis(call, x)
    return (torch.round(x / scale) + zero).clamp(low, high).to(torch.int8 if low < 0 else torch.uint8)


@operator("dequantize", "input zero_point scale axis")
def _dequantize(call: Call) -> Tensor:
    x = call.tensor("input")
    scale, zero = _along_axis(call, x)
    return (x.float() - zero) * scale


def _along_axis(call: Call, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point, shaped to broadcast over ``x``."""
    scale, zero = call.tensor("scale"), call.optional("zero_point")
    zero = torch.zeros(()) if zero is None else zero.float()
    if scale.dim() == 0 and zero.dim() == 0:
        return scale, zero
    shape = [1] * x.dim()
    shape[call.integer("axis")] = -1
    return scale.reshape(shape) if scale.dim() else scale, zero.reshape(shape) if zero.dim() else zero
