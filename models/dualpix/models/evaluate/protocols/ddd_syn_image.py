"""The sharp picture of DDDNet's synthetic data; its inverse depth is ``ddd-syn``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.models.evaluate.files import read_colour
from dualpix.models.evaluate.protocol import Pending, check_found, check_there
from dualpix.models.evaluate.protocols import ddd_syn, dpdd
from dualpix.models.evaluate.sample import Sample

_LAYOUT = "testing/dp/ID_{l,r}.png and testing/gt/ID_m.png, or nyu_test.txt with lines 'ID LEFT RIGHT SHARP DL DM'"


def _read(folder: Path) -> Sequence[Pending]:
    pending = [Pending(one.name, partial(_load, folder, one)) for one in ddd_syn.scenes_in(folder)]
    return check_found(pending, folder, _LAYOUT)


def _load(folder: Path, scene: ddd_syn.Scene) -> Sample:
    path = folder / scene.sharp
    ddd_syn.check_below(folder, scene)
    check_there([path], folder, _LAYOUT)
    image, sharp = ddd_syn.read_pair(folder, scene), read_colour(path)
    if sharp.shape[:2] != image.size_hw:
        raise DualpixError(f"'{path.name}' is {sharp.shape[:2]} (h, w)", expected=f"the view's {image.size_hw}")
    return Sample(scene.name, sharp, np.ones(image.size_hw, np.bool_), image)


PROTOCOL = replace(
    dpdd.PROTOCOL,
    name="ddd-syn-image",
    title="DDDNet synthetic, sharp picture",
    read=_read,
    source=ddd_syn.PROTOCOL.source,
    layout=_LAYOUT,
    crop=ddd_syn.PROTOCOL.crop,
    metrics="PSNR of codes / 255 clipped to 0..1, all channels; SSIM and MAE as for dpdd",
    data=ddd_syn.PROTOCOL.data,
    assumptions=("PSNR is the mean over pairs; theirs is the mean over batches of 8 of the PSNR of each batch",),
)
