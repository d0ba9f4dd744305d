"""Scenes as one HTML file that needs neither a server nor the network.

Everything is in it: styles, scripts, pictures (JPEG) and maps (:mod:`.codes`). What comes from files is data: texts and
numbers stand as JSON in a block that browsers do not run, with every ``<`` spelt out, and the scripts put them on the
page as text alone. A content security policy names the digests of the scripts and the style, so nothing else runs, and
nothing is loaded. Points in space are drawn by three.js, which ships with dualpix (``assets/vendor/README.md``).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import json_ready
from dualpix.capture.pictures.colour_map import Rgb, Scale, depth_ticks, ramp
from dualpix.models.view.codes import coded
from dualpix.models.view.scene import Estimate, Picture, Scene, ValueMap

MOST_BYTES = 6_000_000
"""Of the page of one capture."""
_MOST_BYTES_OF_MANY = 40_000_000
_LEAST_SCENE_BYTES = 300_000
MOST_SCENES = 100
_ASSETS = Path(__file__).parent / "assets"
_VENDORED = "vendor/three-points.min.js"
_SCRIPTS = ("values.js", "layers.js", "stage.js", "plots.js", "refocus.js", "points.js", "main.js")
_SCALES: tuple[Scale, ...] = ("diverging", "sequential", "depth")
_BASE64 = 4 / 3
_TEXT_BYTES = 60_000
"""Set apart for a scene's texts."""
_PICTURE_SHARE, _VIEWS_SHARE = 0.25, 0.3
_TRIES = (
    (2048, 94),
    (2048, 90),
    (2048, 84),
    (1600, 84),
    (1600, 76),
    (1280, 76),
    (1008, 74),
    (800, 70),
    (640, 64),
    (400, 60),
)
"""(long side in px, JPEG quality), until one is small enough."""
_FULL_COLOUR_QUALITY = 90
"""From which on colour is as fine as light (4:4:4)."""
_THUMBNAIL = (160, 70)
_LEAST_MAP_BYTES = 2_000
_MOST_MAP_PIXELS = 4_500_000
"""That a page's map holds: more would take a phone's memory and time."""


def page_bytes(scenes: Iterable[Scene], count: int, title: str) -> bytes:
    """The page.

    Args:
        scenes: made one at a time, as each may be large.
        count: how many there are; what a page may hold is divided among them.
        title: of the page.

    Raises:
        DualpixError: there are too many.
    """
    if count > MOST_SCENES:
        raise DualpixError(f"{count} captures for one page", expected=f"at most {MOST_SCENES}", hint="name fewer")
    vendored, own = _script(_VENDORED), "\n".join(map(_script, _SCRIPTS))
    style = _asset("page.css")
    room = MOST_BYTES - len(vendored) - len(own) - len(style) - 10_000
    if count > 1:
        room = max(_LEAST_SCENE_BYTES, min(room, _MOST_BYTES_OF_MANY // count))
    shown = [_scene_json(scene, room, thumbnail=count > 1) for scene in scenes]
    first = _taken_out(shown)
    data = {
        "scenes": shown,
        "ramps": {scale: _base64(ramp(scale).tobytes()) for scale in _SCALES},
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("page.html.j2").render(
        title=title,
        version=version("dualpix"),
        first=first,
        style=Markup(style),  # noqa: S704 - our own files, and JSON whose "<" are spelt out
        vendored=Markup(vendored),  # noqa: S704
        own=Markup(own),  # noqa: S704
        data=Markup(_embedded_json(data)),  # noqa: S704
        style_digest=_digest(style),
        script_digests=[_digest(vendored), _digest(own)],
    )
    return page.encode()


def _embedded_json(value: Any) -> str:
    """JSON that ends no script block and opens none: HTML knows nothing of quotes there."""
    text = json.dumps(json_ready(value, infinity="inf"), allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _script(name: str) -> str:
    text = _asset(name)
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError(f"{name} would end its block")
    return text


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _taken_out(shown: Sequence[dict[str, Any]]) -> str:
    """The picture that is seen before any script runs; the scripts take it from there, so that it stands once."""
    for scene in shown:
        for picture in scene["pictures"][:1]:
            uri, picture["uri"] = str(picture["uri"]), None
            return uri
    return ""


def _scene_json(scene: Scene, room_bytes: int, *, thumbnail: bool) -> dict[str, Any]:
    room = (room_bytes - _TEXT_BYTES) / _BASE64
    main = ([scene.picture] if scene.picture else []) + [e.sharp for e in scene.estimates if e.sharp]
    pictures = [_picture_json(picture, room * _PICTURE_SHARE / len(main)) for picture in main]
    pictures += [_picture_json(view, room * _VIEWS_SHARE / len(scene.views)) for view in scene.views]
    room -= sum(len(picture["uri"]) for picture in pictures) / _BASE64
    maps = _maps_json(scene, room)
    height, width = scene.square_hw
    return {
        "name": scene.name,
        "kind": scene.kind,
        "width": width,
        "height": height,
        "columns": scene.size_hw[1],
        "rows": scene.size_hw[0],
        "pictures": pictures,
        "views": [view.name for view in scene.views],
        "estimates": [
            {
                "method": estimate.method,
                "maps": told,
                "defocus": None if estimate.defocus is None else estimate.defocus.to_json(),
                "sharp": estimate.sharp.name if estimate.sharp else None,
                "facts": estimate.facts,
                "notes": estimate.notes,
            }
            for estimate, told in zip(scene.estimates, maps, strict=True)
        ],
        "pinhole": None if scene.pinhole is None else {k: getattr(scene.pinhole, k) for k in _PINHOLE},
        "baseline_px": (width if scene.baseline == "x" else height)
        / (scene.size_hw[1] if scene.baseline == "x" else scene.size_hw[0]),
        "facts": scene.facts,
        "notes": scene.notes,
        "thumbnail": _thumbnail(scene) if thumbnail else None,
    }


_PINHOLE = ("fx_px", "fy_px", "cx_px", "cy_px")


def _maps_json(scene: Scene, room_bytes: float) -> list[list[dict[str, Any]]]:
    """Of each estimate, in equal shares of what is left."""
    stride = max(1, ceil(sqrt(scene.size_hw[0] * scene.size_hw[1] / _MOST_MAP_PIXELS)))
    shown = [_told_maps(scene, estimate) for estimate in scene.estimates]
    left = sum(map(len, shown))
    described: list[list[dict[str, Any]]] = []
    for maps in shown:
        described.append([])
        for known in maps:
            told = _map_json(known, max(_LEAST_MAP_BYTES, int(room_bytes / left)), stride)
            room_bytes -= len(told["data"]) / _BASE64
            left -= 1
            described[-1].append(told)
    return described


def _told_maps(scene: Scene, estimate: Estimate) -> list[ValueMap]:
    """Of the truth one is enough."""
    first = scene.estimates[0]
    return [known for known in estimate.maps if known.name != "truth" or estimate is first]


def _map_json(known: ValueMap, most_bytes: int, stride: int) -> dict[str, Any]:
    low, high = known.limits
    ticks = depth_ticks(low, high) if known.scale == "depth" else None
    return {
        "name": known.name,
        "label": known.label,
        "unit": known.unit,
        "scale": known.scale,
        "limits": [low, high],
        "ticks": None if ticks is None else [[place, label] for place, label in ticks.items()],
        **coded(known.values, known.digits, most_bytes, stride).to_json(),
    }


def _picture_json(picture: Picture, most_bytes: float) -> dict[str, Any]:
    reduced = picture.rgb
    for long_side, quality in _TRIES:
        reduced = _reduced(reduced, long_side)
        data = _jpeg(reduced, quality)
        if len(data) <= most_bytes:
            break
    uri = f"data:image/jpeg;base64,{_base64(data)}"
    height, width = reduced.shape[:2]
    return {"name": picture.name, "label": picture.label, "uri": uri, "width": width, "height": height}


def _thumbnail(scene: Scene) -> str | None:
    picture = scene.picture or (scene.views[0] if scene.views else None)
    if picture is None:
        return None
    return f"data:image/jpeg;base64,{_base64(_jpeg(_reduced(picture.rgb, _THUMBNAIL[0]), _THUMBNAIL[1]))}"


def _reduced(rgb: Rgb, long_side: int) -> Rgb:
    shrink = min(1.0, long_side / max(rgb.shape[:2]))
    if shrink == 1.0:
        return rgb
    size = max(1, round(rgb.shape[1] * shrink)), max(1, round(rgb.shape[0] * shrink))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(rgb: Rgb, quality: int) -> bytes:
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    full = quality >= _FULL_COLOUR_QUALITY
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    done, data = cv2.imencode(".jpg", bgr, parameters)
    if not done:
        raise DualpixError(f"a picture of {rgb.shape[1]}x{rgb.shape[0]} px cannot be coded as JPEG")
    return bytes(data.tobytes())
