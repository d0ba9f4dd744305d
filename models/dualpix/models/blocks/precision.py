"""Where autocast must not round products to half precision: differences of nearly equal things, disparities."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def in_full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Products of tensors on ``like``'s device as their own types have them; inputs that came rounded stay so."""
    kind = like.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()
