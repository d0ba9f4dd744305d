"""The table of what networks for stacks cost: counts are the published ones, and what was not measured says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.record import read_result
from benchmarks.stack_costs import (
    COMPACT,
    NETWORKS,
    PUBLISHED,
    RESULT,
    Case,
    Measured,
    asked_apart,
    cases,
    costs,
    counted,
    measure,
    row_of,
)

SMALL = Case(COMPACT, 2, (64, 90))


def test_counts_are_the_published_ones() -> None:
    """370.4 GMAC by the paper, of which 43.9 are what frames are focused at, computed anew for each patch."""
    case = Case("fossa-paper", 5, (518, 700))
    gmac, parameters = counted(case)
    assert gmac + 8 * 1850 * 5 * (4 * 384 + 4 * 384 * 384) / 1e9 == pytest.approx(370.4, rel=0.005)
    assert parameters == pytest.approx(42.539721) and case.label == "fossa-paper, 5 frames of 518x700"


def test_every_network_sees_a_size_that_it_takes() -> None:
    assert {name: Case(name, 2, (96, 130)).seen_hw for name in NETWORKS} == {
        "fossa": (96, 160), "fossa-paper": (98, 140), "dfdnet-paper": (98, 140)
    }  # fmt: skip
    chosen = list(cases([COMPACT, "fossa-paper"], [2, 5], [(64, 96), (128, 160)]))
    assert chosen[:3] == [Case(COMPACT, 2, (64, 96)), Case("fossa-paper", 2, (64, 96)), Case(COMPACT, 5, (64, 96))]
    assert len(chosen) == 8


def test_work_grows_with_frames_and_weights_do_not() -> None:
    (two, weights), (nine, same) = counted(SMALL), counted(Case(COMPACT, 9, (64, 90)))
    assert 2.5 < nine / two < 4.5 and weights == same


def test_what_is_not_measured_says_why(tmp_path: Path) -> None:
    done = asked_apart(SMALL, tmp_path, 1, 0.2, programs=False)
    assert done == "not timed: over 0.2 s"
    row = row_of(SMALL, (1.5, 3.25), done)
    assert row.label == "fossa, 2 frames of 64x96: not timed: over 0.2 s" and set(row.figures) == {"work", "parameters"}
    broken = asked_apart(Case("fossa", 2, (-64, 96)), tmp_path, 1, 600, programs=False)
    assert isinstance(broken, str) and broken.startswith("not timed: ") and "\n" not in broken
    full = row_of(SMALL, (1.5, 3.25), Measured([2.0, 3.0, 4.0], [], 120.0))
    assert full.figures["eager"].value == 3 and full.figures["memory"].value == 120 and "program" not in full.figures


def test_the_table_has_a_line_for_each_case_and_the_published_one(tmp_path: Path) -> None:
    result = costs([SMALL], tmp_path, 1, 60, 0.0, programs=False)
    assert [row.label for row in result.rows] == [
        "fossa, 2 frames of 64x96: counted alone, over 0 GMAC",
        PUBLISHED.label,
    ]
    assert PUBLISHED.figures["work"].value == 80
    assert {row.label.partition(",")[0] for row in read_result(RESULT).rows} == {*NETWORKS, "DFF-DFV"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_time_and_memory_of_the_compact_form(tmp_path: Path) -> None:
    found = asked_apart(SMALL, tmp_path, 3, 3000, programs=False)
    assert isinstance(found, Measured), found
    assert found.program == pytest.approx([1, 1, 1]) and len(found.eager) == 3 and min(found.eager) > 0.2
    assert found.memory_mb is None or found.memory_mb > 4 * 3.25  # its weights alone
    assert [path.suffix for path in tmp_path.iterdir()] == [".pte"]
    again = measure(SMALL, tmp_path, 1, programs=True)
    assert again.program == [1.0]
