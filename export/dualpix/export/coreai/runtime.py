"""Running an ``.aimodel`` in Apple's runtime, which coreai-core carries in its wheel.

``AIModel.load(path)`` takes the written asset on macOS 27 only; ``AIModelAsset.load(path).executable()`` compiles it
for the bundled runtime first and so runs it on Linux as well. Calls are coroutines: each program has a thread with an
event loop of its own, so that it can be called from anywhere.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dualpix.export.errors import ExportError

if TYPE_CHECKING:  # torch is all that running an asset needs
    from dualpix.quantize.calibration import Inputs

ENTRY = "main"
_FILES = ("main.mlirb", "main.hash", "metadata.json")
_MAX_BYTES = 8 << 30


def check_asset(path: Path) -> None:
    """Look at a written asset before the runtime does, whose own answers to a damaged one range to a crash.

    ``main.hash`` is the SHA-256 of ``main.mlirb``; coreai-core 1.0.0b3 runs an asset in which they differ.

    Raises:
        ExportError: a file is missing, or the program is not the one that was written.
    """
    from dualpix.capture.files import sha256_of_file

    if not path.is_dir():
        raise ExportError(f"'{path.name}' is not a folder", expected="an .aimodel asset")
    missing = [name for name in _FILES if not (path / name).is_file()]
    if missing:
        raise ExportError(f"'{path.name}' lacks {', '.join(missing)}", expected=", ".join(_FILES))
    if (path / "main.mlirb").stat().st_size > _MAX_BYTES or (path / "main.hash").stat().st_size != 32:
        raise ExportError(f"'{path.name}' is damaged: 'main.mlirb' or 'main.hash' has the wrong size")
    if sha256_of_file(path / "main.mlirb") != (path / "main.hash").read_bytes().hex():
        raise ExportError(f"'{path.name}' is damaged: 'main.mlirb' is not what 'main.hash' says", hint="export again")


class AssetProgram:
    """A loaded asset; call it with the network's inputs.

    Args:
        path: the asset's folder.
        input_names: in the network's order.
        output_names: in the network's order.

    Raises:
        ExportError: the asset is damaged, has other inputs or outputs, or the runtime refuses it.
    """

    def __init__(self, path: Path, input_names: Sequence[str], output_names: Sequence[str]) -> None:
        check_asset(path)
        self.name, self.input_names, self.output_names = path.name, tuple(input_names), tuple(output_names)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="coreai")
        self._loop = asyncio.new_event_loop()
        try:
            self._function: Any = self._thread.submit(self._load, path).result()
        except ExportError:
            raise
        except Exception as error:  # the compiler and the runtime raise anything
            raise ExportError(f"'{self.name}' does not load: {_first_line(error)}") from error
        weakref.finalize(self, _close, self._thread, self._loop, self._scope)
        names = self._function.desc
        found = sorted(names.input_names), sorted(names.output_names)
        if found != (sorted(self.input_names), sorted(self.output_names)) or names.state_names:
            raise ExportError(
                f"'{self.name}' takes {', '.join(found[0])} and gives {', '.join(found[1])}",
                expected=f"{', '.join(self.input_names)}; {', '.join(self.output_names)}",
            )

    def _load(self, path: Path) -> Any:
        from coreai.authoring.asset import AIModelAsset

        with _quiet_native():
            asset = AIModelAsset.load(path)
            self._scope: Any = asset.executable()  # keeps the compiled form in a temporary folder
            self._model = self._loop.run_until_complete(self._scope.__aenter__())
            return self._model.load_function(ENTRY)

    def __call__(self, inputs: Inputs) -> Any:
        """What the program gives: a tensor, or a tuple of tensors.

        Raises:
            ExportError: the inputs have another number, shape or type than the program takes, or the runtime fails.
        """
        if len(inputs) != len(self.input_names):
            raise ExportError(f"'{self.name}' was given {len(inputs)} inputs", expected=str(len(self.input_names)))
        given = dict(zip(self.input_names, inputs, strict=True))
        self._check(given)
        try:
            results = self._thread.submit(self._run, given).result()
        except Exception as error:  # as above
            raise ExportError(f"'{self.name}' does not run: {_first_line(error)}") from error
        outputs = tuple(torch.from_numpy(results[name].numpy().copy()) for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    def _check(self, given: Mapping[str, Tensor]) -> None:
        """The runtime does not hold an input against the bounds of a size, and says a type by its own name."""
        for name, tensor in given.items():
            described = self._function.desc.input_descriptor(name)
            shape, dtype = tuple(described.shape), str(described.dtype)
            if tuple(tensor.shape) != shape or _type_name(_as_taken(tensor)) != dtype.rsplit(".", 1)[-1]:
                raise ExportError(
                    f"'{self.name}' was given {tuple(tensor.shape)} {_type_name(tensor)} for '{name}'",
                    expected=f"{shape} {dtype}",
                )

    def _run(self, given: Mapping[str, Tensor]) -> Any:
        from coreai.runtime import NDArray

        arrays = {name: NDArray(_as_taken(tensor).contiguous().numpy()) for name, tensor in given.items()}
        return self._loop.run_until_complete(self._function(arrays))


def _close(thread: ThreadPoolExecutor, loop: asyncio.AbstractEventLoop, scope: Any) -> None:
    """Remove the compiled form; without it the folder would stay until the process ends."""
    thread.shutdown()
    with suppress(Exception):  # where another loop runs here, the folder's own finaliser is left to do it
        loop.run_until_complete(scope.__aexit__(None, None, None))
    loop.close()


def _type_name(tensor: Tensor) -> str:
    """``float32``."""
    return str(tensor.dtype).removeprefix("torch.")


def _as_taken(tensor: Tensor) -> Tensor:
    """The program takes int64 as int32."""
    return tensor.to(torch.int32) if tensor.dtype is torch.int64 else tensor


@contextmanager
def _quiet_native() -> Iterator[None]:
    """Hold back what the runtime writes to the process's own streams: ``ODIE [default]: Loading function``."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    with tempfile.TemporaryFile() as sink:
        try:
            for stream in (1, 2):
                os.dup2(sink.fileno(), stream)
            yield
        finally:
            for stream, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
