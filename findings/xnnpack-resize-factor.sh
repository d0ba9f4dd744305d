#!/usr/bin/env bash
# An expert expects F.interpolate(x, scale_factor=1.3, mode="bilinear") to be delegated right or not at all. PyTorch makes
# 15 rows of 12 and samples every 1 / 1.3 rows. What happens in ExecuTorch 1.5.1: the XNNPACK partitioner takes the
# operator whatever its factor and stores the sizes alone, so the delegate samples every 12 / 15 rows: the picture is
# stretched, a few dB of signal are left on texture, and nothing is said. The runtime's own kernel, without the
# delegate, is right, and so is a resize by sizes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchao==0.18.0 executorch==1.5.1
cat > "$work/show.py" <<'PY'
import sys
from importlib.metadata import version
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from torch import nn
from torch.nn.functional import interpolate


class Resize(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, x):
        return interpolate(x, mode="bilinear", align_corners=False, **self.options)


def signal_db(partitioners, **options):
    net, x = Resize(**options).eval(), torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    program = to_edge_transform_and_lower(torch.export.export(net, (x,)), partitioner=partitioners).to_executorch()
    loaded = Runtime.get().load_program(program.buffer)
    found, expected = loaded.load_method("forward").execute([x])[0].clone(), net(x)
    return float(10 * torch.log10(expected.square().mean() / (found - expected).square().mean().clamp_min(1e-20)))


print("executorch", version("executorch"))
delegated = signal_db([XnnpackPartitioner()], scale_factor=1.3)
alone = signal_db([], scale_factor=1.3)
by_size = signal_db([XnnpackPartitioner()], size=(15, 20))
print(f"factor 1.3 in the XNNPACK delegate: {delegated:.1f} dB")
print(f"factor 1.3 in the portable kernel:  {alone:.1f} dB")
print(f"by size in the XNNPACK delegate:    {by_size:.1f} dB")
if not (delegated < 30 and alone > 100 and by_size > 100):
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py" 2>/dev/null
