"""Classes of processors, as PyTorch and Linux tell them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dualpix.capture.processor import Processor, from_cpuinfo, from_pytorch, held_back, host_processor

# Flags and Features as Linux prints them on these processors, cut down to what is looked at and a few beside it.
_X86 = "fpu sse2 ht lm ssse3 fma sse4_2 avx f16c"
ZEN3 = f"{_X86} avx2 bmi2 vaes"
SKYLAKE = f"{ZEN3} avx512f avx512dq avx512cd avx512bw avx512vl"
ICE_LAKE = f"{SKYLAKE} avx512_vnni avx512_vbmi2"
ZEN5 = f"{ICE_LAKE} avx_vnni avx512_bf16"
SAPPHIRE_RAPIDS = f"{ZEN5} avx512_fp16 amx_bf16 amx_tile amx_int8"
CORTEX_A72 = "fp asimd evtstrm aes crc32 cpuid"
CORTEX_A76 = f"{CORTEX_A72} atomics fphp asimdhp asimdrdm asimddp"
TENSOR_G4 = f"{CORTEX_A76} sve sve2 svei8mm svebf16 i8mm bf16"


def _x86(flags: str, cores: int = 2) -> str:
    return "".join(
        f"processor\t: {k}\nmodel name\t: CPU\nflags\t\t: {flags}\nbugs\t\t: spectre_v1\n\n" for k in range(cores)
    )


def _arm(*features: str) -> str:
    return "".join(f"processor\t: {k}\nFeatures\t: {f}\nCPU part\t: 0xd05\n\n" for k, f in enumerate(features))


@pytest.mark.parametrize(
    ("text", "name", "bfloat16"),
    [
        (_x86(_X86), "x86-64", False),
        (_x86(ZEN3), "x86-64-avx2", False),
        (_x86(f"{ZEN3} avx_vnni"), "x86-64-avx2-vnni", False),
        (_x86(SKYLAKE), "x86-64-avx512", False),
        (_x86(ICE_LAKE), "x86-64-avx512-vnni", False),
        (_x86(ZEN5), "x86-64-avx512-vnni", True),
        (_x86(SAPPHIRE_RAPIDS), "x86-64-avx512-vnni-amx", True),
        # AVX-512 of Knights Landing: without bw, dq and vl no kernel of ours is chosen by it
        (_x86(f"{ZEN3} avx512f avx512cd avx512er"), "x86-64-avx2", False),
        (_arm(CORTEX_A72), "arm64", False),
        (_arm(CORTEX_A76), "arm64-fp16-dot", False),
        (_arm(TENSOR_G4), "arm64-fp16-dot-i8mm", True),
        (_arm(f"{TENSOR_G4} sme sme2"), "arm64-fp16-dot-i8mm-sme2", True),
        # a program may run on any of the cores
        (_arm(CORTEX_A76, CORTEX_A72), "arm64", False),
    ],
)
def test_linux_names_the_class(text: str, name: str, bfloat16: bool) -> None:
    processor = from_cpuinfo(text)
    assert processor.class_name == name and processor.computes_bfloat16 is bfloat16


@pytest.mark.parametrize(
    "text", ["", "cat: /proc/cpuinfo: Permission denied", "flags : avx2", "Features : neon vfpv4", "flags\nFeatures:"]
)
def test_what_says_nothing_is_not_known(text: str) -> None:
    processor = from_cpuinfo(text)
    assert processor.class_name is None and not processor.computes_bfloat16
    assert processor.describe() == {"class": "unknown", "features": "unknown"}


def test_pytorch_names_the_class() -> None:
    graviton3 = {"architecture": "arm64", "neon": True, "fp16_arith": True, "dot": True, "i8mm": True, "bf16": True,
                 "sve": True, "sve_max_length": 32, "sme2": False}  # fmt: skip
    assert from_pytorch(graviton3) == Processor("arm64", ("fp16", "dot", "bf16", "i8mm", "sve"))
    assert from_pytorch(graviton3).class_name == "arm64-fp16-dot-i8mm"
    assert from_pytorch({"architecture": "x86_64", "avx2": True, "avx512_f": False}).class_name == "x86-64-avx2"
    # cpuinfo does not get on where /proc and /sys are hidden: PyTorch then says no more than this
    assert from_pytorch({"architecture": "x86_64"}).class_name is None
    assert from_pytorch({"architecture": "ppc64"}).class_name is None
    assert from_pytorch({}).class_name is None


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="no Linux")
def test_pytorch_and_linux_agree_on_this_machine() -> None:
    assert host_processor() == from_cpuinfo(Path("/proc/cpuinfo").read_text())


@pytest.mark.parametrize(
    ("capability", "environment", "onednn", "name", "held_by"),
    [
        ("AVX512", {}, True, "x86-64-avx512-vnni-amx", ()),
        ("AVX512", {"ONEDNN_MAX_CPU_ISA": "ALL"}, True, "x86-64-avx512-vnni-amx", ()),
        ("AVX512", {"ONEDNN_MAX_CPU_ISA": "nonsense"}, True, "x86-64-avx512-vnni-amx", ()),
        ("AVX512", {"ATEN_CPU_CAPABILITY": "AVX2"}, True, "x86-64-avx512-vnni-amx", ()),  # ATen reads small letters
        ("AVX2", {"ATEN_CPU_CAPABILITY": "avx2"}, True, "x86-64-avx2-vnni", ("ATEN_CPU_CAPABILITY=avx2",)),
        ("AVX512", {"ONEDNN_MAX_CPU_ISA": "avx2"}, True, "x86-64-avx2", ("ONEDNN_MAX_CPU_ISA=avx2",)),
        ("AVX512", {"DNNL_MAX_CPU_ISA": "AVX2"}, True, "x86-64-avx2", ("DNNL_MAX_CPU_ISA=AVX2",)),
        ("AVX512", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, True, "x86-64-avx512-vnni",
         ("ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16",)),
        ("AVX512", {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, True, "x86-64-avx2", ("MKL_ENABLE_INSTRUCTIONS=AVX2",)),
        ("AVX2", {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2_VNNI"}, True, "x86-64-avx2-vnni",
         ("ATEN_CPU_CAPABILITY=avx2", "ONEDNN_MAX_CPU_ISA=AVX2_VNNI")),
        ("AVX2", {}, True, "x86-64-avx2-vnni", ("AVX2 kernels of ATen",)),
        ("AVX512", {}, False, None, ("torch.backends.mkldnn.enabled=False",)),
    ],
)  # fmt: skip
def test_settings_hold_pytorch_back(
    capability: str, environment: dict[str, str], onednn: bool, name: str | None, held_by: tuple[str, ...]
) -> None:
    left = held_back(from_cpuinfo(_x86(SAPPHIRE_RAPIDS)), capability, environment, onednn=onednn)
    assert (left.class_name, left.held_by) == (name, held_by)


def test_a_limit_above_what_there_is_holds_nothing_back() -> None:
    whole = from_cpuinfo(_x86(ZEN3))
    settings = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    assert held_back(whole, "AVX2", settings, onednn=True) == whole


def test_what_settings_leave_on_other_architectures_is_not_known() -> None:
    whole = from_cpuinfo(_arm(TENSOR_G4))
    assert held_back(whole, "DEFAULT", {}, onednn=True) == whole
    left = held_back(whole, "DEFAULT", {"ONEDNN_MAX_CPU_ISA": "SVE_128"}, onednn=True)
    assert (left.class_name, left.held_by) == (None, ("ONEDNN_MAX_CPU_ISA=SVE_128",))


@pytest.mark.skipif("avx512" not in (host_processor().features or ()), reason="nothing to hold back here")
def test_pytorch_itself_is_held_back() -> None:
    """ATen and oneDNN both say what they run with, and we say the same."""
    program = (
        "import json, torch; from dualpix.capture.processor import pytorch_processor as p\n"
        "with torch.backends.mkldnn.verbose(1), torch.inference_mode():\n"
        "    torch.nn.functional.conv2d(torch.rand(1, 32, 64, 64), torch.rand(32, 32, 3, 3))\n"
        "print(json.dumps([p().class_name, p().held_by, torch.backends.cpu.get_cpu_capability()]))"
    )
    settings = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | settings, capture_output=True, text=True, check=True
    )
    *verbose, last = done.stdout.splitlines()
    held = [f"{key}={value}" for key, value in settings.items()]
    assert json.loads(last) == ["x86-64-avx2", held, "AVX2"]
    assert any(line.endswith("isa:Intel AVX2") for line in verbose), "oneDNN 3.12 says so on its first primitive"
