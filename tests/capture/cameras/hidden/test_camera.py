"""The camera behind the test cameras: its pictures against the project's renderer, its files, exposure and books."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dualpix.capture import optics
from dualpix.capture.camera_protocol import CameraError, CardFull
from dualpix.capture.cameras.hidden.blur import half_disc_kernels
from dualpix.capture.cameras.hidden.body import Body
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.hidden.lens import HiddenLens, LensTruth, lens_truth
from dualpix.capture.cameras.hidden.truth import read_state
from dualpix.capture.errors import DualpixError
from dualpix.capture.raw import decode

REFERENCE = (1 / 60, 100.0)


@pytest.fixture
def camera() -> HiddenCamera:
    return HiddenCamera.from_seed(0)


def at_diopters(camera: HiddenCamera, diopters: float) -> None:
    """Put the glass where it focuses at ``diopters`` and let it arrive."""
    a, b, c = camera.lens.truth.coefficients
    units = float(np.roots([c, b, a - diopters]).real.max()) if c else (diopters - a) / b
    camera.lens.position = camera.lens._glass = units


def sharpness(picture: np.ndarray, box: tuple[float, float, float, float]) -> float:
    height, width = picture.shape[:2]
    x, y, w, h = box
    part = picture[round(y * height) : round((y + h) * height), round(x * width) : round((x + w) * width)]
    return float(np.square(np.diff(part, axis=1)).mean() / part.mean() ** 2)


@pytest.mark.parametrize("circle_px", [0.0, 0.7, -2.0, 5.5, -13.0])
def test_half_kernels_lie_apart_as_the_gain_says_and_agree_with_the_renderer_s(circle_px: float) -> None:
    import torch

    from dualpix.capture.render import PsfModel, half_kernels

    left, right = half_disc_kernels(circle_px, 0.21)
    axis = np.arange(left.shape[0]) - left.shape[0] // 2
    centroids = [float((kernel.sum(0) * axis).sum() / kernel.sum()) for kernel in (left, right)]
    assert left.sum() == pytest.approx(0.5, abs=1e-6) and right.sum() == pytest.approx(0.5, abs=1e-6)
    assert centroids[1] - centroids[0] == pytest.approx(0.21 * circle_px, abs=0.01 + 0.01 * abs(circle_px))
    if abs(circle_px) > 2:
        psf = PsfModel(0.21, edge_px=0.3, edge_relative=0.0)
        size = psf.kernel_size_px(abs(circle_px))
        theirs = half_kernels(torch.tensor([circle_px], dtype=torch.float64), psf, size)
        for mine, other in zip((left, right), theirs, strict=True):
            margin = (size - mine.shape[0]) // 2
            assert np.abs(np.pad(mine, margin) - other[0].numpy()).sum() < 0.06


def test_picture_is_that_of_the_layered_renderer_of_the_project(camera: HiddenCamera) -> None:
    import torch

    from dualpix.capture.render import PsfModel
    from dualpix.capture.render.layered import render_layers

    model = camera.body.lens_model(2.8, 1.1)
    scene = camera.scene
    colour, alpha, circles = [], [], []
    for layer in scene.layers:
        canvas = np.zeros((*scene.canvas_hw, 4), np.float32)
        height, width = layer.colour.shape[:2]
        canvas[layer.top : layer.top + height, layer.left : layer.left + width] = layer.colour
        alpha.append(canvas[..., 3])
        colour.append(np.where(canvas[..., 3:] > 0, canvas[..., :3] / np.maximum(canvas[..., 3:], 1e-6), 0))
        circles.append(float(optics.circle_of_confusion_px(1 / layer.diopters, model)))
    with torch.inference_mode():
        theirs = render_layers(
            torch.tensor(np.stack(colour)).permute(0, 3, 1, 2)[None],
            torch.tensor(np.stack(alpha))[None],
            torch.tensor(circles, dtype=torch.float32)[None],
            PsfModel(camera.body.disparity_gain, edge_px=0.3, edge_relative=0.0),
            scene.margin_px,
        )
    ours = camera.render(2.8, 1.1, magnification=1.0)
    for mine, other in zip(ours, theirs, strict=True):
        difference = mine - other[0].permute(1, 2, 0).numpy()
        assert np.sqrt((difference**2).mean()) < 0.01  # of a half, whose light is up to 0.5


def test_each_target_is_sharpest_where_it_stands(camera: HiddenCamera) -> None:
    assert len(camera.targets) >= 5
    grid = np.arange(0.1, 2.5, 0.05)
    curves = []
    for diopters in grid:
        at_diopters(camera, diopters)
        view = camera.live_view()
        curves.append([sharpness(view, box) for _, box in camera.targets])
    peaks = grid[np.argmax(curves, axis=0)]
    assert np.abs(peaks - [1 / distance for distance, _ in camera.targets]).max() <= 0.06


def test_still_is_a_dual_pixel_raw_whose_disparity_tells_the_true_depth(camera: HiddenCamera, tmp_path: Path) -> None:
    at_diopters(camera, 1.0)
    truth = camera.still(2.8, *REFERENCE, tmp_path / "a.dng")
    image = decode(tmp_path / "a.dng")
    assert image.size_hw == camera.body.size_hw
    assert (image.meta.f_number, image.meta.iso) == (2.8, 100)
    assert image.meta.focal_length_mm == camera.body.focal_length_mm
    assert image.meta.focus_distance_m == pytest.approx(1.0)
    assert truth.diopters == pytest.approx(1.0, abs=1e-6)
    lens = camera.body.lens_model(2.8, truth.diopters)
    height, width = image.size_hw
    for distance, (x, y, w, h) in camera.targets:
        rows, columns = (
            slice(round(at * n), round((at + span) * n)) for at, span, n in ((y, h, height), (x, w, width))
        )
        halves = [cv2.GaussianBlur(view[..., 1], (0, 0), 2.0)[rows, columns] for view in (image.left, image.right)]
        left, right = (half / half.mean() for half in halves)
        slope = np.gradient((left + right) / 2, axis=1)
        shift = float(((left - right) * slope).sum() / (slope**2).sum())
        assert shift == pytest.approx(float(optics.disparity_px(distance, lens)), abs=0.15, rel=0.25)


def test_live_view_is_a_jpeg_and_stands_still_but_for_noise(camera: HiddenCamera) -> None:
    frames = [np.asarray(Image.open(io.BytesIO(camera.live_view_jpeg())), float) / 255 for _ in range(3)]
    assert frames[0].shape == camera.body.size_hw
    still = np.abs(frames[1] - frames[0]).mean()
    camera.drive("far", 3)
    time.sleep(0.05)
    moved = np.abs(np.asarray(Image.open(io.BytesIO(camera.live_view_jpeg())), float) / 255 - frames[2]).mean()
    assert 0 < still < 0.01 and moved > 4 * still


def test_brightness_follows_exposure_aperture_and_iso(camera: HiddenCamera, tmp_path: Path) -> None:
    def level(f_number: float, exposure_s: float, iso: float) -> float:
        camera.still(f_number, exposure_s, iso, tmp_path / "a.dng")
        return float(decode(tmp_path / "a.dng").combined.mean())

    one = level(2.8, 1 / 60, 100)
    assert level(2.8, 1 / 120, 100) == pytest.approx(one / 2, rel=0.02)
    assert level(5.6, 1 / 60, 100) == pytest.approx(one / 4, rel=0.02)
    assert level(5.6, 1 / 60, 400) == pytest.approx(one, rel=0.02)


def test_what_the_camera_cannot_do_it_refuses(camera: HiddenCamera, tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    with pytest.raises(CameraError, match=r"cannot set f/3\.3; expected f/1\.8"):
        camera.still(3.3, *REFERENCE, path)
    with pytest.raises(CameraError, match="cannot set exposure 60"):
        camera.still(2.8, 60.0, 100, path)
    full = HiddenCamera(seed=0, body=Body(card_frames=1))
    full.still(2.8, *REFERENCE, path)
    with pytest.raises(CardFull, match="the card is full"):
        full.still(2.8, *REFERENCE, tmp_path / "b.dng")
    assert full.free_frames == 0 and not (tmp_path / "b.dng").exists()


def test_breathing_enlarges_the_picture_about_its_centre(camera: HiddenCamera) -> None:
    """The position of a target, found by matching, moves away from the centre as the magnification says."""
    lens = HiddenLens(replace(LensTruth(), breathing=0.02))
    breathing = HiddenCamera(lens, seed=0)
    # at a small aperture focus changes the size of the picture and little else
    still, larger = (sum(breathing.render(16.0, 1.0, m))[..., 1] for m in (1.0, 1.04))
    height, width = still.shape
    errors = []
    for _, (x, y, w, h) in breathing.targets:
        left, top, size = round(x * width), round(y * height), (round(w * width), round(h * height))
        around = cv2.getRectSubPix(
            larger, (size[0] + 14, size[1] + 14), (left + (size[0] - 1) / 2, top + (size[1] - 1) / 2)
        )
        score = cv2.matchTemplate(around, still[top : top + size[1], left : left + size[0]], cv2.TM_CCOEFF_NORMED)
        _, _, _, (dx, dy) = cv2.minMaxLoc(score)
        centre = np.array([left + size[0] / 2 - width / 2, top + size[1] / 2 - height / 2])
        errors.append(np.array([dx - 7, dy - 7]) - 0.04 * centre)
    assert np.abs(errors).max() <= 0.6  # matched to whole pixels


def test_books_are_kept_of_truth_and_device_time(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    camera = HiddenCamera.from_seed(4, state=state)
    started = time.monotonic()
    camera.drive("near", 3)
    for name in ("a.dng", "b.dng"):
        camera.live_view_jpeg()
        camera.still(2.8, 0.02, 100, tmp_path / name)
    passed = time.monotonic() - started
    shots = read_state(state)
    assert shots == camera.shots and [s.file for s in shots] == ["a.dng", "b.dng"]
    assert [s.shot for s in shots] == [0, 1] and shots[0].sha256 != shots[1].sha256
    assert shots[1].busy_s - shots[0].busy_s > 0.02
    assert 0.04 < camera.busy_s <= passed
    assert "diopters" in json.loads(state.read_text().splitlines()[0])
    state.write_text("no state\n")
    with pytest.raises(DualpixError, match="cannot read the state"):
        read_state(state)


def test_device_time_is_not_counted_twice(camera: HiddenCamera) -> None:
    camera.account(10.0, 12.0)
    before = camera.busy_s
    camera.account(11.0, 13.0)
    camera.account(12.5, 12.75)
    assert camera.busy_s - before == pytest.approx(1.0)


def test_seeds_give_different_lenses_and_scenes_and_the_same_ones_again() -> None:
    one, again, other = (HiddenCamera.from_seed(seed) for seed in (3, 3, 5))
    assert one.lens.truth == again.lens.truth != other.lens.truth
    np.testing.assert_array_equal(one.depth_m, again.depth_m)
    np.testing.assert_array_equal(one.render(4.0, 1.0)[0], again.render(4.0, 1.0)[0])
    assert not np.array_equal(one.depth_m, other.depth_m)


def test_truth_has_depth_edges_where_near_things_hide_far_ones(camera: HiddenCamera) -> None:
    depth = camera.depth_m
    assert depth.shape == camera.body.size_hw and depth.max() == pytest.approx(1 / 0.22, rel=1e-5)
    assert len(np.unique(depth)) >= 8
    for distance, (x, y, w, h) in camera.targets:
        part = depth[round((y + 0.02) * 128) : round((y + h) * 128), round((x + 0.02) * 192) : round((x + w) * 192)]
        np.testing.assert_allclose(part, distance, rtol=1e-5)
    assert camera.depth_at_m(1.04).shape == depth.shape


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_lenses_reach_from_beyond_infinity_to_under_half_a_metre(seed: int) -> None:
    truth = lens_truth(seed)
    a, b, c = truth.coefficients
    curve = [a + b * u + c * u * u for u in np.linspace(0, truth.end, 50)]
    assert curve[0] < 0 and curve[-1] > 2.3
    assert all(nearer > farther for farther, nearer in pairwise(curve))
    assert truth.sizes[1] < truth.sizes[2] < truth.sizes[3]
