"""Words of the Camera Control API: settings with their abilities, and what they say in numbers.

Convention: settings are as ``shooting/settings`` gives them, ``{"av": {"value": "f2.8", "ability": [...]}, ...}``; what
is not there, or not of this form, is None or empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dualpix.capture.camera_protocol import CameraError, Exposure
from dualpix.capture.cameras.words import nearest as nearest_word
from dualpix.capture.cameras.words import number as plain_number


def text(said: Mapping[str, Any], key: str) -> str | None:
    """What is said under a name, bounded."""
    return str(said[key])[:200] if said.get(key) else None


def value(settings: Mapping[str, Any], *keys: str) -> Any:
    """Of the first setting that there is."""
    found: list[dict[str, Any]] = [settings[key] for key in keys if isinstance(settings.get(key), dict)]
    return found[0].get("value") if found else None


def abilities(settings: Mapping[str, Any], key: str) -> list[str]:
    """What a setting can be set to."""
    setting = settings.get(key)
    ability = setting.get("ability") if isinstance(setting, dict) else None
    return [str(word) for word in ability] if isinstance(ability, list) else []


def for_exposure(settings: Mapping[str, Any], exposure: Exposure) -> dict[str, str]:
    """The camera's own words for an exposure.

    Raises:
        CameraError: it has none.
    """
    wanted = {"av": exposure.f_number, "tv": exposure.exposure_s, "iso": exposure.iso}
    return {key: nearest(key, value, abilities(settings, key)) for key, value in wanted.items() if value is not None}


def nearest(key: str, wanted: float, words: Sequence[str]) -> str:
    """As :func:`~dualpix.capture.cameras.words.nearest`."""
    by_hand = "switch it to manual exposure (M)"
    return nearest_word(key, wanted, words, number, is_aperture=key == "av", hint=by_hand)


def number(word: Any) -> float | None:
    """``f2.8``, ``1/60``, ``0"5`` (half a second), ``8"``, ``100``; None for words."""
    text = str(word or "").strip().lower()
    if seconds := re.fullmatch(r'(\d{1,4})"(\d{0,2})', text):
        return float(f"{seconds[1]}.{seconds[2] or 0}")
    return plain_number(text)


def mode(word: Any) -> str | None:
    """``manual``, or the camera's own word."""
    return None if word is None else "manual" if str(word).lower() in ("m", "mf", "manual") else str(word)


def switch(word: Any) -> bool | None:
    """Whether something is on."""
    return None if word is None else str(word).lower() not in ("off", "disable")


def quality(value: Any) -> str | None:
    """``raw``, ``craw + large_fine``, ``large_fine``: the files of a frame."""
    if not isinstance(value, dict):
        return None if value is None else str(value)
    return " + ".join(str(kind) for kind in value.values() if kind != "none")


def first_raw(setting: Mapping[str, Any]) -> dict[str, str]:
    """The quality that is raw alone.

    Raises:
        CameraError: the camera has none.
    """
    ability = setting.get("ability")
    raws = ability.get("raw", []) if isinstance(ability, dict) else []
    if "raw" not in raws:
        raise CameraError("the camera offers no raw format", expected="raw among " + ", ".join(map(str, raws)))
    return {"raw": "raw", "jpeg": "none"}
