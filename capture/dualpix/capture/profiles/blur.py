"""Blur of a camera profile as the renderers take it.

Convention: a place in the picture is (row, column) as shares of its height and width, 0..1, as the sensor lies. Circles
of confusion are in px of the rendered view, so the gain, a ratio, holds at any resolution; ``edge_px`` does not scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dualpix.capture.profiles.entries import ProfileError
from dualpix.capture.profiles.facts import at_cell
from dualpix.capture.profiles.profile import CameraProfile
from dualpix.capture.render.psf import Aperture, PsfModel

_WHOLE = (0.0, 0.0, 1.0, 1.0)
_LEAST_GAIN, _MOST_GAIN = 0.005, 0.42
CENTRE = (0.5, 0.5)


def psf_at(profile: CameraProfile, field: tuple[float, float] = CENTRE) -> PsfModel:
    """The aperture split at a place of the picture.

    The gain is that of planes at known distance, where the profile has it: it belongs to the circle of confusion of
    :mod:`dualpix.capture.optics`. Else it is the fitted model's own, of the disc it was fitted with.

    Raises:
        ProfileError: the profile knows no gain.
    """
    psf = profile.psf
    if profile.disparity_gain is not None and profile.gain is not None:
        gain = profile.disparity_gain * at_cell(profile.gain.relative, _WHOLE, *field)
    elif psf is not None:
        gain = at_cell(np.abs(psf.separation_px / psf.coc_px), psf.field, *field)
    elif profile.disparity_gain is not None:
        gain = profile.disparity_gain
    else:
        raise ProfileError("the profile has no disparity gain", hint="make one: dualpix calibrate gain, or psf")
    gain = float(np.clip(gain, _LEAST_GAIN, _MOST_GAIN))
    if psf is None:
        return PsfModel(gain)
    edge, rim, offset = (at_cell(g, psf.field, *field) for g in (psf.edge_relative, psf.rim, psf.split_offset))
    return PsfModel(gain, edge_px=psf.edge_px, edge_relative=edge, rim=rim, split_offset=offset)


def random_psf(profile: CameraProfile, rng: np.random.Generator) -> PsfModel:
    """The aperture split at a random place: a draw from the distribution over the field, for training on patches."""
    return psf_at(profile, (float(rng.random()), float(rng.random())))


@dataclass(frozen=True)
class FieldPsf:
    """A profile's blur varying over the field, in the form that renderers ask for (``render.psf.HalfKernels``)."""

    profile: CameraProfile

    @property
    def shape(self) -> tuple[int, int]:
        """Places of the finest measurement over the field."""
        measured = [grid.shape for grid in self._grids()]
        return max((s[0] for s in measured), default=1), max((s[1] for s in measured), default=1)

    def _grids(self) -> list[npt.NDArray[np.floating[Any]]]:
        gain, psf = self.profile.gain, self.profile.psf
        return [*([gain.relative] if gain else []), *([psf.separation_px] if psf else [])]

    def kernel_size_px(self, max_coc_px: float) -> int:
        """Odd kernel side that holds CoCs up to ``max_coc_px`` anywhere in the picture."""
        places = [(y, x) for y in (0.0, 0.5, 1.0) for x in (0.0, 0.5, 1.0)]
        return max(psf_at(self.profile, place).kernel_size_px(max_coc_px) for place in places)

    def kernels(self, coc_px: Tensor, size_px: int, *, field: tuple[float, float] = CENTRE) -> tuple[Tensor, Tensor]:
        """Left and right kernels (K, size, size) of signed CoCs (K,), each summing to 0.5."""
        return psf_at(self.profile, field).kernels(coc_px, size_px)

    def aperture(self, max_coc_px: float, *, field: tuple[float, float] = CENTRE) -> Aperture:
        """The split aperture at a place."""
        return psf_at(self.profile, field).aperture(max_coc_px)
