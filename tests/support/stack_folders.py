"""Focus stacks on disk, shot with the camera that stands behind every test camera; the truth beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dualpix.capture.camera_protocol import CameraInfo, Exposure, Role
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.hidden.lens import HiddenLens, LensTruth
from dualpix.capture.cameras.hidden.truth import ShotTruth
from dualpix.capture.stack.keep.frames import read_light
from dualpix.capture.stack.keep.record import FrameRecord, StackRecord, write_record
from dualpix.capture.stack.sharpness import sharpness_tiles

STOPS_D = tuple(float(d) for d in np.linspace(0.25, 2.25, 9))
_REFERENCE_S = 1 / 60


@dataclass(frozen=True)
class ShotStack:
    """A folder with ``stack.json``, and what really happened."""

    folder: Path
    record: StackRecord
    camera: HiddenCamera
    truth: tuple[ShotTruth, ...]


def shoot_stack(
    folder: Path,
    *,
    seed: int = 0,
    diopters: Sequence[float] = STOPS_D,
    f_numbers: Sequence[float] = (2.8,),
    all_in_focus: bool = False,
    exposure: Sequence[float] | None = None,
    breathing: float = 0.015,
) -> ShotStack:
    """Shoot a stack; the recorded distances are the true ones.

    Args:
        folder: made here.
        seed: of the scene and the lens.
        diopters: where to focus.
        f_numbers: apertures at each stop.
        all_in_focus: one more frame at f/16, at the middle stop.
        exposure: of each stop, relative, not told in the record.
        breathing: magnification per diopter.
    """
    folder.mkdir(parents=True)
    lens = HiddenLens(LensTruth(jitter=0.0, backlash=0.0, breathing=breathing, speed_per_s=1e7), seed=seed)
    camera = HiddenCamera(lens, seed)
    frames: list[FrameRecord] = []
    for stop, focus in enumerate(diopters):
        _move(lens, focus)
        kinds: list[tuple[float, Role]] = [(n, "focus") for n in f_numbers]
        if all_in_focus and stop == len(diopters) // 2:
            kinds.append((16.0, "all_in_focus"))
        for f_number, role in kinds:
            relative = 1.0 if exposure is None else exposure[stop]
            frames.append(_shoot(camera, folder, len(frames), focus, f_number, role, relative))
    info = CameraInfo("sim", f"sim:{seed}", "dualpix", camera.body.model, focal_length_mm=50.0, pixel_pitch_um=50.0)
    record = StackRecord("s0001", "2026-11-21T10:00:00Z", info, plan_json(frames), tuple(frames), complete=True)
    write_record(folder, record)
    return ShotStack(folder, record, camera, tuple(camera.shots))


def plan_json(frames: Sequence[FrameRecord]) -> dict[str, Any]:
    """What was wanted, in the form of ``FocusPlan.to_json``."""
    wanted = [
        {
            "index": f.index, "diopters": f.requested_d, "role": f.role,
            "exposure": {"f_number": f.f_number, "exposure_s": f.exposure_s, "iso": f.iso},
        }
        for f in frames
    ]  # fmt: skip
    return {"mode": "diopter", "parameters": {}, "lens": {"focal_length_mm": 50.0}, "frames": wanted}


def rewritten(stack: ShotStack, frames: Sequence[FrameRecord], **changes: Any) -> None:
    """Write another record over the same files."""
    write_record(stack.folder, replace(stack.record, frames=tuple(frames), **changes))


def _move(lens: HiddenLens, focus_d: float) -> None:
    a, b, c = lens.truth.coefficients
    lens.move_to(float((-b + np.sqrt(b * b - 4 * c * (a - focus_d))) / (2 * c)))
    while lens.moving:
        pass


def _shoot(
    camera: HiddenCamera, folder: Path, index: int, focus_d: float, f_number: float, role: Role, relative: float
) -> FrameRecord:
    path = folder / f"s0001_f{index:02}_D{focus_d:.3f}_N{f_number:g}.dng"
    asked = Exposure(f_number, _REFERENCE_S * (f_number / 2.8) ** 2, 100)
    assert asked.f_number and asked.exposure_s and asked.iso
    truth = camera.still(f_number, asked.exposure_s * relative, asked.iso, path)
    data = path.read_bytes()
    tiles = sharpness_tiles(read_light(path).image)
    return FrameRecord(
        index=index, role=role, files=(path.name,), sha256=(hashlib.sha256(data).hexdigest(),), bytes=(len(data),),
        requested_d=focus_d, achieved_d=truth.diopters, uncertainty_d=0.008, distance_source="calibration",
        motor_steps=round(camera.lens.position), f_number=f_number, exposure_s=asked.exposure_s, iso=asked.iso,
        taken_at=f"2026-11-21T10:00:{index:02}Z", settle_s=0.1, settle_frames=3, settled=True,
        sharpness_tiles=tuple(tuple(float(v) for v in row) for row in tiles), retries=0,
    )  # fmt: skip
