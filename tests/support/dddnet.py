"""A compact DDDNet with random weights as a folder that --model takes, and one whose picture is known."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from dualpix.models.networks import build_network


def write_model(folder: Path, network: nn.Module | None = None, *, name: str = "dddnet") -> Path:
    """Weights and card."""
    torch.manual_seed(0)
    network = network or build_network(name)
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps({"network": name, "options": {}}))
    return folder


def brightening(added: float) -> nn.Module:
    """A network that adds the same everywhere to the encoded picture."""
    torch.manual_seed(0)
    network = build_network("dddnet")
    with torch.no_grad():
        last = network.sharp.out  # type: ignore[union-attr]
        last.weight.zero_()  # type: ignore[operator, union-attr]
        last.bias.fill_(added)  # type: ignore[operator, union-attr]
    return network
