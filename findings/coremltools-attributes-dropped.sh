#!/usr/bin/env bash
# An expert expects coremltools to refuse an attribute that it cannot express. From torch.export it drops several without
# an error or a warning, and converts the operator as if it had its default: the alpha of add (and of sub and rsub), the
# factor of a nearest-neighbour resize that does not divide (bilinear with the same factor IS refused), the antialiasing
# filter, the threshold of softplus; and a reciprocal becomes 1 / (x + 1e-4), which is a tenth off where a disparity of
# 1e-3 becomes a depth. Seen with coremltools 9.0, whose torch.export frontend is new in 8.0.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 coremltools==9.0 numpy
cat > "$work/show.py" <<'PY'
import sys
import coremltools as ct
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def converted(function):
    """(operator, what it was given) of the program."""
    exported = torch.export.export(Net(function).eval(), (torch.rand(1, 2, 12, 16),)).run_decompositions({})
    program = ct.convert(
        exported, convert_to="milinternal", minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
    )
    steps = [op for op in program.functions["main"].operations if op.op_type != "const"]
    return [
        (op.op_type, {k: v.val.item() for k, v in op.inputs.items() if v is not None and v.val is not None and v.val.size == 1})
        for op in steps
    ]


CASES = {
    "x + 0.1 * x, as add(alpha=0.1)": (lambda x: torch.add(x, x, alpha=0.1), ["add"]),
    "nearest, factor 1.3 (15 of 12 rows)": (lambda x: F.interpolate(x, scale_factor=1.3), ["upsample_nearest_neighbor"]),
    "bilinear, antialias": (
        lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True), ["upsample_bilinear"],
    ),
    "softplus(threshold=1)": (lambda x: F.softplus(x, threshold=1.0), ["softplus"]),
    "reciprocal": (torch.reciprocal, ["inverse"]),
}
print("coremltools", ct.__version__)
changed = False
for name, (function, expected) in CASES.items():
    steps = converted(function)
    print(f"{name}: {steps}")
    changed |= [kind for kind, _ in steps] != expected
changed |= not converted(torch.reciprocal)[0][1].get("epsilon", 0) > 5e-5
if changed:
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py" 2>/dev/null
