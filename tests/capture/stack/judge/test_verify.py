"""A sweep tells by itself what is wrong with it, and nothing is wrong with a good one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.stack_folders import ShotStack, rewritten, shoot_stack

from dualpix.capture.stack.judge.verification import Verification
from dualpix.capture.stack.judge.verify import verify
from dualpix.capture.stack.judge.verify_curves import peak_places, valley_depths
from dualpix.capture.stack.judge.verify_plot import verification_picture
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.stack.keep.record import FrameRecord

Frames = list[FrameRecord]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> ShotStack:
    return shoot_stack(tmp_path_factory.mktemp("verify") / "stack", seed=1, all_in_focus=True)


@pytest.fixture
def shot(original: ShotStack, tmp_path: Path) -> Iterator[ShotStack]:
    place = tmp_path / "stack"
    shutil.copytree(original.folder, place)
    yield replace(original, folder=place)


def focus_frames(shot: ShotStack) -> Frames:
    return [frame for frame in shot.record.frames if frame.role == "focus"]


def exchanged(frames: Frames, first: int, then: int) -> Frames:
    """The files of two frames under each other's distance."""
    out = list(frames)
    a, b = frames[first], frames[then]
    out[first] = replace(a, files=b.files, sha256=b.sha256, bytes=b.bytes)
    out[then] = replace(b, files=a.files, sha256=a.sha256, bytes=a.bytes)
    return out


def codes(result: Verification, *severities: str) -> dict[str, tuple[int, ...]]:
    return {f.code: f.frames for f in result.findings if not severities or f.severity in severities}


def test_a_good_sweep_is_good_and_says_where_things_are(shot: ShotStack) -> None:
    result = verify(shot.folder)
    assert result.verdict == "good", result.findings
    assert set(codes(result)) <= {"breathing", "open", "light"}
    sweep = result.sweeps[0]
    assert sweep.telling.mean() > 0.8
    assert sweep.alignment is not None
    truth = 1 / shot.camera.depth_at_m(1 + 0.015 * sweep.alignment.d0)
    rows, columns = sweep.peak_places.shape
    middles = cv2.resize(truth, (columns, rows), interpolation=cv2.INTER_NEAREST)
    flat = [np.ptp(block) < 0.05 for block in _blocks(truth, rows, columns)]
    inside = np.array(flat).reshape(rows, columns) & (middles > 0.3) & (middles < 2.2) & sweep.telling
    assert inside.sum() > 15
    assert np.median(np.abs(sweep.peak_places - middles)[inside]) < 0.04
    json.dumps(result.to_json(), allow_nan=False)


def _blocks(values: np.ndarray, rows: int, columns: int) -> Iterator[np.ndarray]:
    for band in np.array_split(values, rows, axis=0):
        yield from np.array_split(band, columns, axis=1)


@pytest.mark.parametrize(("first", "then"), [(3, 6), (2, 7), (0, 5)])
def test_exchanged_frames_are_named(first: int, then: int, shot: ShotStack) -> None:
    frames = focus_frames(shot)
    rewritten(shot, exchanged(frames, first, then), plan={})
    found = codes(verify(shot.folder), "bad")
    assert found["exchanged"] == (frames[first].index, frames[then].index)


@pytest.mark.parametrize("first", [0, 3, 7])
def test_exchanged_neighbours_are_told_by_their_halves(first: int, shot: ShotStack) -> None:
    frames = focus_frames(shot)
    rewritten(shot, exchanged(frames, first, first + 1), plan={})
    result = verify(shot.folder)
    assert result.verdict == "bad"
    named = {index for finding in result.findings if finding.severity == "bad" for index in finding.frames}
    assert named == {frames[first].index, frames[first + 1].index}


def test_a_reversed_sweep_is_told_by_its_halves(shot: ShotStack) -> None:
    frames = focus_frames(shot)
    turned = [
        replace(f, files=g.files, sha256=g.sha256, bytes=g.bytes) for f, g in zip(frames, frames[::-1], strict=True)
    ]
    rewritten(shot, turned, plan={})
    assert "reversed" in codes(verify(shot.folder), "suspect")


def test_a_frame_at_a_wrong_distance_is_named_with_where_it_belongs(shot: ShotStack) -> None:
    frames = focus_frames(shot)
    wrong = [replace(f, achieved_d=f.achieved_d + 0.9) if f.index == 2 else f for f in frames]
    rewritten(shot, wrong, plan={})
    result = verify(shot.folder)
    assert codes(result, "bad")["misplaced"] == (2,)
    assert "between 0.500 and 1.000 D" in next(f.text for f in result.findings if f.code == "misplaced")
    assert "order" in codes(result, "suspect")


def _cut(shot: ShotStack, frame: FrameRecord) -> None:
    path = shot.folder / frame.files[0]
    path.write_bytes(path.read_bytes()[:20_000])


def _remove(shot: ShotStack, frame: FrameRecord) -> None:
    (shot.folder / frame.files[0]).unlink()


@pytest.mark.parametrize(("damage", "code"), [(_cut, "changed"), (_cut, "damaged"), (_remove, "damaged")])
def test_damaged_files_are_findings(
    damage: Callable[[ShotStack, FrameRecord], None], code: str, shot: ShotStack
) -> None:
    damage(shot, shot.record.frames[3])
    result = verify(shot.folder)
    assert result.verdict == "bad"
    assert codes(result, "bad")[code] == (3,)
    assert len(result.sweeps[0].checks) == 8


def test_missing_and_doubled_frames(shot: ShotStack) -> None:
    frames = focus_frames(shot)
    rewritten(shot, [f for f in shot.record.frames if f.index != 4])
    found = codes(verify(shot.folder), "bad")
    assert found["missing"] == (4,)
    doubled = [replace(f, files=frames[2].files, sha256=frames[2].sha256) if f.index == 3 else f for f in frames]
    rewritten(shot, doubled, plan={})
    assert codes(verify(shot.folder), "bad")["duplicate"] == (2, 3)
    rewritten(shot, frames, plan={}, complete=False)
    assert "incomplete" in codes(verify(shot.folder), "bad")


def test_a_lens_that_did_not_move(shot: ShotStack, tmp_path: Path) -> None:
    """Two frames of one focus, each with its own noise, under two distances."""
    stuck = shoot_stack(tmp_path / "stuck", seed=1, diopters=(0.25, 0.5, 0.75, 1.0, 1.0 + 1e-4, 1.5, 1.75, 2.0, 2.25))
    frames = [replace(f, achieved_d=1.25, requested_d=1.25) if f.index == 4 else f for f in stuck.record.frames]
    rewritten(stuck, frames, plan={})
    assert codes(verify(stuck.folder), "suspect")["unmoved"] == (3, 4)


def test_gaps_uncertain_steps_and_doubts_of_the_capture(shot: ShotStack) -> None:
    frames = focus_frames(shot)
    wide = [replace(f, requested_d=f.requested_d - 0.4 * (f.index > 4)) for f in frames if f.index not in (3, 4)]
    rewritten(shot, wide, plan={})
    assert codes(verify(shot.folder), "suspect")["gap"] == (2, 6)
    vague = [replace(f, uncertainty_d=0.2) for f in frames]
    rewritten(shot, vague, plan={})
    assert "uncertain" in codes(verify(shot.folder), "suspect")
    noted = [replace(f, status="suspect", notes=("a cloud",)) if f.index == 2 else f for f in frames]
    rewritten(shot, [replace(f, settled=f.index != 1) for f in noted], plan={})
    found = codes(verify(shot.folder), "suspect")
    assert found["noted"] == (2,) and found["unsettled"] == (1,)


@pytest.mark.parametrize(("factor", "verdict"), [(1.01, "good"), (1.06, "suspect"), (0.75, "bad")])
def test_an_exposure_that_flickers(factor: float, verdict: str, tmp_path: Path) -> None:
    light = [1.0] * 9
    light[5] = factor
    stack = shoot_stack(tmp_path / "stack", exposure=light)
    result = verify(stack.folder)
    assert result.verdict == verdict
    if verdict != "good":
        assert codes(result)["exposure"] == (5,)


def test_light_that_fades_as_the_lens_is_racked_out_is_no_fault(tmp_path: Path) -> None:
    stack = shoot_stack(tmp_path / "stack", exposure=[0.98**n for n in range(9)])
    result = verify(stack.folder)
    assert result.verdict == "good" and "light" in codes(result, "note")


def moved_pictures(shot: ShotStack, folder: Path, shift_px: float) -> None:
    """The stack as plain pictures, the later half of them shifted."""
    folder.mkdir()
    frames = load_stack(shot.folder)
    rows = ["file,diopters,uncertainty_d"]
    for number, (frame, distance) in enumerate(zip(frames.frames, frames.focus_distance_m, strict=True)):
        matrix = np.array([[1, 0, shift_px if number > 4 else 0.0], [0, 1, 0]])
        moved = cv2.warpAffine(frame, matrix, (192, 128), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        name = f"{number}.png"
        cv2.imwrite(str(folder / name), np.clip(moved[..., ::-1] * 65535, 0, 65535).astype(np.uint16))
        rows.append(f"{name},{1 / distance},0.01")
    (folder / "focus.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize(("shift_px", "severity"), [(0.0, None), (1.5, "suspect"), (8.0, "bad")])
def test_a_tripod_that_was_touched(shift_px: float, severity: str | None, original: ShotStack, tmp_path: Path) -> None:
    moved_pictures(original, tmp_path / "moved", shift_px)
    result = verify(tmp_path / "moved")
    assert [f.severity for f in result.findings if f.code == "motion"] == ([severity] if severity else [])
    sweep = result.sweeps[0]
    assert max(check.shift_px for check in sweep.checks) == pytest.approx(shift_px, abs=0.3)


def test_pictures_without_texture_cannot_be_checked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(5):
        gray = rng.normal(120, 3, (96, 128, 3))
        cv2.imwrite(str(tmp_path / f"{number}_D{0.5 + number / 4:.2f}.png"), gray.astype(np.uint8))
    result = verify(tmp_path)
    assert "texture" in codes(result, "suspect")
    assert np.isnan(result.sweeps[0].peak_places[~result.sweeps[0].telling]).all()


def test_the_picture_shows_the_verdict(shot: ShotStack) -> None:
    good = verification_picture(verify(shot.folder))
    assert good.shape == (920, 1400, 3) and good.dtype == np.uint8
    rewritten(shot, exchanged(focus_frames(shot), 3, 6), plan={})
    bad = verification_picture(verify(shot.folder))
    red, green = (np.array(c) for c in ((179, 38, 30), (26, 127, 55)))
    assert (np.abs(bad.astype(int) - red).sum(axis=2) < 6).sum() > 1500
    assert (np.abs(good.astype(int) - green).sum(axis=2) < 6).sum() > 1500


# --- the parts ----------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 12), st.integers(0, 11), st.integers(0, 2**31))
def test_a_curve_with_one_peak_has_no_valley(count: int, peak: int, seed: int) -> None:
    steps = np.random.default_rng(seed).uniform(0.01, 1, count)
    rising = np.where(np.arange(count) <= min(peak, count - 1), steps, -steps)
    assert not valley_depths(np.cumsum(rising)[:, None]).any()


@settings(max_examples=50, deadline=None)
@given(st.integers(4, 12), st.data())
def test_a_valley_is_as_deep_as_the_lower_of_its_sides(count: int, data: Any) -> None:
    place = data.draw(st.integers(1, count - 2))
    curve = np.zeros(count)
    curve[0], curve[-1], curve[place] = 1.0, 2.0, -0.5
    assert valley_depths(curve[:, None])[place, 0] == pytest.approx(1.5)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.3, 1.65), st.floats(0.1, 1.0))
def test_the_peak_of_a_gaussian_lies_between_uneven_frames(peak: float, width: float) -> None:
    focus = np.array([0.1, 0.3, 0.4, 0.75, 1.1, 1.2, 1.7, 2.1])
    curves = -(((focus - peak) / width) ** 2)[:, None]
    assert peak_places(curves, focus)[0] == pytest.approx(peak, abs=1e-6)
