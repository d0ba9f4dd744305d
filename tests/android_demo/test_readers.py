"""Both ends of the protocol take and refuse the same messages, and understand the same by them."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.android_demo.conftest import Classes

from dualpix.capture.cameras.android import protocol

GOLDEN = Path(__file__).parents[1] / "golden" / "android"
READERS: dict[str, Callable[[str], Any]] = {
    "plan": lambda text: protocol.parse_plan(text).to_json(),
    "control": lambda text: protocol.parse_control(text).to_json(),
    "line": lambda text: protocol.line_json(protocol.parse_line(text)),
    "stack": lambda text: protocol.parse_stack(text).to_json(),
}
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 3.0, -0.0, 2.5, 99, 100, 999, 1000, 10**12, 10**15 + 1, 2**63 - 1, 2**63, 2**70, 1e300,
    "", "0", "a" * 1000, "a" * 1001, "\U0001f600" * 1000, "ü\n\"\\", "retry", "stop", "CALIBRATED", "stationary",
    "busy", "frame_000.dng", "frame_01.dng", "frame_002_r1.dng", "../frame_000.dng", "2026-11-21T16:05:02Z", "20261121",
    "who-1", "-rf", "0" * 64, [], [1, 2], [1, 2.0], [1, 2, 3], [0.5], {}, {"a": [1]},
]  # fmt: skip


def good() -> list[tuple[str, Any]]:
    names = ("plan.json", "plan-who.json", "control-retry.json", "control-stop.json", "stack.json")
    out = [(name.partition(".")[0].partition("-")[0], json.loads((GOLDEN / name).read_text())) for name in names]
    for name in ("journal.jsonl", "journal-refused.jsonl"):
        out += [("line", json.loads(line)) for line in (GOLDEN / name).read_text().splitlines()]
    return out


def change(value: Any, rng: random.Random) -> None:
    """One field somewhere is replaced, removed or added."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = rng.choice(keys)
        if not isinstance(value[key], dict | list) or not value[key] or rng.random() < 0.2:
            break
        value = value[key]
    what = rng.random()
    if what < 0.15:
        del value[key]
    elif what < 0.2 and isinstance(value, dict):
        value["something_new"] = rng.choice(VALUES)
    else:
        value[key] = rng.choice(VALUES)


def understood(kind: str, text: str) -> Any:
    try:
        return READERS[kind](text)
    except protocol.ProtocolError:
        return None


def test_both_ends_understand_the_same(junit: Classes) -> None:
    rng = random.Random(20261121)
    cases = []
    for _ in range(3000):
        kind, value = rng.choice(GOOD)
        value = json.loads(json.dumps(value))
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            change(value, rng)
        cases.append((kind, json.dumps(value, ensure_ascii=rng.random() < 0.5)))
    cases += [(kind, text) for kind in READERS for text in ("", "[]", "null", "{", '{"a": 1e999}', "[" * 5000, "{]")]
    command = junit.java("org.dualpix.demo.core.RunReaders", tests=True)
    given = "".join(f"{kind}\t{text}\n" for kind, text in cases)
    run = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=True)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(cases)
    taken = 0
    for (kind, text), answer in zip(cases, answers, strict=True):
        assert answer == understood(kind, text), text
        taken += answer is not None
    assert len(cases) / 10 < taken < 9 * len(cases) / 10, "both kinds are tried"


GOOD = good()
