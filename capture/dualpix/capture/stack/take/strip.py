"""The thumbnail strip of a stack, ``strip.jpg``: a row for each aperture, a column for each stop, far to near.

A row is shown with the brightness and white balance of the first thumbnail that came, so that drift can be seen. Grey
is not there yet; a frame with a yellow border is kept with a doubt.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from dualpix.capture.camera_protocol import Exposure, PlannedFrame, Role
from dualpix.capture.errors import OutputError
from dualpix.capture.files import write_bytes
from dualpix.capture.pictures.display import grey_world, to_display
from dualpix.capture.types import FloatImage

STRIP = "strip.jpg"
_CELL_PX = (160, 107)
_LEAST_WIDTH_PX, _WIDEST_PX = 16, 32_000
_TITLE_PX, _GAP_PX, _FONT_PX, _LABEL_PX = 16, 4, 11, 44
_MISSING, _DOUBT = (96, 96, 96), (230, 180, 0)
_QUALITY = 85
_BRIGHT_PERCENTILE, _BRIGHT_VALUE = 99.0, 0.85
Rgb = npt.NDArray[np.uint8]
_Row = tuple[Role, Exposure]
_Look = tuple[tuple[float, float, float], float]


class Strip:
    """Grows by a thumbnail at a time; any thread may show one. Failing to write it fails nothing else."""

    def __init__(self, folder: Path, frames: Sequence[PlannedFrame]) -> None:
        self.path = folder / STRIP
        self._rows: list[_Row] = list(dict.fromkeys(_row(frame) for frame in frames))
        self._stops = sorted({frame.diopters for frame in frames})
        self._places = {f.index: (self._rows.index(_row(f)), self._stops.index(f.diopters)) for f in frames}
        width = min(_CELL_PX[0], _WIDEST_PX // max(1, len(self._stops)) - _GAP_PX)
        self._width = max(_LEAST_WIDTH_PX, width)
        self._height = round(self._width * _CELL_PX[1] / _CELL_PX[0])
        self._looks: dict[int, _Look] = {}
        self._cells: dict[int, Rgb] = {}
        self._suspect: set[int] = set()
        self._lock = threading.Lock()

    def show(self, index: int, thumbnail: FloatImage | None, *, suspect: bool = False) -> None:
        """Put in the picture of a frame, (h, w, 3) linear, and write the strip; None is passed over."""
        if thumbnail is None:
            return
        row = self._places[index][0]
        small = _fitted(thumbnail, self._width, self._height)
        with self._lock:
            balance, exposure = self._looks.setdefault(row, _look(small))
            self._cells[index] = to_display(small, white_balance=balance, exposure=exposure)
        self.mark(index, suspect=suspect)
        self.save()

    def mark(self, index: int, *, suspect: bool) -> None:
        """Whether a frame has a border."""
        with self._lock:
            (self._suspect.add if suspect else self._suspect.discard)(index)

    def remove(self, index: int) -> None:
        """A frame does not count."""
        with self._lock:
            self._cells.pop(index, None)

    def save(self) -> None:
        """Write ``strip.jpg`` if there is anything to show."""
        with self._lock, suppress(OutputError):
            if self._cells:
                buffer = io.BytesIO()
                self._page().save(buffer, "JPEG", quality=_QUALITY)
                write_bytes(self.path, buffer.getvalue())

    def _page(self) -> Image.Image:
        across, down = self._width + _GAP_PX, self._height + _GAP_PX
        size = _LABEL_PX + across * len(self._stops), _TITLE_PX + down * len(self._rows)
        page = Image.new("RGB", size, "white")
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(_FONT_PX)
        for column, diopters in enumerate(self._stops):
            draw.text((_LABEL_PX + column * across, 1), _focus(diopters), fill="black", font=font)
        for number, row in enumerate(self._rows):
            draw.text((2, _TITLE_PX + number * down), _label(row), fill="black", font=font)
        for index, (row_number, column) in self._places.items():
            left, top = _LABEL_PX + column * across, _TITLE_PX + row_number * down
            box = (left, top, left + self._width - 1, top + self._height - 1)
            cell = self._cells.get(index)
            if cell is None:
                draw.rectangle(box, fill=_MISSING)
            else:
                page.paste(Image.fromarray(cell), (left, top))
            if cell is not None and index in self._suspect:
                draw.rectangle(box, outline=_DOUBT, width=3)
        return page


def _row(frame: PlannedFrame) -> _Row:
    return frame.role, frame.exposure


def _label(row: _Row) -> str:
    role, exposure = row
    aperture = "" if exposure.f_number is None else f"f/{exposure.f_number:g}"
    return f"{aperture}\nsharp" if role == "all_in_focus" else aperture


def _focus(diopters: float) -> str:
    return f"{diopters:.2f} D, {1 / diopters:.3g} m" if diopters > 1e-3 else f"{diopters:.2f} D"


def _look(image: FloatImage) -> _Look:
    """White balance and exposure that make a picture look well."""
    balance = grey_world(image)
    bright = float(np.percentile((image * np.asarray(balance, np.float32)).mean(axis=2), _BRIGHT_PERCENTILE))
    return balance, _BRIGHT_VALUE / max(bright, 1e-6)


def _fitted(image: FloatImage, width: int, height: int) -> FloatImage:
    """``image`` cut to the shape of a cell, around its centre, and brought to its size."""
    image_h, image_w = image.shape[:2]
    shrink = min(image_h / height, image_w / width)
    h, w = max(1, round(height * shrink)), max(1, round(width * shrink))
    top, left = (image_h - h) // 2, (image_w - w) // 2
    part = np.ascontiguousarray(image[top : top + h, left : left + w])
    how = cv2.INTER_AREA if shrink > 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width, height), interpolation=how), np.float32)
