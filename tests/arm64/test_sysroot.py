"""Making the ARM64 folder: what is said where something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.arm64 import sysroot


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysroot, "_which", lambda tool: None if tool == "debootstrap" else f"/usr/bin/{tool}")
    assert sysroot.missing() == "no ARM64 emulation here: apt-get install debootstrap"
    assert sysroot.main() == 2


def test_a_folder_of_another_recipe_is_not_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "contents.json").write_text('{"suite": "older"}')
    assert not sysroot._whole(tmp_path)
    (tmp_path / "contents.json").write_text("{")
    assert not sysroot._whole(tmp_path)


def test_the_wheels_are_pinned_by_their_digests() -> None:
    lines = [line for line in sysroot.REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert lines and all("==" in line and "--hash=sha256:" in line for line in lines)


def test_a_tool_that_fails_is_said_with_its_last_words() -> None:
    with pytest.raises(sysroot.SysrootError, match=r"dpkg-deb fails: .*nothing-here"):
        sysroot._run("dpkg-deb", "-x", "nothing-here.deb", "nowhere")


def test_the_emulator_never_takes_another_processor() -> None:
    command = sysroot.Sysroot(Path("/made")).python("program.py", Path("jobs.json"))
    assert command[:3] == ["qemu-aarch64-static", "-cpu", "cortex-a76"]
    assert command[-3:] == ["/made/root/usr/bin/python3", "program.py", "jobs.json"]
