"""Counting the instructions of a pass: the counters' own texts, and a small convolution both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks import instructions
from benchmarks.instructions import (
    ARM64,
    X86,
    CountError,
    Counts,
    Program,
    between_marks,
    callgrind_total,
    count_arm64,
    count_x86,
    main,
    one_core_root,
    programs_of,
    rows_of,
    table,
)
from click.testing import CliRunner
from tests.arm64 import sysroot
from torch import nn

from dualpix.export.artefact import BuildRequest
from dualpix.export.recipes import RECIPES
from dualpix.quantize.calibration import CalibrationSet
from dualpix.quantize.keep import keep_nothing

DUMP = """# callgrind format
version: 1
creator: callgrind-3.19.0
pid: 4723
cmd:  python child.py /tmp/lexp/dplive-xnnpack-int8.pte
part: 2


desc: I1 cache: 
desc: D1 cache: 
desc: LL cache: 

desc: Timerange: Basic block 29206634 - 58409857
desc: Trigger: Client Request: pass

positions: line
events: Ir
summary: 448047103


ob=(4) /usr/bin/python3.11
totals: 448047296
"""  # noqa: W291
MARKS = """mark 1 2771542961
mark 1 2771543877
mark 1 2771545916
mark 1 3029479710
"""
LIMIT_S = 3600


def test_a_dump_has_one_sum() -> None:
    assert callgrind_total(DUMP) == 448047103


@pytest.mark.parametrize(
    "text",
    [
        "",
        DUMP.replace("summary: 448047103", "summary: -1"),
        DUMP.replace("summary: 448047103", "summary: 1e9"),
        DUMP.replace("events: Ir", "events: Ir Dr Dw"),
        DUMP + DUMP,
        DUMP[: DUMP.index("summary")],
    ],
)
def test_another_dump_is_refused(text: str) -> None:
    with pytest.raises(CountError, match="expected one summary of the event Ir"):
        callgrind_total(text)


def test_counts_are_between_pairs_of_marks() -> None:
    assert between_marks(MARKS) == [916, 257933794]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "0 lines"),
        (MARKS[: MARKS.rindex("mark")], "pairs of"),
        (MARKS + "qemu: uncaught target signal 11\n", "5 lines, 4 of them marks"),
        (MARKS.replace("mark 1 3029479710", "mark 1 -5"), "4 lines, 3 of them marks"),
        (MARKS.replace("3029479710", "12"), "a count that falls"),
        (MARKS.replace("mark 1 3", "mark 2 3"), "2 threads; expected one"),
    ],
)
def test_other_marks_are_refused(text: str, reason: str) -> None:
    with pytest.raises(CountError, match=reason):
        between_marks(text)


def test_the_first_row_is_the_reference() -> None:
    programs = [Program(Path("a-xnnpack-int8.pte"), 4_000_000), Program(Path("b.pte"), None)]
    first, second = rows_of(
        programs, Counts(((8_000_000, 8_000_000), (2_000_000, 2_000_000)), {}), Counts(((10**6,), (10**7,)), {})
    )
    assert first.label == "a-xnnpack-int8" and first.figures["work"].value == 0.004
    assert second.figures[X86].value == 2 and second.figures["x86-64, to the first"].value == 0.25
    assert second.figures[ARM64].value == 10 and second.figures["ARM64, to the first"].value == 10
    assert "work" not in second.figures


def test_a_way_that_was_skipped_has_no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "_version", lambda tool: f"{tool} 1.2.3")
    programs = [Program(Path("a.pte"), None)]
    counts = Counts(((2_000_000,),), {"class": "x86-64-avx2"})
    result = table([Path("x/a.pte")], programs, None, Counts(((10**6, 10**6),), {"executorch": "1.3.1"}))
    assert list(result.columns) == ["work", ARM64, "ARM64, to the first"] and "callgrind" not in result.notes
    assert result.command == "python -m benchmarks.instructions a.pte --passes 2 --skip-x86"
    assert list(table([Path("a.pte")], programs, counts, None).columns) == ["work", X86, "x86-64, to the first"]


def test_the_guest_has_one_core_and_its_own_libraries(tmp_path: Path) -> None:
    (tmp_path / "root/usr/lib").mkdir(parents=True)
    (tmp_path / "root/sys").mkdir()
    (tmp_path / "root/lib").symlink_to("usr/lib")
    one_core_root(tmp_path / "root", tmp_path / "made")
    assert (tmp_path / "made/lib").resolve() == (tmp_path / "root/usr/lib").resolve()
    assert (tmp_path / "made/sys/devices/system/cpu/online").read_text() == "0\n"
    assert "0xd0b" in (tmp_path / "made/proc/cpuinfo").read_text() and not list((tmp_path / "root/sys").iterdir())


def test_what_is_no_program_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"0")
    with pytest.raises(CountError, match=r"'weights.bin'; expected a \.pte file"):
        programs_of([tmp_path / "weights.bin"])
    done = CliRunner().invoke(main, [str(tmp_path), "-o", str(tmp_path / "r.json")])
    assert done.exit_code == 2 and done.output.count("\n") == 1 and "manifest.json" in done.output
    assert not (tmp_path / "r.json").exists()
    done = CliRunner().invoke(main, [str(tmp_path), "--skip-arm64", "--skip-x86"])
    assert done.exit_code == 2 and "both ways are skipped" in done.output


def test_missing_tools_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(instructions.shutil, "which", lambda tool: None)
    assert instructions.missing_arm64() == "cannot count here: apt-get install gcc libc6-dev qemu-user"
    (tmp_path / "a.pte").write_bytes(b"0")
    done = CliRunner().invoke(main, [str(tmp_path / "a.pte"), "-o", str(tmp_path / "r.json")])
    assert done.exit_code == 2 and done.output.startswith("error: ") and not (tmp_path / "r.json").exists()


def convolution(channels: int, folder: Path) -> Program:
    """A layer of 3 x 3 x 32 x ``channels`` on 48 x 48 px."""
    torch.manual_seed(3)
    inputs = (torch.rand(1, 32, 48, 48),)
    request = BuildRequest(
        nn.Conv2d(32, channels, 3, padding=1).eval(), "fp32", folder / f"conv-{channels}.pte", inputs, ("x",), ("y",),
        CalibrationSet((inputs,), "seeded"), keep_nothing,
    )  # fmt: skip
    return Program(RECIPES["xnnpack-fp32"].build(request).path, 9 * 32 * channels * 48 * 48)


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("way", ["arm64", "x86"])
def test_twice_the_channels_are_twice_the_instructions(way: str, tmp_path: Path) -> None:
    missing, count = {
        "arm64": (instructions.missing_arm64, count_arm64),
        "x86": (instructions.missing_x86, count_x86),
    }[way]
    if reason := missing():
        pytest.skip(reason)
    if way == "arm64":
        sysroot.make()
    programs = [convolution(channels, tmp_path) for channels in (64, 128)]
    first, again = count(programs, 2), count(programs, 1)
    (small, small_again), (large, _) = first.passes
    assert large / small == pytest.approx(2, rel=0.2)
    assert small_again == pytest.approx(small, rel=0.01) and again.passes[0][0] == pytest.approx(small, rel=0.01)
    # 8 multiply-accumulates an instruction under AVX2, 4 under NEON; loads and the loop about them come on top
    assert 1 / 16 < small / programs[0].work_macs < 1  # type: ignore[operator]
