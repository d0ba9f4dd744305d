"""A capture, a focus stack or a result of either, in Python: ``dualpix.load``.

What is computed is what the commands compute, by the same code and with the same defaults: :meth:`Shot.depth` makes the
folder that ``dualpix depth`` makes (a temporary one, unless ``output`` names one), and arrays are read from it.

Convention: see :mod:`dualpix.models.predict.disparity` (disparity) and :mod:`dualpix.models.stacks.depth` (stacks).
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from PIL import Image

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.capture.files import check_output_dir
from dualpix.capture.optics import check_lens_value
from dualpix.capture.pictures.depth_files import FORMATS, Format, check_formats
from dualpix.capture.profiles import load_profile
from dualpix.capture.raw.batch.inputs import Job
from dualpix.capture.raw.batch.jobs import DecodeOptions
from dualpix.capture.raw.containers.images import read_picture
from dualpix.capture.rgbd.arrays import read_depth_file
from dualpix.capture.stack.depth.focus_depth import Method as StackMethod
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.types import DualPixelImage, FloatImage, FocusStack, Mask
from dualpix.models.confidence import CONFIDENT
from dualpix.models.predict.asked import Asked
from dualpix.models.stacks.asked import stack_options
from dualpix.models.view.find import Kind, ResultFolder, Subject, find_subjects, read_result
from dualpix.models.zoo.cards import DEFAULT_MODEL

if TYPE_CHECKING:
    from dualpix.models.view.notebook import Page
    from dualpix.models.view.scene import Scene

_PAIR_METHODS = ("network", "sgbm")
_STILL_LONG_SIDE_PX = 2048
_THUMBNAIL_PX = 640


def load(path: str | Path) -> Shot:
    """One dual-pixel capture, one focus stack, or a result of either.

    Args:
        path: a raw, the left picture of a pair, a folder that ``dualpix decode`` or ``dualpix depth`` wrote, or a
            focus stack as ``dualpix depth`` takes it.

    Raises:
        DualpixError: it is none of these, or holds several.
    """
    path = Path(path)
    subjects = find_subjects([path])
    if len(subjects) != 1:
        found = f"'{path}' holds {len(subjects) or 'no'} captures"
        raise DualpixError(found, expected="one", hint="name one of them, or use: dualpix view" if subjects else "")
    return Shot(path, subjects[0])


@dataclass(frozen=True)
class Depth:
    """What was found in a capture or a stack, of the size of its decoded view."""

    folder: Path
    """As ``dualpix depth`` writes it: maps, pictures, ``depth.json``."""
    record: Mapping[str, Any]
    """The content of ``depth.json``."""
    _keeps: object = field(default=None, repr=False, compare=False)
    """The temporary folder goes with the last that reads it."""

    @property
    def method(self) -> str:
        """By which it was found."""
        return str(self.record["method"])

    @cached_property
    def disparity_px(self) -> FloatImage | None:
        """(H, W) ``x_right - x_left`` in px of the view, > 0 behind the focus plane; None of a stack."""
        return self._map("disparity_px.tiff")

    @cached_property
    def depth_m(self) -> FloatImage | None:
        """(H, W) m from the lens; NaN where a capture was not measured. None where metres are not known: see missing.

        Of a stack every pixel has one; those below 0.5 of :attr:`confidence` are filled in from around.
        """
        return self._map("depth_m.tiff")

    @cached_property
    def depth_uncertainty_d(self) -> FloatImage | None:
        """(H, W) diopters (1/m) within which 68 % of the depths are; None of a stack, or without metres."""
        return self._map("depth_uncertainty_d.tiff")

    @cached_property
    def focus_index(self) -> FloatImage | None:
        """(H, W) number of the sharpest frame, of a stack that does not say where it is focused; else None."""
        return self._map("focus_index.tiff")

    @cached_property
    def confidence(self) -> FloatImage:
        """(H, W) 0 to 1; from 0.5 on a pixel counts as measured."""
        known = self._map("confidence.tiff")
        if known is not None:
            return known
        return read_picture(self.folder / "confidence.png").astype(np.float32) / np.float32(255)

    @property
    def measured(self) -> Mask:
        """(H, W), True where :attr:`confidence` is at least 0.5."""
        return np.asarray(self.confidence >= CONFIDENT)

    @property
    def missing(self) -> tuple[str, ...]:
        """Lens data that lack for metres, by the names of :meth:`Shot.depth`'s arguments; empty where there are."""
        told = self.record if self.record["kind"] != "disparity_px" else self.record["depth"]
        return tuple(map(str, told.get("missing") or ()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What one must know of it, a line each."""
        findings = tuple(str(finding["text"]) for finding in self.record.get("findings") or ())
        return (*map(str, self.record.get("warnings") or ()), *map(str, self.record.get("notes") or ()), *findings)

    def _map(self, name: str) -> FloatImage | None:
        path = self.folder / name
        return np.asarray(read_depth_file(path), np.float32) if path.is_file() else None

    def _repr_html_(self) -> str:
        names = ("depth.png", "focus_index.png", "disparity.png")
        picture = next(path for name in names if (path := self.folder / name).is_file())
        told = [f"{self.method}: {self.record['measured_fraction']:.1%} measured"]
        told += [f"no metres: {', '.join(self.missing)} not known"] if self.missing else []
        return _figure(picture.read_bytes(), "png", [*told, *self.notes])


@dataclass
class Shot:
    """A dual-pixel capture or a focus stack; made by :func:`load`."""

    path: Path
    _subject: Subject = field(repr=False)
    _folder: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    @property
    def kind(self) -> Kind:
        """``dual-pixel`` or ``stack``."""
        return self._subject.kind

    @cached_property
    def image(self) -> DualPixelImage:
        """The decoded halves and the full aperture.

        Raises:
            DualpixError: a stack, a result whose capture is not at hand, or no capture that can be decoded.
        """
        if self.kind != "dual-pixel":
            raise DualpixError(f"'{self.path}' is a focus stack", expected="a dual-pixel capture", hint="see .stack")
        return DecodeOptions().decode(self._capture()).image

    @cached_property
    def stack(self) -> FocusStack:
        """The frames, farthest first.

        Raises:
            DualpixError: a dual-pixel capture, or a stack that cannot be read.
        """
        if self.kind != "stack":
            raise DualpixError(f"'{self.path}' is a dual-pixel capture", expected="a focus stack", hint="see .image")
        return load_stack(self._stack())

    def depth(
        self,
        *,
        method: str | None = None,
        model: str | Path | None = None,
        profile: str | Path | None = None,
        working_size_px: int | tuple[int, ...] = (),
        output: str | Path | None = None,
        also: Sequence[Format] = (),
        **lens: float,
    ) -> Depth:
        """Find the depth, as ``dualpix depth`` does; without arguments what was found before, if anything was.

        Args:
            method: of captures "network" (default) or "sgbm"; of stacks "blur", "sharpness" or "argmax" in place of a
                network.
            model: a shipped network, a folder, or ``package.module:factory``; see ``dualpix depth --model``.
            profile: of the camera, see ``dualpix calibrate``.
            working_size_px: long side or sides at which the method works.
            output: keep the result in this folder, as ``OUTPUT/NAME``.
            also: files for other programs, "png", "exr", "glb", "las"; see ``dualpix depth --also``.
            **lens: ``focal_length_mm``, ``f_number``, ``focus_distance_m``, ``pixel_pitch_um``, ``disparity_gain`` that
                the file lacks or has wrong; of stacks ``f_number`` says which of its apertures.

        Raises:
            DualpixError: an argument that does not fit, or a capture in which nothing can be found.
        """
        asked = (method, model, profile, working_size_px or None, output, also or None, lens or None)
        if all(value is None for value in asked) and self._subject.results:
            return self._found(self._subject.results[0])
        for name in also:
            if name not in FORMATS:
                raise UnknownNameError("format", name, list(FORMATS))
        check_formats(also)
        lens = {name: check_lens_value(name, float(value), name) for name, value in lens.items() if _known_lens(name)}
        sizes = (working_size_px,) if isinstance(working_size_px, int) else tuple(working_size_px)
        folder = self._output(output)
        if self.kind == "stack":
            if profile is not None:
                raise DualpixError("profile was given with a focus stack", expected="a dual-pixel capture with it")
            made = _stack_result(self._stack(), folder, method, model, sizes, lens, also)
        else:
            made = _pair_result(self._capture(), folder, method or "network", model, profile, sizes, lens, also)
        result = read_result(made)
        results = self._subject.results  # the newest first; one that was written again, once
        results[:] = [result, *(known for known in results if known.folder.resolve() != made.resolve())]
        self.__dict__.pop("_scene", None)
        return self._found(result)

    def refocus(
        self,
        *,
        at: tuple[float, float] | None = None,
        focus_distance_m: float | None = None,
        f_number: float | None = None,
        blur: float | None = None,
        size_px: int = _STILL_LONG_SIDE_PX,
    ) -> Image.Image:
        """The picture focused anew by its depth, which is found first where it is not; see ``dualpix refocus``.

        Args:
            at: (column, row) of the view: what shall be sharp.
            focus_distance_m: or how far away that is.
            f_number: aperture of the synthetic lens.
            blur: or how many times as wide as the captured aperture it is; 2 by default.
            size_px: at most, long side.

        Raises:
            DualpixError: not one of ``at`` and ``focus_distance_m``, or an aperture that this capture cannot tell.
        """
        from dualpix.models.view.aim import coordinate_of, widening_of
        from dualpix.models.view.refocus import refocused, sharp_of

        if (at is None) == (focus_distance_m is None):
            found = "neither at nor focus_distance_m was" if at is None else "both at and focus_distance_m were"
            raise DualpixError(f"{found} given", expected="one of them: what shall be sharp")
        if f_number is not None and blur is not None:
            raise DualpixError("both f_number and blur were given", expected="one of the two")
        for name, value in (("focus_distance_m", focus_distance_m), ("f_number", f_number)):
            if value is not None:
                check_lens_value(name, value, name)
        self.depth()
        scene = self._scene
        estimate = scene.estimates[0]
        assert estimate.defocus is not None  # noqa: S101 - readers give one to every estimate
        widening = widening_of(estimate.defocus, f_number, blur)
        sharp = sharp_of(scene, estimate, size_px)
        return Image.fromarray(refocused(sharp, coordinate_of(scene, sharp, at, focus_distance_m), widening))

    def page(self) -> Page:
        """The page of ``dualpix view`` with all that was found so far.

        Raises:
            DualpixError: the capture cannot be decoded.
        """
        from dualpix.models.view.notebook import Page
        from dualpix.models.view.page import page_bytes

        return Page(page_bytes([self._scene], 1, self._subject.name), self._subject.name)

    def show(self) -> None:
        """Find the depth where it is not found yet, and show the page: in the notebook's cell, else in the browser.

        Raises:
            DualpixError: there is neither; or what :meth:`depth` raises.
        """
        from dualpix.models.view.notebook import display

        self.depth()
        display(self.page())

    @cached_property
    def _scene(self) -> Scene:
        from dualpix.models.view.read import read_scene

        return read_scene(self._subject)

    def _found(self, result: ResultFolder) -> Depth:
        return Depth(result.folder, result.record, self._folder)

    def _output(self, output: str | Path | None) -> Path:
        if output is not None:
            check_output_dir(Path(output))
            return Path(output)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="dualpix-")
        return Path(self._folder.name) / str(len(self._subject.results))

    def _capture(self) -> Job:
        if self._subject.capture is None:
            raise DualpixError(f"the capture of '{self.path}' is not at hand", hint="load the capture itself")
        return self._subject.capture

    def _stack(self) -> Path:
        if self._subject.stack is None:
            raise DualpixError(f"the stack of '{self.path}' is not at hand", hint="load the stack itself")
        return self._subject.stack

    def _repr_html_(self) -> str:
        scene = self._scene
        picture = scene.picture or (scene.views[0] if scene.views else None)
        told = [f"{scene.name}, {scene.kind}, {scene.size_hw[1]}x{scene.size_hw[0]} px"]
        told += [f"{name}: {value}" for name, value in scene.facts]
        told += list(scene.notes)
        if picture is None:
            return _figure(b"", "png", told)
        from io import BytesIO

        small, data = Image.fromarray(picture.rgb), BytesIO()
        small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
        small.save(data, "JPEG", quality=90)
        return _figure(data.getvalue(), "jpeg", told)


def _known_lens(name: str) -> bool:
    known = ["focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um", "disparity_gain"]
    if name not in known:
        raise UnknownNameError("lens value", name, known)
    return True


def _pair_result(
    job: Job,
    output: Path,
    method: str,
    model: str | Path | None,
    profile: str | Path | None,
    sizes: tuple[int, ...],
    lens: Mapping[str, float],
    also: Sequence[Format],
) -> Path:
    from dualpix.models.predict.cli_run import run_captures

    if method not in _PAIR_METHODS:
        raise UnknownNameError("method of dual-pixel captures", method, list(_PAIR_METHODS))
    if model is not None and method != "network":
        raise DualpixError(f"model and method '{method}' were given", expected="one of them: each is a method")
    job = replace(job, folder=output / job.folder.name)
    asked = Asked(
        jobs=(job,), output=output, options=DecodeOptions(), lens=lens, method=method,
        model=str(model or DEFAULT_MODEL), working_sizes_px=sizes,
        profile=None if profile is None else str(profile),
        camera=None if profile is None else load_profile(str(profile)), also=tuple(also),
    )  # fmt: skip
    run_captures(asked, resume=False, strict=True, tell_warnings=False)
    return job.folder


def _stack_result(
    stack: Path,
    output: Path,
    method: str | None,
    model: str | Path | None,
    sizes: tuple[int, ...],
    lens: Mapping[str, float],
    also: Sequence[Format],
) -> Path:
    from dualpix.models.stacks.depth import run_stacks

    if method is not None and method not in get_args(StackMethod):
        raise UnknownNameError("method of focus stacks", method, list(get_args(StackMethod)))
    for name in ("focus_distance_m", "disparity_gain"):
        if name in lens:
            raise DualpixError(f"{name} was given with a focus stack", expected="a dual-pixel capture with it")
    options = stack_options(cast("StackMethod | None", method), None if model is None else str(model), sizes, lens)
    run_stacks([stack], output, replace(options, also=tuple(also)), resume=False, strict=True)
    return output / stack.resolve().name


def _figure(data: bytes, form: str, lines: list[str]) -> str:
    """A picture with lines below it; texts of files are text."""
    uri = f"data:image/{form};base64,{base64.b64encode(data).decode()}"
    told = "".join(f"<div>{escape(line)}</div>" for line in lines)
    picture = f'<img style="max-width: 100%" alt="" src="{uri}">' if data else ""
    return f"<figure style='margin: 0'>{picture}<figcaption>{told}</figcaption></figure>"
