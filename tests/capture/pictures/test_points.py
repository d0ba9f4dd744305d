"""Points in space of a depth map, and the PLY files of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpix.capture.pictures.points import PLY_VERTEX, Pinhole, pinhole_of, write_ply
from dualpix.capture.types import LensModel


def read_ply(path: Path) -> tuple[list[str], npt.NDArray[np.void]]:
    """Lines of the header, and the vertices as they lie in the file."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    return head.decode("ascii").splitlines(), np.frombuffer(body, PLY_VERTEX)


def test_a_lens_sees_as_wide_as_where_it_is_focused_has_it() -> None:
    # 50 mm focused at 1 m: the sensor is 50 / (1 - .05) = 52.63 mm behind; 4.5 um pixels
    near = pinhole_of(LensModel(50, 2, 1.0, 4.5), (100, 201))
    assert near.fx_px == near.fy_px == pytest.approx(52.6316e3 / 4.5, rel=1e-5)
    assert (near.cx_px, near.cy_px) == (100, 49.5)
    far = pinhole_of(LensModel(50, 2, np.inf, 4.5), (100, 201))
    assert far.fx_px == pytest.approx(50e3 / 4.5)
    # twice as tall as wide along x, as PDCapture has it; turned, the other way about
    tall = pinhole_of(LensModel(50, 2, np.inf, 4.5), (100, 201), 2.0, "x")
    assert (tall.fx_px, tall.fy_px) == pytest.approx((50e3 / 4.5, 25e3 / 4.5))
    turned = pinhole_of(LensModel(50, 2, np.inf, 4.5), (201, 100), 2.0, "y")
    assert (turned.fx_px, turned.fy_px) == pytest.approx((25e3 / 4.5, 50e3 / 4.5))


@given(st.floats(100, 1e5), st.floats(100, 1e5), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_points_and_pixels_are_inverse(fx: float, fy: float, height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pinhole = Pinhole(fx, fy, (width - 1) / 2, (height - 1) / 2)
    depth = rng.uniform(0.05, 100, (height, width)).astype(np.float32)
    chosen = rng.random((height, width)) < 0.7
    points = pinhole.points(depth, chosen)
    assert np.array_equal(points[:, 2], depth[chosen])
    assert np.allclose(pinhole.pixels(points), np.argwhere(chosen)[:, ::-1], atol=1e-3)


def test_right_is_x_and_down_is_y() -> None:
    pinhole = Pinhole(100, 100, 1, 1)
    points = pinhole.points(np.full((3, 3), 2, np.float32), np.ones((3, 3), np.bool_))
    assert np.allclose(points[0], [-0.02, -0.02, 2]) and np.allclose(points[-1], [0.02, 0.02, 2])


def test_a_file_says_what_it_holds(tmp_path: Path) -> None:
    points = np.array([[0, 1, 2], [3, 4, 5.5]], np.float32)
    colours = np.array([[1, 2, 3], [253, 254, 255]], np.uint8)
    write_ply(tmp_path / "p.ply", points, colours, np.array([0.5, 1], np.float32), ("of a test",))
    head, vertices = read_ply(tmp_path / "p.ply")
    assert head == [
        "ply", "format binary_little_endian 1.0", "comment of a test", "element vertex 2",
        "property float x", "property float y", "property float z",
        "property uchar red", "property uchar green", "property uchar blue", "property float confidence",
    ]  # fmt: skip
    assert PLY_VERTEX.itemsize == 19
    assert vertices.tolist() == [(0, 1, 2, 1, 2, 3, 0.5), (3, 4, 5.5, 253, 254, 255, 1)]


def test_counts_and_comments_are_checked(tmp_path: Path) -> None:
    points, colours = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="2 points, 2 colours, 1 confidences"):
        write_ply(tmp_path / "p.ply", points, colours, np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="one line"):
        write_ply(tmp_path / "p.ply", points, colours, np.zeros(2, np.float32), ("a\nend_header",))
    assert not list(tmp_path.iterdir())
