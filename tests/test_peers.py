"""The comparison with other tools: the page comes from the record, and the record from runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from docs import peers
from docs.peers import AGAIN, EXACT, NO, PAGE, RECORD, TOOLS, Attempt, Tool, fitted_black, judged, make_inputs

IN_THE_ENVIRONMENT = [tool for tool in TOOLS if tool.name.startswith(("dualpix", "rawpy"))]


def test_the_page_comes_from_the_record() -> None:
    assert PAGE.read_text() == peers.page(peers.read_record()), "run: python -m docs.peers --page"


def test_the_record_names_its_runs() -> None:
    rows = peers.read_record()
    assert {peer.tool for peer in rows} == {t.name for t in TOOLS} | {p.tool for p in peers.DESCRIBED}
    assert all(peer.version and len(peer.attempts) == 6 for peer in rows if peer.date)
    assert all(peer.traits.source for peer in rows if not peer.date)
    stored = json.loads(RECORD.read_text())
    assert stored["format"] == peers.FORMAT and stored["commit"] and stored["machine"]


@pytest.mark.parametrize("tool", IN_THE_ENVIRONMENT, ids=lambda t: t.name)
def test_what_is_installed_still_does_what_is_recorded(tool: Tool, tmp_path: Path) -> None:
    """If a new rawpy selects frames, or our decoder stops being exact, the page is out of date."""
    (recorded,) = (peer for peer in peers.read_record() if peer.tool == tool.name)
    chosen = ("CR2", "PGM pair") if tool.name == "dualpix" else tuple(recorded.attempts)
    for item in make_inputs(tmp_path):
        if item.name in chosen:
            found, expected = tool.attempt(item, tmp_path), recorded.attempts[item.name]
            assert (found.frame0, found.frame1) == (expected.frame0, expected.frame1), item.name
            assert found.black1 == pytest.approx(expected.black1, abs=0.2), item.name


def test_our_own_row() -> None:
    (ours,) = (peer for peer in peers.read_record() if peer.tool == "dualpix")
    assert all((a.frame0, a.frame1) == (EXACT, EXACT) for a in ours.attempts.values())
    exact = [name for name, attempt in ours.attempts.items() if attempt.note == "derived half exact"]
    assert exact == list(peers.CANON)


def test_an_absent_tool_keeps_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    before = peers.read_record()
    monkeypatch.setattr(peers, "TOOLS", tuple(replace(tool, version=lambda: None) for tool in TOOLS))
    assert peers.measure(before) == before
    assert peers.measure([]) == list(peers.DESCRIBED)


def test_verdicts(tmp_path: Path) -> None:
    item = make_inputs(tmp_path)[0]
    assert judged(item.frames[0], item, 0) == EXACT and judged(item.frames[1], item, 1) == EXACT
    assert judged(item.frames[0], item, 1) == AGAIN and judged(None, item, 1) == NO
    assert judged(item.frames[1] + 1, item, 1) == "other samples"
    assert peers._frames(None) == "?" and peers._frames(Attempt()) == NO


def test_the_level_a_tool_subtracted() -> None:
    samples = np.random.default_rng(0).integers(500, 9000, (64, 96)).astype(np.uint16)
    for gain in (1.0, 4.1):
        picture = np.clip(np.round((samples - 503.0) * gain), 0, 65535).astype(np.uint16)
        assert fitted_black(picture, samples) == pytest.approx(503, abs=0.1)
    assert fitted_black(samples[::-1], samples) is None
