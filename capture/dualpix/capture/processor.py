"""Which instruction sets a processor has, and which of them PyTorch may use: what every time rests on.

Convention: the **class** of a processor is its architecture with the instruction sets that decide which float32,
float16 and int8 kernels run on it: ``x86-64-avx512-vnni``, ``arm64-fp16-dot``. Processors of one class differ in clock
and caches, not in kernels, so ratios of times carry over within a class and not beyond it. A class that is not known is
``None``, never a guess.

The host is asked through PyTorch, whose ``torch.cpu.get_capabilities`` is the pytorch/cpuinfo library: the same that
XNNPACK chooses its kernels by. Phones are asked for their ``/proc/cpuinfo``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

X86, ARM = "x86-64", "arm64"
UNKNOWN = "unknown"
"""In files and on pages, where a class is not known."""
NOT_RECORDED = "class not recorded"
"""On pages, of files from before classes were recorded."""

_MAX_CPUINFO_CHARS = 1 << 20

_NAMES: Mapping[str, Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    X86: {
        "avx2": (("avx2",), ("avx2",)),
        "avx_vnni": (("avx_vnni",), ("avx_vnni",)),
        # the set that XNNPACK and oneDNN ask for together, of every server core since Skylake
        "avx512": (
            ("avx512_f", "avx512_bw", "avx512_dq", "avx512_vl"),
            ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
        ),
        "avx512_vnni": (("avx512_vnni",), ("avx512_vnni",)),
        "avx512_bf16": (("avx512_bf16",), ("avx512_bf16",)),
        "avx512_fp16": (("avx512_fp16",), ("avx512_fp16",)),
        "amx_int8": (("amx_int8",), ("amx_int8",)),
        "amx_bf16": (("amx_bf16",), ("amx_bf16",)),
    },
    ARM: {
        "fp16": (("fp16_arith",), ("asimdhp",)),
        "dot": (("dot",), ("asimddp",)),
        "bf16": (("bf16",), ("bf16",)),
        "i8mm": (("i8mm",), ("i8mm",)),
        "sve": (("sve",), ("sve",)),
        "sme2": (("sme2",), ("sme2",)),
    },
}
"""Architecture -> feature -> (what PyTorch calls it, what Linux calls it); several must all be there."""
_PYTORCH_ARCHITECTURES = {"x86_64": X86, "arm64": ARM}
_ARM_CLASS = ("fp16", "dot", "i8mm", "sme2")
"""bf16 and sve are recorded, but choose no kernel of an exported program."""

_AVX2 = frozenset({"avx2"})
_AVX2_VNNI = _AVX2 | {"avx_vnni"}
_AVX512 = _AVX2 | {"avx512"}
_AVX512_VNNI = _AVX512 | {"avx_vnni", "avx512_vnni"}
_AVX512_BF16 = _AVX512_VNNI | {"avx512_bf16"}
_AVX512_FP16 = _AVX512_BF16 | {"avx512_fp16"}

_ATEN_ALLOWS: Mapping[str, frozenset[str]] = {"DEFAULT": frozenset(), "NO AVX": frozenset(), "AVX2": _AVX2_VNNI}
"""By ``torch.backends.cpu.get_cpu_capability()``; what is not here allows all."""
_ONEDNN_ALLOWS: Mapping[str, frozenset[str]] = {
    "SSE41": frozenset(),
    "AVX": frozenset(),
    "AVX2": _AVX2,
    "AVX2_VNNI": _AVX2_VNNI,
    "AVX2_VNNI_2": _AVX2_VNNI,
    "AVX512_CORE": _AVX512,
    "AVX512_CORE_VNNI": _AVX512_VNNI,
    "AVX512_CORE_BF16": _AVX512_BF16,
    "AVX512_CORE_FP16": _AVX512_FP16,
    "AVX10_1_512": _AVX512_FP16,
}
"""By ``ONEDNN_MAX_CPU_ISA`` (oneDNN 3.12, "CPU Dispatcher Control"); it ignores what it does not know."""
_MKL_ALLOWS: Mapping[str, frozenset[str]] = {
    "SSE4_2": frozenset(),
    "AVX": frozenset(),
    "AVX2": _AVX2,
    "AVX2_E1": _AVX2_VNNI,
}
"""By ``MKL_ENABLE_INSTRUCTIONS`` (oneMKL 2024.2, "Instruction Set Specific Dispatching"); its float32 products are the
same under all the AVX512 settings."""


@dataclass(frozen=True)
class Processor:
    """A processor, or the part of it that a library may use."""

    architecture: str
    """``x86-64``, ``arm64``, or as PyTorch names it."""
    features: tuple[str, ...] | None
    """Instruction sets that it has out of those that matter here; ``None`` where they are not known."""
    held_by: tuple[str, ...] = ()
    """Settings that keep a library from using more, such as ``ONEDNN_MAX_CPU_ISA=AVX2``."""

    @property
    def class_name(self) -> str | None:
        """The class; ``None`` where it is not known."""
        if self.features is None or self.architecture not in _NAMES:
            return None
        return "-".join([self.architecture, *_class_parts(self.architecture, self.features)])

    @property
    def computes_bfloat16(self) -> bool:
        """Whether there are instructions that multiply bfloat16: without them it is emulated, and slower than float32.

        False where the features are not known.
        """
        return any(name in (self.features or ()) for name in ("avx512_bf16", "amx_bf16", "bf16"))

    def describe(self) -> dict[str, str]:
        """For files: "class" and "features", "unknown" where they are not known."""
        features = UNKNOWN if self.features is None else " ".join(self.features)
        return {"class": self.class_name or UNKNOWN, "features": features}


def host_processor() -> Processor:
    """This machine's, whole: what the runtimes of exported programs choose their kernels by."""
    import torch

    return from_pytorch(torch.cpu.get_capabilities())


def from_pytorch(capabilities: Mapping[str, Any]) -> Processor:
    """From ``torch.cpu.get_capabilities()``, which names the architecture alone where cpuinfo does not get on."""
    said = str(capabilities.get("architecture", UNKNOWN))
    architecture = _PYTORCH_ARCHITECTURES.get(said, said)
    names = {feature: keys for feature, (keys, _) in _NAMES.get(architecture, {}).items()}
    if not any(key in capabilities for keys in names.values() for key in keys):
        return Processor(architecture, None)
    return Processor(architecture, tuple(f for f, keys in names.items() if all(capabilities.get(k) for k in keys)))


def from_cpuinfo(text: str) -> Processor:
    """From Linux's ``/proc/cpuinfo``: what all cores have, for a program may run on any of them.

    Features are not known where no line of the text lists any, or those of a 32-bit kernel.
    """
    lines = [line.partition(":") for line in text[:_MAX_CPUINFO_CHARS].splitlines()]
    cores = [(key.strip(), frozenset(value.split())) for key, _, value in lines]
    for architecture, key, always in ((X86, "flags", "lm"), (ARM, "Features", "asimd")):
        flags = [found for name, found in cores if name == key]
        if flags and always in (common := frozenset.intersection(*flags)):
            names = _NAMES[architecture].items()
            return Processor(architecture, tuple(f for f, (_, linux) in names if common.issuperset(linux)))
    return Processor(UNKNOWN, None)


def pytorch_processor() -> Processor:
    """What PyTorch's own operators may use of this machine: settings of the process can hold them back."""
    import torch

    mkldnn: Any = torch.backends.mkldnn
    return held_back(
        host_processor(),
        torch.backends.cpu.get_cpu_capability(),
        os.environ,
        onednn=bool(mkldnn.enabled) or not mkldnn.is_available(),
    )


def held_back(processor: Processor, capability: str, environment: Mapping[str, str], *, onednn: bool) -> Processor:
    """What is left of a processor under PyTorch's settings.

    Args:
        processor: the whole.
        capability: that ATen found, ``torch.backends.cpu.get_cpu_capability()``.
        environment: of the process.
        onednn: whether oneDNN takes part as it does where nobody switches it off.
    """
    onednn_key = next((k for k in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if environment.get(k)), "")
    settings = (
        ("ATEN_CPU_CAPABILITY", _ATEN_ALLOWS.get(capability)),
        (onednn_key, _ONEDNN_ALLOWS.get(environment.get(onednn_key, "").upper())),
        ("MKL_ENABLE_INSTRUCTIONS", _MKL_ALLOWS.get(environment.get("MKL_ENABLE_INSTRUCTIONS", "").upper())),
    )
    features, held_by = processor.features, []
    for key, allowed in settings:
        value = environment.get(key)
        if processor.architecture != X86 and value:
            features = None  # no table says what the values leave on other architectures
            held_by.append(f"{key}={value}")
        elif processor.architecture == X86 and allowed is not None and not allowed.issuperset(processor.features or ()):
            features = tuple(f for f in features or () if f in allowed)
            held_by.append(f"{key}={value}" if value else f"{capability} kernels of ATen")
    if not onednn:
        features = None
        held_by.append("torch.backends.mkldnn.enabled=False")
    return Processor(processor.architecture, features, tuple(held_by))


def _class_parts(architecture: str, features: Collection[str]) -> list[str]:
    if architecture == ARM:
        return [name for name in _ARM_CLASS if name in features]
    if "avx512" in features:
        level, dot_products = "avx512", "avx512_vnni"
    elif "avx2" in features:
        level, dot_products = "avx2", "avx_vnni"
    else:
        return []
    return [level, *(["vnni"] if dot_products in features else []), *(["amx"] if "amx_int8" in features else [])]
