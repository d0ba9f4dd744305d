"""The two frames of a Dual Pixel RAW as two DNG files: what LibRaw's DPRSplit and dnglab write.

The main file is the composite of both photodiodes, an ordinary raw; the sub file is one photodiode, at about half the
signal. Both have one sample per pixel, the same size and the same crop; each has its own black. Everything else is as
in :mod:`dualpix.capture.raw.formats.canon`, whose mathematics is used.

The sub file is given by the user, or found beside the main one by its name: ``NAME_sub.dng`` for ``NAME.dng`` or
``NAME_main.dng``, and the like (``SUB_WORDS``). dnglab leaves the name to its user, and no description of DPRSplit's
was found, so other names have to be given.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.tiff import is_tiff
from dualpix.capture.raw.develop.levels import not_of_raws
from dualpix.capture.raw.formats.canon import dual_views, measure
from dualpix.capture.raw.formats.plugin import HEAD_BYTES, SensorViews, Source
from dualpix.capture.raw.frames.libraw import no_second_frame, read_frames
from dualpix.capture.raw.frames.structure import (
    DNG_VERSION,
    Structure,
    check_whole,
    mapped,
    read_structure,
    structure_of,
)

MAIN_WORDS = ("main", "composite", "frame0")
SUB_WORDS = ("sub", "dp", "dpdata", "half", "frame1", "1")
_SEPARATORS = "_-."
# Tags that must not differ between the frames of one shot: model, time of exposure and its fraction.
_MODEL, _TIME, _SUBSECOND = 0x0110, 0x9003, 0x9291


class DngPairDecoder:
    """Composite and photodiode in a DNG each."""

    name = "dng-pair"
    needs = "NAME.dng (composite) with NAME_sub.dng (one photodiode), or --sub FILE"
    summary = "frames of a Dual Pixel RAW split into two DNG files (DPRSplit, dnglab)"
    suffixes = whole_suffixes = (".dng",)
    """One file is named, the other goes by its name."""

    def refuses(self, source: Source) -> str | None:
        """None where a sub file was given, or lies beside a DNG of one sample per pixel."""
        if source.sub is not None:
            return None
        if not is_tiff(source.head):
            return "not a DNG"
        if sub_name(source.path) is None:
            return "no second DNG beside it"
        try:
            with mapped(source.path) as data:
                found = read_structure(source.head, data)
        except DecodeError as error:
            return f"broken DNG: {error.found}"
        if DNG_VERSION not in found.picture.tags:
            return "a TIFF, but no DNG"
        frames = len(found.raw_frames)
        return None if frames == 1 else f"holds {frames} raw frames itself"

    def decode(self, source: Source) -> SensorViews:
        """Both frames, the derived half, the mask. Raises DecodeError where the two do not belong together."""
        sub = source.sub or sub_name(source.path)
        if sub is None:
            raise no_second_frame(source.path)
        if source.right is not None:
            raise DecodeError("both a sub file and a right file were given", expected="one of the two")
        header, other = _one_frame(source.path), _one_frame(sub)
        _check_same_shot((source.path, header), (sub, other))
        composite, half = read_frames([(source.path, 0), (sub, 0)], measure)
        if composite.frame.crop != half.frame.crop:
            raise DecodeError(
                f"'{source.path.name}' and '{sub.name}' have different crops", expected="two frames of one raw file"
            )
        views = dual_views(source.path, header, (composite, half))
        files = {"frame 0": f"file {source.path.name}", "frame 1": f"file {sub.name}"}
        meta = replace(views.meta, provenance={**views.meta.provenance, **files})
        return replace(views, meta=meta, warnings=views.warnings + not_of_raws(source.levels))


def sub_name(main: Path) -> Path | None:
    """The sub file that lies beside ``main`` under one of the known names, or None."""
    if main.suffix.lower() != ".dng":
        return None
    for stem in _capture_stems(main.stem):
        for word in SUB_WORDS:
            for candidate in (main.with_name(f"{stem}{mark}{word}{main.suffix}") for mark in _SEPARATORS):
                try:
                    if candidate.is_file() and candidate != main:
                        return candidate
                except OSError:  # a name too long
                    continue
    return None


def _capture_stems(stem: str) -> list[str]:
    """The stem, and without the word for the main file."""
    marked = (mark + word for mark in _SEPARATORS for word in MAIN_WORDS)
    return [stem, *(stem[: -len(end)] for end in marked if stem.lower().endswith(end) and len(stem) > len(end))]


def _one_frame(path: Path) -> Structure:
    """The structure of a whole DNG with one sample per pixel."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        found = structure_of(path, head)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise DecodeError(f"cannot read '{path}': {error}", expected="the composite and one photodiode") from error
    if found.kind != "DNG" or DNG_VERSION not in found.picture.tags:
        raise DecodeError(f"'{path.name}' is not a DNG", expected="the composite and one photodiode as DNG files")
    if len(found.raw_frames) != 1:
        raise DecodeError(
            f"'{path.name}' holds {len(found.raw_frames)} samples per pixel",
            expected="one frame in the main file and one in the sub file",
            hint="leave out --sub if it holds both frames",
        )
    check_whole(path, found)
    return replace(found, kind="DNG pair")


def _check_same_shot(main: tuple[Path, Structure], sub: tuple[Path, Structure]) -> None:
    headers = main[1], sub[1]
    said = [tuple(h.picture.text(_MODEL) for h in headers)]
    said += [tuple(h.exif.text(tag) for h in headers) for tag in (_TIME, _SUBSECOND)]
    for here, there in said:
        if here and there and here != there:
            raise DecodeError(
                f"'{main[0].name}' ({here}) and '{sub[0].name}' ({there}) are different shots",
                expected="two frames of one raw file",
                hint="give the right one with --sub",
            )
