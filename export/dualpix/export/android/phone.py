"""What has to be true of a phone before something is installed or measured on it.

Convention: a phone is :class:`~dualpix.capture.cameras.android.device.Phone`; its failures are
:class:`~dualpix.capture.camera_protocol.CameraError`, whose messages name the phone.
"""

from __future__ import annotations

import hashlib
import secrets
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dualpix.capture.camera_protocol import CameraError
from dualpix.capture.cameras.android import free_bytes, thermal_word
from dualpix.capture.cameras.android.device import AdbServer, Phone
from dualpix.capture.cameras.android.protocol import PACKAGE
from dualpix.capture.processor import Processor, from_cpuinfo
from dualpix.export.android.protocol import BenchError

ABI = "arm64-v8a"
"""Of the libraries in the app."""
APK_HINT = "make dualpix-demo.apk with 'python android_demo/build_apk.py', then 'dualpix android install APK'"
_TOO_HOT = ("severe", "critical", "emergency", "shutdown")
_MAX_APK_BYTES = 512 << 20
_ROOM_BYTES = 32 << 20
"""That stays free on the phone."""
_APK_ON_PHONE = "/data/local/tmp"


@dataclass(frozen=True)
class PhoneFacts:
    """A phone as it is now."""

    serial: str
    model: str | None
    abis: tuple[str, ...]
    heat: str | None
    """Android's word; ``None`` where it does not say."""
    free_bytes: int | None
    app: bool
    """Whether the app is installed."""
    processor: Processor
    """Class and features are not known where Android does not let the shell see them."""


def connect(address: str | None) -> Phone:
    """The phone of this serial, or the only one.

    Raises:
        DualpixError: there is none, there are several, it is offline or unauthorised, or ``adbutils`` is missing.
    """
    return AdbServer().open(address)


def facts_of(phone: Phone) -> PhoneFacts:
    """Ask the phone.

    Raises:
        CameraError: it is gone.
    """
    abis = phone.run("getprop", "ro.product.cpu.abilist").split(",")
    return PhoneFacts(
        phone.entry.serial,
        phone.entry.model,
        tuple(abi for abi in abis if abi),
        thermal_word(phone.run("dumpsys", "thermalservice")),
        free_bytes(phone.run("df", "-k", "/sdcard")),
        has_app(phone),
        from_cpuinfo(phone.run("cat", "/proc/cpuinfo")),
    )


def has_app(phone: Phone) -> bool:
    """Whether the app is installed."""
    return "package:" in phone.run("pm", "path", PACKAGE)


def check_abi(facts: PhoneFacts) -> None:
    """Raises BenchError where the app's libraries would not load."""
    if facts.abis and ABI not in facts.abis:
        raise BenchError(f"phone '{facts.serial}' runs {', '.join(facts.abis)}", expected=ABI)


def check_room(facts: PhoneFacts, size_bytes: int) -> None:
    """Raises BenchError where ``size_bytes`` more do not fit."""
    if facts.free_bytes is not None and facts.free_bytes < size_bytes + _ROOM_BYTES:
        raise BenchError(
            f"phone '{facts.serial}' has {facts.free_bytes / 1e6:.0f} MB left",
            expected=f"{(size_bytes + _ROOM_BYTES) / 1e6:.0f} MB",
        )


def check_ready(facts: PhoneFacts, size_bytes: int) -> None:
    """Whether a network of this size can be measured there now.

    Raises:
        BenchError: no app, another processor, no room, or a phone so hot that its times would mean nothing.
    """
    check_abi(facts)
    if not facts.app:
        raise BenchError(f"the app ({PACKAGE}) is not on phone '{facts.serial}'", hint=APK_HINT)
    check_room(facts, size_bytes)
    if facts.heat in _TOO_HOT:
        raise BenchError(f"phone '{facts.serial}' is too hot ({facts.heat})", hint="let it cool down")


def install(phone: Phone, apk: Path) -> PhoneFacts:
    """Put ``apk`` on the phone, over an older one of the same signer.

    Raises:
        BenchError: it is no APK, or the phone refuses it, for the reason that the phone gives.
        CameraError: the phone is gone.
    """
    size = check_apk(apk)
    facts = facts_of(phone)
    check_abi(facts)
    check_room(facts, 2 * size)
    there = f"{_APK_ON_PHONE}/dualpix-{secrets.token_hex(4)}.apk"
    try:
        push_checked(phone, {there: apk.read_bytes()})
        said = phone.run("pm", "install", "-r", "-t", there)
    finally:
        clean_up(phone, there)
    if "Success" not in said:
        hint = "uninstall the old one first: adb uninstall " + PACKAGE if "UPDATE_INCOMPATIBLE" in said else ""
        raise BenchError(f"phone '{facts.serial}' refuses '{apk.name}': {said[-300:] or 'no reason given'}", hint=hint)
    if not has_app(phone):
        raise BenchError(f"'{apk.name}' is another app", expected=PACKAGE)
    return facts


def check_apk(apk: Path) -> int:
    """Size of ``apk`` in bytes.

    Raises:
        BenchError: it is not there or no APK with the app's libraries.
    """
    if not apk.is_file():
        raise BenchError(f"there is no file '{apk}'", expected="an APK of the app", hint=APK_HINT)
    size = apk.stat().st_size
    if size > _MAX_APK_BYTES:
        raise BenchError(f"'{apk}' has {size} bytes", expected=f"at most {_MAX_APK_BYTES}")
    try:
        with zipfile.ZipFile(apk) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise BenchError(f"'{apk}' is no APK", hint=APK_HINT) from error
    if lacking := {"AndroidManifest.xml", "classes.dex"} - names:
        raise BenchError(f"'{apk}' has no {min(lacking)}", expected="an APK of the app", hint=APK_HINT)
    return size


def push_checked(phone: Phone, files: Mapping[str, bytes]) -> None:
    """Put files on the phone, whole and in this order, and let it say that they are what was sent.

    Raises:
        BenchError: what arrived is something else.
        CameraError: the phone is gone, or does not take a file.
    """
    for path, content in files.items():
        phone.write(path, content)
    said = phone.run("sha256sum", *files)
    found = {path: digest for digest, _, path in (line.partition("  ") for line in said.splitlines())}
    for path, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        if found.get(path) != digest:
            name = path.rpartition("/")[2]
            what = f"has digest {found[path][:12]}" if path in found else f"did not arrive: {said[-200:]}"
            raise BenchError(f"'{name}' on the phone {what}", expected=digest[:12], hint="try again")


def clean_up(phone: Phone, path: str) -> None:
    """Remove a file or folder of ours; a phone that is gone keeps it."""
    try:
        phone.run("rm", "-rf", path)
    except CameraError:
        return


def new_name() -> str:
    """Of a run: the time, and something that nobody else has."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
