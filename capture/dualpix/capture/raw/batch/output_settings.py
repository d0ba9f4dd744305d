"""What ``dualpix decode`` writes: the choices, which of them fit together, and the options that ask for them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

import click

from dualpix.capture.command.options import C, with_options
from dualpix.capture.errors import OutputError
from dualpix.capture.raw.develop.layout import LAYOUTS, Colour

Format = Literal["tiff", "png", "npz", "dng"]
WiggleFormat = Literal["gif", "webp"]

BIT_DEPTHS: dict[str, tuple[int, ...]] = {"tiff": (8, 16, 32), "png": (8, 16), "npz": (16, 32), "dng": (16,)}
"""What each format takes. 32 is float in TIFF, as both depths are in NPZ."""
DEFAULT_BIT_DEPTH = {"tiff": 16, "png": 16, "npz": 32, "dng": 16}
VIEWS = ("left", "right", "combined")
DISPARITY_PREVIEW = "disparity-preview"


@dataclass(frozen=True)
class OutputSettings:
    """What to write of a capture.

    Raises:
        OutputError: a format or view that does not exist, no view, or a bit depth that the format does not take.
    """

    format: Format = "tiff"
    bit_depth: int | None = None
    """Bits per sample; None becomes the format's own: 16, for NPZ 32."""
    views: tuple[str, ...] = VIEWS
    """Of ``left``, ``right``, ``combined`` and ``disparity-preview``."""
    wiggle: WiggleFormat | None = None
    frames: bool = False
    """Also write the untouched sensor frames."""

    def __post_init__(self) -> None:
        if self.format not in BIT_DEPTHS:
            raise OutputError(f"no format '{self.format}'", expected=f"one of {', '.join(BIT_DEPTHS)}")
        if self.bit_depth is None:
            object.__setattr__(self, "bit_depth", DEFAULT_BIT_DEPTH[self.format])
        self._check_bit_depth()
        known = (*VIEWS, DISPARITY_PREVIEW)
        unknown = [view for view in self.views if view not in known]
        if unknown or not self.views or len(set(self.views)) < len(self.views):
            found = f"no view '{unknown[0]}'" if unknown else f"views '{','.join(self.views)}'"
            raise OutputError(found, expected=f"one or more of {', '.join(known)}, each once")
        if self.wiggle not in (None, *get_args(WiggleFormat)):
            raise OutputError(f"no animation format '{self.wiggle}'", expected="gif or webp")

    def _check_bit_depth(self) -> None:
        fitting = BIT_DEPTHS[self.format]
        if self.bit_depth not in fitting:
            others = [name for name, depths in BIT_DEPTHS.items() if self.bit_depth in depths]
            raise OutputError(
                f"{self.format} with {self.bit_depth} bits",
                expected=f"{' or '.join(map(str, fitting))} bits for {self.format}",
                hint=f"or {self.bit_depth} bits as {' or '.join(others)}" if others else "",
            )

    @property
    def image_views(self) -> tuple[str, ...]:
        """The views to write as such."""
        return tuple(view for view in self.views if view != DISPARITY_PREVIEW)

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Self:
        """The settings among a command's ``options``, which are removed from it."""
        return cls(**{field.name: options.pop(field.name) for field in fields(cls) if field.name in options})


def output_options(command: C) -> C:
    """Add the options of :class:`OutputSettings`, and ``--layout`` and ``--colour`` of the decoder, to a command."""
    return with_options(
        command,
        click.option(
            "--layout",
            type=click.Choice(LAYOUTS),
            default="superpixel",
            help="Of a Bayer mosaic: half-size R, G, B; as read; half-size green; full-size demosaic.",
        ),
        click.option(
            "--colour",
            type=click.Choice(get_args(Colour)),
            default="auto",
            help="The sensor's own, or linear sRGB [auto: srgb for the layout rgb].",
        ),
        click.option("--format", type=click.Choice(list(BIT_DEPTHS)), default="tiff", help="Of the views."),
        click.option(
            "--bit-depth",
            type=click.Choice([8, 16, 32]),
            help="8 has the sRGB curve, 16 is linear; TIFF 32 and NPZ are float [default: 16, NPZ 32].",
        ),
        click.option(
            "--views",
            default=",".join(VIEWS),
            metavar="LIST",
            callback=_names,
            help=f"Of {', '.join(VIEWS)}, {DISPARITY_PREVIEW}.",
        ),
        click.option("--wiggle", type=click.Choice(get_args(WiggleFormat)), help="Also an animation left to right."),
        click.option("--frames", is_flag=True, help="Also write frames.npz: the untouched sensor frames."),
    )


def _names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())
