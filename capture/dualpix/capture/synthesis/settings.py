"""What to render, as plain data: hashable, picklable, and importable without torch.

A sample is a function of these settings, its index and its input, and of nothing else: not of the number of processes
or machines, nor of what was rendered before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.rgbd import DepthUnit, Fill, RgbdSource
from dualpix.capture.scenes import UseName
from dualpix.capture.synthesis.camera import RenderCamera
from dualpix.capture.types import LensModel

Method = Literal["layered", "integral", "gather"]
METHODS: tuple[Method, ...] = get_args(Method)
_UM_PER_MM = 1000.0
_MAX_STACK = 100


@dataclass(frozen=True)
class SampleSpec:
    """One sample to render."""

    index: int
    source: RgbdSource | None = None
    """``None``: the procedural scene of this index."""

    @property
    def key(self) -> str:
        """Name of the sample among its results: "000007"."""
        return f"{self.index:06}"


@dataclass(frozen=True)
class RenderSettings:
    """How to render; everything here changes the result.

    Raises:
        DualpixError: a focus within the focal length, or values that make no picture.
    """

    camera: RenderCamera
    seed: int = 0
    method: Method = "layered"
    size_hw: tuple[int, int] | None = None
    """(height, width) in px; RGB-D pictures are reduced and cropped to it. None: as they are, scenes 384x512."""
    focus_distance_m: float | None = None
    """None: random in diopters between the nearest and farthest twentieth of each scene."""
    coc_span_px: float | None = None
    """Open or close the aperture until the circles of confusion of a scene span so many px."""
    pair: bool = True
    """Write the left and right views."""
    stack: int = 0
    """Frames of a focus stack, evenly spaced in diopters over the scene, at full aperture."""
    noise: bool = False
    """Through the camera's sensor and its decoder: shading, noise, saturation, quantisation."""
    field: bool = False
    """Blur and gain vary over the picture as the profile says; else they are those of its centre, and the mean gain."""
    use: UseName | None = None
    """Kind of procedural scenes; None draws one for each."""
    unit: DepthUnit | None = None
    """Of RGB-D depth files, where the data set's own is not true."""
    fill: Fill = "far"
    """How holes in depth are filled."""
    all_in_focus: bool = False
    """Also write the sharp picture."""

    def __post_init__(self) -> None:
        if self.coc_span_px is not None and not 0 < self.coc_span_px < math.inf:
            raise DualpixError(f"a circle of confusion span of {self.coc_span_px:g} px", expected="a number above 0")
        if self.stack < 0 or self.stack == 1 or self.stack > _MAX_STACK:
            raise DualpixError(f"a focus stack of {self.stack} frames", expected=f"0, or 2 to {_MAX_STACK}")
        if not self.pair and not self.stack:
            raise DualpixError("nothing to render", expected="a pair, a stack or both", hint="give --stack N")
        if self.method == "gather" and self.pair:
            raise DualpixError(
                "the renderer 'gather' tells no halves apart",
                expected="layered or integral",
                hint="or --no-pair --stack N",
            )
        if self.field and self.method != "layered":
            raise DualpixError(f"--field with the renderer '{self.method}'", expected="layered")
        if self.field and self.camera.profile.psf is None and self.camera.profile.gain is None:
            raise DualpixError(
                f"--field, but the profile of '{self.camera.name}' has one blur all over", hint="render without --field"
            )
        if self.noise and self.camera.profile.sensor is None:
            raise DualpixError(
                f"the profile of '{self.camera.name}' does not say what sensor the camera has",
                expected="a profile with a 'sensor' entry",
                hint="render without --noise",
            )
        if self.size_hw is not None and not all(16 <= side <= 1 << 14 for side in self.size_hw):
            raise DualpixError(f"a size of {self.size_hw[0]} x {self.size_hw[1]} px", expected="16 to 16384 each")
        if self.focus_distance_m is not None:
            optics.check_lens(self.lens(self.focus_distance_m, 512))

    def lens(self, focus_distance_m: float, width_px: int) -> LensModel:
        """The camera's lens on pictures of this width, whatever part of the field they show."""
        camera = self.camera
        pitch_um = camera.sensor_width_mm * _UM_PER_MM / width_px
        return LensModel(camera.focal_length_mm, camera.f_number, focus_distance_m, pitch_um, camera.disparity_gain)

    def to_json(self) -> dict[str, Any]:
        """Plain data; a focus at infinity is "inf"."""
        plain: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        if plain["focus_distance_m"] == math.inf:
            plain["focus_distance_m"] = "inf"
        return {**plain, "camera": self.camera.to_json()}
