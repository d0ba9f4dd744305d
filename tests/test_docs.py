"""README and docs do what they say: every command is run, every Python block executed, every link leads somewhere.

A ``console`` block holds ``$ dualpix ...`` lines, each followed by its output where that is fixed (``dualpix: error:``
means exit code 2). The blocks of a document run in order in one folder with generated captures. Tags after the
language: ``slow`` blocks run with ``-m slow`` only, the commands of ``parsed`` ones are parsed but not run (minutes or
hours), and in a ``gate`` block exit code 1 is an answer, not a failure.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from benchmarks.record import Figure, Row, new_result
from docs.frontier_picture import draw, frontier, panels
from docs.glossary_pictures import PICTURES
from docs.make_architecture import PAGE as ARCHITECTURE
from docs.make_images import IMAGES, SEED, overview
from docs.make_protocols import PAGE as PROTOCOL_PAGE
from docs.make_protocols import with_protocols
from docs.make_tables import PAGES as RESULT_PAGES
from docs.make_tables import README, recorded, results_markdown, with_results
from docs.record_results import evaluation_result
from tests.support.pgm import write_pdcapture

from dualpix.capture.cameras import SimulatedCamera, SimulatedSensor
from dualpix.capture.cli import main, root
from dualpix.capture.raw import decode
from dualpix.models.zoo import DEFAULT_MODEL

ROOT = README.parent
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "networks").glob("*.md"))]
PAGES = [*DOCUMENTS, *sorted(p for area in ROOT.iterdir() for p in area.glob("README.md") if area.name[0] != ".")]
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.M | re.S)
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    language: str
    tags: frozenset[str]
    body: str
    line: int


@dataclass(frozen=True)
class Command:
    words: list[str]
    output: str


def blocks_of(text: str) -> list[Block]:
    found = []
    for match in _FENCE.finditer(text):
        language, *tags = match["info"].split() or [""]
        found.append(Block(language, frozenset(tags), match["body"], text.count("\n", 0, match.start()) + 2))
    return found


def commands_of(block: Block) -> list[Command]:
    commands: list[Command] = []
    for line in block.body.splitlines():
        if line.startswith("$ "):
            commands.append(Command(shlex.split(line[2:]), ""))
        else:
            commands[-1] = Command(commands[-1].words, commands[-1].output + line + "\n")
    return commands


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual-pixel raw, its white sheet, a PDCapture pair and an exported pair, all from the simulated camera."""
    folder = tmp_path_factory.mktemp("captures")
    shot = SimulatedCamera(sensor=SimulatedSensor(size_hw=(256, 384))).shoot(folder / "IMG_0001.DNG", 3)
    shutil.copy(shot.path, folder / "WHITE.DNG")
    image = decode(shot.path)
    for name in ("left", "right"):
        green = np.clip(getattr(image, name)[..., 1], 0, 1)
        write_pdcapture(folder / f"T_{name}.pgm", (64 + 950 * green[::2] / green.max()).astype(np.uint16))
        cv2.imwrite(str(folder / f"shot_{name}.png"), np.rint(green * 65535).astype(np.uint16))
    return folder


@pytest.fixture
def workshop(captures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "workshop"
    shutil.copytree(captures, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DUALPIX_DATA", str(tmp_path / "user_data"))
    yield folder
    # modules that a page wrote are that page's alone
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def run(command: Command, where: str, capsys: pytest.CaptureFixture[str], *, gate: bool) -> None:
    """Run ``dualpix ...`` in this process and compare exit code and output with what the document shows."""
    assert command.words[0] == "dualpix", where
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(command.words[1:])
        raise SystemExit(0)  # pragma: no cover - click always exits
    seen = capsys.readouterr()
    fails = command.output.startswith("dualpix: error: ")
    allowed = {2} if fails else {0, 1} if gate else {0}
    assert int(stopped.value.code or 0) in allowed, f"{where}: {command.words}\n{seen.err}"
    if command.output:
        assert command.output.strip() in (seen.err if fails else seen.out), where


def parse(command: Command, where: str) -> None:
    """Every option and argument is accepted; nothing is run."""
    context = click.Context(root)
    sub = root.get_command(context, command.words[1])
    assert command.words[0] == "dualpix" and sub is not None, where
    sub.make_context(command.words[1], command.words[2:], parent=context)


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["quick", "slow"])
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_blocks_run(document: Path, slow: bool, workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    blocks = blocks_of(document.read_text())
    if slow and not any("slow" in block.tags for block in blocks):
        pytest.skip("no slow block")
    for block in blocks:
        where = f"{document.name}:{block.line}"
        if "slow" in block.tags and not slow:
            continue
        if block.language == "python":
            exec(compile(block.body, where, "exec"), names)  # noqa: S102 - our own documents
        elif block.language == "console":
            for command in commands_of(block):
                if "parsed" in block.tags:
                    parse(command, where)
                else:
                    run(command, where, capsys, gate="gate" in block.tags)
        else:
            drawn = document == ARCHITECTURE and block.language == "mermaid"  # see test_architecture.py
            known = drawn or block.language in ("sh", "", "swift")
            assert known, f"{where}: a block of {block.language} would not be tested"


def test_every_subcommand_is_shown() -> None:
    shown = {
        c.words[1]
        for d in DOCUMENTS
        for b in blocks_of(d.read_text())
        if b.language == "console"
        for c in commands_of(b)
    }
    assert {"decode", "depth", "evaluate", "train", "export", "report"} <= shown


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        named = re.findall(r"(?:^|`)make ([a-z-]+)\b", page.read_text(), re.M)
        assert set(named) <= targets, page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in (m["target"] for m in _LINK.finditer(page.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists() and file.is_relative_to(ROOT), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name}: {target}"


@pytest.mark.parametrize("page", RESULT_PAGES, ids=lambda page: page.name)
def test_figures_of_a_page_come_from_the_result_files(page: Path) -> None:
    text, results = page.read_text(), recorded(RESULT_PAGES[page])
    assert results and text == with_results(text, results), "run: python -m docs.make_tables"


def test_the_table_of_protocols_is_that_of_the_code() -> None:
    text = PROTOCOL_PAGE.read_text()
    assert text == with_protocols(text), "run: python -m docs.make_protocols"


def test_the_table_shows_what_the_file_holds() -> None:
    rows = [
        Row("sgbm", {"AI(1)": Figure.of([0.1, 0.2, 0.4], "mean"), "size": Figure.exact(1.5)}),
        Row("b", {"size": Figure.exact(3)}),
    ]
    shown = results_markdown([new_result("Scores", "make it", {"AI(1)": "", "size": "MB"}, rows, notes="A note.")])
    assert "**Scores**" in shown and "| | AI(1) | size (MB) |" in shown
    assert "| sgbm | 0.2333 (0.15) | 1.5 |" in shown and "| b |  | 3 |" in shown
    assert "mean (interquartile range) of 3" in shown and "`make it`" in shown and "A note." in shown
    with pytest.raises(ValueError, match="lacks"):
        with_results("no markers", [])


def test_evaluate_json_becomes_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    main_args = ["evaluate", "--data", "rendered", "--count", "2", "--size", "64", "96", "--method", "sgbm", "--json"]
    with pytest.raises(SystemExit):
        main(main_args)
    record = json.loads(capsys.readouterr().out)
    result = evaluation_result(record, "Rendered")
    assert [row.label for row in result.rows] == ["sgbm"]
    assert result.rows[0].figures["mean error"].value == pytest.approx(record["mean"]["sgbm"]["mae_px"])
    assert result.rows[0].figures["AI(1)"].n == 2


@pytest.mark.parametrize("name", PICTURES)
def test_drawings_are_small_current_and_shown(name: str) -> None:
    path = IMAGES / f"{name}.png"
    shown, now = cv2.imread(str(path))[..., ::-1].astype(float), PICTURES[name]().astype(float)
    assert path.stat().st_size < 60_000 and f"images/{name}.png" in (ROOT / "docs" / "glossary.md").read_text()
    assert shown.shape == now.shape and np.abs(shown - now).mean() < 2, (
        "run: python -m docs.make_images"
    )  # fonts differ


def test_pictures_are_small_and_current() -> None:
    path = IMAGES / "overview.png"
    assert path.stat().st_size < 300_000
    shown = cv2.imread(str(path))[..., ::-1].astype(float)
    now = overview(SEED, DEFAULT_MODEL).astype(float)
    # another machine's arithmetic moves a few pixels, other weights move many
    assert shown.shape == now.shape and np.abs(shown - now).mean() < 0.5, "run: python -m docs.make_images"


def test_a_picture_of_the_zoo_shows_what_nothing_cheaper_beats() -> None:
    works = {"live": 1.4, "middle": 3.0, "large": 6.2}
    errors = {"live": (0.12, 0.24), "middle": (0.10, 0.20), "large": (0.13, 0.22), "sgbm": (0.3, 0.4)}
    names = ("rendered:phone: MAE", "rendered:macro: MAE")
    rows = [
        Row(label, dict(zip(names, map(Figure.exact, pair), strict=True))
            | ({"work": Figure.exact(works[label])} if label in works else {}))
        for label, pair in errors.items()
    ]  # fmt: skip
    columns = {**dict.fromkeys(names, "px"), "rendered:phone: edge MAE": "px", "work": "GMAC"}
    result = new_result("zoo", "a command", columns, rows)
    ((title, found),) = panels(result).items()
    assert title == "2 rendered sets: MAE (px)" and found["live"] == pytest.approx((0.12 * 0.24) ** 0.5)
    assert frontier({name: (works[name], found[name]) for name in works}) == ["live", "middle"]
    assert draw(result).std() > 5
    with pytest.raises(ValueError, match="no work"):
        draw(new_result("zoo", "a command", columns, [Row("sgbm", rows[3].figures)]))
