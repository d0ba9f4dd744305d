"""Which layer of the network the runtime means when it refuses a program.

The runtime (executorch 1.5) writes its reasons to stderr and raises a number: ``0x12`` for a kernel that refuses its
arguments, ``error: 0x1`` for a delegate that does not load. What it writes names instructions, tensors and nodes by
number; the record of the export knows which layer they are of.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from dualpix.export.bound import own_path
from dualpix.export.executorch.stored import Layer, Record, read_record, save_record, tensor_handles

_LINE = re.compile(r"^\[(?P<where>[\w.-]+:\d+)\] (?P<text>.*)$", re.M)
_NOISE = re.compile(r"cpuinfo_utils|^arg \d+ with type id|^Reading file|^Failed to open midr file")
_CHECK = re.compile(r"^Check failed \(.*?\): (?P<text>.*)$")
_CALL = re.compile(r"failed at instruction (?P<instruction>\d+:\d+)(?: in operator (?P<operator>[\w:.]+[\w]))?")


def reason_in(messages: str) -> str:
    """What the runtime wrote of a failure, in one line: its first explanation, and the operator; nothing where there is
    none.
    """
    lines = [m["text"].strip() for m in _LINE.finditer(messages) if not _NOISE.search(f"{m['where']} {m['text']}")]
    explained = [match["text"] if (match := _CHECK.match(line)) else line for line in lines if not _CALL.search(line)]
    reason = next((text for text in explained if text), "")
    call = next((match for line in lines if (match := _CALL.search(line))), None)
    if call is None:
        return reason
    at = f"{call['operator'] or 'a delegate'} at instruction {call['instruction']}"
    return f"{reason.rstrip('.')} ({at})" if reason else at


def layer_named_in(text: str, program: Path, etrecord: Any, module: nn.Module) -> str:
    """The layer that ``text`` gives the number of, in words: ``; it is of 'up' (permute_copy, nets.py:34)``.

    Args:
        text: what :func:`reason_in` gave.
        program: the refused file.
        etrecord: of its export.
        module: that was exported.

    Returns:
        Nothing where no number is named, or none that is known.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "program.etrecord"
            save_record(etrecord, path)
            layer = _layer(text, program, read_record(path))
    except Exception:  # a private form of the runtime: without it the reason stands by itself
        return ""
    if layer is None or not (layer.module or layer.source):
        return ""
    own = own_path(module, layer.module or "")
    facts = ", ".join(filter(None, (layer.kind, layer.source)))
    where = f"'{own}'" if own else "the module's own forward"
    return f"; it is of {where} ({facts})"


def _layer(text: str, program: Path, record: Record) -> Layer | None:
    if match := re.search(r"at instruction \d+:(\d+)", text):
        return record.layers.get(record.handles.get(int(match[1]), -1))
    if match := re.search(r"Failed to create .*node (\d+)", text):
        return record.layers.get(int(match[1]))
    if match := re.search(r"Failed to define tensor (\d+)", text):
        found = (record.layers.get(handle) for handle in tensor_handles(program, int(match[1])))
        return next((layer for layer in found if layer), None)
    return None
