"""Stacks that say nowhere how far they are focused: kept in order, through every tool, without invented metres."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.support.stack_folders import shoot_stack

from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.scene import read_scene
from dualpix.capture.pictures.display import srgb_from_linear
from dualpix.capture.stack.judge.align import align_stack
from dualpix.capture.stack.judge.verify import verify
from dualpix.capture.stack.keep.export import export_stack
from dualpix.capture.stack.keep.frames import read_light
from dualpix.capture.stack.keep.importer import Given, import_stack
from dualpix.capture.stack.keep.layouts import FOCUS_CSV
from dualpix.capture.stack.keep.load import load_stack, read_listing
from dualpix.capture.stack.keep.record import read_record


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of a real sweep as PNG without a word of metadata, far to near: 1.png ... 9.png."""
    shot = shoot_stack(tmp_path_factory.mktemp("shot") / "stack")
    folder = tmp_path_factory.mktemp("pictures")
    for number, raw in enumerate(sorted(shot.folder.glob("*.dng")), start=1):
        light = read_light(raw).image
        codes = np.rint(srgb_from_linear(np.clip(light, 0, 1)) * 255).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), codes[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def imported(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = import_stack([pictures], tmp_path_factory.mktemp("imported") / "stack")
    assert "no file says where it is focused" in " ".join(done.notes)
    return done.folder


def test_it_is_kept_in_order_without_metres(imported: Path) -> None:
    frames = read_record(imported).frames
    assert [frame.details["original"] for frame in frames] == [f"{number}.png" for number in range(1, 10)]
    assert {(f.requested_d, f.achieved_d, f.uncertainty_d, f.distance_source) for f in frames} == {
        (None, None, None, "none")
    }
    assert not any("_D" in frame.files[0] for frame in frames)
    stack = load_stack(imported)
    assert stack.focus_distance_m is None and stack.uncertainty_d is None
    assert np.isnan(stack.lens.focus_distance_m)
    assert stack.sweep.tolist() == list(range(9))


def test_frames_are_aligned_and_verified_in_their_order(imported: Path) -> None:
    _, alignment = align_stack(load_stack(imported))
    assert all(alignment.trusted)
    result = verify(imported)
    assert result.verdict == "good", result.findings
    assert {f.code for f in result.findings} >= {"distances"}
    peaks = result.sweeps[0].peak_places
    assert 0 <= np.nanmin(peaks) <= np.nanmax(peaks) <= 8
    told = result.to_json()
    assert told["sweeps"][0]["frames"][3]["diopters"] is None and "peak_frame" in told["sweeps"][0]
    json.dumps(told, allow_nan=False)


def test_frames_that_changed_places_are_still_found(pictures: Path, tmp_path: Path) -> None:
    order = [1, 2, 7, 4, 5, 6, 3, 8, 9]
    for place, number in enumerate(order, start=1):
        (tmp_path / f"{place}.png").write_bytes((pictures / f"{number}.png").read_bytes())
    done = import_stack([tmp_path], tmp_path / "out")
    texts = [f.text for f in verify(done.folder).findings if f.severity == "bad"]
    assert texts == ["frames 2 and 6 look exchanged: place 2 and place 6"]


def test_plain_export_and_import_keep_it_so(imported: Path, tmp_path: Path) -> None:
    export_stack(imported, tmp_path / "plain", "plain")
    listing = read_listing(tmp_path / "plain")
    assert not listing.has_distances and len(listing.frames) == 9
    again = import_stack([tmp_path / "plain"], tmp_path / "again")
    assert {frame.achieved_d for frame in again.record.frames} == {None}
    assert np.allclose(load_stack(again.folder).frames, load_stack(imported).frames, atol=2e-5)


def test_what_align_finds_is_not_called_diopters(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(imported, tmp_path / "stack")
    with pytest.raises(SystemExit) as stopped:
        main(["capture", "align", str(folder)])
    assert not stopped.value.code and " % per frame" in (shown := capsys.readouterr().out) and "focus (D)" not in shown
    told = json.loads((folder / "aligned" / "alignment.json").read_text())
    assert [frame["place"] for frame in told["frames"]] == list(range(9)) and "beta_per_place" in told
    assert read_record(folder).breathing is None
    stack = load_stack(folder)
    assert stack.focus_distance_m is None and len(stack.frames) == 9


@pytest.mark.parametrize("layout", ["zedd", "ddff"])
def test_layouts_of_metres_refuse_it(
    imported: Path, tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["capture", "export", str(imported), "-o", str(tmp_path / "x"), "--to", layout])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.count("\n") == 1 and "states metres" in said and "--distances" in said
    assert not (tmp_path / "x").exists()


def test_the_command_shows_it(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["import", str(pictures), "-o", str(tmp_path / "out")], ["verify", str(tmp_path / "out")]):
        with pytest.raises(SystemExit) as stopped:
            main(["capture", *command])
        assert not stopped.value.code
    assert "note: no file says where it is focused" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "out" / "verify.png")).shape[1] == 1400


def test_a_plan_cannot_be_made_from_it(imported: Path) -> None:
    with pytest.raises(DualpixError, match="nothing says where the frames"):
        read_scene(imported)


def test_distances_for_some_frames_only_are_refused(pictures: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"{number}.png").write_bytes((pictures / f"{number}.png").read_bytes())
    (tmp_path / FOCUS_CSV).write_text("file,diopters\n1.png,0.5\n2.png,\n3.png,1.5\n")
    with pytest.raises(DualpixError, match="no focus for frame 2"):
        read_listing(tmp_path)


def test_metres_can_be_given_later(imported: Path, tmp_path: Path) -> None:
    done = import_stack(sorted(imported.glob("*.png")), tmp_path / "out", Given(ends_d=(0.2, 1.8)))
    assert [f.achieved_d for f in done.record.frames] == pytest.approx(np.linspace(0.2, 1.8, 9))
