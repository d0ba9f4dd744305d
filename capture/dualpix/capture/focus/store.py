"""Where lens calibrations are kept: one folder a lens, one dated file a calibration; none is ever overwritten.

Convention: ``ROOT/lenses/BODY_LENS_FOCAL-HASH/DATE.json``, ROOT being the user's data folder of dualpix, or the folder
that the environment variable DUALPIX_DATA names. Names come from devices: what is not a plain letter or digit becomes
``-``, and the hash keeps apart what then looks the same. The newest file counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_data_path

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import make_output_dir, parse_json, read_bounded, write_json
from dualpix.capture.focus.calibration import LensCalibration

ENVIRONMENT = "DUALPIX_DATA"
MAX_BYTES = 1 << 20
_FOLDER = "lenses"


def root() -> Path:
    """The folder of all lens calibrations; it need not exist."""
    named = os.environ.get(ENVIRONMENT)
    return (Path(named) if named else user_data_path("dualpix", appauthor=False)) / _FOLDER


def save(calibration: LensCalibration) -> Path:
    """Keep a calibration beside the earlier ones of the same lens.

    Returns:
        The file.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = make_output_dir(root() / _folder_name(calibration.body, calibration.lens, calibration.focal_length_mm))
    # microseconds: two calibrations in one second are two files, and sort
    path = folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S.%fZ}.json"
    write_json(path, calibration.to_json())
    return path


def find(body: str, lens: str, focal_length_mm: float | None) -> LensCalibration | None:
    """The newest calibration of a lens; None if there is none.

    Raises:
        DualpixError: it is there and damaged, or of another lens.
    """
    kept = history(body, lens, focal_length_mm)
    if not kept:
        return None
    calibration = read(kept[-1])
    if _key(calibration.body, calibration.lens, calibration.focal_length_mm) != _key(body, lens, focal_length_mm):
        raise DualpixError(f"'{kept[-1]}' is the calibration of '{calibration.lens}'", hint="delete it")
    return calibration


def history(body: str, lens: str, focal_length_mm: float | None) -> list[Path]:
    """Calibrations of a lens, oldest first."""
    return sorted((root() / _folder_name(body, lens, focal_length_mm)).glob("*.json"))


def everything() -> list[Path]:
    """The newest calibration of each lens, in order of their names."""
    folders = sorted(path for path in root().glob("*") if path.is_dir())
    return [kept[-1] for kept in (sorted(folder.glob("*.json")) for folder in folders) if kept]


def read(path: Path) -> LensCalibration:
    """A calibration from its file, checked.

    Raises:
        DualpixError: it cannot be read, or is not one.
    """
    data = read_bounded(path, MAX_BYTES, f"the lens calibration '{path}'", expected="a lens calibration")
    try:
        return LensCalibration.from_json(parse_json(data, "it", "a lens calibration"))
    except DualpixError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> DualpixError:
    return DualpixError(
        f"the lens calibration '{path}' is damaged: {why}", hint="delete the file or run 'dualpix capture calibrate'"
    )


def _key(body: str, lens: str, focal_length_mm: float | None) -> tuple[str, str, str]:
    return body, lens, "" if focal_length_mm is None else f"{focal_length_mm:.1f}mm"


def _folder_name(body: str, lens: str, focal_length_mm: float | None) -> str:
    key = _key(body, lens, focal_length_mm)
    plain = "_".join(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-")[:40] for part in key)
    return f"{plain}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]}"
