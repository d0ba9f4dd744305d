from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpix.export.flow import ExportResult
from dualpix.export.manifest import ManifestError, digest_of, sha256_of, verify_manifest, write_manifest


@pytest.fixture
def copied(tiny_export: ExportResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_export.folder, tmp_path / "copy"))


def test_an_untouched_folder_verifies_wherever_it_lies(copied: Path) -> None:
    assert len(verify_manifest(copied)["artefacts"]) == 4


@pytest.mark.parametrize("pattern", ["*.pte", "*.mlpackage/Data/**/*.bin", "*.mlpackage/Manifest.json"])
def test_one_changed_bit_is_found(copied: Path, pattern: str) -> None:
    victim = next(copied.glob(pattern))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(ManifestError, match="is not the file that was measured"):
        verify_manifest(copied)


def test_missing_files_and_foreign_paths_are_found(copied: Path, tmp_path: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    outside = tmp_path / "outside.pte"
    outside.write_bytes(b"x")
    manifest["artefacts"][0] |= {"file": "../outside.pte", "sha256": sha256_of(outside)}
    write_manifest(copied, manifest)
    with pytest.raises(ManifestError, match="files inside its own folder"):
        verify_manifest(copied)
    manifest["artefacts"][0]["file"] = "gone.pte"
    write_manifest(copied, manifest)
    with pytest.raises(ManifestError, match=r"'gone\.pte' is missing"):
        verify_manifest(copied)


def test_a_folder_digest_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    first = sha256_of(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert sha256_of(tmp_path) != first


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"format": 99, "artefacts": []}', '{"format": 2, "artefacts": []}']
)
def test_no_manifest_is_a_user_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ManifestError):
        verify_manifest(tmp_path)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda k: k != "digest"), _JSON, min_size=1, max_size=4))
def test_the_digest_is_of_the_content_alone(manifest: dict[str, Any]) -> None:
    turned = dict(reversed(list(manifest.items())))
    read_back = json.loads(json.dumps(turned, indent=3))
    assert digest_of(manifest) == digest_of(read_back) == digest_of(manifest | {"digest": "x"})
    name = next(iter(manifest))
    assert digest_of(manifest) != digest_of(manifest | {name: [manifest[name]]})
