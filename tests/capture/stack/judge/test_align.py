"""Breathing and motion are found to a hundredth of a pixel under blur that differs with depth."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.stack_folders import shoot_stack

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.judge.align import (
    Alignment,
    align_stack,
    distance_px,
    estimate_alignment,
    match,
    warped,
)
from dualpix.capture.stack.judge.aligned import align_folder
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.stack.keep.record import read_record
from dualpix.capture.types import FloatImage, FocusStack, LensModel

Matrices = npt.NDArray[np.float64]


def breathing_stack(
    size_hw: tuple[int, int], *, share: float = 0.03, motion_px: float = 0.5, blur_px: float = 6.0, seed: int = 0
) -> tuple[FloatImage, npt.NDArray[np.float64], Matrices]:
    """Three planes at 0.3, 1 and 2 D, blurred by up to sigma ``blur_px``, seen by a lens that breathes and wanders.

    Returns:
        frames (9, H, W), their diopters, and the true maps from the middle frame.
    """
    height, width = size_hw
    rng = np.random.default_rng(seed)
    base = np.zeros(size_hw, np.float32)
    for sigma, amount in ((1.5, 1.0), (4, 1.0), (10, 1.2), (30, 1.5)):
        octave = cv2.GaussianBlur(rng.normal(0, 1, size_hw).astype(np.float32), (0, 0), sigma)
        base += amount * octave / octave.std()
    base = 0.4 + 0.1 * base
    focus = np.linspace(0.2, 2.2, 9)
    planes = ((0.3, slice(0, width // 3)), (1.0, slice(width // 3, 2 * width // 3)), (2.0, slice(2 * width // 3, None)))
    frames, maps = [], []
    for number, d in enumerate(focus):
        picture = np.empty(size_hw, np.float32)
        for depth, columns in planes:
            sigma = blur_px / 2 * abs(depth - d) + 0.3
            picture[:, columns] = cv2.GaussianBlur(base, (0, 0), sigma)[:, columns]
        scale = 1 + share / 2 * (d - focus[4])
        shift = np.zeros(2) if number == 4 else rng.normal(0, motion_px, 2)
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        matrix = np.column_stack([scale * np.eye(2), (1 - scale) * centre + shift])
        moved = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        frames.append(np.maximum(moved + rng.normal(0, 0.004, size_hw), 0).astype(np.float32))
        maps.append(matrix)
    return np.stack(frames), focus, np.stack(maps)


def errors_px(found: Alignment, truth: Matrices) -> npt.NDArray[np.float64]:
    """RMS over the picture for each frame, as the reference sees it."""
    back = cv2.invertAffineTransform(truth[found.reference])
    relative = [np.column_stack([m[:, :2] @ back[:, :2], m[:, :2] @ back[:, 2] + m[:, 2]]) for m in truth]
    return np.array([distance_px(a, b, found.size_hw) for a, b in zip(found.matrices, relative, strict=True)])


@pytest.fixture(scope="module")
def small() -> tuple[Alignment, Matrices]:
    frames, focus, truth = breathing_stack((192, 256), blur_px=2.0)
    return estimate_alignment(frames, focus), truth


def test_breathing_of_3_percent_under_blur_is_aligned_to_a_tenth_of_a_pixel(small: tuple[Alignment, Matrices]) -> None:
    found, truth = small
    apart = errors_px(replace(found, matrices=np.repeat(np.eye(2, 3)[None], 9, axis=0)), truth)
    assert apart.max() > 1.5  # without alignment
    assert errors_px(found, truth).max() < 0.1
    assert found.beta * (found.diopters[-1] - found.diopters[0]) == pytest.approx(0.03 / 1.015, rel=0.03)
    assert found.linear and all(found.trusted) and found.residual_px < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_at_full_size_too(seed: int) -> None:
    frames, focus, truth = breathing_stack((768, 1024), seed=seed)
    found = estimate_alignment(frames, focus)
    print(f"RMS {np.sqrt(np.mean(errors_px(found, truth) ** 2)):.4f} px, worst {errors_px(found, truth).max():.4f} px")
    assert errors_px(found, truth).max() < 0.1


def test_the_reference_shows_least_so_that_nothing_is_missing(small: tuple[Alignment, Matrices]) -> None:
    found, _ = small
    assert found.reference == 8 and found.d0 == found.diopters[8]
    scales = [math.sqrt(np.linalg.det(m[:, :2])) for m in found.matrices]
    assert max(scales) == pytest.approx(1.0, abs=1e-9)
    corners = np.array([[0, 0], [255, 0], [0, 191], [255, 191]], np.float64)
    for index in range(9):
        seen = found.to_frame(index, corners)
        assert (seen > -3).all() and (seen < [258, 194]).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 8), st.floats(-500, 500), st.floats(-500, 500))
def test_to_reference_undoes_to_frame(small_index: int, x: float, y: float) -> None:
    angle = 0.01 * small_index
    linear = (1 + 0.002 * small_index) * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    matrices = np.column_stack([linear, [3.0, -2.0 * small_index]])[None].repeat(9, axis=0)
    found = Alignment(0.01, 1.0, 0, matrices, (1.0,) * 9, (1.0,) * 9, (True,) * 9, True, 0.0, (100, 200), (0.0,) * 9)
    point = np.array([[x, y]])
    assert np.allclose(found.to_reference(small_index, found.to_frame(small_index, point)), point, atol=1e-6)


def test_warping_shows_what_the_reference_shows() -> None:
    """The mapping's direction, by a dot: seen in the frame at matrix (x, y), it lands on (x, y)."""
    frame = np.zeros((60, 80), np.float32)
    frame[33, 52] = 1.0
    matrix = np.array([[1.0, 0, 12.0], [0, 1.0, -7.0]])
    assert np.unravel_index(np.argmax(warped(frame, matrix)), frame.shape) == (40, 40)


def test_a_frame_that_does_not_match_is_scaled_by_the_model_alone() -> None:
    frames, focus, truth = breathing_stack((160, 208), motion_px=0.0, blur_px=2.0)
    frames[2] = np.random.default_rng(0).random(frames[2].shape).astype(np.float32)
    found = estimate_alignment(frames, focus)
    assert [index for index, good in enumerate(found.trusted) if not good] == [2]
    assert errors_px(found, truth).max() < 0.15


def test_scales_off_the_line_are_kept() -> None:
    frames, focus, _ = breathing_stack((192, 256), share=0.0, motion_px=0.0, blur_px=2.0)
    curved = [1 + 0.03 * (d - focus[4]) ** 2 for d in focus]
    centre = np.array([127.5, 95.5])
    maps = np.stack([np.column_stack([s * np.eye(2), (1 - s) * centre]) for s in curved])
    bent = np.stack(
        [cv2.warpAffine(f, m, (256, 192), borderMode=cv2.BORDER_REFLECT) for f, m in zip(frames, maps, strict=True)]
    )
    found = estimate_alignment(bent, focus)
    assert not found.linear
    assert errors_px(found, maps).max() < 0.15


def test_nothing_to_see_is_no_motion() -> None:
    found = estimate_alignment(np.full((4, 64, 64), 0.5, np.float32), [0.5, 1.0, 1.5, 2.0])
    assert found.trusted == (False, True, False, False) or found.trusted == (False, False, True, False)
    assert found.beta == 0 and np.allclose(found.matrices, np.eye(2, 3))
    with pytest.raises(DualpixError, match="32 px"):
        estimate_alignment(np.zeros((4, 16, 64), np.float32), [0.5, 1.0, 1.5, 2.0])


def test_the_all_in_focus_frame_comes_along() -> None:
    frames, focus, _ = breathing_stack((192, 256), blur_px=2.0)
    colour = np.repeat(frames[..., None], 3, axis=3)
    lens = LensModel(50, 2.8, 5.0, 100)
    stack = FocusStack(colour, 1 / focus, np.full(9, 0.01), lens, all_in_focus=colour[4])
    aligned, _ = align_stack(stack)
    assert aligned.all_in_focus is not None
    inner = slice(20, -20)
    expected = aligned.frames[4][inner, inner]
    assert np.abs(aligned.all_in_focus[inner, inner] - expected).mean() < 0.003
    assert np.abs(stack.frames[4][inner, inner] - expected).mean() > 0.006
    assert distance_px(match(frames[4], frames[4]), np.eye(2, 3), (192, 256)) < 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("align") / "stack"
    return shoot_stack(place, diopters=np.linspace(0.25, 2.25, 5), f_numbers=(2.8, 8.0), all_in_focus=True).folder


def test_a_folder_is_aligned_recorded_and_then_loaded(folder: Path) -> None:
    before = load_stack(folder, 2.8)
    files = {path.name: path.read_bytes() for path in folder.glob("*.dng")}
    done = align_folder(folder)
    record = read_record(folder)
    assert done.f_number == 8.0  # the narrowest: least blur
    assert record.breathing == done.alignment.breathing()
    assert done.alignment.beta == pytest.approx(0.015 / (1 + 0.015 * 2.25), rel=0.06)
    assert {path.name: path.read_bytes() for path in folder.glob("*.dng")} == files
    after = load_stack(folder, 2.8)
    assert np.array_equal(after.focus_distance_m, before.focus_distance_m)
    assert np.array_equal(after.uncertainty_d, before.uncertainty_d)
    _, again = align_stack(after)
    assert abs(again.beta) < 0.002
    assert np.array_equal(load_stack(folder, 2.8, aligned=False).frames, before.frames)


def test_aligned_frames_of_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    align_folder(folder)
    sidecar = folder / "aligned" / "alignment.json"
    content = json.loads(sidecar.read_text())
    content["sources"] = {name: "0" * 64 for name in content["sources"]}
    sidecar.write_text(json.dumps(content))
    with pytest.raises(DualpixError, match="align again"):
        load_stack(folder, 2.8)
    align_folder(folder)
    assert len(load_stack(folder, 2.8).frames) == 5


def test_a_failure_leaves_nothing_behind(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dualpix.capture.stack.judge import aligned

    def fail(*_: object) -> FloatImage:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(aligned, "warped", fail)
    with pytest.raises(DualpixError, match="No space left"):
        align_folder(folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
