"""Battery, heat and room of a phone, from what its own commands print."""

from __future__ import annotations

_THERMAL = ("normal", "light", "moderate", "severe", "critical", "emergency", "shutdown")


def battery_percent(dumpsys: str) -> float | None:
    """From ``dumpsys battery``."""
    level, scale = (_number_after(dumpsys, key) for key in ("level:", "scale:"))
    return None if level is None else 100 * level / (scale or 100)


def thermal_word(dumpsys: str) -> str | None:
    """From ``dumpsys thermalservice``: ``normal``, or Android's word for the heat."""
    status = _number_after(dumpsys, "Thermal Status:")
    return None if status is None or not 0 <= status < len(_THERMAL) else _THERMAL[int(status)]


def free_bytes(df: str) -> int | None:
    """Room on the file system, from ``df -k`` of one path."""
    words = df.splitlines()[-1].split() if df else []
    return int(words[-3]) * 1024 if len(words) >= 6 and words[-3].isdecimal() else None


def frames_in(free: int | None, frame_bytes: int) -> int | None:
    """How many frames there is room for."""
    return None if free is None else free // max(frame_bytes, 1)


def _number_after(text: str, key: str) -> float | None:
    for line in text.splitlines():
        name, found, value = line.strip().partition(key)
        if found and not name and value.strip().isdecimal():
            return float(value)
    return None
