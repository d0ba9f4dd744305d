#!/usr/bin/env bash
# opencv-python's VideoWriter. An expert expects frames of an odd width or height to be written as they are or refused, and
# a writer that opens to write what browsers show. What happens: the last row and column of odd-sized frames are cut off
# without a word. The wheel, built without GPL parts, has no H.264 encoder ("avc1" does not open), but it has VP9: the tag
# "vp09" in .mp4 writes what Chromium plays (156), where "mp4v" (MPEG-4 Part 2), the tag of most examples, does not play.
# Seen with opencv-python 4.12.0.88 and 5.0.0.93; the script shows all but the browser.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q opencv-python-headless==4.12.0.88
"$folder/env/bin/python" - "$folder" <<'PY'
import sys
import cv2
import numpy as np
print("opencv", cv2.__version__)
sizes, opened = {}, {}
for tag in ("avc1", "mp4v", "vp09"):
    path = f"{sys.argv[1]}/{tag}.mp4"
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*tag), 12, (63, 41))
    opened[tag] = writer.isOpened()
    for level in range(0, 250, 50):
        writer.write(np.full((41, 63, 3), level, np.uint8))
    writer.release()
    if opened[tag]:
        sizes[tag] = cv2.VideoCapture(path).read()[1].shape[:2]
print("opened:", opened, "sizes read of 41 x 63:", sizes)
assert opened == {"avc1": False, "mp4v": True, "vp09": True}, opened
assert sizes == {"mp4v": (40, 62), "vp09": (40, 62)}, sizes
PY
