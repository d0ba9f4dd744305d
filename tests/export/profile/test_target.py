from __future__ import annotations

from pathlib import Path

import pytest

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.export.profile.apple import profile_on_apple
from dualpix.export.profile.host import profile_on_host
from dualpix.export.profile.target import PROFILERS, files_at, find_profiler


def test_places_lead_to_their_profilers() -> None:
    assert find_profiler("host") == (profile_on_host, "")
    assert find_profiler("apple") == (profile_on_apple, "")


@pytest.mark.parametrize("place", ["host:1", "apple:x", "adb", "adb:", "host:"])
def test_addresses_are_asked_for_where_they_belong(place: str) -> None:
    with pytest.raises(DualpixError, match=f"target '{place}'; expected"):
        find_profiler(place)


def test_an_unknown_place_names_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"adb:SERIAL, apple, host"):
        find_profiler("toaster")


def test_a_place_whose_package_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILERS, "adb", "dualpix.export.nothing_here:run")
    with pytest.raises(DualpixError, match="target 'adb' is not part of this installation"):
        find_profiler("adb:123")


def test_an_asset_of_core_ai_has_its_ratios_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "net.aimodel").mkdir()
    with pytest.raises(DualpixError, match=r"'net\.aimodel' is a Core AI asset, .*expected a \.pte file; .*gate\.json"):
        files_at(tmp_path / "net.aimodel", ".pte")
