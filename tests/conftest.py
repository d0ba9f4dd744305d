"""Shared fixtures. Real camera data lie outside the repository; tests that need them skip, naming what is missing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, so a change is refused for what it did and not for a draw; `make test-all` draws anew.
# No deadlines: how long an example takes says how busy the machine is.
settings.register_profile("fixed", derandomize=True, print_blob=True, deadline=None)
settings.register_profile("explore", print_blob=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

DATA_ROOT = Path(os.environ.get("DUALPIX_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_configure() -> None:
    """Tests press Ctrl-C; what a shell runs in the background ignores it, and so would every process started here."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """``shared_data("pixel4_xin2021")``: that folder of the real test data, or a skip with the reason."""

    def find(relative: str) -> Path:
        path = DATA_ROOT / relative
        if not path.exists():
            pytest.skip(f"real data '{relative}' not found under {DATA_ROOT} (set DUALPIX_TEST_DATA)")
        return path

    return find
