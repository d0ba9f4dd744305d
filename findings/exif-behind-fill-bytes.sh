#!/usr/bin/env bash
# Fill bytes FF before a marker are legal in JPEG (ITU-T T.81, B.1.1.2), so EXIF behind them should be found as without.
# ExifRead 3.5.1 finds nothing and says nothing: orientation, time and focus distance are lost. piexif 1.1.3 calls the
# file no JPEG. Pillow 12.0.0 reads it. (No earlier version of ExifRead or piexif was tried.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q exifread==3.5.1 piexif==1.1.3 pillow==12.0.0
"$work/venv/bin/python" - <<'PYTHON'
import io
from importlib.metadata import version

import exifread
import piexif
from PIL import Image

ORIENTATION = 0x0112


def found(data):
    yield "Pillow", Image.open(io.BytesIO(data)).getexif().get(ORIENTATION)
    yield "ExifRead", exifread.process_file(io.BytesIO(data)).get("Image Orientation")
    try:
        yield "piexif", piexif.load(data)["0th"].get(ORIENTATION)
    except piexif.InvalidImageDataError as error:
        yield "piexif", f"{type(error).__name__}: {error}"


exif, file = Image.Exif(), io.BytesIO()
exif[ORIENTATION] = 6
Image.new("RGB", (64, 48)).save(file, "JPEG", exif=exif)
plain = file.getvalue()
app1 = plain.index(b"\xff\xe1")
filled = plain[:app1] + b"\xff\xff" + plain[app1:]
for name in ("Pillow", "ExifRead", "piexif"):
    print(name, version(name), "| plain:", dict(found(plain))[name], "| two fill bytes:", dict(found(filled))[name])
without, behind = dict(found(plain)), dict(found(filled))
assert without["Pillow"] == behind["Pillow"] == without["piexif"] == 6 and without["ExifRead"] is not None
assert behind["ExifRead"] is None and str(behind["piexif"]).startswith("InvalidImageDataError"), "it changed"
PYTHON
