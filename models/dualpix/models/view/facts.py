"""What is known of a shot, a stack or a result, as pairs of name and value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FACT_NAMES = {
    "camera": "camera", "lens_model": "lens", "date_time": "taken", "iso": "ISO", "exposure_s": "exposure, s",
    "f_number": "f-number", "focal_length_mm": "focal length, mm", "focus_distance_m": "focus distance, m",
    "pixel_pitch_um": "pixel pitch of the view, um", "disparity_gain": "disparity gain", "pixel_aspect": "pixel aspect",
}  # fmt: skip


def facts_of(meta: Mapping[str, Any], more: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What is known of a shot, as pairs of name and value."""
    known = [
        (label, meta.get(key)) for key, label in _FACT_NAMES.items() if (key, meta.get(key)) != ("pixel_aspect", 1)
    ]
    provenance = meta.get("provenance")
    if isinstance(provenance, dict):
        known += [(str(key).replace("_", " "), value) for key, value in provenance.items()]
    known += list(more.items())
    return tuple((label, _fact(value)) for label, value in known if value not in (None, ""))


def about(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What is known of a result."""
    known: list[tuple[str, Any]] = [("method", record["method"])]
    if str(record.get("model")) not in str(record["method"]):
        known.append(("model", record.get("model")))
    share = record.get("measured_fraction")
    if isinstance(share, int | float):
        known.append(("measured", f"{share:.1%}"))
    depth = record.get("depth")
    if isinstance(depth, dict) and depth.get("metric") is False:
        known.append(("no metres, missing", ", ".join(map(str, depth.get("missing") or ()))))
    error = record.get("error")
    if isinstance(error, dict):
        errors = {name.replace("_", " "): e.get("mae_d") for name, e in error.items() if isinstance(e, dict)}
        known += [(f"mean error of the {name}, 1/m", mean) for name, mean in errors.items()]
    known.append(("time of the method, s", record.get("seconds")))
    versions = record.get("versions")
    if isinstance(versions, dict):
        known.append(("versions", ", ".join(f"{name} {value}" for name, value in versions.items())))
    return tuple((label, _fact(value)) for label, value in known if value not in (None, ""))


def distances_text(record: Mapping[str, Any]) -> str:
    """Focus distances of a stack, in m."""
    distances = record.get("focus_distance_m") or ()
    return ", ".join(f"{d:.4g}" if isinstance(d, float) else str(d) for d in distances) + (" m" if distances else "")


def _fact(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text[:400]
