"""What must hold for any input at all: a capture that keeps its promises, or one line that says why not."""

from __future__ import annotations

import json
import re
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.fuzz.case import Case

from dualpix.capture.errors import DualpixError
from dualpix.capture.raw import RawCapture, decode_capture
from dualpix.capture.raw.inspect import inspect
from dualpix.capture.raw.write.metadata import exif_block, exif_tags, picture_tags, pitch_xy_um

MAX_MESSAGE = 500
BAD = ("failed", "died", "hung")
"""Results that no input may have."""
# A refusal for lack of memory means that somebody asked for it.
_MEMORY = re.compile(r"(of|enough) memory|(unable to|cannot) allocate|bad_alloc|MemoryError", re.I)


@dataclass(frozen=True)
class Outcome:
    """What became of one input."""

    result: str
    """ "decoded" or "read", "refused" or "failed"; "died" and "hung" where the process that tried cannot say more."""
    reason: str = ""
    """The refusal without names and numbers, or where and how it failed."""
    detail: str = ""
    """Message or traceback."""


def check(case: Case, folder: Path) -> Outcome:
    """Decode and inspect a case whose files lie in ``folder``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # a division by zero, a cast of NaN: nobody meant it
            outcome = _decoded(case, folder)
            _inspected(case, folder)
        return outcome
    except Exception as error:  # the very thing that is looked for
        return Outcome("failed", where(error), traceback.format_exc())


def _decoded(case: Case, folder: Path) -> Outcome:
    try:
        capture = decode_capture(folder / case.main, **case.arguments(folder))
        _check_capture(capture)
    except DualpixError as error:
        check_message(str(error))
        return Outcome("refused", class_of(error.found), str(error))
    return Outcome("decoded", capture.decoder)


def _inspected(case: Case, folder: Path) -> None:
    arguments = (
        {key: value for key, value in case.arguments(folder).items() if key in ("right", "sub", "dump")}
        if _possible(case)
        else {}
    )
    try:
        answer = inspect(folder / case.main, levels=True, **arguments)
    except DualpixError as error:
        check_message(str(error))
        return
    for text in (answer.why, answer.decode, answer.format, answer.broken or ""):
        check_message(text)
    json.dumps(answer.to_json(), allow_nan=False)


def _possible(case: Case) -> bool:
    try:
        case.arguments(Path())
    except DualpixError:
        return False
    return True


def _check_capture(capture: RawCapture) -> None:
    """Views, mask, frames and metadata have the promised form."""
    for name in ("left", "right", "combined"):
        view = capture.view(name)
        _must(view.shape == capture.shape and view.dtype == np.float32, f"view {name} is {view.shape} {view.dtype}")
        _must(bool(np.isfinite(view).all()), f"view {name} is not finite")
    mask = capture.saturated
    _must(mask.shape == capture.size_hw and mask.dtype == np.bool_, f"mask is {mask.shape} {mask.dtype}")
    frames = capture.frames()
    _must(all(frame.size for frame in frames.values()), "an empty frame")
    capture.noise()
    meta = capture.meta
    for text in (meta.camera, meta.lens_model, *capture.warnings, *meta.provenance.values()):
        check_message(text or "")
    json.dumps([meta.to_json(), dict(capture.details)], allow_nan=False).encode()
    exif_block(picture_tags(meta, ""), exif_tags(meta, pitch_xy_um(meta, capture.baseline)))


def check_message(text: str) -> None:
    """One printable line of moderate length, and no word of memory."""
    _must(text.isprintable() and len(text) <= MAX_MESSAGE, f"message of {len(text)} characters: {text!a}")
    _must(not _MEMORY.search(text), f"ran out of memory: {text!a}")


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def class_of(message: str) -> str:
    """A message without names and numbers: what inputs with one reason have in common."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "…", message)
    return re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?|\bnan\b|\binf\b", "N", text)[:120]


def where(error: Exception) -> str:
    """Type and the innermost line of ours: equal for inputs that fail in one place."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "dualpix" in frame.filename] or list(frames)
    place = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
    return f"{type(error).__name__} in {place}: {class_of(str(error))}"
