#!/usr/bin/env bash
# An expert who holds PyTorch to fewer instructions for a comparison would write ATEN_CPU_CAPABILITY=AVX2: that is how
# torch.backends.cpu.get_cpu_capability() spells it, how PyTorch's build summary prints it, and ONEDNN_MAX_CPU_ISA=AVX2
# beside it works in any case. What happens: ATen knows small letters alone. AVX2 or DEFAULT is ignored, with a warning
# that comes only when something first asks for a kernel, and every native kernel stays at AVX-512 while oneDNN obeys:
# PyTorch is held back by half. Small letters work. Seen with torch 2.13.0 (x86-64); the parser has read small
# letters alone since the variable exists (aten/src/ATen/native/DispatchStub.cpp).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
cat > "$work/show.py" <<'PY'
import sys, warnings
import torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = torch.backends.cpu.get_cpu_capability()
print(found, "warned" if any("ignoring invalid value" in str(w.message) for w in caught) else "silent")
PY
show() { env "$@" "$work/venv/bin/python" -W ignore "$work/show.py"; }
"$work/venv/bin/python" -W ignore -c "import torch; print('torch', torch.__version__, torch.cpu.get_capabilities()['architecture'])"
whole=$(show A=)
capitals=$(show ATEN_CPU_CAPABILITY=DEFAULT)
small=$(show ATEN_CPU_CAPABILITY=default)
echo "nothing set:                  $whole"
echo "ATEN_CPU_CAPABILITY=AVX2:     $(show ATEN_CPU_CAPABILITY=AVX2)"
echo "ATEN_CPU_CAPABILITY=avx2:     $(show ATEN_CPU_CAPABILITY=avx2)"
echo "ATEN_CPU_CAPABILITY=DEFAULT:  $capitals"
echo "ATEN_CPU_CAPABILITY=default:  $small"
[ "$whole" != "DEFAULT silent" ] || { echo "this processor has nothing to hold back"; exit 0; }
[ "$capitals" = "${whole% *} warned" ] && [ "$small" = "DEFAULT silent" ] || { echo "behaviour changed"; exit 1; }
