"""Figures of a dual-pixel pair whose truth is a disparity, in pixels or up to an affine map."""

from __future__ import annotations

import numpy as np

from dualpix.capture.pictures.display import srgb_from_linear
from dualpix.capture.types import FloatImage
from dualpix.models.confidence import CONFIDENT
from dualpix.models.evaluate.edges import LEAST_STEP_PX
from dualpix.models.evaluate.figures import affine_figures, checked, confidence_figures, edge_figures, image_figures
from dualpix.models.evaluate.protocol import Figures, wrong_unit
from dualpix.models.evaluate.sample import Prediction, Sample
from dualpix.models.metrics import IRLS_ITERATIONS, bad_pixel_share, mean_absolute_error


def affine_pair_figures(sample: Sample, prediction: Prediction, *, iterations: int = IRLS_ITERATIONS) -> Figures:
    """AI(1), AI(2), the ranks; edges and the confidence by the error after the fit; :func:`sharp_figures`."""
    return {**_figures(sample, prediction, iterations, in_pixels=False), **sharp_figures(sample, prediction)}


def pixel_figures(sample: Sample, prediction: Prediction) -> Figures:
    """The same, with mean error, share off by more than one and error near edges in px; edges and confidence by these.

    Raises:
        DualpixError: the prediction is known up to an affine map only.
    """
    if prediction.unit != "disparity_px":
        raise wrong_unit(prediction, "disparity_px: x_right - x_left in pixels of the view")
    return {**_figures(sample, prediction, IRLS_ITERATIONS, in_pixels=True), **sharp_figures(sample, prediction)}


def sharp_figures(sample: Sample, prediction: Prediction) -> Figures:
    """PSNR and SSIM of the picture in focus everywhere, and of the blurred one that it was made of.

    Light is scored with the sRGB curve, clipped to 0..1. Nothing where the method gives no picture, or there is no
    truth for it.
    """
    if sample.sharp is None or prediction.sharp is None or sample.pair is None:
        return {}
    truth = _coded(sample.sharp)
    figures: dict[str, float | None] = {}
    for prefix, light in (("", prediction.sharp), ("input_", sample.pair.combined)):
        found = image_figures(checked(_coded(sample.on_truth(light)), sample.valid, sample.name), truth)
        figures |= {f"{prefix}{name}": found[name] for name in ("psnr_db", "ssim")}
    return figures


def _coded(light: FloatImage) -> FloatImage:
    """(h, w, 3), of one channel as well."""
    colour = light if light.ndim == 3 else np.repeat(light[..., None], 3, axis=2)
    return srgb_from_linear(np.clip(colour, 0, 1))


def _figures(sample: Sample, prediction: Prediction, iterations: int, *, in_pixels: bool) -> Figures:
    if prediction.unit == "image":
        raise wrong_unit(prediction, "one number a pixel")
    truth, valid = sample.truth, sample.valid
    found = checked(sample.on_truth(prediction.values), valid, sample.name)
    affine = affine_figures(found, truth, valid, sample.confidence, iterations=iterations)
    confidence = None if prediction.confidence is None else sample.on_truth(prediction.confidence)
    fitted = np.asarray(found if in_pixels else affine["scale"] * found + affine["offset"], np.float32)
    error = np.abs(fitted.astype(np.float64) - truth)
    return {
        **affine,
        "mae_px": mean_absolute_error(found, truth, valid) if in_pixels else None,
        "bad_1px": bad_pixel_share(found, truth, valid, threshold=1.0) if in_pixels else None,
        **_edges(sample, fitted, in_pixels=in_pixels),
        **confidence_figures(error, confidence, valid, CONFIDENT),
    }


def _edges(sample: Sample, fitted: FloatImage, *, in_pixels: bool) -> Figures:
    """None of a truth that is not dense, as those are whose pixels have weights: its holes and doubts make edges."""
    if sample.confidence is not None:
        return dict.fromkeys(("edge_mae_px", "edge_ai1", "edge_f1", "edge_share"))
    least = LEAST_STEP_PX if in_pixels else 0.0
    found = edge_figures(fitted, sample.truth, sample.valid, least_step=least)
    error = found.pop("edge_mae")
    return {"edge_mae_px": error if in_pixels else None, "edge_ai1": None if in_pixels else error, **found}
