"""What the pictures of a sweep say: places, scale, halves, motion, light, coverage."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.judge.align import Alignment, estimate_alignment
from dualpix.capture.stack.judge.verification import Finding, FrameCheck, Severity, Sweep, frames_text
from dualpix.capture.stack.judge.verify_curves import (
    VALLEY,
    Curves,
    best_order,
    peak_places,
    robust_line,
    valley_depths,
)
from dualpix.capture.stack.judge.verify_halves import step_signs
from dualpix.capture.stack.judge.verify_seen import Decoder, Seen
from dualpix.capture.stack.keep.listing import ListedFrame, Listing
from dualpix.capture.stack.keep.load import exposure_drift, exposure_gains
from dualpix.capture.stack.sharpness import gray_of

DRIFT_SUSPECT, DRIFT_BAD = 0.03, 0.15
SHIFT_SUSPECT, SHIFT_BAD = 0.003, 0.03
"""Of the picture's width."""
MIN_CONTRAST = 0.4
"""A tile tells something where its sharpness varies by this much, in the logarithm."""
_SIGNIFICANT = 8.0
MIN_TILES = 6
VALLEY_SHARE = 0.5
"""Of the tiles that tell something."""
SCALE_PX = 0.3
"""RMS over the picture: the change of scale from frame to frame that tells their order."""
UNMOVED = 0.03
"""Change of sharpness below which two frames look alike, in the logarithm."""
OPEN_SHARE = 0.5
"""Of tiles that are sharpest in the first or last frame."""


def check_sweep(frames: Sequence[ListedFrame], decoder: Decoder) -> tuple[Sweep | None, list[Finding]]:
    """The frames of one aperture, measured, and what is to be said of them; None where too few can be read."""
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


def _odd_size(seen: Seen) -> Finding:
    height, width = seen.small.shape[:2]
    text = f"frame {seen.listed.index} has another size than the rest: {width}x{height}"
    return Finding("bad", "size", text, (seen.listed.index,))


def _alignment(seen: Sequence[Seen]) -> Alignment | None:
    gains = exposure_gains([s.light for s in seen])
    grays = np.stack([gray_of(s.small) * np.float32(gain) for s, gain in zip(seen, gains, strict=True)])
    try:
        known = all(s.listed.diopters is not None for s in seen)
        return estimate_alignment(grays, [s.listed.sweep for s in seen], metric=known)
    except DualpixError:  # tiny pictures
        return None


def _curves(seen: Sequence[Seen]) -> tuple[Curves, npt.NDArray[np.bool_]]:
    """Logarithms of the tiles that tell something, and which these are."""
    sharpness, error = (np.stack([getattr(s, name) for s in seen]) for name in ("sharpness", "error"))
    floor = np.maximum(3 * error, 1e-12)
    curves = np.log(np.maximum(sharpness, floor))
    strong = (sharpness > _SIGNIFICANT * error).any(axis=0)
    telling = strong & (np.ptp(curves, axis=0) > MIN_CONTRAST)
    return curves[:, telling], np.asarray(telling)


def _frame_check(
    seen: Sequence[Seen],
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


def _repeats(seen: Sequence[Seen], curves: Curves) -> Iterator[Finding]:
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
    wrong = best_order(curves)
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


def _halves(seen: Sequence[Seen]) -> Iterator[Finding]:
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
        yield Finding(
            "suspect", "unmatched", f"{frames_text(lost)} could not be matched with the neighbours", tuple(lost)
        )
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


def sharp_frame_findings(listing: Listing, decoder: Decoder, sweeps: Sequence[Sweep]) -> Iterator[Finding]:
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
