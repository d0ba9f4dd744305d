"""Blur kernels of both halves over the field, and the parameters of ``render.PsfModel`` that come closest to them.

Convention: kernels are (rows, columns, n, n), n odd, centred, each summing to 1; ``blurred = kernel * sharp`` with the
picture's own axes (a convolution). The disparity is along x. Cells lie as the sensor does, see
:mod:`.profiles.profile`.

From a sharp and a blurred picture of the same plane (stopped down and wide open), non-blind and for each half of the
blurred one: least squares of the derivatives, k >= 0, small gradient of k. Derivatives whiten the texture, and shading
between the two pictures drops out. With the autocorrelation of the sharp texture the normal equations are a
convolution, so a step of the accelerated projected gradient (FISTA, Beck and Teboulle 2009) costs two small FFTs.

What the sharp picture still has of blur is missing in the kernels: stopped down by five, 1 / 25 of the variance, 2 % of
the diameter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from dualpix.capture.arrays.npy import read_npy
from dualpix.capture.calibrate.planes import Floats, PlaneError, PlaneViews, cell_slices
from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.pictures.colour_map import Panel, Rgb, figure
from dualpix.capture.profiles.facts import MAX_KERNEL_PX, PsfGrid
from dualpix.capture.render.psf import PsfModel, half_kernels
from dualpix.capture.types import FloatImage

MAX_FILE_BYTES = 64 << 20
_MIN_SAMPLES_PER_VALUE = 4.0
_SMOOTHNESS = 3e-3  # of the texture's power
_ITERATIONS = 100
# The disc of a kernel stands out of what noise and straight edges leave: the brightest blob, smoothed and cut here.
_BLOB_SIGMA_PX, _BLOB_LEVEL, _BLOB_MARGIN_PX = 1.0, 0.2, 1
_MIN_IN_BLOB = 0.6  # of the kernel's light
_MIN_CELLS = 6
_MIN_DIAMETER_PX = 3.5
_EDGE_PX = 0.35
# What the fit may use: beyond, the disc dissolves and its diameter means nothing.
_LIMITS = np.array([[1.0, 200.0], [0.005, 0.42], [0.005, 0.2], [-0.9, 1.0], [-1.0, 1.0]])
_STEPS = np.array([0.2, 0.004, 0.01, 0.05, 0.05])
_FIT_ROUNDS = 10
_NOISY_RESTRAINT = 0.2  # of kernels by deconvolution
_PICTURE_PX = 640


class PsfError(DualpixError):
    """Kernels cannot be read or measured."""


@dataclass(frozen=True)
class Kernels:
    """Measured kernels, as the sensor lies but for the baseline, which is along x."""

    left: FloatImage
    """(rows, columns, n, n)"""
    right: FloatImage
    known: npt.NDArray[np.bool_]
    """(rows, columns): False where there was no texture."""
    restraint: float = 0.05
    """Of rim and split offset in the model's fit, in parts of the kernels for 1: noise alone should move neither."""


def read_kernels(left: Path, right: Path, cells: tuple[int, int]) -> Kernels:
    """Kernel grids of ``numpy.save``: (rows * columns, n, n) or (rows, columns, n, n), e.g. those of Xin et al. 2021.

    Raises:
        PsfError: not such a file, or not of this form.
    """
    grids = [_read_grid(path, cells) for path in (left, right)]
    if grids[0].shape != grids[1].shape:
        raise PsfError(f"kernels of {_form(grids[0])} and {_form(grids[1])}", expected="two files of the same form")
    return Kernels(grids[0], grids[1], np.ones(cells, bool))


def deconvolve(sharp: PlaneViews, blurred: PlaneViews, size_px: int) -> Kernels:
    """Kernels of both halves of ``blurred``, given the same plane in ``sharp``, in the cells of the field.

    Args:
        sharp: stopped down; both halves are averaged.
        blurred: from the same place, with the same focus.
        size_px: side of the kernels, odd.

    Raises:
        PlaneError: they do not show the same thing, have no texture, or the blur does not fit the size.
    """
    if sharp.left.shape != blurred.left.shape or sharp.baseline != blurred.baseline:
        raise PlaneError(
            f"'{sharp.name}' is {_size(sharp)} and '{blurred.name}' {_size(blurred)}",
            expected="two pictures of one size",
        )
    if size_px % 2 == 0 or not 3 <= size_px <= MAX_KERNEL_PX:
        raise PsfError(f"kernels of {size_px} px", expected=f"an odd size of 3 to {MAX_KERNEL_PX}")
    cells = blurred.cells
    usable = sharp.usable & blurred.usable
    known = np.zeros(cells, bool)
    grids = np.zeros((2, *cells, size_px, size_px))
    target = (sharp.left + sharp.right) / 2
    for row in range(cells[0]):
        for column in range(cells[1]):
            part = cell_slices(cells, target.shape, row, column, size_px)
            if usable[part].mean() < 0.7:
                continue
            texture, weight = target[part].astype(np.float64), _window(usable[part], size_px)
            pair = [
                _kernel(texture, view[part].astype(np.float64), weight, size_px)
                for view in (blurred.left, blurred.right)
            ]
            cleaned = _cleaned(pair[0], pair[1]) if pair[0] is not None and pair[1] is not None else None
            if cleaned is not None:
                grids[:, row, column], known[row, column] = cleaned, True
    if known.sum() < _MIN_CELLS:
        raise PlaneError(
            f"'{sharp.name}' and '{blurred.name}' give no kernel of {size_px} px in {int((~known).sum())} of "
            f"{known.size} places",
            expected="the same plane, sharp and blurred, with detail all over the frame",
            hint="take both from a tripod, stopped down and wide open, without refocusing; or raise --size-px",
        )
    left, right = (_transposed(g, blurred) for g in grids.astype(np.float32))
    return Kernels(left, right, blurred.on_sensor(known), _NOISY_RESTRAINT)


def measure_psf(
    kernels: Kernels, view_width_px: int, *, field: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
) -> PsfGrid:
    """Diameter, separation and model parameters in each cell; cells without kernels get those of their neighbours.

    Args:
        kernels: of both halves.
        view_width_px: of the view whose pixels the kernels have.
        field: part of the picture that the cells tile.

    Raises:
        PsfError: the kernels have no extent: in focus.
    """
    shapes = {
        (row, column): _shape(
            kernels.left[row, column].astype(np.float64), kernels.right[row, column].astype(np.float64)
        )
        for row, column in np.argwhere(kernels.known)
    }
    typical = float(np.median([shape.diameter for shape in shapes.values()]))
    if typical < _MIN_DIAMETER_PX:
        raise PsfError(
            f"the blur is {typical:.1f} px across",
            expected=f"at least {_MIN_DIAMETER_PX:g} px",
            hint="open the aperture, or move the plane away from the focus distance",
        )
    values = np.full((7, *kernels.known.shape), np.nan)
    for cell, shape in shapes.items():
        values[(slice(None), *cell)] = (shape.diameter, shape.separation, *_fitted(shape, kernels.restraint))
    diameter, separation, coc, edge, rim, offset, residual = (_filled_in(v).astype(np.float32) for v in values)
    return PsfGrid(
        diameter_px=diameter, separation_px=separation, coc_px=coc, edge_relative=edge, rim=rim, split_offset=offset,
        residual=residual, edge_px=_EDGE_PX, view_width_px=view_width_px, field=field,
    )  # fmt: skip


def with_kernels(grid: PsfGrid, kernels: Kernels, step: int) -> PsfGrid:
    """``grid`` with its kernels reduced to one value per ``step`` px, each summing to 1."""
    reduced = tuple(_reduced(np.maximum(k, 0), step) for k in (kernels.left, kernels.right))
    return replace(grid, kernels=(reduced[0], reduced[1]), kernel_step_px=float(step))


def model_kernels(
    coc_px: float, gain: float, edge_relative: float, rim: float, split_offset: float, size_px: int
) -> tuple[Floats, Floats]:
    """Left and right kernels (n, n) of ``PsfModel``, each summing to 1."""
    model = PsfModel(gain, edge_px=_EDGE_PX, edge_relative=edge_relative, rim=rim, split_offset=split_offset)
    with torch.inference_mode():
        left, right = half_kernels(torch.tensor([coc_px]), model, size_px)
    return 2 * left[0].numpy().astype(np.float64), 2 * right[0].numpy().astype(np.float64)


def picture(kernels: Kernels, grid: PsfGrid) -> Rgb:
    """Both kernels of every other cell with the model's below, and the gain over the field."""
    rows, columns = grid.diameter_px.shape
    n = kernels.left.shape[-1]
    shown = []
    for row in range(0, rows, max(1, rows // 3)):
        strips = []
        for column in range(0, columns, max(1, columns // 4)):
            real = [k[row, column].astype(np.float64) for k in (kernels.left, kernels.right)]
            gain = float(np.clip(abs(grid.separation_px[row, column] / grid.coc_px[row, column]), 0.005, 0.42))
            values = [float(v[row, column]) for v in (grid.edge_relative, grid.rim, grid.split_offset)]
            model = model_kernels(float(grid.coc_px[row, column]), gain, values[0], values[1], values[2], n)
            measured = _centred_pair(*real) if real[0].any() else np.zeros((2, n, n))
            tile = np.concatenate([np.concatenate(pair, axis=1) for pair in (measured, _centred_pair(*model))])
            strips.append(np.pad(np.clip(tile / max(tile.max(), 1e-9), 0, 1), 1, constant_values=1.0))
        shown.append(np.hstack(strips))
    mosaic = np.vstack(shown)
    factor = max(1, round(_PICTURE_PX / mosaic.shape[1]))
    tiles = np.rint(255 * np.kron(mosaic, np.ones((factor, factor)))).astype(np.uint8)
    size = (tiles.shape[0] // rows + 1, tiles.shape[1] // columns + 1)
    gain_map = np.kron(grid.gain, np.ones(size, np.float32))[: tiles.shape[0], : tiles.shape[1]]
    limits = (float(grid.gain.min()), float(grid.gain.max()) + 1e-6)
    return figure(
        [
            Panel("left and right kernels, measured above, model below", np.repeat(tiles[..., None], 3, axis=2)),
            Panel("centroid distance / diameter", gain_map, "sequential", "", limits=limits),
        ]
    )


def _read_grid(path: Path, cells: tuple[int, int]) -> FloatImage:
    expected = "a grid of kernels, (rows * columns, n, n)"
    try:
        grid = read_npy(
            path, axes=(3, 4), expected=expected, most_bytes=MAX_FILE_BYTES, otherwise="holds no grid of kernels"
        )
    except DecodeError as error:
        raise PsfError(f"cannot read kernels '{path}': {error.found}", expected=expected) from error
    n = grid.shape[-1]
    count = int(np.prod(grid.shape[:-2]))
    if grid.shape[-2] != n or n % 2 == 0 or not 3 <= n <= MAX_KERNEL_PX:
        raise PsfError(
            f"'{path.name}' holds {_form(grid)}", expected=f"square kernels of odd size, 3 to {MAX_KERNEL_PX}"
        )
    if count != cells[0] * cells[1] or (grid.ndim == 4 and grid.shape[:2] != cells):
        raise PsfError(
            f"'{path.name}' holds {count} kernels", expected=f"{cells[0]} x {cells[1]}", hint="see --cells ROWS COLUMNS"
        )
    values = np.asarray(grid, np.float32).reshape(*cells, n, n)
    total = values.sum((-2, -1), keepdims=True)
    if not np.all(np.isfinite(values)) or not np.all(total > 0):
        raise PsfError(f"'{path.name}' holds kernels without light")
    return np.asarray(values / total, np.float32)


def _kernel(sharp: Floats, blurred: Floats, weight: Floats, size_px: int) -> Floats | None:
    """Non-negative least squares for one kernel (n, n) summing to 1; None without texture to tell it."""
    lags = 2 * size_px  # the autocorrelation is needed to n - 1 on each side
    gram, right_side = np.zeros((lags, lags)), np.zeros((size_px, size_px))
    for axis in (0, 1):
        texture, target = np.gradient(sharp, axis=axis), np.gradient(blurred, axis=axis)
        gram += _correlated(weight * texture, texture, lags // 2, lags // 2 - 1)
        half = size_px // 2
        right_side += _correlated(weight * target, texture, half, half)
    power = gram[lags // 2, lags // 2]
    noise = float(np.median(np.abs(np.diff(blurred, 2, axis=1)))) ** 2
    if power <= 0 or weight.sum() < _MIN_SAMPLES_PER_VALUE * size_px or power / weight.sum() < 0.05 * noise:
        return None
    smooth = np.zeros((lags, lags))
    centre = lags // 2
    smooth[centre, centre] = 4.0
    for row, column in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        smooth[centre + row, centre + column] = -1.0
    spectrum = np.fft.rfft2(np.fft.ifftshift(gram / power + _SMOOTHNESS * smooth))
    kernel = _projected(np.real(spectrum), right_side / power, lags)
    total = kernel.sum()
    return kernel / total if total > 0 else None


def _projected(spectrum: Floats, right_side: Floats, lags: int) -> Floats:
    """FISTA on 1/2 k'Gk - b'k with k >= 0; ``spectrum`` is that of the convolution G."""
    n = right_side.shape[0]
    step = 1.0 / float(spectrum.max())
    kernel = np.zeros_like(right_side)
    ahead, momentum = kernel, 1.0
    for _ in range(_ITERATIONS):
        slope = np.fft.irfft2(spectrum * np.fft.rfft2(ahead, s=(lags, lags)), s=(lags, lags))[:n, :n] - right_side
        following = np.maximum(ahead - step * slope, 0.0)
        later = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = following + (momentum - 1) / later * (following - kernel)
        kernel, momentum = following, later
    return kernel


def _correlated(one: Floats, other: Floats, before: int, after: int) -> Floats:
    """sum over x of one(x) other(x - u) for u from -before to after along both axes."""
    shape = [n + before + after for n in one.shape]
    product = np.fft.rfft2(one, s=shape) * np.conj(np.fft.rfft2(other, s=shape))
    whole = np.fft.irfft2(product, s=shape)
    rolled = np.roll(whole, (before, before), (0, 1))
    return rolled[: before + after + 1, : before + after + 1]


def _window(usable: npt.NDArray[np.bool_], margin_px: int) -> Floats:
    """Smooth weights that vanish a kernel's reach within the patch, and where something is clipped."""
    height, width = usable.shape
    inside = min(margin_px // 2 + 1, min(height, width) // 4)
    axes = []
    for n in (height, width):
        distance = np.minimum(np.arange(n), np.arange(n)[::-1]) - inside
        axes.append(np.clip(distance / max(inside, 1), 0, 1))
    blocked = ~usable
    if blocked.any():
        blocked = cv2.dilate(blocked.astype(np.uint8), np.ones((margin_px, margin_px), np.uint8)).astype(bool)
    return np.asarray(np.outer(*axes) * ~blocked, np.float64)


def _cleaned(left: Floats, right: Floats) -> tuple[Floats, Floats] | None:
    """The disc alone, in both kernels; None where there is none, or it reaches the border."""
    full = (left + right) / 2
    smooth = cv2.GaussianBlur(full, (0, 0), _BLOB_SIGMA_PX)
    _, labels = cv2.connectedComponents((smooth > _BLOB_LEVEL * smooth.max()).astype(np.uint8))
    light = [float(smooth[labels == label].sum()) for label in range(1, int(labels.max()) + 1)]
    blob = (labels == 1 + int(np.argmax(light))).astype(np.uint8)
    margin = 2 * _BLOB_MARGIN_PX + 1
    kept = cv2.dilate(blob, np.ones((margin, margin), np.uint8)).astype(bool)
    at_border = kept[0].any() or kept[-1].any() or kept[:, 0].any() or kept[:, -1].any()
    if at_border or full[kept].sum() < _MIN_IN_BLOB * full.sum():
        return None
    one, other = np.where(kept, left, 0), np.where(kept, right, 0)
    return one / one.sum(), other / other.sum()


@dataclass(frozen=True)
class _Shape:
    """Moments of a pair of kernels, and the pair centred."""

    diameter: float
    separation: float
    centred: Floats
    """(2, n, n)"""


def _shape(left: Floats, right: Floats) -> _Shape:
    left, right = left / left.sum(), right / right.sum()
    full = (left + right) / 2
    x, y = _centroid(full)
    axis = np.arange(full.shape[0]) - full.shape[0] // 2
    diameter = float(np.sqrt(8 * (full * ((axis - x)[None] ** 2 + (axis - y)[:, None] ** 2)).sum()))
    return _Shape(diameter, _centroid(right)[0] - _centroid(left)[0], _centred_pair(left, right))


def _fitted(shape: _Shape, restraint: float) -> tuple[float, ...]:
    """Levenberg-Marquardt for the model: signed coc, relative edge, rim, split offset; and the relative residual."""
    target, diameter, separation = shape.centred, shape.diameter, shape.separation
    size = target.shape[-1]
    side = 1.0 if separation >= 0 else -1.0
    pull = restraint * float(np.linalg.norm(target))

    def model(p: Floats) -> Floats:
        drawn = _centred_pair(*model_kernels(side * p[0], p[1], p[2], p[3], p[4], size))
        return np.append(drawn.ravel(), pull * p[3:])

    start = [0.95 * diameter, min(abs(separation) / max(0.95 * diameter, 1e-6), IDEAL_DISPARITY_GAIN), 0.1, 0.0, 0.0]
    p = np.clip(start, *_LIMITS.T)
    wanted = np.append(target.ravel(), [0.0, 0.0])
    now = model(p)
    cost, damping = float(((now - wanted) ** 2).sum()), 1e-2
    for _ in range(_FIT_ROUNDS):
        inward = np.where(p + _STEPS > _LIMITS[:, 1], -1.0, 1.0)
        jacobian = np.stack([k * (model(p + k * s) - now) for k, s in zip(inward, np.diag(_STEPS), strict=True)], 1)
        before = cost
        while damping < 1e4:
            normal = jacobian.T @ jacobian
            move = np.linalg.solve(normal + np.diag(damping * np.diag(normal) + 1e-12), jacobian.T @ (wanted - now))
            tried = np.clip(p + np.clip(move, -8, 8) * _STEPS, *_LIMITS.T)
            result = model(tried)
            new = float(((result - wanted) ** 2).sum())
            if new < cost:
                p, now, cost, damping = tried, result, new, damping / 4
                break
            damping *= 4
        if before - cost < 1e-3 * before:
            break
    coc, _, edge, rim, offset = (float(v) for v in p)
    return side * coc, edge, rim, offset, float(np.linalg.norm((now - wanted)[:-2]) / np.linalg.norm(target))


def _centroid(kernel: Floats) -> tuple[float, float]:
    axis = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    total = kernel.sum()
    return float((kernel.sum(0) * axis).sum() / total), float((kernel.sum(1) * axis).sum() / total)


def _shifted(kernel: Floats, x_px: float, y_px: float) -> Floats:
    n = kernel.shape[0]
    phase = np.exp(-2j * np.pi * (np.fft.rfftfreq(n)[None] * x_px + np.fft.fftfreq(n)[:, None] * y_px))
    return np.asarray(np.fft.irfft2(np.fft.rfft2(kernel) * phase, s=kernel.shape))


def _centred_pair(left: Floats, right: Floats) -> Floats:
    """(2, n, n), moved so that the centroid of both together is at the centre: an off-centre split moves it."""
    x, y = _centroid((left + right) / 2)
    return np.stack([_shifted(left, -x, -y), _shifted(right, -x, -y)])


def _filled_in(values: Floats) -> Floats:
    """NaN cells by the mean of the nearest known ones."""
    known = np.argwhere(np.isfinite(values))
    out = values.copy()
    for cell in np.argwhere(~np.isfinite(values)):
        distance = np.abs(known - cell).sum(1)
        near = known[distance == distance.min()]
        out[tuple(cell)] = np.mean([values[tuple(k)] for k in near])
    return out


def _reduced(kernels: FloatImage, step: int) -> FloatImage:
    """Sums over step x step px, the centre staying at the centre."""
    n = kernels.shape[-1]
    half = -(-(n // 2 - step // 2) // step)  # whole steps beside the central one
    side = 2 * half + 1
    margin = (side * step - n) // 2 if (side * step - n) % 2 == 0 else None
    if margin is None or margin < 0:
        raise PsfError(f"kernels of {n} px cannot be reduced by {step}", expected="an odd step")
    padded = np.pad(kernels, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    sums = padded.reshape(*kernels.shape[:2], side, step, side, step).sum((3, 5))
    return np.asarray(sums / np.maximum(sums.sum((-2, -1), keepdims=True), 1e-12), np.float32)


def _transposed(grid: FloatImage, views: PlaneViews) -> FloatImage:
    """Cells as the sensor lies; the kernels keep their baseline along x."""
    return grid if views.baseline == "x" else np.ascontiguousarray(grid.swapaxes(0, 1))


def _size(views: PlaneViews) -> str:
    return f"{views.left.shape[1]}x{views.left.shape[0]}"


def _form(grid: npt.NDArray[np.generic]) -> str:
    return "x".join(map(str, grid.shape))
