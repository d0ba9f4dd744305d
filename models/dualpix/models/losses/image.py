"""Losses of networks that give the picture in focus everywhere beside the disparity.

Convention: pictures are encoded as networks see them (:mod:`dualpix.models.prepare`), (B, 3, H, W); linear light of the
halves is green. Disparity is in px of the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.capture.errors import DualpixError
from dualpix.models.losses.disparity import disparity_loss
from dualpix.models.losses.reblur import reblur_evenly
from dualpix.models.losses.terms import exact
from dualpix.models.prepare import MEAN_LEVEL, decode, encode, image_gain, network_inputs
from dualpix.models.samples import DISPARITY, DISPARITY_GAIN, KNOWN, SHARP, Batch

MOST_COC_PX = 48.0
"""Of what is blurred again: beyond what is rendered for training."""
BORDER_PX = 8
"""Not compared along the border, where light from outside is missing."""
_GREEN = slice(1, 2)
_DARKEST = 1e-3
"""Of light under a root: its slope at zero has no end."""
_FLOOR = 1e-4


def dual_pixel_image_loss(
    disparities_px: Sequence[Tensor], sharp: Tensor, batch: Batch, image_weight: float, reblur_weight: float
) -> Tensor:
    """DDDNet's ``L_d + L_res + L_reb`` (Pan et al., CVPR 2021): the house's disparity loss, and L1 of encoded pictures.

    Args:
        disparities_px: finest first, see :func:`~dualpix.models.losses.disparity_loss`.
        sharp: (B, 3, H, W), encoded.
        batch: with ``sharp`` if ``image_weight`` is above 0. Where samples do not say the camera's gain, nothing can be
            blurred again, and the last term is left out.
        image_weight: of ``L_res``.
        reblur_weight: of ``L_reb``.

    Raises:
        DualpixError: no sample has a picture to learn from.
    """
    total = disparity_loss(disparities_px, batch[DISPARITY], batch.get(KNOWN))
    if image_weight:
        total = total + image_weight * image_loss(sharp, batch)
    if reblur_weight and DISPARITY_GAIN in batch:
        finest = F.interpolate(exact(disparities_px[0]), sharp.shape[-2:], mode="bilinear", align_corners=False)
        total = total + reblur_weight * reblur_loss(sharp, finest, batch, batch[DISPARITY_GAIN])
    return total


def image_loss(sharp: Tensor, batch: Batch, *, squared: bool = False) -> Tensor:
    """Mean absolute difference from the true picture, both encoded with the gain of the full-aperture view.

    Args:
        sharp: (B, 3, H, W), encoded.
        batch: with ``sharp`` and ``combined``.
        squared: mean square instead.

    Raises:
        DualpixError: the batch has none.
    """
    if SHARP not in batch:
        raise DualpixError(
            "some samples have no picture in focus everywhere, which this network learns from",
            expected="sources that have one: procedural, `dualpix render --all-in-focus`, RGB-D",
            hint="""--options '{"image_weight": 0}' trains without""",
        )
    truth = encode(batch[SHARP], image_gain(batch["combined"]))
    return _mean(exact(sharp) - truth, squared)


def reblur_loss(
    sharp: Tensor, disparity_px: Tensor, batch: Batch, gain: Tensor | float, *, squared: bool = False
) -> Tensor:
    """Mean absolute difference between what picture and disparity make of the halves, and what the truth makes of them.

    The paper's data were made by the renderer that its loss blurs with, so that the halves themselves are what the
    truth makes. Other cameras blur otherwise: against their halves a truth scores 0.0094 of encoded light (mean of ten
    scenes of measured cameras by the exact renderer), and the blurred picture in focus everywhere, which is the wrong
    answer, 0.0042. So the truth, where it is known, is blurred in the same way. Without any, the halves are all there
    is; see :func:`halves_loss`.

    Args:
        sharp: (B, 3, H, W), encoded.
        disparity_px: (B, 1, H, W).
        batch: a batch of the task.
        gain: disparity per CoC of the cameras; a number, or (B,).
        squared: mean square instead.
    """
    if SHARP not in batch:
        return halves_loss(sharp, disparity_px, batch, gain, squared=squared)
    with torch.no_grad():
        truth = batch[DISPARITY]
        if KNOWN in batch:
            truth = torch.where(batch[KNOWN] > 0, truth, disparity_px.to(truth.dtype))
        wanted = reblurred_inputs(encode(batch[SHARP], image_gain(batch["combined"])), truth, gain)
    made = reblurred_inputs(sharp, disparity_px, gain)
    gaps = [_mean(_inside(one - other), squared) for one, other in zip(made, wanted, strict=True)]
    return 0.5 * (gaps[0] + gaps[1])


def halves_loss(
    sharp: Tensor, disparity_px: Tensor, batch: Batch, gain: Tensor | float, *, squared: bool = False
) -> Tensor:
    """Mean absolute error of the difference of the halves, encoded, as picture and disparity make it.

    Of the difference alone: boxes have another shape than the blur of a lens, which both halves share and their
    difference hardly has. On ten scenes of the exact renderer a truth is off by 0.0019 in it, a picture that is taken
    to be in focus everywhere by 0.0042, on each of them by more than the truth; compared half by half it is the other
    way round on seven of ten.

    Args:
        sharp: (B, 3, H, W), encoded.
        disparity_px: (B, 1, H, W).
        batch: with ``left``, ``right`` and ``combined``.
        gain: disparity per CoC of the cameras; a number, or (B,).
        squared: mean square instead.
    """
    left, right = network_inputs(batch["left"], batch["right"], batch["combined"])[1:]
    made_left, made_right = reblurred_inputs(sharp, disparity_px, gain)
    return _mean(0.5 * _inside((made_right - made_left) - (right - left)), squared)


def _mean(gap: Tensor, squared: bool) -> Tensor:
    return gap.square().mean() if squared else gap.abs().mean()


def _inside(view: Tensor) -> Tensor:
    """Without the border."""
    return view[..., BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]


def reblurred_inputs(sharp: Tensor, disparity_px: Tensor, gain: Tensor | float) -> tuple[Tensor, Tensor]:
    """The halves (B, 1, H, W) as a network would see them, of its picture and disparity."""
    light = decode(exact(sharp)[:, _GREEN])
    left, right = reblur_evenly(light, exact(disparity_px), gain, most_coc_px=MOST_COC_PX)
    level = MEAN_LEVEL / (0.5 * (left + right)).mean((1, 2, 3), keepdim=True).clamp_min(_FLOOR)
    # encode()'s root has no finite slope at black
    one, other = (encode((half * level).clamp_min(_DARKEST), torch.ones_like(level)) for half in (left, right))
    return one, other
