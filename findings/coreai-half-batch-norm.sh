#!/usr/bin/env bash
# An expert expects a float16 batch norm in evaluation mode to be a product and a sum, folded into the convolution
# before it in full precision, as every deployment tool does. What happens in coreai-torch 0.4.3 with coreai-core
# 1.0.0b3: the norm is computed as written, in float16, where eps = 1e-5 and variances below 6e-5 lose their digits: a
# variance of 5e-5 gives values 100 times too large, and one of 1e-5 or less NaN. Trained networks have such channels.
# PyTorch itself, in float16, is right: it computes that factor in float32. No error, no warning.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 coreai-torch==0.4.3 coreai-core==1.0.0b3
cat > "$work/show.py" <<'PY'
import asyncio
import contextlib
import io
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import coreai_torch
import numpy as np
import torch
from coreai.authoring.asset import AIModelAsset
from coreai.runtime import NDArray
from torch import nn

async def run(asset, x):
    async with AIModelAsset.load(asset).executable() as model:
        function = model.load_function("main")
        return {name: np.array(value.numpy()) for name, value in (await function({"x": NDArray(x.numpy())})).items()}


def outputs(module, x, names=("y",)):
    program = torch.export.export(module.eval(), (x,)).run_decompositions(coreai_torch.get_decomp_table())
    converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        asset = Path(folder) / "a.aimodel"
        converter.add_exported_program(program, input_names=["x"], output_names=list(names))
        converter.to_coreai().save_asset(asset)
        return asyncio.run(run(asset, x))


def network(variance):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)).eval()
    with torch.no_grad():
        net[0].weight.mul_(variance**0.5)
        net[1].running_var.fill_(variance)
    return net


class Half(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module.half()

    def forward(self, x):
        return self.module(x.half()).float()


x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
print("coreai-torch", version("coreai-torch"), "coreai-core", version("coreai-core"))
found = {}
for variance in (1e-1, 1e-3, 5e-5, 1e-5, 1e-6):
    with torch.no_grad():
        exact, by_torch = network(variance)(x).numpy(), Half(network(variance))(x).numpy()
    values = outputs(Half(network(variance)), x)["y"]
    found[variance] = float(np.abs(values - exact).max() / np.abs(exact).max())
    rounded = float(np.abs(by_torch - exact).max() / np.abs(exact).max())
    print(f"variance {variance:g}: largest error {found[variance]:.2g} of the largest value, {rounded:.2g} by torch")
if found[1e-1] > 0.02 or not np.isnan(found[1e-6]):
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py" 2>/dev/null | grep -v "ODIE\|converting 1 program"
exit "${PIPESTATUS[0]}"
