"""A focus stack as depth is found in it: read, aligned, and with what is known of its scene.

Convention: depth and truth are of the reference picture, which the other frames are aligned to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dualpix.capture.cameras.sim.truth import simulated_depth_m
from dualpix.capture.files import parse_json
from dualpix.capture.stack.judge.align import Alignment, align_stack
from dualpix.capture.stack.keep.load import ALIGNED, ALIGNMENT, load_stack, read_listing
from dualpix.capture.types import FloatImage, FocusStack


@dataclass(frozen=True)
class AlignedStack:
    """Frames that lie alike."""

    stack: FocusStack
    alignment: Alignment | None
    """That was found just now; None where ``dualpix capture align`` had."""
    reference_d: float | None
    """Focus of the picture that the others are aligned to, in diopters; None where no focus is known."""


def read_aligned(folder: Path, f_number: float | None = None) -> AlignedStack:
    """The stack of a folder; what ``dualpix capture align`` has not aligned is aligned here.

    Raises:
        DualpixError: the folder is no stack, or a frame is damaged or belongs to another one.
    """
    stack = load_stack(folder, f_number)
    made = folder / ALIGNED / ALIGNMENT
    if made.is_file():
        return AlignedStack(stack, None, _reference_of(made))
    aligned, alignment = align_stack(stack)
    known = alignment.diopters[alignment.reference] if alignment.metric else None
    return AlignedStack(aligned, alignment, known)


def simulated_truth(folder: Path, read: AlignedStack) -> FloatImage | None:
    """(H, W) depth in m of the scene that a simulated camera photographed; None of any other stack."""
    record = read_listing(folder).record
    if record is None or read.reference_d is None:
        return None
    depth = simulated_depth_m(record.camera, read.reference_d)
    return depth if depth is not None and depth.shape == read.stack.frames.shape[1:3] else None


def _reference_of(path: Path) -> float | None:
    """``load_stack`` has seen that the file belongs to the stack; it need not say more."""
    content = parse_json(path.read_bytes(), "it", ALIGNMENT)
    try:
        return float(content["frames"][content["reference"]]["diopters"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None
