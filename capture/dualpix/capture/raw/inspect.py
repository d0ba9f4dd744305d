"""What is in a file, and whether it is a dual-pixel capture: ``dualpix inspect``.

Raw files are answered from their headers, in milliseconds; with ``levels`` the frames are unpacked and measured. A CR2
or CR3 states its levels in tables that differ from model to model, so of these they are known with ``levels`` alone.
Exported pictures say nothing about levels in their headers, so a pair is always read. A plain raw or a lone picture is
an answer, not an error; of a cut or damaged file the answer says what is broken, and what could be read of the rest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.exif import capture_meta
from dualpix.capture.raw.containers.images import picture_kind
from dualpix.capture.raw.containers.makernote import CanonNote, read_canon_note
from dualpix.capture.raw.containers.tiff import Ifd
from dualpix.capture.raw.decoding import DECODERS, opened
from dualpix.capture.raw.develop.geometry import Crop, upright_baseline
from dualpix.capture.raw.formats.canon import Measured, clipped_in_either, light_ratio, measure
from dualpix.capture.raw.formats.dng_pair import sub_name
from dualpix.capture.raw.formats.dump import Dump
from dualpix.capture.raw.formats.pair import find_right
from dualpix.capture.raw.formats.plugin import Decoder, SensorViews, Source
from dualpix.capture.raw.frames.libraw import frame_size, read_frames, read_mosaic
from dualpix.capture.raw.frames.structure import (
    COMPOSITE,
    DNG_VERSION,
    HALF,
    FrameInfo,
    Structure,
    mapped,
    raw_kind,
    read_structure,
    readable_ifd,
)
from dualpix.capture.types import Baseline, CaptureMeta

HALF_RATIO = (0.25, 0.75)
"""Light of one photodiode over that of both."""


@dataclass(frozen=True)
class Inspection:
    """The answer for one file."""

    path: Path
    format: str
    size_bytes: int
    dual_pixel: bool
    why: str
    """What the answer rests on, and what to do where it is no."""
    decode: str
    """What ``dualpix decode`` would do."""
    frames: tuple[FrameInfo, ...] = ()
    meta: CaptureMeta = field(default_factory=CaptureMeta)
    """Pitch is that of the sensor."""
    dual_pixel_raw: bool | None = None
    """The camera's Dual Pixel RAW setting by its maker notes; None where they do not say."""
    baseline: Baseline | None = None
    """Axis of the disparity in the upright views of a dual-pixel capture."""
    crop: Crop | None = None
    """The picture area of the sensor, as it lies."""
    light_ratio: float | None = None
    """Light of frame 1 over that of frame 0, measured; about 0.5 for one photodiode."""
    broken: str | None = None
    """What is cut or damaged."""
    warnings: tuple[str, ...] = ()
    """What decoding would warn of, of a pair."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        record = asdict(self)
        return {"file": str(record.pop("path")), "error": None, **record, "meta": self.meta.to_json()}


def inspect(
    path: Path, *, right: Path | None = None, sub: Path | None = None, dump: Dump | None = None, levels: bool = False
) -> Inspection:
    """Look into a file.

    Args:
        path: any raw, or a picture of a pair.
        right: the right file of a pair whose names do not tell.
        sub: the file of the second frame, where the two frames are two DNG files whose names do not tell.
        dump: the geometry of a file without a header.
        levels: unpack the frames of a raw and measure black, clip levels and the ratio of light.

    Raises:
        DecodeError: no such file, or a kind of file that is not known here.
    """
    source = opened(Source(Path(path), b"", right, sub=sub, dump=dump))
    if dump is None and _is_raw(source):
        return _raw(source, levels)
    try:
        decoder = _taker(source)
    except DecodeError as error:  # some look into the file before they answer
        kind = (picture_kind(source.head) or "unknown").upper()
        return Inspection(
            source.path,
            kind,
            source.path.stat().st_size,
            False,
            "it cannot be read",
            "refuse it: damaged",
            broken=str(error),
        )
    if decoder is None:
        raise DecodeError(
            f"'{source.path.name}' is neither a raw file nor a picture that is known here",
            expected="a CR2, CR3 or DNG, or a picture of a left / right pair",
        )
    return _pair(source, decoder)


# --- raw files ----------------------------------------------------------------------------------------------------


def _is_raw(source: Source) -> bool:
    """A CR3, a CR2, or a TIFF that calls itself a DNG; by its name where damage hides that."""
    if raw_kind(source.head) != "DNG":
        return True
    if picture_kind(source.head) != "tiff":
        return False
    with mapped(source.path) as data:
        first = readable_ifd(data)
    return source.path.suffix.lower() == ".dng" if first is None else DNG_VERSION in first.tags


def _raw(source: Source, levels: bool) -> Inspection:
    answer = _by_structure(source)
    sub = source.sub or (sub_name(source.path) if answer.format == "DNG" and not answer.dual_pixel else None)
    if sub is not None:
        answer = _with_sub(answer, _by_structure(opened(Source(sub, b""))))
    if not answer.broken:
        answer = _with_sizes(answer)
    if levels and not answer.broken:
        answer = _with_measured_levels(answer)
    return replace(answer, decode=_raw_verdict(source, answer))


def _by_structure(source: Source) -> Inspection:
    """What directories or boxes say, without LibRaw."""
    structure = _structure(source)
    note = read_canon_note(structure.note) if structure.note else CanonNote()
    meta = capture_meta(structure.picture, structure.exif, makernote=structure.note, provenance={})
    return Inspection(
        path=source.path,
        format=structure.kind,
        size_bytes=source.path.stat().st_size,
        dual_pixel=structure.dual,
        why=_why(structure, note),
        decode="",
        frames=structure.frames,
        meta=meta,
        dual_pixel_raw=note.dual_pixel_raw,
        baseline=_upright_axis(meta) if structure.dual else None,
        broken=structure.broken,
    )


def _with_sub(main: Inspection, sub: Inspection) -> Inspection:
    """The composite and one photodiode as two files of one raw frame each."""
    own, other = (tuple(f for f in answer.frames if f.index is not None) for answer in (main, sub))
    if len(own) != 1 or len(other) != 1:
        return main
    composite = replace(own[0], role=COMPOSITE)
    half = replace(other[0], role=HALF, index=1, file=str(sub.path))
    return replace(
        main,
        dual_pixel=True,
        why=f"one raw frame, and the other one in '{sub.path.name}'",
        frames=(*(composite if f is own[0] else f for f in main.frames), half),
        baseline=_upright_axis(main.meta),
        broken=main.broken or (f"'{sub.path.name}': {sub.broken}" if sub.broken else None),
    )


def _upright_axis(meta: CaptureMeta) -> Baseline:
    return upright_baseline("x", meta.orientation)[0]


def _place(answer: Inspection, frame: FrameInfo) -> tuple[Path, int]:
    """The file of a raw frame, and LibRaw's number of it there."""
    return (Path(frame.file), 0) if frame.file else (answer.path, frame.index or 0)


def _structure(source: Source) -> Structure:
    try:
        with mapped(source.path) as data:
            return read_structure(source.head, data)
    except DecodeError as error:
        nothing, kind = Ifd({}, 0), raw_kind(source.head)
        return Structure(kind, (), False, "its structure cannot be read", nothing, nothing, broken=str(error))


def _why(structure: Structure, note: CanonNote) -> str:
    """The structure decides; the camera's own flag explains, or contradicts."""
    flag = {None: "", True: "; the DualPixelRaw flag is on", False: "; the DualPixelRaw flag is off"}[
        note.dual_pixel_raw
    ]
    if structure.dual or len(structure.raw_frames) != 1:
        return structure.why + flag
    advice = {
        None: "",
        True: ": the second frame was lost in a copy or an edit",
        False: ": turn on Dual Pixel RAW in the camera before shooting",
    }[note.dual_pixel_raw]
    return structure.why + flag + advice


def _raw_verdict(source: Source, answer: Inspection) -> str:
    if answer.broken:
        return "refuse it: damaged"
    decoder = _taker(source)
    if not answer.dual_pixel or decoder is None:
        return f"refuse it: {answer.why.partition(';')[0]}"
    size = f" of {answer.crop.width // 2}x{answer.crop.height // 2} superpixels" if answer.crop else ""
    _, exchanged = upright_baseline("x", answer.meta.orientation)
    turned = "" if answer.meta.orientation == 1 else f", turned upright (disparity along {answer.baseline})"
    names = ", halves renamed for it" if exchanged else ""
    return f"{decoder.name}: frame 1 and frame 0 - frame 1 as views{size}{turned}{names}"


def _with_sizes(answer: Inspection) -> Inspection:
    """Sizes and crop as the frames are read."""
    frames: list[FrameInfo] = []
    for frame in answer.frames:
        if frame.index is None:
            frames.append(frame)
            continue
        try:
            height, width, crop = frame_size(*_place(answer, frame))
        except DecodeError as error:
            return replace(answer, broken=str(error))
        frames.append(replace(frame, width=width, height=height))
        answer = replace(answer, crop=answer.crop or crop)
    return replace(answer, frames=tuple(frames))


def _with_measured_levels(answer: Inspection) -> Inspection:
    """What the samples themselves say."""
    raw = [frame for frame in answer.frames if frame.index is not None]
    if not raw:
        return answer
    alone = answer.format == "DNG" and len(raw) == 1  # an ordinary raw may begin with any colour: read as in a stack
    try:
        if alone:
            results = [measure(read_mosaic(answer.path))]
        else:
            results = read_frames([_place(answer, frame) for frame in raw], measure)
    except DecodeError as error:
        return replace(answer, broken=str(error))
    sizes = [result.picture.shape for result in results]
    if len(set(sizes)) > 1:
        return replace(answer, broken=f"its frames have pictures of {sizes}")
    measured = {frame.index: result for frame, result in zip(raw, results, strict=True)}
    frames = tuple(_measured(f, measured[f.index]) if f.index is not None else f for f in answer.frames)
    answer = replace(answer, frames=frames, crop=answer.crop if alone else results[0].frame.crop)
    if not answer.dual_pixel:
        return answer
    ratio = _light_ratio(results[0], results[1])
    answer = replace(answer, light_ratio=ratio)
    if ratio is None or HALF_RATIO[0] <= ratio <= HALF_RATIO[1]:
        return answer
    return replace(
        answer,
        dual_pixel=False,
        baseline=None,
        why=f"frame 1 has {ratio:.2f} of the light of frame 0, not that of one photodiode",
    )


def _measured(frame: FrameInfo, result: Measured) -> FrameInfo:
    black = tuple(round(level, 3) for level in result.black.levels)
    return replace(frame, black=black, black_source=result.black.source, white=result.frame.white, clip=result.clip)


def _light_ratio(composite: Measured, half: Measured) -> float | None:
    scale = 1 / max(composite.frame.white - max(composite.black.levels), 1.0)
    return light_ratio(composite.plane(scale), half.plane(scale), clipped_in_either(composite, half))


# --- pairs --------------------------------------------------------------------------------------------------------


def _pair(source: Source, decoder: Decoder) -> Inspection:
    """A picture and its other half, read as ``dualpix decode`` reads them."""
    kind = (picture_kind(source.head) or source.path.suffix.lstrip(".")).upper()
    answer = Inspection(source.path, kind, source.path.stat().st_size, False, "", "")
    try:
        views = decoder.decode(source)
    except DecodeError as error:
        alone = _stands_alone(source, error)
        if alone:
            return replace(answer, why=alone, decode="refuse it: the other half is missing")
        return replace(answer, why="it cannot be read", decode="refuse it: damaged", broken=str(error))
    origin = views.meta.provenance
    return replace(
        answer,
        format=str(views.details.get("format", kind)),
        dual_pixel=True,
        why=f"left: {origin.get('left', '?')}, right: {origin.get('right', '?')}",
        decode=f"{decoder.name}: the two as left and right views",
        frames=_pair_frames(views),
        meta=views.meta,
        baseline=upright_baseline(views.baseline, views.meta.orientation)[0],
        warnings=views.warnings,
    )


def _stands_alone(source: Source, refused: DecodeError) -> str | None:
    """Why there is no right half, or None where decoding was refused for another reason: a file with both halves in
    it needs no right one."""
    try:
        find_right(source)
    except DecodeError as error:
        if str(error) == str(refused):
            return f"{error.found}; name the left file of a pair, or use --right"
    return None


def _pair_frames(views: SensorViews) -> tuple[FrameInfo, ...]:
    stored, details = views.frames(), views.details
    clip = details.get("clip")
    return tuple(
        FrameInfo(
            role=f"{side} view",
            width=samples.shape[1],
            height=samples.shape[0],
            bits=samples.dtype.itemsize * 8,
            black=(float(details.get("black", 0)),),
            black_source="the kind of file",
            white=int(details["white"]) if "white" in details else None,
            clip=None if clip is None else (int(clip),),
        )
        for side, samples in zip(("left", "right"), stored.values(), strict=False)
    )


def _taker(source: Source) -> Decoder | None:
    return next((decoder for decoder in DECODERS if decoder.refuses(source) is None), None)
