from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dualpix.export.profile
from dualpix.export.errors import ProfileError
from dualpix.export.profile.result import (
    RATIOS_OF,
    Delegated,
    Memory,
    Operator,
    Peaks,
    Profile,
    Settings,
    Subject,
    TargetFacts,
    Thermal,
    Trace,
    document,
    profiles_from_json,
    read_profiles,
    write_profiles,
)

_SECONDS = st.floats(1e-9, 1e3)
_COUNTS = st.integers(0, 2**53 - 1)
_TEXT = st.text(max_size=30)


@cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(resources.files(dualpix.export.profile).joinpath("profile.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def a_profile() -> Profile:
    """With every field filled."""
    return Profile(
        subject=Subject("net.pte", "ab" * 32, "xnnpack-int8"),
        target=TargetFacts("host", "desk", "EPYC", "Linux", "executorch 1.5.1", "x86-64-avx2", "avx2"),
        settings=Settings(2, 3, 4, ("other.pte",)),
        load_s=0.1,
        first_s=0.05,
        samples_s=(),
        p50_s=None,
        p90_s=None,
        p99_s=None,
        mean_s=None,
        memory=Memory(1, 2, 3),
        thermal=Thermal("none", "light"),
        operators=(Operator("Convolution #1", "convolution", "a.b", "net.py:3", "XnnpackBackend", 0.01, 0.9, 100, 50),),
        trace=Trace(5, 0.011, 0.01),
        peaks=Peaks(1e4, 1e3),
        delegated=Delegated(1.0, 0.98),
        ratios={"other.pte": 1.5},
        ratio_iqrs={"other.pte": 0.25},
        ratios_of="processor time",
        verified=True,
        max_abs_error=0.001,
    ).timed((0.01, 0.02, 0.03, 0.04), (0.01, 0.01, 0.02, 0.02))


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    optional = st.none()
    operator = st.builds(
        Operator, _TEXT, _TEXT, optional | _TEXT, optional | _TEXT, _TEXT, _SECONDS, st.floats(0, 1), optional | _COUNTS
    )
    return replace(
        a_profile(),
        subject=draw(st.builds(Subject, _TEXT, st.sampled_from(["", "0f" * 32]), optional | _TEXT)),
        settings=draw(st.builds(Settings, st.integers(1, 1024), st.integers(0, 9), st.integers(0, 9))),
        memory=draw(st.builds(Memory, *[optional | _COUNTS] * 3)),
        thermal=draw(optional | st.builds(Thermal, _TEXT, _TEXT)),
        operators=draw(optional | st.lists(operator, max_size=4).map(tuple)),
        trace=draw(optional | st.builds(Trace, st.integers(1, 99), _SECONDS, _SECONDS)),
        delegated=draw(optional | st.builds(Delegated, optional | st.floats(0, 1), optional | st.floats(0, 1))),
        ratios=draw(st.dictionaries(_TEXT, st.floats(1e-6, 1e6), max_size=3)),
        verified=draw(optional | st.booleans()),
        ratio_iqrs=draw(st.dictionaries(_TEXT, st.floats(0, 1e6), max_size=3)),
        ratios_of=draw(optional | st.sampled_from(RATIOS_OF)),
    ).timed(draw(st.lists(_SECONDS, min_size=1, max_size=9)), draw(st.lists(_SECONDS, max_size=9)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(profiles(), max_size=3))
def test_profiles_survive_the_file_and_fit_the_schema(given_profiles: list[Profile]) -> None:
    data = json.loads(json.dumps(document(given_profiles), allow_nan=False))
    _validator().validate(data)
    assert profiles_from_json(data) == tuple(given_profiles)


def test_files_from_before_classes_are_read() -> None:
    data = json.loads(json.dumps(document([a_profile()])))
    for field in ("ratio_iqrs", "ratios_of", "processor_s"):
        del data["profiles"][0][field]
    for field in ("processor_class", "processor_features"):
        del data["profiles"][0]["target"][field]
    _validator().validate(data)
    (profile,) = profiles_from_json(data)
    assert profile.target.text == "desk: EPYC, class not recorded, Linux, executorch 1.5.1"
    assert profile.ratio_text("other.pte") == "1.50" and a_profile().ratio_text("other.pte") == "1.50 (0.25)"
    assert not profile.processor_s and profile.ratios_of is None


def test_percentiles_are_those_of_the_samples() -> None:
    profile = a_profile().timed([k / 100 for k in range(101)])
    assert (profile.p50_s, profile.p90_s, profile.p99_s) == pytest.approx((0.5, 0.9, 0.99))
    assert profile.mean_s == pytest.approx(0.5)


def test_the_roof_is_the_slower_of_arithmetic_and_memory() -> None:
    peaks, row = Peaks(macs_per_s=1e4, bytes_per_s=1e3), (a_profile().operators or ())[0]
    assert peaks.least_s(replace(row, macs=100, bytes=50)) == pytest.approx(0.05), "memory"
    assert peaks.least_s(replace(row, macs=1000, bytes=50)) == pytest.approx(0.1), "arithmetic"
    assert peaks.least_s(replace(row, bytes=None)) is None
    assert replace(row, macs=100, bytes=50).intensity == 2.0
    assert replace(row, bytes=0).intensity is None


def _set(data: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        data = data[int(part)] if part.isdigit() else data[part]
    data[last] = value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subject.sha256", "xyz"),
        ("subject.file", None),
        ("subject.file", "x" * 3000),
        ("target.kind", "toaster"),
        ("settings.threads", 0),
        ("settings.threads", True),
        ("settings.runs", 1.5),
        ("load_s", -1),
        ("samples_s", "fast"),
        ("samples_s", [0.1, "x"]),
        ("samples_s", [1e9]),
        ("samples_s", [0.0] * 100_001),
        ("memory.pss_bytes", -1),
        ("memory", 3),
        ("operators.0.share", 1.5),
        ("operators.0.name", 7),
        ("operators", {}),
        ("trace.runs", 0),
        ("peaks.macs_per_s", 0),
        ("delegated.macs", 2),
        ("ratios", {"a": 0}),
        ("ratios", {"a": "fast"}),
        ("ratios", []),
        ("ratio_iqrs", {"a": -0.1}),
        ("ratios_of", "the moon"),
        ("processor_s", None),
        ("processor_s", [-1]),
        ("target.processor_class", 3),
        ("target.processor_features", "x" * 3000),
        ("verified", "yes"),
        ("thermal", {"before": "none"}),
    ],
)
def test_what_the_schema_forbids_is_refused_and_named(field: str, value: Any) -> None:
    data = json.loads(json.dumps(document([a_profile()])))
    _set(data["profiles"][0], field, value)
    assert not _validator().is_valid(data)
    with pytest.raises(ProfileError) as caught:
        profiles_from_json(data)
    assert field.split(".")[-1].rstrip("0123456789") in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("field", ["subject", "target", "settings", "load_s", "samples_s", "p50_s", "memory"])
def test_missing_fields_are_refused_and_named(field: str) -> None:
    data = json.loads(json.dumps(document([a_profile()])))
    del data["profiles"][0][field]
    assert not _validator().is_valid(data)
    with pytest.raises(ProfileError, match=field):
        profiles_from_json(data)


def test_a_failed_profile_says_why_and_has_no_times() -> None:
    data = json.loads(json.dumps(document([a_profile()])))
    failed = data["profiles"][0] | dict.fromkeys(("load_s", "first_s", "p50_s", "p90_s", "p99_s", "mean_s"))
    failed |= {"samples_s": [], "error": "0x20: backend missing"}
    data["profiles"] = [failed]
    _validator().validate(data)
    assert profiles_from_json(data)[0].error == "0x20: backend missing"
    failed["error"] = None
    with pytest.raises(ProfileError, match="no times"):
        profiles_from_json(data)


def test_falling_percentiles_are_refused() -> None:
    data = json.loads(json.dumps(document([a_profile()])))
    data["profiles"][0]["p90_s"] = 0.0
    with pytest.raises(ProfileError, match="percentiles fall"):
        profiles_from_json(data)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"format": 2, "profiles": []}', '{"format": 1}'])
def test_files_of_something_else_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(ProfileError):
        read_profiles(path)
    with pytest.raises(ProfileError, match="cannot be read"):
        read_profiles(tmp_path / "gone.json")


def test_profiles_are_written_and_read(tmp_path: Path) -> None:
    write_profiles(tmp_path / "profile.json", [a_profile()])
    assert read_profiles(tmp_path / "profile.json") == (a_profile(),)
