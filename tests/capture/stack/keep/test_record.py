"""The record of a stack: to JSON and back, and everything that is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.camera_protocol import CameraInfo
from dualpix.capture.stack.keep.record import (
    MAX_FILE_BYTES,
    FrameRecord,
    RecordError,
    StackRecord,
    check_name,
    from_json,
    read_record,
    read_schema,
    write_record,
)

VALIDATOR = jsonschema.Draft202012Validator(read_schema())


def frame(index: int = 0, **changes: Any) -> FrameRecord:
    values: dict[str, Any] = {
        "index": index, "role": "focus", "files": (f"f{index:03d}_D0.500_N2.8.dng",), "sha256": ("ab" * 32,),
        "bytes": (1000,), "requested_d": 0.5, "achieved_d": 0.503, "uncertainty_d": 0.004,
        "distance_source": "calibration", "motor_steps": 240, "f_number": 2.8, "exposure_s": 0.01, "iso": 100.0,
        "taken_at": "2026-01-02T03:04:05.678Z", "settle_s": 0.1, "settle_frames": 4, "settled": True,
        "sharpness_tiles": ((0.1, 0.2), (0.3, 0.4)), "retries": 0, "focus_distance_upper_m": math.inf,
        "focus_distance_lower_m": 1.5, "details": {"lens_state": "stationary"},
    }  # fmt: skip
    return FrameRecord(**{**values, **changes})


def stack(*frames: FrameRecord, **changes: Any) -> StackRecord:
    camera = CameraInfo("sim", "sim:1", "dualpix", "Simulated", focal_length_mm=50.0, f_numbers=(2.8, 4.0))
    plan = {"mode": "list", "frames": [{"index": 0}, {"index": 1}]}
    values: dict[str, Any] = {
        "session": "s1", "created_at": "2026-01-02T03:04:05Z", "camera": camera, "plan": plan,
        "frames": frames or (frame(0), frame(1)), "complete": True, "versions": {"dualpix": "0.1"},
        "breathing": {"beta": 0.015, "d0": 0.5, "residual_px": 0.05},
    }  # fmt: skip
    return StackRecord(**{**values, **changes})


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record = stack(frame(0), frame(3, status="suspect", notes=("blurred",), sharpness_tiles=None, f_number=None))
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert read_record(tmp_path / "stack.json") == record
    written = json.loads((tmp_path / "stack.json").read_text())
    assert written["frames"][0]["focus_distance_upper_m"] == "inf"
    VALIDATOR.validate(written)


def test_entries_with_a_default_may_be_left_out() -> None:
    value = stack().to_json()
    for key in ("calibration", "breathing", "versions"):
        del value[key]
    for key in ("status", "notes", "details", "focus_distance_lower_m", "focus_distance_upper_m"):
        del value["frames"][0][key]
    VALIDATOR.validate(value)
    record = from_json(value)
    assert record.breathing is None and record.frames[0].status == "good"


def test_a_stack_whose_distances_are_not_known_says_so(tmp_path: Path) -> None:
    silent = {"requested_d": None, "achieved_d": None, "uncertainty_d": None, "distance_source": "none"}
    record = stack(frame(0, **silent), frame(1, **silent))
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    VALIDATOR.validate(json.loads((tmp_path / "stack.json").read_text()))


CHANGES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("another version", lambda r: r.update(schema_version=2), "schema_version is 2"),
    ("a missing entry", lambda r: r.pop("plan"), "'plan' is missing"),
    ("an unknown entry", lambda r: r.update(colour=1), "unknown entry 'colour'"),
    ("an unknown entry of a frame", lambda r: r["frames"][1].update(x=1), "unknown entry 'frames[1].x'"),
    ("frames that are none", lambda r: r.update(frames={}), "frames is {}"),
    ("a text for a number", lambda r: r["frames"][0].update(achieved_d="0.5"), 'frames[0].achieved_d is "0.5"'),
    ("true for a number", lambda r: r["frames"][0].update(bytes=[True]), "frames[0].bytes[0] is true"),
    ("infinity elsewhere", lambda r: r["frames"][0].update(achieved_d="inf"), "a number"),
    ("a negative uncertainty", lambda r: r["frames"][0].update(uncertainty_d=-0.1), "0 to 1000"),
    ("no digest", lambda r: r["frames"][0].update(sha256=["xyz"]), "64 hexadecimal digits"),
    ("fewer digests than files", lambda r: r["frames"][0].update(sha256=[]), "0 sha256"),
    ("no files", lambda r: r["frames"][0].update(files=[], sha256=[], bytes=[]), "at least one"),
    ("a file elsewhere", lambda r: r["frames"][0].update(files=["../a.dng"]), "within the folder"),
    ("an absolute file", lambda r: r["frames"][0].update(files=["/etc/passwd"]), "within the folder"),
    ("an unknown source", lambda r: r["frames"][0].update(distance_source="guess"), "one of: calibration"),
    ("ragged tiles", lambda r: r["frames"][0].update(sharpness_tiles=[[1.0], [1.0, 2.0]]), "not rectangular"),
    ("a frame twice", lambda r: r["frames"].append(deepcopy(r["frames"][1])), "frames[2].index is 1 after 1"),
    ("a camera that is none", lambda r: r.update(camera="sim"), 'camera is "sim"'),
    ("no flag", lambda r: r.update(complete="yes"), "true or false"),
    ("a focus for some", lambda r: r["frames"][1].update(achieved_d=None, uncertainty_d=None), "null in 1 of 2 focus"),
    ("a focus without its error", lambda r: r["frames"][0].update(uncertainty_d=None), "both, or null for both"),
]


@pytest.mark.parametrize(("change", "message"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_what_is_wrong_is_said(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    value = stack().to_json()
    change(value)
    (tmp_path / "stack.json").write_text(json.dumps(value))
    with pytest.raises(RecordError) as error:
        read_record(tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "no JSON"), (b"[]", "expected an object"), (b'{"schema_version": NaN}', "NaN"), (b"\xff", "no JSON")],
)
def test_files_that_are_no_record(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "stack.json").write_bytes(content)
    with pytest.raises(RecordError, match=message):
        read_record(tmp_path)


def test_a_number_too_large_for_json_is_refused(tmp_path: Path) -> None:
    text = json.dumps(stack().to_json()).replace('"achieved_d": 0.503', '"achieved_d": 1e999', 1)
    (tmp_path / "stack.json").write_text(text)
    with pytest.raises(RecordError, match="1e999 is no number of JSON"):
        read_record(tmp_path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "stack.json").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(RecordError, match="over 64 MiB"):
        read_record(tmp_path)


def test_no_record_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="make one with 'dualpix capture'"):
        read_record(tmp_path)
    (tmp_path / "journal.jsonl").write_text("")
    with pytest.raises(RecordError, match="go on with --resume"):
        read_record(tmp_path)


@pytest.mark.parametrize("name", ["a.dng", "raw/a.dng", "f000_D0.500_N2.8.dng", "é.cr3"])
def test_names_within_the_folder(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/../b", "/a", "a\\b", "a\nb", "a//b", "./a", "x" * 256])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(RecordError):
        check_name(name)


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**7), st.floats(-20, 2000), st.just("inf"), st.just("focus"),
    st.just([]), st.just({}), st.text(max_size=5),
)  # fmt: skip


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every entry of plain data, but what is inside of objects with any content."""
    found = [at] if at else []
    if isinstance(value, dict) and (not at or at[-1] not in ("plan", "details", "calibration")):
        found += [place for key in value for place in _places(value[key], (*at, key))]
    elif isinstance(value, list):
        found += [place for index, item in enumerate(value) for place in _places(item, (*at, index))]
    return found


_PLACES = _places(stack().to_json())
_BEYOND_SCHEMA = ("not rectangular", " after ", "as many of each", "within the folder", "hexadecimal")


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(_PLACES), new=_SCALARS, drop=st.booleans())
def test_reading_refuses_what_the_published_schema_refuses(place: tuple[Any, ...], new: Any, drop: bool) -> None:
    value = stack().to_json()
    parent: Any = value
    for key in place[:-1]:
        parent = parent[key]
    if drop:
        del parent[place[-1]]
    else:
        parent[place[-1]] = new
    try:
        from_json(value)
    except RecordError as error:
        if not any(text in str(error) for text in _BEYOND_SCHEMA):
            assert not VALIDATOR.is_valid(value), str(error)
    else:
        assert VALIDATOR.is_valid(value), next(VALIDATOR.iter_errors(value)).message
