"""Stacks of DNGs in any sample form: one scale for all frames, and the depth of the same stack in plain integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.plain_stacks import sweep, write_focus_csv
from tests.support.tiffs import Form, dng_tags, write_tiff

from dualpix.capture.raw.containers.tiff import SHORT, SRATIONAL
from dualpix.capture.stack.depth.focus_depth import depth_from_focus
from dualpix.capture.stack.judge.align import align_stack
from dualpix.capture.stack.keep.frames import decode_frame
from dualpix.capture.stack.keep.load import exposure_gains, light_of, load_stack, read_listing
from dualpix.capture.types import FloatImage

BLACK, WHITE = 512, 14000
DIOPTERS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
DELTA_V = 4
"""BlackLevelDeltaV of one row over the one before it."""


def mosaics() -> npt.NDArray[np.float32]:
    """(N, 2H, 2W) shares of white of a sweep, as an RGGB sensor samples it."""
    wide = sweep(noise=0.001).repeat(2, axis=1).repeat(2, axis=2)
    out = wide[..., 1].copy()
    out[:, ::2, ::2], out[:, 1::2, 1::2] = wide[:, ::2, ::2, 0], wide[:, 1::2, 1::2, 2]
    return out


def written(folder: Path, kind: str) -> Path:
    """A plain stack of DNGs of one kind of samples."""
    folder.mkdir()
    paths = []
    for number, shares in enumerate(mosaics()):
        paths.append(folder / f"{number}.dng")
        levels: dict[str, Any] = {"black": (SHORT, [BLACK]), "white": [WHITE]}
        if kind == "integers":
            write_tiff(paths[-1], _codes(shares, 0), dng_tags(**levels))
        elif kind == "rows":
            rows = [DELTA_V * row for row in range(shares.shape[0])]
            write_tiff(paths[-1], _codes(shares, np.array(rows)[:, None]), dng_tags(**levels, xC61C=(SRATIONAL, rows)))
        else:
            bits, bright = {"half floats": (16, False), "floats": (32, False), "highlight": (32, True)}[kind]
            shares = shares.copy()
            if bright and number == 3:
                shares[20:22, 30:32] = 4.0
            write_tiff(paths[-1], shares, dng_tags(), Form(float_bits=bits))
    write_focus_csv(paths, DIOPTERS)
    return folder


def _codes(shares: npt.NDArray[np.float32], rows: Any) -> npt.NDArray[np.uint16]:
    return np.asarray(np.rint(BLACK + rows + shares * (WHITE - BLACK)), np.uint16)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[FloatImage, FloatImage]:
    """Frames and depth of the stack in integers."""
    stack, _ = align_stack(load_stack(written(tmp_path_factory.mktemp("levels") / "integers", "integers")))
    return stack.frames, depth_from_focus(stack).depth_m


@pytest.mark.parametrize("kind", ["half floats", "floats", "highlight", "rows"])
def test_every_form_gives_the_same_depth(kind: str, plain: tuple[FloatImage, FloatImage], tmp_path: Path) -> None:
    """LibRaw reads half floats as zeros, scales floats by a file's brightest sample, and takes the mean of deltas."""
    folder = written(tmp_path / "stack", kind)
    frames = read_listing(folder).frames
    decoded = [decode_frame(frame) for frame in frames]
    gains = exposure_gains([light_of(f, d) for f, d in zip(frames, decoded, strict=True)])
    assert gains == pytest.approx([1.0] * 7, abs=0.01)  # one scale, before exposures are evened out
    middles = [float(np.median(d.image)) for d in decoded]
    assert middles == pytest.approx([middles[0]] * 7, rel=0.02)
    stack, _ = align_stack(load_stack(folder))
    top, bottom = stack.frames[0][:12].mean(), stack.frames[0][-12:].mean()
    expected = plain[0][0][:12].mean() / plain[0][0][-12:].mean()
    assert top / bottom == pytest.approx(expected, rel=0.01)
    found = depth_from_focus(stack)
    assert found.measured_fraction > 0.9
    away = np.abs(1 / found.depth_m - 1 / plain[1])
    away[6:16, 10:22] = 0  # around the highlight
    assert np.median(away) < 0.01 and np.percentile(away, 98) < 0.1
