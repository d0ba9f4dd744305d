"""Anybody's maps in a folder, as a method.

A scene's map is ``NAME.SUFFIX`` with a suffix of :data:`~.files.MAP_SUFFIXES`, where "/" in the scene's name may be a
folder or a "_". Floats are in the protocol's unit. Integers are: of depth, millimetres, as everywhere in this project;
of maps up to an affine map, as they are; of pictures, parts of their largest value. Other units have no integers, for
nothing says what one of them would mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FloatImage
from dualpix.models.evaluate.files import MAP_SUFFIXES, read_map
from dualpix.models.evaluate.protocol import Pending, Protocol, contents
from dualpix.models.evaluate.sample import Method, Prediction, Sample, Unit

_MOST_NAMED = 3


def predictions_in(folder: Path, protocol: Protocol, pending: Sequence[Pending]) -> Method:
    """The maps of a folder as a method; that there is one for each scene is looked at first.

    Raises:
        DualpixError: no folder, or maps are missing or there are several of one scene; the message names them.
    """
    if not folder.is_dir():
        raise DualpixError(f"no folder '{folder}'", expected="a folder of predictions")
    found = {one.name: _files_of(folder, one.name) for one in pending}
    missing = [name for name, files in found.items() if not files]
    if missing:
        named = ", ".join(f"'{name}'" for name in missing[:_MOST_NAMED])
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        raise DualpixError(
            f"'{folder}' has no prediction of {named}{more} ({contents(folder)})",
            expected=f"NAME with one of {' '.join(MAP_SUFFIXES)} for each scene",
        )
    twice = next((files for files in found.values() if len(files) > 1), None)
    if twice:
        names = " and ".join(f"'{path.relative_to(folder).as_posix()}'" for path in twice[:2])
        raise DualpixError(f"'{folder}' has {names} of one scene", expected="one prediction of each")

    def method(sample: Sample) -> Prediction:
        path = found[sample.name][0]
        return Prediction(_in_unit(path, _read(path), protocol.unit), protocol.unit)

    return method


def _read(path: Path) -> npt.NDArray[Any]:
    """The numbers of a file, or an error that names it."""
    try:
        return read_map(path)
    except DualpixError as error:
        if path.name in error.found:
            raise
        raise DualpixError(f"'{path.name}' does not read: {error.found}", expected=error.expected) from error


def _files_of(folder: Path, name: str) -> list[Path]:
    found = []
    for stem in dict.fromkeys((name, name.replace("/", "_"))):
        place = folder / stem
        if place.parent.is_dir():
            files = sorted(path for path in place.parent.iterdir() if path.suffix.lower() in MAP_SUFFIXES)
            found += [path for path in files if path.stem == place.name]
    return found


def _in_unit(path: Path, values: npt.NDArray[Any], unit: Unit) -> FloatImage:
    channels = 3 if unit == "image" else 1
    if (values.shape[2] if values.ndim == 3 else 1) != channels:
        what = "a colour picture" if channels == 3 else "one number a pixel"
        raise DualpixError(f"'{path.name}' is {'x'.join(map(str, values.shape))}", expected=what)
    if values.dtype.kind == "f":
        return np.asarray(values, np.float32)
    if unit == "image":
        return np.asarray(values / np.iinfo(values.dtype).max, np.float32)
    if unit == "depth_m" and values.dtype.itemsize > 1:
        return np.asarray(values, np.float32) / np.float32(1000)
    if unit == "affine":
        return np.asarray(values, np.float32)
    kind = f"{values.dtype}"
    raise DualpixError(f"'{path.name}' holds {kind}", expected=f"floats in the unit of the protocol, {unit}")
