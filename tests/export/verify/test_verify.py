from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from dualpix.capture.cli import main
from dualpix.capture.errors import UnknownNameError
from dualpix.export.flow import ExportResult
from dualpix.export.manifest import ManifestError, read_manifest, sha256_of, write_manifest
from dualpix.export.verify import verify
from dualpix.export.verify.cli import command

PROGRAM, REFERENCE = "net-xnnpack-fp32.pte", "reference.safetensors"


def resealed(folder: Path, **changes: Any) -> None:
    """What a careful forger, or our own bug, would do: digests that fit whatever lies there now."""
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    for entry in (*manifest["artefacts"], *manifest["files"]):
        if (folder / entry["file"]).exists():
            entry["sha256"] = sha256_of(folder / entry["file"])
    write_manifest(folder, manifest)


def test_an_untouched_folder_runs_again(foreign_export: ExportResult) -> None:
    result = CliRunner().invoke(command, [str(foreign_export.folder), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    (artefact,) = found["artefacts"]
    assert artefact["sqnr_db"] >= artefact["limit_db"] == 60.0
    assert found["files"] == sum(1 for _ in foreign_export.folder.iterdir()) - 1


def test_hashing_alone_runs_nothing(foreign_copy: Path) -> None:
    (check,) = verify(foreign_copy, run=False).artefacts
    assert check.sqnr_db is None and check.note == "not asked for"


def test_every_file_counts(foreign_copy: Path) -> None:
    for name in [p.name for p in foreign_copy.iterdir() if p.name != "manifest.json"]:
        kept = (foreign_copy / name).read_bytes()
        (foreign_copy / name).write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(ManifestError, match="is not the file that was measured"):
            verify(foreign_copy, run=False)
        (foreign_copy / name).unlink()
        with pytest.raises(ManifestError, match="is missing"):
            verify(foreign_copy, run=False)
        (foreign_copy / name).write_bytes(kept)
    assert verify(foreign_copy, run=False).files


@pytest.mark.parametrize("change", [{"commit": "0" * 40}, {"digest": "0" * 64}, {"gate": {}}, {"extra": 1}])
def test_a_changed_manifest_is_found(foreign_copy: Path, change: dict[str, Any]) -> None:
    path = foreign_copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ManifestError, match="was changed after it was written"):
        read_manifest(foreign_copy)


def test_layout_of_the_json_does_not_matter(foreign_copy: Path) -> None:
    path = foreign_copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert read_manifest(foreign_copy)


@pytest.mark.parametrize("name", ["extra.pte", "notes.txt", "folder"])
def test_something_beside_the_export_is_found(foreign_copy: Path, name: str) -> None:
    (foreign_copy / name).mkdir() if name == "folder" else (foreign_copy / name).write_text("x")
    with pytest.raises(ManifestError, match=f"'{name}' in .* is not in the manifest"):
        verify(foreign_copy, run=False)
    assert verify(foreign_copy, run=False, allow_extra=True)


@pytest.mark.parametrize("name", ["../outside.pte", "/etc/hostname", ".", "", "a\0b"])
def test_paths_outside_the_folder_are_refused(foreign_copy: Path, name: str) -> None:
    (foreign_copy.parent / "outside.pte").write_bytes(b"x")
    manifest = json.loads((foreign_copy / "manifest.json").read_text())
    manifest["artefacts"][0]["file"] = name
    write_manifest(foreign_copy, manifest)
    with pytest.raises(ManifestError, match="files inside its own folder"):
        verify(foreign_copy)


def test_a_link_out_of_the_folder_is_refused(foreign_copy: Path) -> None:
    (foreign_copy / PROGRAM).rename(foreign_copy.parent / PROGRAM)
    (foreign_copy / PROGRAM).symlink_to(foreign_copy.parent / PROGRAM)
    with pytest.raises(ManifestError, match="files inside its own folder"):
        verify(foreign_copy)


def refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command says, with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(folder), "--json"])
    seen = capsys.readouterr()
    (line,) = [text for text in seen.err.splitlines() if not text.startswith("verify: ")]
    assert stop.value.code == 2 and not seen.out and line.startswith("dualpix: error: ")
    return line


def test_a_program_of_other_numbers_is_found_by_running_it(
    foreign_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = load_file(foreign_copy / REFERENCE)
    stored["output.xnnpack-fp32"] = stored["output.xnnpack-fp32"] * 1.01
    save_file(stored, foreign_copy / REFERENCE)
    resealed(foreign_copy)
    assert "gives another output than it gave: 40.1 dB; expected at least 60 dB" in refusal(foreign_copy, capsys)


def test_inputs_of_another_shape_are_found(foreign_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = load_file(foreign_copy / REFERENCE)
    stored["input.input"] = torch.rand(1, 1, 8, 24)
    save_file(stored, foreign_copy / REFERENCE)
    resealed(foreign_copy)
    found = refusal(foreign_copy, capsys)
    assert "stored input 'input' is (1, 1, 8, 24) float32; expected (1, 1, 16, 24) float32" in found
    manifest = json.loads((foreign_copy / "manifest.json").read_text())
    tensors = [{"name": "input", "shape": [1, 1, 8, 24], "dtype": "float32"}]
    resealed(foreign_copy, input=manifest["input"] | {"tensors": tensors})
    assert f"'{PROGRAM}' does not do what it did: the program was given (1, 1, 8, 24)" in refusal(foreign_copy, capsys)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda data: b"", "is empty; expected an ExecuTorch program"),
        (lambda data: b"no program at all, but a text of some length", "is no ExecuTorch program"),
        (lambda data: data[:4] + b"ET99" + data[8:], "is of another ExecuTorch: program format 'ET99'"),
        (lambda data: data[: len(data) // 2], "is truncated"),
    ],
    ids=["empty", "text", "other version", "half"],
)
def test_what_the_runtime_cannot_read_is_refused(
    foreign_copy: Path, content: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = foreign_copy / PROGRAM
    program.write_bytes(content(program.read_bytes()))
    resealed(foreign_copy)
    assert f"dualpix: error: '{PROGRAM}' {reason}" in refusal(foreign_copy, capsys)


@pytest.mark.parametrize("content", ["", "[", "null", "{}", "[" * 200_000, '{"format": 2, "artefacts": [{}]}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ManifestError):
        verify(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="has no readable manifest"):
        verify(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "change",
    [
        {"reference": None},
        {"input": {"tensors": [{"name": "x"}]}},
        {"outputs": [{}]},
        {"outputs": []},
        {"reference": {}},
    ],
)
def test_a_manifest_of_another_writer_is_refused(foreign_copy: Path, change: dict[str, Any]) -> None:
    resealed(foreign_copy, **change)
    with pytest.raises(ManifestError, match="lacks inputs, output or reference"):
        verify(foreign_copy)


def test_a_recipe_of_another_release_is_refused(foreign_copy: Path) -> None:
    manifest = json.loads((foreign_copy / "manifest.json").read_text())
    manifest["artefacts"][0]["recipe"] = "tpu-int3"
    resealed(foreign_copy, artefacts=manifest["artefacts"])
    with pytest.raises(UnknownNameError, match="unknown recipe 'tpu-int3'"):
        verify(foreign_copy)


def test_a_reference_without_the_output_is_refused(foreign_copy: Path) -> None:
    stored = load_file(foreign_copy / REFERENCE)
    del stored["output.xnnpack-fp32"]
    save_file(stored, foreign_copy / REFERENCE)
    resealed(foreign_copy)
    with pytest.raises(ManifestError, match="holds no input and output of 'xnnpack-fp32'"):
        verify(foreign_copy)
    (foreign_copy / REFERENCE).write_bytes(b"no tensors")
    resealed(foreign_copy)
    with pytest.raises(ManifestError, match="holds no input and output"):
        verify(foreign_copy)
