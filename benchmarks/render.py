"""How many megapixels a second the fast renderers make, beside what one would write without them.

The reference is a loop with OpenCV: one ``filter2D`` per depth layer, channel group and view, composited back to front,
with the same kernels and as many layers as the layered renderer has; no in-painted background, no gradients. The other
measure is the gather written out: each pixel averages its own window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from benchmarks.suite import Suite, seconds
from torch import Tensor

from dualpix.capture.render import PsfModel, half_kernels, render, render_integral
from dualpix.capture.render.gather import gather, gather_direct
from dualpix.capture.scenes import make_scene

COCS_PX = (5, 15, 40)
SIZE_HW = (512, 768)
_STACK = 5
_MOST_LAYERS = 64
_OPENCV = "OpenCV filter2D per depth layer, pair"

FloatArray = npt.NDArray[np.float32]


def throughput_suite(coc_px: float, size_hw: tuple[int, int] = SIZE_HW, rounds: int = 5) -> Suite:
    """All renderers on a scene whose CoC runs from ``-coc_px`` to ``coc_px``, in megapixels of view a second.

    A dual-pixel pair counts as one view. A focus stack counts each of its views.
    """
    megapixels = size_hw[0] * size_hw[1] / 1e6

    def build(_: Path) -> Mapping[str, Callable[[], float]]:
        image, coc = _scene(size_hw, coc_px)
        layers = min(_MOST_LAYERS, round(2 * coc_px) + 1)
        psf = PsfModel()
        opencv = OpenCvLayers(image, coc, layers, psf)
        stack = torch.cat([coc * share for share in torch.linspace(1, 0.2, _STACK).tolist()], 1)
        views: dict[str, tuple[int, Callable[[], object]]] = {
            _OPENCV: (1, opencv.pair),
            "integral, pair": (1, lambda: render(image, coc_px=coc, method="integral")),
            "layered, pair": (1, lambda: render(image, coc_px=coc, psf=psf, quality="exact")),
            "gather, full aperture": (1, lambda: render(image, coc_px=coc, method="gather")),
            f"gather, focus stack of {_STACK}": (_STACK, lambda: gather(image, stack)),
        }
        runs: dict[str, Callable[[], float]] = {
            label: lambda count=count, run=run: count * megapixels / seconds(run)  # type: ignore[misc]
            for label, (count, run) in views.items()
        }
        # Its pixels do not depend on how many there are; the whole picture would take minutes.
        corner, at = image[..., : size_hw[0] // 4, : size_hw[1] // 4], coc[..., : size_hw[0] // 4, : size_hw[1] // 4]
        runs["gather, per pixel over its window"] = lambda: megapixels / 16 / seconds(lambda: gather_direct(corner, at))
        return runs

    return Suite(
        f"Rendering {size_hw[1]}x{size_hw[0]}, CoC up to {coc_px:g} px",
        _OPENCV,
        rounds,
        build,
        threads=2,
        quantity="throughput",
        unit="MP/s",
        sample=lambda run: float(run()),
    )


def flatness_suite(size_hw: tuple[int, int] = SIZE_HW, rounds: int = 15) -> Suite:
    """The integral image at growing CoC; bare, because a border that grows with the CoC is the caller's choice."""

    def build(_: Path) -> Mapping[str, Callable[[], object]]:
        runs: dict[str, Callable[[], object]] = {}
        for coc_px in COCS_PX:
            image, coc = _scene(size_hw, coc_px)
            runs[_integral_at(coc_px)] = lambda image=image, coc=coc: render_integral(image, coc)  # type: ignore[misc]
        return runs

    title = f"Integral image of {size_hw[1]}x{size_hw[0]} at growing CoC"
    return Suite(title, _integral_at(COCS_PX[0]), rounds, build, threads=2)


class OpenCvLayers:
    """A dual-pixel pair with plain OpenCV; kernels are made beforehand."""

    def __init__(self, image: Tensor, coc_px: Tensor, layers: int, psf: PsfModel) -> None:
        self._image: FloatArray = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
        coc = coc_px[0, 0].numpy()
        centres = np.linspace(coc.max(), coc.min(), layers)  # back to front
        step = (centres[0] - centres[-1]) / (layers - 1)
        nearest = np.rint((centres[0] - coc) / step)
        self._masks: list[FloatArray] = [(nearest == k).astype(np.float32) for k in range(layers)]
        self._kernels = [self._pair_of_kernels(float(c), psf) for c in centres]

    @staticmethod
    def _pair_of_kernels(coc_px: float, psf: PsfModel) -> tuple[FloatArray, FloatArray]:
        pair = half_kernels(torch.tensor([coc_px]), psf, psf.kernel_size_px(abs(coc_px)))
        # filter2D correlates: turned over, it convolves
        left, right = (np.ascontiguousarray(2 * kernel[0].numpy()[::-1, ::-1]) for kernel in pair)
        return left, right

    def pair(self) -> tuple[FloatArray, FloatArray]:
        """Left and right (H, W, 3)."""
        views = []
        for side in (0, 1):
            view = np.zeros_like(self._image)
            for mask, kernels in zip(self._masks, self._kernels, strict=True):
                light = cv2.filter2D(self._image * mask[..., None], -1, kernels[side], borderType=cv2.BORDER_REPLICATE)
                cover = cv2.filter2D(mask, -1, kernels[side], borderType=cv2.BORDER_REPLICATE)
                view = light + view * (1 - cover[..., None])
            views.append(0.5 * view)
        return views[0], views[1]


def _scene(size_hw: tuple[int, int], coc_px: float) -> tuple[Tensor, Tensor]:
    """Image (1, 3, H, W) and CoC (1, 1, H, W) that takes the whole range."""
    scene = make_scene(0, size_hw)
    image = torch.from_numpy(scene.all_in_focus()).permute(2, 0, 1)[None].contiguous()
    proximity = torch.from_numpy(scene.proximity())
    share = (proximity - proximity.min()) / (proximity.max() - proximity.min())
    return image, (coc_px * (1 - 2 * share))[None, None].contiguous()


def _integral_at(coc_px: float) -> str:
    return f"CoC up to {coc_px:g} px"


RENDER_SUITES: dict[str, Callable[[], Suite]] = {
    "render-coc5": lambda: throughput_suite(5),
    "render-coc15": lambda: throughput_suite(15),
    "render-coc40": lambda: throughput_suite(40, rounds=3),
    "render-flatness": flatness_suite,
}
