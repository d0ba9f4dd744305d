"""RGB-D data sets behind one type: NYUv2, Hypersim, ARKitScenes, iBims-1, Middlebury, DIODE, TartanAir, any folder.

sources = find_rgbd(Path("data"))
sample = read_rgbd(sources[0])           # image (H, W, 3) linear, depth_m (H, W), valid, intrinsics
filled = fill_holes(sample.depth_m, sample.valid)
"""

from __future__ import annotations

from pathlib import Path

from dualpix.capture.rgbd.holes import FILLS, Fill, Filled, fill_holes
from dualpix.capture.rgbd.readers import READERS, Reader
from dualpix.capture.rgbd.sample import (
    METRES,
    DepthUnit,
    Intrinsics,
    RgbdError,
    RgbdSample,
    RgbdSource,
    planar_depth,
)
from dualpix.capture.rgbd.survey import Survey, reader_named, survey_rgbd

__all__ = [
    "FILLS", "METRES", "READERS", "DepthUnit", "Fill", "Filled", "Intrinsics", "Reader", "RgbdError", "RgbdSample",
    "RgbdSource", "Survey", "fill_holes", "find_rgbd", "planar_depth", "read_rgbd", "reader_named", "survey_rgbd",
]  # fmt: skip


def find_rgbd(root: Path, dataset: str | None = None) -> list[RgbdSource]:
    """The sources of :func:`~dualpix.capture.rgbd.survey.survey_rgbd`, which also tells what is not used.

    Raises:
        RgbdError: there is none.
    """
    return list(survey_rgbd(root, dataset).sources)


def read_rgbd(source: RgbdSource, unit: DepthUnit | None = None) -> RgbdSample:
    """Read one sample.

    Args:
        source: of :func:`find_rgbd`.
        unit: of the depth file, where the data set's own is not true.

    Raises:
        RgbdError: sizes differ, hardly any depth, an implausible unit, or a library that is missing.
        DecodeError: a file is damaged, cut or absurdly large.
    """
    return reader_named(source.dataset).read(source, unit)
