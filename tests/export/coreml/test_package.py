from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.export.coreml.conftest import Built

from dualpix.export.coreml import Interpreter, PackageError, load
from dualpix.export.coreml.operators import OPERATORS, Call, OperatorError
from dualpix.export.coreml.package import MAX_ELEMENTS, inside, read_package, read_spec, unpack_bits


@pytest.fixture
def package(tiny_packages: dict[str, Built], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_packages["fp16"][1].path, tmp_path / "a.mlpackage"))


def _edit(package: Path, change: Callable[[Any], object]) -> None:
    """Change the main function's block in the saved program."""
    spec, file = read_spec(package)
    change(next(iter(spec.mlProgram.functions["main"].block_specializations.values())))
    file.write_bytes(spec.SerializeToString())


def _first(block: Any, kind: str) -> Any:
    return next(o for o in block.operations if o.type == kind)


def _stored(block: Any) -> Any:
    """The reference to the first constant in the weight file."""
    value = next(o for o in block.operations if o.attributes["val"].WhichOneof("value") == "blobFileValue")
    return value.attributes["val"].blobFileValue


def test_an_unknown_operator_is_named_with_its_place(package: Path) -> None:
    _edit(package, lambda block: setattr(_first(block, "upsample_bilinear"), "type", "fold_space"))
    with pytest.raises(OperatorError, match="operator 'fold_space' at 'disparity_px' is not known"):
        Interpreter(package)


def test_an_unknown_parameter_is_named(package: Path) -> None:
    def change(block: Any) -> None:
        operation = _first(block, "relu")
        operation.inputs["slope"].CopyFrom(operation.inputs["x"])

    _edit(package, change)
    with pytest.raises(OperatorError, match=r"operator 'relu' at '.*' has the parameter 'slope'"):
        Interpreter(package)


def test_a_result_of_another_shape_than_declared_is_refused(package: Path, tiny_packages: dict[str, Built]) -> None:
    def change(block: Any) -> None:
        _first(block, "conv").outputs[0].type.tensorType.dimensions[1].constant.size = 9

    _edit(package, change)
    request, _ = tiny_packages["fp16"]
    with pytest.raises(PackageError, match=r"operator 'conv' at '.*' gives float32 \(1, 8, .*expected float16 \(1, 9"):
        load(package, request.input_names, request.output_names)(request.inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: setattr(_stored(b), "fileName", "/etc/passwd"), "keeps weights in '/etc/passwd'"),
        (lambda b: setattr(_stored(b), "fileName", "@model_path/../../../x"), "names the file"),
        (lambda b: setattr(_stored(b), "offset", 1 << 60), "past the end"),
        (lambda b: setattr(_stored(b), "offset", 3), "damaged weight entry"),
        (lambda b: _first(b, "conv").outputs[0].type.tensorType.dimensions.add(), None),
        (lambda b: setattr(_first(b, "conv").inputs["x"].arguments[0], "name", "nobody"), "uses 'nobody'"),
        (lambda b: _first(b, "conv").blocks.add(), "control flow"),
    ],
)  # fmt: skip
def test_a_damaged_program_is_a_user_error(
    package: Path, tiny_packages: dict[str, Built], change: Callable[[Any], object], message: str | None
) -> None:
    _edit(package, change)
    request, _ = tiny_packages["fp16"]
    with pytest.raises(PackageError, match=message):
        load(package, request.input_names, request.output_names)(request.inputs)


@pytest.mark.parametrize("name", ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "weight.bin"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff" * 300])
def test_missing_and_damaged_files_are_user_errors(package: Path, name: str, content: bytes | None) -> None:
    file = next(package.rglob(Path(name).name))
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(PackageError):
        Interpreter(package)


@pytest.mark.parametrize("target", ["../../secret.bin", "/etc/passwd", "a/../../b", "a\\b"])
def test_a_manifest_cannot_lead_outside(package: Path, target: str) -> None:
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = target
    (package / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PackageError, match="a file inside the package"):
        read_package(package)


def test_a_link_cannot_lead_outside(package: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (package / "weights").symlink_to(tmp_path / "secret")
    with pytest.raises(PackageError, match="links to a file outside"):
        inside(package, "weights")


def test_inputs_are_checked(package: Path, tiny_packages: dict[str, Built]) -> None:
    request, _ = tiny_packages["fp16"]
    interpreter = Interpreter(package)
    named = dict(zip(request.input_names, request.inputs, strict=True))
    with pytest.raises(PackageError, match="expected the inputs"):
        interpreter({"image": named["image"]})
    with pytest.raises(PackageError, match="input 'left' gives"):
        interpreter(named | {"left": named["image"]})


def test_all_results_are_kept_on_request(package: Path, tiny_packages: dict[str, Built]) -> None:
    request, _ = tiny_packages["fp16"]
    interpreter = Interpreter(package)
    kept: dict[str, torch.Tensor] = {}
    output = interpreter(dict(zip(request.input_names, request.inputs, strict=True)), kept)["disparity_px"]
    assert list(kept) == [step.name for step in interpreter.steps]
    assert torch.equal(kept["disparity_px"], output)
    assert all(torch.equal(v, v.half().float()) for v in kept.values()), "stored in float16"


def _call(kind: str, **operands: torch.Tensor | str) -> Any:
    return OPERATORS[kind].run(Call(kind, "here", {name: (value,) for name, value in operands.items()}))


def test_growth_is_bounded() -> None:
    large = torch.tensor([1 << 20, 1 << 20], dtype=torch.int32)
    with pytest.raises(OperatorError, match=f"operator 'tile' at 'here': makes a tensor .* at most {MAX_ELEMENTS}"):
        _call("tile", x=torch.zeros(1, 1), reps=large)
    for kind, operands in (
        ("fill", {"shape": large}),
        ("pad", {"x": torch.zeros(1), "pad": torch.tensor([0, 1 << 30])}),
        ("range_1d", {"start": torch.zeros(()), "end": torch.tensor(1e12), "step": torch.ones(())}),
        ("resize_nearest_neighbor", {
            "x": torch.zeros(1, 1, 1), "target_size_height": large[0], "target_size_width": large[1]
        }),
    ):  # fmt: skip
        with pytest.raises(OperatorError, match="makes a tensor"):
            _call(kind, **operands)


@given(
    st.integers(1, 8).flatmap(
        lambda bits: st.tuples(st.just(bits), st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=40))
    )
)
def test_packed_integers_are_read_back(case: tuple[int, list[int]]) -> None:
    bits, values = case
    word = sum(v << (bits * k) for k, v in enumerate(values))
    data = word.to_bytes(-(-bits * len(values) // 8), "little")
    assert unpack_bits(data, bits, len(values)).tolist() == values
    if bits > 1:
        signed = [v - 2**bits if v >= 2 ** (bits - 1) else v for v in values]
        assert unpack_bits(data, bits, len(values), signed=True).tolist() == signed


def test_float16_overflow_is_seen(package: Path, tiny_packages: dict[str, Built]) -> None:
    request, _ = tiny_packages["fp16"]
    huge = tuple(t * 1e5 for t in request.inputs)
    output = load(package, request.input_names, request.output_names)(huge)
    assert not torch.isfinite(output).all()


def test_block_weights_repeat_over_their_blocks() -> None:
    data = torch.arange(16, dtype=torch.int8).reshape(4, 4)
    scale, offset = torch.tensor([[1.0, 10.0]]).repeat(2, 1), torch.tensor([[0, 1], [2, 3]], dtype=torch.int8)
    values = _call("constexpr_blockwise_shift_scale", data=data, scale=scale, offset=offset)
    expected = [
        [(int(data[i, j]) - int(offset[i // 2, j // 2])) * float(scale[i // 2, j // 2]) for j in range(4)]
        for i in range(4)
    ]
    assert values.tolist() == expected


def test_palettes_look_up_values_and_vectors() -> None:
    indices = torch.tensor([[2, 3], [3, 0], [1, 0], [3, 0], [2, 1], [0, 3]], dtype=torch.uint8)
    lut = torch.tensor([[1.0, 5.0, 9.0, 13.0], [2.0, 10.0, 18.0, 26.0]]).reshape(2, 1, 4, 1)
    looked_up = _call("constexpr_lut_to_dense", indices=indices, lut=lut)
    assert looked_up.tolist() == [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]]
    pairs = torch.tensor([[1.0, -1.0], [2.0, -2.0]]).reshape(1, 1, 2, 2)
    first = torch.tensor([[0, 1]], dtype=torch.uint8)
    assert _call("constexpr_lut_to_dense", indices=first, lut=pairs, vector_axis=torch.tensor(0)).tolist() == [
        [1, 2],
        [-1, -2],
    ]
    assert _call("constexpr_lut_to_dense", indices=first, lut=pairs, vector_axis=torch.tensor(1)).tolist() == [
        [1, -1, 2, -2]
    ]
    with pytest.raises(OperatorError, match="an index of 3 into a palette of 2"):
        _call("constexpr_lut_to_dense", indices=indices, lut=pairs[..., :1])


def test_sparse_weights_are_laid_out() -> None:
    mask = torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=torch.uint8)
    dense = _call("constexpr_sparse_to_dense", nonzero_data=torch.tensor([1.0, 2.0, 3.0]), mask=mask)
    assert dense.tolist() == [[1, 0, 2], [0, 3, 0]]
    packed = torch.from_numpy(np.packbits(mask.numpy().ravel(), bitorder="little"))
    old = _call(
        "constexpr_sparse_to_dense", nonzero_data=torch.tensor([1.0, 2.0, 3.0]), mask=packed, shape=torch.tensor([2, 3])
    )
    assert torch.equal(old, dense)
    lut = torch.tensor([5.0, 7.0]).reshape(1, 1, 2, 1)
    kept, values = _call(
        "constexpr_lut_to_sparse",
        indices_mask=mask,
        indices_nonzero_data=torch.tensor([1, 0, 1], dtype=torch.uint8),
        lut=lut,
    )
    assert kept.tolist() == mask.bool().tolist() and values.tolist() == [7, 5, 7]
    kept, values = _call(
        "constexpr_sparse_blockwise_shift_scale",
        data_mask=mask,
        nonzero_data=torch.tensor([1, 2, 3], dtype=torch.int8),
        scale=torch.tensor([[1.0], [10.0]]),
    )
    assert values.tolist() == [1, 2, 30]
    with pytest.raises(OperatorError, match="2 values for 3 places"):
        _call("constexpr_sparse_to_dense", nonzero_data=torch.tensor([1.0, 2.0]), mask=mask)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["int4-blocks", "palette-groups", "sparse", "sparse-palette"])
def test_compressions_of_the_newer_format_agree_with_the_librarys_own(method: str, tmp_path: Path) -> None:
    import coremltools as ct
    import coremltools.optimize.coreml as cto
    from tests.export.coreml.cases import convert, save

    torch.manual_seed(0)
    net, x = torch.nn.Sequential(torch.nn.Conv2d(32, 64, 3)), (torch.randn(1, 32, 8, 8),)
    options = {"minimum_deployment_target": ct.target.iOS18, "compute_precision": ct.precision.FLOAT16}
    model = convert(net, x, ["x"], ["y"], **options)

    def config(op: Any) -> Any:
        return cto.OptimizationConfig(global_config=op)

    if method.startswith("sparse"):
        model = cto.prune_weights(model, config(cto.OpThresholdPrunerConfig(threshold=0.04)))
    if method == "int4-blocks":
        blocks = cto.OpLinearQuantizerConfig(
            mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=16
        )
        model = cto.linear_quantize_weights(model, config(blocks))
    if "palette" in method:
        grouped = {"granularity": "per_grouped_channel", "group_size": 16} if method == "palette-groups" else {}
        palettes = cto.OpPalettizerConfig(mode="uniform", nbits=4, **grouped)
        model = cto.palettize_weights(model, config(palettes), joint_compression=method.startswith("sparse"))
    path = save(model, tmp_path / "a.mlpackage")
    interpreter = Interpreter(path)
    weight = interpreter.steps[0].inputs["weight"][0]
    stored = cto.decompress_weights(model)
    own = Interpreter(save(stored, tmp_path / "b.mlpackage"))
    expected = own.steps[0].inputs["weight"][0]
    mine, theirs = interpreter.constant(weight.name), own.constant(expected.name)  # type: ignore[union-attr]
    assert isinstance(mine, torch.Tensor) and isinstance(theirs, torch.Tensor)
    assert not torch.equal(mine, net[0].weight.half().float()), "something was compressed"
    assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-6)
