#!/usr/bin/env bash
# An expert expects SIFT keypoints of OpenCV to lie where the feature is, without a bias. By default they are a quarter
# of a pixel too far right and down: the first octave is made by a resize to twice the size that shifts the picture.
# Between two cameras mounted alike it cancels; with one upside down, rows of true matches miss by half a pixel, which
# reads as a rig out of calibration. `enable_precise_upscale=True` (since 4.8) mends it, and is still off in 5.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q opencv-python-headless==5.0.0.93 numpy==2.3.5
"$folder/venv/bin/python" - <<'PY'
import sys

import cv2
import numpy as np

print("OpenCV", cv2.__version__)
rng = np.random.default_rng(0)
picture = np.zeros((400, 400), np.float32)
y, x = np.mgrid[0:400, 0:400]
for cx, cy, size in zip(rng.uniform(30, 370, 60), rng.uniform(30, 370, 60), rng.uniform(2, 5, 60)):
    picture += rng.uniform(60, 160) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * size**2))
picture = np.clip(picture, 0, 255).astype(np.uint8)
turned = np.ascontiguousarray(picture[::-1, ::-1])


def bias(**more):
    """Median of where a point and its twin in the picture turned by 180 degrees miss each other, halved."""
    sift = cv2.SIFT_create(**more)
    (one, a), (two, b) = sift.detectAndCompute(picture, None), sift.detectAndCompute(turned, None)
    misses = []
    for match in cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(a, b):
        back = 399 - np.array(two[match.trainIdx].pt)
        miss = np.array(one[match.queryIdx].pt) - back
        if np.abs(miss).max() < 2:
            misses.append(miss)
    return np.median(misses, axis=0) / 2


plain, precise = bias(), bias(enable_precise_upscale=True)
print("bias in x, y, px: default", plain, " enable_precise_upscale", precise)
as_found = np.all(np.abs(plain - 0.25) < 0.06) and np.all(np.abs(precise) < 0.06)
sys.exit(0 if as_found else 1)
PY
