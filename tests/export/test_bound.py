from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.export.bound import Positional, bind, outputs_in, own_path, plain, unique
from dualpix.export.own.called import called


class _Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(1, 1, 1)

    def forward(self, left: Tensor, right: Tensor, scale: float = 1.0, *, mode: str = "sum") -> Tensor:
        assert mode == "sum"
        return self.mix(left + scale * right)


class _Features(NamedTuple):
    depth: Tensor
    levels: list[Tensor | None]


@dataclass
class _Result:
    depth: Tensor
    aux: Tensor | None = None


def _picture(value: float = 1.0) -> Tensor:
    return torch.full((1, 1, 4, 6), value)


def test_positional_and_named_arguments_are_the_same_inputs() -> None:
    left, right = _picture(1.0), _picture(2.0)
    for example in ((left, right), {"right": right, "left": left}):
        bound = bind(_Pair(), example, "it")
        assert bound.names() == ("left", "right")
        assert torch.equal(bound.tensors()[1], right) and bound.constants() == ()
    assert bind(_Pair(), (left, right), "it").is_flat and not bind(_Pair(), (left, right, 2.0), "it").is_flat
    assert bind(_Pair(), (left, right, 2.0), "it").constants() == (("scale", 2.0),)


def test_arguments_that_forward_does_not_take_are_told() -> None:
    with pytest.raises(
        DualpixError, match=r"sample 3 gives arguments left, focus; expected what forward takes: \(left"
    ):
        bind(_Pair(), {"left": _picture(), "focus": _picture()}, "sample 3")
    with pytest.raises(DualpixError, match="it gives 1 arguments"):
        bind(_Pair(), (_picture(),), "it")


def test_tensors_inside_lists_and_dictionaries_have_names_of_their_places() -> None:
    class Nested(nn.Module):
        def forward(self, batch: dict[str, Any], *extra: Tensor, **more: Tensor) -> Tensor:
            return batch["views"][0] + batch["views"][1] * more["gain"] + extra[0]

    example = ({"views": [_picture(), _picture(3.0)], "camera": "x"}, _picture(0.5))
    bound = bind(Nested(), example, "it")
    assert bound.names() == ("batch_views_0", "batch_views_1", "extra_0")
    whole = bind(Nested(), {"batch": example[0], "gain": _picture()}, "it")
    assert whole.names() == ("batch_views_0", "batch_views_1", "gain")
    assert whole.constants() == (("batch_camera", "x"),)


def test_a_forward_that_takes_the_dictionary_itself() -> None:
    class Batch(nn.Module):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return batch["a"] - batch["b"]

    bound = bind(Batch(), {"a": _picture(3.0), "b": _picture()}, "it")
    assert bound.names() == ("batch_a", "batch_b")
    assert float(Positional(Batch(), bound, copies=False)(*bound.tensors()).mean()) == 2.0


@pytest.mark.parametrize(
    ("output", "names"),
    [
        (_picture(), ["output"]),
        ((_picture(), _picture()), ["output_0", "output_1"]),
        ([_picture()], ["output_0"]),
        ({"depth": _picture(), "more": {"mask": _picture(), "none": None}}, ["depth", "more_mask"]),
        (_Features(_picture(), [_picture(), None, _picture()]), ["depth", "levels_0", "levels_2"]),
        (_Result(_picture()), ["depth"]),
    ],
)
def test_outputs_are_named_after_keys_fields_and_places(output: Any, names: list[str]) -> None:
    assert [name for name, _ in outputs_in(output)] == names


def test_what_is_no_tensor_in_an_output_is_told() -> None:
    with pytest.raises(DualpixError, match="gives a float as 'depth_scale'; expected a tensor"):
        outputs_in({"depth": {"scale": 1.0}})


def test_names_become_identifiers_that_differ() -> None:
    assert unique(["a.b", "a b", "1", "Ä"]) == ("a_b", "a_b_2", "_1", "_")
    assert unique(["x"], taken=["x"]) == ("x_2",), "Core ML has no input and output of one name"


def test_a_module_is_called_with_tensors_in_the_places_of_its_example() -> None:
    bound = bind(_Pair(), {"left": _picture(), "right": _picture(), "scale": 3.0}, "it")
    pair = _Pair()
    run = Positional(pair, bound, copies=False)
    assert torch.equal(run(_picture(1.0), _picture(2.0)), pair(_picture(1.0), _picture(2.0), 3.0))
    assert own_path(run, "module.mix") == "mix" and own_path(run, "module") == "" and own_path(pair, "mix") == "mix"


def test_inputs_are_copied_in_the_order_of_their_axes() -> None:
    """A picture of one channel in channels_last counts as contiguous, and its strides are others than a program's."""
    for tensor in (torch.rand(1, 3, 4, 6), torch.rand(1, 1, 4, 6), torch.rand(4, 6, 2).permute(2, 0, 1)[None]):
        last = tensor.to(memory_format=torch.channels_last)
        assert plain(last).stride() == torch.empty(last.shape).stride() and torch.equal(plain(last), last)
    assert not plain(torch.rand(2, requires_grad=True)).requires_grad


def test_a_plain_module_is_exported_as_it_is_and_others_wrapped() -> None:
    pair = _Pair()
    assert called(pair, (_picture(), _picture(2.0)), name="pair").module is pair
    run = called(pair, (_picture(), _picture(2.0), 2.0), name="pair")
    assert isinstance(run.module, Positional) and run.notes == ("scale=2.0 is part of the programs",)
    assert run.kept(lambda path: path == "mix")("module.mix")


def test_names_and_units_can_be_chosen() -> None:
    run = called(
        _Pair(),
        (_picture(), _picture()),
        name="pair",
        input_names=["near", "far"],
        output_names=["depth"],
        units={"depth": "m"},
    )
    assert run.input_names == ("near", "far") and [(o.name, o.unit) for o in run.outputs] == [("depth", "m")]
    for wrong, message in (
        ({"input_names": ["a"]}, "1 input names; expected 2"),
        ({"input_names": ["a", "a"]}, "input names hold one twice"),
        ({"output_names": ["a b"]}, "output names hold 'a b'"),
        ({"units": {"deep": "m"}}, "a unit of output 'deep'; expected outputs out of output"),
    ):
        with pytest.raises(DualpixError, match=message):
            called(_Pair(), (_picture(), _picture()), name="pair", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ((_picture(), _picture().double()), r"input 'right' is \(1, 1, 4, 6\) float64 on cpu"),
        ((_picture(), torch.full((1, 1, 4, 6), torch.inf)), "input 'right' holds values that are not finite"),
        ((_picture(), torch.zeros(1, 1, 0, 6)), r"input 'right' is \(1, 1, 0, 6\) float32"),
        ((_picture(), _picture().to_sparse()), "input 'right' is .* expected float32, int64"),
        ((1.0, 2.0), "hold no tensor"),
        ((_picture(), np.zeros((1, 1, 4, 6))), r"'right' is a ndarray in the first example.*torch.from_numpy"),
    ],
)
def test_inputs_that_no_program_takes(example: Any, message: str) -> None:
    with pytest.raises(DualpixError, match=message):
        called(_Pair(), example, name="pair")


def test_later_examples_must_be_like_the_first() -> None:
    run = called(_Pair(), (_picture(), _picture(), 2.0), name="pair")
    assert len(run.inputs_of((_picture(), _picture(), 2.0), "input 2")) == 2
    for example, message in (
        (
            (_picture(), torch.rand(1, 1, 8, 6), 2.0),
            r"input 'right' is \(1, 1, 8, 6\) float32 in input 2; expected \(1",
        ),
        ((_picture(), _picture(), 3.0), r"'scale' is 3.0 in input 2 and 2.0 in the first.*torch.tensor\(3.0\)"),
        ((_picture(), _picture()), "input 2 has no 'scale'"),
    ):
        with pytest.raises(DualpixError, match=message):
            run.inputs_of(example, "input 2")
