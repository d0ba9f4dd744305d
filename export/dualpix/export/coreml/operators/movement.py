"""Operators that move values: shapes, slices, padding, gathering and sorting."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.export.coreml.operators.call import Call, operator
from dualpix.export.coreml.operators.layers import torch_padding


@operator("reshape", "x shape")
def _reshape(call: Call) -> Tensor:
    x = call.tensor("x")
    shape = call.ints("shape")
    if len(shape) > x.dim() and 0 in shape[x.dim() :]:
        call.fail(f"shape {shape} copies a size that the input lacks")
    return x.reshape([x.shape[k] if size == 0 else size for k, size in enumerate(shape)])


@operator("transpose", "x perm")
def _transpose(call: Call) -> Tensor:
    return call.tensor("x").permute(call.ints("perm"))


@operator("expand_dims", "x axes")
def _expand_dims(call: Call) -> Tensor:
    x, axes = call.tensor("x"), call.ints("axes")
    for axis in sorted(a % (x.dim() + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


@operator("squeeze", "x axes")
def _squeeze(call: Call) -> Tensor:
    x = call.tensor("x")
    return x.squeeze(tuple(call.ints("axes", [k for k, size in enumerate(x.shape) if size == 1])))


@operator("concat", "values axis interleave")
def _concat(call: Call) -> Tensor:
    if call.flag("interleave"):
        call.fail("interleave")
    return torch.cat(call.tensors("values"), call.integer("axis"))


@operator("stack", "values axis")
def _stack(call: Call) -> Tensor:
    return torch.stack(call.tensors("values"), call.integer("axis"))


@operator("split", "x num_splits split_sizes axis")
def _split(call: Call) -> list[Tensor]:
    x, axis, sizes = call.tensor("x"), call.integer("axis"), call.ints("split_sizes", [])
    return list(torch.split(x, sizes or x.shape[axis] // call.integer("num_splits"), axis))


@operator("tile", "x reps")
def _tile(call: Call) -> Tensor:
    x, repeats = call.tensor("x"), call.ints("reps")
    call.bounded([size * count for size, count in zip(x.shape, repeats, strict=True)])
    return x.repeat(repeats)


@operator("reverse", "x axes")
def _reverse(call: Call) -> Tensor:
    x = call.tensor("x")
    return x.flip(call.ints("axes", range(x.dim())))


Index = slice | int | Tensor


def _index(call: Call, x: Tensor) -> tuple[Index, ...]:
    """What ``slice_by_index`` and ``slice_update`` select."""
    n = x.dim()
    begin, end, stride = call.ints("begin"), call.ints("end"), call.ints("stride", [1] * n)
    from_start, to_end, squeeze = (call.flags(f"{k}_mask", [False] * n) for k in ("begin", "end", "squeeze"))
    index: list[Index] = []
    for axis in range(n):
        if squeeze[axis]:
            index.append(begin[axis])
            continue
        chosen = slice(None if from_start[axis] else begin[axis], None if to_end[axis] else end[axis], stride[axis])
        # torch slices only forwards
        backwards = stride[axis] < 0
        index.append(torch.tensor(range(*chosen.indices(x.shape[axis]))) if backwards else chosen)
    return tuple(index)


@operator("slice_by_index", "x begin end stride begin_mask end_mask squeeze_mask")
def _slice_by_index(call: Call) -> Tensor:
    x = call.tensor("x")
    index = _index(call, x)
    if sum(isinstance(i, Tensor) for i in index) > 1:
        call.fail("negative strides on several axes")
    return x[index]


@operator("slice_update", "x update begin end stride begin_mask end_mask squeeze_mask")
def _slice_update(call: Call) -> Tensor:
    updated = call.tensor("x").clone()
    updated[_index(call, updated)] = call.tensor("update")
    return updated


@operator("slice_by_size", "x begin size")
def _slice_by_size(call: Call) -> Tensor:
    starts = zip(call.ints("begin"), call.ints("size"), strict=True)
    return call.tensor("x")[tuple(slice(b, None if size == -1 else b + size) for b, size in starts)]


@operator("crop", "x crop_height crop_width")
def _crop(call: Call) -> Tensor:
    (top, bottom), (left, right) = call.ints("crop_height"), call.ints("crop_width")
    return F.pad(call.tensor("x"), [-left, -right, -top, -bottom])


@operator("pad", "x pad mode constant_val")
def _pad(call: Call) -> Tensor:
    x, mode = call.tensor("x"), call.text("mode", "constant")
    pads = torch_padding(call.ints("pad"))
    call.bounded([s + sum(pads[2 * k : 2 * k + 2]) for k, s in enumerate(reversed(x.shape))])
    if mode == "constant":
        value = call.number("constant_val", 0.0)
        return F.pad(x, pads, value=value if x.is_floating_point() else int(value))
    if mode not in ("reflect", "replicate"):
        call.fail(f"mode '{mode}'")
    # torch reflects only the trailing dimensions of a batch of channels
    while len(pads) > 2 and not any(pads[-2:]):
        pads = pads[:-2]
    trailing = len(pads) // 2
    lead = x.shape[: x.dim() - trailing]
    padded = F.pad(x.reshape(1, -1, *x.shape[x.dim() - trailing :]), pads, mode=mode)
    return padded.reshape(*lead, *padded.shape[2:])


def _positive(indices: Tensor, size: int) -> Tensor:
    """Indices counted from the start, int64."""
    whole = indices.long()
    return torch.where(whole < 0, whole + size, whole)


@operator("gather", "x indices axis batch_dims validate_indices")
def _gather(call: Call) -> Tensor:
    x = call.tensor("x")
    axis = call.integer("axis", 0) % x.dim()
    if call.integer("batch_dims", 0):
        call.fail("batch_dims")
    indices = _positive(call.tensor("indices"), x.shape[axis])
    chosen = x.index_select(axis, indices.reshape(-1))
    return chosen.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


@operator("gather_along_axis", "x indices axis validate_indices")
def _gather_along_axis(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis", 0)
    return x.gather(axis, _positive(call.tensor("indices"), x.shape[axis]))


@operator("gather_nd", "x indices batch_dims validate_indices")
def _gather_nd(call: Call) -> Tensor:
    if call.integer("batch_dims", 0):
        call.fail("batch_dims")
    return call.tensor("x")[call.tensor("indices").long().unbind(-1)]


@operator("scatter_nd", "data indices updates mode validate_indices")
def _scatter_nd(call: Call) -> Tensor:
    mode = call.text("mode", "add")
    if mode not in ("add", "update"):
        call.fail(f"mode '{mode}'")
    where = call.tensor("indices").long().unbind(-1)
    return call.tensor("data").index_put(where, call.tensor("updates"), accumulate=mode == "add")


@operator("scatter", "data indices updates axis mode validate_indices")
def _scatter(call: Call) -> Tensor:
    data, updates, mode = call.tensor("data"), call.tensor("updates"), call.text("mode", "add")
    if mode not in ("add", "update"):
        call.fail(f"mode '{mode}'")
    axis = call.integer("axis", 0) % data.dim()
    indices = _positive(call.tensor("indices"), data.shape[axis]).reshape(-1)
    updates = updates.reshape([*data.shape[:axis], len(indices), *data.shape[axis + 1 :]])
    return (data.index_add if mode == "add" else data.index_copy)(axis, indices, updates)


@operator("topk", "x k axis ascending sort return_indices output_indices_dtype")
def _topk(call: Call) -> list[Tensor]:
    x, count = call.tensor("x"), call.integer("k", 1)
    values, indices = x.topk(count, call.integer("axis", -1), largest=not call.flag("ascending"))
    return [values, indices] if call.flag("return_indices", True) else [values]


@operator("argsort", "x axis ascending")
def _argsort(call: Call) -> Tensor:
    return call.tensor("x").argsort(call.integer("axis", -1), descending=not call.flag("ascending"))


@operator("pixel_shuffle", "x upscale_factor")
def _pixel_shuffle(call: Call) -> Tensor:
    return F.pixel_shuffle(call.tensor("x"), call.integer("upscale_factor"))


@operator("pixel_unshuffle", "x downscale_factor")
def _pixel_unshuffle(call: Call) -> Tensor:
    return F.pixel_unshuffle(call.tensor("x"), call.integer("downscale_factor"))


@operator("band_part", "x lower upper")
def _band_part(call: Call) -> Tensor:
    x, lower, upper = call.tensor("x"), call.integer("lower", -1), call.integer("upper", -1)
    x = x if lower < 0 else x.triu(-lower)
    return x if upper < 0 else x.tril(upper)


@operator("shape", "x")
def _shape(call: Call) -> Tensor:
    return torch.tensor(call.tensor("x").shape, dtype=torch.int32)


@operator("fill", "shape value")
def _fill(call: Call) -> Tensor:
    value = call.optional("value")
    value = torch.zeros(()) if value is None else value
    return value.expand(call.bounded(call.ints("shape")))


@operator("fill_like", "ref_tensor value")
def _fill_like(call: Call) -> Tensor:
    value = call.optional("value")
    return (torch.zeros(()) if value is None else value).expand(call.tensor("ref_tensor").shape)


@operator("range_1d", "start end step")
def _range_1d(call: Call) -> Tensor:
    start, end, step = (call.tensor(name) for name in ("start", "end", "step"))
    call.bounded([max(0, int((float(end) - float(start)) / float(step)))])
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


@operator("one_hot", "indices one_hot_vector_size axis on_value off_value")
def _one_hot(call: Call) -> Tensor:
    indices, size = call.tensor("indices").long(), call.integer("one_hot_vector_size")
    if call.integer("axis", -1) != -1:
        call.fail("an axis that is not the last")
    on, off = (call.optional(name) for name in ("on_value", "off_value"))
    hot = indices[..., None] == torch.arange(size)
    one, zero = torch.ones((), dtype=torch.int32), torch.zeros((), dtype=torch.int32)
    return torch.where(hot, one if on is None else on, zero if off is None else off)
