"""Pages of trainings, evaluations, and of accuracy against cost, by ``dualpix report``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dualpix.capture.cli import main
from dualpix.export.report.charts import THEMES, Mean, cost_chart, error_chart, means_chart

HURT = "<img src=x onerror=hurt()>"


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["report", *map(str, words)])
    return int(stopped.value.code or 0), capsys.readouterr().err


def evaluation(data: str, errors: dict[str, list[float]], key: str = "mae_px") -> dict[str, Any]:
    """As ``dualpix evaluate --json`` prints it."""
    scenes = [
        {"scene": f"s{n}", "method": method, "group": "", key: value}
        for method, values in errors.items()
        for n, value in enumerate(values)
    ]
    return {
        "data": data, "protocol": {"title": f"Scenes {HURT}", "name": data, "assumptions": ["none"]}, "scenes": scenes,
        "mean": {m: {key: float(np.mean(v))} for m, v in errors.items()},
        "interval_95": {m: {key: [min(v), max(v)]} for m, v in errors.items()}, "interval_of": "a test",
        "versions": {"dualpix": "0"},
    }  # fmt: skip


def page_of(path: Path) -> str:
    """A page without its pictures, which loads nothing and runs nothing."""
    page = path.read_text()
    sources = re.findall(r'(?:src|srcset|href)="([^"]*)"', page)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert "<script" not in page and HURT not in page and "url(" not in page
    return re.sub(r'"data:[^"]+"', '""', page)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(evaluation("rendered", {"sgbm": [0.7, 0.5, 0.3], "difusenet-compact": [0.1, 0.4, 0.2]})))
    return path


def test_an_evaluation_has_its_worst_scene_first(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shots").mkdir()
    for name in ("s0", "s1"):
        cv2.imwrite(str(tmp_path / "shots" / f"{name}.png"), np.full((8, 9, 3), 90, np.uint8))
    code, err = run(capsys, scores, "--pictures", tmp_path / "shots", "-o", tmp_path / "page.html")
    assert code == 0, err
    page = page_of(tmp_path / "page.html")
    assert re.findall(r"<tr><td>(s\d)</td>", page.replace("\n", "").replace("    ", "")) == ["s1", "s2", "s0"]
    assert "0.2333 (0.1 to 0.4)" in page and "0.5 (0.3 to 0.7)" in page
    assert re.findall(r"<figcaption>(s\d): difusenet-compact ([\d.]+)", page) == [("s1", "0.4"), ("s0", "0.1")]
    assert "2 of 3 have a picture" in page


def test_several_evaluations_are_set_against_cost(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text(
        json.dumps(evaluation("dp119", {"difusenet-compact": [0.05, 0.07], "fmdp-compact": [0.04]}, "mae_m"))
    )
    code, err = run(capsys, scores, other, "-o", tmp_path / "zoo.html")
    assert code == 0, err
    page = page_of(tmp_path / "zoo.html")
    assert "GMAC at 384 x 512 px" in page and ">6.166<" in page and ">2.995<" in page, "as docs/networks.md has them"
    assert "dp119: mean error, m" in page and "0.06 (0.05 to 0.07)" in page
    assert page.count("<picture>") == 2
    assert "two evaluations are of" in run(capsys, scores, scores, "-o", tmp_path / "no.html")[1]
    unknown = tmp_path / "unknown.json"
    unknown.write_text(json.dumps(evaluation("zedd", {"theirs": [1.0]}, "mae_m")))
    nowhere = tmp_path / "nowhere.json"
    nowhere.write_text(json.dumps(evaluation("ddff12", {"theirs": [1.0]}, "mae_m")))
    assert "nothing says what theirs cost" in run(capsys, unknown, nowhere, "-o", tmp_path / "no.html")[1]
    assert not (tmp_path / "no.html").exists()


def test_a_training_under_way_has_its_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / f"run {HURT.replace('/', '')}"
    folder.mkdir()
    rows = ["step,loss,learning_rate,eval_error,seconds,waited_s"]
    rows += [f"{n},{2 / n:.4f},1e-4,{'' if n % 10 else 3 / n},{n * 30},0" for n in range(1, 41)]
    (folder / "log.csv").write_text("\n".join(rows) + "\n")
    assert run(capsys, folder, "-o", tmp_path / "page.html")[0] == 0
    page = page_of(tmp_path / "page.html")
    assert "40 steps in 20 min, under way" in page and "least 0.075 at step 40" in page and page.count("<picture>") == 2
    (folder / "log.csv").write_text("\n".join([*rows[:4], "x,1,1,,1,0"]) + "\n")
    assert "is damaged" in run(capsys, folder, "-o", tmp_path / "no.html")[1]
    (folder / "log.csv").write_text(rows[0] + "\n")
    assert "has no step" in run(capsys, folder, "-o", tmp_path / "no.html")[1]
    assert not (tmp_path / "no.html").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "is no evaluation"),
        ("[]", "is no evaluation"),
        ("{", "is no JSON"),
        ('{"scenes": 3}', "is no evaluation"),
    ],
)
def test_what_is_none_is_refused_in_a_line(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(content)
    code, err = run(capsys, tmp_path / "a.json", "-o", tmp_path / "no.html")
    assert code == 2 and words in err and err.count("\n") == 1 and not (tmp_path / "no.html").exists()


def test_words_that_do_not_go_together_are_refused(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.csv").write_text("step,loss,seconds\n1,1,1\n")
    assert "without an evaluation" in run(capsys, tmp_path / "run", "--pictures", tmp_path)[1]
    assert "a training among several" in run(capsys, tmp_path / "run", scores)[1]
    assert "no folder" in run(capsys, scores, "--pictures", tmp_path / "none")[1]
    assert run(capsys, tmp_path / "empty")[0] == 2


def test_the_curves_draw_what_they_are_given() -> None:
    means = [
        Mean("a", 0.2, (0.1, 0.3), 1.0),
        Mean("b", 0.1, None, 10.0),
        Mean("c", 0.3, None, 20.0),
        Mean("d", 0.5, None),
    ]
    for theme in THEMES:
        axes = cost_chart(means, "error", "GMAC", theme).axes[0]
        assert {text.get_text() for text in axes.texts} == {"a", "b", "c"} and axes.get_xscale() == "log"
        front = next(line for line in axes.lines if line.get_linestyle() == ":")
        assert np.asarray(front.get_xydata()).tolist() == [[1.0, 0.2], [10.0, 0.1]]  # c is beaten by b
        shown = [label.get_text() for label in means_chart(means, "error", theme).axes[0].get_yticklabels()]
        assert shown == ["d", "c", "a", "b"]  # from the bottom
        texts = {text.get_text() for text in error_chart([1, 2], [0.5, 0.4], 0.9, "px", theme).axes[0].texts}
        assert texts == {"0.4", "a guess"}
