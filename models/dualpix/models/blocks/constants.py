"""Fixed tensors of the blocks: kernels, shifts, places.

Networks are also built where only their shapes are asked for, on torch's device "meta": to compare them with a file's,
and to count their work. Arithmetic there, a ``torch.arange`` even, makes torch import sympy, a second of a processor
for every command that loads a network. So what fixed tensors hold is computed on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def constant(make: Callable[[], Tensor]) -> Tensor:
    """What ``make`` computes, computed on the CPU and put where modules are being built."""
    with torch.device("cpu"):
        value = make()
    return value.to(torch.empty(0).device)
