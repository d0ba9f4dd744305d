"""Two phones on one holder, behind the real adb: pairs, the skew between them, and what can go wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dualpix.capture.camera_protocol import CameraError
from dualpix.capture.cameras.hidden.body import Body
from dualpix.capture.cameras.hidden.faults import Fault, FaultPlan
from dualpix.capture.cameras.testing.adbd import AdbdServer, PrivateAdb, serving
from dualpix.capture.cameras.testing.companion import PhoneOptics
from dualpix.capture.cameras.testing.phone import VirtualPhone
from dualpix.capture.cli import main
from dualpix.capture.rig.pairs.clock import clock_offset

SMALL = Body(size_hw=(32, 48))
BOOTED_BEFORE_S = (0.0, 1234.5)


@pytest.fixture
def phones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[AdbdServer]]:
    with ExitStack() as stack:
        adb = stack.enter_context(PrivateAdb(tmp_path))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(adb.port))
        servers = []
        for index, earlier in enumerate(BOOTED_BEFORE_S):
            optics = PhoneOptics(3 + index, "CALIBRATED", body=SMALL)
            phone = VirtualPhone(tmp_path / f"phone{index}", optics, FaultPlan(()), booted_before_s=earlier)
            servers.append(stack.enter_context(serving(phone)))
            adb.client().connect(servers[-1].serial)
        yield servers


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["rig", "capture", *(str(word) for word in words)])
        raise SystemExit(0)
    seen = capsys.readouterr()
    return int(stopped.value.code or 0), seen.out, seen.err


def test_pairs_are_taken_with_their_skew(
    phones: list[AdbdServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (server.serial for server in phones)
    out = tmp_path / "session"
    code, said, err = run(capsys, "--a", a, "--b", b, "-o", out, "--count", 3, "--focus", 1.0, "--max-skew-ms", 5000)
    assert code == 0, err
    record = json.loads((out / "session.json").read_text())
    assert [pair["name"] for pair in record["pairs"]] == ["pair0000", "pair0001", "pair0002"]
    for pair in record["pairs"]:
        assert abs(pair["skew_s"]) < 5 and 0 < pair["skew_uncertainty_s"] < 1
        assert all((out / side / f"{pair['name']}.dng").is_file() for side in "ab")
    # one phone was started 20 minutes before the other: their clocks are not what the skew is made of
    apart = record["b"]["clock_offset_s"] - record["a"]["clock_offset_s"]
    bound = record["b"]["clock_uncertainty_s"] + record["a"]["clock_uncertainty_s"]
    assert abs(apart - BOOTED_BEFORE_S[1]) <= bound + 1e-6
    assert said.count("ms after a") == 3
    again, _, err = run(capsys, "--a", a, "--b", b, "-o", out)
    assert again == 2 and "holds a session" in err


def test_what_stays_too_far_apart_is_kept_and_said(
    phones: list[AdbdServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (server.serial for server in phones)
    out = tmp_path / "session"
    code, _, err = run(capsys, "--a", a, "--b", b, "-o", out, "--max-skew-ms", 0, "--tries", 2)
    assert code == 2 and "1 of 1 pairs stayed more than 0 ms apart" in err and "Traceback" not in err
    assert (out / "a/pair0000.dng").is_file() and (out / "again/a/pair0000_0.dng").is_file()
    assert json.loads((out / "session.json").read_text())["pairs"][0]["skew_s"] != 0


def test_a_phone_that_fails_is_one_line(
    phones: list[AdbdServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (server.serial for server in phones)
    code, _, err = run(capsys, "--a", a, "--b", a, "-o", tmp_path / "s")
    assert code == 2 and "twice" in err
    code, _, err = run(capsys, "--a", a, "--b", "127.0.0.1:1", "-o", tmp_path / "s")
    assert code == 2 and "no phone '127.0.0.1:1' on adb" in err
    phones[1].phone.faults = phones[1].phone.companion.faults = FaultPlan((Fault("shoot", 1, "busy"),))
    code, _, err = run(capsys, "--a", a, "--b", b, "-o", tmp_path / "s")
    assert code == 2 and "another app has the camera" in err and "Traceback" not in err


def test_the_offset_of_a_clock_is_within_its_bounds() -> None:
    """Asked over a way that takes 0 to 5 ms each way, of a clock that shows hundredths."""
    import random
    import time

    rng = random.Random(4)

    def ask() -> str:
        time.sleep(rng.uniform(0, 0.005))
        now = time.monotonic() + 777.123
        time.sleep(rng.uniform(0, 0.005))
        return f"{int(now * 100) / 100:.2f} 12.00"

    offset = clock_offset(ask)
    assert abs(offset.seconds - 777.123) <= offset.uncertainty_s + 1e-6
    assert offset.uncertainty_s < 0.011
    with pytest.raises(CameraError, match="uptime"):
        clock_offset(lambda: "cat: No such file")
