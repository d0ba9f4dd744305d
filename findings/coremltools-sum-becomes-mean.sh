#!/usr/bin/env bash
# An expert expects a converter to replace sum(x) / n by mean(x) where n is the number of summed values. What happens in
# coremltools 9.0: the pass fuse_reduce_mean compares the factor behind a sum with 1 / n by an ABSOLUTE tolerance of 1e-6
# (the divisor with n by 0.01), so that over a large picture any small factor passes: a sum over 1000 x 1000 pixels times
# 1e-7 becomes the mean, ten times too large, and an unbiased variance over more than a thousand values the biased one.
# No error, no warning. Division does not help: another pass makes it a product first. The pass is as old as
# coremltools 4.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 coremltools==9.0 numpy
cat > "$work/show.py" <<'PY'
import sys
import coremltools as ct
import torch
from torch import nn


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x.sum((2, 3)) * self.factor


def operators(side, factor):
    exported = torch.export.export(Scaled(factor).eval(), (torch.rand(1, 2, side, side),)).run_decompositions({})
    program = ct.convert(
        exported, convert_to="milinternal", minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
    )
    return [op.op_type for op in program.functions["main"].operations if op.op_type != "const"]


print("coremltools", ct.__version__)
large, small = operators(1000, 1e-7), operators(10, 1e-7)
print("sum over 1000 x 1000 times 1e-7:", large)
print("sum over 10 x 10 times 1e-7:    ", small)
if large != ["reduce_mean"] or small != ["reduce_sum", "mul"]:
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py" 2>/dev/null
