#!/usr/bin/env bash
# An expert who wants plain weights for an export takes copy.deepcopy(net) and calls remove_parametrizations on the copy
# (weight_norm, spectral_norm of torch.nn.utils.parametrizations), to leave the network itself alone. What happens in
# torch 2.13.0: the copy shares the class that register_parametrization made for the network, remove_parametrizations
# deletes the weight's property from that class, and the network has no weight any more: its next forward raises
# AttributeError. Under torch.no_grad(), moreover, a weight made of several tensors (weight_norm) comes back as a buffer
# and no parameter: an optimiser of the copy's parameters() leaves it as it is, without an error.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy
cat > "$work/show.py" <<'PY'
import copy
import sys
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import remove_parametrizations

print("torch", torch.__version__)
net, x = parametrizations.weight_norm(nn.Conv2d(1, 2, 3)), torch.rand(1, 1, 5, 5)
net(x)
plain = copy.deepcopy(net)
with torch.no_grad():
    remove_parametrizations(plain, "weight")
parameters, buffers = (dict(named) for named in (plain.named_parameters(), plain.named_buffers()))
print("parameters of the copy:", list(parameters), "buffers:", list(buffers))
lost = "weight" in buffers and "weight" not in parameters
try:
    net(x)
    broken = False
except AttributeError as error:
    print("the network that was copied:", error)
    broken = True
if not (lost and broken):
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py"
