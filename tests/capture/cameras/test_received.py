"""Files of a release: all of them, or none."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dualpix.capture.cameras.received import all_or_none, utc_now


def test_all_stay_where_nothing_fails(tmp_path: Path) -> None:
    with all_or_none() as written:
        for name in ("f.dng", "f.jpg"):
            (tmp_path / name).write_bytes(b"x")
            written.append(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"f.dng", "f.jpg"}


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_none_stays_where_one_fails_and_what_was_there_does(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "earlier.dng").write_bytes(b"x")
    with pytest.raises(type(error)), all_or_none() as written:
        (tmp_path / "f.dng").write_bytes(b"x")
        written.append(tmp_path / "f.dng")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["earlier.dng"]


def test_times_are_utc_to_the_millisecond() -> None:
    said = datetime.fromisoformat(utc_now())
    assert said.utcoffset() == timedelta(0) and said.microsecond % 1000 == 0
