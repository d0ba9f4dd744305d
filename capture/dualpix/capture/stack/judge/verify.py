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

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualpix.capture.stack.judge.verification import Finding, Verdict, Verification
from dualpix.capture.stack.judge.verify_pictures import check_sweep, sharp_frame_findings
from dualpix.capture.stack.judge.verify_record import record_findings
from dualpix.capture.stack.judge.verify_seen import Decoder, Progress
from dualpix.capture.stack.keep.listing import Listing
from dualpix.capture.stack.keep.load import read_listing


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
    findings = [*record_findings(listing)]
    decoded = Decoder(listing, on_progress)
    sweeps = []
    for f_number in listing.f_numbers:
        sweep, found = check_sweep(listing.at_aperture(f_number), decoded)
        findings += found
        sweeps += [sweep] if sweep else []
    findings += decoded.failures
    findings += sharp_frame_findings(listing, decoded, sweeps)
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
