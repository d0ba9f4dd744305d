"""Where a run is computed, and in which numbers.

bfloat16 pays where the processor multiplies it in hardware: GPUs since Ampere; of CPUs those with AVX-512 BF16, AMX or
ARM's BF16 extension. Elsewhere every product is taken apart in software: a step of the default run took 9.7 times as
long as in float32 on an AVX2-only EPYC.
"""

from __future__ import annotations

import torch

from dualpix.capture.errors import DualpixError
from dualpix.capture.processor import pytorch_processor
from dualpix.models.data.kinds import Precision, WantedDevice, WantedPrecision


def resolve_device(wanted: WantedDevice, local_rank: int = 0) -> torch.device:
    """The device of this process.

    Args:
        wanted: by kind; ``auto`` is a CUDA GPU, else Apple's, else the CPU.
        local_rank: number of this process among those of the machine; each takes a GPU of its own.

    Raises:
        DualpixError: there is no such device, or fewer GPUs than processes.
    """
    if wanted in ("auto", "cuda") and torch.cuda.is_available():
        count = torch.cuda.device_count()
        if local_rank >= count:
            raise DualpixError(f"process {local_rank + 1} on a machine of {count} GPUs", expected="one process a GPU")
        return torch.device("cuda", local_rank)
    if wanted in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    if wanted in ("auto", "cpu"):
        return torch.device("cpu")
    built = "PyTorch was built without it" if wanted == "cuda" and not torch.version.cuda else "none is there"
    raise DualpixError(f"no device '{wanted}': {built}", expected="cpu, or leave --device at auto")


def resolve_precision(wanted: WantedPrecision, device: torch.device) -> Precision:
    """What a run computes in: what was asked for, else bfloat16 where the device computes in it.

    Raises:
        DualpixError: the device does not know what was asked for.
    """
    if wanted == "float64" and device.type == "mps":
        raise DualpixError("float64 on Apple's GPU", expected="--device cpu, or float32")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and pytorch_processor().computes_bfloat16
    return "bfloat16" if native else "float32"
