"""Whether frames are told from what they are not: cut, repeated, exposed otherwise, taken elsewhere."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.capture.stack.take.scripted import EXPOSURE, Device, ScriptedCamera

from dualpix.capture.camera_protocol import Exposure
from dualpix.capture.stack.take.checks import (
    Candidate,
    Examined,
    Judge,
    change_score,
    examine,
    expected_score,
    exposure_differences,
    fingerprint,
)

PLACES = (0.2, 0.6, 1.0, 1.4, 1.8, 2.2)


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedCamera, Path]]:
    camera = Device(seed=5).connect()
    camera.home()
    yield camera, tmp_path_factory.mktemp("shots")


@pytest.fixture(scope="module")
def sweep(camera: tuple[ScriptedCamera, Path]) -> list[Examined]:
    """A frame at each place."""
    return [_shot(camera, f"p{number}", diopters) for number, diopters in enumerate(PLACES)]


def _shot(camera: tuple[ScriptedCamera, Path], stem: str, diopters: float | None = None) -> Examined:
    if diopters is not None:
        camera[0].go_to(diopters)
    return examine(camera[0].shoot(camera[1], stem, EXPOSURE).files)


def candidate(index: int, found: Examined, diopters: float = 0.5, **changes: object) -> Candidate:
    return replace(Candidate(index, EXPOSURE, EXPOSURE, diopters, True, found), **changes)  # type: ignore[arg-type]


def test_a_sweep_is_good(sweep: list[Examined]) -> None:
    judge = Judge()
    for number, (found, diopters) in enumerate(zip(sweep, PLACES, strict=True)):
        verdict = judge.judge(candidate(number, found, diopters))
        assert verdict.faults == verdict.doubts == () and not verdict.stale


def test_what_is_measured(camera: tuple[ScriptedCamera, Path], sweep: list[Examined]) -> None:
    path, found = camera[1] / "p0.dng", sweep[0]
    assert found.sha256 == (hashlib.sha256(path.read_bytes()).hexdigest(),)
    assert found.bytes == (path.stat().st_size,) and found.files == ("p0.dng",)
    assert found.tiles is not None and np.array(found.tiles).shape == (6, 8)
    assert found.meta.f_number == pytest.approx(2.8)
    # f^2 / (N pitch), 50 mm, f/2.8, pixels of 100 um
    assert found.px_per_d == pytest.approx(0.05**2 / 2.8 / 100e-6, rel=1e-3)
    assert found.thumbnail is not None and found.thumbnail.shape == (48, 72, 3)


def test_damage_is_a_fault(camera: tuple[ScriptedCamera, Path], tmp_path: Path, sweep: list[Examined]) -> None:
    data = (camera[1] / "p0.dng").read_bytes()
    for size in (0, 100, len(data) // 2, len(data) - 1):
        path = tmp_path / f"cut{size}.dng"
        path.write_bytes(data[:size])
        assert examine([path]).faults
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    good = shutil.copy(camera[1] / "p0.dng", tmp_path / "x.dng")
    assert examine([Path(good), tmp_path / "x.jpg"]).faults
    (tmp_path / "y.heic").write_bytes(b"something else" * 100)
    unknown = examine([tmp_path / "y.heic"])
    assert not unknown.faults and "not decoded here" in unknown.notes[0] and unknown.tiles is None


def test_a_bug_in_a_decoder_is_a_doubt(
    camera: tuple[ScriptedCamera, Path], monkeypatch: pytest.MonkeyPatch, sweep: list[Examined]
) -> None:
    monkeypatch.setattr("dualpix.capture.stack.take.checks.read_light", lambda path: 1 // 0)
    found = examine([camera[1] / "p0.dng"])
    assert not found.faults and "ZeroDivisionError" in Judge().judge(candidate(0, found)).doubts[0]


def test_a_file_seen_before_is_a_fault(sweep: list[Examined]) -> None:
    judge = Judge()
    judge.remember(sweep[2].sha256[0], 7)
    verdict = judge.judge(candidate(0, sweep[2]))
    assert verdict.stale and verdict.faults == ("it is the file of frame 7 again",)
    assert not judge.judge(candidate(1, sweep[1])).faults
    again = judge.judge(candidate(3, sweep[1]))
    assert again.stale and "frame 1" in again.faults[0]


def test_the_same_picture_in_another_file_is_a_fault(
    camera: tuple[ScriptedCamera, Path], sweep: list[Examined], tmp_path: Path
) -> None:
    path = tmp_path / "renamed.dng"
    path.write_bytes((camera[1] / "p3.dng").read_bytes() + b"\0")
    found = examine([path])
    assert found.sha256 != sweep[3].sha256 and not found.faults
    judge = Judge()
    assert not judge.judge(candidate(3, sweep[3])).faults
    assert judge.judge(candidate(4, found)).faults == ("it is the picture of frame 3 again",)


def test_fingerprints_tell_frames_apart(camera: tuple[ScriptedCamera, Path], sweep: list[Examined]) -> None:
    paths = [camera[1] / f"p{number}.dng" for number in range(len(PLACES))]
    assert len({fingerprint(path) for path in paths}) == len(paths)
    assert fingerprint(paths[0]) == fingerprint(paths[0])


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (Exposure(2.8, 0.002, 800), []),
        (Exposure(2.83, 1 / 512, 800), []),
        (Exposure(None, None, None), []),
        (Exposure(3.2, 0.002, 800), ["f/3.2 instead of 2.8"]),
        (Exposure(2.8, 0.0025, 800), ["exposure s 0.0025 instead of 0.002"]),
        (Exposure(2.8, 0.002, 1000), ["ISO 1000 instead of 800"]),
    ],
)
def test_exposures_differ_from_a_third_of_a_stop_on(got: Exposure, words: list[str]) -> None:
    assert exposure_differences(EXPOSURE, got) == words


def test_another_exposure_is_a_doubt(sweep: list[Examined]) -> None:
    judge = Judge()
    other = Exposure(2.8, 1 / 250, 800.0)
    verdict = judge.judge(candidate(0, sweep[0], reported=other))
    assert not verdict.faults and "the camera took exposure s 0.004 instead of 0.002" in verdict.doubts[0]
    verdict = judge.judge(candidate(1, sweep[1], asked=Exposure(), reported=Exposure(4.0, 1 / 500, 800.0)))
    assert verdict.stale and "another exposure than the camera reported" in verdict.doubts[0]


def test_frames_are_compared_with_those_of_the_same_exposure(sweep: list[Examined]) -> None:
    judge = Judge()
    judge.judge(candidate(0, sweep[0]))
    brighter = replace(sweep[1], level=1.5 * (sweep[1].level or 0))
    assert "times as bright as frame 0" in judge.judge(candidate(1, brighter, 0.6)).doubts[0]
    elsewhere = Exposure(5.6, 1 / 125, 800.0)
    stated = replace(brighter.meta, f_number=5.6, exposure_s=1 / 125)
    fresh = replace(brighter, sha256=("0" * 64,), picture_sha256="1" * 64, meta=stated)
    assert not judge.judge(candidate(2, fresh, 0.6, asked=elsewhere, reported=elsewhere)).doubts


def test_a_small_file_is_a_doubt(sweep: list[Examined]) -> None:
    judge = Judge()
    for number in range(3):
        judge.judge(candidate(number, sweep[number], PLACES[number]))
    small = replace(sweep[3], bytes=(sweep[3].bytes[0] // 5,))
    assert "bytes are few" in judge.judge(candidate(3, small, PLACES[3])).doubts[0]


def test_a_picture_at_no_rest_is_a_doubt(sweep: list[Examined]) -> None:
    assert "did not come to rest" in Judge().judge(candidate(0, sweep[0], settled=False)).doubts[0]


def test_a_lens_that_stands_still_is_a_fault(camera: tuple[ScriptedCamera, Path]) -> None:
    first, second = _shot(camera, "still1", 0.5), _shot(camera, "still2")
    judge = Judge()
    judge.judge(candidate(0, first, 0.5))
    verdict = judge.judge(candidate(1, second, 1.0))  # so the camera says
    assert verdict.unmoved and verdict.stale and "did not change" in verdict.faults[0]


def test_without_optics_earlier_moves_tell_what_a_move_looks_like(
    camera: tuple[ScriptedCamera, Path], sweep: list[Examined]
) -> None:
    blind = [replace(found, px_per_d=None) for found in sweep]
    again = replace(_shot(camera, "again", PLACES[-1]), px_per_d=None)
    judge = Judge()
    judge.judge(candidate(0, blind[-1], 2.2))
    assert not judge.judge(candidate(1, again, 2.6)).unmoved  # nothing to compare with
    judge = Judge()
    for number, found in enumerate(blind):
        assert not judge.judge(candidate(number, found, PLACES[number])).unmoved
    assert judge.judge(candidate(9, again, 2.6)).unmoved
    judge.new_sweep()


def test_a_homed_lens_may_come_back_to_the_same_place(camera: tuple[ScriptedCamera, Path]) -> None:
    first, second = _shot(camera, "home1", 0.5), _shot(camera, "home2")
    judge = Judge()
    judge.judge(candidate(0, first, 0.1))
    judge.new_sweep()
    assert not judge.judge(candidate(1, second, 1.9)).unmoved


def test_noise_and_brightness_are_no_change() -> None:
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.random((120, 160)).astype(np.float32), (0, 0), 1.5)
    for gain in (1.0, 0.7):
        scores = [
            change_score(scene + _noise(rng, scene), np.float32(gain) * scene + _noise(rng, scene)) for _ in range(50)
        ]
        assert abs(np.mean(scores)) < 0.7 and np.std(scores) < 2 and max(scores) < 5
    blurred = cv2.GaussianBlur(scene, (0, 0), 1.0)
    assert change_score(scene + _noise(rng, scene), blurred + _noise(rng, scene)) > 10


def test_what_a_move_must_show_depends_on_blur_and_detail() -> None:
    rng = np.random.default_rng(1)
    scene = cv2.GaussianBlur(rng.random((120, 160)).astype(np.float32), (0, 0), 1.5)
    one, other = scene + _noise(rng, scene), scene + _noise(rng, scene)
    scores = [expected_score(one, other, blur_px) for blur_px in (0.0, 3.0, 6.0)]
    assert scores[0] == 0 and 10 < scores[1] < scores[2]
    wall = np.full_like(scene, 0.5)
    assert expected_score(wall + _noise(rng, wall), wall + _noise(rng, wall), 6.0) < 10


def _noise(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    return rng.normal(0, 0.01, like.shape).astype(np.float32)


def test_sharpness_that_comes_back_is_a_doubt(camera: tuple[ScriptedCamera, Path], sweep: list[Examined]) -> None:
    lost = _shot(camera, "lost", PLACES[0])
    judge = Judge()
    for number, found in enumerate(sweep[:5]):
        judge.judge(candidate(number, found, PLACES[number]))
    verdict = judge.judge(candidate(5, lost, PLACES[5]))
    assert verdict.stale and "places that the focus had passed" in verdict.doubts[-1]


def test_a_dropped_frame_is_no_neighbour(sweep: list[Examined]) -> None:
    judge = Judge()
    bright = replace(sweep[0], level=9 * (sweep[0].level or 0))
    judge.judge(candidate(0, bright, PLACES[0]))
    judge.drop(0)
    assert not judge.judge(candidate(1, sweep[1], PLACES[1])).doubts
    assert "file of frame 0" in judge.judge(candidate(2, sweep[0], PLACES[0])).faults[0]  # but it was seen
