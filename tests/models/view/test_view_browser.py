"""Pages in a real browser: what a person sees and touches. Skipped where there is no Chromium."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.support.chromium import Browser, find_chromium
from tests.support.viewed import data_of, picture_of, psnr_db, shown_scene

from dualpix.models.view.page import page_bytes
from dualpix.models.view.refocus import refocused, sharp_of
from dualpix.models.view.scene import Picture, Scene

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no chromium or google-chrome on this machine")
HURT = "<img src=x onerror='window.hurt=1'>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile"), (1000, 760)) as opened:
        yield opened


def scene() -> Scene:
    """Two methods, texts that are hostile."""
    made = shown_scene((72, 96))
    first = replace(made.estimates[0], notes=(HURT,))
    disparity, depth, sure = first.maps
    shifted = replace(disparity, values=disparity.values + np.float32(0.1234))
    other = replace(first, method="other", maps=(shifted, depth, sure))
    return replace(made, name=f"shot {HURT}", facts=((HURT, HURT),), estimates=(first, other))


def opened(browser: Browser, folder: Path, shown: Scene) -> Path:
    page = folder / "page.html"
    page.write_bytes(page_bytes([shown], 1, shown.name))
    browser.errors.clear()
    browser.requests.clear()
    browser.open(page)
    return page


def choose(browser: Browser, mode: str) -> None:
    browser.run(f"dualpix.choose('{mode}')")
    browser.wait(f"document.body.dataset.shown === '{mode}'")


def screen_of(browser: Browser, column: float, row: float) -> tuple[float, float]:
    """Where a pixel of the view (square pixels) lies in the window."""
    x, y = browser.run(
        "(() => { const box = dualpix.stage.element.getBoundingClientRect(), g = dualpix.stage.geometry;"
        f"return [box.left + g.left + g.scale * ({column} + 0.5), box.top + g.top + g.scale * ({row} + 0.5)] }})()"
    )
    return x, y


def hovered(browser: Browser, column: int, row: int) -> dict[str, str]:
    browser.mouse("mouseMoved", *screen_of(browser, column, row))
    browser.wait(f'document.querySelector(\'#values td[data-column="{column}"][data-row="{row}"]\')')
    values: dict[str, str] = browser.run(
        "Object.fromEntries([...document.querySelectorAll('#values td[data-map]')]"
        ".map((c) => [c.dataset.map, c.textContent]))"
    )
    return values


def test_the_cursor_tells_the_values_of_the_maps(browser: Browser, tmp_path: Path) -> None:
    shown = scene()
    opened(browser, tmp_path, shown)
    for column, row in ((3, 1), (7, 5), (40, 30), (95, 71)):
        told = hovered(browser, column, row)
        for number, estimate in enumerate(shown.estimates):
            for known in estimate.maps:
                value = float(known.values[row, column])
                unit = f" {known.unit}" if known.unit and not np.isnan(value) else ""
                assert told[f"{number}:{known.name}"] == known.digits.text(value) + unit
    assert browser.run("dualpix.valueAt(0, 'depth', 7, 5).then((v) => v.text)") == "∞ m"
    assert not browser.errors
    assert [url for url in browser.requests if not url.startswith(("data:", "file:"))] == []


def test_texts_of_files_stay_texts(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, scene())
    for mode in ("compare", "wiggle", "look"):
        choose(browser, mode)
    assert browser.run("window.hurt") is None
    assert browser.run("document.querySelector('#name').textContent").startswith("shot <img")
    assert browser.run("document.querySelectorAll('#notes img, #facts img, #name img').length") == 0


def test_a_map_is_drawn_in_its_colours_and_greyed_below_the_threshold(browser: Browser, tmp_path: Path) -> None:
    shown = scene()
    opened(browser, tmp_path, shown)
    browser.run("dualpix.state.alone = '0:disparity'; document.querySelector('#threshold').value = 0.6; "
                "document.querySelector('#threshold').oninput(); dualpix.choose('look')")  # fmt: skip
    choose(browser, "look")
    browser.wait("document.querySelector('#histogram-text').textContent.startsWith('40')")
    x, y = (int(v) for v in screen_of(browser, 48, 10))
    below = (int(v) for v in screen_of(browser, 48, 65))
    picture = cv2.imdecode(np.frombuffer(browser.screenshot(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(picture[y, x].astype(int) - 128).max() <= 2  # confidence 0.14
    column, row = below
    value = shown.estimates[0].maps[0].values[65, 48]
    ramp = np.frombuffer(b64decode(data_of((tmp_path / "page.html").read_bytes())["ramps"]["diverging"]), np.uint8)
    expected = ramp.reshape(256, 3)[round(float(np.clip(value + 0.5, 0, 1)) * 255)]
    assert np.abs(picture[row, column].astype(int) - expected).max() <= 12  # between pixels the browser blends


def test_every_mode_opens_by_its_key_without_an_error(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, scene())
    for key, mode in (("2", "compare"), ("3", "wiggle"), ("4", "refocus"), ("5", "points"), ("1", "look")):
        browser.key(key)
        browser.wait(f"document.body.dataset.shown === '{mode}'")
        shot = cv2.imdecode(np.frombuffer(browser.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        assert shot[150:600, 100:600].std() > 8, mode  # something is seen
    assert not browser.errors


def test_arrows_move_the_cursor_by_a_pixel(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, scene())
    hovered(browser, 20, 30)
    browser.key("ArrowRight")
    browser.key("ArrowDown")
    browser.wait('document.querySelector(\'#values td[data-column="21"][data-row="31"]\')')


def test_a_line_gives_a_profile(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, scene())
    choose(browser, "compare")
    browser.key("p")
    browser.wait("!document.querySelector('#profile-card').hidden")
    browser.wait("document.querySelector('#profile-text').textContent.includes('77 px')")  # 0.8 of 96
    assert browser.run(
        "(() => { const c = document.querySelector('#profile'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; return d.some((v) => v) })()"
    )


def test_left_and_right_take_turns(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, scene())
    choose(browser, "wiggle")
    browser.run("dualpix.state.playing = true")
    for frame in (0, 1, 0):
        browser.wait(f"dualpix.state.frame === {frame}")


def test_tapping_focuses_what_is_tapped(browser: Browser, tmp_path: Path) -> None:
    shown = scene()
    opened(browser, tmp_path, shown)
    choose(browser, "refocus")
    disparity = shown.estimates[0].maps[0].values
    for column, row in ((10, 10), (60, 50)):
        browser.run("document.body.dataset.shown = ''")
        browser.click(*screen_of(browser, column, row))
        browser.wait("document.body.dataset.shown === 'refocus'")
        expected = np.median(disparity[row - 2 : row + 3, column - 2 : column + 3])
        assert browser.run("dualpix.state.focus") == pytest.approx(float(expected), abs=2e-3)
    assert " m. Tap" in browser.run("document.querySelector('#focus-text').textContent")
    assert not browser.errors


@pytest.mark.parametrize(("seed", "px_per_unit", "focus"), [(3, 8.0, 0.4), (5, 20.0, -0.3)])
def test_the_page_refocuses_as_the_exact_renderer_does(
    browser: Browser, tmp_path: Path, seed: int, px_per_unit: float, focus: float
) -> None:
    """Measured 38 to 47 dB at CoCs of 5 to 22 px; without refocusing 24 to 39 dB."""
    shown = shown_scene((72, 96), seed, px_per_unit=px_per_unit)
    page = opened(browser, tmp_path, shown)
    jpeg = picture_of(data_of(page.read_bytes())["scenes"][0]["pictures"][0]["uri"])
    sharp = sharp_of(replace(shown, picture=Picture("picture", "", jpeg)), shown.estimates[0])
    expected = refocused(sharp, focus, 1.5)
    seen = picture_of(browser.run(f"dualpix.refocusAt({focus}, 1.5)"))
    assert seen.shape == expected.shape
    assert psnr_db(seen, expected) > 35
    assert psnr_db(jpeg, expected) < psnr_db(seen, expected) - 4


def test_blur_of_the_picture_itself_is_not_added_twice(browser: Browser, tmp_path: Path) -> None:
    shown = shown_scene((72, 96), px_per_unit=12.0)
    estimate = shown.estimates[0]
    shown = replace(shown, estimates=(replace(estimate, defocus=replace(estimate.defocus, own_blur=True)),))
    page = opened(browser, tmp_path, shown)
    jpeg = picture_of(data_of(page.read_bytes())["scenes"][0]["pictures"][0]["uri"])
    same = picture_of(browser.run("dualpix.refocusAt(0, 1)"))  # the focus and the aperture of the capture
    assert psnr_db(same, jpeg) > 42
    sharp = sharp_of(replace(shown, picture=Picture("picture", "", jpeg)), shown.estimates[0])
    assert psnr_db(picture_of(browser.run("dualpix.refocusAt(0.3, 2)")), refocused(sharp, 0.3, 2.0)) > 34


def test_points_lie_where_the_lens_has_them(browser: Browser, tmp_path: Path) -> None:
    shown = shown_scene((72, 96))
    opened(browser, tmp_path, shown)
    browser.run("document.querySelector('#threshold').value = 0; document.querySelector('#threshold').oninput()")
    choose(browser, "points")
    text = browser.run("document.querySelector('#points-text').textContent")
    depth = shown.estimates[0].map_named("depth").values
    assert text == f"{np.isfinite(depth).sum():,} points, in m"


def test_a_phone_sees_everything_in_one_column(browser: Browser, tmp_path: Path) -> None:
    browser.viewport(390, 780, touch=True)
    try:
        opened(browser, tmp_path, scene())
        choose(browser, "compare")
        assert browser.run("document.documentElement.scrollWidth") <= 390
        width, height = browser.run("[dualpix.stage.element.clientWidth, dualpix.stage.element.clientHeight]")
        assert height == pytest.approx(width * 72 / 96, abs=2)  # no more than the picture takes
        x, y = screen_of(browser, 30, 20)
        browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        browser.wait('document.querySelector(\'#values td[data-column="30"][data-row="20"]\')')
        for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 100), ("touchMove", 140)):
            points = [{"x": x + s * apart / 2, "y": y, "id": n} for n, s in enumerate((-1, 1))]
            browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        assert browser.run("dualpix.stage.zoom") > 1.5
        assert not browser.errors
    finally:
        browser.viewport(1000, 760)


def test_a_page_of_several_captures_opens_each(browser: Browser, tmp_path: Path) -> None:
    scenes = [replace(shown_scene((40, 56), seed), name=f"shot {seed}") for seed in (1, 2)]
    page = tmp_path / "page.html"
    page.write_bytes(page_bytes(scenes, 2, "2 captures"))
    browser.open(page)
    assert browser.run("document.querySelectorAll('#scenes button').length") == 2
    browser.run("document.querySelectorAll('#scenes button')[1].click()")
    browser.wait("document.querySelector('#name').textContent === 'shot 2'")


def test_a_capture_without_depth_has_its_halves(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, replace(shown_scene((40, 56)), estimates=(), pinhole=None))
    labels = browser.run("[...document.querySelectorAll('#modes button')].map((b) => b.textContent)")
    assert labels == ["Look", "Compare", "Left / right"]
    assert not browser.errors
