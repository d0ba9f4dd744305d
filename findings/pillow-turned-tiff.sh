#!/usr/bin/env bash
# An uncompressed grey TIFF (8 or 16 bits) whose Orientation says a quarter turn: a scan, a depth map of a phone.
# Pillow turns TIFFs by itself since 6.0, so one expects the upright picture, or, who does not know that, the stored
# one. Opened by its path, Pillow 11.0 to 13.0 gives neither: it maps the file with width and height exchanged before
# it turns, so rows are cut at the wrong length and every pixel but a few is somewhere else, in the shape of the
# stored picture. No warning. The same bytes from a file object, deflated, or as R, G, B or floats are right; 10.4 was
# right.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q pillow==13.0.0 numpy==2.4.6
"$here/venv/bin/python" - "$here" <<'PY'
import io, sys
import numpy as np, PIL
from PIL import Image

stored = (np.arange(6) * 40).reshape(2, 3)
upright = np.rot90(stored, -1)  # Orientation 6: a quarter turn clockwise
tag = Image.Exif()
tag[0x0112] = 6
wrong = []
print("Pillow", PIL.__version__, "stored", stored.tolist(), "upright", upright.tolist())
for kind in (np.uint8, np.uint16):
    path = f"{sys.argv[1]}/{kind.__name__}.tif"
    Image.fromarray(stored.astype(kind)).save(path, exif=tag)
    by_path = np.asarray(Image.open(path))
    by_bytes = np.asarray(Image.open(io.BytesIO(open(path, "rb").read())))
    print(kind.__name__, "by its path", by_path.tolist(), "; from its bytes", by_bytes.tolist())
    wrong.append(not any(np.array_equal(by_path, known) for known in (stored, upright)))
    wrong.append(np.array_equal(by_bytes, upright))
sys.exit(0 if all(wrong) else 1)
PY
