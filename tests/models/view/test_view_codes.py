"""Maps as text in a page: every value comes back with the digits that Python prints of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dualpix.models.view.codes import INFINITY_CODE, NAN_CODE, Digits, coded, unpacked

FIXED, SIGNIFICANT = Digits("fixed", 3), Digits("significant", 4)


def printed(value: float, digits: Digits) -> str:
    """By Python's own formatting, which rounds the value that is there, not one that was scaled."""
    if digits.kind == "fixed":
        return f"{value:.3f}"
    mantissa, exponent = f"{value:.3e}".split("e")
    decimals = max(0, 3 - int(exponent))
    return f"{float(f'{mantissa}e{exponent}'):.{decimals}f}"


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-2000, 2000, width=32) | st.sampled_from([math.nan, math.inf, 0.0625, 0.0005]),
    )
)
def test_fixed_digits_are_those_of_the_value(values: np.ndarray) -> None:
    back = FIXED.values(unpacked(coded(values, FIXED, 1 << 20)))
    for was, now in zip(values.ravel(), back.ravel(), strict=True):
        if np.isfinite(was):
            assert float(f"{now:.3f}") == float(printed(was, FIXED))
        else:
            assert FIXED.text(now) == FIXED.text(was)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(2**-20, 2**30, width=32)
        | st.sampled_from([math.nan, math.inf, 1.0625, 9.9995, 10.0, 0.125]),
    )
)
def test_significant_digits_are_those_of_the_value(values: np.ndarray) -> None:
    back = SIGNIFICANT.values(unpacked(coded(values, SIGNIFICANT, 1 << 20)))
    for was, now in zip(values.ravel(), back.ravel(), strict=True):
        assert SIGNIFICANT.text(now) == SIGNIFICANT.text(was)
        if np.isfinite(was):
            assert SIGNIFICANT.text(now) == printed(was, SIGNIFICANT)


def test_codes_have_gaps_for_nothing_and_for_infinity() -> None:
    codes = FIXED.codes(np.array([[math.nan, math.inf, -1.5]], np.float32))
    assert codes.tolist() == [[NAN_CODE, INFINITY_CODE, -1500]]


def test_significant_codes_count_up_without_a_gap_from_decade_to_decade() -> None:
    codes = SIGNIFICANT.codes(np.array([[0.9999, 1.0, 1.001, 9.999, 10.0, 10.01]], np.float32))
    assert np.diff(codes).tolist() == [[1, 1, 8998, 1, 1]]
    assert SIGNIFICANT.codes(np.array([[0.0, -1.0]], np.float32)).tolist() == [[NAN_CODE, NAN_CODE]]


def test_a_map_without_room_keeps_values_of_fewer_pixels_unchanged() -> None:
    values = np.random.default_rng(0).normal(0, 5, (301, 407)).astype(np.float32)
    small = coded(values, FIXED, 20_000)
    assert small.stride > 1 and len(small.data) <= 20_000
    kept = values[:: small.stride, :: small.stride]
    assert small.shape == kept.shape
    assert (unpacked(small) == FIXED.codes(kept)).all()


def test_smooth_maps_take_few_bytes() -> None:
    y, x = np.mgrid[0:756, 0:1008].astype(np.float32)
    values = np.sin(x / 90) * np.cos(y / 70) * 4
    assert len(coded(values, FIXED, 1 << 24).data) < values.nbytes / 8


def test_what_has_no_code_is_refused() -> None:
    with pytest.raises(ValueError, match="3 decimals"):
        FIXED.codes(np.array([[3e6]], np.float32))
