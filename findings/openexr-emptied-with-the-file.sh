#!/usr/bin/env bash
# An expert expects: of OpenEXR's Python bindings, `with OpenEXR.File(path) as f: header = f.header()` leaves a dictionary
# to look into afterwards, as those of tifffile, h5py attributes copied to dict, or the older InputFile.header() do.
# What happens: header() and channels() give the file's own dictionaries, and leaving `with` empties them: no error, just
# no keys, so `header.get("pixelAspectRatio", 1.0)` is 1.0 of every file. The channels' pixels, once taken, stay.
# Since: the bindings of OpenEXR.File; seen with 3.5.3.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" -q install OpenEXR==3.5.3 numpy 2>/dev/null
cat > "$work/try.py" <<'PY'
import sys
import numpy as np, OpenEXR
path = sys.argv[1]
header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, "pixelAspectRatio": 2.0}
with OpenEXR.File(header, {"Z": np.ones((4, 4), np.float32)}) as file:
    file.write(path)
with OpenEXR.File(path) as file:
    header, channels = file.header(), file.channels()
    pixels, inside = channels["Z"].pixels, header.get("pixelAspectRatio", 1.0)
print("inside:", inside, "after:", header.get("pixelAspectRatio", 1.0), sorted(header), sorted(channels), pixels.sum())
PY
seen=$("$work/env/bin/python" "$work/try.py" "$work/a.exr")
echo "OpenEXR 3.5.3: $seen"
[[ $seen == "inside: 2.0 after: 1.0 [] [] 16.0" ]]
