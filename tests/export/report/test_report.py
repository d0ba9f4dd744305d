from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.export.profile.test_result import a_profile

from dualpix.capture.errors import DualpixError
from dualpix.export.flow import ExportResult
from dualpix.export.manifest import ManifestError
from dualpix.export.profile.result import Operator, Subject, write_profiles
from dualpix.export.report.charts import THEMES, Point, latency_chart, size_chart
from dualpix.export.report.cli import command
from dualpix.export.report.exported import write_report
from dualpix.quantize.search.assignment import Assignment, FrontierPoint, LayerSensitivity


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
    assert len(references.found) == 4 + len(json.loads((copied / "pictures.json").read_text())), "two plots, pictures"
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


def _assignment() -> Assignment:
    layers = tuple(
        LayerSensitivity(f"encoder.block{k}.conv", 1000 * (k + 1), 90, 8, saved=0.01 / (k + 1), added=None)
        for k in range(30)
    )
    points = (
        FrontierPoint((), 0.08, 0.55, 2700, 1.0, True),
        FrontierPoint(("encoder.block0.conv",), 0.051, 0.6, 3000, 0.9, True),
        FrontierPoint(tuple(s.path for s in layers), 0.05, 1.0, 10800, 0.0, True),
    )
    kept = ("encoder.block0.conv",)
    return Assignment(kept, 0.05, 0.05, 0.08, 0.051, 0.06, 0.09, 0.0612, 0.9, 465_000, layers, points)


@pytest.fixture
def complete(copied: Path) -> Path:
    """An export with a profile of its files on two thread counts, and a mixed-precision search, beside it."""
    entries = [e for e in json.loads((copied / "manifest.json").read_text())["artefacts"] if e["file"].endswith(".pte")]
    rows = tuple(
        Operator(
            f"Convolution #{k}",
            "convolution",
            f"encode.{k}",
            "tiny_net.py:20",
            "XnnpackBackend",
            1e-3 / (k + 1),
            0.2 / (k + 1),
            10_000 * (k + 1),
            9000,
        )
        for k in range(25)
    )
    profiles = []
    for threads in (1, 2):
        for index, entry in enumerate(entries):
            subject = Subject(entry["file"], entry["sha256"], entry["recipe"])
            settings = replace(a_profile().settings, threads=threads)
            samples = [v * (index + 1) / threads for v in (0.01, 0.012, 0.011)]
            profiles.append(replace(a_profile(), subject=subject, settings=settings, operators=rows).timed(samples))
    write_profiles(copied / "profile.json", profiles)
    (copied / "assignment.json").write_text(json.dumps(_assignment().to_json()))
    return copied


def test_profile_and_sensitivity_are_shown_where_they_are(complete: Path, tmp_path: Path) -> None:
    page = write_report(complete, tmp_path / "report.html").read_text()
    for text in ("encode.24", "tiny_net.py:20", "Budget 5.00%", "1 of 30 layers stay float", "held back", "Roofline"):
        assert text in page, text
    references = _References()
    references.feed(page)
    assert all(r.startswith("data:image/") for r in references.found)
    assert page.index("encode.0<") < page.index("encode.1<"), "slowest first"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("profile.json", "{", "cannot be read"),
        ("profile.json", "[]", "profile.json"),
        ("assignment.json", "{", "cannot be read"),
        ("assignment.json", '{"format": 99}', "no assignment"),
    ],
)
def test_damaged_companions_are_refused(copied: Path, tmp_path: Path, file: str, content: str, message: str) -> None:
    (copied / file).write_text(content)
    with pytest.raises(DualpixError, match=message):
        write_report(copied, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_profile_of_other_files_is_refused(complete: Path, tmp_path: Path) -> None:
    data = json.loads((complete / "profile.json").read_text())
    data["profiles"][0]["subject"]["sha256"] = "0" * 64
    (complete / "profile.json").write_text(json.dumps(data))
    with pytest.raises(DualpixError, match="profile again"):
        write_report(complete, tmp_path / "report.html")


def test_a_module_without_truth_is_reported_by_its_difference(foreign_export: ExportResult, tmp_path: Path) -> None:
    page = write_report(foreign_export.folder, tmp_path / "report.html").read_text()
    assert "output, lower is better" in page and "3 % above" not in page
    assert "AI(1)" not in re.sub(r"data:[^\"]+", "", page)
    assert "Relative difference" in page


def test_an_interpreted_artefact_does_not_look_like_one_that_ran(tiny_export: ExportResult, tmp_path: Path) -> None:
    page = write_report(tiny_export.folder, tmp_path / "report.html").read_text()
    passed = [r for r in tiny_export.results if r.verdict.passed]
    ran = [r for r in passed if r.artefact and r.artefact.predict and not r.artefact.emulated]
    assert page.count('badge pass">') == len(ran) > 0
    assert page.count('badge partial">') == len(passed) - len(ran)


def test_labels_of_neighbours_do_not_cover_each_other() -> None:
    points = [Point(f"recipe-{k}", 0.05 + 1e-4 * k, 0.010 + 1e-4 * k, (0.0099, 0.0111), 1_000_000) for k in range(4)]
    for theme in THEMES:
        for chart in (latency_chart, size_chart):
            figure = chart(points, None, "error", theme)
            boxes = [t.get_window_extent() for t in figure.axes[0].texts]
            assert len(boxes) == 4
            assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_a_browser_shows_the_page_and_asks_nobody(complete: Path, tmp_path: Path, theme: str) -> None:
    page, shot, log = tmp_path / "report.html", tmp_path / "page.png", tmp_path / "net.json"
    write_report(complete, page)
    browser = [
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,6000"),
        *("--disable-background-networking", "--disable-component-update", "--no-first-run", f"--log-net-log={log}"),
        *(f"--user-data-dir={tmp_path / 'user'}", f"--screenshot={shot}"),
        *(["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []),
        page.as_uri(),
    ]
    subprocess.run(browser, check=True, capture_output=True, timeout=240)
    colours = _colours(shot)
    ground = (18, 23, 28) if theme == "dark" else (246, 247, 249)
    assert max(colours, key=lambda c: colours[c]) == ground or colours[ground] > 0.1 * sum(colours.values())
    assert len(colours) > 200, "plots and pictures are there"
    requests = set(re.findall(r"https?://[^\"\\]+", log.read_text()))
    ours = {r for r in requests if not re.search(r"google|gstatic|chromium|gvt1", r)}  # what the browser itself asks
    assert not ours


def _colours(picture: Path) -> dict[tuple[int, ...], int]:
    import cv2
    import numpy as np

    image = cv2.imread(str(picture), cv2.IMREAD_COLOR)
    assert image is not None
    values, counts = np.unique(image[::2, ::2, ::-1].reshape(-1, 3), axis=0, return_counts=True)
    return {tuple(int(v) for v in value): int(n) for value, n in zip(values, counts, strict=True)}
