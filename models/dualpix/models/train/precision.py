"""In which numbers a training step is computed.

bfloat16 pays where the processor multiplies it in hardware (AVX-512 BF16, AMX, ARM's BF16 extension). Elsewhere every
product is taken apart in software: a step of the default run took 9.7 times as long as in float32 on an AVX2-only EPYC.
"""

from __future__ import annotations

import os

import torch

from dualpix.models.data.kinds import Precision, WantedPrecision

_IN_HARDWARE = ("avx512_bf16", "amx_bf16", "bf16")  # names of torch.cpu.get_capabilities; the last is ARM's
# oneDNN, which computes the convolutions, can be held to an older instruction set; its names without bfloat16:
_HELD_BELOW = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


def computes_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware, and oneDNN is not held to instructions that do not."""
    held = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    if held.upper() in _HELD_BELOW:
        return False
    has = torch.cpu.get_capabilities()
    return any(has.get(name) for name in _IN_HARDWARE)


def resolve_precision(wanted: WantedPrecision) -> Precision:
    """What a run computes in: what was asked for, else bfloat16 where the processor computes in it."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if computes_bfloat16() else "float32"
