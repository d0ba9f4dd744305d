"""Is this sweep what it says it is? What the frames themselves tell of their order, their gaps, their light, motion.

Convention: see :mod:`.keep.frames`; sharpness as in :mod:`.sharpness`. A tile's sharpness over the focus of the frames
must rise to one peak and fall: the depth of a *valley*, where a frame is less sharp than frames on both sides of it, is
measured in the logarithm of sharpness, beyond three standard deviations of its noise. Where most tiles have a valley at
the same frame, that frame is not where it says; where the valleys vanish when two frames change places, those two were
exchanged. A sweep that is reversed as a whole cannot be told by sharpness. Where no distances are known, frames are
judged in the order in which they were taken, and steps, gaps and directions are not.

The verdict is ``bad`` where frames are missing, damaged, doubled or at a wrong distance, ``suspect`` where something
should be looked at before use, else ``good``; notes do not change it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.stack.judge.align import WORKING_SIDE_PX, Alignment, estimate_alignment
from dualpix.capture.stack.judge.verify_halves import Disparities, disparities, step_signs
from dualpix.capture.stack.keep.frames import DecodedFrame, decode_frame, reduced
from dualpix.capture.stack.keep.layouts import RAW_SUFFIXES
from dualpix.capture.stack.keep.listing import ListedFrame, Listing
from dualpix.capture.stack.keep.load import Light, exposure_drift, exposure_gains, light_of, read_listing
from dualpix.capture.stack.keep.orientation import flag_of
from dualpix.capture.stack.sharpness import gray_of, sharpness_with_error
from dualpix.capture.types import FloatImage

Severity = Literal["bad", "suspect", "note"]
Verdict = Literal["good", "suspect", "bad"]
Curves = npt.NDArray[np.float64]
"""(N, tiles) logarithm of sharpness, farthest frame first."""

ROWS, COLUMNS = 9, 12
DRIFT_SUSPECT, DRIFT_BAD = 0.03, 0.15
SHIFT_SUSPECT, SHIFT_BAD = 0.003, 0.03
"""Of the picture's width."""
GAP_FACTOR = 1.5
"""A step this many times the planned one is a gap."""
LONE_GAP_FACTOR = 2.5
"""Without a plan: times the median of the sweep."""
MIN_CONTRAST = 0.4
"""A tile tells something where its sharpness varies by this much, in the logarithm."""
MIN_TILES = 6
VALLEY = 0.08
"""Depth that counts, in the logarithm."""
VALLEY_SHARE = 0.5
"""Of the tiles that tell something."""
EXCHANGE_GAIN = 0.5
"""Share of all valleys that must vanish when two frames change places."""
EXCHANGE_VALLEY = 0.1
"""Mean depth of a tile's valleys from which places are questioned."""
SCALE_PX = 0.3
"""RMS over the picture: the change of scale from frame to frame that tells their order."""
UNMOVED = 0.03
"""Change of sharpness below which two frames look alike, in the logarithm."""
OPEN_SHARE = 0.5
"""Of tiles that are sharpest in the first or last frame."""
_MAX_SEARCHED = 48
_MOST_NAMED = 4
_SIGNIFICANT = 8.0


@dataclass(frozen=True)
class Finding:
    """Something to know."""

    severity: Severity
    code: str
    text: str
    frames: tuple[int, ...] = ()
    """Their indices."""


@dataclass(frozen=True)
class FrameCheck:
    """What was measured of a frame."""

    index: int
    file: str
    diopters: float | None
    """None where distances are not known."""
    uncertainty_d: float
    requested_d: float | None
    f_number: float | None
    drift: float
    """How much brighter than the farthest frame, relative."""
    shift_px: float
    """Of the picture's centre, at the size of the decoded frame, breathing taken out."""
    matched: bool
    valley: float
    """Median over the tiles of how much blurrier it is than frames on both sides, in the logarithm."""

    @property
    def sweep(self) -> float:
        """Where it stands in the sweep, rising: its diopters, else its index."""
        return float(self.index) if self.diopters is None else self.diopters

    @property
    def marked(self) -> str:
        """Where it says it is, for people."""
        return f"place {self.index}" if self.diopters is None else f"{self.diopters:.3f} D"


@dataclass(frozen=True)
class Sweep:
    """The frames of one aperture."""

    f_number: float | None
    checks: tuple[FrameCheck, ...]
    """Farthest first."""
    sharpness: npt.NDArray[np.float64]
    """(N, rows, columns)"""
    telling: npt.NDArray[np.bool_]
    """(rows, columns): tiles with enough texture."""
    peak_places: npt.NDArray[np.float64]
    """(rows, columns) where in :attr:`places` a tile is sharpest; NaN where it does not tell."""
    alignment: Alignment | None
    picture: FloatImage
    """(h, w, 3) the middle frame, reduced."""

    @property
    def has_distances(self) -> bool:
        """Whether it is known where the frames are focused."""
        return all(check.diopters is not None for check in self.checks)

    @property
    def places(self) -> npt.NDArray[np.float64]:
        """(N,) rising: diopters, or indices where distances are not known."""
        return np.array([check.sweep for check in self.checks])


@dataclass(frozen=True)
class Verification:
    """The answer."""

    folder: Path
    verdict: Verdict
    findings: tuple[Finding, ...]
    sweeps: tuple[Sweep, ...]
    frames: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "verdict": self.verdict,
            "frames": self.frames,
            "findings": [
                {"severity": f.severity, "code": f.code, "text": f.text, "frames": list(f.frames)}
                for f in self.findings
            ],
            "sweeps": [_sweep_json(sweep) for sweep in self.sweeps],
        }


Progress = Callable[[int, int, str], None]


def verify(folder: Path, on_progress: Progress | None = None) -> Verification:
    """Check a stack.

    Args:
        folder: of a capture, or any layout that is read.
        on_progress: called with (done, total, file) for each frame.

    Raises:
        DualpixError: there is no stack. Damaged frames are findings, no errors.
    """
    return verify_listing(read_listing(folder), on_progress)


def verify_listing(listing: Listing, on_progress: Progress | None = None) -> Verification:
    """As :func:`verify`, of frames that were listed before."""
    findings = [*_completeness(listing), *_digests(listing)]
    findings += _order(listing) if listing.has_distances else [_no_distances()]
    findings += _orientation(listing)
    decoded = _Decoder(listing, on_progress)
    sweeps = []
    for f_number in listing.f_numbers:
        sweep, found = _check_sweep(listing.at_aperture(f_number), decoded)
        findings += found
        sweeps += [sweep] if sweep else []
    findings += decoded.failures
    findings += _sharp_frame(listing, decoded, sweeps)
    ordered = sorted(_merged(findings), key=lambda f: ("bad", "suspect", "note").index(f.severity))
    return Verification(listing.folder, _verdict(ordered), tuple(ordered), tuple(sweeps), len(listing.frames))


def _verdict(findings: Sequence[Finding]) -> Verdict:
    severities = {finding.severity for finding in findings}
    return "bad" if "bad" in severities else "suspect" if "suspect" in severities else "good"


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """Each finding once, as apertures share their gaps, and one note of a kind."""
    once: dict[Any, Finding] = {}
    for finding in findings:
        once.setdefault(finding.code if finding.severity == "note" else finding, finding)
    return list(once.values())


# --- what the record says -----------------------------------------------------------------------------------------


def _completeness(listing: Listing) -> Iterator[Finding]:
    record = listing.record
    if record is None:
        return
    planned = [frame for frame in record.plan.get("frames", ()) if isinstance(frame, dict)]
    there = {frame.index for frame in record.frames}
    missing = [
        frame["index"] for frame in planned if isinstance(frame.get("index"), int) and frame["index"] not in there
    ]
    if missing:
        yield Finding("bad", "missing", f"{_frames(missing)} of {len(planned)} planned missing", tuple(missing))
    elif not record.complete:
        yield Finding("bad", "incomplete", "the capture was stopped before it was complete")
    for frame in record.frames:
        if frame.status != "good":
            why = ", ".join(frame.notes) or "no reason given"
            yield Finding(
                "suspect", "noted", f"frame {frame.index} was marked when it was taken: {why}", (frame.index,)
            )
        if not frame.settled:
            yield Finding("suspect", "unsettled", f"frame {frame.index} was taken before it settled", (frame.index,))


def _no_distances() -> Finding:
    text = "nothing says where the frames are focused: steps and gaps are not checked, and depth has no metres"
    return Finding("note", "distances", text)


def _orientation(listing: Listing) -> Iterator[Finding]:
    turned = [frame for frame in listing.frames if frame.orientation is not None]
    if turned:
        named = ", ".join(f"frame {frame.index} ('{frame.name}') as {flag_of(frame)}" for frame in turned[:_MOST_NAMED])
        text = f"orientation flags differ, {named}{', ...' if len(turned) > _MOST_NAMED else ''}; their samples lie as "
        text += f"those of the rest: {turned[0].orientation} is taken"
        yield Finding("note", "orientation", text, tuple(frame.index for frame in turned))


def _order(listing: Listing) -> Iterator[Finding]:
    """Distances in the order of taking, apertures apart."""
    for f_number in listing.f_numbers:
        frames = sorted(
            (f for f in listing.frames if f.role == "focus" and f.f_number == f_number), key=lambda f: f.index
        )
        rising = sum(b.sweep > a.sweep for a, b in pairwise(frames)) * 2 >= len(frames) - 1
        for first, then in pairwise(frames):
            step = (then.sweep - first.sweep) * (1 if rising else -1)
            if step <= 0:
                text = f"frame {then.index} at {then.sweep:.3f} D was taken after frame {first.index} at "
                text += f"{first.sweep:.3f} D, against the direction of the sweep"
                yield Finding("suspect", "order", text, (first.index, then.index))
            elif step < 2 * math.hypot(first.uncertainty_d, then.uncertainty_d):
                text = f"frames {first.index} and {then.index} are {step:.3f} D apart, within their uncertainty"
                yield Finding("suspect", "uncertain", text, (first.index, then.index))
        yield from _gaps(sorted(frames, key=lambda f: f.sweep))


def _gaps(frames: Sequence[ListedFrame]) -> Iterator[Finding]:
    steps = [near.sweep - far.sweep for far, near in pairwise(frames)]
    usual = float(np.median(steps)) if steps else 0.0
    for (far, near), step in zip(pairwise(frames), steps, strict=True):
        error = 2 * math.hypot(far.uncertainty_d, near.uncertainty_d)
        if far.requested_d is not None and near.requested_d is not None:
            allowed, against = GAP_FACTOR * (near.requested_d - far.requested_d) + error, "planned"
            wanted = near.requested_d - far.requested_d
        else:
            allowed, against, wanted = LONE_GAP_FACTOR * usual + error, "usual", usual
        if wanted > 0 and step > allowed and len(steps) > 2:
            text = f"a step of {step:.3f} D between frames {far.index} and {near.index}, {wanted:.3f} D {against}"
            yield Finding("suspect", "gap", text, (far.index, near.index))


def _digests(listing: Listing) -> Iterator[Finding]:
    """Files that changed since they were taken, and files that are there twice."""
    if listing.record is None:
        return
    seen: dict[str, int] = {}
    for frame in listing.record.frames:
        for name, digest in zip(frame.files, frame.sha256, strict=True):
            if digest in seen:
                text = f"frames {seen[digest]} and {frame.index} are the same file"
                yield Finding("bad", "duplicate", text, (seen[digest], frame.index))
            seen.setdefault(digest, frame.index)
            found = _digest_of(listing.folder / name)
            if found is not None and found != digest:
                text = f"'{name}' of frame {frame.index} is not the file that was recorded"
                yield Finding("bad", "changed", text, (frame.index,))


def _digest_of(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # missing: decoding says so
        return None


# --- what the pictures say ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """What is kept of a decoded frame."""

    listed: ListedFrame
    sharpness: npt.NDArray[np.float64]
    error: npt.NDArray[np.float64]
    light: Light
    small: FloatImage
    """(h, w, 3)"""
    width_px: int
    digest: bytes
    halves: Disparities | None = None


class _Decoder:
    """Decodes each frame once and keeps what is needed of it."""

    def __init__(self, listing: Listing, on_progress: Progress | None) -> None:
        self.failures: list[Finding] = []
        self._tell = on_progress or (lambda done, total, text: None)
        self._done, self._total = 0, len(listing.frames)

    def look(self, frame: ListedFrame) -> _Seen | None:
        """None, and a failure, where it cannot be decoded."""
        self._done += 1
        self._tell(self._done, self._total, frame.name)
        try:
            own = frame.path.suffix.lower() in RAW_SUFFIXES and frame.orientation is None
            halves = disparities(frame.path) if own else None
            return _seen(frame, decode_frame(frame), halves)
        except (DecodeError, ValueError) as error:
            self.failures.append(Finding("bad", "damaged", f"frame {frame.index}: {error}", (frame.index,)))
            return None


def _seen(frame: ListedFrame, decoded: DecodedFrame, halves: Disparities | None) -> _Seen:
    sharpness, error = sharpness_with_error(decoded.image, ROWS, COLUMNS)
    small = reduced(decoded, WORKING_SIDE_PX).image
    digest = hashlib.sha256(decoded.image.tobytes()).digest()
    return _Seen(frame, sharpness, error, light_of(frame, decoded), small, decoded.image.shape[1], digest, halves)


def _check_sweep(frames: Sequence[ListedFrame], decoder: _Decoder) -> tuple[Sweep | None, list[Finding]]:
    looked = [found for frame in frames if (found := decoder.look(frame)) is not None]
    usual = Counter(seen.small.shape for seen in looked).most_common(1)
    seen = [s for s in looked if s.small.shape == usual[0][0]] if usual else []
    findings: list[Finding] = [_odd_size(s) for s in looked if s.small.shape != usual[0][0]]
    if len(seen) < 2:
        return None, [*findings, Finding("bad", "few", f"{len(seen)} readable focus frames, two are the least")]
    alignment = _alignment(seen)
    curves, telling = _curves(seen)
    valleys = np.median(valley_depths(curves), axis=1) if curves.size else np.zeros(len(seen))
    drift = [exposure_drift(seen[0].light, s.light) for s in seen]
    checks = tuple(_frame_check(seen, alignment, drift, valleys, number) for number in range(len(seen)))
    peaks = np.full(telling.shape, np.nan)
    peaks[telling] = peak_places(curves, np.array([check.sweep for check in checks]))
    sweep = Sweep(
        f_number=seen[0].listed.f_number,
        checks=checks,
        sharpness=np.stack([s.sharpness for s in seen]),
        telling=telling,
        peak_places=peaks,
        alignment=alignment,
        picture=seen[len(seen) // 2].small,
    )
    findings += [*_repeats(seen, curves), *_places(sweep, curves), *_scales(sweep), *_halves(seen)]
    return sweep, [*findings, *_motion(sweep, seen[0].width_px), *_light(checks), *_coverage(sweep, curves)]


def _odd_size(seen: _Seen) -> Finding:
    height, width = seen.small.shape[:2]
    text = f"frame {seen.listed.index} has another size than the rest: {width}x{height}"
    return Finding("bad", "size", text, (seen.listed.index,))


def _alignment(seen: Sequence[_Seen]) -> Alignment | None:
    gains = exposure_gains([s.light for s in seen])
    grays = np.stack([gray_of(s.small) * np.float32(gain) for s, gain in zip(seen, gains, strict=True)])
    try:
        known = all(s.listed.diopters is not None for s in seen)
        return estimate_alignment(grays, [s.listed.sweep for s in seen], metric=known)
    except DualpixError:  # tiny pictures
        return None


def _curves(seen: Sequence[_Seen]) -> tuple[Curves, npt.NDArray[np.bool_]]:
    """Logarithms of the tiles that tell something, and which these are."""
    sharpness, error = (np.stack([getattr(s, name) for s in seen]) for name in ("sharpness", "error"))
    floor = np.maximum(3 * error, 1e-12)
    curves = np.log(np.maximum(sharpness, floor))
    strong = (sharpness > _SIGNIFICANT * error).any(axis=0)
    telling = strong & (np.ptp(curves, axis=0) > MIN_CONTRAST)
    return curves[:, telling], np.asarray(telling)


def valley_depths(curves: Curves) -> Curves:
    """(N, tiles): how far each frame lies below the sharpest frames on both sides, in the logarithm, >= 0."""
    if len(curves) < 3:
        return np.zeros_like(curves)
    before = np.maximum.accumulate(curves, axis=0)
    after = np.maximum.accumulate(curves[::-1], axis=0)[::-1]
    depths = np.zeros_like(curves)
    depths[1:-1] = np.maximum(np.minimum(before[:-2], after[2:]) - curves[1:-1], 0.0)
    return depths


def peak_places(curves: Curves, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(tiles,) place of the peak: of the parabola through the logarithms of the sharpest frame and its neighbours."""
    best = np.argmax(curves, axis=0)
    peaks = np.array(places[best], np.float64)
    for tile in np.flatnonzero((best > 0) & (best < len(curves) - 1)):
        three = slice(best[tile] - 1, best[tile] + 2)
        a, b, _ = np.polyfit(places[three] - places[best[tile]], curves[three, tile], 2)
        if a < 0:
            peaks[tile] += float(np.clip(-b / (2 * a), *(places[three][[0, 2]] - places[best[tile]])))
    return peaks


def _frame_check(
    seen: Sequence[_Seen],
    alignment: Alignment | None,
    drift: Sequence[float],
    valleys: npt.NDArray[np.float64],
    number: int,
) -> FrameCheck:
    listed = seen[number].listed
    enlarged = seen[number].width_px / seen[number].small.shape[1]
    shift = 0.0 if alignment is None else float(np.hypot(*alignment.shift_px[number])) * enlarged
    return FrameCheck(
        index=listed.index,
        file=listed.name,
        diopters=listed.diopters,
        uncertainty_d=listed.uncertainty_d,
        requested_d=listed.requested_d,
        f_number=listed.f_number,
        drift=drift[number],
        shift_px=shift,
        matched=alignment is not None and alignment.trusted[number],
        valley=float(valleys[number]),
    )


def _repeats(seen: Sequence[_Seen], curves: Curves) -> Iterator[Finding]:
    """Frames that are one and the same picture, or look as if the lens had not moved between them."""
    changes = np.median(np.abs(np.diff(curves, axis=0)), axis=1) if curves.shape[1] >= MIN_TILES else None
    for number, (first, then) in enumerate(pairwise(seen)):
        pair = first.listed.index, then.listed.index
        if first.digest == then.digest:
            yield Finding("bad", "duplicate", f"frames {pair[0]} and {pair[1]} are the same picture", pair)
        elif changes is not None and changes[number] < min(UNMOVED, 0.2 * float(np.median(changes))):
            text = f"frames {pair[0]} and {pair[1]} are equally sharp everywhere: the lens may not have moved"
            yield Finding("suspect", "unmoved", text, pair)


def _places(sweep: Sweep, curves: Curves) -> Iterator[Finding]:
    """Frames that are not where they say."""
    checks = sweep.checks
    if curves.shape[1] < MIN_TILES:
        text = f"{curves.shape[1]} of {sweep.telling.size} tiles have texture: order and distances cannot be checked"
        yield Finding("suspect", "texture", text)
        return
    wrong = _best_order(curves)
    if wrong is not None:
        named = wrong.frames if wrong.kind == "exchange" else wrong.frames[:1]
        indices = tuple(checks[number].index for number in named)
        yield Finding("bad", "exchanged" if wrong.kind == "exchange" else "misplaced", wrong.text(checks), indices)
        return
    share = np.mean(valley_depths(curves) > VALLEY, axis=1)
    for check, many in zip(checks, share, strict=True):
        if many > VALLEY_SHARE:
            text = f"frame {check.index} at {check.marked} is blurrier than frames on both sides of it in "
            text += f"{many:.0%} of the tiles: shaken, or at another distance"
            yield Finding("suspect", "blurred", text, (check.index,))


@dataclass(frozen=True)
class _Wrong:
    kind: Literal["exchange", "move"]
    frames: tuple[int, ...]
    """Places in the sweep: the two, or the one and the one before which it belongs."""

    def text(self, checks: Sequence[FrameCheck]) -> str:
        """For people."""
        first = checks[self.frames[0]]
        if self.kind == "exchange":
            then = checks[self.frames[1]]
            return f"frames {first.index} and {then.index} look exchanged: {first.marked} and {then.marked}"
        place = self.frames[1]
        ends = ("farthest", "nearest") if first.diopters is not None else ("first", "last")
        where = ends[0] if place == 0 else ends[1] if place == len(checks) else None
        between = where or f"between {checks[place - 1].marked.removesuffix(' D')} and {checks[place].marked}"
        return f"frame {first.index} is marked {first.marked}, by its sharpness it belongs {between}"


def _best_order(curves: Curves) -> _Wrong | None:
    """The one exchange or move of frames that explains most valleys; None where the order as it is does well."""
    count = len(curves)
    now = _cost(curves)
    if now < EXCHANGE_VALLEY or not 4 <= count <= _MAX_SEARCHED:
        return None
    tries = [(_cost(curves[order]), wrong) for order, wrong in _orders(count)]
    best, wrong = min(tries, key=lambda t: t[0])
    return wrong if best < (1 - EXCHANGE_GAIN) * now else None


def _orders(count: int) -> Iterator[tuple[list[int], _Wrong]]:
    for first, then in combinations(range(count), 2):
        order = list(range(count))
        order[first], order[then] = then, first
        yield order, _Wrong("exchange", (first, then))
    for frame in range(count):
        rest = [number for number in range(count) if number != frame]
        for place in range(count):
            if abs(place - frame) > 1:  # a move by one is an exchange
                before = rest[place] if place < len(rest) else count
                yield [*rest[:place], frame, *rest[place:]], _Wrong("move", (frame, before))


def _cost(curves: Curves) -> float:
    """Mean over tiles of the valleys that count, each tile's limited: few tiles must not decide."""
    depths = valley_depths(curves)
    return float(np.mean(np.minimum(np.where(depths > VALLEY, depths, 0.0).sum(axis=0), 2.0)))


def _scales(sweep: Sweep) -> Iterator[Finding]:
    """Frames whose scale is that of another focus, where breathing is strong enough to tell."""
    alignment = sweep.alignment
    if alignment is None or len(sweep.checks) < 4 or not sweep.has_distances:
        return
    focus = sweep.places
    scales = np.where(alignment.trusted, alignment.scales, np.nan)
    slope, offset = robust_line(focus, scales)
    radius = math.hypot(*alignment.size_hw) / math.sqrt(12.0)
    off_px = np.abs(scales - slope * focus - offset) * radius
    step_px = abs(slope) * float(np.median(np.diff(focus))) * radius
    far_off = off_px > 0.75 * step_px
    if step_px < SCALE_PX or not np.nanmax(off_px[~far_off], initial=0.0) < 0.35 * step_px:
        return  # it breathes too little, or not evenly
    for check, wrong, scale in zip(sweep.checks, far_off, scales, strict=True):
        if wrong:
            text = f"frame {check.index} is marked {check.marked}, by its scale it is at about "
            yield Finding("bad", "scale", f"{text}{(scale - offset) / slope:.2f} D", (check.index,))


def robust_line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset after Theil and Sen: medians over all pairs, which a few wrong frames do not move."""
    pairs = [(a, b) for a, b in combinations(range(len(x)), 2) if x[b] != x[a] and np.isfinite(y[a] + y[b])]
    if not pairs:
        return 0.0, 0.0
    slope = float(np.median([(y[b] - y[a]) / (x[b] - x[a]) for a, b in pairs]))
    return slope, float(np.nanmedian(y - slope * x))


def _halves(seen: Sequence[_Seen]) -> Iterator[Finding]:
    """Neighbours whose disparity runs against their focus."""
    known = [(s.listed, s.halves) for s in seen if s.halves is not None]
    if len(known) < len(seen) or any(listed.diopters is None for listed, _ in known):
        return
    signs = step_signs([halves for _, halves in known])
    falling, rising = signs.count(-1), signs.count(1)
    if falling > rising + 1:
        text = "the disparity of the halves falls as the focus comes nearer: distances are reversed, or left is right"
        yield Finding("suspect", "reversed", text)
        return
    for ((first, _), (then, _)), sign in zip(pairwise(known), signs, strict=True):
        if sign < 0 and rising > 2 * falling:
            text = f"frames {first.index} and {then.index}, {first.sweep:.3f} and {then.sweep:.3f} D, are in the "
            yield Finding(
                "bad", "halves", text + "wrong order by the disparity of their halves", (first.index, then.index)
            )


def _motion(sweep: Sweep, width_px: int) -> Iterator[Finding]:
    if sweep.alignment is None:
        return
    lost = [check.index for check in sweep.checks if not check.matched]
    if lost:
        yield Finding("suspect", "unmatched", f"{_frames(lost)} could not be matched with the neighbours", tuple(lost))
    shifts = np.array([check.shift_px for check in sweep.checks]) / width_px
    worst = sweep.checks[int(np.argmax(shifts))]
    if shifts.max() > SHIFT_SUSPECT:
        severity: Severity = "bad" if shifts.max() > SHIFT_BAD else "suspect"
        text = f"the camera moved by up to {worst.shift_px:.1f} px (frame {worst.index}): use dualpix capture align"
        yield Finding(severity, "motion", text, (worst.index,))
    corner = sweep.alignment.breathing_px * width_px / sweep.alignment.size_hw[1]
    if corner > 1:
        unit = "diopter" if sweep.has_distances else "frame"
        text = f"focus breathing of {100 * sweep.alignment.beta:.2f} % per {unit} moves the corners by {corner:.1f} px"
        yield Finding("note", "breathing", text + ": use dualpix capture align")


def light_trend(checks: Sequence[FrameCheck]) -> npt.NDArray[np.float64]:
    """(N,) drift that goes with the focus: a lens that is racked out, to focus near, gives less light."""
    focus = np.array([check.sweep for check in checks])
    light = np.log1p([check.drift for check in checks])
    slope, offset = robust_line(focus, light) if len(checks) > 3 else (0.0, 0.0)
    return np.expm1(slope * focus + offset)


def _light(checks: Sequence[FrameCheck]) -> Iterator[Finding]:
    trend = light_trend(checks)
    off = np.array([check.drift for check in checks]) - trend
    worst = int(np.argmax(np.abs(off)))
    if abs(off[worst]) > DRIFT_SUSPECT:
        many = tuple(check.index for check, o in zip(checks, off, strict=True) if abs(o) > DRIFT_SUSPECT)
        severity: Severity = "bad" if abs(off[worst]) > DRIFT_BAD else "suspect"
        text = f"exposure varies: frame {checks[worst].index} is {100 * off[worst]:+.1f} % beside the others"
        yield Finding(severity, "exposure", text, many)
    change = (1 + trend[-1]) / (1 + trend[0]) - 1
    if abs(change) > DRIFT_SUSPECT:
        ends = "far end to the near" if checks[0].diopters is not None else "first frame to the last"
        yield Finding("note", "light", f"light changes evenly by {100 * change:+.1f} % from the {ends} one")


def _coverage(sweep: Sweep, curves: Curves) -> Iterator[Finding]:
    if curves.shape[1] < MIN_TILES:
        return
    best = np.argmax(curves, axis=0)
    ends = ((0, "farthest", "farther"), (len(curves) - 1, "nearest", "nearer"))
    if not sweep.has_distances:
        ends = ((0, "first", "before it"), (len(curves) - 1, "last", "behind it"))
    for end, word, beyond in ends:
        share = float(np.mean(best == end))
        if share > OPEN_SHARE:
            check = sweep.checks[end]
            text = f"{share:.0%} of the tiles are sharpest in the {word} frame, at {check.marked}: "
            yield Finding("note", "open", f"{text}part of the scene may be {beyond}", (check.index,))


def _sharp_frame(listing: Listing, decoder: _Decoder, sweeps: Sequence[Sweep]) -> Iterator[Finding]:
    """The all-in-focus frame must be about as sharp as the sharpest focus frame, tile by tile."""
    frame = listing.all_in_focus
    if frame is None or not sweeps:
        return
    seen = decoder.look(frame)
    if seen is None:
        yield from decoder.failures[-1:]
        return
    sweep = sweeps[-1]
    peak = sweep.sharpness.max(axis=0)
    if not sweep.telling.any():
        return
    blurred = float(np.mean(seen.sharpness[sweep.telling] < 0.15 * peak[sweep.telling]))
    if blurred > 1 / 3:
        text = f"the all-in-focus frame {frame.index} is blurred in {blurred:.0%} of the tiles"
        yield Finding("note", "all_in_focus", text, (frame.index,))


def _frames(indices: Sequence[int]) -> str:
    shown = ", ".join(str(index) for index in indices[:8]) + (", ..." if len(indices) > 8 else "")
    return f"frame{'s' * (len(indices) > 1)} {shown}"


def _sweep_json(sweep: Sweep) -> dict[str, Any]:
    alignment = sweep.alignment
    return {
        "f_number": sweep.f_number,
        "tiles": {"rows": ROWS, "columns": COLUMNS, "telling": int(sweep.telling.sum())},
        "breathing": None if alignment is None else alignment.breathing(),
        "distances": sweep.has_distances,
        "peak_d" if sweep.has_distances else "peak_frame": [
            [None if math.isnan(v) else round(float(v), 4) for v in row] for row in sweep.peak_places
        ],
        "frames": [
            {
                "index": check.index,
                "file": check.file,
                "diopters": check.diopters,
                "uncertainty_d": None if math.isnan(check.uncertainty_d) else check.uncertainty_d,
                "requested_d": check.requested_d,
                "exposure_drift": round(check.drift, 5),
                "shift_px": round(check.shift_px, 3),
                "matched": check.matched,
                "valley": round(check.valley, 4),
                "sharpness": [[float(f"{v:.4g}") for v in row] for row in tiles],
            }
            for check, tiles in zip(sweep.checks, sweep.sharpness, strict=True)
        ],
    }
