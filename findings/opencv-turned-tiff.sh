#!/usr/bin/env bash
# A TIFF whose Orientation tag says a quarter turn. One expects cv2.imread to turn it, as it turns JPEG and PNG, and
# to leave it as stored with IMREAD_UNCHANGED or IMREAD_IGNORE_ORIENTATION, as it leaves those. Since OpenCV 4.11
# (4.10 read it) imread returns None for every flag, with a failed assertion of its own in the log; imdecode of the
# same bytes works, and turns by the tag whatever the flags say: for a TIFF, IMREAD_UNCHANGED is upright. So a pair of
# a turned JPEG and a depth TIFF, both read with IMREAD_UNCHANGED, lies a quarter turn apart.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q opencv-python-headless==5.0.0.93 numpy==2.4.6 tifffile==2026.3.3 pillow==10.4.0
"$here/venv/bin/python" - "$here" 2>/dev/null <<'PY'
import sys
import cv2, numpy as np, tifffile
from PIL import Image

stored = np.arange(6, dtype=np.uint16).reshape(2, 3)
tiff, png = sys.argv[1] + "/a.tif", sys.argv[1] + "/a.png"
tifffile.imwrite(tiff, stored, extratags=[(274, "H", 1, 6, True)], metadata=None)
tag = Image.Exif()
tag[0x0112] = 6
Image.fromarray(stored.astype(np.uint8)).save(png, exif=tag)
print("OpenCV", cv2.__version__)
same = []
for name in ("IMREAD_UNCHANGED", "IMREAD_IGNORE_ORIENTATION", "IMREAD_ANYDEPTH"):
    flags = getattr(cv2, name) | (cv2.IMREAD_ANYDEPTH if "IGNORE" in name else 0)
    read, decoded = cv2.imread(tiff, flags), cv2.imdecode(np.fromfile(tiff, np.uint8), flags)
    print(f"{name:26} imread {read}, imdecode {decoded.shape}, a PNG with the same tag {cv2.imread(png, flags).shape}")
    same += [read is None, np.array_equal(decoded, np.rot90(stored, -1))]
same.append(cv2.imread(png, cv2.IMREAD_UNCHANGED).shape == (2, 3))
sys.exit(0 if all(same) else 1)
PY
