#!/usr/bin/env bash
# A DNG with two samples per pixel (dual-pixel raw) and one BlackLevel, 512, for each, without BlackLevelRepeatDim (its
# default is 1x1). One expects 512 in all four places of the Bayer cell. LibRaw 0.22.2 (rawpy 0.28.0) reports 512 for
# the first two colours and 0 for the others, without a word. With PlanarConfiguration 2 it returns neither sample:
# the planes are read as if their samples lay side by side.
# Present in LibRaw 0.22.2; older releases were not tried.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"; "$here/venv/bin/pip" install -q rawpy==0.28.0 numpy==2.4.6
"$here/venv/bin/python" - "$here/a.dng" <<'PY'
import struct, sys
import numpy as np, rawpy

def dng(samples, planar=1, **further):
    height, width, count = samples.shape
    pixels = (samples if planar == 1 else np.moveaxis(samples, -1, 0)).astype("<u2").tobytes()
    pieces = [len(pixels)] if planar == 1 else [len(pixels) // count] * count
    tags = {254: ("I", [0]), 256: ("I", [width]), 257: ("I", [height]), 258: ("H", [16] * count), 259: ("H", [1]),
            262: ("H", [32803]), 271: ("s", b"Acme\0"), 272: ("s", b"One\0"), 273: ("I", [0] * len(pieces)),
            277: ("H", [count]), 278: ("I", [height]), 279: ("I", pieces), 284: ("H", [planar]),
            33421: ("H", [2, 2]), 33422: ("B", [0, 1, 1, 2]), 50706: ("B", [1, 4, 0, 0]), 50708: ("s", b"Acme One\0"),
            50717: ("I", [14000] * count), 50721: ("i", [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
            50728: ("R", [1, 1] * 3), 50778: ("H", [21])}
    tags.update({int(k[1:]): v for k, v in further.items()})
    kinds = {"s": 2, "H": 3, "I": 4, "R": 5, "B": 1, "i": 10}
    def block(start):
        tags[273] = ("I", [start + sum(pieces[:i]) for i in range(len(pieces))])
        table, values, at = struct.pack("<H", len(tags)), b"", 8 + 2 + 12 * len(tags) + 4
        for number, (kind, content) in sorted(tags.items()):
            code = {"R": "I"}.get(kind, kind)
            data = content if kind == "s" else struct.pack(f"<{len(content)}{code}", *content)
            items = len(content) // 2 if kind in "Ri" else len(content)
            table += struct.pack("<HHI", number, kinds[kind], items)
            table += data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", at + len(values))
            values += (data + b"\0" * (len(data) % 2)) if len(data) > 4 else b""
        return struct.pack("<2sHI", b"II", 42, 8) + table + bytes(4) + values
    open(sys.argv[1], "wb").write(block(len(block(0))) + pixels)
    raw = rawpy.RawPy(); raw.open_file(sys.argv[1]); raw.unpack()
    return raw.black_level_per_channel, np.array(raw.raw_image)

print("rawpy", rawpy.__version__, "LibRaw", rawpy.libraw_version)
samples = np.stack(np.random.default_rng(0).integers(600, 9000, (2, 48, 64)), axis=-1)
one, _ = dng(samples, t50714=("H", [512, 512]))
_, mixed = dng(samples, planar=2, t50714=("H", [512, 512]), t50713=("H", [1, 1]))
print("one level of 512:", one, "; planar is right:", np.array_equal(mixed, samples[..., 0]))
side_by_side = np.moveaxis(samples, -1, 0).ravel()[::2].reshape(48, 64)
print("it is every second number of the file:", np.array_equal(mixed, side_by_side))
ok = sorted(one) == [0, 0, 512, 512] and np.array_equal(mixed, side_by_side)
sys.exit(0 if ok else 1)
PY
