"""The protocol of the companion app: golden files, what is refused, and the schema agreeing with the reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.camera_protocol import CameraError
from dualpix.capture.cameras.android import protocol

GOLDEN = Path(__file__).parents[3] / "golden" / "android"
SCHEMA = json.loads(protocol.SCHEMA.read_text())
READERS: dict[str, Callable[[str | bytes], Any]] = {
    "plan": protocol.parse_plan,
    "control": protocol.parse_control,
    "line": protocol.parse_line,
    "stack": protocol.parse_stack,
}
# what a schema cannot say: that two fields belong together
BEYOND_SCHEMA = {"bad-plan-index-twice.json", "bad-line-file-of-another-frame.json", "bad-line-nan.json"}


def names(pattern: str) -> list[str]:
    return sorted(path.name for path in GOLDEN.glob(pattern))


def kind_of(name: str) -> str:
    return name.removeprefix("bad-").partition("-")[0].partition(".")[0]


@cache
def validator(kind: str) -> Any:
    part = "journal_line" if kind == "line" else kind
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{part}", "$defs": SCHEMA["$defs"]})


def schema_takes(kind: str, value: Any) -> bool:
    return bool(validator(kind).is_valid(value))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", [*names("plan*.json"), *names("control*.json"), *names("stack.json")])
def test_a_golden_file_is_read_and_written_the_same(name: str) -> None:
    value = json.loads((GOLDEN / name).read_text())
    assert schema_takes(kind_of(name), value)
    assert READERS[kind_of(name)]((GOLDEN / name).read_bytes()).to_json() == value


@pytest.mark.parametrize("name", names("journal*.jsonl"))
def test_a_golden_journal_is_read_and_written_the_same(name: str) -> None:
    for line in (GOLDEN / name).read_text().splitlines():
        assert schema_takes("line", json.loads(line)), line
        assert protocol.line_json(protocol.parse_line(line)) == json.loads(line)


@pytest.mark.parametrize("name", names("bad-*"))
def test_what_is_bad_is_refused(name: str) -> None:
    with pytest.raises(protocol.ProtocolError):
        READERS[kind_of(name)]((GOLDEN / name).read_bytes())
    assert schema_takes(kind_of(name), json.loads((GOLDEN / name).read_text())) == (name in BEYOND_SCHEMA)


def test_the_error_says_where_what_and_what_was_expected() -> None:
    with pytest.raises(protocol.ProtocolError) as caught:
        protocol.parse_plan((GOLDEN / "bad-plan-diopters-text.json").read_bytes())
    assert str(caught.value) == "plan.json: frames[0]: diopters is '0.5'; expected a number from 0 to 1000"


def test_another_version_tells_to_install_the_app_that_belongs() -> None:
    with pytest.raises(protocol.ProtocolError, match=r"speaks version 2.*install the app"):
        protocol.parse_plan((GOLDEN / "bad-plan-version.json").read_bytes())


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "null", '{"version": true}', "\x00", "[" * 100_000])
@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_object_is_refused(kind: str, text: str) -> None:
    with pytest.raises(protocol.ProtocolError):
        READERS[kind](text)


GOOD = [
    *((kind_of(name), (GOLDEN / name).read_text()) for name in ("plan.json", "control-retry.json", "stack.json")),
    *(("line", line) for line in (GOLDEN / "journal.jsonl").read_text().splitlines()),
]


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**70), st.floats(-1e4, 1e6), st.text(max_size=20), st.just([]),
    st.sampled_from(["retry", "dng", "frame_000.dng", "frame_01.dng", "2026-11-21T16:05:02Z", "a" * 1001, {}]),
)  # fmt: skip


def changed(value: Any, path: list[int], to: Any, remove: bool) -> None:
    """Replace, or remove, one field somewhere in ``value``."""
    keys = sorted(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = keys[path[0] % len(keys)]
    if len(path) > 1 and isinstance(value[key], dict | list):
        changed(value[key], path[1:], to, remove)
    elif remove:
        del value[key]
    else:
        value[key] = to


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(GOOD), st.lists(st.integers(0, 30), min_size=3, max_size=3), SCALARS, st.booleans())
def test_reader_and_schema_agree_on_what_is_changed(
    good: tuple[str, str], path: list[int], to: Any, remove: bool
) -> None:
    kind, value = good[0], json.loads(good[1])
    changed(value, path, to, remove)
    try:
        READERS[kind](json.dumps(value))
        read = True
    except protocol.ProtocolError:
        read = False
    takes = schema_takes(kind, value)
    if read:
        assert takes, value
    else:
        # the reader also checks what belongs together
        assert not takes or kind in ("line", "stack", "plan"), value


@given(st.text(max_size=60))
def test_only_plain_names_become_sessions(name: str) -> None:
    plain = 3 <= len(name) <= 40 and name[0] != "-" and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    if plain:
        assert protocol.session_folder(name) == f"{protocol.FILES}/{name}"
    else:
        with pytest.raises(protocol.ProtocolError):
            protocol.session_folder(name)


@pytest.mark.parametrize("name", ["a/../../b", "..", "a b", "a;rm", "a\n", "-rf-", "$(id)", "Abc", "é--"])
def test_names_that_would_do_something_else_are_refused(name: str) -> None:
    with pytest.raises(protocol.ProtocolError):
        protocol.check_session(name)


def test_file_names_carry_frame_and_attempt() -> None:
    assert [protocol.frame_file(7, 0), protocol.frame_file(7, 12, "jpg")] == ["frame_007.dng", "frame_007_r12.jpg"]


def test_every_line_survives_the_journal() -> None:
    done = protocol.parse_line((GOLDEN / "journal.jsonl").read_text().splitlines()[2])
    assert isinstance(done, protocol.FrameDone)
    again = replace(done, attempt=3, file="frame_000_r3.dng", physical_id=None)
    assert protocol.parse_line(protocol.line_text(again)) == again


def test_the_uncertainty_follows_what_the_phone_says_of_itself() -> None:
    assert protocol.uncertainty_d("CALIBRATED", 0.0) == pytest.approx(0.02)
    assert protocol.uncertainty_d("CALIBRATED", 10.0) == pytest.approx((0.02**2 + 0.1**2) ** 0.5)
    assert protocol.uncertainty_d("APPROXIMATE", 2.0) > 3 * protocol.uncertainty_d("CALIBRATED", 2.0)
    with pytest.raises(CameraError, match=r"UNCALIBRATED.*calibrate its lens"):
        protocol.uncertainty_d("UNCALIBRATED", 1.0)
