"""What people hold besides: HEIC, other raws, videos; refused by name, never read as a thumbnail."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.support.brackets import scene_frame, write_bracket, write_shot
from tests.support.stack_folders import shoot_stack

from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.raw.containers.tiff import ASCII, LONG, SHORT, Tag, ifd_bytes
from dualpix.capture.stack.keep.frames import frame_meta, read_light
from dualpix.capture.stack.keep.importer import Given, import_stack


def box(brand: bytes) -> bytes:
    return struct.pack(">I4s4s", 24, b"ftyp", brand) + bytes(4000)


KINDS = {
    "IMG_0001.HEIC": (box(b"heic"), "HEIC", "JPEG"), "IMG_0001.jpg": (box(b"mif1"), "HEIC", "JPEG"),
    "IMG_0001.HIF": (box(b"heix"), "HEIC", "JPEG"), "a.avif": (box(b"avif"), "AVIF", "JPEG"),
    "a.mp4": (box(b"isom"), "a video", "JPEG"), "a.webp": (b"RIFF\0\0\0\0WEBPVP8 " + bytes(99), "WebP", "JPEG"),
    "a.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "JPEG XL", "JPEG"),
    "DSCF1.RAF": (b"FUJIFILMCCD-RAW 0201", "RAF", "DNG"),
    "P1.ORF": (b"IIRO\x08\0\0\0" + bytes(99), "ORF", "DNG"), "P1.RW2": (b"IIU\0\x08\0\0\0" + bytes(99), "RW2", "DNG"),
    "DSC_1.NEF": (b"MM\0*\0\0\0\x08" + bytes(99), "NEF", "DNG"),
    "DSC_1.ARW": (b"II*\0\x08\0\0\0" + bytes(99), "ARW", "DNG"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_that_is_not_read_is_named_with_what_to_do(tmp_path: Path, name: str) -> None:
    data, kind, into = KINDS[name]
    (tmp_path / name).write_bytes(data)
    for read in (read_light, frame_meta):
        with pytest.raises(DecodeError, match=f"'{name}' is {kind}, which is not read here.*{into}"):
            read(tmp_path / name)


def thumbnail_first(path: Path, size: int = 16) -> None:
    """A raw as Nikon and Sony write it, by another name: IFD0 is a thumbnail, SubIFDs hold the rest."""
    samples = bytes(3 * size * size)

    def head(at: int) -> bytes:
        tags = [
            Tag(0x00FE, LONG, [1]), Tag(0x0100, LONG, [size]), Tag(0x0101, LONG, [size]), Tag(0x0102, SHORT, [8, 8, 8]),
            Tag(0x0103, SHORT, [1]), Tag(0x0106, SHORT, [2]), Tag(0x010F, ASCII, b"NIKON CORPORATION"),
            Tag(0x0111, LONG, [at]), Tag(0x0115, SHORT, [3]), Tag(0x0117, LONG, [len(samples)]),
            Tag(0x014A, LONG, [at, at]),
        ]  # fmt: skip
        return struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes(tags, 8)

    path.write_bytes(head(len(head(0))) + samples)


def test_a_raw_is_never_read_as_its_thumbnail(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        thumbnail_first(tmp_path / name)
    with pytest.raises(DecodeError, match=r"its first picture is a thumbnail.*DNG"):
        import_stack([tmp_path], tmp_path / "out", Given(ends_d=(2.0, 1.0)))


def test_a_pyramid_whose_first_picture_is_the_whole_is_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(scene_frame(0), subifds=1, photometric="rgb")
        file.write(scene_frame(0)[::2, ::2], subfiletype=1, photometric="rgb")
    assert read_light(tmp_path / "a.tif").image.shape == (*scene_frame(0).shape,)


def test_a_folder_of_nothing_else_says_what_it_holds(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"IMG_{number}.HEIC").write_bytes(box(b"heic"))
    with pytest.raises(DualpixError, match=r"are HEIC \(3 files\), which is not read here.*let the camera save JPEG"):
        import_stack([tmp_path], tmp_path / "out")


def test_frames_of_another_kind_beside_those_that_are_read_are_told(tmp_path: Path) -> None:
    write_bracket(tmp_path / "in", ["1.jpg", "2.jpg", "3.jpg"], [None] * 3)
    (tmp_path / "in" / "1.NEF").write_bytes(b"MM\0*")  # the raw of a frame
    assert not [n for n in import_stack([tmp_path / "in"], tmp_path / "out").notes if "left out" in n]
    (tmp_path / "in" / "4.HEIC").write_bytes(box(b"heic"))
    notes = import_stack([tmp_path / "in"], tmp_path / "out").notes
    assert "1 file is left out, as HEIC is not read here: '4.HEIC'" in notes


def test_what_is_read_stays_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.tif"):
        write_shot(tmp_path / name, scene_frame(0), None)
        assert np.isfinite(read_light(tmp_path / name).image).all()


def test_of_a_raw_and_its_picture_the_raw_is_taken(tmp_path: Path) -> None:
    """As `import IMG_*` names them, of a camera that saves both."""
    shot = shoot_stack(tmp_path / "shot", diopters=(0.5, 1.0, 1.5))
    raws = sorted(shot.folder.glob("*.dng"))
    pictures = [write_shot(path.with_suffix(".JPG"), scene_frame(0), None) for path in raws]
    done = import_stack(sorted([*raws, *pictures]), tmp_path / "out", Given(ends_d=(0.5, 1.5)))
    assert [f.details["original"] for f in done.record.frames] == [path.name for path in raws]
    assert "3 pictures are left out beside the raws of their names" in done.notes
