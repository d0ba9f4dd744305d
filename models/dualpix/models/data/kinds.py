"""Kinds of training data and of arithmetic, by name: apart from what makes them, so command lines need no torch."""

from __future__ import annotations

from typing import Literal

from dualpix.capture.types import Quality

__all__ = [
    "CROP_HW", "FEWEST_FRAMES", "FRAMES", "MOST_FRAMES", "SCENE_HW", "Optics", "Precision", "Quality", "Recipe",
    "Scenes", "StackGenerator", "WantedDevice", "WantedPrecision",
]  # fmt: skip

Scenes = Literal["simple", "varied"]
"""Procedural scenes: few plain surfaces, or scenes of all uses."""
Optics = Literal["model", "cameras", "half_disc", "rectangle"]
"""How apertures are split."""
StackGenerator = Literal["faithful", "published"]
"""How focus stacks are formed: with the optics and errors of real cameras, or as published networks were trained."""
Precision = Literal["float32", "bfloat16", "float64"]
"""float64 is for comparisons: of processes, devices and machines, which sum in other orders."""
WantedPrecision = Literal["auto", "float32", "bfloat16", "float64"]
WantedDevice = Literal["auto", "cpu", "cuda", "mps"]
Recipe = Literal["cmtl"]
"""Several runs that build on one another, see :mod:`dualpix.models.train.recipes`."""
SCENE_HW = (192, 256)
"""(height, width) in px of scenes that are rendered on the fly."""
CROP_HW = (128, 160)
"""And of the random windows of samples that a step sees."""
FRAMES, FEWEST_FRAMES, MOST_FRAMES = 5, 2, 9
"""Of stacks that networks are judged by and exported for: where nobody says, and the range that may be asked for."""
