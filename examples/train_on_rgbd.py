"""Train on RGB-D pictures of your own: each is seen through random lenses, as pairs of dual-pixel views.

    python examples/train_on_rgbd.py [RGBD_FOLDER] [--steps 20000]

Without a folder a few are rendered first. A folder holds NAME.png with NAME_depth.png (uint16 mm, 0: unknown) or
NAME_depth.npy (m), or is a data set that docs/render.md lists.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from dualpix.capture.cli import root
from dualpix.capture.pictures.display import srgb_from_linear
from dualpix.capture.scenes import make_scene

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", type=Path)
parser.add_argument("--steps", type=int, default=4)
asked = parser.parse_args()

folder = asked.folder
if folder is None:
    folder = Path("rgbd")
    folder.mkdir(exist_ok=True)
    for seed in range(3):
        scene = make_scene(seed, (96, 128))
        light = np.asarray(scene.all_in_focus(), np.float32)
        codes = np.rint(np.clip(srgb_from_linear(light), 0, 1) * 255).astype(np.uint8)
        depth_m = 1 / (0.3 + 1.7 * np.asarray(scene.proximity(), np.float32))
        cv2.imwrite(str(folder / f"scene{seed}.png"), codes[..., ::-1])
        cv2.imwrite(str(folder / f"scene{seed}_depth.png"), np.rint(depth_m * 1000).astype(np.uint16))

small = asked.steps < 100  # to see that everything works; leave these out for a night of training
words = ["train", "-o", "trained", "--data", f"rgbd={folder}", "--steps", str(asked.steps)]
words += (
    ["--size", "64", "96", "--crop", "64", "96", "--batch-size", "2", "--eval-samples", "1", "--workers", "0"]
    if small
    else []
)
root(words, standalone_mode=False)
root(
    ["evaluate", "--data", "rendered", "--count", "1", "--size", "64", "96", "--model", "trained"],
    standalone_mode=False,
)
print("trained/ is a model: dualpix depth IMG_0001.CR3 -o depth --model trained; see dualpix report trained")
