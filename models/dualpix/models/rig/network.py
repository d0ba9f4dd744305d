"""A stereo network of the user's own as the matcher of a rig.

Convention: the factory gives anything that is called with (left, right), float32 (1, 3, H, W) of display-coded gray in
0..1, rectified, sides a multiple of 32, and gives disparity ``x_left - x_right`` in px, >= 0, of that size: (1, 1,
H, W) or (1, H, W), or a sequence of such, of which the last counts (RAFT-Stereo gives all its iterations).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.labels.match import Gray
from dualpix.capture.types import FloatImage
from dualpix.models.named import FORM, call_named

_MULTIPLE = 32


@dataclass(frozen=True)
class NetworkMatcher:
    """See :class:`dualpix.capture.rig.labels.match.Matcher`."""

    name: str
    network: Any

    def disparity_px(self, left: Gray, right: Gray, most_px: int) -> FloatImage:
        """(H, W) of the left picture; what is beyond ``most_px`` is no match."""
        del most_px  # the caller judges the range
        height, width = left.shape
        pad = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
        views = [F.pad(_tensor(view), pad, mode="replicate") for view in (left, right)]
        try:
            with torch.inference_mode():
                found = self.network(*views)
        except Exception as error:  # the user's network raises anything
            raise DualpixError(
                f"'{self.name}' fails on pictures of {width}x{height}: {type(error).__name__}: {error}",
                expected="a network of (left, right)",
                hint="--debug shows the traceback",
            ) from error
        while isinstance(found, (list, tuple)) and found:
            found = found[-1]
        if not isinstance(found, Tensor) or found.squeeze().shape != views[0].shape[2:]:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise DualpixError(f"'{self.name}' gives {shape}", expected=f"disparity of {tuple(views[0].shape[2:])} px")
        return np.asarray(found.squeeze().float().cpu().numpy()[:height, :width], np.float32)


def network_matcher(name: str) -> NetworkMatcher:
    """The matcher of ``package.module:function``, which is called without arguments.

    Raises:
        DualpixError: it cannot be imported, fails, or gives nothing that can be called.
    """
    network = call_named(name)
    if not callable(network):
        raise DualpixError(f"{name}() gives a {type(network).__name__}", expected=f"a network, from {FORM}")
    if isinstance(network, nn.Module):
        network.eval()
    return NetworkMatcher(name, network)


def _tensor(view: Gray) -> Tensor:
    return torch.from_numpy(view.astype(np.float32) / np.float32(255)).expand(1, 3, -1, -1).contiguous()
