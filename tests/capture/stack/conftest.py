"""What the tests of capturing share."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are killed in these tests, not machines: waiting for the disk adds nothing but time."""
    monkeypatch.setattr("os.fsync", lambda handle: None)
