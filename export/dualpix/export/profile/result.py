"""What a network file costs on a target, as data: the same fields from this host, a phone or a Mac.

``profile.schema.json`` beside this file is the form on disk. Times in seconds, sizes in bytes, shares 0..1. Files of
this form come from devices: every field is checked, and every list is bounded before it is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dualpix.capture.files import read_json, write_json
from dualpix.capture.processor import NOT_RECORDED
from dualpix.export.errors import ProfileError
from dualpix.export.profile.fields import MAX_SECONDS, Reader, shown

FORMAT = 1
KINDS = ("host", "adb", "apple")
RATIOS_OF = ("processor time", "wall time")
MAX_FILE_BYTES = 64 << 20
_MAX_SAMPLES, _MAX_OPERATORS, _MAX_PROFILES, _MAX_RATIO = 100_000, 20_000, 256, 1e9


@dataclass(frozen=True)
class Subject:
    """What ran."""

    file: str
    sha256: str
    """Empty for a network that is no file."""
    recipe: str | None = None


@dataclass(frozen=True)
class TargetFacts:
    """Where it ran."""

    kind: str
    device: str
    soc: str | None
    os: str
    runtime: str
    processor_class: str | None = None
    """As :mod:`dualpix.capture.processor` names it; ``None`` in files that do not say."""
    processor_features: str | None = None
    """Its instruction sets, between spaces."""

    @property
    def text(self) -> str:
        """In one line."""
        return f"{self.device}: {self.soc or ''}, {self.processor_class or NOT_RECORDED}, {self.os}, {self.runtime}"


@dataclass(frozen=True)
class Settings:
    """How it was run."""

    threads: int
    warmup: int
    runs: int
    interleaved_with: tuple[str, ...] = ()


@dataclass(frozen=True)
class Memory:
    """Bytes; ``None`` where the target cannot tell."""

    peak_rss_bytes: int | None = None
    pss_bytes: int | None = None
    arena_bytes: int | None = None


@dataclass(frozen=True)
class Thermal:
    """Thermal status around the runs, as the system names it."""

    before: str
    after: str


@dataclass(frozen=True)
class Operator:
    """One kernel of the traced run."""

    name: str
    kind: str
    module: str | None
    source: str | None
    backend: str
    median_s: float
    share: float
    """Of the traced total."""
    macs: int | None = None
    bytes: int | None = None

    @property
    def intensity(self) -> float | None:
        """Multiply-accumulates per byte moved."""
        return None if self.macs is None or not self.bytes else self.macs / self.bytes


@dataclass(frozen=True)
class Trace:
    """The traced run: ``total_s`` is the median duration of the runtime's method-execute event."""

    runs: int
    total_s: float
    operators_s: float

    @property
    def coverage(self) -> float:
        """Share of the total that the operators explain."""
        return self.operators_s / self.total_s if self.total_s else 0.0


@dataclass(frozen=True)
class Peaks:
    """What the machine reached in the same run: the roof of the roofline."""

    macs_per_s: float
    bytes_per_s: float

    def least_s(self, operator: Operator) -> float | None:
        """Time below which the peaks do not allow this operator to be; ``None`` where its work is not known."""
        if operator.bytes is None:
            return None
        return max((operator.macs or 0) / self.macs_per_s, operator.bytes / self.bytes_per_s)


@dataclass(frozen=True)
class Delegated:
    """Shares that run in a delegate."""

    macs: float | None
    operators: float | None


@dataclass(frozen=True)
class Profile:
    """One file on one target with one thread count."""

    subject: Subject
    target: TargetFacts
    settings: Settings
    load_s: float | None
    first_s: float | None
    samples_s: tuple[float, ...]
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    mean_s: float | None
    memory: Memory
    thermal: Thermal | None = None
    operators: tuple[Operator, ...] | None = None
    trace: Trace | None = None
    peaks: Peaks | None = None
    delegated: Delegated | None = None
    ratios: Mapping[str, float] = field(default_factory=dict)
    """How many times faster than each other: median over the rounds."""
    ratio_iqrs: Mapping[str, float] = field(default_factory=dict)
    """Their interquartile ranges."""
    ratios_of: str | None = None
    """Of which time they are, :data:`RATIOS_OF`; ``None`` in files that do not say, which have wall time."""
    processor_s: tuple[float, ...] = ()
    """Processor time of the timed runs, whichever thread spent it; none where the target does not tell."""
    verified: bool | None = None
    max_abs_error: float | None = None
    error: str | None = None

    def timed(self, samples_s: Sequence[float], processor_s: Sequence[float] = ()) -> Profile:
        """The same with the times of the runs, at least one; percentiles by linear interpolation."""
        p50, p90, p99 = (float(v) for v in np.percentile(samples_s, (50, 90, 99)))
        mean = float(np.mean(samples_s))
        summed = replace(self, p50_s=p50, p90_s=p90, p99_s=p99, mean_s=mean)
        return replace(summed, samples_s=tuple(samples_s), processor_s=tuple(processor_s))

    def ratio_text(self, other: str) -> str:
        """Median and, where it is known, interquartile range: "1.50 (0.12)"."""
        iqr = self.ratio_iqrs.get(other)
        return f"{self.ratios[other]:.2f}" + (f" ({iqr:.2f})" if iqr is not None else "")

    def to_json(self) -> dict[str, Any]:
        """Plain data of the form ``#/$defs/profile``."""
        return asdict(self) | {"ratios": dict(self.ratios), "ratio_iqrs": dict(self.ratio_iqrs)}


def write_profiles(path: Path, profiles: Sequence[Profile]) -> None:
    """Write ``profiles`` as one file, atomically."""
    write_json(path, document(profiles))


def document(profiles: Sequence[Profile]) -> dict[str, Any]:
    """The whole file as plain data."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {"format": FORMAT, "created": created, "profiles": [p.to_json() for p in profiles]}


def read_profiles(path: Path) -> tuple[Profile, ...]:
    """The profiles in a file.

    Raises:
        ProfileError: there is no such file, it is too large, or not of this form.
    """
    expected = "a file written by 'dualpix profile'"
    data = read_json(path, MAX_FILE_BYTES, expected=expected, error=ProfileError, otherwise="cannot be read")
    return profiles_from_json(data, str(path))


def profiles_from_json(data: object, where: str = "profile") -> tuple[Profile, ...]:
    """The profiles in a document of :func:`document`.

    Raises:
        ProfileError: a field is missing or not what the schema says; the message names it.
    """
    root = Reader(data, where)
    if root.value("format") != FORMAT:
        raise ProfileError(f"{where} is no profile of format {FORMAT}", hint="profile again")
    return tuple(profile_from_json(p, w) for p, w in root.items("profiles", _MAX_PROFILES))


def profile_from_json(data: object, where: str = "profile") -> Profile:
    """One profile from plain data, every field checked.

    Raises:
        ProfileError: a field is missing or not what the schema says; the message names it.
    """
    read = Reader(data, where)
    error = read.text("error", optional=True)
    times = {n: read.seconds(n, optional=True) for n in ("load_s", "first_s", "p50_s", "p90_s", "p99_s", "mean_s")}
    samples = _times(read, "samples_s")
    if error is None and (None in times.values() or not samples):
        raise ProfileError(f"{where} has no times", expected="load_s, first_s, samples_s and percentiles, or an error")
    order = [v for v in (times["p50_s"], times["p90_s"], times["p99_s"]) if v is not None]
    if order != sorted(order):
        raise ProfileError(f"{where}: the percentiles fall", expected="p50_s <= p90_s <= p99_s")
    return Profile(
        subject=_subject(read.object("subject")),
        target=_target(read.object("target")),
        settings=_settings(read.object("settings")),
        samples_s=samples,
        memory=Memory(**{f.name: read.object("memory").count(f.name, optional=True) for f in fields(Memory)}),
        thermal=read.maybe("thermal", lambda r: Thermal(str(r.text("before")), str(r.text("after")))),
        operators=_operators(read),
        trace=read.maybe("trace", _trace),
        peaks=read.maybe("peaks", lambda r: Peaks(_positive(r, "macs_per_s"), _positive(r, "bytes_per_s"))),
        delegated=read.maybe("delegated", lambda r: Delegated(r.share("macs"), r.share("operators"))),
        ratios=_by_other(read, "ratios", math.ulp(0.0)),
        ratio_iqrs=_by_other(read, "ratio_iqrs", 0.0),
        ratios_of=_ratios_of(read),
        processor_s=_times(read, "processor_s") if "processor_s" in read.data else (),
        verified=_verified(read),
        max_abs_error=read.optional_number("max_abs_error", 0, math.inf),
        error=error,
        **times,
    )


def _subject(read: Reader) -> Subject:
    digest = str(read.text("sha256"))
    if not re.fullmatch(r"([0-9a-f]{64})?", digest):
        raise ProfileError(f"{read.where}.sha256 is '{digest[:80]}'", expected="64 hexadecimal digits, or none")
    return Subject(str(read.text("file")), digest, read.text("recipe", optional=True))


def _target(read: Reader) -> TargetFacts:
    kind = str(read.text("kind"))
    if kind not in KINDS:
        raise ProfileError(f"{read.where}.kind is '{kind[:80]}'", expected="one of: " + ", ".join(KINDS))
    return TargetFacts(
        kind,
        device=str(read.text("device")),
        soc=read.text("soc", optional=True),
        os=str(read.text("os")),
        runtime=str(read.text("runtime")),
        processor_class=read.text("processor_class", optional=True),
        processor_features=read.text("processor_features", optional=True),
    )


def _settings(read: Reader) -> Settings:
    others = tuple(str(Reader({"x": v}, w).text("x")) for v, w in read.items("interleaved_with", _MAX_PROFILES))
    return Settings(
        threads=read.whole("threads", 1, 1024),
        warmup=read.whole("warmup", 0, _MAX_SAMPLES),
        runs=read.whole("runs", 0, _MAX_SAMPLES),
        interleaved_with=others,
    )


def _operators(read: Reader) -> tuple[Operator, ...] | None:
    if read.get("operators") is None:
        return None
    return tuple(_operator(Reader(v, where)) for v, where in read.items("operators", _MAX_OPERATORS))


def _operator(read: Reader) -> Operator:
    return Operator(
        name=str(read.text("name")),
        kind=str(read.text("kind")),
        module=read.text("module", optional=True),
        source=read.text("source", optional=True),
        backend=str(read.text("backend")),
        median_s=read.number("median_s", 0, MAX_SECONDS),
        share=read.number("share", 0, 1),
        macs=read.count("macs", optional=True),
        bytes=read.count("bytes", optional=True),
    )


def _trace(read: Reader) -> Trace:
    total, operators = (read.number(n, 0, MAX_SECONDS) for n in ("total_s", "operators_s"))
    return Trace(read.whole("runs", 1, _MAX_SAMPLES), total, operators)


def _positive(read: Reader, name: str) -> float:
    return read.number(name, math.ulp(0.0), math.inf)


def _times(read: Reader, name: str) -> tuple[float, ...]:
    return tuple(Reader({"x": s}, w).number("x", 0, MAX_SECONDS) for s, w in read.items(name, _MAX_SAMPLES))


def _by_other(read: Reader, name: str, low: float) -> dict[str, float]:
    data = read.get(name)
    if data is None:
        return {}
    found = Reader(data, f"{read.where}.{name}")
    if len(found.data) > _MAX_PROFILES:
        raise ProfileError(f"{found.where} has {len(found.data)} entries", expected=f"at most {_MAX_PROFILES}")
    return {other: found.number(other, low, _MAX_RATIO) for other in found.data}


def _ratios_of(read: Reader) -> str | None:
    said = read.text("ratios_of", optional=True)
    if said not in (None, *RATIOS_OF):
        raise ProfileError(f"{read.where}.ratios_of is '{said[:80]}'", expected="one of: " + ", ".join(RATIOS_OF))
    return said


def _verified(read: Reader) -> bool | None:
    value = read.get("verified")
    if value is not None and not isinstance(value, bool):
        raise ProfileError(f"{read.where}.verified is {shown(value)}", expected="true, false or null")
    return value
