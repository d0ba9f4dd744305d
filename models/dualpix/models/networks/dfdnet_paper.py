"""DfDNet in its paper form: metric depth of a focus stack (Princeton, independent work; the design before FOSSA).

The frame is that of :mod:`.fossa_paper`: Depth Anything V2 whose first blocks see all frames, each followed by
attention over frames, then one frame, the mean or the maximum of all. How many blocks, and which of the two, is what
its text compares: 2, 4 or 6. Its loss weighs scale-invariant error 1 and gradients over two scales 0.1.

The text does not say how its attention is told what frames are focused at; here as FOSSA does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dualpix.models.networks import fossa_paper


@dataclass(frozen=True)
class DfDNetPaperConfig(fossa_paper.FOSSAPaperConfig):
    """Fields of :class:`.fossa_paper.FOSSAPaperConfig`, with its own defaults: the best of its comparison."""

    stack_blocks: int = 6
    silog_weight: float = 1.0
    gradient_weight: float = 0.1


class DfDNetPaper(fossa_paper.FOSSAPaper):
    """``forward(frames, focus_diopters, width_per_focal) -> depth_m``, as :class:`.fossa_paper.FOSSAPaper`."""


def loss_of_options(options: Mapping[str, Any]) -> fossa_paper.Loss:
    """See :func:`dualpix.models.networks.fossa_paper.loss_of_options`."""
    return fossa_paper.loss_of_options(options, DfDNetPaperConfig)
