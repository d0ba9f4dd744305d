"""Any nn.Module to files for phones, run and checked before they are called done.

    python examples/export_and_verify.py [-o phone]

The gate's limits are ours to choose: they lie beside the module, as data.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import nn

from dualpix.capture.cli import root


def edges() -> tuple[nn.Module, list[tuple[torch.Tensor]]]:
    """A network with example inputs, one entry a sample."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    return network, [(torch.rand(1, 3, 32, 48),) for _ in range(4)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", "--output", type=Path, default=Path("phone"))
    output = parser.parse_args().output
    recipes = ["--recipe", "xnnpack-fp32", "--recipe", "xnnpack-int8"]
    words = ["export", "export_and_verify:edges", "-o", str(output), *recipes, "--rounds", "3", "--licence", "MIT"]
    root(words, standalone_mode=False)
    root(["verify", str(output)], standalone_mode=False)
    root(["report", str(output), "-o", str(output / "report.html")], standalone_mode=False)
    manifest = json.loads((output / "manifest.json").read_text())
    for artefact in manifest["artefacts"]:
        print(artefact["recipe"], artefact["file"], artefact["size_bytes"], "bytes")
