"""JUnit for the app's core, each test of it as a line of this run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.android_demo.conftest import DEMO, Classes

GOLDEN = Path(__file__).parents[1] / "golden" / "android"
NAMES = sorted(path.stem for path in (DEMO / "core/src/test").rglob("*Test.java"))
FAULTS = {
    "aLensThatNeverComesToRestIsSentAgainAndThenGivenUp",
    "aLensAtTheWrongDistanceIsFoundBeforeTheTimeIsOver",
    "imagesThatNeverComeAreGivenUp",
    "anImageOfAnotherTimeIsNotTaken",
    "aCameraThatIsClosedIsReportedAtOnceWhereverItHappens",
}
Results = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def results(junit: Classes) -> Results:
    """Class -> test -> "ok", or the trace."""
    command = junit.java(f"-Ddualpix.golden={GOLDEN}", "org.dualpix.demo.core.RunTests", *NAMES, tests=True)
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    out: Results = {}
    for line in run.stdout.splitlines():
        if line.count("\t") == 2:
            name, test, said = line.split("\t")
            out.setdefault(name, {})[test] = json.loads(said)
    assert out, run.stderr
    assert (run.returncode == 0) == all(said == "ok" for tests in out.values() for said in tests.values()), run.stderr
    return out


@pytest.mark.parametrize("name", NAMES)
def test_junit(results: Results, name: str) -> None:
    bad = {test: said for test, said in results[name].items() if said != "ok"}
    assert results[name] and not bad, "\n".join(f"{test}: {said}" for test, said in bad.items())


def test_every_fault_of_the_sweep_has_a_test_that_ran(results: Results) -> None:
    assert set(results["SweepTest"]) >= FAULTS
