"""JSON in and out: bounded, finite, and one line for whatever is none."""

from __future__ import annotations

import errno
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from dualpix.capture.command.terminal import echo_json, reason_not_written
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import json_ready, parse_json, read_json


class MineError(DualpixError):
    pass


def refused(data: bytes | str, message: str) -> None:
    with pytest.raises(MineError, match=message) as caught:
        parse_json(data, "the plan 'a.json'", "a plan", MineError)
    text = str(caught.value)
    assert text.startswith("the plan 'a.json' is no JSON (") and text.endswith("expected a plan")
    assert "\n" not in text and len(text) < 300


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe\x00", "no JSON"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"index": 1e999}', "1e999 is no number of JSON"),
        (b'{"index": -1e999}', "-1e999 is no number"),
        (b"[" + b"9" * 400 + b"]", "a number of 400 digits"),
        (b"9" * 100_000, "a number of 100000 digits"),
        (b"[" * 70 + b"]" * 70, "nested too deeply"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json(data: bytes, message: str) -> None:
    refused(data, message)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_what_is_json(mark: bytes) -> None:
    value = {"a": [1, -2.5, 1e308, True, None, "é\n"], "b": {"c": [[[]]]}, "big": 2**64}
    assert parse_json(mark + json.dumps(value, ensure_ascii=False).encode(), "it", "anything") == value


def test_files_are_bounded_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read_json(path, 8, expected="a plan") == {"a": 1}
    with pytest.raises(MineError, match=r"'.*a\.json' does not read: .* has over 0 MiB; expected a plan"):
        read_json(path, 7, expected="a plan", error=MineError)
    with pytest.raises(MineError, match=r"'.*gone\.json' is lost: cannot read it: No such file"):
        read_json(tmp_path / "gone.json", 8, expected="a plan", error=MineError, otherwise="is lost")


def test_what_json_cannot_hold_becomes_null() -> None:
    value: Any = {"a": [math.nan, math.inf, -math.inf, 1.0], "b": (1, {"c": math.nan}), "d": "NaN"}
    ready = json_ready(value)
    assert ready == {"a": [None, None, None, 1.0], "b": [1, {"c": None}], "d": "NaN"}
    json.dumps(ready, allow_nan=False)
    assert json_ready(value, infinity="inf")["a"] == [None, "inf", None, 1.0]


def test_standard_output_is_json_on_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its encoding: what it lacks is escaped; so is what is left of a file name that is no UTF-8."""
    value = {"error": math.inf, "name": "Küche 台所", "raw": "\udcff"}
    for encoding in ("utf-8", "latin-1", "ascii"):
        buffer = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding))
        echo_json(value)
        sys.stdout.flush()
        assert json.loads(buffer.getvalue().decode(encoding)) == {**value, "error": None}
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="utf-8"))
    echo_json({"name": "台所"})
    sys.stdout.flush()
    assert "台所" in buffer.getvalue().decode()


def test_other_failures_are_no_full_disk() -> None:
    assert reason_not_written(OSError(errno.EPERM, "no")) is None
    assert reason_not_written(OSError("without a number")) is None
