"""An ensemble: the mean of several networks, as one (Lakshminarayanan et al., "Simple and scalable predictive
uncertainty estimation using deep ensembles", NeurIPS 2017).

What one training has by luck another has not: the mean of their disparities is better than each. It is one module, so
that whatever is done with a network is done with it: judged, quantised, exported, run in one program.

Convention: as its members: disparity in px of the input grid, and where all members say how sure they are that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """``forward(image, left, right) -> disparity_px``, and ``confidence`` where all members give one.

    Shapes: as the members': image (B, 3, H, W), left and right (B, 1, H, W); results (B, 1, H, W).
    """

    def __init__(self, members: list[nn.Module], takes: list[tuple[int, ...]], *, sure: bool) -> None:
        """Args:
        members: the networks.
        takes: of the three inputs, which each member takes.
        sure: whether the second output of each is how sure it is.
        """
        super().__init__()
        self.members = nn.ModuleList(members)
        self._takes, self._sure = takes, sure
        self.register_buffer("share", torch.tensor(1.0 / len(members)), persistent=False)

    share: Tensor

    def forward(self, image: Tensor, left: Tensor, right: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Ask all, and take the mean."""
        given = (image, left, right)
        said = [member(*(given[i] for i in takes)) for member, takes in zip(self.members, self._takes, strict=True)]
        disparity = self._mean([one[0] if isinstance(one, tuple | list) else one for one in said])
        if not self._sure:
            return disparity
        return disparity, self._mean([one[1] for one in said])

    def _mean(self, maps: list[Tensor]) -> Tensor:
        total = maps[0]
        for one in maps[1:]:
            total = total + one
        return total * self.share
