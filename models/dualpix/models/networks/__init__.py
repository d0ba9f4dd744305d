"""The networks, by name. A new one is a module with a config dataclass and one entry in ``NETWORKS``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.models.networks.difusenet import DiFuseNet, DiFuseNetConfig


@dataclass(frozen=True)
class NetworkSpec:
    """How to build a network and what it takes."""

    build: Callable[[dict[str, Any]], nn.Module]
    inputs: tuple[tuple[str, int], ...]
    """(name, channels) of each image-shaped input, in the order of ``forward``."""
    output: str
    """Kind of depth the network gives, one of the names in the house plan: ``disparity_px`` ..."""
    size_multiple: int
    """Height and width must be multiples of this."""
    paper: str


NETWORKS: dict[str, NetworkSpec] = {
    "difusenet": NetworkSpec(
        build=lambda options: DiFuseNet(DiFuseNetConfig(**{k: _tuples(v) for k, v in options.items()})),
        inputs=(("image", 3), ("left", 1), ("right", 1)),
        output="disparity_px",
        size_multiple=32,
        paper="DiFuse-Net, arXiv 2506.14709",
    ),
}


def _tuples(value: Any) -> Any:
    """JSON has lists where the config dataclasses have tuples."""
    return tuple(value) if isinstance(value, list) else value


def network_spec(name: str) -> NetworkSpec:
    """Look a network up.

    Raises:
        UnknownNameError: no network of that name; the message lists the known ones.
    """
    if name not in NETWORKS:
        raise UnknownNameError("network", name, list(NETWORKS))
    return NETWORKS[name]


def build_network(name: str, options: dict[str, Any] | None = None) -> nn.Module:
    """Build network ``name`` with random weights; ``options`` are fields of its config dataclass.

    Raises:
        UnknownNameError: no network of that name.
        DualpixError: the options do not fit the network.
    """
    spec = network_spec(name)
    try:
        return spec.build(options or {})
    except (TypeError, ValueError, AttributeError) as error:
        raise DualpixError(
            f"options of network '{name}' do not fit: {error}", expected="fields of its configuration"
        ) from error
