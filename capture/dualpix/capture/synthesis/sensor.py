"""What a sensor and its decoder make of light: shading, shot and read noise, saturation, quantisation, mosaic, export.

Convention: light goes in as renderers give it: linear, left + right = combined, 1.0 = white. A *composite* sensor
(Canon) reads the sum and the left half, and the decoder takes the difference for the right one; a sensor that reads
*halves* (Pixel) gives each its own range, so that a half that carries 0.5 of the light comes out as 1.0, and combined
is their mean. What comes out is what :func:`dualpix.capture.raw.decode` would give: linear, black-subtracted, the right
half equalised by a smooth gain.

Noise is that of the sample as read, in DN above black: variance = shot_dn * signal + read_dn^2. Photoelectrons are
drawn from the Poisson distribution, 1 / shot_dn of them a DN. Everything is drawn from the generator given: the same
seed, the same picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.display import linear_from_srgb, srgb_from_linear
from dualpix.capture.profiles.facts import Colour, Encoding, Readout
from dualpix.capture.profiles.profile import CameraProfile, Shading, ratio_gain
from dualpix.capture.raw.develop.layout import Layout, develop, develop_mask
from dualpix.capture.raw.develop.planes import CELL, Plane
from dualpix.capture.types import DualPixelImage, FloatImage, Mask

Floats = npt.NDArray[np.float64]
_MOST_ELECTRONS = 1e12  # numpy's Poisson sampler overflows at 9e18


@dataclass(frozen=True)
class DnNoise:
    """variance [DN^2] = shot_dn * (DN above black) + read_dn^2, of one sample."""

    shot_dn: float = 0.0
    read_dn: float = 0.0


@dataclass(frozen=True)
class SensorModel:
    """A dual-pixel sensor, its shading lens and its file format. The default is a perfect one."""

    readout: Readout = "composite"
    colour: Colour = "gray"
    """bayer: an RGGB mosaic, developed into ``layout``; gray: the samples themselves (the green of RGB light)."""
    layout: Layout = "rgb"
    """Of a Bayer mosaic."""
    bits: int | None = None
    """Whole DN up to 2^bits - 1; None: not quantised."""
    black_dn: float = 0.0
    white_dn: float = 1.0
    """Where samples saturate: light 1.0."""
    full_well_dn: float = math.inf
    """Above black, where the photoelectrons of one half stop, before any read-out."""
    left_noise: DnNoise = DnNoise()
    right_noise: DnNoise = DnNoise()
    """Of a composite sensor: of the derived half, whose read noise is that of both frames."""
    shading: Shading | None = None
    """Light of each half over the picture; the decoder equalises by the same."""
    tilt_left: float = 0.0
    """What equalising leaves: log(left / right) runs from -tilt to +tilt across the picture."""
    encoding: Encoding = "raw"
    """srgb8: the views are stored as 8-bit sRGB pictures, a half at full range, and read back."""
    jpeg_quality: int | None = None
    """Of srgb8 pictures; None: lossless."""

    def __post_init__(self) -> None:
        if not self.white_dn > self.black_dn >= 0:
            raise DualpixError(f"white {self.white_dn:g} DN, black {self.black_dn:g} DN", expected="white > black >= 0")
        if self.bits is not None and not (1 <= self.bits <= 16 and self.white_dn <= 2**self.bits - 1):
            raise DualpixError(
                f"white {self.white_dn:g} DN in {self.bits} bits", expected="1 to 16 bits, and white within them"
            )
        for noise in (self.left_noise, self.right_noise):
            if not (0 <= noise.shot_dn < math.inf and 0 <= noise.read_dn < math.inf):
                raise DualpixError(f"noise {noise}", expected="shot_dn and read_dn >= 0")
        if self.jpeg_quality is not None and not (1 <= self.jpeg_quality <= 100 and self.encoding == "srgb8"):
            raise DualpixError(f"JPEG quality {self.jpeg_quality}", expected="1 to 100, of encoding srgb8")

    @property
    def range_dn(self) -> float:
        """DN of light 1.0 above black."""
        return self.white_dn - self.black_dn


def sensor_model(profile: CameraProfile, *, layout: Layout = "rgb", jpeg_quality: int | None = None) -> SensorModel:
    """The sensor of a profile; what the profile does not know is perfect.

    Raises:
        DualpixError: the profile has no sensor entry.
    """
    facts = profile.sensor
    if facts is None:
        raise DualpixError("the profile does not say what sensor the camera has", hint="use one with a 'sensor' entry")
    span = facts.white_dn - facts.black_dn
    noise = {half: DnNoise(n.shot * span, n.read * span) for half, n in (profile.noise or {}).items()}
    return SensorModel(
        readout=facts.readout,
        colour=facts.colour,
        layout=layout,
        bits=facts.bits,
        black_dn=facts.black_dn,
        white_dn=facts.white_dn,
        left_noise=noise.get("left", DnNoise()),
        right_noise=noise.get("right", DnNoise()),
        shading=profile.shading,
        encoding=facts.encoding,
        jpeg_quality=jpeg_quality,
    )


def tilted_shading(tilt: float, falloff: float, rows: int = 12, columns: int = 16) -> Shading:
    """Parametric shading: light falls by ``falloff`` (a part of 1) to the corners, and by 1 -/+ tilt x, x in -1..1.

    Args:
        tilt: of the left half from the left side to the right, 0 to 1; the right half mirrored. Pixel 4: about 0.1.
        falloff: of both, in the corners.
        rows: of the grid.
        columns: of the grid.
    """
    if not (0 <= abs(tilt) < 1 and 0 <= falloff < 1):
        raise DualpixError(f"shading with tilt {tilt:g} and falloff {falloff:g}", expected="each below 1")
    y, x = np.meshgrid(*((np.arange(n) * 2 + 1) / n - 1 for n in (rows, columns)), indexing="ij")
    common = 1 - falloff * (x**2 + y**2) / 2
    halves = [(common * (1 + side * tilt * x))[..., None].astype(np.float32) for side in (-1, 1)]
    left, right = (half / half.max() for half in halves)
    return Shading(left, right, (1.0,), 0.0, 0.0)


def expose(
    left: FloatImage,
    right: FloatImage,
    combined: FloatImage | None,
    sensor: SensorModel,
    rng: np.random.Generator,
    *,
    exposure: float = 1.0,
) -> DualPixelImage:
    """Light through a sensor and its decoder.

    Args:
        left: (H, W) or (H, W, 3) linear light of the left half aperture, >= 0; even H and W for a mosaic.
        right: of the right one.
        combined: of the full aperture; left + right where None. It only has to have their shape: a sensor reads what
            its halves get.
        sensor: what it falls on.
        rng: the only source of chance.
        exposure: factor of the light; 1.0 saturates where left + right is 1.

    Returns:
        The views as a decoder would give them, and where a sample saturated.

    Raises:
        DualpixError: shapes differ, light is negative or not finite, or a mosaic has an odd size.
    """
    _check_light(left, right, combined, sensor)
    light = [
        _on_sensor(view, sensor) * (exposure * (2.0 if sensor.readout == "halves" else 1.0)) for view in (left, right)
    ]
    shades = _shades(sensor, light[0].shape)
    if shades is not None:
        light = [view * shade for view, shade in zip(light, shades, strict=True)]
    codes = _read_out(light, sensor, rng)
    planes, saturated = _planes(codes, sensor)
    mosaic = sensor.colour == "bayer"
    gain = None if shades is None else (shades[0] / shades[1]).astype(np.float32)
    views = [_developed(planes["left"], None, sensor), _developed(planes["right"], gain, sensor)]
    if sensor.tilt_left:
        across = np.linspace(-1, 1, views[0].shape[1], dtype=np.float32)
        across = across[:, None] if views[0].ndim == 3 else across
        views = [view * np.exp(side * sensor.tilt_left / 2 * across) for view, side in zip(views, (1, -1), strict=True)]
    mask = develop_mask(saturated, mosaic, sensor.layout)
    if sensor.encoding == "srgb8":
        full = 1.0 if sensor.readout == "halves" else 2.0
        views = [_exported(view * np.float32(full), sensor.jpeg_quality) for view in views]
        mask = mask | np.any([_any_channel(view >= 1.0) for view in views], axis=0)
    first, second = (np.asarray(view, np.float32) for view in views)
    raw = sensor.encoding == "raw"
    total = _developed(planes["combined"], None, sensor) if raw else np.asarray((first + second) / 2, np.float32)
    return DualPixelImage(first, second, total, mask)


def _check_light(left: FloatImage, right: FloatImage, combined: FloatImage | None, sensor: SensorModel) -> None:
    views = [left, right, *([] if combined is None else [combined])]
    if len({v.shape for v in views}) != 1 or left.ndim not in (2, 3) or (left.ndim == 3 and left.shape[2] != 3):
        shapes = ", ".join("x".join(map(str, v.shape)) for v in views)
        raise DualpixError(f"views of {shapes}", expected="one shape, (H, W) or (H, W, 3)")
    for view in views:
        if not np.all(np.isfinite(view)) or float(view.min(initial=0.0)) < 0:
            raise DualpixError("light that is negative or not finite", expected="linear light >= 0")
    if sensor.colour == "bayer" and (left.shape[0] % 2 or left.shape[1] % 2):
        raise DualpixError(f"a mosaic of {left.shape[1]}x{left.shape[0]}", expected="an even size")


def _on_sensor(view: FloatImage, sensor: SensorModel) -> Floats:
    """(H, W) light at each sample."""
    if view.ndim == 2:
        return view.astype(np.float64)
    out = view[..., 1].astype(np.float64)
    if sensor.colour == "bayer":
        out[::2, ::2] = view[::2, ::2, 0]
        out[1::2, 1::2] = view[1::2, 1::2, 2]
    return out


def _shades(sensor: SensorModel, size_hw: tuple[int, ...]) -> tuple[Floats, Floats] | None:
    """Light of each half at each sample, relative to an even field; their ratio is the profile's."""
    shading = sensor.shading
    if shading is None:
        return None
    size = (size_hw[0], size_hw[1])
    common = ratio_gain(np.asarray(np.log(shading.left * shading.right) / 2, np.float32)).at(size)
    ratio = ratio_gain(shading.log_ratio()).at(size)
    both = [common * ratio**0.5, common * ratio**-0.5]
    return _by_sample(both[0], sensor), _by_sample(both[1], sensor)


def _by_sample(shade: FloatImage, sensor: SensorModel) -> Floats:
    """(h, w, C) to (h, w), each sample by its colour."""
    out = np.asarray(shade[..., shade.shape[2] // 2], np.float64).copy()
    if shade.shape[2] == 3 and sensor.colour == "bayer":
        out[::2, ::2], out[1::2, 1::2] = shade[::2, ::2, 0], shade[1::2, 1::2, 2]
    return out


def _read_out(light: list[Floats], sensor: SensorModel, rng: np.random.Generator) -> list[Floats]:
    """The two frames in DN: left and right, or composite and left."""
    signal = [
        np.minimum(_photons(view * sensor.range_dn, noise.shot_dn, rng), sensor.full_well_dn)
        for view, noise in zip(light, (sensor.left_noise, sensor.right_noise), strict=True)
    ]
    read = [sensor.left_noise.read_dn, sensor.right_noise.read_dn]
    if sensor.readout == "composite":
        # The derived half has the read noise of both frames.
        signal = [signal[0] + signal[1], signal[0]]
        read = [math.sqrt(max(read[1] ** 2 - read[0] ** 2, 0.0)), read[0]]
    return [_sampled(dn, sigma, sensor, rng) for dn, sigma in zip(signal, read, strict=True)]


def _photons(dn: Floats, shot_dn: float, rng: np.random.Generator) -> Floats:
    if shot_dn <= 0:
        return dn
    return np.asarray(rng.poisson(np.minimum(dn / shot_dn, _MOST_ELECTRONS)) * shot_dn, np.float64)


def _sampled(dn: Floats, read_dn: float, sensor: SensorModel, rng: np.random.Generator) -> Floats:
    noisy = sensor.black_dn + dn + (rng.normal(0.0, read_dn, dn.shape) if read_dn > 0 else 0.0)
    if sensor.bits is None:
        return np.minimum(noisy, sensor.white_dn)
    return np.clip(np.rint(noisy), 0, math.floor(sensor.white_dn))


def _planes(codes: list[Floats], sensor: SensorModel) -> tuple[dict[str, Plane], Mask]:
    """The three views as a decoder finds them, and the saturated samples."""
    ceiling = sensor.white_dn if sensor.bits is None else math.floor(sensor.white_dn)
    saturated: Mask = np.asarray((codes[0] >= ceiling) | (codes[1] >= ceiling))
    # Subtracted in double precision: a perfect sensor changes nothing but the precision.
    one, other = (code - sensor.black_dn for code in codes)
    if sensor.readout == "composite":
        signal = {"left": other, "right": one - other, "combined": one}
    else:
        signal = {"left": one, "right": other, "combined": (one + other) / 2}
    mosaic = sensor.colour == "bayer"
    nothing = (0.0,) * (len(CELL) if mosaic else 1)
    return {
        name: Plane((dn / sensor.range_dn).astype(np.float32), nothing, 1.0, mosaic) for name, dn in signal.items()
    }, saturated


def _developed(plane: Plane, gain: FloatImage | None, sensor: SensorModel) -> FloatImage:
    """Equalised before the mosaic is developed: left + right = combined holds in any layout."""
    if gain is not None:
        plane = replace(plane, samples=plane.samples * gain)
    return develop(plane, sensor.layout)


def _exported(view: FloatImage, quality: int | None) -> FloatImage:
    """Stored as an 8-bit sRGB picture and read back."""
    codes = np.rint(255 * srgb_from_linear(np.clip(view, 0.0, 1.0))).astype(np.uint8)
    if quality is not None:
        done, data = cv2.imencode(
            ".jpg", codes[..., ::-1] if codes.ndim == 3 else codes, [cv2.IMWRITE_JPEG_QUALITY, quality]
        )
        if not done:
            raise DualpixError(f"cannot encode a JPEG of {codes.shape}")
        codes = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)
        codes = codes[..., ::-1] if codes.ndim == 3 else codes
    return linear_from_srgb((codes / np.float32(255)).astype(np.float32))


def _any_channel(mask: npt.NDArray[np.bool_]) -> Mask:
    return np.asarray(mask.any(axis=2) if mask.ndim == 3 else mask)
