"""Loading a model folder: whole ones load, broken ones say in one line what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dualpix.capture.errors import DualpixError
from dualpix.models.networks import build_network
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
    assert f'Missing key(s) in state_dict: "{first}"' in message(folder)
    save_file({**state, first: torch.zeros(3)}, folder / "weights.safetensors")
    assert f"size mismatch for {first}" in message(folder)


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
        ({}, "unknown network 'None'; expected one of: difusenet"),
        ({"network": "unet"}, "unknown network 'unet'"),
        ({"network": "difusenet", "options": {"colour": 3}}, "unexpected keyword argument 'colour'"),
        ({"network": "difusenet", "options": [1]}, "options of"),
    ],
)
def test_broken_cards(folder: Path, card: object, expected: str) -> None:
    write_card(folder, card)
    assert expected in message(folder)


def test_a_card_that_is_no_json(folder: Path) -> None:
    (folder / "card.json").write_text("{")
    assert "does not read" in message(folder)
