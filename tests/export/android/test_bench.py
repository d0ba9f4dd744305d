"""Networks measured on a phone: real adb client, the phone's end of adb, and the app's own Java code."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from tests.export.android.conftest import Connect, Connected, Exported
from tests.export.android.java_phone import write_engine

from dualpix.capture.camera_protocol import CameraError, CameraLost
from dualpix.capture.cameras.android.protocol import FILES, PACKAGE
from dualpix.capture.cameras.hidden.faults import Fault
from dualpix.capture.cameras.testing.adbd import PrivateAdb
from dualpix.capture.errors import DualpixError
from dualpix.export.android import bench
from dualpix.export.android.cli import command
from dualpix.export.android.phone import connect as phone_at
from dualpix.export.android.protocol import BenchError
from dualpix.export.manifest import ManifestError, sha256_of
from dualpix.export.profile import result
from dualpix.export.profile.cli import command as profile_command
from dualpix.export.profile.result import Profile
from dualpix.export.profile.target import ProfileRequest, find_profiler

QUICK = ("--runs", "3", "--warmup", "1")


def measure(at: Connected, exported: Exported, *, limit_s: float = 60.0, threads: tuple[int, ...] = (1,)) -> Profile:
    request = ProfileRequest((exported.pte,), threads, 1, 3)
    cases = bench.make_cases(request.files)
    return bench.bench_on(phone_at(at.serial), cases, request, limit_s=limit_s)[0]


def left_on(at: Connected) -> list[str]:
    """What remains of runs on the phone."""
    folder = at.phone.local(f"{FILES}/bench")
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def test_the_whole_way_to_json(connect: Connect, exported: Exported, tmp_path: Path) -> None:
    with connect() as at:
        exported.play(at.phone, offset=1e-6)
        arguments = ["bench", str(exported.pte.parent), "--address", at.serial, "--threads", "1,2,4", *QUICK, "--json"]
        done = CliRunner().invoke(command, [*arguments, "-o", str(tmp_path / "p.json")], catch_exceptions=False)
        assert done.exit_code == 0 and not left_on(at)
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads(Path(result.__file__).with_name("profile.schema.json").read_text()))
    assert result.read_profiles(tmp_path / "p.json") == result.profiles_from_json(document)
    profiles = result.profiles_from_json(document)
    assert [p.settings.threads for p in profiles] == [1, 2, 4]
    for p in profiles:
        assert p.subject == result.Subject(exported.pte.name, sha256_of(exported.pte), "xnnpack-fp32")
        assert (p.target.kind, p.target.device, p.target.os) == ("adb", "dualpix Desktop", "Android 16")
        assert (p.target.processor_class, p.target.processor_features) == ("arm64-fp16-dot", "fp16 dot")
        assert p.verified and p.max_abs_error == pytest.approx(1e-6, rel=0.2)
        assert len(p.samples_s) == 3 and min(p.samples_s) >= 1e-3 and p.load_s is not None and p.load_s >= 2e-3
        assert p.memory.pss_bytes and p.memory.pss_bytes > 1 << 20 and p.thermal is not None


def test_a_phone_that_hides_its_processor_is_measured_all_the_same(connect: Connect, exported: Exported) -> None:
    with connect() as at:
        at.phone.cpu_features = None
        exported.play(at.phone)
        line = [str(exported.pte), "--address", at.serial, "--threads", "1", *QUICK]
        done = CliRunner().invoke(command, ["bench", *line], catch_exceptions=False)
    assert done.exit_code == 0 and "dualpix Desktop" in done.output and ", unknown, Android 16" in done.output


def test_profile_on_a_phone_is_the_same(connect: Connect, exported: Exported) -> None:
    with connect() as at:
        exported.play(at.phone)
        line = [str(exported.pte), "--on", f"adb:{at.serial}", "--threads", "2", *QUICK]
        done = CliRunner().invoke(profile_command, line, catch_exceptions=False)
        profiler, address = find_profiler(f"adb:{at.serial}")
        with pytest.raises(BenchError, match="--eager"):
            profiler(ProfileRequest((exported.pte,), eager="difusenet-compact"), address, lambda *step: None)
    assert done.exit_code == 0 and exported.pte.name in done.output and "arm64-fp16-dot, Android 16" in done.output


def test_several_files_come_in_order_within_a_thread_count(connect: Connect, exported: Exported) -> None:
    cases = bench.make_cases((exported.pte, exported.pte))
    request = ProfileRequest((exported.pte, exported.pte), (2, 1), 0, 2)
    steps: list[tuple[int, int]] = []
    with connect() as at:
        exported.play(at.phone)
        phone = phone_at(at.serial)
        profiles = bench.bench_on(phone, cases, request, on_step=lambda done, total, what: steps.append((done, total)))
    assert [p.settings.threads for p in profiles] == [2, 2, 1, 1]
    assert not any(p.ratios or p.settings.interleaved_with for p in profiles)
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_what_computes_something_else_is_not_measured(connect: Connect, exported: Exported) -> None:
    with connect() as at:
        exported.play(at.phone, offset=0.5)
        with pytest.raises(BenchError, match=r"computes something else on the phone: its output is off by 0\.5"):
            measure(at, exported)
        assert not left_on(at)


def test_every_output_is_compared_with_its_own_limit(connect: Connect, exported: Exported) -> None:
    (case,) = bench.make_cases((exported.pte,))
    sure = torch.full((1, 1, 16, 24), 0.5)
    two = replace(case, expected=(*case.expected, sure), max_abs=(*case.max_abs, 1e-3))
    request = ProfileRequest((exported.pte,), (1,), 1, 2)
    with connect() as at:
        write_engine(at.phone.java.scripts, exported.outputs[0], sure.numpy() + np.float32(5e-4))
        (profile,) = bench.bench_on(phone_at(at.serial), (two,), request)
        assert profile.verified and profile.max_abs_error == pytest.approx(5e-4, rel=1e-3)
        write_engine(at.phone.java.scripts, exported.outputs[0], sure.numpy() + np.float32(2e-3))
        with pytest.raises(BenchError, match=r"output 2 of 2 is off by 0\.002; expected at most 0\.001"):
            bench.bench_on(phone_at(at.serial), (two,), request)
        write_engine(at.phone.java.scripts, exported.outputs[0])
        with pytest.raises(BenchError, match="1 outputs came; expected 2"):
            bench.bench_on(phone_at(at.serial), (two,), request)


@pytest.mark.parametrize("fault", ["load", "run"])
def test_what_the_app_reports_is_said(connect: Connect, exported: Exported, fault: str) -> None:
    with connect() as at:
        exported.play(at.phone, fault=fault)
        with pytest.raises(BenchError, match=r"the app cannot measure 'net-xnnpack-fp32.pte': .*error 0x"):
            measure(at, exported)


def test_a_cable_that_comes_out_while_a_file_is_sent(connect: Connect, exported: Exported) -> None:
    with connect() as at:
        exported.play(at.phone)
        at.phone.cut_after_bytes = exported.pte.stat().st_size // 2
        with pytest.raises(CameraLost, match=f"phone '{at.serial}' is gone"):
            measure(at, exported)
        assert at.phone.cut_after_bytes is None, "the cable stayed in"
        assert not list(at.phone.root.rglob("request.json")), "the app was not to be asked"


@pytest.mark.parametrize(("operation", "nth"), [("status", 1), ("set", 3), ("poll", 1)])
def test_a_phone_that_goes_is_said(connect: Connect, exported: Exported, operation: Any, nth: int) -> None:
    with connect(Fault(operation, nth, "lost")) as at:
        exported.play(at.phone)
        with pytest.raises(CameraError, match=at.serial):
            measure(at, exported)


def test_a_file_that_arrives_damaged_is_not_run(connect: Connect, exported: Exported) -> None:
    with connect() as at:
        at.phone.corrupt_model = True
        with pytest.raises(BenchError, match=r"'model\.pte' on the phone has digest"):
            measure(at, exported)
        assert not at.phone.java.running and not left_on(at)


def test_an_app_that_dies_is_noticed(connect: Connect, exported: Exported) -> None:
    with connect() as at:
        at.phone.on_bench = at.phone.java.kill
        with pytest.raises(BenchError, match=r"the app has ended without a result.*logcat"):
            measure(at, exported)
        assert not left_on(at)


def test_an_app_that_dies_at_work_is_noticed(connect: Connect, exported: Exported) -> None:
    with connect() as at:
        exported.play(at.phone, run_ms=[30_000])

        def start_and_die() -> None:
            (run,) = left_on(at)
            at.phone.java.command("bench", run)
            at.phone.java.kill()

        at.phone.on_bench = start_and_die
        with pytest.raises(BenchError, match="the app has ended without a result"):
            measure(at, exported)


def test_an_app_that_never_ends_is_given_up_and_ended(connect: Connect, exported: Exported) -> None:
    with connect() as at:
        exported.play(at.phone, run_ms=[500_000])
        started = time.monotonic()
        with pytest.raises(BenchError, match=r"no result from the app within 0\.5 s.*--timeout"):
            measure(at, exported, limit_s=0.5)
        assert time.monotonic() - started < 300 and not at.phone.java.running and not left_on(at)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def spoil(content: bytes) -> bytes:
        data = json.loads(content) if content else None
        if data is None:
            return b""
        change(data)
        return json.dumps(data).encode()

    return spoil


SPOILT: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda content: content[: len(content) // 2], "damaged"),
    "no json": (lambda content: b"\x00\xff" if content else b"", "damaged"),
    "too deep": (lambda content: b"[" * 200_000 if content else b"", "damaged"),
    "endless": (lambda content: b" " * (bench._MOST_BYTES + 5) if content else b"", "more than"),
    "another run": (changed(lambda d: d.update(run_id="other-1")), "is of run 'other-1'"),
    "another format": (changed(lambda d: d.update(format=2)), "not of format 1"),
    "another program": (changed(lambda d: d["profiles"][0]["subject"].update(sha256="0" * 64)), "with digest 000000"),
    "another file": (
        changed(lambda d: d["profiles"][0]["subject"].update(file="../../etc/passwd")),
        "is about '../../etc/passwd'",
    ),
    "not verified": (changed(lambda d: d.update(verified=False)), "was not verified"),
    "a profile too few": (changed(lambda d: d["profiles"].pop()), "profiles for none threads"),
    "fewer samples": (changed(lambda d: d["profiles"][0]["samples_s"].pop()), "has 2 samples"),
    "a flattering median": (changed(lambda d: d["profiles"][0].update(p50_s=1e-6)), "says p50_s is 1e-06"),
    "a host's profile": (changed(lambda d: d["profiles"][0]["target"].update(kind="host")), "target 'host'"),
    "times that are text": (changed(lambda d: d["profiles"][0].update(load_s="soon")), r"load_s is 'soon'"),
    "an escape in the error": (changed(lambda d: d.update(error="\x1b[2J\nx" * 3)), r"cannot measure '.*\?\[2J x"),
}


@pytest.mark.parametrize(
    "which",
    [("truncated", "endless", "another run", "not verified"), pytest.param(tuple(SPOILT), marks=pytest.mark.slow)],
    ids=len,
)
def test_no_answer_is_taken_on_trust(connect: Connect, exported: Exported, which: tuple[str, ...]) -> None:
    with connect() as at:
        exported.play(at.phone)
        for what in which:
            spoil, said = SPOILT[what]
            at.phone.spoil = spoil
            with pytest.raises(DualpixError, match=said) as caught:
                measure(at, exported)
            assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and not left_on(at), what
        at.phone.spoil = None
        assert measure(at, exported).verified


def spoil_once(exported: Exported) -> Callable[[bytes], bytes]:
    looks: list[bytes] = []

    def spoil(content: bytes) -> bytes:
        looks.extend([content] if content else [])
        return content[:40] if len(looks) == 1 else content

    return spoil


def test_a_result_that_comes_cut_off_is_read_again(connect: Connect, exported: Exported) -> None:
    with connect() as at:
        exported.play(at.phone)
        at.phone.spoil = spoil_once(exported)
        assert measure(at, exported).verified


def hot(at: Connected) -> None:
    at.phone.thermal_status = 4


def full(at: Connected) -> None:
    at.phone.free_kib = 1000


def other_processor(at: Connected) -> None:
    at.phone.abis = "x86_64,x86"


def without_app(at: Connected) -> None:
    at.phone.app = False


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (hot, r"too hot \(critical\); let it cool"),
        (full, "1 MB left"),
        (other_processor, "runs x86_64, x86; expected arm64-v8a"),
        (without_app, rf"the app \({PACKAGE}\) is not on phone .*build_apk.py"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_phone_that_is_not_ready_is_told_why(
    connect: Connect, exported: Exported, state: Callable[[Connected], None], said: str
) -> None:
    with connect() as at:
        state(at)
        with pytest.raises(BenchError, match=said):
            measure(at, exported)
        assert not left_on(at)


def test_an_app_without_the_activity_is_told_apart(connect: Connect, exported: Exported) -> None:
    with connect() as at:
        at.phone._am = lambda words: b"Error type 3\nError: Activity class does not exist.\n"  # type: ignore[method-assign]
        with pytest.raises(BenchError, match=r"the app does not start: .*Activity class.*install the app"):
            measure(at, exported)


class _PhoneEntry:
    """What ``adb devices -l`` says of a phone that cannot be used."""

    def __init__(self, state: str) -> None:
        self.serial, self.state, self.tags = "R5CT", state, {"transport_id": "1"}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("unauthorized", "is unauthorized; allow USB debugging"),
        ("offline", "is offline; plug it in again"),
        ("no", "is no; give this user access"),
    ],
)
def test_a_phone_that_does_not_let_us_in_is_told_why(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, state: str, said: str
) -> None:
    import adbutils

    monkeypatch.setattr(adbutils.AdbClient, "list", lambda self, extended=False: [_PhoneEntry(state)])
    with pytest.raises(CameraLost, match=said):
        phone_at(None)


def test_nobody_there_is_said(connect: Connect, adb: PrivateAdb) -> None:
    with pytest.raises(CameraLost, match="no phone on adb"):
        phone_at(None)
    with pytest.raises(CameraLost, match="no phone 'R5CT'"):
        phone_at("R5CT")


def test_without_adbutils_the_pip_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "adbutils", None)
    with pytest.raises(DualpixError, match=r"pip install 'dualpix\[android\]'"):
        phone_at(None)


def test_a_lone_file_is_compared_with_what_it_gives_here(exported: Exported, tmp_path: Path) -> None:
    alone = tmp_path / "odd name (1).pte"
    alone.write_bytes(exported.pte.read_bytes())
    half = torch.full((1, 1, 16, 24), 0.5)
    save_file({"a": half}, tmp_path / "inputs.safetensors")
    (case,) = bench.make_cases((alone,), tmp_path / "inputs.safetensors", 0.25)
    assert case.recipe is None and case.max_abs == (0.25,) and torch.equal(case.inputs[0], half)
    (output,) = case.expected
    assert output.shape == (1, 2, 16, 24) and float(output.std()) > 0
    save_file({"a": torch.zeros(1, 1, 16, 25)}, tmp_path / "inputs.safetensors")
    with pytest.raises(BenchError, match=r"is given 1x1x16x25; expected 1x1x16x24"):
        bench.make_cases((alone,), tmp_path / "inputs.safetensors")


def test_the_stored_output_is_what_counts(exported: Exported) -> None:
    (case,) = bench.make_cases((exported.pte,))
    stored = exported.outputs[0].ravel()
    (output,), (most,) = case.expected, case.max_abs
    assert np.array_equal(output.numpy().ravel(), stored)
    assert most == pytest.approx(1e-3 * float(np.abs(stored).max()))


@pytest.mark.parametrize("name", ["net-xnnpack-fp32.pte", "reference.safetensors"])
def test_an_export_that_was_changed_since_is_not_measured(exported: Exported, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(exported.pte.parent, tmp_path / "copy"))
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ManifestError, match=name):
        bench.make_cases((folder / exported.pte.name,))


@pytest.mark.parametrize("threads", ["", "0", "1,,2", "1.5", "99", "1,2,3,4,5,6,7,8,9", "x"])
def test_thread_counts_that_are_none_are_refused(threads: str) -> None:
    done = CliRunner().invoke(command, ["bench", "x.pte", "--threads", threads])
    assert done.exit_code == 2 and "thread counts" in done.output
