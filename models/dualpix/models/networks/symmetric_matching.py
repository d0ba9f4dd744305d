"""Matching of the full-aperture view with both halves at once, as QPDNet and FMDP do it.

Convention: C is the full-aperture view, L and R are the halves; feature maps are (B, C, H, W). A half disparity h, in
px of the map, says that what C shows at x is at x - h in L and at x + h in R: h is half of ``x_right - x_left``, > 0
behind the focus plane.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.channels import FrozenConv1x1
from dualpix.models.losses import exact

LEVELS = 4
"""Of a pyramid: at level l a column is 2^l columns of the map."""
RADIUS = 4
"""Columns of a level to each side that are looked up."""
_TAPS = 2 * RADIUS + 1


class SymmetricMatching(nn.Module):
    """All pairs of each row of (C, L) and (C, R), and what they say at a half disparity.

    Args:
        channels: of the features.
    """

    similarities = 2 * LEVELS * _TAPS
    """Channels that are looked up: levels of L, finest first, then of R; in each the offsets -4 to 4 of h."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("root_scale", torch.tensor(channels**-0.5), persistent=False)
        self.fixed_look_ups: nn.ModuleList | None = None

    root_scale: Tensor

    def volumes(self, centre: Tensor, left: Tensor, right: Tensor) -> list[Tensor]:
        """Features of C, L and R -> scalar products over sqrt(C), (B, columns of the level, H, W), levels of L first.

        A level's column has the mean of the products of the columns it stands for. That is the product with their mean,
        so the features are averaged: the same, and the volume is read once less.
        """
        b, c, h, w = centre.shape
        rows = (exact(centre) * self.root_scale).permute(0, 2, 3, 1).reshape(b * h, w, c)
        found = []
        for view in (exact(left), exact(right)):
            for level in range(LEVELS):
                if level:
                    # an odd column at the end stays alone
                    view = F.avg_pool2d(view, (1, 2), (1, 2), 0, bool(view.shape[3] % 2), False)
                columns = view.permute(0, 2, 1, 3).reshape(b * h, c, view.shape[3])
                found.append(torch.bmm(rows, columns).reshape(b, h, w, view.shape[3]))
        if self._fixed:
            return [volume.permute(0, 3, 1, 2) for volume in found]
        return found

    def forward(self, volumes: list[Tensor], half_px: Tensor) -> Tensor:
        """Look the volumes up at h and its neighbours: (B, 1, H, W) -> (B, ``similarities``, H, W).

        Offset k of level l is h + k 2^l for both halves: the windows of L run the other way.
        """
        found = []
        fixed = self.fixed_look_ups if self._fixed else None
        for i, volume in enumerate(volumes):
            side, level = (-1 if i < LEVELS else 1), i % LEVELS
            if fixed is not None:
                found.append(fixed[i](volume, half_px))
                continue
            x = torch.arange(half_px.shape[3], dtype=half_px.dtype, device=half_px.device)
            taps = look_up(volume, (x + side * half_px) / 2**level)
            found.append(taps.flip(1) if side < 0 else taps)
        return torch.cat(found, 1)

    @property
    def _fixed(self) -> bool:
        return self.fixed_look_ups is not None and torch.compiler.is_exporting()

    def fix_width(self, width_px: int | None) -> None:
        """Keep what depends on the width of the features alone for ``torch.export``; None: any width again.

        Look-ups become weighted sums over a row, which phones delegate; without it they stay index look-ups.
        """
        if width_px is None:
            self.fixed_look_ups = None
            return
        widths = [width_px]
        for _ in range(LEVELS - 1):
            widths.append((widths[-1] + 1) // 2)
        sides = [(side, level) for side in (-1, 1) for level in range(LEVELS)]
        self.fixed_look_ups = nn.ModuleList(_FixedLookUp(width_px, widths[level], side, level) for side, level in sides)


def look_up(volume: Tensor, at: Tensor) -> Tensor:
    """Linear interpolation in the columns of a volume, zero outside.

    Args:
        volume: (B, H, W, columns).
        at: (B, 1, H, W) column, of any value.

    Returns:
        (B, 9, H, W): at -4 to 4 columns from ``at``. Gradients flow to the volume.
    """
    columns = volume.shape[3]
    at = at.squeeze(1).unsqueeze(3).clamp(-RADIUS - 1, columns + RADIUS)  # there all taps are outside
    first = at.floor()
    index = first.long() + torch.arange(-RADIUS, RADIUS + 2, device=at.device)
    inside = (index >= 0) & (index < columns)
    taken = volume.gather(3, index.clamp(0, columns - 1)) * inside
    return torch.lerp(taken[..., :-1], taken[..., 1:], at - first).permute(0, 3, 1, 2)


class _FixedLookUp(nn.Module):
    """:func:`look_up` of one level and side without an index: each column weighs max(0, 1 - |column - position|).

    See :class:`dualpix.models.blocks.correlation.TentLookup`, which has the form for volumes of fixed shifts.
    """

    def __init__(self, width_px: int, columns: int, side: int, level: int) -> None:
        super().__init__()
        self.columns, self.side = columns, side
        x = torch.arange(width_px, dtype=torch.float32) / 2**level
        around = torch.arange(-RADIUS, columns + RADIUS, dtype=torch.float32)
        for name, value in (
            ("x", x.reshape(1, 1, 1, -1)),
            ("around", around.reshape(1, -1, 1, 1)),
            ("scale", torch.tensor(side / 2**level)),
            ("one", torch.tensor(1.0)),
        ):
            self.register_buffer(name, value, persistent=False)
        self.sum = FrozenConv1x1(torch.ones(1, columns))

    x: Tensor
    around: Tensor
    scale: Tensor
    one: Tensor

    def forward(self, volume: Tensor, half_px: Tensor) -> Tensor:
        """(B, columns, H, W) and (B, 1, H, W) -> (B, 9, H, W), offsets of h ascending."""
        tent = F.relu(self.one - (self.around - (self.x + half_px * self.scale)).abs())
        starts = range(_TAPS) if self.side < 0 else range(_TAPS - 1, -1, -1)
        return torch.cat([self.sum(volume * tent[:, i : i + self.columns]) for i in starts], 1)
