#!/usr/bin/env bash
# An expert expects a converter that folds a division behind a convolution into its weights to look which side of the
# division the convolution is on. What happens in coremltools 9.0: the pass fuse_conv_scale takes c / conv(x) for
# conv(x) / c and multiplies the weights by 1 / c, so that 1 / conv(x) is converted to conv(x). Any constant does it, a
# number for each channel, too; so does a transposed convolution. In every precision, with no error and no warning.
# torch.reciprocal(conv(x)) is left alone.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 coremltools==9.0 numpy
cat > "$work/show.py" <<'PY'
import sys

import coremltools as ct
import numpy as np
import torch
from torch import nn


class Quotient(nn.Module):
    def __init__(self, over):
        super().__init__()
        self.over, self.conv = over, nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.conv.weight, 8.0)
        self.register_buffer("number", torch.tensor(2.0))

    def forward(self, x):
        y = self.conv(x)
        return self.number / y if self.over else y / self.number


def converted(over):
    exported = torch.export.export(Quotient(over).eval(), (torch.rand(1, 1, 4, 4),)).run_decompositions({})
    program = ct.convert(
        exported, convert_to="milinternal", minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
    )
    operations = [op for op in program.functions["main"].operations if op.op_type != "const"]
    return [op.op_type for op in operations], float(np.ravel(operations[0].weight.val)[0])


print("coremltools", ct.__version__)
right, turned = converted(over=False), converted(over=True)
print("conv(x) / 2, weight 8:", *right)
print("2 / conv(x), weight 8:", *turned)
if right != (["conv"], 4.0) or turned != (["conv"], 4.0):
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py" 2>/dev/null
