"""Changes of live view: seen where they are, not where lamps flicker and sensors are noisy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.capture.focus.fakes import Clock, FakeDrive, make_drive

from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.evidence import Bounds, View, Watch, inside, sharpness
from dualpix.capture.types import FloatImage

TEXTURE = np.random.default_rng(0).uniform(0.2, 0.8, (60, 90)).astype(np.float32)


class Pictures(FakeDrive):
    """Live view from a function of the number of the picture."""

    def __init__(self, show: Callable[[int], FloatImage]) -> None:
        self.clock, self.looks, self.picture_s, self._show = Clock(), 0, 0.01, show

    def live_view(self) -> FloatImage:
        self.clock.sleep(self.picture_s)
        self.looks += 1
        return self._show(self.looks)


def noisy(picture: FloatImage, number: int, noise: float = 0.02) -> FloatImage:
    rng = np.random.default_rng(number)
    return np.asarray(picture + noise * rng.standard_normal(picture.shape), np.float32)


def watch(drive: FakeDrive, bounds: Bounds | None = None) -> Watch:
    return Watch(drive, bounds, drive.clock, drive.clock.sleep)


def shifted(picture: FloatImage, share: float) -> FloatImage:
    """A picture between this one and its neighbour to the right."""
    return np.asarray((1 - share) * picture + share * np.roll(picture, 1, axis=1), np.float32)


def test_noise_and_flicker_are_no_change_and_motion_below_a_tenth_of_a_pixel_is() -> None:
    drive = Pictures(lambda n: noisy(TEXTURE, n) * np.float32(1 + 0.1 * np.sin(n)))
    eye = watch(drive)
    before = eye.learn_rest()
    assert not any(eye.changed(before, eye.look()) for _ in range(30))
    moved = View.of(noisy(shifted(TEXTURE, 0.15), 77))
    assert eye.changed(before, moved)


def test_blurred_pictures_are_compared_where_noise_is_low() -> None:
    smooth = np.tile(np.linspace(0.3, 0.6, 90, dtype=np.float32), (60, 1))
    drive = Pictures(lambda n: noisy(smooth, n, 0.03))
    eye = watch(drive)
    before = eye.learn_rest()
    brighter_left = np.asarray(smooth + 0.02 * np.linspace(1, -1, 90)[None], np.float32)
    difference = View.of(noisy(brighter_left, 99, 0.03)).difference(before)
    at_rest = eye.look().difference(before)
    assert difference[0] < 2 * at_rest[0]  # not to be seen at full resolution
    assert eye.changed(before, View.of(noisy(brighter_left, 99, 0.03)))


def test_wait_for_change_ends_with_the_change_and_learns_how_long_it_takes() -> None:
    drive = Pictures(lambda n: noisy(TEXTURE if n < 20 else shifted(TEXTURE, 0.5), n))
    eye = watch(drive, Bounds(first_change_s=0.4))
    before = eye.learn_rest()
    looked = drive.looks
    assert eye.wait_for_change(before, rested=True)[0]
    assert drive.looks == 20
    waited = (20 - looked) * 0.01
    start = drive.clock.now
    seen, _ = eye.wait_for_change(eye.look(), rested=True)
    assert not seen
    # now it is known how long this camera takes: three times that is enough
    assert drive.clock.now - start == pytest.approx(3 * waited + 0.02, abs=0.02)


def test_one_slow_picture_is_forgotten_and_motion_under_way_tells_nothing() -> None:
    place = [0.0]
    drive = Pictures(lambda n: shifted(TEXTURE, place[0]))
    eye = watch(drive, Bounds(change_s=9.0))

    def step(picture_s: float, rested: bool) -> None:
        drive.picture_s = picture_s
        before = eye.look()
        place[0] += 0.1
        assert eye.wait_for_change(before, rested=rested)[0]

    def patience_s() -> float:
        drive.picture_s, start = 0.01, drive.clock.now
        assert not eye.wait_for_change(eye.look(), rested=True)[0]
        return drive.clock.now - start

    step(2.0, rested=True)
    assert patience_s() == pytest.approx(6.0, abs=0.05)
    for _ in range(5):
        step(0.01, rested=False)
    assert patience_s() == pytest.approx(6.0, abs=0.05)
    for _ in range(5):
        step(0.01, rested=True)
    assert patience_s() == pytest.approx(0.04, abs=0.02)


def test_settle_waits_for_the_end_of_motion() -> None:
    drive = Pictures(lambda n: noisy(shifted(TEXTURE, min(1.0, 0.1 * max(0, n - 6))), n, 0.004))
    eye = watch(drive)
    eye.learn_rest()
    settled, view = eye.settle()
    assert settled.reached
    assert drive.looks >= 16
    assert settled.frames == drive.looks - 5
    assert settled.seconds == pytest.approx(0.01 * settled.frames)
    # the mean of the last three has less noise than one
    truth = View.of(shifted(TEXTURE, 1.0))
    assert view.difference(truth)[0] < 0.5 * eye.look().difference(truth)[0]


def test_restlessness_ends_the_wait_and_is_learned() -> None:
    drive = Pictures(lambda n: noisy(TEXTURE, n, 0.002 if n < 8 else 0.05))
    eye = watch(drive, Bounds(settle_s=0.3))
    eye.learn_rest()
    drive.looks = 10
    first, _ = eye.settle()
    assert not first.reached
    assert first.seconds == pytest.approx(0.3, abs=0.02)
    second, _ = eye.settle()
    assert second.reached


def test_same_picture_twice_tells_nothing_of_noise() -> None:
    drive = Pictures(lambda n: noisy(TEXTURE, n // 2))
    eye = watch(drive)
    before = eye.learn_rest()
    assert not any(eye.changed(before, eye.look()) for _ in range(20))


def test_picture_without_noise_needs_no_change_to_be_still() -> None:
    drive = Pictures(lambda n: TEXTURE)
    eye = watch(drive)
    before = eye.learn_rest()
    assert not eye.changed(before, eye.look())
    assert eye.changed(before, View.of(shifted(TEXTURE, 0.02)))


def test_black_and_changing_size_are_said() -> None:
    with pytest.raises(DualpixError, match="live view is black"):
        View.of(np.zeros((10, 10), np.float32))
    with pytest.raises(DualpixError, match="changed its size"):
        View.of(TEXTURE).difference(View.of(TEXTURE[:30]))


def test_sharpness_rises_with_detail_and_ignores_light() -> None:
    soft = shifted(shifted(TEXTURE, 0.5), 0.5)
    assert sharpness(TEXTURE) > 1.5 * sharpness(soft)
    assert sharpness(TEXTURE * np.float32(0.3)) == pytest.approx(sharpness(TEXTURE), rel=1e-4)


def test_box_is_cut_in_shares() -> None:
    picture = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert inside(picture, (0.5, 0.25, 0.5, 0.5)).tolist() == picture[1:3, 3:].tolist()


def test_watch_sees_the_smallest_middle_step_of_a_lens() -> None:
    drive = make_drive(seed=3)
    eye = watch(drive)
    for position in (100.0, 500.0, 1100.0):
        drive.lens.move_to(position)
        drive.clock.sleep(1.0)
        before = eye.learn_rest()
        drive.drive("near", 2)
        assert eye.wait_for_change(before, rested=True)[0]
