"""Make the camera profiles that ship: ``python -m docs.make_profiles DATA``.

DATA holds ``pixel4_xin2021`` (captures, white sheets and blur kernels of Xin et al., ICCV 2021) and
``canon_r6m2_dp119`` (flats of DP119, Sdirt, ICCV 2025). Only derived numbers go into a profile; the generic ones
are written down here.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.optimize import least_squares  # type: ignore[import-untyped]

import dualpix.capture.profiles as shipped
from dualpix.capture.calibrate.gain import LensFacts, fit_gain
from dualpix.capture.calibrate.planes import Floats, measure_plane, read_views
from dualpix.capture.calibrate.psf import Kernels, deconvolve, measure_psf, read_kernels
from dualpix.capture.calibrate.shading import calibrate, read_sheet
from dualpix.capture.optics import circle_of_confusion_px
from dualpix.capture.profiles import lens_model
from dualpix.capture.profiles.facts import SensorFacts
from dualpix.capture.profiles.profile import CameraProfile, HalfNoise, Shading, write_profile
from dualpix.capture.raw import decode_capture
from dualpix.capture.render.psf import PsfModel, half_kernels
from dualpix.capture.synthesis.sensor import tilted_shading
from dualpix.capture.types import FloatImage

FOLDER = Path(shipped.__file__).parent
SHADING_CELLS = (18, 24)
R6M2_PITCH_UM = 36_000 / 768  # a 36 mm sensor in exports of 768 px
SHARP_STOPS_DOWN = 5  # f/20 against f/4: a fifth of the blur


def pixel4(data: Path) -> CameraProfile:
    """Shading, kernels and noise as measured."""
    folder = data / "pixel4_xin2021"
    sheet = calibrate([read_sheet(folder / "calibration/white_sheet_left.png")]).profile
    kernels = read_kernels(
        folder / "calibration/blur_kernels_left.npy", folder / "calibration/blur_kernels_right.npy", (6, 8)
    )
    height, width = sheet.size_hw
    # 168 px patches of the central 1008 x 1344
    field = ((height - 1008) / 2 / height, (width - 1344) / 2 / width)
    psf = measure_psf(kernels, width, field=(*field, 1 - field[0], 1 - field[1]))
    if sheet.shading is None:
        raise ValueError("no shading")
    return replace(
        sheet,
        camera="Google Pixel 4",
        shading=_coarse(sheet.shading),
        sources=("Xin et al., ICCV 2021: white sheet, blur kernels, captures 001-005",),
        noise=_noise([folder / f"{n:03d}_left.png" for n in range(1, 6)]),
        disparity_gain=float(f"{float(psf.gain.mean()):.3g}"),
        psf=psf,
        sensor=SensorFacts("halves", "gray", 14, 1024, 16383),
        notes={
            "profile": "Green channel of the dual-pixel readout, 2016x1512.",
            "gain": "disparity_gain: mean over the 6x8 cells of centroid distance / blur diameter by second moment. "
            "Distances and lens of the kernels are not published, so it is no gain per diopter.",
            "psf": "Of the published 6x8 kernels of 61x61 px, central 1008x1344; PsfModel by least squares. Towards "
            "the sides the real kernels are elliptical, which the model is not.",
            "noise": "Median over five captures, by mixed second differences. The files are burst-merged and resized "
            "vertically, so their noise is correlated, and less than that of one frame.",
            "shading": "One published white sheet; it leaves a tilt of some percent at other focus distances.",
        },
    )


def canon_r6m2(data: Path) -> CameraProfile:
    """Gain and blur as measured on exports of 768x512 px; the sensor's own levels."""
    folder = data / "canon_r6m2_dp119"
    flats = {(z, n): folder / f"flat_{z:04d}mm_f{n}_l.png" for z in (600, 1500) for n in (4, 20)}
    planes = [measure_plane(read_views(flats[z, 4]), z / 1000) for z in (600, 1500)]
    result = fit_gain(planes, LensFacts(50, 4, R6M2_PITCH_UM))
    kernels = {
        z: deconvolve(read_views(flats[z, 20]), read_views(flats[z, 4]), size) for z, size in ((600, 25), (1500, 21))
    }
    lens = lens_model(result.profile)
    discs = {z: abs(float(circle_of_confusion_px(z / 1000, lens))) for z in kernels}
    edge, rim = _shape_on_disc([(kernels[z], discs[z]) for z in kernels])
    psf = measure_psf(kernels[600], 768)
    psf = replace(
        psf,
        coc_px=np.full_like(psf.coc_px, -discs[600]),
        edge_relative=np.full_like(psf.edge_relative, edge),
        rim=np.full_like(psf.rim, rim),
        edge_px=0.0,
    )
    return replace(
        result.profile,
        camera="Canon EOS R6m2",
        lens="RF50mm",
        sources=("DP119 of Sdirt, ICCV 2025: flats at 0.6 and 1.5 m, f/4 and f/20",),
        psf=psf,
        sensor=SensorFacts("composite", "bayer", 14, 512, 16383, "srgb8"),
        notes={
            "profile": "Exports of 768x512 px by Canon's Digital Photo Professional, 8-bit sRGB; the sensor is 36 mm "
            "wide, so a pixel is 46.9 um. Camera and lens by the data set's text, its files do not say.",
            "gain": f"{len(planes)} planes at f/4, focus distance fitted (the data set's text says 1 m); "
            f"rms of cells {result.gain.residual_px:.3f} px. At f/20 the same planes have 0.02 of the disparity "
            "(-0.01 and 0.07): in line with the 1/25 of a ramp across the aperture, not with the 1/5 of the blur.",
            "psf": "Both planes, f/20 to f/4, non-blind least squares; diameters and separations of the one at 0.6 m, "
            "they lack the 2 % of f/20. Edge and rim are medians over the field and both planes with the disc of the "
            "lens held fixed; fitted with a disc of their own (residuals) they would widen blur that the lens has "
            "already. No blur at focus: what exports of an eighth have of it is in any picture to render from.",
            "noise": "Not known: exports are reduced eightfold, what is left is their quantisation.",
            "sensor": "Levels of the raw files; encoding is that of the exports.",
        },
    )


def _shape_on_disc(planes: list[tuple[Kernels, float]]) -> tuple[float, float]:
    """Relative edge and rim of ``PsfModel`` with which discs of known diameter in px come closest to the kernels."""
    fits = []
    for kernels, disc_px in planes:
        drawn_px = disc_px * (1 - SHARP_STOPS_DOWN**-2) ** 0.5
        for cell in np.argwhere(kernels.known):
            full = (kernels.left[tuple(cell)] + kernels.right[tuple(cell)]) / 2
            bounds = ((0.005, 0.1), (0.3, 2.0))
            fits.append(least_squares(_misfit, (0.05, 1.0), args=(drawn_px, full), bounds=bounds, diff_step=0.02).x)
    edge, rim = np.median(fits, axis=0)
    return float(edge), float(rim) - 1


def _misfit(edge_and_rim: Floats, disc_px: float, kernel: FloatImage) -> Floats:
    """Of the spectra's amplitudes, which do not tell where the kernel lies; the rim is counted from -1."""
    model = PsfModel(edge_px=0.0, edge_relative=float(edge_and_rim[0]), rim=float(edge_and_rim[1]) - 1)
    left, right = half_kernels(torch.tensor([disc_px]), model, kernel.shape[-1])
    drawn = (left + right)[0].numpy()
    return np.asarray(np.abs(np.fft.rfft2(drawn)) - np.abs(np.fft.rfft2(kernel)), np.float64).ravel()


def generic_phone() -> CameraProfile:
    """A phone main camera."""
    return CameraProfile(
        size_hw=(1512, 2016),
        camera=None,
        f_number=1.8,
        focal_length_mm=4.4,
        shading=_rounded(tilted_shading(0.1, 0.45)),
        noise={half: HalfNoise(2.5e-4, 1.5e-3) for half in ("left", "right")},
        disparity_gain=0.21,
        sensor=SensorFacts("halves", "gray", 10, 64, 1023),
        notes={
            "profile": "Typical values of phone main cameras, measured on no camera: 4.4 mm f/1.8, dual-pixel readout "
            "of 10 bits, gain as that of a Pixel 4, left against right +-10 % across the picture, light falling by "
            "45 % to the corners, about 4000 photoelectrons at white in a half, read noise 1.5 DN of 1000.",
        },
    )


def generic_full_frame() -> CameraProfile:
    """A full-frame mirrorless camera with a normal lens."""
    return CameraProfile(
        size_hw=(4000, 6000),
        camera=None,
        f_number=2.8,
        focal_length_mm=50.0,
        shading=_rounded(tilted_shading(0.06, 0.3)),
        noise={"left": HalfNoise(4e-5, 2e-4), "right": HalfNoise(4e-5, 2.8e-4)},
        disparity_gain=0.12,
        sensor=SensorFacts("composite", "bayer", 14, 512, 16383),
        notes={
            "profile": "Typical values of full-frame cameras, measured on no camera: 50 mm f/2.8, 14-bit composite and "
            "half frame, gain that of an R6 Mark II (0.08 at f/4) times the ratio of apertures, left against right "
            "+-6 % across the picture, light falling by 30 % to the corners, 25000 photoelectrons at white (ISO 400), "
            "read noise 3 DN a frame.",
        },
    )


def _noise(captures: list[Path]) -> dict[str, HalfNoise]:
    halves: dict[str, list[tuple[float, float]]] = {"left": [], "right": []}
    for path in captures:
        for half, noise in decode_capture(path).noise().items():
            if noise is not None:
                halves[half].append((noise.shot, noise.read))
    medians = {half: np.median(np.array(values), axis=0) for half, values in halves.items()}
    return {half: HalfNoise(float(f"{m[0]:.3g}"), float(f"{m[1]:.3g}")) for half, m in medians.items()}


def _coarse(shading: Shading) -> Shading:
    size = SHADING_CELLS[::-1]
    left, right = (
        cv2.resize(g, size, interpolation=cv2.INTER_AREA).reshape(*SHADING_CELLS, -1)
        for g in (shading.left, shading.right)
    )
    peaks = [g.max((0, 1)) for g in (left, right)]
    ratio = np.array(shading.left_over_right) * peaks[0] / peaks[1]
    return _rounded(
        replace(shading, left=left / peaks[0], right=right / peaks[1], left_over_right=tuple(ratio.tolist()))
    )


def _rounded(shading: Shading) -> Shading:
    """Four decimals: a hundredth of a percent."""
    left, right = (np.round(g, 4).astype(np.float32) for g in (shading.left, shading.right))
    return replace(shading, left=left, right=right)


if __name__ == "__main__":
    data = Path(sys.argv[1])
    for name, profile in {
        "pixel4": pixel4(data),
        "canon-r6m2-rf50": canon_r6m2(data),
        "generic-phone": generic_phone(),
        "generic-full-frame": generic_full_frame(),
    }.items():
        write_profile(FOLDER / f"{name}.json", profile)
        print(f"{name}: gain {profile.disparity_gain}, {profile.noise}")
