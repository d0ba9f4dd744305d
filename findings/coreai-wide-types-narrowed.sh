#!/usr/bin/env bash
# An expert expects a converter to refuse a type that its target lacks, or to say that it narrows it, as Core ML's
# does with a warning. What happens in coreai-torch 0.4.3: int64 inside a network becomes int32 and wraps around,
# float64 becomes float32. An index or a time that is computed in int64 and small again at the end (x * 1000000 //
# 1000) is right up to 2147 and then anything, negative ones too; a sum that float64 was chosen for is a sum in
# float32. The asset is written and run, without an error or a warning.
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


class Scaled(nn.Module):
    def forward(self, x):
        return x.long() * 1000000 // 1000


class Small(nn.Module):
    def forward(self, x):
        y = x.double()
        return ((y + 1e-9) - y).float() * 1e9


print("coreai-torch", version("coreai-torch"), "coreai-core", version("coreai-core"))
x = torch.tensor([[1, 1000, 5000, 2000000]], dtype=torch.int32)
exact, whole = Scaled()(x).tolist()[0], outputs(Scaled(), x)["y"].tolist()[0]
print("x * 1000000 // 1000 in int64:", exact, "by the runtime:", whole)
x = torch.tensor([[1.0, 2.0, 3.0]])
real = outputs(Small(), x)["y"].tolist()[0]
print("(x + 1e-9 - x) * 1e9 in float64:", [round(v, 4) for v in Small()(x).tolist()[0]], "by the runtime:", real)
if whole[:2] != exact[:2] or whole[2:] == exact[2:] or max(real) > 0.5:
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py" 2>/dev/null | grep -v "ODIE\|converting 1 program"
exit "${PIPESTATUS[0]}"
