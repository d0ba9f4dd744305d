"""Display pictures: the tone curve, the balance, and highlights without a colour cast."""

from __future__ import annotations

import numpy as np

from dualpix.capture.pictures.display import grey_world, square_pixels, srgb_from_linear, to_display


def test_curve_at_known_points() -> None:
    ramp = np.array([[0.0, 0.0031308, 0.2158605, 1.0, 3.0, -1.0]], np.float32)
    shown = to_display(ramp, exposure=1.0)
    assert shown.shape == (1, 6, 3) and shown.dtype == np.uint8
    assert shown[0, :, 0].tolist() == [0, 10, 128, 255, 255, 0]
    assert (shown == shown[..., :1]).all()


def test_colour_order_and_balance() -> None:
    image = np.full((8, 8, 3), (0.1, 0.2, 0.05), np.float32)
    assert np.allclose(grey_world(image), (2.0, 1.0, 4.0))
    assert np.ptp(to_display(image)[0, 0]) <= 1
    red = to_display(image, white_balance=(4.0, 1.0, 1.0), exposure=1.0)[0, 0]
    assert red[0] > red[1] > red[2]


def test_clipped_highlights_are_neutral() -> None:
    image = np.full((10, 10, 3), (0.2, 0.4, 0.25), np.float32)
    image[:2] = 1.0  # the sensor clips all channels at the same level
    shown = to_display(image, white_balance=(2.0, 1.0, 1.6))
    assert np.ptp(shown[0, 0]) <= 1


def test_square_pixels_stretch_across_the_baseline_and_keep_values() -> None:
    values = np.array([[1, np.inf], [-3, 4]], np.float32)
    assert square_pixels(values, 1.0, "x") is values
    assert np.array_equal(square_pixels(values, 2.0, "x"), values.repeat(2, axis=0))
    assert np.array_equal(square_pixels(values, 2.0, "y"), values.repeat(2, axis=1))
    assert np.array_equal(square_pixels(values > 0, 2.0, "x"), (values > 0).repeat(2, axis=0))
    smooth = square_pixels(np.array([[0], [100]], np.uint8), 2.0, "x", smooth=True)
    assert smooth[:, 0].tolist() == [0, 25, 75, 100]


def test_black_picture_stays_black() -> None:
    assert to_display(np.zeros((4, 4, 3), np.float32)).max() == 0


def test_light_beyond_all_bounds_is_white_and_no_light_black() -> None:
    light = np.array([[-np.inf, -1e30, -0.5, 0.0, 1.0, 1e6, 1e30, np.inf]], np.float32)
    shown = to_display(light, exposure=1.0)[0, :, 0]
    assert shown.tolist() == [0, 0, 0, 0, 255, 255, 255, 255]
    colour = np.repeat(light[..., None], 3, axis=2)
    assert to_display(colour, white_balance=(2.0, 1.0, 1.5), exposure=1.0)[0, -4:].min() == 255


def test_the_curve_is_that_of_the_standard_to_one_code() -> None:
    light = np.linspace(0, 1.1, 100_003, dtype=np.float32)[None]
    exact = srgb_from_linear(np.clip(light, 0, 1)) * 255
    assert np.abs(to_display(light, exposure=1.0)[..., 0] - exact).max() < 0.6  # 0.5 of rounding
