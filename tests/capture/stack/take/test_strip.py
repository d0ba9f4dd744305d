"""The thumbnail strip: every frame at its place, what is missing grey, doubt with a border."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.capture.stack.take.scripted import plan_of

from dualpix.capture.camera_protocol import Exposure, PlannedFrame
from dualpix.capture.stack.take.strip import Strip

PLAN = plan_of((0.3, 0.9, 1.5), (2.8, 5.6))
LEFT, TOP, ACROSS, DOWN = 44, 16, 164, 111


def picture(level: float) -> npt.NDArray[np.float32]:
    """Light that rises from left to right, of a format of its own."""
    ramp = np.linspace(0.2, 1.0, 300, dtype=np.float32)[None, :, None] * np.float32(level)
    return np.broadcast_to(ramp, (150, 300, 3)).astype(np.float32)


def cells(folder: Path, rows: int = 2, columns: int = 3) -> npt.NDArray[np.float64]:
    """(rows, columns, h, w) of the strip, gray."""
    page = np.asarray(Image.open(folder / "strip.jpg").convert("L"), np.float64)
    return np.array(
        [
            [page[TOP + r * DOWN :, LEFT + c * ACROSS :][:107, :160] for c in range(columns)]
            for r in range(rows)
        ]
    )  # fmt: skip


def test_frames_are_at_their_places(tmp_path: Path) -> None:
    strip = Strip(tmp_path, PLAN.frames)
    strip.save()
    assert not (tmp_path / "strip.jpg").exists()  # nothing to show
    strip.show(3, picture(0.5))  # second stop, second aperture
    inside = cells(tmp_path)[:, :, 10:-10, 10:-10]
    grey = np.abs(inside - 96).max(axis=(2, 3)) < 6
    assert grey.tolist() == [[True, True, True], [True, False, True]]
    shown = inside[1, 1].mean(axis=0)
    assert np.all(np.diff(shown[::20]) > 0)
    strip.remove(3)
    strip.show(0, picture(0.5))
    grey = np.abs(cells(tmp_path)[:, :, 10:-10, 10:-10] - 96).max(axis=(2, 3)) < 6
    assert grey.tolist() == [[False, True, True], [True, True, True]]


def test_drift_of_exposure_is_seen_and_apertures_look_alike(tmp_path: Path) -> None:
    strip = Strip(tmp_path, PLAN.frames)
    for index, level in ((0, 0.5), (2, 0.25), (1, 0.01)):
        strip.show(index, picture(level))
    mean = cells(tmp_path).mean(axis=(2, 3))
    assert mean[0, 1] < 0.8 * mean[0, 0]
    assert mean[1, 0] == pytest.approx(mean[0, 0], rel=0.05)


def test_doubt_has_a_border(tmp_path: Path) -> None:
    strip = Strip(tmp_path, PLAN.frames)
    strip.show(0, picture(0.5), suspect=True)
    page = np.asarray(Image.open(tmp_path / "strip.jpg").convert("RGB"), np.float64)
    edge = page[TOP + 1, LEFT + 5 : LEFT + 150].mean(axis=0)
    assert edge[0] > 180 and edge[2] < 110
    strip.mark(0, suspect=False)
    strip.save()
    page = np.asarray(Image.open(tmp_path / "strip.jpg").convert("RGB"), np.float64)
    assert abs(np.diff(page[TOP + 1, LEFT + 5 : LEFT + 150].mean(axis=0))).max() < 20


def test_a_strip_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    strip = Strip(tmp_path / "missing", PLAN.frames)
    strip.show(0, picture(0.5))
    strip.show(1, None)


def test_long_stacks_fit_into_a_jpeg(tmp_path: Path) -> None:
    frames = [PlannedFrame(k, 0.01 * k, Exposure(2.8)) for k in range(1500)]
    strip = Strip(tmp_path, frames)
    strip.show(700, picture(0.5))
    with Image.open(tmp_path / "strip.jpg") as page:
        assert page.size[0] < 65_000
