"""A DNG's black and white are what its own tags say: any pattern, deltas along rows and columns, each sample's own.

The truth is drawn: light of a smooth scene, to which the black of the tags is added sample by sample as the
specification writes it. Decoding has to give the light back, whatever LibRaw makes of the tags.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rawpy
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tiffs import LONG, RATIONAL, SHORT, SRATIONAL, Form, Values, dng_tags, write_tiff

from dualpix.capture.cli import main
from dualpix.capture.errors import DecodeError
from dualpix.capture.raw import decode_capture
from dualpix.capture.raw.containers.tiff import TiffReader
from dualpix.capture.raw.frames.dng_levels import dng_levels, picture_area
from dualpix.capture.raw.frames.libraw import frame_size
from dualpix.capture.raw.inspect import inspect
from dualpix.capture.stack.keep.frames import read_light

HEIGHT, WIDTH, WHITE = 48, 64, 14000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Black:
    """What the tags state, of up to two samples per pixel."""

    repeat: tuple[int, int] = (1, 1)
    levels: Sequence[Sequence[float]] = ((512,), (512,))
    """Of each sample, row by row of the pattern."""
    rows: Sequence[float] | None = None
    columns: Sequence[float] | None = None
    area: tuple[int, int, int, int] | None = None
    """top, left, bottom, right."""
    kind: int = RATIONAL

    def at(self, sample: int) -> Floats:
        """(H, W) after the specification, written as loops: the slow truth."""
        top, left, bottom, right = self.area or (0, 0, HEIGHT, WIDTH)
        pattern = np.array(self.levels[sample], np.float64).reshape(self.repeat)
        black = np.zeros((HEIGHT, WIDTH))
        for r in range(HEIGHT):
            for c in range(WIDTH):
                i, j = r - top, c - left
                black[r, c] = pattern[i % self.repeat[0], j % self.repeat[1]]
                if self.rows is not None:
                    black[r, c] += self.rows[min(max(i, 0), bottom - top - 1)]
                if self.columns is not None:
                    black[r, c] += self.columns[min(max(j, 0), right - left - 1)]
        return black

    def tags(self, samples: int) -> dict[str, Any]:
        """For :func:`dng_tags`."""
        values = [level for cell in zip(*self.levels[:samples], strict=True) for level in cell]
        further: dict[str, tuple[int, Values]] = {}
        if self.rows is not None:
            further["xC61C"] = (SRATIONAL, [Fraction(v) for v in self.rows])
        if self.columns is not None:
            further["xC61B"] = (SRATIONAL, [Fraction(v) for v in self.columns])
        if self.area is not None:
            further["xC68D"] = (LONG, list(self.area))
        stated = [Fraction(v) for v in values] if self.kind == RATIONAL else [int(v) for v in values]
        return {"black": (self.kind, stated), "repeat": self.repeat, **further}


def light() -> Floats:
    """Counts above black (H, W) of the composite: smooth, brighter than any black here varies."""
    r, c = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.round(3000 + 1000 * np.sin(r / 9) + 800 * np.cos(c / 7))


def dual(path: Path, black: Black, white: Sequence[int] = (WHITE, WHITE), form: Form | None = None) -> Floats:
    """A two-sample DNG: half of the light in sample 1. Returns the light of the composite."""
    composite, half = light(), np.round(light() / 2)
    pixels = np.stack([composite + black.at(0), half + black.at(1)], axis=-1)
    write_tiff(path, np.rint(pixels).astype(np.uint16), dng_tags(white=white, **black.tags(2)), form)
    return composite


def cells(plane: Floats) -> Floats:
    """Superpixels (H/2, W/2, 3) of a mosaic."""
    green = (plane[0::2, 1::2] + plane[1::2, 0::2]) / 2
    return np.stack([plane[0::2, 0::2], green, plane[1::2, 1::2]], axis=-1)


def ran(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


RAMP = [float(r) for r in range(HEIGHT)]
TILT = [-c / 2 for c in range(WIDTH)]
BLACKS = {
    "1x1": Black(),
    "1x1 of each sample": Black(levels=((512,), (400,))),
    "2x1": Black((2, 1), ((512, 520), (512, 520))),
    "2x1 of each sample": Black((2, 1), ((512, 520), (400, 411)), kind=SHORT),
    "1x2": Black((1, 2), ((512, 530), (510, 500)), kind=LONG),
    "2x2": Black((2, 2), ((512, 513, 514, 515), (400, 401, 402, 403)), kind=LONG),
    "2x2 of fractions": Black((2, 2), ((512.5, 513.25, 514, 515.75), (400, 401, 402, 403))),
    "4x1 of one level": Black((4, 1), ((512,) * 4, (512,) * 4), kind=SHORT),
    "4x1": Black((4, 1), ((500, 510, 520, 530), (501, 511, 521, 531)), kind=SHORT),
    "1x4": Black((1, 4), ((500, 510, 520, 530), (501, 511, 521, 531)), kind=SHORT),
    "4x4": Black((4, 4), (tuple(range(500, 516)), tuple(range(600, 616))), kind=SHORT),
    "3x1": Black((3, 1), ((500, 520, 540), (500, 520, 540)), kind=SHORT),
    "8x6": Black((8, 6), (tuple(range(500, 548)), tuple(range(700, 748))), kind=SHORT),
    "rows": Black(rows=RAMP),
    "columns": Black(columns=TILT),
    "rows and columns over 2x2": Black((2, 2), ((512, 513, 514, 515), (600, 601, 602, 603)), RAMP, TILT),
    "odd rows": Black(rows=[9.0 * (r % 3) for r in range(HEIGHT)]),
    "active area": Black((4, 1), ((500, 510, 520, 530), (501, 511, 521, 531)), area=(2, 8, 46, 60)),
    "deltas of an active area": Black((2, 2), ((512, 513, 514, 515),) * 2, RAMP[:40], TILT[:56], (4, 6, 44, 62)),
}


@pytest.mark.parametrize("name", BLACKS)
def test_both_halves_are_the_light_above_the_black_of_the_tags(name: str, tmp_path: Path) -> None:
    black = BLACKS[name]
    composite = dual(tmp_path / "a.dng", black)
    capture = decode_capture(tmp_path / "a.dng", equalise=False)
    top, left, bottom, right = black.area or (0, 0, HEIGHT, WIDTH)
    mean = np.mean(capture.details["black"]["frame0"])
    expected = cells(composite[top:bottom, left:right]) / (WHITE - mean)
    tolerance = 1.1 / (WHITE - mean)  # blacks of fractions were rounded into the samples
    assert np.abs(capture.view("combined") - expected).max() < tolerance
    assert np.abs(capture.view("left") - expected / 2).max() < tolerance
    assert np.abs(capture.view("right") - expected / 2).max() < 2 * tolerance
    frames = capture.frames()
    assert np.abs(frames["other"] - composite / 2)[top:bottom, left:right].max() <= 2.5


@pytest.mark.parametrize("layout", ["mosaic", "green", "rgb"])
def test_every_layout_subtracts_what_varies(layout: Any, tmp_path: Path) -> None:
    black = BLACKS["rows and columns over 2x2"]
    composite = dual(tmp_path / "a.dng", black)
    capture = decode_capture(tmp_path / "a.dng", equalise=False, layout=layout, colour="camera")
    view = capture.view("combined") * (WHITE - np.mean(capture.details["black"]["frame0"]))
    expected = {"mosaic": composite, "green": cells(composite)[..., 1], "rgb": composite[..., None]}[layout]
    # demosaicing the smooth scene, whose colours are equal, errs by its curvature
    assert np.abs(view - expected)[2:-2, 2:-2].max() < (40 if layout == "rgb" else 1.1)


@pytest.mark.parametrize("name", BLACKS)
def test_decode_inspect_and_its_levels_say_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    dual(path, BLACKS[name])
    by_header, measured = inspect(path), inspect(path, levels=True)
    details = decode_capture(path).details
    for index in (0, 1):
        black = details["black"][f"frame{index}"]
        assert by_header.frames[index].black == pytest.approx(black, abs=2e-3)
        assert measured.frames[index].black == pytest.approx(black, abs=2e-3)
        assert by_header.frames[index].black_source == details["black_source"][f"frame{index}"]
        truth = BLACKS[name].at(index)
        assert np.mean(black) == pytest.approx(truth[0:HEIGHT, 0:WIDTH].mean(), abs=8)
    assert by_header.crop == measured.crop


def test_cells_of_rows_are_listed_red_green_green_blue(tmp_path: Path) -> None:
    dual(tmp_path / "a.dng", BLACKS["2x1"])
    assert decode_capture(tmp_path / "a.dng").details["black"]["frame0"] == [512, 512, 520, 520]


def test_the_range_of_a_black_that_varies_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dual(tmp_path / "a.dng", BLACKS["rows"])
    details = decode_capture(tmp_path / "a.dng").details
    assert details["black_source"]["frame0"] == "metadata, 512 to 559 over the picture"
    assert details["black"]["frame0"] == [535, 535, 536, 536]
    assert ran("inspect", tmp_path / "a.dng") == 0
    assert "512 to 559 over the picture" in " ".join(capsys.readouterr().out.split())


def test_each_sample_has_its_own_white(tmp_path: Path) -> None:
    dual(tmp_path / "a.dng", Black(), white=(WHITE, 9000))
    found = inspect(tmp_path / "a.dng", levels=True)
    assert [frame.white for frame in found.frames] == [WHITE, 9000]


@pytest.mark.parametrize(
    ("further", "bits", "white"),
    [({}, None, 65535), ({"xC618": (SHORT, [4 * v for v in range(4096)])}, None, 16380)],
)
def test_white_that_is_not_stated(further: dict[str, Any], bits: int | None, white: int, tmp_path: Path) -> None:
    """By the specification the largest number of so many bits; of a table, its largest value, as LibRaw takes it."""
    pixels = np.stack([light() / 4, light() / 8], axis=-1).astype(np.uint16)
    write_tiff(tmp_path / "a.dng", pixels, dng_tags(**further))
    assert decode_capture(tmp_path / "a.dng").details["white"] == white


@pytest.mark.parametrize("form", [Form(), Form(order=">"), Form(tile_hw=(16, 32)), Form(rows_per_strip=7)])
def test_black_comes_after_the_linearisation_table(form: Form, tmp_path: Path) -> None:
    black = Black((4, 1), ((500, 510, 520, 530), (501, 511, 521, 531)), RAMP, kind=SHORT)
    table = [(4 * code) % 65536 for code in range(4096)]
    composite, half = light(), np.round(light() / 2)
    counts = np.stack([composite + black.at(0), half + black.at(1)], axis=-1)
    tags = dng_tags(white=[WHITE, WHITE], **black.tags(2), xC618=(SHORT, table))
    write_tiff(tmp_path / "a.dng", np.rint(counts / 4).astype(np.uint16), tags, form)
    capture = decode_capture(tmp_path / "a.dng", equalise=False)
    mean = np.mean(capture.details["black"]["frame0"])
    assert np.abs(capture.view("combined") * (WHITE - mean) - cells(composite)).max() < 2.1


@pytest.mark.parametrize("name", [name for name in BLACKS if "each sample" not in name])
@pytest.mark.parametrize("cfa", ["RGGB", "GRBG", "GBRG", "BGGR"])
def test_frames_of_stacks_have_the_same_black(name: str, cfa: str, tmp_path: Path) -> None:
    black = BLACKS[name]
    path = tmp_path / "a.dng"
    write_tiff(
        path, np.rint(light() + black.at(0)).astype(np.uint16), dng_tags(cfa=cfa, white=[WHITE], **black.tags(1))
    )
    found = read_light(path).image
    top, left, bottom, right = black.area or (0, 0, HEIGHT, WIDTH)
    row, column = divmod(cfa.index("R"), 2)
    area = light()[top + row : bottom, left + column : right]
    expected = cells(area[: len(area) // 2 * 2, : area.shape[1] // 2 * 2])
    assert found.shape == expected.shape
    scale = expected.mean() / found.mean()  # 1 over white less the mean black
    assert scale == pytest.approx(WHITE - np.mean(black.at(0)), rel=2e-3)
    assert np.abs(found * scale - expected).max() < 1.5
    told = inspect(path, levels=True).frames[0].black
    assert told == pytest.approx(inspect(path).frames[0].black, abs=2e-3)


@pytest.mark.parametrize("corner", [(1, 3), (0, 1), (1, 0), (5, 2)])
def test_the_pattern_starts_at_an_odd_corner_of_the_active_area(corner: tuple[int, int], tmp_path: Path) -> None:
    black = Black((2, 2), ((500, 540, 580, 620),) * 2, RAMP[:30], TILT[:50], (*corner, corner[0] + 30, corner[1] + 50))
    path = tmp_path / "a.dng"
    write_tiff(path, np.rint(light() + black.at(0)).astype(np.uint16), dng_tags(white=[WHITE], **black.tags(1)))
    found = read_light(path).image
    # LibRaw's visible area starts at even rows and columns, so up to a cell of the edge is missing
    even = [n + n % 2 for n in corner]
    row, column = ((e + c) % 2 for e, c in zip(even, corner, strict=True))
    area = light()[even[0] + row :, even[1] + column :][: 2 * found.shape[0], : 2 * found.shape[1]]
    expected = cells(area)
    assert np.abs(found * (expected.mean() / found.mean()) - expected).max() < 1.5


@settings(max_examples=30, deadline=None)
@given(
    repeat=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 2**32 - 1),
    corner=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    deltas=st.booleans(),
)
def test_levels_and_what_they_leave_make_the_black_of_every_sample(
    repeat: tuple[int, int], seed: int, corner: tuple[int, int], deltas: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    area = (*corner, HEIGHT, WIDTH)
    levels = rng.integers(400, 700, repeat[0] * repeat[1]).tolist()
    rows, columns = (
        (rng.integers(-50, 50, n - start).tolist() if deltas else None)
        for n, start in zip((HEIGHT, WIDTH), corner, strict=True)
    )
    black = Black(repeat, (levels, levels), rows, columns, area)
    path = tmp_path_factory.mktemp("h") / "a.dng"
    write_tiff(path, np.zeros((HEIGHT, WIDTH), np.uint16), dng_tags(**black.tags(1)))
    data = path.read_bytes()
    found = dng_levels(TiffReader(data).ifd(8), 0)
    part = picture_area(TiffReader(data).ifd(8))
    cell = found.cell(part)
    whole = np.empty((part.height, part.width))
    for level, (r, c) in zip(cell, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        whole[r::2, c::2] = level
    rest = found.rest(part, cell)
    whole += 0 if rest is None else rest.of()
    truth = black.at(0)[part.top : part.top + part.height, part.left : part.left + part.width]
    assert np.abs(whole - truth).max() < 1e-3
    if rest is not None:  # a part of it is the same as the whole, cut
        inner = rest.within(3, 5, 8, 10).of()
        assert np.array_equal(inner, rest.of()[3:11, 5:15])
        assert np.array_equal(rest.of(np.array([2, 3, 10, 11])), rest.of()[[2, 3, 10, 11]])


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"black": (SHORT, [512, 520, 530])}, r"BlackLevel of 3 values, not 2: a pattern of 1x1, 2 per pixel"),
        ({"black": (RATIONAL, [(0, 0), (0, 0)])}, "BlackLevel that is no number"),
        ({"repeat": (0, 2)}, r"BlackLevelRepeatDim \(0, 2\), not rows and columns of 1 to 64"),
        ({"repeat": (9999, 9999)}, "BlackLevelRepeatDim"),
        ({"xC61C": (SRATIONAL, RAMP[:-1])}, "BlackLevelDeltaV of 47 values, not 48, one a row of the active area"),
        ({"xC61B": (SRATIONAL, TILT[:3])}, "BlackLevelDeltaH of 3 values, not 64, one a column"),
        ({"xC61B": (SRATIONAL, [(1, 0)] * WIDTH)}, "BlackLevelDeltaH that is no number"),
        ({"xC68D": (LONG, [0, 0, 48, 65])}, r"ActiveArea \(0, 0, 48, 65\) of a picture of 64x48, not a part of it"),
        ({"white": [0, 0]}, "WhiteLevel 0"),
    ],
)
def test_tags_that_contradict_themselves_are_refused_in_one_line(
    tags: dict[str, Any], message: str, tmp_path: Path
) -> None:
    tags = {"black": (SHORT, [512, 512]), "white": [WHITE, WHITE], **tags}
    pixels = np.stack([light(), light() / 2], axis=-1).astype(np.uint16)
    write_tiff(tmp_path / "a.dng", pixels, dng_tags(**tags))
    with pytest.raises(DecodeError, match=message):
        decode_capture(tmp_path / "a.dng")
    answer = inspect(tmp_path / "a.dng")
    assert answer.broken is not None and answer.decode == "refuse it: damaged"
    write_tiff(tmp_path / "b.dng", pixels[..., 0], dng_tags(**tags))
    with pytest.raises(DecodeError, match=message.split(",")[0].split("512")[0][:15]):
        read_light(tmp_path / "b.dng")


def test_one_level_counts_for_all_however_it_was_counted(tmp_path: Path) -> None:
    pixels = np.stack([light(), light() / 2], axis=-1).astype(np.uint16)
    write_tiff(tmp_path / "a.dng", pixels, dng_tags(black=(SHORT, [256]), repeat=(2, 2), white=[WHITE, WHITE]))
    assert decode_capture(tmp_path / "a.dng").details["black"]["frame1"] == [256] * 4


def test_the_picture_area_is_the_one_that_libraw_finds(tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    for area in ((0, 0, HEIGHT, WIDTH), (2, 8, 46, 60)):
        for crop in (None, (0, 0, 40, 32), (2, 4, 30, 20), (1, 3, 31, 21)):
            further = {} if crop is None else {"xC61F": (LONG, crop[:2]), "xC620": (LONG, crop[2:])}
            tags = dng_tags(white=[WHITE] * 2, xC68D=(LONG, area), **further)
            write_tiff(path, np.zeros((HEIGHT, WIDTH, 2), np.uint16), tags)
            own = picture_area(TiffReader(path.read_bytes()).ifd(8))
            _, _, found = frame_size(path, 0)
            assert (found.top, found.left, found.height, found.width) == (own.top, own.left, own.height, own.width)


def test_what_libraw_makes_of_these_tags(tmp_path: Path) -> None:
    """LibRaw 0.22.2: why levels are not taken from it. Fails when a new version changes."""
    path = tmp_path / "a.dng"

    def levels(repeat: tuple[int, int] | None, *values: int) -> list[int]:
        pixels = np.zeros((HEIGHT, WIDTH, 2), np.uint16)
        write_tiff(path, pixels, dng_tags(black=(SHORT, np.repeat(values, 2).tolist()), repeat=repeat))
        with rawpy.RawPy() as raw:
            raw.open_file(str(path))
            raw.unpack()
            red, green, blue, green2 = raw.black_level_per_channel
            return [red, green, green2, blue]

    assert levels(None, 512) == [512, 512, 0, 0]
    assert levels((2, 1), 512, 520) == [512, 0, 520, 0]
    assert levels((4, 1), 512, 512, 512, 512) == [512, 0, 512, 0]
    mean_of_rows = round(512 + np.mean(RAMP))
    dual(path, Black((2, 2), ((512,) * 4, (512,) * 4), RAMP))
    with rawpy.RawPy() as raw:
        raw.open_file(str(path))
        raw.unpack()
        assert set(raw.black_level_per_channel) == {mean_of_rows}


def test_the_record_of_a_decode_holds_the_levels(tmp_path: Path) -> None:
    dual(tmp_path / "a.dng", BLACKS["rows"])
    assert ran("decode", tmp_path / "a.dng", "-o", tmp_path / "o", "--frames") == 0
    record = json.loads((tmp_path / "o" / "a" / "decode.json").read_text())
    assert record["sensor"]["black"]["frame0"] == [535, 535, 536, 536]
    assert record["sensor"]["black_source"]["frame1"] == "metadata, 512 to 559 over the picture"
