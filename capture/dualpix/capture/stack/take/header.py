"""What a stack is of: camera, plan and calibration, with which its journal begins and every later run goes on."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dualpix.capture.camera_protocol import CameraError, CameraInfo
from dualpix.capture.stack.keep.record import RecordError, built
from dualpix.capture.stack.take.journal import digest_of, iso


def new_header(
    info: CameraInfo, calibration: dict[str, Any] | None, plan: dict[str, Any], origin: Mapping[str, Any]
) -> dict[str, Any]:
    """Content of the first event of a journal: what the stack is of, with digests that a resumed run is held against.

    Args:
        info: of the camera.
        calibration: of its lens, plain.
        plan: plain.
        origin: what the user asked for.
    """
    created = datetime.now(UTC)
    return {
        "session": f"{created:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
        "created_at": iso(created),
        "camera": info,
        "camera_sha256": digest_of(_identity(info)),
        "plan": plan,
        "plan_sha256": digest_of(plan),
        "calibration": calibration,
        "calibration_sha256": digest_of(calibration),
        "origin": origin,
        "versions": {"dualpix": version("dualpix"), "python": platform.python_version()},
    }


def check_camera(header: Mapping[str, Any], info: CameraInfo) -> None:
    """Whether it is still the camera of the stack.

    Raises:
        CameraError: another one answers.
    """
    if header["camera_sha256"] != digest_of(_identity(info)):
        raise CameraError(
            f"another camera answers ({_name(info)})", expected=_name(built(CameraInfo, header["camera"], "camera"))
        )


def check_same(
    header: Mapping[str, Any], folder: Path, info: CameraInfo, calibration: dict[str, Any] | None, plan: dict[str, Any]
) -> None:
    """Whether a run that goes on wants what the stack was begun with; arguments as of :func:`new_header`.

    Raises:
        RecordError: another plan, camera or calibration.
    """
    camera = built(CameraInfo, header.get("camera"), "camera")
    for what, same in (
        ("plan", header["plan_sha256"] == digest_of(plan)),
        ("lens calibration", header.get("calibration_sha256") == digest_of(calibration)),
        (f"camera ({_name(camera)})", header.get("camera_sha256") == digest_of(_identity(info))),
    ):
        if not same:
            raise RecordError(
                f"the stack in '{folder}' was begun with another {what}",
                expected="the same",
                hint="leave out the options that changed, or begin anew with another -o",
            )


def _identity(info: CameraInfo) -> dict[str, Any]:
    """What stays the same between connections: addresses and firmware may change."""
    return {name: getattr(info, name) for name in ("backend", "make", "model", "serial", "lens", "lens_serial")}


def _name(info: CameraInfo) -> str:
    return " ".join(filter(None, (info.make, info.model, info.serial))) or info.backend
