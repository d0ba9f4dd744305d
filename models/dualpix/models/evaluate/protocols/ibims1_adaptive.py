"""iBims-1 stacks whose focus list is made of the true depth: what FOSSA's table is of. It leaks the scene's scale."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage
from dualpix.models.evaluate.depth_maps import DEPTH_METRICS
from dualpix.models.evaluate.protocols import ibims1

COUNT = 5
_SHARES = (0.05, 0.95)


def adaptive_list(depth_m: FloatImage) -> npt.NDArray[np.float64]:
    """From the 5th to the 95th percentile of 1 / depth, in equal steps of it."""
    far, near = np.quantile(1 / depth_m.astype(np.float64), _SHARES)
    return np.asarray(1 / np.linspace(far, near, COUNT))


PROTOCOL = replace(
    ibims1.PROTOCOL,
    name="ibims1-adaptive",
    title="iBims-1, F1.4, focus list from the true depth",
    read=partial(ibims1.read_with, adaptive_list),
    source="github.com/princeton-vl/FOSSA, config/validation_configs.py (ibims_F1_4_adaptive_fd), "
    "util/gen_focal_stack.py",
    metrics=DEPTH_METRICS + "; 5 focus distances from the true depth, at F1.4, no alignment",
    leaks_scale="the focus list is the 5th to 95th percentile of the true 1 / depth of each scene",
)
