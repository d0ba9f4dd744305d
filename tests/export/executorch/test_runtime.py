"""Damaged files, other versions and wrong inputs: refused in one line, before the runtime answers with a number."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.support.tiny_net import scene
from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.export.artefact import ExportError, quiet
from dualpix.export.executorch.file import check_program_file
from dualpix.export.executorch.program import read_structure
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.xnnpack import lower


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pte") / "conv.pte"
    with quiet():
        path.write_bytes(lower(torch.export.export(nn.Conv2d(3, 4, 3).eval(), (torch.rand(1, 3, 8, 8),)))[0])
    return path


def _damaged(program: Path, kind: str) -> bytes:
    data = program.read_bytes()
    return {
        "empty": b"",
        "short": data[:5],
        "truncated": data[: len(data) // 2],
        "header alone": data[:60],
        "picture": b"\x89PNG\r\n\x1a\n" + data[8:],
        "other format": data[:4] + b"ET13" + data[8:],
        "other version": _with_version(data, 7),
    }[kind]


def _with_version(data: bytes, version: int) -> bytes:
    """``data`` with a root table that states a schema version: the default 0 is not stored, so a table is appended."""
    changed = bytearray(data)
    table = struct.unpack_from("<I", data, 0)[0]
    (back,) = struct.unpack_from("<i", data, table)
    vtable = table - back
    # an unused field of the table is as good a place as any for the number
    length = struct.unpack_from("<H", data, vtable)[0]
    place = next(o for o in (struct.unpack_from("<H", data, vtable + at)[0] for at in range(6, length, 2)) if o)
    struct.pack_into("<H", changed, vtable + 4, place)
    struct.pack_into("<I", changed, table + place, version)
    return bytes(changed)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "is empty"),
        ("short", "is no ExecuTorch program"),
        ("truncated", r"is truncated: \d+ bytes; expected \d+ bytes"),
        ("header alone", "is truncated"),
        ("picture", "is no ExecuTorch program"),
        ("other format", "is of another ExecuTorch: program format 'ET13'; expected 'ET12'"),
        ("other version", "is of another ExecuTorch: schema version 7; expected 0"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(program: Path, tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "a.pte"
    path.write_bytes(_damaged(program, kind))
    for load in (check_program_file, PteProgram, read_structure):
        with pytest.raises(ExportError, match=message) as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pte", tmp_path):
        with pytest.raises(ExportError, match="does not read"):
            PteProgram(path)


def test_random_bytes_behind_a_true_header_are_refused(program: Path, tmp_path: Path) -> None:
    data, path = program.read_bytes(), tmp_path / "a.pte"
    path.write_bytes(data[:64] + bytes(len(data) - 64))
    with pytest.raises(ExportError):
        PteProgram(path)
    with pytest.raises(ExportError, match="is damaged"):
        read_structure(path)


def test_inputs_are_compared_before_they_are_run(program: Path) -> None:
    run = PteProgram(program)
    assert [str(form) for form in run.inputs] == ["(1, 3, 8, 8) float32"]
    assert run.outputs[0].shape == (1, 4, 6, 6)
    assert run((torch.rand(1, 3, 8, 8),)).shape == (1, 4, 6, 6)
    wrong = {
        r"\(1, 3, 8, 9\) float32": (torch.rand(1, 3, 8, 9),),
        r"\(1, 3, 8, 8\) float64": (torch.rand(1, 3, 8, 8, dtype=torch.float64),),
        r"nothing": (),
        r"\(1, 3, 64, 96\).*, .*, ": scene(),
    }
    for message, inputs in wrong.items():
        with pytest.raises(ExportError, match=message + r".*expected \(1, 3, 8, 8\) float32"):
            run(inputs)


def test_the_structure_is_what_was_lowered(program: Path) -> None:
    found = read_structure(program)
    assert [d.backend for d in found.delegates] == ["XnnpackBackend"]
    assert found.inputs == PteProgram(program).inputs and found.outputs == PteProgram(program).outputs
    assert found.operators == () and len(found.delegates[0].payload) > 100


def test_times_of_operators_can_be_written(program: Path, tmp_path: Path) -> None:
    traced = PteProgram(program, etdump=tmp_path / "times.etdp")
    traced((torch.rand(1, 3, 8, 8),))
    assert traced.save_etdump().stat().st_size > 200
    with pytest.raises(DualpixError, match="without an event tracer"):
        PteProgram(program).save_etdump()


def test_it_is_the_runtime_that_the_public_way_gives(program: Path) -> None:
    from executorch.runtime import Runtime

    x = torch.rand(1, 3, 8, 8, generator=torch.manual_seed(1))
    (public,) = Runtime.get().load_program(program).load_method("forward").execute([x])
    assert torch.equal(PteProgram(program)((x,)), public)


@pytest.mark.parametrize("module", ["profile.child", "verify.rerun", "verify.scored", "executorch.probe"])
def test_nor_does_what_runs_programs_for_commands(module: str) -> None:
    code = (
        f"import sys, dualpix.export.{module}; print([n for n in ('executorch.exir', 'torchao') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_running_a_program_does_not_import_the_compiler(program: Path) -> None:
    code = """
import sys, torch
from pathlib import Path
from dualpix.export.executorch.runtime import PteProgram
assert PteProgram(Path(sys.argv[1]))((torch.rand(1, 3, 8, 8),)).shape == (1, 4, 6, 6)
print([name for name in ("executorch.exir", "torchao", "torch._inductor") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, str(program)], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
