"""What the host and the app write for each other when a network is measured on the phone. Format 2.

Convention: everything happens through files in ``FILES/bench/RUN/`` on the phone, whose names are fixed here: no name
of the host's files reaches the phone, and none of the phone's reaches the host. Values are raw float32, little-endian,
row-major.

=================  ==========================  ==========================================================
file               written by                  what it says
=================  ==========================  ==========================================================
``model.pte``      host                        the program
``input_0.bin``    host                        one file per input
``expected_0.bin`` host                        one file per output: what it must be within its ``max_abs``
``request.json``   host, last of all           :class:`BenchRequest`
``result.json``    app, renamed when whole     profiles (``profile.schema.json``) with ``run_id``, ``app``,
                                               ``verified``, ``max_abs_error``, ``max_abs_errors`` (one of each
                                               output) and ``error``
=================  ==========================  ==========================================================

The app checks the digest of the program, runs it once per number of threads and compares, and times it only if the
output agrees. It writes ``result.json`` whatever happens, unless it dies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dualpix.capture.cameras.android.protocol import FILES, PACKAGE
from dualpix.capture.files import parse_json
from dualpix.export.errors import ProfileError
from dualpix.export.profile.result import FORMAT as PROFILE_FORMAT
from dualpix.export.profile.result import Profile, profiles_from_json

FORMAT = 2
"""Of requests; results have the format of profiles."""
ACTIVITY = f"{PACKAGE}/.BenchActivity"
RUN_EXTRA = "run"
MODEL, REQUEST, RESULT = "model.pte", "request.json", "result.json"
MAX_RESULT_BYTES = 16 << 20
MAX_MODEL_BYTES = 1 << 30
MAX_TENSOR_BYTES = 256 << 20
MAX_INPUTS, MAX_OUTPUTS, MAX_THREAD_COUNTS, MAX_THREADS, MAX_WARMUP, MAX_RUNS = 16, 16, 8, 64, 1000, 10_000

_RUN = re.compile(r"[a-z0-9][a-z0-9-]{2,39}")
_MAX_TEXT = 500
_SAME = 1e-6
"""Relative difference between a figure and what its samples give."""


class BenchError(ProfileError):
    """The phone cannot measure a network, or what it answers cannot be trusted."""


@dataclass(frozen=True)
class TensorFile:
    """A file of values and their shape."""

    file: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ExpectedFile(TensorFile):
    """An output that is to come."""

    max_abs: float
    """Largest difference of a value."""


@dataclass(frozen=True)
class BenchRequest:
    """What the host wants measured."""

    run_id: str
    sha256: str
    """Of the program."""
    inputs: tuple[TensorFile, ...]
    expected: tuple[ExpectedFile, ...]
    """In the order in which the program gives them."""
    threads: tuple[int, ...]
    warmup: int
    runs: int
    recipe: str | None = None
    model: str = MODEL

    def __post_init__(self) -> None:
        """Refuse what the app would refuse.

        Raises:
            BenchError: too many inputs, outputs, thread counts, warm-up runs or runs.
        """
        bounds = (
            ("inputs", len(self.inputs), 1, MAX_INPUTS),
            ("outputs", len(self.expected), 1, MAX_OUTPUTS),
            ("thread counts", len(self.threads), 1, MAX_THREAD_COUNTS),
            *(("threads", count, 1, MAX_THREADS) for count in self.threads),
            ("warm-up runs", self.warmup, 0, MAX_WARMUP),
            ("runs", self.runs, 1, MAX_RUNS),
        )
        for what, found, low, high in bounds:
            if not low <= found <= high:
                raise BenchError(f"{found} {what}", expected=f"{low} to {high}, which the app takes")

    def to_json(self) -> dict[str, Any]:
        """The content of ``request.json``."""
        return {"format": FORMAT, **asdict(self)}


def run_folder(run_id: str) -> str:
    """Where a run lies on the phone.

    Raises:
        BenchError: anything but 3 to 40 small letters, digits and hyphens.
    """
    if not _RUN.fullmatch(run_id):
        raise BenchError(f"run '{run_id[:80]}'", expected="3 to 40 small letters, digits and hyphens")
    return f"{FILES}/bench/{run_id}"


def input_file(index: int) -> str:
    """Name of an input on the phone."""
    return f"input_{index}.bin"


def expected_file(index: int) -> str:
    """Name of an output that is to come on the phone."""
    return f"expected_{index}.bin"


def read_result(content: bytes, request: BenchRequest, file: str) -> tuple[Profile, ...]:
    """The profiles of a run, in the order of ``request.threads``, as those of ``file``.

    Args:
        content: of ``result.json``, which nothing is taken on trust from.
        request: what was asked.
        file: name of the program on this side, which the profiles shall have.

    Raises:
        BenchError: the app reports an error, or the output was not what was expected; the content is damaged, of
            another run, of another program, or does not say what its own samples say.
    """
    if len(content) > MAX_RESULT_BYTES:
        raise BenchError(f"{RESULT} has more than {MAX_RESULT_BYTES} bytes")
    try:
        data = parse_json(content, RESULT, "the result of a measurement", BenchError)
    except BenchError as error:
        raise BenchError(f"{RESULT} of the phone is damaged ({len(content)} bytes)", hint="measure again") from error
    if not isinstance(data, dict) or data.get("format") != PROFILE_FORMAT:
        raise BenchError(
            f"{RESULT} is not of format {PROFILE_FORMAT}", hint="install the app that belongs to this version"
        )
    if data.get("run_id") != request.run_id:
        raise BenchError(f"{RESULT} is of run '{_text(data.get('run_id'))}'", expected=f"'{request.run_id}'")
    profiles = profiles_from_json(data, RESULT)
    _check_agreement(data, profiles, request, file)
    if tuple(p.settings.threads for p in profiles) != request.threads:
        found = ", ".join(str(p.settings.threads) for p in profiles) or "none"
        raise BenchError(f"{RESULT} has profiles for {found} threads", expected=", ".join(map(str, request.threads)))
    for profile in profiles:
        _check(profile, request)
    return tuple(replace(p, subject=replace(p.subject, file=file, recipe=request.recipe)) for p in profiles)


def _check_agreement(data: dict[str, Any], profiles: Sequence[Profile], request: BenchRequest, file: str) -> None:
    """Raises BenchError with what the app says of the run."""
    said = next((p.error for p in profiles if p.error), None) or data.get("error")
    errors = _errors(data, request)
    for index, (error, expected) in enumerate(zip(errors, request.expected, strict=False), 1):
        if error > expected.max_abs:
            which = "its output" if len(request.expected) == 1 else f"output {index} of {len(request.expected)}"
            raise BenchError(
                f"'{file}' computes something else on the phone: {which} is off by {error:.3g}",
                expected=f"at most {expected.max_abs:.3g}",
            )
    if said:
        raise BenchError(f"the app cannot measure '{file}': {_text(said)}")
    if data.get("verified") is not True or not all(p.verified is True for p in profiles):
        raise BenchError(f"the output of '{file}' was not verified on the phone")
    worst = max(errors, default=math.inf)
    if len(errors) != len(request.expected) or any((p.max_abs_error or 0.0) > worst for p in profiles):
        raise BenchError(f"{RESULT} does not say how far each output is off")


def _errors(data: dict[str, Any], request: BenchRequest) -> list[float]:
    """How far each output was off, the worst of all thread counts.

    Raises:
        BenchError: it holds something else.
    """
    errors = data.get("max_abs_errors", [])
    whole = isinstance(errors, list) and len(errors) <= len(request.expected)
    if not whole or not all(type(e) in (int, float) and 0 <= e < math.inf for e in errors or ()):
        raise BenchError(f"{RESULT} has max_abs_errors {_text(errors)}", expected="one number >= 0 of each output")
    return [float(e) for e in errors or ()]


def _check(profile: Profile, request: BenchRequest) -> None:
    subject, settings = profile.subject, profile.settings
    if (subject.file, subject.sha256) != (request.model, request.sha256):
        raise BenchError(
            f"{RESULT} is about '{_text(subject.file)}' with digest {subject.sha256[:12] or 'none'}",
            expected=f"'{request.model}' with {request.sha256[:12]}",
        )
    if profile.target.kind != "adb":
        raise BenchError(f"{RESULT} is of a target '{profile.target.kind}'", expected="'adb'")
    if (settings.warmup, settings.runs, len(profile.samples_s)) != (request.warmup, request.runs, request.runs):
        raise BenchError(
            f"{RESULT} has {len(profile.samples_s)} samples of {settings.runs} runs",
            expected=f"{request.runs}, after a warm-up of {request.warmup}",
        )
    again = profile.timed(profile.samples_s)
    for name in ("p50_s", "p90_s", "p99_s", "mean_s"):
        said, is_really = getattr(profile, name), getattr(again, name)
        if not math.isclose(said, is_really, rel_tol=_SAME, abs_tol=1e-12):
            raise BenchError(f"{RESULT} says {name} is {said:g}", expected=f"{is_really:g}, as its samples give")
    if profile.max_abs_error is None:
        raise BenchError(f"{RESULT} does not say how far the output is off")


def _text(value: object) -> str:
    return str(value)[:_MAX_TEXT]
