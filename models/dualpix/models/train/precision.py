"""In which numbers a training step is computed.

bfloat16 pays where the processor multiplies it in hardware (AVX-512 BF16, AMX, ARM's BF16 extension). Elsewhere every
product is taken apart in software: a step of the default run took 9.7 times as long as in float32 on an AVX2-only EPYC.
"""

from __future__ import annotations

from dualpix.capture.processor import pytorch_processor
from dualpix.models.data.kinds import Precision, WantedPrecision


def resolve_precision(wanted: WantedPrecision) -> Precision:
    """What a run computes in: what was asked for, else bfloat16 where PyTorch's processor computes in it."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if pytorch_processor().computes_bfloat16 else "float32"
