#!/usr/bin/env bash
# An expert expects a float16 product of matrices to add up in float32, as PyTorch on a CPU, Core ML's CPU and GPU
# kernels and every tensor unit do. What happens in the runtime of coreai-core 1.0.0b3 on Linux: linear layers, matmul
# and bmm add up in float16, term by term. 2048 terms of one sign come out 4 % off, and a difference of nearly equal
# sums loses all its digits; the same weights as a 1x1 convolution are right to the last bit of float16. So a layer
# norm or an average made of a linear layer, the usual way to please a delegate, is the wrong choice here.
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


class Summed(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer.half()
        with torch.no_grad():
            self.layer.weight.fill_(1 / 2048)

    def forward(self, x):
        return self.layer(x.half()).float()


torch.manual_seed(0)
x = 0.5 + 0.1 * torch.rand(1, 2048)
print("coreai-torch", version("coreai-torch"), "coreai-core", version("coreai-core"))
errors = {}
for name, layer, given in (
    ("linear of 2048 terms", nn.Linear(2048, 4, bias=False), x),
    ("1x1 convolution of 2048 terms", nn.Conv2d(2048, 4, 1, bias=False), x.reshape(1, 2048, 1, 1)),
):
    module = Summed(layer)
    exact = float(given.half().double().mean())
    by_torch = float((module(given) / exact - 1).abs().max())
    errors[name] = float(np.abs(outputs(module, given)["y"] / exact - 1).max())
    print(f"{name}, all of one sign: {errors[name]:.2%} off, {by_torch:.2%} by torch")
linear, convolution = errors.values()
if linear < 0.01 or convolution > 0.002:
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py" 2>/dev/null | grep -v "ODIE\|converting 1 program"
exit "${PIPESTATUS[0]}"
