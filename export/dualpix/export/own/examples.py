"""Calibration and evaluation data of a user's own: a folder of ``.npz`` files, or a function.

An ``.npz`` holds one sample: arrays named as the inputs, and optionally the truth, as ``truth`` (for the first output)
or ``truth.NAME``. A function (``package.module:function``) gives a list of what the factory's inputs are; where those
are dictionaries, they may hold the truth under the same names.

Files are looked at before they are read: the header of each array must have the shape of the input, archives and truths
are bounded, and objects are never unpickled.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualpix.capture.arrays.npy import read_header, read_samples
from dualpix.capture.errors import DualpixError
from dualpix.export.artefact import type_name
from dualpix.export.bound import Example
from dualpix.export.own.called import Called, check_input, form
from dualpix.export.own.factory import Foreign, examples_of, kind_of
from dualpix.models.named import call_named, is_named
from dualpix.quantize.calibration import Inputs, tensor_digest
from dualpix.quantize.score import Array

TRUTH = "truth"
_MAX_FILES = 10_000
_MAX_TOTAL_BYTES = 4 << 30
_MAX_REASON = 80
_KINDS = {"f": "f", "i": "iu", "u": "iu", "b": "b"}
"""Kind of an input -> kinds of arrays that say the same in another width."""


@dataclass(frozen=True)
class Examples:
    """Samples of one use."""

    inputs: tuple[Inputs, ...]
    truths: tuple[Mapping[str, Array], ...]
    """By output, one entry per sample; empty where there is none."""
    description: str

    def digest(self) -> str:
        """SHA-256 of all inputs and truths."""
        truths = (torch.from_numpy(t[name]) for t in self.truths for name in sorted(t))
        return tensor_digest([*(t for sample in self.inputs for t in sample), *truths])


def own_examples(
    called: Called, foreign: Foreign, text: str, calibrate_with: Sequence[str], evaluate_with: Sequence[str]
) -> tuple[Examples, Examples]:
    """What calibrates and what judges: what the user names, and the factory's own list for what is not named.

    Where neither is named, the first half of the list calibrates and the second judges; a single one does both.

    Args:
        called: the module as it is run.
        foreign: what the factory gave.
        text: the factory's name.
        calibrate_with: folders and functions; empty for the factory's list.
        evaluate_with: the same.

    Raises:
        DualpixError: data that cannot be read, do not fit the module, or hold the truth for some samples alone.
    """
    own = [called.inputs_of(e, f"input {i} of {text}()") for i, e in enumerate(foreign.inputs, 1)]
    count = len(own)
    middle = (count + 1) // 2 if not calibrate_with and not evaluate_with else count
    first = range(middle) if not calibrate_with else range(0)
    last = range(middle % count, count) if not evaluate_with else range(0)
    calibration = _read_all(called, calibrate_with) or Examples(*_taken(own, first), _numbered(first, count, text))
    evaluation = _read_all(called, evaluate_with) or Examples(*_taken(own, last), _numbered(last, count, text))
    return calibration, evaluation


def _taken(own: Sequence[Inputs], which: range) -> tuple[tuple[Inputs, ...], tuple[Mapping[str, Array], ...]]:
    return tuple(own[i] for i in which), ()


def _numbered(which: range, count: int, text: str) -> str:
    if count == 1:
        return f"the one input that {text} gives"
    if len(which) == count:
        return f"all {count} inputs that {text} gives"
    if len(which) == 1:
        return f"input {which.start + 1} of the {count} that {text} gives"
    return f"inputs {which.start + 1} to {which.stop} of the {count} that {text} gives"


def _read_all(called: Called, sources: Sequence[str]) -> Examples | None:
    if not sources:
        return None
    parts = [read_examples(called, source) for source in sources]
    truths = [truth for part in parts for truth in part.truths]
    inputs = [sample for part in parts for sample in part.inputs]
    if truths and len(truths) != len(inputs):
        raise DualpixError(f"{len(truths)} of {len(inputs)} samples have a truth", expected="all or none")
    return Examples(tuple(inputs), tuple(truths), "; ".join(part.description for part in parts))


def read_examples(called: Called, source: str) -> Examples:
    """The samples of one folder or function.

    Raises:
        DualpixError: see :func:`own_examples`.
    """
    if is_named(source) and not Path(source).exists():
        return _from_function(called, source)
    return _from_folder(called, Path(source))


# ---------------------------------------------------------------------------------------------------------------------
# a function


def _from_function(called: Called, source: str) -> Examples:
    made = examples_of(call_named(source), source, "a list of what the module's own inputs are")
    pairs = [_apart(called, example, f"sample {i} of {source}()") for i, example in enumerate(made, 1)]
    inputs = tuple(called.inputs_of(e, f"sample {i} of {source}()") for i, (e, _) in enumerate(pairs, 1))
    return Examples(inputs, _truths([t for _, t in pairs], source), f"{len(inputs)} samples that {source} gives")


def _apart(called: Called, example: Example, where: str) -> tuple[Example, Mapping[str, Array]]:
    """What forward takes, and the truth by output."""
    if not isinstance(example, Mapping):
        return example, {}
    truths = {k: v for k, v in example.items() if _is_truth(str(k)) and k not in called.first.arguments}
    rest = {k: v for k, v in example.items() if k not in truths}
    return rest, {_output_of(called, k, where): _numbers(v, f"'{k}' in {where}") for k, v in truths.items()}


def _numbers(value: Any, where: str) -> Array:
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    if not isinstance(array, np.ndarray | np.generic | int | float) or np.asarray(array).dtype.kind not in "fiub":
        raise DualpixError(f"{where} is {kind_of(value)}", expected="an array of numbers")
    return np.asarray(array, np.float64)


def _is_truth(name: str) -> bool:
    return name == TRUTH or name.startswith(TRUTH + ".")


def _output_of(called: Called, name: str, where: str) -> str:
    outputs = [output.name for output in called.outputs]
    output = name.removeprefix(TRUTH).removeprefix(".") or outputs[0]
    if output not in outputs:
        raise DualpixError(f"{where} holds '{name}'", expected=f"{TRUTH} or {TRUTH}.NAME of {', '.join(outputs)}")
    return output


def _truths(found: Sequence[Mapping[str, Array]], source: str) -> tuple[Mapping[str, Array], ...]:
    names = {frozenset(truth) for truth in found}
    if len(names) > 1:
        raise DualpixError(f"only some samples of '{source}' hold a truth", expected="all or none")
    return tuple(found) if any(found) else ()


# ---------------------------------------------------------------------------------------------------------------------
# a folder


def _from_folder(called: Called, folder: Path) -> Examples:
    if not folder.is_dir():
        raise DualpixError(f"'{folder}' is no folder", expected="a folder of .npz files, or package.module:function")
    files = sorted((p for p in folder.iterdir() if p.suffix == ".npz"), key=_natural)
    if not 0 < len(files) <= _MAX_FILES:
        raise DualpixError(f"'{folder}' holds {len(files)} .npz files", expected=f"1 to {_MAX_FILES}, one a sample")
    inputs: list[Inputs] = []
    truths: list[Mapping[str, Array]] = []
    held = 0
    for path in files:
        sample, truth = _read_npz(called, path)
        held += sum(t.nbytes for t in sample) + sum(a.nbytes for a in truth.values())
        if held > _MAX_TOTAL_BYTES:
            raise DualpixError(f"'{folder}' holds over {_MAX_TOTAL_BYTES >> 30} GiB", expected="fewer samples")
        inputs.append(sample)
        truths.append(truth)
    return Examples(tuple(inputs), _truths(truths, str(folder)), f"{len(files)} files of '{folder.name}'")


def _natural(path: Path) -> tuple[Any, ...]:
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path.name))


def _read_npz(called: Called, path: Path) -> tuple[Inputs, Mapping[str, Array]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {i.filename.removesuffix(".npy"): i for i in archive.infolist() if i.filename.endswith(".npy")}
            names = called.input_names
            unknown = [n for n in members if n not in names and not _is_truth(n)]
            if unknown or not set(names) <= set(members):
                raise DualpixError(
                    f"'{path.name}' holds {', '.join(sorted(members))[:_MAX_REASON] or 'no array'}",
                    expected=f"the arrays {', '.join(names)}, and {TRUTH} if there is one",
                )
            pairs = zip(names, called.first.tensors(), strict=True)
            inputs = tuple(_input(path, archive, members[name], like, name) for name, like in pairs)
            truths = {
                _output_of(called, name, f"'{path.name}'"): _truth(path, archive, member)
                for name, member in members.items()
                if name not in names
            }
            return inputs, truths
    # RuntimeError: encrypted; NotImplementedError: a compression of its own; ValueError: absurd offsets.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise DualpixError(
            f"'{path.name}' does not read: {str(error)[:_MAX_REASON]}", expected="an .npz as numpy.savez writes it"
        ) from error


def _input(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, like: Tensor, name: str) -> Tensor:
    kind = np.dtype(type_name(like.dtype)).kind
    array = _array(path, archive, member, tuple(like.shape), _KINDS[kind], f"{form(like)} like the factory's")
    cast = array.astype(type_name(like.dtype))
    if kind in "iu" and not np.array_equal(cast, array):
        raise DualpixError(
            f"'{path.name}': array '{name}' has values beyond {type_name(like.dtype)}", expected=form(like)
        )
    tensor = torch.from_numpy(np.ascontiguousarray(cast))
    check_input(name, tensor, f"'{path.name}'")
    return tensor


def _truth(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    return _array(path, archive, member, None, "fiub", "an array of numbers").astype(np.float64)


def _array(
    path: Path,
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    shape: tuple[int, ...] | None,
    kinds: str,
    expected: str,
) -> npt.NDArray[Any]:
    name = member.filename.removesuffix(".npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others pack without any bound
        raise DualpixError(f"'{path.name}': array '{name}' is compressed by method {member.compress_type}")
    with archive.open(member) as file:
        header = read_header(path, file, DualpixError)
        if header.dtype.kind not in kinds or (shape is not None and header.shape != shape):
            raise DualpixError(f"'{path.name}': array '{name}' is {header}", expected=expected)
        if header.sample_bytes > _MAX_TOTAL_BYTES:
            raise DualpixError(
                f"'{path.name}': array '{name}' has {header.sample_bytes} bytes",
                expected=f"at most {_MAX_TOTAL_BYTES >> 30} GiB",
            )
        return read_samples(path, file, member.file_size, header, DualpixError)
