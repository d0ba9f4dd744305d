"""A dual-pixel raw to its two views and their disparity, as a figure.

    python examples/decode_and_plot.py [IMG_0001.CR3] [-o FIGURE.png]

Without a file the simulated camera takes one.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

import dualpix
from dualpix.capture.cameras import SimulatedCamera
from dualpix.capture.pictures.display import to_display

parser = argparse.ArgumentParser()
parser.add_argument("capture", nargs="?", type=Path)
parser.add_argument("-o", "--output", type=Path, default=Path("decoded.png"))
asked = parser.parse_args()

path = asked.capture or SimulatedCamera().shoot(Path("IMG_0001.DNG"), seed=3).path
shot = dualpix.load(path)
depth = shot.depth()

figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
for panel, (name, view) in zip(axes, {"left": shot.image.left, "right": shot.image.right}.items(), strict=False):
    panel.imshow(to_display(view))
    panel.set_title(f"{name} half")
reach = abs(depth.disparity_px[depth.measured]).max() if depth.measured.any() else 1
shown = axes[2].imshow(depth.disparity_px, cmap="RdBu", vmin=-reach, vmax=reach, alpha=depth.measured.astype(float))
axes[2].set_title("disparity, px: red in front of the focus, blue behind")
figure.colorbar(shown, ax=axes[2])
figure.savefig(asked.output, dpi=120)
print(f"{path}: {shot.image.size_hw}, baseline {shot.image.baseline}, {depth.measured.mean():.0%} measured")
for note in depth.notes:
    print(f"  {note}")
