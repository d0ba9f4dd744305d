from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualpix.capture.errors import DualpixError
from dualpix.export.flow import ExportResult
from dualpix.export.manifest import ManifestError
from dualpix.export.report import write_report
from dualpix.export.report_cli import command


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


@pytest.fixture
def copied(tiny_export: ExportResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_export.folder, tmp_path / "copy"))


def test_the_page_needs_nothing_but_itself(copied: Path, tmp_path: Path) -> None:
    page = write_report(copied, tmp_path / "report.html").read_text()
    references = _References()
    references.feed(page)
    assert len(references.found) == 4, "two plots, two pictures"
    assert all(r.startswith("data:image/") for r in references.found)
    assert not {"script", "link", "iframe"} & set(references.tags)
    text = re.sub(r"data:[^\"]+", "", page)
    assert not re.search(r"https?:|file:|url\(|@import", text)


def test_the_page_tells_every_recipe_and_its_figures(copied: Path, tmp_path: Path, tiny_export: ExportResult) -> None:
    page = write_report(copied, tmp_path / "report.html").read_text()
    for result in tiny_export.results:
        assert result.recipe in page
        assert result.verdict.outcome.value in page
        if result.accuracy:
            assert f"{result.accuracy.from_float.sqnr_db:.1f} dB" in page
    for entry in json.loads((copied / "manifest.json").read_text())["artefacts"]:
        assert entry["sha256"] in page


def test_captions_are_escaped_and_pictures_embedded_whole(copied: Path, tmp_path: Path) -> None:
    entries = json.loads((copied / "pictures.json").read_text())
    entries[0]["caption"] = "<script>alert(1)</script>"
    (copied / "pictures.json").write_text(json.dumps(entries))
    page = write_report(copied, tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert base64.b64encode((copied / entries[0]["file"]).read_bytes()).decode() in page


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "gone.png", "manifest.json"])
def test_pictures_outside_the_folder_are_refused(copied: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    (copied / "pictures.json").write_text(json.dumps([{"file": name, "caption": "c"}]))
    with pytest.raises(DualpixError, match="a PNG file inside the folder"):
        write_report(copied, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_page_never_describes_changed_files(copied: Path, tmp_path: Path) -> None:
    victim = next(copied.glob("*.pte"))
    victim.write_bytes(victim.read_bytes() + b"\0")
    with pytest.raises(ManifestError):
        write_report(copied, tmp_path / "report.html")


def test_the_command_writes_the_page(copied: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = CliRunner().invoke(command, [str(copied), "-o", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"file": str(out), "bytes": out.stat().st_size}
