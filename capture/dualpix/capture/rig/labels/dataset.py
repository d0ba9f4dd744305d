"""Labelled captures as a folder that ``dualpix train --data`` reads.

    OUTPUT/NAME_left.png, NAME_right.png   or NAME.dng: camera a's files, byte for byte: never resampled
    OUTPUT/NAME_disparity_px.npy           x_right - x_left of the decoded view, > 0 behind focus; NaN where unknown
    OUTPUT/NAME_depth_m.npy                from the lens along its axis; NaN where unknown
    OUTPUT/NAME_sigma.npy                  (2, H, W): one standard deviation, of the disparity in px and the depth in m
    OUTPUT/NAME_confidence.npy
    OUTPUT/NAME_unseen.png, NAME_untextured.png  why there is no label, where one of the two is the reason
    OUTPUT/dataset.json, labels.json, contact-sheet.png

Convention: maps lie on the upright decoded view, as ``dualpix decode`` gives it. Without a camera profile there is no
disparity, and ``dataset.json`` has to say the lens before anything is trained.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import write_bytes
from dualpix.capture.pictures.colour_map import Panel, Rgb, figure
from dualpix.capture.pictures.display import to_display
from dualpix.capture.profiles import lens_model
from dualpix.capture.profiles.profile import CameraProfile
from dualpix.capture.raw import WHOLE_SUFFIXES
from dualpix.capture.raw.develop.geometry import upright
from dualpix.capture.raw.formats.pair import pair_stem, right_name
from dualpix.capture.rig.encode import npy_bytes, png_bytes
from dualpix.capture.rig.labels.label import Label
from dualpix.capture.rig.pairs.session import View
from dualpix.capture.types import FloatImage, LensModel

SIDECAR = "labels.json"
_SHEET_ROWS = 6
_SHEET_PX = 300
_LENS = ("focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um")


@dataclass(frozen=True)
class LabelledView:
    """A capture of camera a and what is known of it, upright."""

    view: View
    label: Label
    """Upright."""
    lens: LensModel | None
    gain: FloatImage | None
    """(H, W) the lens's gain over the field, where the profile has it."""

    @property
    def disparity_px(self) -> FloatImage | None:
        """(H, W) of the dual pixels; None without a lens."""
        return None if self.lens is None else self.label.disparity_px(self.lens, self.gain)


def turned(label: Label, orientation: int) -> Label:
    """A label on the upright view."""
    return Label(
        upright(label.depth_m, orientation),
        upright(label.inverse_depth_sigma, orientation),
        upright(label.unseen, orientation),
        upright(label.untextured, orientation),
        upright(label.confidence, orientation),
    )


def lens_of(
    view: View, profile: CameraProfile, given: Mapping[str, float | None]
) -> tuple[LensModel, FloatImage | None]:
    """The lens in pixels of the view, and its gain over the field.

    Args:
        view: a dual-pixel capture.
        profile: of its camera.
        given: what the user says, by the names of a :class:`~dualpix.capture.types.LensModel`; believed first.

    Raises:
        DualpixError: nothing says what it is.
    """
    image = view.dual_pixel
    assert image is not None  # noqa: S101 - read with halves
    known = {name: given.get(name) or getattr(image.meta, name) for name in _LENS}
    width = image.size_hw[1] if image.baseline == "x" else image.size_hw[0]
    measured = profile.gain
    if known["pixel_pitch_um"] is None and measured is not None and measured.pixel_pitch_um is not None:
        known["pixel_pitch_um"] = measured.pixel_pitch_um * measured.view_width_px / width
    lens = lens_model(profile, **known)
    if measured is None:
        return lens, None
    size = (image.size_hw[1], image.size_hw[0])
    return lens, np.asarray(cv2.resize(measured.relative, size, interpolation=cv2.INTER_LINEAR), np.float32)


def write_labelled(folder: Path, one: LabelledView) -> dict[str, Any]:
    """Copy the capture and write its maps; what ``labels.json`` says of it."""
    path = one.view.path
    right = right_name(path) if path.suffix.lower() not in WHOLE_SUFFIXES else None
    files = [path] + ([right] if right is not None and right.is_file() else [])
    name = pair_stem(path) if len(files) == 2 else path.stem
    for file in files:
        if (folder / file.name).exists():
            raise OutputError(f"'{file.name}' of two captures", expected="names of their own", hint="rename one")
        try:
            shutil.copyfile(file, folder / file.name)
        except OSError as error:
            raise OutputError(f"cannot copy '{file}': {error.strerror or error}") from error
    label, lens = one.label, one.lens
    write_bytes(folder / f"{name}_depth_m.npy", npy_bytes(label.depth_m))
    write_bytes(folder / f"{name}_confidence.npy", npy_bytes(label.confidence))
    for why in ("unseen", "untextured"):
        write_bytes(folder / f"{name}_{why}.png", png_bytes(getattr(label, why).astype(np.uint8) * 255))
    of_disparity = np.full_like(label.depth_m, np.nan) if lens is None else label.disparity_sigma_px(lens)
    write_bytes(folder / f"{name}_sigma.npy", npy_bytes(np.stack([of_disparity, label.depth_sigma_m])))
    if (disparity := one.disparity_px) is not None:
        write_bytes(folder / f"{name}_disparity_px.npy", npy_bytes(disparity))
    return {"name": name, **figures(label, disparity)}


def figures(label: Label, disparity_px: FloatImage | None) -> dict[str, Any]:
    """What a label comes to."""
    known = np.isfinite(label.depth_m)
    some = bool(known.any())
    depth = label.depth_m[known]
    return {
        "known": round(float(known.mean()), 4),
        "unseen": round(float(label.unseen.mean()), 4),
        "untextured": round(float(label.untextured.mean()), 4),
        "depth_m": [round(float(v), 4) for v in np.percentile(depth, (1, 50, 99))] if some else None,
        "inverse_depth_sigma": round(float(np.median(label.inverse_depth_sigma[known])), 5) if some else None,
        "disparity_px": [round(float(v), 3) for v in np.percentile(disparity_px[known], (1, 99))]
        if disparity_px is not None and some
        else None,
    }


def dataset_json(lens: LensModel | None, baseline: str) -> dict[str, Any]:
    """``dataset.json`` of the folder: the lens belongs there where depth alone is known."""
    said: dict[str, Any] = {"baseline": baseline, "scene": "sample", "depth_unit": "m"}
    if lens is not None:
        said |= {name: getattr(lens, name) for name in (*_LENS, "disparity_gain")}
        if not np.isfinite(lens.focus_distance_m):
            said["focus_distance_m"] = "inf"
    return said


def contact_sheet(labelled: list[LabelledView]) -> Rgb:
    """A row for each: the picture, depth, disparity, confidence."""
    if not labelled:
        raise DualpixError("nothing was labelled")
    panels: list[Panel] = []
    for one in labelled[:_SHEET_ROWS]:
        image = one.view.dual_pixel
        assert image is not None  # noqa: S101 - read with halves
        panels.append(Panel(one.view.path.name[-36:], to_display(image.combined)))
        panels.append(Panel("depth", one.label.depth_m, "depth", "m"))
        if (disparity := one.disparity_px) is not None:
            panels.append(Panel("dual-pixel disparity", disparity, "diverging", "px"))
        panels.append(
            Panel("confidence; grey: b does not see it", one.label.confidence, "sequential", valid=~one.label.unseen)
        )
    columns = 3 if labelled[0].lens is None else 4
    return figure(panels, columns=columns, panel_px=_SHEET_PX)
