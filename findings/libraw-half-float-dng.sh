#!/usr/bin/env bash
# A DNG of half floats (SampleFormat 3, 16 bits) without WhiteLevel: by DNG 1.4 and later its white is 1.0. One expects
# the mosaic scaled to LibRaw's integers, as it does for 32-bit floats. LibRaw 0.22.2 (rawpy 0.28.0) takes white for
# 65535, the largest 16-bit integer, so every sample below 4 becomes 0: a black picture, white_level 16383, no error.
# With 32-bit floats one highlight of 100000 darkens its whole file: the scale is that of the brightest sample.
# Present in LibRaw 0.22.2; older releases were not tried.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"; "$here/venv/bin/pip" install -q rawpy==0.28.0 numpy==2.4.6 tifffile==2026.3.3
"$here/venv/bin/python" - "$here/a.dng" <<'PY'
import sys
import numpy as np, rawpy, tifffile

TAGS = [(271, "s", 0, "Acme", True), (272, "s", 0, "One", True), (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, bytes((0, 1, 1, 2)), True), (50706, "B", 4, (1, 4, 0, 0), True),
        (50708, "s", 0, "Acme One", True),
        (50721, "2i", 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True), (50778, "H", 1, 21, True)]

def by_libraw(samples):
    tifffile.imwrite(sys.argv[1], samples, photometric="cfa", metadata=None, software=False, extratags=TAGS)
    with rawpy.imread(sys.argv[1]) as raw:
        return np.array(raw.raw_image)

print("rawpy", rawpy.__version__, "LibRaw", rawpy.libraw_version)
light = (0.2 + 0.7 * np.random.default_rng(0).random((48, 64))).astype(np.float32)
half = by_libraw(light.astype(np.float16))
plain, bright = by_libraw(light), light.copy()
bright[0, 0] = 1e5
dimmed = by_libraw(bright)
print("half floats of 0.2..0.9:", half.min(), half.max(), "; one sample of 32-bit floats beside a highlight of 100000:",
      plain[9, 9], "->", dimmed[9, 9])
sys.exit(0 if not half.any() and dimmed[9, 9] < plain[9, 9] else 1)
PY
