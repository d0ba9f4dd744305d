"""A focus stack to metres, and to a surface that Blender opens.

    python examples/stack_to_metres.py [STACK] [-o FOLDER]

Without a stack the simulated camera takes one, whose scene is known: the error is printed. Any folder that
`dualpix capture` or `dualpix capture import` made will do.
"""

import argparse
from pathlib import Path

import numpy as np

import dualpix
from dualpix.capture.cli import root

parser = argparse.ArgumentParser()
parser.add_argument("stack", nargs="?", type=Path)
parser.add_argument("-o", "--output", type=Path, default=Path("metres"))
asked = parser.parse_args()

stack = asked.stack
if stack is None:
    stack = Path("desk")
    words = "capture --camera sim --near 0.5 --far 3 --count 6 --apertures 2.8 -o desk"
    root(words.split(), standalone_mode=False)

shot = dualpix.load(stack)
depth = shot.depth(also=["exr", "glb"], output=asked.output)
if depth.depth_m is None:
    raise SystemExit(f"no metres: {', '.join(depth.missing)} not known")
sure = depth.depth_m[depth.measured]
print(f"{len(shot.stack.frames)} frames, {depth.method}")
print(f"depth of the {depth.measured.mean():.0%} that are sure: {np.percentile(sure, (5, 50, 95)).round(2)} m")
if "error" in depth.record:
    first = next(iter(depth.record["error"].values()))
    print(f"mean error {first['mae_d']:.3f} diopters")
shot.page().save(asked.output / "page.html")
print(f"look at {asked.output / 'page.html'}; open {depth.folder / 'surface.glb'} in Blender")
