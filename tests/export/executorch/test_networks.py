"""Every precision on networks that are not ours and on the shipped one: minutes each, run on demand (``-m slow``)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.foreign import foreign_modules, foreign_samples
from tests.support.tiny_net import sqnr_db
from torch import nn

from dualpix.export.artefact import Artefact, BuildRequest
from dualpix.export.executorch import coreml_delegate, vulkan, xnnpack
from dualpix.models.networks import build_network, network_spec
from dualpix.models.zoo import load_model
from dualpix.quantize.calibration import CalibrationSet, Inputs, rendered_calibration
from dualpix.quantize.keep import keep_modules

pytestmark = pytest.mark.slow

_LEAST_DB = {"fp32": 80.0, "fp16": 30.0, "int8": 12.0, "int8-dynamic": 12.0, "4w8da": 3.0}
_NO_LINEARS = {("raft-like", "4w8da"), ("mobilenet-depth", "4w8da")}


def _request(module: nn.Module, precision: str, path: Path, samples: list[Inputs]) -> BuildRequest:
    names = tuple(f"x{i}" for i in range(len(samples[0])))
    return BuildRequest(module, precision, path, samples[0], names, ("y",), CalibrationSet(tuple(samples), "test"))


def _report(name: str, precision: str, artefact: Artefact, found_db: float) -> None:
    delegation = artefact.delegation
    assert delegation
    print(
        f"\n{name:16} {precision:13} {artefact.size_bytes / 1e6:6.2f} MB {found_db:6.1f} dB, "
        f"{delegation.compute_share:.1%} of MACs delegated, left: {dict(delegation.left_operators)}"
    )


@pytest.mark.parametrize("precision", list(_LEAST_DB))
@pytest.mark.parametrize("name", ["mobilenet-depth", "vit-s14", "raft-like"])
def test_foreign_networks(tmp_path: Path, name: str, precision: str) -> None:
    if (name, precision) in _NO_LINEARS:
        pytest.skip("no linear layer to quantise")
    module, _ = foreign_modules()[name]()
    samples = foreign_samples(name, 4, 1)
    artefact = xnnpack.build(_request(module, precision, tmp_path / "a.pte", samples))
    held_back = foreign_samples(name, 1, 2)[0]
    assert artefact.predict and artefact.delegation
    with torch.no_grad():
        found_db = sqnr_db(module(*held_back), artefact.predict(held_back))
    _report(name, precision, artefact, found_db)
    assert found_db > _LEAST_DB[precision]
    assert artefact.delegation.compute_share >= 0.97, artefact.delegation.left_operators


@pytest.mark.parametrize("name", ["mobilenet-depth", "vit-s14", "raft-like"])
def test_foreign_networks_for_other_backends(tmp_path: Path, name: str) -> None:
    module, inputs = foreign_modules()[name]()
    for backend in (vulkan, coreml_delegate):
        artefact = backend.build(_request(module, "fp16", tmp_path / f"{backend.BACKEND}.pte", [inputs]))
        _report(name, backend.BACKEND, artefact, artefact.details.get("agreement_db", float("nan")))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_shipped_network(tmp_path: Path, precision: str) -> None:
    model = load_model("difusenet-compact")
    samples = rendered_calibration(4, (192, 256)).samples
    names = tuple(name for name, _ in model.spec.inputs)
    keep = keep_modules(*model.card.get("keep_float", ()))
    request = BuildRequest(
        model.module, precision, tmp_path / "a.pte", samples[0], names, ("d",), CalibrationSet(samples, ""), keep
    )
    artefact = xnnpack.build(request)
    assert artefact.delegation and artefact.predict
    with torch.no_grad():
        found_db = sqnr_db(model.module(*samples[1]), artefact.predict(samples[1]))
    _report(model.name, precision, artefact, found_db)
    assert artefact.delegation.compute_share == 1.0 and not artefact.delegation.left_operators
    assert found_db > (80 if precision == "fp32" else 15)


@pytest.mark.parametrize("head", ["disparity_px", "inverse_depth_affine"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_difusenet_at_the_papers_size(tmp_path: Path, precision: str, head: str) -> None:
    """At random weights, with the statistics of batch norm that pictures have."""
    spec = network_spec("difusenet-paper", {"head": head})
    samples = rendered_calibration(4, (128, 192), spec).samples
    torch.manual_seed(0)
    network = build_network("difusenet-paper", {"head": head}).train()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # the mean of what it sees
    with torch.no_grad():
        network(*(torch.cat(views) for views in zip(*samples, strict=True)))
    network.eval()
    calibration = CalibrationSet(samples[:3], "")
    request = BuildRequest(network, precision, tmp_path / "a.pte", samples[0], spec.input_names, ("d",), calibration)
    artefact = xnnpack.build(request)
    assert artefact.delegation and artefact.predict
    with torch.no_grad():
        found_db = sqnr_db(network(*samples[3]), artefact.predict(samples[3]))
    _report(f"paper {head}", precision, artefact, found_db)
    assert artefact.delegation.compute_share == 1.0
    # a linear head at random weights gives maps about zero: 8 dB are left of them in int8, of a sigmoid's more
    int8_db = 15 if head == "inverse_depth_affine" else 6
    assert found_db > (80 if precision == "fp32" else int8_db)
