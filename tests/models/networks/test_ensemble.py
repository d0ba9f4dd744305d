"""Several networks as one: their mean, and what a card may ask for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dualpix.capture.errors import DualpixError
from dualpix.models.networks import build_network, network_spec
from dualpix.models.networks.members import MOST_MEMBERS

LIVE: dict[str, Any] = {"network": "dplive", "options": {"channels": [8, 8, 8, 8], "blocks": [1, 1, 1]}}
PLAIN: dict[str, Any] = {"network": "difusenet", "options": {}}
HALVES: dict[str, Any] = {"network": "difusenet", "options": {"branches": "dual_pixel"}}


def _inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.rand(1, channels, 32, 64, generator=generator) - 0.5 for channels in (3, 1, 1))


@pytest.mark.parametrize(("members", "sure"), [([LIVE, LIVE, LIVE], True), ([LIVE, PLAIN, HALVES], False)])
def test_it_gives_the_mean_of_its_members(members: list[dict[str, Any]], sure: bool) -> None:
    spec = network_spec("ensemble", {"members": members})
    assert spec.outputs == (("disparity_px", "confidence") if sure else ("disparity_px",))
    network = build_network("ensemble", {"members": members}).eval()
    image, left, right = _inputs()
    with torch.no_grad():
        given = network(image, left, right)
        each = [
            one(left, right) if member is HALVES else one(image, left, right)
            for one, member in zip(network.members, members, strict=True)  # type: ignore[call-overload]
        ]
    disparity = torch.stack([one[0] if isinstance(one, tuple) else one for one in each]).mean(0)
    assert len({float(one[0].sum() if isinstance(one, tuple) else one.sum()) for one in each}) == len(members)
    assert torch.allclose(given[0] if sure else given, disparity, atol=1e-6)
    if sure:
        assert torch.allclose(given[1], torch.stack([one[1] for one in each]).mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "2 to 16"),
        ({"members": [LIVE]}, "2 to 16"),
        ({"members": [LIVE] * (MOST_MEMBERS + 1)}, "2 to 16"),
        ({"members": [LIVE, LIVE], "other": 1}, "'members' alone"),
        ({"members": [LIVE, "dplive"]}, "object of 'network' and 'options'"),
        ({"members": [LIVE, {"network": "dplive"}]}, "object of 'network' and 'options'"),
        ({"members": [LIVE, {"network": "tests.some:factory", "options": {}}]}, "other networks of dualpix"),
        ({"members": [LIVE, {"network": "ensemble", "options": {"members": [LIVE, LIVE]}}]}, "other networks"),
        ({"members": [LIVE, {"network": "fossa", "options": {}}]}, "gives depth_m"),
        ({"members": [LIVE, {"network": "dplive", "options": {"channels": "many"}}]}, "do not fit"),
    ],
)
def test_what_is_no_ensemble_is_refused(options: dict[str, Any], words: str) -> None:
    network_spec("ensemble", options)  # a card is looked at before torch is there
    with pytest.raises(DualpixError, match="options of network 'ensemble' do not fit") as refused:
        build_network("ensemble", options)
    assert words in str(refused.value)
