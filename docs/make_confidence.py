"""``confidence.json`` of a network and of semi-global matching: ``python -m docs.make_confidence [--model FOLDER]``.

Renders the validation captures, runs the method on them as ``dualpix depth`` does, and fits what its evidence is worth
(:mod:`dualpix.models.confidence.fit`); then checks the result on captures that had no part in it. Some minutes.

A network with a confidence of its own has two of each: one that weighs it with what the views say (``_learned``), and
one of the views alone, for networks that have none and take this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from dualpix.capture.files import sha256_of_file, write_json
from dualpix.models.confidence import Calibration
from dualpix.models.confidence.evidence import CELL_PX, LEARNED, TERMS, Reference, Tolerance
from dualpix.models.confidence.fit import fit_calibration
from dualpix.models.evaluate.validation import CHECK_SEED, FIT_SEED, TABLE_SEED, ValidationScene, validation_scenes
from dualpix.models.metrics import sparsification
from dualpix.models.predict.disparity import (
    Estimator,
    network_estimator,
    network_working_sizes,
    run_estimator,
    sgbm_estimator,
)
from dualpix.models.predict.judge import evidence_of
from dualpix.models.predict.working import WORKING_LONG_SIDE_PX
from dualpix.models.zoo import CONFIDENCE, DEFAULT_MODEL, ZOO, LoadedModel, load_model

Floats = npt.NDArray[np.float64]
_COUNTS = {FIT_SEED: (48, 16, 6), TABLE_SEED: (48, 16, 6), CHECK_SEED: (32, 12, 4)}
_PER_SCENE = 2000
_TOLERANCE = Tolerance()


@dataclass(frozen=True)
class Way:
    """One way to run a method."""

    key: str
    """Of ``confidence.json``."""
    folder: Path
    made_for: dict[str, str]
    estimator: Estimator
    reference: Reference
    several: bool

    def sizes(self, scene: ValidationScene) -> tuple[int, ...]:
        """Working sizes, as the method's own defaults, or the largest alone."""
        return network_working_sizes(scene.image) if self.several else (WORKING_LONG_SIDE_PX,)


@dataclass(frozen=True)
class Sampled:
    """Evidence and errors of one way at N cells."""

    names: tuple[str, ...]
    terms: Floats
    """(N, names)"""
    error: Floats
    """(N,) in tolerances."""

    def without(self, name: str) -> Sampled:
        """Less one kind of evidence."""
        kept = [place for place, other in enumerate(self.names) if other != name]
        return Sampled(tuple(self.names[place] for place in kept), self.terms[:, kept], self.error)


def sampled(ways: Sequence[Way], seed: int) -> list[Sampled]:
    """Of each way, on the scenes of a seed, at random cells of each."""
    found: list[list[tuple[tuple[str, ...], Floats, Floats]]] = [[] for _ in ways]
    for number, scene in enumerate(validation_scenes(seed, _COUNTS[seed])):
        rng = np.random.default_rng([seed, number])
        y, x = (rng.integers(0, size, _PER_SCENE) for size in scene.disparity_px.shape)
        for way, parts in zip(ways, found, strict=True):
            estimate = run_estimator(scene.image, way.estimator, way.key, way.sizes(scene), "median")
            terms = evidence_of(scene.image, estimate, way.reference).terms(_TOLERANCE)
            names = tuple(name for name in TERMS if name in terms)
            column = np.column_stack([terms[name][y // CELL_PX, x // CELL_PX] for name in names])
            disparity = estimate.result.disparity_px[y, x].astype(np.float64)
            parts.append((names, column, np.abs(disparity - scene.disparity_px[y, x]) / _TOLERANCE.at(disparity)))
    return [
        Sampled(parts[0][0], np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts]))
        for parts in found
    ]


def calibrations(ways: Sequence[Way]) -> list[tuple[Path, str, Calibration]]:
    """Fit, count and check each way; each with its folder and its key of ``confidence.json``."""
    of_seeds = [sampled(ways, seed) for seed in (FIT_SEED, TABLE_SEED, CHECK_SEED)]
    made = []
    for way, *samples in zip(ways, *of_seeds, strict=True):
        made.append((way.folder, way.key, calibration_of(way.made_for, *(s.without(LEARNED) for s in samples))))
        if LEARNED in samples[0].names:
            made.append((way.folder, f"{way.key}_learned", calibration_of(way.made_for, *samples)))
    return made


def calibration_of(made_for: dict[str, str], fit: Sampled, count: Sampled, check: Sampled) -> Calibration:
    """Weights, table and check, each from captures of its own."""
    provenance = {
        **made_for,
        "made_by": "docs/make_confidence.py",
        "scenes": "dualpix.models.evaluate.validation: rendered, none of training, of evaluation or of quantisation",
        "seeds": {"weights": FIT_SEED, "table": TABLE_SEED, "check": CHECK_SEED},
        "scenes_per_size_and_sort": {str(seed): list(counts) for seed, counts in _COUNTS.items()},
        "pixels_per_scene": _PER_SCENE,
    }
    calibration = fit_calibration(fit.names, (fit.terms, fit.error), (count.terms, count.error), _TOLERANCE, provenance)
    weights = np.array([calibration.weights[name] for name in check.names])
    score = calibration.bias + check.terms @ weights
    share = np.interp(score, calibration.scores, calibration.confidence)
    return replace(calibration, provenance={**provenance, "check": _check(share, check.error)})


def _check(confidence: Floats, error: Floats) -> dict[str, Any]:
    """Reliability, and the area under the sparsification error, on captures that had no part in the calibration."""
    right = error <= 1
    edges = np.linspace(0, 1, 11)
    which = np.clip(np.digitize(confidence, edges) - 1, 0, 9)
    bins = [
        {
            "confidence": round(float(confidence[which == k].mean()), 3),
            "right": round(float(right[which == k].mean()), 3),
            "pixels": int((which == k).sum()),
        }
        for k in range(10)
        if (which == k).any()
    ]
    gap = sum(abs(b["confidence"] - b["right"]) * b["pixels"] for b in bins) / len(right)
    return {
        "reliability": bins,
        "expected_calibration_error": round(gap, 4),
        "right": round(float(right.mean()), 4),
        "ause": round(sparsification(error, confidence).ause, 4),
    }


def ways_of(model: LoadedModel) -> list[Way]:
    """A network at its two working sizes and at one."""
    made_for = {"method": model.name, "weights_sha256": sha256_of_file(model.folder / "weights.safetensors")}
    run = network_estimator(model)
    return [
        Way(key, model.folder, made_for, run, "centre", several=several)
        for key, several in (("several_sizes", True), ("one_size", False))
    ]


@click.command()
@click.option("--model", default=DEFAULT_MODEL, help="Name or folder of the network; its confidence.json is written.")
def main(model: str) -> None:
    """Calibrate the confidence of a network; with the default one, that of semi-global matching as well."""
    ways = ways_of(load_model(model))
    if model == DEFAULT_MODEL:
        ways.append(Way("one_size", ZOO / "sgbm", {"method": "sgbm"}, sgbm_estimator(), "left", several=False))
    files: dict[Path, dict[str, Any]] = {}
    for folder, key, calibration in calibrations(ways):
        check = calibration.provenance["check"]
        click.echo(
            f"{calibration.provenance['method']}, {key}: {check['right']:.1%} right, "
            f"calibration error {check['expected_calibration_error']:.3f}, AUSE {check['ause']:.3f}"
        )
        files.setdefault(folder, {})[key] = calibration.to_json()
    for folder, content in files.items():
        folder.mkdir(exist_ok=True)
        write_json(folder / CONFIDENCE, content)


if __name__ == "__main__":
    main()
