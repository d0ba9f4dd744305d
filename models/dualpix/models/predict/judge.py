"""How sure an estimate is: evidence, what is wrong with the pair, and the reach of the method, in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dualpix.capture.types import DualPixelImage, FloatImage, Mask
from dualpix.models.confidence import CONFIDENT, Calibration
from dualpix.models.confidence.evidence import Evidence, Reference, gather_evidence
from dualpix.models.confidence.halves import Finding, examine, why_nothing
from dualpix.models.predict.working import DisparityMap, Judgement, WorkingViews, baseline_size, to_view, to_working
from dualpix.models.zoo import CONFIDENCE

LITTLE = 0.05
"""Measured share of a picture below which it is said why."""
_OUTSIDE_SHARE, _MOSTLY = 0.01, 0.5
_CLEAR_PX, _CLEAR_SHARE = 0.05, 0.1
_LEAST_ACROSS_PX = 0.05
_ACROSS_SHARE = 0.65
"""On 12 real captures 0.09 to 0.40 with the right baseline; on the 7 of them whose halves are not unrelated along the
wrong one, 1.1 to 5.2 with that."""


@dataclass(frozen=True)
class Estimate:
    """A map and what it was made from."""

    result: DisparityMap
    views: WorkingViews
    """The finest."""
    spread_px: FloatImage | None
    """(H, W) by how much the sizes differ, in pixels of the decoded view."""
    learned: FloatImage | None = None
    """(H, W) logit of the method's own confidence, the sizes' merged as their disparities are; None without one."""


def evidence_of(image: DualPixelImage, found: Estimate, reference: Reference) -> Evidence:
    """What the finest working views say about an estimate."""
    views = found.views
    per_px = np.float32(views.left.shape[1] / baseline_size(image))
    return gather_evidence(
        views.left,
        views.right,
        to_working(found.result.disparity_px, image, views) * per_px,
        spread_px=None if found.spread_px is None else to_working(found.spread_px, image, views) * per_px,
        learned=None if found.learned is None else to_working(found.learned, image, views),
        clipped=_clipped(image, views),
        reference=reference,
    )


def other_axis(evidence: Evidence) -> list[Finding]:
    """A doubt of the baseline, where the views differ about as much across it: no lens makes them differ there."""
    clear = evidence.noise_px < _CLEAR_PX
    if float(clear.mean()) < _CLEAR_SHARE:
        return []
    along_px, across_px = (float(np.median(values[clear])) for values in (evidence.misfit_px, evidence.across_px))
    if across_px < max(_LEAST_ACROSS_PX, _ACROSS_SHARE * along_px):
        return []
    text = (
        f"the halves still differ by {across_px:.2g} px across the baseline, and by {along_px:.2g} px along it: is it "
        "the other axis (--baseline)?"
    )
    return [Finding("across_baseline", text)]


def _clipped(image: DualPixelImage, views: WorkingViews) -> Mask:
    return np.asarray(to_working(image.saturated.astype(np.float32), image, views) > 0)


@dataclass(frozen=True)
class Judge:
    """Says how sure an estimate is."""

    calibration: Calibration
    calibrated_for: str
    reference: Reference
    reach_px: float
    """In working pixels."""
    reach_of: str

    def __call__(self, image: DualPixelImage, found: Estimate) -> DisparityMap:
        """The map with its confidence, and with what a user must know of the pair; the disparities are as they were."""
        views, result = found.views, found.result
        scale = baseline_size(image) / views.left.shape[1]
        evidence = evidence_of(image, found, self.reference)
        share, error = (to_view(cells, image, factor=1.0) for cells in self.calibration.judge(evidence))
        clipped = _clipped(image, views)
        pair = examine(views.left, views.right, clipped, self.reach_px, reach_of=self.reach_of, view_px_per_px=scale)
        outside = np.abs(result.disparity_px) > self.reach_px * scale
        unmeasured = image.saturated | outside if result.valid is None else image.saturated | outside | ~result.valid
        confidence = np.where(unmeasured, np.float32(0), share) if pair.usable else np.zeros_like(share)
        tolerance = self.calibration.tolerance.scaled(scale)
        little = float(np.mean(confidence >= CONFIDENT)) < LITTLE
        findings, outside_share = list(pair.findings), float(outside.mean())
        if not findings:
            findings += other_axis(evidence)
        if not findings and little:
            reason = why_nothing(views.left, views.right, float(evidence.support.mean()))
            if reason.code == "unrelated" or outside_share < _MOSTLY:
                findings.append(reason)
        if pair.usable and outside_share > _OUTSIDE_SHARE:
            findings.append(self._outside(outside_share, scale))
        judgement = Judgement(
            confidence=confidence,
            error_px=np.asarray(error * tolerance.at(result.disparity_px), np.float32),
            tolerance=tolerance,
            reach_px=self.reach_px * scale,
            beyond_reach=max(outside_share, float(pair.beyond.mean())),
            calibrated_for=self.calibrated_for,
            findings=(*findings, *self._calibrated_elsewhere(result.method)),
        )
        return replace(result, judgement=judgement)

    def _outside(self, share: float, scale: float) -> Finding:
        reach = self.reach_px * scale
        text = f"{share:.0%} of the disparities are outside the {-reach:.0f} ... {reach:.0f} px {self.reach_of}"
        return Finding("outside_training", text)

    def _calibrated_elsewhere(self, method: str) -> list[Finding]:
        if method == self.calibrated_for:
            return []
        text = f"the confidence was calibrated for '{self.calibrated_for}': '{method}' has no {CONFIDENCE}"
        return [Finding("other_calibration", text)]
