"""The form of requests and results of a benchmark on a phone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.capture.errors import DualpixError
from dualpix.export.android import protocol
from dualpix.export.android.protocol import BenchError, BenchRequest, ExpectedFile, TensorFile
from dualpix.export.profile.result import Memory, Profile, Settings, Subject, TargetFacts, Thermal

REQUEST = BenchRequest(
    "run-1", "a" * 64, (TensorFile("input_0.bin", (1, 3, 2, 2)),), (ExpectedFile("expected_0.bin", (1, 1), 0.01),),
    (1, 2), 1, 3, "xnnpack-int8",
)  # fmt: skip


def profile(threads: int) -> Profile:
    nothing = Profile(
        Subject(protocol.MODEL, REQUEST.sha256), TargetFacts("adb", "Phone", None, "Android 16", "executorch"),
        Settings(threads, 1, 3), 0.1, 0.02, (), None, None, None, None, Memory(pss_bytes=1 << 20),
        Thermal("none", "light"), verified=True, max_abs_error=0.002,
    )  # fmt: skip
    return nothing.timed((0.01, 0.012, 0.011))


def document() -> dict[str, Any]:
    return {
        "format": 1, "run_id": "run-1", "app": "1.0", "verified": True, "max_abs_error": 0.002, "error": None,
        "max_abs_errors": [0.002],
        "profiles": [profile(1).to_json(), profile(2).to_json()],
    }  # fmt: skip


def read(data: Any) -> tuple[Profile, ...]:
    return protocol.read_result(json.dumps(data).encode(), REQUEST, "net.pte")


def test_a_result_becomes_profiles_of_the_file_that_was_meant() -> None:
    expected = tuple(replace(profile(n), subject=Subject("net.pte", "a" * 64, "xnnpack-int8")) for n in (1, 2))
    assert read(document()) == expected


def test_a_request_says_everything_that_the_app_asks_for() -> None:
    assert REQUEST.to_json() | {"inputs": None} == {
        "format": 2, "run_id": "run-1", "sha256": "a" * 64, "inputs": None, "threads": (1, 2), "warmup": 1, "runs": 3,
        "expected": ({"file": "expected_0.bin", "shape": (1, 1), "max_abs": 0.01},), "recipe": "xnnpack-int8",
        "model": "model.pte",
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"threads": ()},
        {"threads": (65,)},
        {"threads": (0,)},
        {"runs": 0},
        {"warmup": 1001},
        {"inputs": ()},
        {"expected": ()},
    ],
    ids=str,
)
def test_what_the_app_would_refuse_is_refused_here(change: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match="which the app takes"):
        replace(REQUEST, **change)


@pytest.mark.parametrize("name", ["", "ab", "../up", "A-1", "run 1", "r" * 41, "run-1\n", "-rf", "run;ls"])
def test_no_other_name_becomes_a_folder_on_the_phone(name: str) -> None:
    with pytest.raises(BenchError):
        protocol.run_folder(name)


def test_an_output_that_is_off_counts_although_the_app_calls_it_right() -> None:
    data = document()
    data["profiles"][1]["max_abs_error"] = data["max_abs_errors"][0] = 0.02
    with pytest.raises(BenchError, match=r"off by 0\.02; expected at most 0\.01"):
        read(data)


def test_what_an_older_app_says_of_the_request_is_said() -> None:
    data = document() | {"profiles": [], "verified": False, "error": "request.json: format is 2; expected 1"}
    del data["max_abs_errors"]
    with pytest.raises(BenchError, match=r"the app cannot measure 'net.pte': request.json: format is 2"):
        read(data)


@pytest.mark.parametrize("errors", [None, [], [0.002, 0.0], [-1.0], ["0"], [True], [0.0001]], ids=str)
def test_a_result_that_does_not_say_how_far_each_output_is_off_is_refused(errors: Any) -> None:
    with pytest.raises(BenchError, match=r"max_abs_errors|how far each output"):
        read(document() | {"max_abs_errors": errors})


def test_each_of_several_outputs_has_its_own_limit() -> None:
    data = document()
    two = (ExpectedFile("expected_0.bin", (1, 1), 0.01), ExpectedFile("expected_1.bin", (1, 1), 0.001))
    request = replace(REQUEST, expected=two)
    data["max_abs_errors"] = [0.002, 0.0005]
    protocol.read_result(json.dumps(data).encode(), request, "net.pte")
    data["max_abs_errors"] = [0.002, 0.0015]
    with pytest.raises(BenchError, match=r"output 2 of 2 is off by 0\.0015; expected at most 0\.001"):
        protocol.read_result(json.dumps(data).encode(), request, "net.pte")


def test_profiles_in_another_order_are_refused() -> None:
    data = document()
    data["profiles"].reverse()
    with pytest.raises(BenchError, match="profiles for 2, 1 threads; expected 1, 2"):
        read(data)


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_an_error(content: bytes) -> None:
    with pytest.raises(DualpixError):
        protocol.read_result(content, REQUEST, "net.pte")


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**70), st.floats(), st.text(max_size=20), st.just([]), st.just({}),
    st.just("x" * 3000), st.just([[]] * 300),
)  # fmt: skip


def changed(value: Any, path: list[int], to: Any) -> None:
    keys = sorted(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = keys[path[0] % len(keys)]
    if len(path) > 1 and isinstance(value[key], dict | list):
        changed(value[key], path[1:], to)
    else:
        value[key] = to


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=4, max_size=4), SCALARS)
def test_what_is_read_is_what_was_asked_whatever_is_changed(path: list[int], to: Any) -> None:
    data = document()
    changed(data, path, to)
    try:
        profiles = read(data)
    except DualpixError:
        return
    assert [p.settings.threads for p in profiles] == [1, 2]
    for p in profiles:
        assert p.subject == Subject("net.pte", "a" * 64, "xnnpack-int8") and p.verified and not p.error
        assert p.max_abs_error is not None and p.max_abs_error <= 0.01
        assert p.timed(p.samples_s).p50_s == pytest.approx(p.p50_s, rel=1e-6, abs=1e-12)
