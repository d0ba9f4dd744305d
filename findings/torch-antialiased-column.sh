#!/usr/bin/env bash
# An expert who filters a column of pixels, a profile or an eye's line of an image (height n, width 1), expects
# F.interpolate(..., antialias=True) to treat it as it treats any picture: each column by itself. What happens: along the
# height of a tensor of one channel that is one pixel wide, every output row is the first one, without an error, for
# bilinear and bicubic filters; the same column beside a second one, or with a width that is resized too, comes out
# right, and so does antialias=False. Seen with torch 2.13.0 on x86-64.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy
cat > "$work/show.py" <<'PY'
import sys
import torch
from torch.nn.functional import interpolate

print("torch", torch.__version__)
column = torch.arange(12.0).reshape(1, 1, 12, 1)
changed = False
for mode in ("bilinear", "bicubic"):
    alone = interpolate(column, size=(6, 1), mode=mode, antialias=True).flatten()
    beside = interpolate(column.repeat(1, 1, 1, 2), size=(6, 2), mode=mode, antialias=True)[..., 0].flatten()
    print(f"{mode}: a column alone      {[round(v, 2) for v in alone.tolist()]}")
    print(f"{mode}: the same beside one {[round(v, 2) for v in beside.tolist()]}")
    changed |= not (bool((alone == alone[0]).all()) and float((beside - alone).abs().max()) > 5)
if changed:
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py"
