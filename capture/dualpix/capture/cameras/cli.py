"""``dualpix cameras``: which cameras are connected, and what each can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualpix.capture.camera_protocol import CameraInfo
from dualpix.capture.cameras import BACKENDS, Answer, backend, find_all
from dualpix.capture.command.options import json_option
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError

_CAN = {
    "live_view": "live view",
    "focus_drive": "focus by steps",
    "absolute_focus": "focus in diopters",
    "aperture": "aperture",
    "camera_bracket": "own focus bracket",
    "dual_pixel_raw": "dual-pixel raw",
}


@click.command(name="cameras")
@click.option("--camera", "names", multiple=True, type=click.Choice(list(BACKENDS)), help="Only these; all by default.")
@click.option("--address", help="Ask the camera at this address, which no search may find; with one --camera.")
@click.option("--timeout", "limit_s", type=click.FloatRange(0.1, 600), default=10.0, help="Seconds for the search.")
@json_option("Machine-readable, on standard output.")
def command(names: Sequence[str], address: str | None, limit_s: float, as_json: bool) -> None:
    """Which cameras are connected, and what each can do.

    Nothing on them is changed. Cameras on PTP/IP are not searched for: give their --address.
    """
    if address is not None:
        if len(names) != 1:
            raise DualpixError("--address without a camera", expected="--camera NAME --address ADDRESS")
        answers = [_asked(names[0], address)]
    else:
        answers = find_all(names or None, limit_s)
    if as_json:
        echo_json([_record(answer) for answer in answers])
    else:
        _show(answers)


def _asked(name: str, address: str) -> Answer:
    """The camera at an address; what it says is an error of the command, not a row."""
    chosen = backend(name)
    with chosen.searching():
        device: Any = chosen.drive(address) if chosen.drives else chosen.open(address)
        try:
            return Answer(name, (device.info,), ("",))
        finally:
            if close := getattr(device, "close", None):
                close()


def _record(answer: Answer) -> dict[str, Any]:
    cameras = [
        {**asdict(info), "remark": remark or None} for info, remark in zip(answer.cameras, answer.remarks, strict=True)
    ]
    return {"backend": answer.backend, "error": answer.error, "cameras": cameras}


def _show(answers: Sequence[Answer]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("camera", "address", "who", "can"):
        table.add_column(column, overflow="fold")
    for answer in answers:
        for cells in _rows(answer):
            table.add_row(*cells)
    Console().print(table)


def _rows(answer: Answer) -> Iterator[tuple[Text, ...]]:
    """What cameras say of themselves goes through Text: it is no markup."""
    name = Text(answer.backend, style="bold" if answer.cameras else "dim")
    if answer.error is not None:
        yield name, Text(""), Text(answer.error, style="yellow"), Text("")
    elif not answer.cameras:
        yield name, Text(""), Text(f"none found: {BACKENDS[answer.backend].summary}", style="dim"), Text("")
    for info, remark in zip(answer.cameras, answer.remarks, strict=True):
        can = Text(", ".join(_CAN.get(c, c) for c in info.capabilities))
        if remark:
            can = Text(_printable(remark), style="yellow")
        yield name, Text(_printable(info.address)), Text(_printable(_who(info))), can


def _who(info: CameraInfo) -> str:
    parts = [info.model or "unknown model", info.serial and f"no. {info.serial}", info.lens]
    if info.f_numbers:
        least, most = min(info.f_numbers), max(info.f_numbers)
        parts.append(f"f/{least:g}" if least == most else f"f/{least:g} to f/{most:g}")
    if info.min_focus_m:
        parts.append(f"from {info.min_focus_m:.2g} m")
    return ", ".join(part for part in parts if part)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
