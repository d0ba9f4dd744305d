"""The profiles of an export: times by number of threads, and the operators of each file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpix.capture.errors import DualpixError
from dualpix.export.profile.result import Profile, read_profiles
from dualpix.export.report.charts import roofline_chart, threads_chart
from dualpix.export.report.page import Chart, chart_of
from dualpix.export.report.text import number

PROFILE = "profile.json"
_SHOWN_OPERATORS = 15


def profiles_of(folder: Path, manifest: dict[str, Any]) -> tuple[Profile, ...]:
    """The profiles in ``profile.json`` of ``folder``, if there is one.

    Raises:
        DualpixError: it is damaged, or of files other than the manifest's.
    """
    path = folder / PROFILE
    if not path.is_file():
        return ()
    digests = {str(entry["file"]): entry["sha256"] for entry in manifest["artefacts"]}
    profiles = read_profiles(path)
    for profile in profiles:
        if profile.subject.sha256 and digests.get(profile.subject.file) != profile.subject.sha256:
            raise DualpixError(f"'{PROFILE}' is of another '{profile.subject.file}'", hint="profile again")
    return profiles


@dataclass(frozen=True)
class Speed:
    """The profiles as a table, and the thread sweep."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: str
    charts: tuple[Chart, ...]


def speed_of(profiles: tuple[Profile, ...]) -> Speed | None:
    """None without profiles."""
    if not profiles:
        return None
    others = tuple(dict.fromkeys(other for p in profiles for other in p.ratios))
    heads = ("Recipe", "Threads", "Load", "First", "p50", "p90", "p99", "Memory", "Arena")
    names = {p.subject.file: p.subject.recipe or p.subject.file for p in profiles}
    rows = []
    for p in profiles:
        times = (_three_digits(t) for t in (p.load_s, p.first_s, p.p50_s, p.p90_s, p.p99_s))
        peak = p.memory.peak_rss_bytes if p.memory.peak_rss_bytes is not None else p.memory.pss_bytes
        memory = (peak, p.memory.arena_bytes)
        ratios = (p.ratio_text(other) if other in p.ratios else "–" for other in others)
        cells = (*times, *(number(b, ".3g", 1e-6) for b in memory), *ratios)
        rows.append((names[p.subject.file], str(p.settings.threads), *cells))
    places = "; ".join(dict.fromkeys(p.target.text for p in profiles))
    kinds = " and ".join(dict.fromkeys(p.ratios_of or "wall time" for p in profiles if p.ratios))
    text = f"{places}; {profiles[0].settings.runs} runs in turn" + (f", ratios of {kinds}" if kinds else "")
    charts: tuple[Chart, ...] = ()
    if len({p.settings.threads for p in profiles}) > 1:
        charts = (chart_of(lambda theme: threads_chart(profiles, theme), "Latency against the number of threads"),)
    return Speed((*heads, *(f"× {names.get(other, other)}" for other in others)), tuple(rows), text, charts)


def _three_digits(seconds: float | None) -> str:
    """Milliseconds."""
    return number(seconds, ".0f" if (seconds or 0.0) >= 0.1 else ".3g", 1e3)


@dataclass(frozen=True)
class OperatorRow:
    """One operator, ready to print."""

    layer: str
    kernel: str
    source: str
    cells: tuple[str, ...]
    percent: float
    """Length of its bar."""


@dataclass(frozen=True)
class OperatorTable:
    """The operators of one file."""

    title: str
    text: str
    first: tuple[OperatorRow, ...]
    others: tuple[OperatorRow, ...]
    charts: tuple[Chart, ...]


def operator_table(profile: Profile) -> OperatorTable:
    """Of a profile that has operators; the slowest first."""
    operators = sorted(profile.operators or (), key=lambda o: -o.median_s)
    longest = max((o.median_s for o in operators), default=0.0) or 1.0
    peaks, trace = profile.peaks, profile.trace
    rows = []
    for o in operators:
        least = peaks.least_s(o) if peaks else None
        roof = "–" if least is None or not o.median_s else f"{least / o.median_s:.0%}"
        work = (number(o.macs, ".2f", 1e-6), number(o.bytes, ".3f", 1e-6))
        cells = (f"{o.median_s * 1e3:.3f}", f"{o.share:.1%}", *work, roof)
        rows.append(OperatorRow(o.module or f"({o.kind})", o.name, o.source or "", cells, 100 * o.median_s / longest))
    text = ""
    if trace:
        text = (
            f"{len(rows)} operators take {trace.operators_s * 1e3:.2f} ms of the {trace.total_s * 1e3:.2f} ms of one "
            f"execute event, {trace.coverage:.1%}."
        )
    charts: tuple[Chart, ...] = ()
    if peaks and any(o.macs for o in operators):
        charts = (chart_of(lambda theme: roofline_chart(operators, peaks, theme), "Roofline of the operators"),)
    title = f"{profile.subject.file}, {profile.settings.threads} thread(s)"
    return OperatorTable(title, text, tuple(rows[:_SHOWN_OPERATORS]), tuple(rows[_SHOWN_OPERATORS:]), charts)
