from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.export.coreml.conftest import Built, tiny_request
from tests.support.tiny_net import scene
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.capture.errors import OutputError, UnknownNameError
from dualpix.export.artefact import BuildRequest, ExportError
from dualpix.export.coreml import (
    PRECISIONS,
    Interpreter,
    build,
    can_build,
    can_run,
    check_numerics,
    layer_differences,
    load,
)
from dualpix.export.coreml.check import sqnr_db
from dualpix.export.coreml.convert import palette
from dualpix.export.coreml.package import read_spec
from dualpix.quantize.calibration import CalibrationSet
from dualpix.quantize.keep import keep_modules

not_on_a_mac = pytest.mark.skipif(sys.platform == "darwin", reason="Core ML itself runs here")


@pytest.mark.parametrize(
    ("precision", "least_db", "most_db"),
    [("fp32", 110, 200), ("fp16", 45, 75), ("w8", 38, 55), ("w4-palettized", 12, 28), ("w8a8", 20, 45)],
)
def test_every_precision_is_close_and_is_what_it_says(
    tiny_packages: dict[str, Built], precision: str, least_db: float, most_db: float
) -> None:
    request, artefact = tiny_packages[precision]
    with torch.no_grad():
        expected = request.module(*request.inputs)
    assert artefact.predict
    assert least_db < sqnr_db(expected, artefact.predict(request.inputs)) < most_db
    other = scene()
    with torch.no_grad():
        assert sqnr_db(request.module(*other), artefact.predict(other)) > least_db - 3, "not only on its own inputs"


def test_precisions_and_tests_know_each_other(tiny_packages: dict[str, Built]) -> None:
    assert set(tiny_packages) == set(PRECISIONS)


@not_on_a_mac
def test_an_artefact_says_that_it_is_interpreted(tiny_packages: dict[str, Built]) -> None:
    assert can_build() is None
    assert "macOS" in (can_run() or "")
    for request, artefact in tiny_packages.values():
        assert artefact.emulated
        again = load(artefact.path, request.input_names, request.output_names)
        assert artefact.predict and torch.equal(again(request.inputs), artefact.predict(request.inputs))
        assert artefact.details["interpreted"]["sqnr_db"] > PRECISIONS[request.precision].least_sqnr_db
        assert not list(artefact.path.parent.glob(".*")), "no scratch is left"


def test_compression_shrinks_the_file(tiny_packages: dict[str, Built]) -> None:
    size = {name: artefact.size_bytes for name, (_, artefact) in tiny_packages.items()}
    assert size["fp32"] > size["fp16"] > size["w8"] > size["w4-palettized"]


def test_named_modules_keep_their_float_weights(tmp_path: Path) -> None:
    request = replace(tiny_request("w8", tmp_path / "a.mlpackage"), keep_float=keep_modules("join"))
    artefact = build(request)  # the only layer large enough to be worth compressing
    assert artefact.note.startswith("weights stay float16: none to be compressed has more than 2048 values")
    assert artefact.details["interpreted"]["least_weight_sqnr_db"] > 100


def test_unknown_precisions_list_the_known(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="w4-palettized"):
        build(tiny_request("int2", tmp_path / "a.mlpackage"))


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write '.*a\.mlpackage': No such file"):
        build(tiny_request("fp16", tmp_path / "gone" / "a.mlpackage"))


def test_what_was_there_before_is_replaced_as_a_whole(tiny_packages: dict[str, Built], tmp_path: Path) -> None:
    target = Path(shutil.copytree(tiny_packages["w8"][1].path, tmp_path / "a.mlpackage"))
    (target / "stale").write_text("x")
    assert build(tiny_request("fp16", target)).path == target
    assert not (target / "stale").exists() and [p.name for p in tmp_path.iterdir()] == ["a.mlpackage"]


def test_a_palette_is_the_best_of_its_size() -> None:
    generator = np.random.default_rng(0)
    weight = np.concatenate([generator.normal(size=5000), generator.normal(3.0, 0.1, size=300)]).astype(np.float16)
    lut, indices = palette(weight)
    assert lut.shape == (16,) and lut.dtype == np.float16 and np.all(np.diff(lut) >= 0)
    error = np.mean((weight.astype(float) - lut.astype(float)[indices]) ** 2)
    nearest = np.abs(weight[:, None].astype(float) - lut.astype(float)).argmin(1)
    assert np.mean(np.abs(lut[nearest] - lut[indices])) < 1e-4, "each weight has its nearest value"
    even = np.linspace(weight.min(), weight.max(), 16)
    assert error < 0.6 * np.mean((weight[:, None].astype(float) - even).__abs__().min(1) ** 2)
    exact, places = palette(np.float16([[0.5, -1.0], [0.5, 2.0]]))
    assert np.array_equal(exact[places], np.float16([0.5, -1.0, 0.5, 2.0])), "few values are kept exactly"


def _weight_file(package: Path) -> Path:
    return next(package.rglob("weight.bin"))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8", "w4-palettized", "w8a8"])
def test_a_corrupted_weight_is_caught(tiny_packages: dict[str, Built], tmp_path: Path, precision: str) -> None:
    request, artefact = tiny_packages[precision]
    broken = Path(shutil.copytree(artefact.path, tmp_path / "broken.mlpackage"))
    data = bytearray(_weight_file(broken).read_bytes())
    name, values = _largest_constant(Interpreter(broken))
    start = bytes(data).find(values)
    assert start > 0, f"{name} lies in the weight file"
    for k in range(start, start + len(values) // 4):
        data[k] ^= 0xFF
    _weight_file(broken).write_bytes(data)
    with pytest.raises(ExportError, match=r"computes something else: .* first far off at '\w+' \(conv in '[\w.]+'\)"):
        check_numerics(broken, request)


def _largest_constant(interpreter: Interpreter) -> tuple[str, bytes]:
    """The largest stored constant as it lies in the weight file."""
    largest = max(
        (o for o in interpreter.program.operations if o.kind == "const" or o.kind.startswith("constexpr_")),
        key=lambda o: max(
            (v.numel() for given in o.inputs.values() for v in given if isinstance(v, Tensor)), default=0
        ),
    )
    values = [v for given in largest.inputs.values() for v in given if isinstance(v, Tensor)]
    value = max(values, key=lambda v: v.numel())
    array = value.numpy()
    if largest.outputs[0][1].dtype == "float16" and array.dtype == np.float32:
        array = array.astype(np.float16)
    return largest.name, array.tobytes()


@pytest.mark.parametrize("precision", ["w8", "w4-palettized"])
def test_a_small_corruption_is_caught_in_the_weights_themselves(
    tiny_packages: dict[str, Built], tmp_path: Path, precision: str
) -> None:
    request, artefact = tiny_packages[precision]
    plain = tiny_packages["fp16"][1].path
    assert check_numerics(artefact.path, request, plain).least_weight_sqnr_db is not None
    broken = Path(shutil.copytree(artefact.path, tmp_path / "broken.mlpackage"))
    data = bytearray(_weight_file(broken).read_bytes())
    start = bytes(data).find(_largest_constant(Interpreter(broken))[1])
    for k in range(start, start + 120):
        data[k] ^= 0x88
    _weight_file(broken).write_bytes(data)
    with pytest.raises(ExportError, match=r"the weight of '\w+' is .* dB from the network's"):
        check_numerics(broken, request, plain)


class _Turned(nn.Module):
    """Square maps and equal channels: an exchanged axis changes no shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x))
        y = 8 * y * torch.softmax(8 * y, 2) + y.permute(0, 1, 3, 2)
        return self.last(y)


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> BuildRequest:
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("turned") / "turned.mlpackage"
    request = BuildRequest(
        _Turned().eval(), "fp16", path, (torch.rand(1, 3, 16, 16),), ("x",), ("y",), CalibrationSet((), "")
    )
    build(request)
    return request


@pytest.mark.parametrize(
    ("kind", "parameter", "value"), [("transpose", "perm", [0, 1, 2, 3]), ("softmax", "axis", [3])]
)
def test_a_swapped_axis_is_caught(
    turned: BuildRequest, tmp_path: Path, kind: str, parameter: str, value: list[int]
) -> None:
    broken = Path(shutil.copytree(turned.path, tmp_path / "broken.mlpackage"))
    spec, file = read_spec(broken)
    block = next(iter(spec.mlProgram.functions["main"].block_specializations.values()))
    user = next(o for o in block.operations if o.type == kind)
    name = user.inputs[parameter].arguments[0].name
    constant = next(o for o in block.operations if o.outputs[0].name == name)
    ints = constant.attributes["val"].immediateValue.tensor.ints.values
    assert list(ints) != value
    ints[:] = value
    file.write_bytes(spec.SerializeToString())
    assert Interpreter(broken)({"x": turned.inputs[0]})["y"].shape == (1, 1, 16, 16), "it still runs"
    with pytest.raises(ExportError, match=rf"computes something else: .*first far off at '\w+' \({kind}\)"):
        check_numerics(broken, turned)


def test_layers_are_compared_by_name_and_module(tiny_packages: dict[str, Built]) -> None:
    request, artefact = tiny_packages["fp16"]
    layers = layer_differences(Interpreter(artefact.path), request)
    by_name = {layer.name: layer for layer in layers}
    assert by_name["conv2d_3"].module == "encode.0", "the second call of a shared layer"
    assert by_name["conv2d_3"].kind == "conv"
    assert sum(layer.kind == "conv" for layer in layers) == 7
    assert all(layer.sqnr_db > 45 for layer in layers)


class _Antialiased(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False, antialias=True)


class _TanhGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(3 * x - 1.5, approximate="tanh")


class _Reciprocal(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.reciprocal(x + 0.05)


class _OverConvolution(nn.Module):
    """A constant over a convolution, or over what becomes one once constants are folded."""

    def __init__(self, numerator: Tensor | None, factor: float | None = None) -> None:
        super().__init__()
        self.conv, self.factor = nn.Conv2d(3, 4, 3), factor
        self.register_buffer("numerator", numerator)
        nn.init.uniform_(self.conv.weight, 0.1, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x) + 0.5
        y = y if self.factor is None else -(y * self.factor)
        return torch.reciprocal(y) if self.numerator is None else self.numerator / y


_OVER = [
    _OverConvolution(None), _OverConvolution(torch.tensor(2.0)), _OverConvolution(None, 0.5),
    _OverConvolution(torch.linspace(1, 2, 4)[:, None, None], 2.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "precision"),
    [(_Antialiased(), "fp16"), (_TanhGelu(), "fp32"), (_Reciprocal(), "fp32"), *((module, "fp32") for module in _OVER)],
)
def test_known_defects_of_the_converter_are_gone_round(module: nn.Module, precision: str, tmp_path: Path) -> None:
    """It drops ``antialias``, takes the tanh form of GELU for the exact one, and leaves a reciprocal's epsilon at the
    format's default of 1e-4, without a word: they are spelt out before it sees them. It turns a constant over a
    convolution upside down: there the constant is made to depend on the convolution."""
    inputs = (torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)),)
    request = BuildRequest(module, precision, tmp_path / "a.mlpackage", inputs, ("x",), ("y",), CalibrationSet((), ""))
    build(request)  # interprets what it wrote, and refuses what is wrong
    assert [path.name for path in tmp_path.iterdir()] == ["a.mlpackage"]


class _Matched(nn.Module):
    """What two nearly equal pictures differ by: the rounding of either is as large."""

    def __init__(self) -> None:
        super().__init__()
        self.blur, self.last = nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Conv2d(1, 2, 3, padding=1)
        nn.init.constant_(self.blur.weight, 1 / 9)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(1000 * (self.blur(left) - self.blur(right))))
        return y


@not_on_a_mac
@pytest.mark.parametrize("precision", ["fp16", "w8"])
def test_what_compares_nearly_equal_things_is_an_island_of_float32(precision: str, tmp_path: Path) -> None:
    """The inputs are float32, as declared; everything in float16 leaves 15 dB."""
    torch.manual_seed(0)
    left = 0.5 + 0.1 * torch.randn(1, 1, 12, 16)
    inputs = (left, left + 1e-3 * torch.randn(1, 1, 12, 16))
    request = BuildRequest(
        _Matched().eval(), precision, tmp_path / "a.mlpackage", inputs, ("left", "right"), ("y",),
        CalibrationSet((inputs,), ""),
    )  # fmt: skip
    artefact = build(request)
    assert artefact.details["interpreted"]["sqnr_db"] > 45
    types = {step.name: step.outputs[0][1].dtype for step in Interpreter(artefact.path).steps}
    wide = set(artefact.details["float32_islands"])
    assert wide & set(types) and all(types[name] == "float32" for name in wide & set(types))
    assert "float16" in types.values(), "what follows is float16 all the same"
