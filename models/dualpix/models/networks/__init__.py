"""The networks, by name. A new one is a module with a config dataclass and one entry in ``NETWORKS``.

torch is imported when a network is built: names and sizes are looked up by commands before that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.models.named import is_named
from dualpix.models.networks.members import ENSEMBLE, Member, members_of
from dualpix.models.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dualpix.models.networks.spec import Loss
    from dualpix.models.tasks import Batch

__all__ = ["MOST_PARAMETERS", "NETWORKS", "NetworkSpec", "build_network", "network_spec"]


BRANCHES = "branches"
"""Option of networks of two branches: ``both``, or one that is trained alone."""
DUAL_PIXEL_BRANCH, IMAGE_BRANCH = "dual_pixel", "image"
"""Their encoders, as attributes of the module."""
_AFFINE = "inverse_depth_affine"


def _difusenet(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks import difusenet, difusenet_branches

    plain, branch = _without_branch(options)
    config = difusenet.DiFuseNetConfig(**plain)
    if branch == DUAL_PIXEL_BRANCH:
        return difusenet_branches.DualPixelBranch(config)
    return difusenet_branches.ImageBranch(config) if branch == IMAGE_BRANCH else difusenet.DiFuseNet(config)


def _difusenet_paper(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks import difusenet_paper

    plain, branch = _without_branch(options)
    config = difusenet_paper.DiFuseNetPaperConfig(**plain)
    if branch == DUAL_PIXEL_BRANCH:
        return difusenet_paper.DualPixelBranch(config)
    return difusenet_paper.ImageBranch(config) if branch == IMAGE_BRANCH else difusenet_paper.DiFuseNetPaper(config)


def _without_branch(options: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Fields of the configuration, and the branch."""
    plain = {k: _tuples(v) for k, v in options.items()}
    branch = plain.pop(BRANCHES, "both")
    if branch not in ("both", DUAL_PIXEL_BRANCH, IMAGE_BRANCH):
        raise ValueError(f"{BRANCHES} is {branch!r:.40}, expected both, {DUAL_PIXEL_BRANCH} or {IMAGE_BRANCH}")
    return plain, branch


def _branch_or_head(spec: NetworkSpec, options: Mapping[str, Any]) -> NetworkSpec:
    """The image branch has no focus plane, so never a sign; the others give what their head does."""
    branch = options.get(BRANCHES)
    if branch == IMAGE_BRANCH:
        return replace(spec, inputs=(("image", 3),), output=_AFFINE, task="monocular", parts=(IMAGE_BRANCH,))
    if branch == DUAL_PIXEL_BRANCH:
        spec = replace(spec, inputs=(("left", 1), ("right", 1)), parts=(DUAL_PIXEL_BRANCH,))
    if options.get("head") == _AFFINE:
        spec = replace(spec, output=_AFFINE, task="dual_pixel_affine")
    return spec


def _fmdp(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks.fmdp import FMDP, FMDPConfig

    return FMDP(FMDPConfig(**{k: _tuples(v) for k, v in options.items()}))


def _dplive(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks.dplive import DPLive, DPLiveConfig

    return DPLive(DPLiveConfig(**{k: _tuples(v) for k, v in options.items()}))


def _dddnet(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks.dddnet import DDDNet, DDDNetConfig

    return DDDNet(DDDNetConfig(**{k: _tuples(v) for k, v in options.items()}))


def _dddnet_loss(options: Mapping[str, Any]) -> Loss:
    from dualpix.models.networks.dddnet import loss_of_options

    return loss_of_options(options)


def _dddnet_paper(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks.dddnet_paper import DDDNetPaper, DDDNetPaperConfig

    return DDDNetPaper(DDDNetPaperConfig(**options))


def _dddnet_paper_loss(options: Mapping[str, Any]) -> Loss:
    from dualpix.models.networks.dddnet_paper import loss_of_options

    return loss_of_options(options)


def _fossa(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks.fossa import FOSSA, FOSSAConfig

    return FOSSA(FOSSAConfig(**{k: _tuples(v) for k, v in options.items()}))


def _fossa_loss(predictions: Sequence[Any], batch: Batch) -> Tensor:
    from dualpix.models.networks.fossa import loss

    return loss(predictions, batch)


def _fossa_paper(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks.fossa_paper import FOSSAPaper, FOSSAPaperConfig

    return FOSSAPaper(FOSSAPaperConfig(**options))


def _fossa_paper_loss(options: Mapping[str, Any]) -> Loss:
    from dualpix.models.networks.fossa_paper import loss_of_options

    return loss_of_options(options)


def _dfdnet_paper(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks.dfdnet_paper import DfDNetPaper, DfDNetPaperConfig

    return DfDNetPaper(DfDNetPaperConfig(**options))


def _dfdnet_paper_loss(options: Mapping[str, Any]) -> Loss:
    from dualpix.models.networks.dfdnet_paper import loss_of_options

    return loss_of_options(options)


def _any_size_or_patches(spec: NetworkSpec, options: Mapping[str, Any]) -> NetworkSpec:
    """Without the resize inside, frames must be whole patches."""
    return replace(spec, size_multiple=14) if options.get("short_side_px", 0) is None else spec


def _fmdp_paper(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks.fmdp_paper import FMDPPaper, FMDPPaperConfig

    return FMDPPaper(FMDPPaperConfig(**options))


def _fmdp_paper_loss(predictions: Sequence[Any], batch: Batch) -> Tensor:
    from dualpix.models.networks.fmdp_paper import sequence_loss

    return sequence_loss(predictions, batch)


def _ensemble(options: dict[str, Any]) -> nn.Module:
    from dualpix.models.networks.ensemble import Ensemble

    members = members_of(options)
    specs = [_member_spec(member) for member in members]
    networks = [spec.build(dict(member.options)) for spec, member in zip(specs, members, strict=True)]
    order = [name for name, _ in _INPUTS]
    takes = [tuple(order.index(name) for name in spec.input_names) for spec in specs]
    return Ensemble(networks, takes, sure=all(_CONFIDENCE in spec.further_outputs[:1] for spec in specs))


def _member_spec(member: Member) -> NetworkSpec:
    """Of this package alone: a card must not run code that nobody named."""
    spec = NETWORKS.get(member.network)
    if spec is None or member.network == ENSEMBLE:
        raise ValueError(f"member {member.network!r:.60}, expected one of the other networks of dualpix")
    spec = spec.with_options(member.options)
    if spec.output != "disparity_px" or not set(spec.inputs) <= set(_INPUTS):
        raise ValueError(f"member {member.network!r:.60} gives {spec.output}, expected disparity_px of pairs")
    return spec


def _of_members(spec: NetworkSpec, options: Mapping[str, Any]) -> NetworkSpec:
    """What all members give, at sizes that all take; options that are none are refused when it is built."""
    try:
        specs = [_member_spec(member) for member in members_of(options)]
    except ValueError:
        return spec
    sure = all(_CONFIDENCE in member.further_outputs[:1] for member in specs)
    multiple = math.lcm(*(member.size_multiple for member in specs))
    return replace(spec, further_outputs=(_CONFIDENCE,) if sure else (), size_multiple=multiple)


_CONFIDENCE = "confidence"
_INPUTS = (("image", 3), ("left", 1), ("right", 1))
_STACK_INPUTS = (("frames", 3), ("focus_diopters", 1), ("width_per_focal", 1))
_MATCHED_INPUTS = (*_STACK_INPUTS, ("blur_px_per_diopter", 1))
NETWORKS: dict[str, NetworkSpec] = {
    "difusenet": NetworkSpec(
        build=_difusenet,
        inputs=_INPUTS,
        output="disparity_px",
        size_multiple=32,
        paper="DiFuse-Net, arXiv 2506.14709",
        parts=(DUAL_PIXEL_BRANCH, IMAGE_BRANCH),
        of_options=_branch_or_head,
    ),
    "difusenet-paper": NetworkSpec(
        build=_difusenet_paper,
        inputs=_INPUTS,
        output="disparity_px",
        size_multiple=32,
        paper="DiFuse-Net, arXiv 2506.14709",
        parts=(DUAL_PIXEL_BRANCH, IMAGE_BRANCH),
        of_options=_branch_or_head,
    ),
    "fmdp": NetworkSpec(
        build=_fmdp,
        inputs=_INPUTS,
        output="disparity_px",
        size_multiple=32,
        paper="FMDP, MVA 2025",
        further_outputs=("confidence",),
    ),
    "dplive": NetworkSpec(
        build=_dplive,
        inputs=_INPUTS,
        output="disparity_px",
        size_multiple=32,
        paper="this project",
        further_outputs=("confidence",),
    ),
    ENSEMBLE: NetworkSpec(
        build=_ensemble,
        inputs=_INPUTS,
        output="disparity_px",
        size_multiple=32,
        paper="Lakshminarayanan et al., NeurIPS 2017",
        of_options=_of_members,
    ),
    "dddnet": NetworkSpec(
        build=_dddnet,
        inputs=_INPUTS,
        output="disparity_px",
        size_multiple=32,
        paper="DDDNet, arXiv 2012.00301",
        loss_of_options=_dddnet_loss,
        further_outputs=("sharp",),
        wanted=("sharp", "disparity_gain"),
    ),
    "dddnet-paper": NetworkSpec(
        build=_dddnet_paper,
        inputs=_INPUTS,
        output="disparity_px",
        size_multiple=8,
        paper="DDDNet, arXiv 2012.00301",
        loss_of_options=_dddnet_paper_loss,
        further_outputs=("sharp",),
        wanted=("sharp", "disparity_gain"),
    ),
    "fmdp-paper": NetworkSpec(
        build=_fmdp_paper,
        inputs=_INPUTS,
        output="disparity_px",
        size_multiple=16,
        paper="FMDP, Lee et al., MVA 2025",
        loss=_fmdp_paper_loss,
    ),
    "fossa": NetworkSpec(
        build=_fossa,
        inputs=_MATCHED_INPUTS,
        output="depth_m",
        size_multiple=32,
        paper="FOSSA, arXiv 2603.26658",
        task="focus_stack",
        loss=_fossa_loss,
        further_outputs=("confidence",),
        working_long_side_px=384,
    ),
    "fossa-paper": NetworkSpec(
        build=_fossa_paper,
        inputs=_STACK_INPUTS,
        output="depth_m",
        size_multiple=1,
        paper="FOSSA, arXiv 2603.26658",
        task="focus_stack",
        loss_of_options=_fossa_paper_loss,
        of_options=_any_size_or_patches,
    ),
    "dfdnet-paper": NetworkSpec(
        build=_dfdnet_paper,
        inputs=_STACK_INPUTS,
        output="depth_m",
        size_multiple=1,
        paper="DfDNet, Princeton independent work, 2025",
        task="focus_stack",
        loss_of_options=_dfdnet_paper_loss,
        of_options=_any_size_or_patches,
    ),
}


MOST_PARAMETERS = 1 << 29
"""Of a network that options may ask for: 2 GiB in float32, half as much again as the largest published one here."""


def _tuples(value: Any) -> Any:
    """JSON has lists where the config dataclasses have tuples."""
    return tuple(value) if isinstance(value, list) else value


def network_spec(name: str, options: object = None) -> NetworkSpec:
    """Look a network up; ``package.module:factory`` is imported and run: see :mod:`.users`.

    Args:
        name: of ``NETWORKS``, or a function of the user's.
        options: with which it is built; they may change what it takes and gives.

    Raises:
        UnknownNameError: no network of that name; the message lists the known ones.
        DualpixError: a function of the user's that gives no network.
    """
    if name not in NETWORKS and is_named(name):
        from dualpix.models.networks.users import users_spec

        return users_spec(name)
    if name not in NETWORKS:
        raise UnknownNameError("network", name, list(NETWORKS))
    return NETWORKS[name].with_options(options)


def build_network(name: str, options: dict[str, Any] | None = None) -> nn.Module:
    """Build network ``name`` with random weights; ``options`` are fields of its config dataclass.

    Raises:
        UnknownNameError: no network of that name.
        DualpixError: the options do not fit the network, or ask for one that is too large.
    """
    spec = network_spec(name)
    if options or name == ENSEMBLE:  # which is nothing without its members
        _check_options(name, spec, options or {})
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
