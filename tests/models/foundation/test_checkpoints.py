"""Checkpoints: what fits loads to the last bit, what does not is refused in one line by name, nothing is trusted."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.support.foundation import tiny_depth_anything
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.models.foundation import foundation
from dualpix.models.foundation.checkpoints import load_strictly, read_state

State = dict[str, Tensor]
MANY = 1 << 20


def _state() -> State:
    return {key: value.clone() for key, value in tiny_depth_anything().state_dict().items()}


def _load(path: Path) -> State:
    network = tiny_depth_anything()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    load_strictly(network, read_state(path, MANY), path.name)
    return network.state_dict()


def _save(content: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_was_saved_is_loaded_to_the_last_bit(suffix: str, tmp_path: Path) -> None:
    state = _state()
    loaded = _load(_save(state, tmp_path / f"weights{suffix}"))
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_what_training_scripts_save_is_unwrapped(key: str, tmp_path: Path) -> None:
    state = _state()
    parallel = {f"module.{k}": v for k, v in state.items()}
    loaded = _load(_save({key: parallel, "epoch": 3, "optimizer": {"lr": 1.0}}, tmp_path / "run.pth"))
    assert all(torch.equal(loaded[k], state[k]) for k in state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_taken_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {key: value.to(dtype) for key, value in _state().items()}
    loaded = _load(_save(state, tmp_path / "weights.safetensors"))
    assert all(value.dtype == torch.float32 and torch.equal(value, state[k].float()) for k, value in loaded.items())


def _renamed(state: State) -> None:
    state["pretrained.blocks.1.attn.query_key_value.weight"] = state.pop("pretrained.blocks.1.attn.qkv.weight")


def _nan(state: State) -> None:
    state["depth_head.projects.2.bias"][3] = float("nan")


KEY = "depth_head.projects.2.bias"
MISFITS: dict[str, tuple[Callable[[State], object], str]] = {
    "missing": (lambda s: s.pop(KEY), f"'{KEY}' is missing; expected"),
    "several missing": (
        lambda s: [s.pop(k) for k in list(s) if "norm1" in k],
        r"norm1.weight' is missing \(and 7 more\)",
    ),
    "renamed": (_renamed, "attn.qkv.weight' is missing; 'pretrained.blocks.1.attn.query_key_value.weight' is there"),
    "misshapen": (lambda s: s.update({KEY: torch.zeros(25)}), rf"'{KEY}' is \[25\], the network's \[24\]"),
    "transposed": (
        lambda s: s.update({"pretrained.blocks.0.mlp.fc1.weight": torch.zeros(32, 128)}),
        r"fc1.weight' is \[32, 128\], the network's \[128, 32\]",
    ),
    "too many": (
        lambda s: s.update({"pretrained.register_tokens": torch.zeros(1, 4, 32)}),
        "'pretrained.register_tokens' is not of the network",
    ),
    "not finite": (_nan, f"'{KEY}' holds values that are not finite"),
    "whole numbers": (lambda s: s.update({KEY: torch.zeros(24, dtype=torch.int8)}), f"'{KEY}' is torch.int8"),
}


@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_does_not_fit_is_refused_by_name_in_one_line(misfit: str, suffix: str, tmp_path: Path) -> None:
    change, message = MISFITS[misfit]
    state = _state()
    change(state)
    with pytest.raises(DualpixError, match=message) as caught:
        _load(_save(state, tmp_path / f"weights{suffix}"))
    assert "\n" not in str(caught.value) and f"weights{suffix}" in str(caught.value)


def test_a_sparse_tensor_is_refused(tmp_path: Path) -> None:
    state = _state()
    state[KEY] = torch.zeros(24).to_sparse()
    with pytest.raises(DualpixError, match=r"is torch.float32, torch.sparse_coo.* expected dense"):
        _load(_save(state, tmp_path / "weights.pth"))


def test_nothing_is_changed_by_weights_that_do_not_fit(tmp_path: Path) -> None:
    network, state = tiny_depth_anything(), _state()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    _nan(state)
    with pytest.raises(DualpixError):
        load_strictly(network, {key: value + 1 for key, value in state.items()}, "weights")
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("weights_only was not on",))


def _legacy(path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)


def _packed(path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 16)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def _cut(path: Path) -> None:
    torch.save(_state(), path)
    path.write_bytes(path.read_bytes()[:20_000])


def _pickled_code(path: Path) -> None:
    torch.save({"a": _Runs()}, path)


FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "text": ("w.pth", lambda p: p.write_text("version https://git-lfs.github.com/spec/v1"), "do not load"),
    "text as safetensors": ("w.safetensors", lambda p: p.write_text("no header here"), "do not load"),
    "empty": ("w.pth", lambda p: p.write_bytes(b""), "do not load"),
    "cut": ("w.pth", _cut, "do not load"),
    "older torch": ("w.pth", _legacy, r"torch.save \(1.6 or later\).* save it again"),
    "plain pickle": ("w.pth", lambda p: p.write_bytes(pickle.dumps({"a": 1})), "do not load"),
    "code": ("w.pth", _pickled_code, "do not load"),
    "compressed": ("w.pth", _packed, "compressed"),
    "a list": ("w.pth", lambda p: torch.save([torch.zeros(2)], p), "holds a list"),
    "a tensor": ("w.pth", lambda p: torch.save(torch.zeros(2), p), "holds a Tensor"),
    "nothing": ("w.pth", lambda p: torch.save({}, p), "not a state dict"),
    "numbers": ("w.pth", lambda p: torch.save({"a": 3}, p), "'a' is a int, not a tensor"),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_checkpoint_is_told_in_one_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, write, message = FILES[kind]
    write(tmp_path / name)
    with pytest.raises(DualpixError, match=message) as caught:
        read_state(tmp_path / name, MANY)
    assert "\n" not in str(caught.value)
    assert not capsys.readouterr().out, "nothing in the file is run"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DualpixError, match=r"cannot read weights .*No such file"):
        read_state(tmp_path / "none.pth", MANY)


def test_a_file_too_large_for_the_network_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 30)  # sparse
    with pytest.raises(DualpixError, match="have 1024 MiB; expected at most 80 MiB of this network"):
        read_state(path, MANY)


def test_weights_of_another_model_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(foundation("efficientnet-lite1").trunk.state_dict(), path)
    with pytest.raises(DualpixError, match=r"do not fit: .*they are of 'efficientnet-lite1'"):
        foundation("efficientnet-lite2", path)


def test_an_encoder_inside_depth_anything_is_named(tmp_path: Path) -> None:
    state = foundation("depth-anything-v2-vits").trunk.state_dict()
    path = tmp_path / "depth_anything_v2_vits.pth"
    torch.save(state, path)
    with pytest.raises(DualpixError, match="they are of 'depth-anything-v2-vits'"):
        foundation("dinov2-vits14", path)
    model = foundation("depth-anything-v2-vits", path)
    assert model.source.startswith("depth_anything_v2_vits.pth, SHA-256 ")
    loaded = model.trunk.state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[k], state[k]) for k in state)


def test_a_metric_checkpoint_is_not_taken_for_a_relative_one(tmp_path: Path) -> None:
    path = tmp_path / "depth_anything_v2_metric_hypersim_vits.pth"
    path.write_bytes(b"")
    with pytest.raises(DualpixError, match=r"named as a metric model.* give max_depth_m"):
        foundation("depth-anything-v2-vits", path)
