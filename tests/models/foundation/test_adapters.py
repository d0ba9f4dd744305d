"""Low-rank adapters: nothing at first, trained alone, merged and unmerged without a trace, kept in a small file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.foundation import tiny_vit
from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.models.foundation import load_adapters, merge_adapters, save_adapters, unmerge_adapters
from dualpix.models.foundation.adapters import adapted_layers, adapter_state, add_adapters
from dualpix.models.foundation.efficientnet import LITE, EfficientNetLite

IMAGE = torch.linspace(-1, 1, 3 * 28 * 42).reshape(1, 3, 28, 42)


def _adapted(rank: int = 3, alpha: float | None = 6.0, *, trained: bool = True) -> nn.Module:
    network = tiny_vit()
    add_adapters(network, rank, alpha)
    if trained:
        torch.manual_seed(1)
        for _, layer in adapted_layers(network):
            nn.init.normal_(layer.lora_b, std=0.1)
    return network


def _output(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = network(IMAGE)[-1]
    return output


def test_new_adapters_change_nothing() -> None:
    assert torch.equal(_output(_adapted(trained=False)), _output(tiny_vit()))


def test_names_of_the_weights_stay_the_published_ones() -> None:
    before, after = set(tiny_vit().state_dict()), set(_adapted().state_dict())
    assert before < after and all(key.endswith((".lora_a", ".lora_b")) for key in after - before)
    layers = {f"blocks.{i}.{layer}" for i in range(4) for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    assert {key.rpartition(".")[0] for key in after - before} == layers


def test_only_adapters_are_trained_and_one_step_changes_the_output() -> None:
    network = _adapted()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trained = [p for p in network.parameters() if p.requires_grad]
    assert len(trained) == 2 * 16
    optimiser = torch.optim.SGD(trained, 0.1)
    network(IMAGE)[-1].square().mean().backward()
    optimiser.step()
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]) != ("lora" in key), key


def test_the_update_is_alpha_over_rank_times_b_a() -> None:
    layer = next(layer for _, layer in adapted_layers(_adapted(3, 6.0)))
    x = torch.randn(2, 5, layer.in_features)
    with torch.no_grad():
        expected = x @ (layer.weight + 2.0 * layer.lora_b @ layer.lora_a).T + layer.bias
        torch.testing.assert_close(layer(x), expected)


def test_merged_computes_the_same_and_unmerged_is_bit_for_bit_what_it_was() -> None:
    network = _adapted()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    before = _output(network)
    assert not torch.allclose(before, _output(tiny_vit()), atol=1e-3), "else nothing is tested"
    merge_adapters(network)
    merge_adapters(network)  # twice is once
    torch.testing.assert_close(_output(network), before, atol=1e-5, rtol=1e-5)
    assert len(torch.export.export(network, (IMAGE,)).graph.nodes) < len(
        torch.export.export(_adapted(), (IMAGE,)).graph.nodes
    )
    unmerge_adapters(network)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert torch.equal(_output(network), before)


def test_a_state_dict_saved_while_merged_does_not_count_adapters_twice() -> None:
    network = _adapted()
    before = _output(network)
    merge_adapters(network)
    again = _adapted(trained=False)
    again.load_state_dict(network.state_dict())
    assert torch.equal(_output(again), before)
    network.load_state_dict(again.state_dict())  # into a merged one, too
    assert torch.equal(_output(network), before)


def test_adapters_alone_are_saved_and_loaded(tmp_path: Path) -> None:
    network, path = _adapted(), tmp_path / "adapters.safetensors"
    before = _output(network)
    save_adapters(network, path)
    assert set(load_file(path)) == set(adapter_state(network))
    fresh = tiny_vit()
    load_adapters(fresh, path)  # rank and alpha come from the file
    assert torch.equal(_output(fresh), before)
    assert {(layer.rank, layer.alpha) for _, layer in adapted_layers(fresh)} == {(3, 6.0)}
    third = _adapted(trained=False)
    merge_adapters(third)
    load_adapters(third, path)
    assert torch.equal(_output(third), before)


def test_adapters_that_do_not_belong_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "adapters.safetensors"
    save_adapters(_adapted(), path)
    with pytest.raises(DualpixError, match="have rank 3 and alpha 6; expected rank 4 and alpha 4"):
        load_adapters(_adapted(4, None), path)
    state, about = load_file(path), {"format": "dualpix low-rank adapters 1", "rank": "3", "alpha": "6.0"}
    cases = {
        "'blocks.0.attn.qkv.lora_a' is missing": {k: v for k, v in state.items() if k != "blocks.0.attn.qkv.lora_a"},
        r"'blocks.3.mlp.fc2.lora_b' is \[4, 4\]": state | {"blocks.3.mlp.fc2.lora_b": torch.zeros(4, 4)},
        "'blocks.4.mlp.fc1.lora_a' is not of the network": state | {"blocks.4.mlp.fc1.lora_a": torch.zeros(3, 32)},
        "not finite": state | {"blocks.3.mlp.fc2.lora_b": torch.full((32, 3), torch.inf)},
    }
    for message, content in cases.items():
        save_file(content, path, about)
        network = tiny_vit()
        with pytest.raises(DualpixError, match=message) as caught:
            load_adapters(network, path)
        assert "\n" not in str(caught.value)
        assert not adapter_state(network), "and the network is as it was"
    for bad in ({}, {"rank": "3"}, about | {"rank": "0"}, about | {"rank": "1e9"}, about | {"alpha": "nan"}):
        save_file(state, path, bad)
        with pytest.raises(DualpixError, match="holds no adapters"):
            load_adapters(tiny_vit(), path)
    path.write_text("no safetensors")
    with pytest.raises(DualpixError, match="do not load"):
        load_adapters(tiny_vit(), path)


def test_what_cannot_be_adapted_is_refused() -> None:
    with pytest.raises(DualpixError, match="no layers for low-rank adapters"):
        add_adapters(EfficientNetLite(LITE["efficientnet-lite0"]), 4)
    with pytest.raises(DualpixError, match="has adapters already"):
        add_adapters(_adapted(), 4)
    for rank, alpha in ((0, 1.0), (-1, None), (5000, None), (4, 0.0), (4, float("nan"))):
        with pytest.raises(DualpixError, match=f"adapters of rank {rank}"):
            add_adapters(tiny_vit(), rank, alpha)
    with pytest.raises(DualpixError, match="no adapters to save"):
        save_adapters(tiny_vit(), Path("none.safetensors"))
