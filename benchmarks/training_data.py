"""How many training samples a second one process reads or renders, beside the decoding of their files alone.

The reference is the least that reading a rendered pair costs: OpenCV decoding its two 16-bit PNG files and NumPy its
depth, from memory. Samples go the whole way to a batch: read, checked, cut to a window. On the fly, the rendering is
what takes the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from benchmarks.suite import Suite, seconds

from dualpix.capture.scenes import make_varied_scene
from dualpix.capture.synthesis.camera import camera_named
from dualpix.capture.synthesis.settings import RenderSettings as FileSettings
from dualpix.capture.synthesis.settings import SampleSpec
from dualpix.capture.synthesis.work import RenderWork, render_jobs
from dualpix.models.data.mixture import Mixture
from dualpix.models.data.rendered import RenderSettings
from dualpix.models.data.sources import SourceOptions, open_source
from dualpix.models.data.windows import Window
from dualpix.models.tasks import DUAL_PIXEL, Sample

SIZE_HW = (192, 256)
_FLOOR = "OpenCV and NumPy alone, two views and depth"
_SAMPLES = 8
_COC_SPAN_PX = 12.0


def loading_suite(size_hw: tuple[int, int] = SIZE_HW, rounds: int = 7, samples: int = _SAMPLES) -> Suite:
    """Each kind of source at one size, one process and one thread."""

    def build(folder: Path) -> Mapping[str, Callable[[], float]]:
        rendered, shards, pictures = (folder / name for name in ("rendered", "shards", "rgbd"))
        _render(rendered, size_hw, samples, shards=False)
        _render(shards, size_hw, samples, shards=True)
        _write_pictures(pictures, size_hw, samples)
        settings = RenderSettings(size_hw=size_hw, scenes="varied", quality="exact", optics="cameras")
        options = SourceOptions(samples=samples, render=settings)
        runs: dict[str, Callable[[], float]] = {_FLOOR: partial(_decoding, rendered, samples)}
        for label, text, chosen in (
            ("rendered, a folder for each", str(rendered), options),
            ("rendered, shards", str(shards), options),
            ("RGB-D on the fly", str(pictures), options),
            (
                "RGB-D on the fly, standard quality",
                str(pictures),
                replace(options, render=replace(settings, quality="standard")),
            ),
            ("procedural", "procedural", options),
        ):
            source, _ = open_source(text, "dual_pixel", chosen)
            window = Window((size_hw[0] * 2 // 3, size_hw[1] * 2 // 3))
            runs[label] = partial(_loading, Mixture((source,), (1.0,), 0, _TASK, window), count(), samples)
        return runs

    title = f"Training samples of {size_hw[1]}x{size_hw[0]}, one process"
    return Suite(
        title, _FLOOR, rounds, build, threads=1, quantity="samples", unit="1/s", sample=lambda run: float(run())
    )


def _loading(mixture: Mixture, steps: count[int], samples: int) -> float:
    keys = mixture.keys(next(steps), samples)
    return samples / seconds(lambda: mixture.finish([mixture.load(key) for key in keys]))


def _decoding(folder: Path, samples: int) -> float:
    names = ("left.png", "right.png", "depth.npy")
    files = [[(folder / f"{index:06}" / name).read_bytes() for name in names] for index in range(samples)]

    def decode() -> None:
        for left, right, depth in files:
            for view in (left, right):
                cv2.imdecode(np.frombuffer(view, np.uint8), cv2.IMREAD_UNCHANGED)
            np.load(BytesIO(depth))

    return samples / seconds(decode)


def _render(folder: Path, size_hw: tuple[int, int], samples: int, *, shards: bool) -> None:
    work = RenderWork(FileSettings(camera_named("pixel4"), size_hw=size_hw, coc_span_px=_COC_SPAN_PX), shards=shards)
    folder.mkdir()
    for job in render_jobs([SampleSpec(index) for index in range(samples)], work, folder, samples):
        work(job)


def _write_pictures(folder: Path, size_hw: tuple[int, int], samples: int) -> None:
    folder.mkdir()
    for index in range(samples):
        scene = make_varied_scene(index, size_hw, "room")
        codes = np.clip(scene.all_in_focus()[..., ::-1] * 255, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), codes)
        np.save(folder / f"{index}_depth.npy", scene.depth_m())


def _unchanged(sample: Sample, rng: np.random.Generator) -> Sample:
    del rng
    return sample


_TASK = replace(DUAL_PIXEL, augment=_unchanged)
"""Without augmentation, which is the task's and not the sources'."""
