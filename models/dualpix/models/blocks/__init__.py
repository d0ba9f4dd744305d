"""Building blocks of the networks that every backend delegates: XNNPACK (float and int8), Vulkan and Core ML.

``basic`` holds what the shipped network is made of; the other modules hold, for the networks to come, one export form
each of an operation whose usual form is refused, slow or wrong on a phone, with that usual form beside it as the slow
reference. Which to use for what: ``README.md`` in this folder.

Convention: feature maps are (B, C, H, W); disparity is ``x_right - x_left`` in px of the map at hand, > 0 behind the
focus plane, so that ``left(x)`` is seen again at ``right(x + d)``.
"""

from __future__ import annotations

from dualpix.models.blocks.basic import (
    ConvBNReLU,
    FusedInvertedResidual,
    InvertedResidual,
    ViewFusion,
    WindowedParallaxAttention,
)
from dualpix.models.blocks.parallax import FeatureWiseFusion, TextbookParallaxAttention

__all__ = [
    "ConvBNReLU", "FeatureWiseFusion", "FusedInvertedResidual", "InvertedResidual", "TextbookParallaxAttention",
    "ViewFusion", "WindowedParallaxAttention",
]  # fmt: skip
