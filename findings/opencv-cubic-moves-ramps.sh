#!/usr/bin/env bash
# An expert expects a subpixel shift by cv2.INTER_CUBIC to put a ramp exactly where it was asked to be, as the cubic of
# Keys (a = -1/2) does to third order. What happens in OpenCV 5.0.0: its a is -3/4, which keeps constants and no more, so
# even a ramp lands up to 0.048 px beside, worst at quarters of a pixel. Two views that are each moved by half a
# disparity are 0.1 px wrong: as much as a dual-pixel disparity may be off at all. INTER_LINEAR has a ramp exact.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.4.6
cat > "$work/show.py" <<'PY'
import sys
import cv2
import numpy as np

x = np.broadcast_to(np.arange(64, dtype=np.float32), (8, 64)).copy()
y = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None], (8, 64)).copy()


def off(shift, flag):
    return float(cv2.remap(x, x + np.float32(shift), y, flag)[4, 30]) - 30 - shift


def keys(shift, a):
    """By the formula of Keys (1981), of a ramp."""
    weight = lambda d: (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)
    return sum(k * weight(abs(k - shift)) for k in (-1, 0, 1, 2)) - shift


print("opencv", cv2.__version__)
for shift in (0.1, 0.2, 0.25, 0.4, 0.5):
    print(f"by {shift}: cubic off by {off(shift, cv2.INTER_CUBIC):+.4f} px (formula {keys(shift, -0.75):+.4f}, "
          f"with a = -1/2 {keys(shift, -0.5):+.4f}), linear {off(shift, cv2.INTER_LINEAR):+.4f}")
unchanged = abs(off(0.2, cv2.INTER_CUBIC) - 0.048) < 1e-3 and abs(off(0.2, cv2.INTER_LINEAR)) < 1e-4
sys.exit(None if unchanged else "behaviour changed")
PY
"$work/venv/bin/python" "$work/show.py"
