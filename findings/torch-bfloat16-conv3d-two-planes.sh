#!/usr/bin/env bash
# An expert expects the weight gradient of a 3-D convolution (3x3x3, padding 1) under CPU autocast to bfloat16 to be
# that of float32 to two or three digits, whatever the size of the volume. On x86 CPUs with AVX-512 BF16 (oneDNN's
# bfloat16 kernels) it is so for a volume of 1, 3, 4 or 5 planes and wrong for one of 2: off by as much as itself, or
# by 1e30 and more (memory that was never written), or NaN. Cost volumes of few shifts that are halved once have two
# planes; the loss is finite and its first gradient is not. Forward and the gradient of the input are right.
# Seen with torch 2.13.0+cpu; float32, or the layers outside autocast, are right. Processors without AVX-512 BF16 take
# other kernels.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy
"$work/venv/bin/python" - <<'PY'
import sys

import torch

torch.set_num_threads(1)
print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())


def error_of(planes: int) -> tuple[float, float]:
    """Largest error over the largest value: of the weight's gradient, of the input's."""
    torch.manual_seed(0)
    conv, x = torch.nn.Conv3d(48, 48, 3, padding=1, bias=False), torch.randn(2, 48, planes, 12, 16, requires_grad=True)
    found = []
    for low in (False, True):
        conv.zero_grad()
        x.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            y = conv(x)
        y.float().square().mean().backward()
        found.append((conv.weight.grad.clone(), x.grad.clone()))
    pairs = zip(found[1], found[0])
    return tuple(float((low - full).abs().max() / full.abs().max()) for low, full in pairs)


wrong = []
for planes in range(1, 6):
    weight, given = error_of(planes)
    print(f"{planes} planes: gradient of the weight off by {weight:.3g} of its largest, of the input by {given:.3g}")
    if not weight < 0.05:
        wrong.append(planes)
    if not given < 0.05:
        sys.exit("the gradient of the input is wrong too")
print("wrong for", wrong, "planes")
sys.exit(0 if wrong == [2] else "the behaviour has changed, or this processor has no AVX-512 BF16")
PY
