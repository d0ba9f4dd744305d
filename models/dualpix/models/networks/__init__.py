"""The networks, by name. A new one is a module with a config dataclass and one entry in ``NETWORKS``.

torch is imported when a network is built: names and sizes are looked up by commands before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.models.named import is_named
from dualpix.models.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dualpix.models.tasks import Batch

__all__ = ["MOST_PARAMETERS", "NETWORKS", "NetworkSpec", "build_network", "network_spec"]


def _difusenet(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks.difusenet import DiFuseNet, DiFuseNetConfig

    return DiFuseNet(DiFuseNetConfig(**{k: _tuples(v) for k, v in options.items()}))


def _fmdp_paper(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks.fmdp_paper import FMDPPaper, FMDPPaperConfig

    return FMDPPaper(FMDPPaperConfig(**options))


def _fmdp_paper_loss(predictions: Sequence[Any], batch: Batch) -> Tensor:
    from dualpix.models.networks.fmdp_paper import sequence_loss

    return sequence_loss(predictions, batch)


NETWORKS: dict[str, NetworkSpec] = {
    "difusenet": NetworkSpec(
        build=_difusenet,
        inputs=(("image", 3), ("left", 1), ("right", 1)),
        output="disparity_px",
        size_multiple=32,
        paper="DiFuse-Net, arXiv 2506.14709",
    ),
    "fmdp-paper": NetworkSpec(
        build=_fmdp_paper,
        inputs=(("image", 3), ("left", 1), ("right", 1)),
        output="disparity_px",
        size_multiple=16,
        paper="FMDP, Lee et al., MVA 2025",
        loss=_fmdp_paper_loss,
    ),
}


MOST_PARAMETERS = 1 << 29
"""Of a network that options may ask for: 2 GiB in float32, half as much again as the largest published one here."""


def _tuples(value: Any) -> Any:
    """JSON has lists where the config dataclasses have tuples."""
    return tuple(value) if isinstance(value, list) else value


def network_spec(name: str) -> NetworkSpec:
    """Look a network up; ``package.module:factory`` is imported and run: see :mod:`.users`.

    Raises:
        UnknownNameError: no network of that name; the message lists the known ones.
        DualpixError: a function of the user's that gives no network.
    """
    if name not in NETWORKS and is_named(name):
        from dualpix.models.networks.users import users_spec

        return users_spec(name)
    if name not in NETWORKS:
        raise UnknownNameError("network", name, list(NETWORKS))
    return NETWORKS[name]


def build_network(name: str, options: dict[str, Any] | None = None) -> nn.Module:
    """Build network ``name`` with random weights; ``options`` are fields of its config dataclass.

    Raises:
        UnknownNameError: no network of that name.
        DualpixError: the options do not fit the network, or ask for one that is too large.
    """
    spec = network_spec(name)
    if options:
        _check_options(name, spec, options)
    return spec.build(options or {})


def _check_options(name: str, spec: NetworkSpec, options: dict[str, Any]) -> None:
    """Options may come from a file: the network is built without memory first, which takes a second of imports."""
    import torch

    try:
        with torch.device("meta"):
            size = sum(p.numel() for p in spec.build(options).parameters())
    except (TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DualpixError(
            f"options of network '{name}' do not fit: {reason}", expected="fields of its configuration"
        ) from error
    if size > MOST_PARAMETERS:
        raise DualpixError(
            f"options of network '{name}' ask for {size:,} parameters", expected=f"at most {MOST_PARAMETERS:,}"
        )
