"""Every JSON that capturing reads, with every value replaced by what no program writes: one line, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.capture.focus.fakes import true_calibration
from tests.capture.stack.take.faults.harness import QUICK
from tests.capture.stack.take.scripted import Device, plan_of
from tests.support.brackets import scene_frame, write_shot
from tests.support.hostile_json import HOSTILE, refusals
from tests.support.stack_folders import shoot_stack

from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import parse_json
from dualpix.capture.focus import store
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.plan import make_plan, plan_from_json
from dualpix.capture.focus.scene import read_scene
from dualpix.capture.stack.judge.aligned import align_folder
from dualpix.capture.stack.keep.export import export_stack
from dualpix.capture.stack.keep.layouts import read_layout
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.stack.keep.record import read_record, write_record
from dualpix.capture.stack.take.journal import header_of, read_events
from dualpix.capture.stack.take.runner import run
from dualpix.capture.stack.take.state import StackState


def checked(value: Any, read: Callable[[str], object]) -> list[str]:
    """What was said of each text that was refused: one line, and not long."""
    said = list(refusals(value, read, DualpixError))
    assert said and all("\n" not in text and len(text) < 700 for text in said)
    return said


@pytest.mark.parametrize(
    "hostile",
    ["1e999", "NaN", "400 digits", "5000 digits", "deep", "100 levels", "900 levels", "half a surrogate"],
)
def test_what_is_no_json_of_ours(hostile: str) -> None:
    said = (
        r"it is no JSON \((.* is no number of JSON|a number of \d+ digits|nested too deeply|half of a .*)\); expected x"
    )
    with pytest.raises(DualpixError, match=said):
        parse_json('{"a": [' + HOSTILE[hostile] + "]}", "it", "x")


def test_what_is() -> None:
    value = {"a": [1.5e308, -1, "x", None, True, "\u00e9\U0001f600"], "b": {"c": [[[]]]}}
    assert parse_json(json.dumps(value), "it", "x") == value == parse_json(json.dumps(value).encode(), "it", "x")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shoot_stack(tmp_path_factory.mktemp("hostile") / "stack", diopters=(0.5, 1.0, 1.5)).folder


def test_the_record_of_a_stack(stack: Path, tmp_path: Path) -> None:
    value = json.loads((stack / "stack.json").read_text())

    def read(text: str) -> None:
        (tmp_path / "stack.json").write_text(text)
        write_record(tmp_path, read_record(tmp_path))  # what is taken can be written again

    checked(value, read)


def test_the_sweep_of_a_plan(stack: Path, tmp_path: Path) -> None:
    value = json.loads((stack / "stack.json").read_text())
    path = tmp_path / "sweep.json"

    def read(text: str) -> None:
        path.write_text(text)
        assert np.isfinite(read_scene(path)).all()

    checked({"frames": value["frames"]}, read)


def test_a_plan(tmp_path: Path) -> None:
    made = make_plan("diopter", near_m=0.5, far_m=4, count=3)

    def read(text: str) -> None:
        value = parse_json(text, "the plan", "a plan")
        json.dumps(plan_from_json(value).to_json(), allow_nan=False)

    checked(made.to_json(), read)


def test_the_calibration_of_a_lens(tmp_path: Path) -> None:
    path = tmp_path / "lens.json"

    def read(text: str) -> None:
        path.write_text(text)
        assert isinstance(store.read(path), LensCalibration)

    checked(true_calibration().to_json(), read)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("journal") / "stack"
    device = Device(seed=4)
    run(device.connect(), plan_of((0.3, 0.9)), folder, reopen=device.connect, settings=QUICK)
    return read_events(folder)


def test_the_journal_of_a_capture(journal: list[dict[str, Any]], tmp_path: Path, no_sync: None) -> None:
    """Each kind of event once, as the folder is resumed."""
    refused = {
        "event": "rejected",
        "at": journal[0]["at"],
        "index": 0,
        "reason": "dark",
        "sha256": ["ab" * 32],
        "files": [],
    }
    retry = {"event": "retry", "at": journal[0]["at"], "index": 0}
    kinds = {event["event"]: event for event in [*journal, refused, retry]}
    assert {"header", "intent", "shot", "frame", "rejected", "retry", "homed", "finished"} <= kinds.keys()
    for kind, event in kinds.items():
        before = [kinds[name] for name in ("header", "intent") if kind in ("shot", "frame") and name != kind]

        def read(text: str, before: list[dict[str, Any]] = before) -> None:
            lines = [json.dumps(line) for line in before] + [text]
            (tmp_path / "journal.jsonl").write_text("\n".join(lines) + "\n")
            events = read_events(tmp_path)
            if events[0]["event"] == "header":
                header_of(events, tmp_path)
            StackState().apply_all(events)

        checked(event, read)


def test_a_resumed_capture_says_it_in_one_line(
    journal: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for hostile in ("1e999", "NaN", "900 levels", "a list", "1.5", "true", "400 digits"):
        text = "\n".join(json.dumps(event) for event in journal) + "\n"
        text = text.replace('"event": "shot", ', f'"event": "shot", "index": {HOSTILE[hostile]}, "was_": 0, ', 1)
        text = text.replace('"was_": 0, ', "", 1)
        (tmp_path / "journal.jsonl").write_text(_without_second_index(text))
        with pytest.raises(SystemExit) as stopped:
            main(["capture", "--camera", "sim", "--resume", "-o", str(tmp_path)])
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and said.count("dualpix: error:") == 1 and "Traceback" not in said, said


def _without_second_index(text: str) -> str:
    """JSON takes the last of two entries of one name: the first one shall count."""
    lines = text.splitlines()
    place = next(number for number, line in enumerate(lines) if '"event": "shot"' in line)
    first = lines[place].index('"index": ')
    second = lines[place].index('"index": ', first + 1)
    end = lines[place].index(",", second)
    lines[place] = lines[place][:second] + lines[place][end + 2 :]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("hostile", ["deep", "900 levels", "1e999", "NaN", "a list", "null", "5000 digits"])
def test_plan_scene_and_plan_file_say_it_in_one_line(
    hostile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_text(HOSTILE[hostile])
    for command in (
        ["plan", "--scene", str(path), "--count", "5"],
        ["plan", "--calibration", str(path), "--near", "1", "--far", "2", "--count", "3"],
        ["--camera", "sim", "-o", str(tmp_path / "out"), "--plan", str(path)],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["capture", *command])
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and said.count("dualpix: error:") == 1 and "Traceback" not in said, said


def test_the_alignment_of_a_stack(stack: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(stack, tmp_path / "stack")
    align_folder(folder)
    path = folder / "aligned" / "alignment.json"
    sources = json.loads(path.read_text())["sources"]

    def read(text: str) -> None:
        path.write_text('{"sources": ' + text + "}")
        load_stack(folder)

    assert all("was not made of the frames" in text for text in checked(sources, read))


def test_the_light_of_white_of_an_export(stack: Path, tmp_path: Path) -> None:
    export_stack(stack, tmp_path / "zedd", "zedd")
    path = tmp_path / "zedd" / "display.json"

    def read(text: str) -> None:
        path.write_text(text)
        read_layout(tmp_path / "zedd")

    checked(json.loads(path.read_text()), read)


def test_an_imported_record_without_distances(tmp_path: Path) -> None:
    """null is a focus that is not known where all have none, and nowhere else."""
    from dualpix.capture.stack.keep.importer import import_stack

    for number in range(3):
        write_shot(tmp_path / f"{number}.png", scene_frame(number / 2), None)
    done = import_stack([tmp_path], tmp_path / "out")
    value = json.loads((done.folder / "stack.json").read_text())

    def read(text: str) -> None:
        (tmp_path / "out" / "stack.json").write_text(text)
        read_record(tmp_path / "out")

    checked(value, read)
