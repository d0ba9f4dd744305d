"""Low-rank adapters (LoRA, Hu et al., ICLR 2022): y = W x + b + (alpha / rank) B A x, A and B trained, W kept.

B begins as zeros, so that a network with new adapters computes what it did without. Merged into W they cost nothing;
unmerged again, W is what it was, bit for bit. A state dict holds W unmerged at all times: saved while merged and loaded
into a network with adapters, they would count twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_path
from dualpix.models.foundation.checkpoints import first_misfit

TARGETS = ("qkv", "proj", "fc1", "fc2")
"""Names of the linear layers of a transformer block that get adapters."""
MOST_RANK = 1024
_FORMAT = "dualpix low-rank adapters 1"
_MOST_BYTES = 1 << 30


class LowRankLinear(nn.Linear):
    """A linear layer with an adapter; takes over weight and bias, under their names."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.lora_a = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))
        self.lora_b = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self.rank, self.alpha = rank, alpha
        self.register_buffer("unmerged", None, persistent=False)

    unmerged: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = F.linear(x, self.weight, self.bias)
        if self.unmerged is not None:
            return y
        return y + F.linear(F.linear(x, self.lora_a), self.lora_b) * (self.alpha / self.rank)

    def merge(self) -> None:
        """Add the adapter to the weight; once, however often it is called."""
        if self.unmerged is None:
            with torch.no_grad():
                kept = self.weight.clone()
                self.weight += (self.lora_b @ self.lora_a) * (self.alpha / self.rank)
            self.unmerged = kept

    def unmerge(self) -> None:
        """Take it out again."""
        if self.unmerged is not None:
            with torch.no_grad():
                self.weight.copy_(self.unmerged)
            self.unmerged = None

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.unmerged is not None:
            destination[prefix + "weight"] = self.unmerged

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self.unmerge()
        super()._load_from_state_dict(*arguments)


def add_adapters(network: nn.Module, rank: int, alpha: float | None = None) -> None:
    """Give every linear layer of the names ``TARGETS`` an adapter; all other parameters are frozen.

    Args:
        network: a transformer, changed in place.
        rank: of the update, 1 to 1024.
        alpha: gain of the update, times ``rank``; None: ``rank``, a gain of 1.

    Raises:
        DualpixError: the rank or the gain is out of range, the network has adapters already, or nothing to adapt.
    """
    gain = float(rank if alpha is None else alpha)
    if not 1 <= rank <= MOST_RANK or not math.isfinite(gain) or gain <= 0:
        raise DualpixError(
            f"adapters of rank {rank} and alpha {gain:g}", expected=f"a rank of 1 to {MOST_RANK} and a positive alpha"
        )
    if any(True for _ in adapted_layers(network)):
        raise DualpixError("the network has adapters already", expected="one set of adapters")
    found = list(_targets(network))
    if not found:
        raise DualpixError(
            "the network has no layers for low-rank adapters",
            expected="a vision transformer",
            hint="tune a convolutional one as a whole (frozen=False)",
        )
    network.requires_grad_(False)
    for path, layer in found:
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, LowRankLinear(layer, rank, gain).train(layer.training))


def _targets(network: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    for path, layer in network.named_modules():
        if path.rpartition(".")[2] in TARGETS and isinstance(layer, nn.Linear):
            yield path, layer


def adapted_layers(network: nn.Module) -> Iterator[tuple[str, LowRankLinear]]:
    """The layers with adapters, by path."""
    return ((path, layer) for path, layer in network.named_modules() if isinstance(layer, LowRankLinear))


def merge_adapters(network: nn.Module) -> None:
    """Add all adapters to their weights, for export and for speed. Merged, they cannot be trained."""
    for _, layer in adapted_layers(network):
        layer.merge()


def unmerge_adapters(network: nn.Module) -> None:
    """Undo :func:`merge_adapters`, exactly."""
    for _, layer in adapted_layers(network):
        layer.unmerge()


def adapter_state(network: nn.Module) -> dict[str, Tensor]:
    """The adapters alone, by the names of ``state_dict``."""
    return {
        f"{path}.{part}": getattr(layer, part).detach()
        for path, layer in adapted_layers(network)
        for part in ("lora_a", "lora_b")
    }


def save_adapters(network: nn.Module, path: Path) -> None:
    """Write the adapters as safetensors; rank and alpha stand in its metadata.

    Raises:
        DualpixError: the network has none, or the file cannot be written.
    """
    layers = [layer for _, layer in adapted_layers(network)]
    if not layers:
        raise DualpixError("the network has no adapters to save", hint="give lora_rank")
    about = {"format": _FORMAT, "rank": str(layers[0].rank), "alpha": repr(layers[0].alpha)}
    tensors = {key: value.cpu().contiguous() for key, value in adapter_state(network).items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, about)


def load_adapters(network: nn.Module, path: Path) -> None:
    """Read adapters of a file; a network without any gets them with the file's rank and alpha.

    Raises:
        DualpixError: the file is damaged or too large, holds no adapters, or those of another network, rank or alpha.
    """
    rank, alpha, state = _read_adapters(path)
    layers = [layer for _, layer in adapted_layers(network)]
    if layers and (layers[0].rank, layers[0].alpha) != (rank, alpha):
        raise DualpixError(
            f"adapters '{path}' have rank {rank} and alpha {alpha:g}",
            expected=f"rank {layers[0].rank} and alpha {layers[0].alpha:g}, as the network's",
        )
    shapes: dict[str, Tensor] = {}
    for layer_path, layer in _targets(network):
        shapes[f"{layer_path}.lora_a"] = torch.empty(rank, layer.in_features, device="meta")
        shapes[f"{layer_path}.lora_b"] = torch.empty(layer.out_features, rank, device="meta")
    if misfit := first_misfit(shapes, state):
        raise DualpixError(f"adapters '{path}' do not fit: {misfit}", expected="adapters of this network")
    if not layers:
        add_adapters(network, rank, alpha)
    unmerge_adapters(network)
    with torch.no_grad():
        for key, target in adapter_state(network).items():
            target.copy_(state[key])


def _read_adapters(path: Path) -> tuple[int, float, dict[str, Tensor]]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DualpixError(f"adapters '{path}' have over {_MOST_BYTES >> 20} MiB", expected="low-rank adapters")
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DualpixError(f"adapters '{path}' do not load: {reason}", expected="a file of save_adapters") from error
    try:
        if about.get("format") != _FORMAT:
            raise ValueError("its metadata do not say so")
        rank, alpha = int(about["rank"]), float(about["alpha"])
        if not 1 <= rank <= MOST_RANK or not math.isfinite(alpha):
            raise ValueError(f"rank {rank}, alpha {alpha:g}")
    except (KeyError, ValueError) as error:
        raise DualpixError(f"'{path}' holds no adapters: {error}", expected="a file of save_adapters") from error
    if bad := next((key for key, value in state.items() if not torch.isfinite(value).all()), None):
        raise DualpixError(f"adapters '{path}': '{bad}' holds values that are not finite", expected="finite adapters")
    return rank, alpha, state
