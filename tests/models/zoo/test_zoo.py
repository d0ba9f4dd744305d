"""Loading a model folder: whole ones load, broken ones say in one line what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dualpix.capture.errors import DualpixError
from dualpix.models.networks import NETWORKS, build_network
from dualpix.models.zoo import load_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_file(build_network("difusenet").state_dict(), tmp_path / "weights.safetensors")
    write_card(tmp_path, {"network": "difusenet"})
    return tmp_path


def write_card(folder: Path, card: object) -> None:
    (folder / "card.json").write_text(json.dumps(card))


def message(folder: Path) -> str:
    with pytest.raises(DualpixError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_loads_as_it_was_saved(folder: Path) -> None:
    torch.manual_seed(0)
    expected = build_network("difusenet").state_dict()
    model = load_model(str(folder))
    assert model.name == folder.name and not model.module.training
    assert all(torch.equal(value, expected[name]) for name, value in model.module.state_dict().items())
    with pytest.raises(DualpixError, match=r"no limits\.json"):
        model.limits()


def test_weights_of_another_network_are_named(folder: Path) -> None:
    state = build_network("difusenet").state_dict()
    first = next(iter(state))
    save_file({k: v for k, v in state.items() if k != first}, folder / "weights.safetensors")
    assert f"'{first}' is missing" in message(folder)
    save_file({**state, first: torch.zeros(3)}, folder / "weights.safetensors")
    assert f"'{first}' is [3], the network's {list(state[first].shape)}" in message(folder)
    save_file({**state, "a.head": torch.zeros(3), "b.head": torch.zeros(3)}, folder / "weights.safetensors")
    assert "'a.head' and 1 more is not of the network" in message(folder)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda w: w.index_fill(0, torch.tensor([0]), torch.nan), "are not finite; expected finite weights"),
        (lambda w: w.index_fill(0, torch.tensor([0]), torch.inf), "are not finite; expected finite weights"),
        (lambda w: w.index_fill(0, torch.tensor([0]), 1e30), "for a plain picture of 64 x 64 px"),
        (lambda w: torch.full_like(w, 1e30), "for a plain picture of 64 x 64 px"),
        (lambda w: w.to(torch.int8), "is stored as I8; expected floating-point weights"),
        (lambda w: w.to(torch.float8_e4m3fn), "is stored as F8_E4M3; expected floating-point weights"),
        (lambda w: w > 0, "is stored as BOOL; expected floating-point weights"),
        (lambda w: w.to(torch.complex64), "is stored as C64; expected floating-point weights"),
    ],
    ids=["nan", "infinite", "one-huge", "huge", "int8", "float8", "bool", "complex"],
)
def test_weights_that_no_network_can_use(
    folder: Path, damage: Callable[[torch.Tensor], torch.Tensor], expected: str
) -> None:
    state = build_network("difusenet").state_dict()
    first = next(iter(state))
    save_file({**state, first: damage(state[first])}, folder / "weights.safetensors")
    assert expected in message(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_stored_in_another_precision_load(folder: Path, dtype: torch.dtype) -> None:
    state = build_network("difusenet").state_dict()
    stored = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    save_file(stored, folder / "weights.safetensors")
    loaded = load_model(folder).module.state_dict()
    assert all(v.dtype == state[k].dtype and torch.equal(v, stored[k].to(v.dtype)) for k, v in loaded.items())


def test_damaged_weights(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "do not load" in message(folder)
    weights.unlink()
    assert "No such file" in message(folder)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ([], "holds a list; expected a JSON object"),
        ({}, f"unknown network 'None'; expected one of: {', '.join(sorted(NETWORKS))}"),
        ({"network": "unet"}, "unknown network 'unet'"),
        ({"network": "difusenet", "options": {"colour": 3}}, "unexpected keyword argument 'colour'"),
        ({"network": "difusenet", "options": [1]}, "options of"),
        ({"network": "difusenet", "options": {"dp_channels": [10**5, 10**5]}}, "expected whole numbers of 1 to 2048"),
        ({"network": "difusenet", "options": {"dp_channels": [10**18, 10**18]}}, "options of network 'difusenet'"),
        ({"network": "difusenet", "options": {"dp_channels": [-4, 8]}}, "options of network 'difusenet'"),
        ({"network": "difusenet", "options": {"dp_channels": ["a", 8]}}, "options of network 'difusenet'"),
        ({"network": "difusenet", "options": {"dp_channels": [0.5, 8]}}, "options of network 'difusenet'"),
    ],
)
def test_broken_cards(folder: Path, card: object, expected: str) -> None:
    write_card(folder, card)
    assert expected in message(folder)


@pytest.mark.parametrize(
    "text",
    ["{", "[" * 100_000, '{"a": ' * 5_000 + "1" + "}" * 5_000, '{"loss": NaN}',
     '{"loss": -Infinity}', '{"loss": 1e999}', '{"steps": ' + "9" * 5_000 + "}", "\x00", ""],
    ids=["cut", "deep-list", "deep-object", "nan", "infinity", "overflow", "long-number", "binary", "empty"],
)  # fmt: skip
def test_a_card_that_is_no_json(folder: Path, text: str) -> None:
    (folder / "card.json").write_text(text)
    assert "does not read" in message(folder)


def test_a_card_of_megabytes_is_not_read(folder: Path) -> None:
    (folder / "card.json").write_text(json.dumps({"network": "difusenet", "notes": "x" * (1 << 20)}))
    assert "has over 1 MiB; expected a JSON object" in message(folder)


def test_a_card_in_latin_1(folder: Path) -> None:
    (folder / "card.json").write_bytes('{"summary": "Gerät"}'.encode("latin-1"))
    assert "does not read" in message(folder)


_LOADED = """
import sys
from dualpix.models.zoo import known_models, load_model
for name in known_models():
    load_model(name)
print(sorted({"sympy", "torch._inductor", "executorch"} & set(sys.modules)), len(known_models()))
"""


def test_loading_a_network_imports_nothing_that_only_compilers_need() -> None:
    # constants of a block that are computed on the device "meta" import sympy: a second for every command
    done = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.split("] ")[0] == "[" and int(done.stdout.split("] ")[1]) >= 4
