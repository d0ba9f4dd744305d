"""What a camera tells of itself by the Camera Control API: who it is, its battery, the room on its cards."""

from __future__ import annotations

from typing import Any

from dualpix.capture.camera_protocol import CameraInfo
from dualpix.capture.cameras.ccapi import words as word
from dualpix.capture.cameras.ccapi.link import CcapiLink
from dualpix.capture.cameras.words import prime_mm

LIVE_VIEW = "shooting/liveview"
BRACKET = "shooting/settings/focusbracketing"


def describe(link: CcapiLink, focal_length_mm: float | None) -> CameraInfo:
    """Who is there; ``focal_length_mm`` is what a zoom lens is set to."""
    device = said_of(link, "deviceinformation")
    lens = str(said_of(link, "devicestatus/lens").get("name") or "") or None
    apertures = (word.number(choice) for choice in word.abilities(link.get("shooting/settings"), "av"))
    f_numbers = tuple(sorted({n for n in apertures if n}))
    offers = {
        "live_view": link.has(LIVE_VIEW, "post") and link.has(f"{LIVE_VIEW}/flip"),
        "focus_drive": link.has("shooting/control/drivefocus", "post"),
        "aperture": len(f_numbers) > 1,
        "camera_bracket": link.has(BRACKET, "put"),
    }
    return CameraInfo(
        backend="ccapi",
        address=link.address.public,
        make=word.text(device, "manufacturer"),
        model=word.text(device, "productname"),
        serial=word.text(device, "serialnumber"),
        firmware=word.text(device, "firmwareversion"),
        lens=lens,
        focal_length_mm=focal_length_mm or prime_mm(lens),
        f_numbers=f_numbers,
        capabilities=tuple(name for name, there in offers.items() if there),
    )


def said_of(link: CcapiLink, endpoint: str) -> dict[str, Any]:
    """What the camera says there; nothing where it does not offer it."""
    return link.get(endpoint) if link.has(endpoint) else {}


def battery_percent(link: CcapiLink) -> float | None:
    """Percent of the fullest; by words on older cameras."""
    listed = said_of(link, "devicestatus/batterylist").get("batterylist")
    levels = [entry.get("level") for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    levels = levels or [said_of(link, "devicestatus/battery").get("level")]
    words = {"full": 100.0, "high": 75.0, "half": 50.0, "quarter": 25.0, "low": 10.0}
    known = [words.get(str(level), word.number(level)) for level in levels]
    return max((level for level in known if level is not None), default=None)


def room_bytes(link: CcapiLink) -> int | None:
    """Free on the cards that can be written."""
    listed = said_of(link, "devicestatus/storage").get("storagelist")
    if not isinstance(listed, list):
        return None
    cards = [card for card in listed if isinstance(card, dict) and card.get("accesscapability") != "readonly"]
    return sum(int(card["spacesize"]) for card in cards if isinstance(card.get("spacesize"), int))
