"""The journal: nothing is lost that was written, nothing counts that was not."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.errors import OutputError
from dualpix.capture.stack.keep.record import JOURNAL, RecordError
from dualpix.capture.stack.take.journal import Journal, digest_of, header_of, read_events


def _write(folder: Path, *events: str) -> None:
    with Journal(folder) as journal:
        for event in events:
            journal.append(event, index=1)


def test_events_come_back_in_order(tmp_path: Path) -> None:
    _write(tmp_path, "header", "intent")
    _write(tmp_path, "shot")
    events = read_events(tmp_path)
    assert [event["event"] for event in events] == ["header", "intent", "shot"]
    assert all(event["at"].endswith("Z") for event in events)
    assert read_events(tmp_path / "none") == []


def test_a_frame_is_synced_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append((tmp_path / JOURNAL).read_bytes()))
    with Journal(tmp_path) as journal:
        for event in ("header", "intent", "shot", "frame", "rejected", "doubted", "retry", "stopped"):
            journal.append(event)
            there = (tmp_path / JOURNAL).read_bytes()
            assert json.loads(there.splitlines()[-1])["event"] == event  # a kill loses nothing
            assert (synced[-1] == there) == (event not in ("intent", "shot"))  # nor, from the frame on, does the power


def test_a_torn_last_line_never_happened(tmp_path: Path) -> None:
    _write(tmp_path, "header", "intent", "shot")
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    second_end = len(b"".join(whole.splitlines(keepends=True)[:2]))
    for length in range(second_end, len(whole)):
        path.write_bytes(whole[:length])
        assert [event["event"] for event in read_events(tmp_path)] == ["header", "intent"]
    _write(tmp_path, "frame")
    assert [event["event"] for event in read_events(tmp_path)] == ["header", "intent", "frame"]


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 10_000))
def test_a_journal_cut_anywhere_can_be_gone_on_with(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    _write(folder, "header", "intent", "shot", "frame")
    path = folder / JOURNAL
    whole = path.read_bytes()
    cut %= len(whole) + 1
    path.write_bytes(whole[:cut])
    with Journal(folder) as journal:
        before = len(journal.events)
        assert before == whole[:cut].count(b"\n")
        journal.append("more")
    assert len(read_events(folder)) == before + 1


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "header")
    real = os.write

    def half(handle: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, data[: len(data) // 2])

    with Journal(tmp_path) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            with pytest.raises(OutputError, match="No space left"):
                journal.append("shot", index=1)
        assert [event["event"] for event in read_events(tmp_path)] == ["header"]
        journal.append("stopped")
    assert [event["event"] for event in read_events(tmp_path)] == ["header", "stopped"]


def test_only_one_process_writes(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(OutputError, match="another capture is writing"):
        Journal(tmp_path)
    _write(tmp_path, "header")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"event": "header"}\nnot json\n{"event": "shot"}\n', "line 2 of .*: it is no JSON"),
        (b"[]\n", "line 1 of .* is no event"),
        (b'{"event": 3}\n', "is no event"),
        (b'{"event": "header", "x": NaN}\n', "NaN"),
    ],
)
def test_a_damaged_line_in_the_middle_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / JOURNAL).write_bytes(content)
    with pytest.raises(RecordError, match=message):
        read_events(tmp_path)
    with pytest.raises(RecordError, match=message):
        Journal(tmp_path)


def test_a_journal_without_a_header_is_told(tmp_path: Path) -> None:
    _write(tmp_path, "shot")
    with pytest.raises(RecordError, match="does not begin with a header"):
        header_of(read_events(tmp_path), tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        Journal(tmp_path / "missing")


def test_numbers_that_json_lacks_are_not_written(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        with pytest.raises(ValueError, match="not JSON compliant"):
            journal.append("shot", value=float("nan"))
        journal.append("shot", value=float("inf"))
    assert [event["value"] for event in read_events(tmp_path)] == ["inf"]


def test_a_digest_is_of_the_content(tmp_path: Path) -> None:
    assert digest_of({"a": 1, "b": (1, 2)}) == digest_of({"b": [1, 2], "a": 1}) != digest_of({"a": 1, "b": [2, 1]})
