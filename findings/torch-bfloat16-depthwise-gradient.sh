#!/usr/bin/env bash
# An expert expects bfloat16 to train at least as fast as float32 on a CPU that multiplies bfloat16 in hardware
# (AVX-512 BF16), layer by layer. Depthwise convolutions do the opposite: oneDNN has a kernel for their forward pass,
# and falls back to plain loops for their gradients, most of all where they stride. A 5 x 5 depthwise layer of 320
# channels that halves an 8 x 10 map takes some 15 times as long as in float32, casts included; in a network of inverted
# residuals these few layers, 1 % of the multiply-accumulates, can be a sixth of the time of a step.
# Taken in float32 inside a bfloat16 step, the gradients cost next to nothing.
# Seen with torch 2.13.0+cpu on AMD EPYC with avx512_bf16; processors without it emulate bfloat16 everywhere.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy
"$work/venv/bin/python" - <<'PY'
import sys
import time
from pathlib import Path

import torch
from torch.nn.grad import conv2d_input, conv2d_weight

torch.set_num_threads(1)
print("torch", torch.__version__)
if "avx512_bf16" not in Path("/proc/cpuinfo").read_text():
    sys.exit("this processor has no AVX-512 BF16: nothing to compare")


def seconds(channels: int, height: int, width: int, kernel: int, stride: int, dtype: torch.dtype) -> float:
    x = torch.randn(8, channels, height, width, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, 1, kernel, kernel, dtype=dtype)
    form = (stride, kernel // 2, 1, channels)
    y = torch.conv2d(x, weight, None, stride, kernel // 2, 1, channels)
    gradient = torch.randn_like(y)
    best = 1e9
    for _ in range(12):
        started = time.thread_time()
        conv2d_input(x.shape, weight, gradient, *form)
        conv2d_weight(x, weight.shape, gradient, *form)
        best = min(best, time.thread_time() - started)
    return best


ratios = {}
for shape in [(320, 8, 10, 5, 2), (160, 16, 20, 3, 2), (96, 32, 40, 3, 2), (160, 16, 20, 5, 1), (96, 32, 40, 3, 1)]:
    low, full = (seconds(*shape, dtype) for dtype in (torch.bfloat16, torch.float32))
    ratios[shape] = low / full
    print("channels %d, %d x %d, kernel %d, stride %d:" % shape, f"bfloat16 takes {low / full:.1f} times float32")
slow = all(ratio > 4 for shape, ratio in ratios.items() if shape[4] == 2)
sys.exit(0 if slow else "the behaviour has changed")
PY
