#!/usr/bin/env bash
# An expert expects: OpenEXR in opencv-python's wheels is off by default and OPENCV_IO_ENABLE_OPENEXR=1 turns it on, as
# every data loader of EXR depth (DefocusNet, FlyingThings3D, IRS) does.
# What happens: the wheels of 4.x do so; those of 5.0 are built without OpenEXR, so the variable does nothing: imread
# returns None without a word, as for a file that is not there, and imwrite has no writer.
# Since: opencv-python 5.0.0 (seen with 5.0.0.93); 4.14.0.94 still reads and writes them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version in 4.14.0.94 5.0.0.93; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" -q install "opencv-python-headless==$version" numpy 2>/dev/null
done
cat > "$work/try.py" <<'PY'
import os, sys
os.environ["OPENCV_IO_ENABLE_OPENEXR"] = "1"
import cv2, numpy as np
path, made = sys.argv[1], np.linspace(0, 5, 600, dtype=np.float32).reshape(20, 30)
built = [line.strip() for line in cv2.getBuildInformation().splitlines() if "OpenEXR" in line]
try:
    wrote = cv2.imwrite(path, made)
except cv2.error as error:
    wrote = f"error: {error.err}"
read = cv2.imread(path, cv2.IMREAD_UNCHANGED)
print(cv2.__version__, built, "imwrite:", wrote, "imread:", None if read is None else (read.shape, read.dtype))
PY
old=$("$work/4.14.0.94/bin/python" "$work/try.py" "$work/a.exr" 2>/dev/null)
new=$("$work/5.0.0.93/bin/python" "$work/try.py" "$work/a.exr" 2>/dev/null)
printf '%s\n%s\n' "$old" "$new"
[[ $old == *"imwrite: True"*"imread: ((20, 30)"* && $new == *"imread: None" ]]
