#!/usr/bin/env bash
# An expert who reads the EXR depth maps of DefocusNet, FlyingThings3D or Blender sets OPENCV_IO_ENABLE_OPENEXR=1 before
# importing cv2, as OpenCV's own message asks since 4.5.5, and expects cv2.imread(path, IMREAD_UNCHANGED) to give floats.
# What happens with the wheels of OpenCV 5: they are built without OpenEXR ("OpenEXR: NO"), so the variable changes
# nothing; imread gives None without a word about EXR, and imwrite finds no writer. The wheels of 4.14.0.x read and write.
# Seen with opencv-python-headless 5.0.0.93 and 4.14.0.x on Linux x86-64. The OpenEXR package (3.x wheels) reads them.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cat > "$work/show.py" <<'PY'
import os, sys
os.environ["OPENCV_IO_ENABLE_OPENEXR"] = "1"
import cv2, numpy as np, OpenEXR
path, pixels = sys.argv[1], np.full((4, 6), 1.5, np.float16)
with OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, {"R": pixels, "G": pixels, "B": pixels}) as file:
    file.write(path)
built = next(line.split(":")[1].strip() for line in cv2.getBuildInformation().splitlines() if "OpenEXR" in line)
try:
    read = cv2.imread(path, cv2.IMREAD_UNCHANGED)
except cv2.error as error:
    read = None
print(f"OpenCV {cv2.__version__}, OpenEXR: {built}, imread: {'nothing' if read is None else str(read.dtype)}")
PY
show() {
    python3 -m venv "$work/$1"
    "$work/$1/bin/pip" install --quiet --disable-pip-version-check "opencv-python-headless==$1" openexr==3.5.3 "numpy<2.5"
    "$work/$1/bin/python" "$work/show.py" "$work/depth.exr" 2>/dev/null
}
new=$(show '5.0.0.93'); echo "$new"
old=$(show '4.14.0.*'); echo "$old"
case "$new" in *"imread: nothing"*) ;; *) echo "behaviour changed"; exit 1;; esac
case "$old" in *"imread: float32"*) ;; *) echo "behaviour changed"; exit 1;; esac
