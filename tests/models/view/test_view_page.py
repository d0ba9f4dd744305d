"""What stands in a page: the file's values, nothing that runs but our scripts, and no more bytes than promised."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.support.viewed import data_of, picture_of, psnr_db, shown_scene

from dualpix.capture.errors import DualpixError
from dualpix.models.view.codes import CodedMap, Digits, unpacked
from dualpix.models.view.page import MOST_BYTES, MOST_SCENES, page_bytes
from dualpix.models.view.scene import Picture, Scene

ASSETS = Path(page_bytes.__code__.co_filename).parent / "assets"
EVIL = "</script><script>window.hurt = 1</script><img src=x onerror=hurt()> <!-- ]]> \u2028 \"quoted\" & 'too'"


class Tags(HTMLParser):
    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def map_of(told: dict, name: str) -> np.ndarray:
    """Values of a map in the JSON of a scene."""
    known = next(m for m in told["estimates"][0]["maps"] if m["name"] == name)
    digits = Digits(known["digits"]["kind"], known["digits"]["count"])
    coded = CodedMap((known["rows"], known["columns"]), known["stride"], digits, base64.b64decode(known["data"]))
    return digits.values(unpacked(coded))


def test_the_values_of_a_page_are_those_of_the_maps() -> None:
    scene = shown_scene()
    told = data_of(page_bytes([scene], 1, "title"))["scenes"][0]
    assert (told["columns"], told["rows"]) == (128, 96)
    for known in scene.estimates[0].maps:
        values = map_of(told, known.name)
        assert values.shape == known.values.shape
        told_texts = [known.digits.text(value) for value in values.ravel().tolist()]
        assert told_texts == [known.digits.text(value) for value in known.values.ravel().tolist()]


def test_pictures_are_those_of_the_scene() -> None:
    scene = shown_scene()
    told = data_of(page_bytes([scene], 1, "title"))["scenes"][0]
    assert [picture["name"] for picture in told["pictures"]] == ["picture", "left", "right"]
    for picture, was in zip(told["pictures"], (scene.picture, *scene.views), strict=True):
        assert psnr_db(picture_of(picture["uri"]), was.rgb) > 33  # JPEG


def test_nothing_from_files_becomes_markup() -> None:
    scene = shown_scene()
    estimate = replace(scene.estimates[0], method=EVIL, facts=((EVIL, EVIL),), notes=(EVIL,))
    scene = replace(
        scene, name=EVIL, estimates=(estimate,), facts=((EVIL, EVIL),), notes=(EVIL,),
        picture=Picture("picture", EVIL, scene.picture.rgb),
    )  # fmt: skip
    page = page_bytes([scene], 1, EVIL)
    parsed = Tags(page)
    assert [tag for tag, _ in parsed.tags].count("script") == 3
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    told = data_of(page)["scenes"][0]
    assert told["name"] == told["estimates"][0]["method"] == told["facts"][0][0] == EVIL
    assert EVIL in parsed.texts  # the title


def test_the_policy_allows_our_scripts_and_style_alone() -> None:
    page = page_bytes([shown_scene()], 1, "title").decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    blocks = re.findall(r"<style>(.*?)</style>", page, re.S) + re.findall(
        r'<script(?: type="module")?>(.*?)</script>', page, re.S
    )
    assert len(blocks) == 3
    for block in blocks:
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    own = blocks[2]
    assert not re.search(
        r"\beval\(|innerHTML|outerHTML|insertAdjacentHTML|document\.write|new Function|fetch\(|XMLHttp", own
    )


def test_a_page_links_to_nothing() -> None:
    parsed = Tags(page_bytes([shown_scene()], 1, "title"))
    for _, attributes in parsed.tags:
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")


def large_scene(size_hw: tuple[int, int]) -> Scene:
    """Pictures and maps as hard to shrink as captures are: texture, and noise in the last digits."""
    scene = shown_scene((size_hw[0] // 8, size_hw[1] // 8))
    rng = np.random.default_rng(0)

    def grown(values: np.ndarray) -> np.ndarray:
        return values.repeat(8, 0).repeat(8, 1)

    def noisy(rgb: np.ndarray) -> np.ndarray:
        noise = rng.integers(-12, 13, (*size_hw, 1), dtype=np.int16)
        return np.clip(grown(rgb).astype(np.int16) + noise, 0, 255).astype(np.uint8)

    estimate = scene.estimates[0]
    maps = tuple(
        replace(m, values=grown(m.values) + rng.normal(0, 0.004, size_hw).astype(np.float32)) for m in estimate.maps
    )
    return replace(
        scene, size_hw=size_hw, picture=replace(scene.picture, rgb=noisy(scene.picture.rgb)),
        views=tuple(replace(view, rgb=noisy(view.rgb)) for view in scene.views),
        estimates=(replace(estimate, maps=maps), replace(estimate, maps=maps, method="other")),
    )  # fmt: skip


def test_the_page_of_a_capture_of_12_megapixels_has_at_most_6_mb() -> None:
    scene = large_scene((3024, 4032))
    page = page_bytes([scene], 1, "title")
    assert len(page) <= MOST_BYTES == 6_000_000
    told = data_of(page)["scenes"][0]
    known = told["estimates"][0]["maps"][0]
    kept = map_of(told, "disparity")
    stride = known["stride"]
    assert 4032 / stride >= 400
    assert np.abs(kept - scene.estimates[0].maps[0].values[::stride, ::stride]).max() <= 0.00051
    assert max(told["pictures"][0][side] for side in ("width", "height")) >= 1280


def test_many_captures_share_a_page() -> None:
    scenes = [replace(shown_scene((48, 64), seed), name=f"shot {seed}") for seed in range(3)]
    data = data_of(page_bytes(scenes, 3, "3 captures"))
    assert [told["name"] for told in data["scenes"]] == ["shot 0", "shot 1", "shot 2"]
    assert all(picture_of(told["thumbnail"]).shape[:2] == (48, 64) for told in data["scenes"])
    with pytest.raises(DualpixError, match=f"at most {MOST_SCENES}"):
        page_bytes([], MOST_SCENES + 1, "too many")


def test_three_js_ships_with_its_licence() -> None:
    script = (ASSETS / "vendor" / "three-points.min.js").read_text()
    licence = (ASSETS / "vendor" / "three-LICENSE.txt").read_text()
    assert script.startswith("/*!\nthree.js r187") and "MIT License" in licence
    body = " ".join(licence.replace("©", "(c)").split())
    assert body in " ".join(script[:2000].split())
    assert re.search(r'"187"', script)
    told = (ASSETS / "vendor" / "README.md").read_text()
    assert "0.187.0" in told and "MIT" in told
    page = page_bytes([shown_scene((24, 32))], 1, "t").decode()
    assert "Copyright (c) 2010-2026 three.js authors" in page


def test_json_of_a_page_holds_no_number_that_is_none() -> None:
    scene = shown_scene((24, 32))
    page = page_bytes([replace(scene, facts=(("a", "b"),))], 1, "t")
    text = re.search(rb'type="application/json">(.*?)</script', page, re.S)[1]
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
