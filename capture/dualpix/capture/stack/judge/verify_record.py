"""What the record of a stack says: missing, changed and doubled files, the order of distances, gaps, orientation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from dualpix.capture.files import sha256_of_file
from dualpix.capture.stack.judge.verification import Finding, frames_text
from dualpix.capture.stack.keep.listing import ListedFrame, Listing
from dualpix.capture.stack.keep.orientation import flag_of

GAP_FACTOR = 1.5
"""A step this many times the planned one is a gap."""
LONE_GAP_FACTOR = 2.5
"""Without a plan: times the median of the sweep."""
_MOST_NAMED = 4


def record_findings(listing: Listing) -> Iterator[Finding]:
    """All of it, but what needs the pictures."""
    yield from _completeness(listing)
    yield from _digests(listing)
    if listing.has_distances:
        yield from _order(listing)
    else:
        yield _no_distances()
    yield from _orientation(listing)


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
        yield Finding("bad", "missing", f"{frames_text(missing)} of {len(planned)} planned missing", tuple(missing))
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
        return sha256_of_file(path)
    except OSError:  # missing: decoding says so
        return None
