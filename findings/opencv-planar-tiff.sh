#!/usr/bin/env bash
# A 16-bit RGB TIFF with PlanarConfiguration 2 (each colour a plane of its own), as scanners and scientific programs
# write it. One expects the picture, or None as for other forms OpenCV cannot read. OpenCV 5.0.0 returns a picture of
# the right size whose R, G, B are three neighbours of the first plane: two thirds of the file are lost, without a word.
# 8-bit planar strips are right, because they take libtiff's RGBA path - which multiplies an unassociated alpha into
# the colours of an 8-bit RGBA file, where IMREAD_UNCHANGED promises them unchanged.
# Present in opencv-python-headless 5.0.0; 4.x was not tried.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q opencv-python-headless==5.0.0.93 numpy==2.4.6 tifffile==2026.3.3
"$here/venv/bin/python" - "$here" <<'PY'
import sys
import cv2, numpy as np, tifffile

rng = np.random.default_rng(0)
colour = rng.integers(0, 65536, (24, 36, 3)).astype(np.uint16)
path = sys.argv[1] + "/a.tif"
tifffile.imwrite(path, np.moveaxis(colour, -1, 0), photometric="rgb", planarconfig="separate")
planar = cv2.imread(path, cv2.IMREAD_UNCHANGED)[..., ::-1]
first_plane = colour[..., 0].ravel()[: planar.shape[1]]
rgba = rng.integers(0, 256, (24, 36, 4)).astype(np.uint8)
tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unassalpha"])
read = cv2.imread(path, cv2.IMREAD_UNCHANGED)
print("OpenCV", cv2.__version__)
print("planar right:", np.array_equal(planar, colour), "; its first row is a third of the first plane's:",
      np.array_equal(planar[0].ravel()[: planar.shape[1]], first_plane))
print("colours of RGBA unchanged:", np.array_equal(read[..., 2::-1], rgba[..., :3]))
sys.exit(0 if not np.array_equal(planar, colour) and not np.array_equal(read[..., 2::-1], rgba[..., :3]) else 1)
PY
