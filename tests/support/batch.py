"""Work for batches that misbehaves in real ways, picklable for other processes."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.halves import CROP, sensor_frames

from dualpix.capture.errors import UnknownNameError
from dualpix.capture.files import atomic_dir, write_json
from dualpix.capture.raw.batch.inputs import Job
from dualpix.capture.raw.write.dng import write_dual_pixel_dng

SIDECAR = "decode.json"


def write_shots(folder: Path, count: int) -> list[Path]:
    """Small dual-pixel DNGs ``IMG_00.DNG``..., all different."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = sensor_frames()
    paths = [folder / f"IMG_{number:02}.DNG" for number in range(count)]
    for number, path in enumerate(paths):
        composite = (truth.composite + np.uint16(number)).astype(np.uint16)
        write_dual_pixel_dng(path, composite, truth.half, white=16383, crop=CROP)
    return paths


@dataclass(frozen=True)
class Note:
    """Writes a result that says who did it; what it does besides is in the file, one word."""

    seconds: float = 0.0

    def __call__(self, job: Job) -> dict[str, Any]:
        """The content of the sidecar."""
        word = job.path.read_text()
        with atomic_dir(job.folder, SIDECAR) as folder:
            (folder / "half.txt").write_text("half a result")
            _misbehave(word, job)
            time.sleep(self.seconds)
            record = {"pid": os.getpid(), "threads": _threads(), "request": job.request and dict(job.request)}
            write_json(folder / SIDECAR, record)
        return record


def _threads() -> list[Any]:
    import cv2

    return [os.environ.get("OMP_NUM_THREADS"), cv2.getNumThreads()]


def _misbehave(word: str, job: Job) -> None:
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "crash once":
        job.path.write_text("well")
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "refuse":
        raise UnknownNameError("word", word, ["well"])
    if word == "bug":
        json.loads("{")
    if word == "memory":
        raise MemoryError
