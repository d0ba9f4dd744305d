"""Convert a program and run it once, in a process of its own with limits: ``python -m dualpix.export.coreai.child``.

coreai-core 1.0.0b3 ends the process with SIGILL on some shapes, in the compiler as well as in the runtime. The exporter
must survive that and say so.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.export import ExportedProgram

from dualpix.export.errors import ExportError

if TYPE_CHECKING:  # this module is the child's own too: it imports what converts and runs, and nothing that quantises
    from dualpix.quantize.calibration import Inputs

PROCESSOR_S = 900
"""Of processor time: how long a build takes by the clock is up to what else the machine does."""
TIMEOUT_S = 6 * PROCESSOR_S
"""By the clock, for a child that waits for something for ever."""
MEMORY_BYTES = 24 << 30
"""Of address space. A vision transformer of 22 million weights takes 4 GiB."""
_PROGRAM, _INPUTS, _OUTPUTS, _ASKED = "program.pt2", "inputs.safetensors", "outputs.safetensors", "asked.json"
_REFUSED = "refused: "


@dataclass(frozen=True)
class Names:
    """Of what goes into a program and comes out."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class ConversionError(ExportError):
    """The converter refused a program; its text is what it said."""


def convert_apart(program: ExportedProgram, asset: Path, names: Names, inputs: Inputs) -> tuple[Tensor, ...]:
    """Convert ``program``, write ``asset`` and run it on ``inputs``, all in a child process.

    Raises:
        ConversionError: the converter refuses the program.
        ExportError: the asset does not run, takes too long, or brings the process down.
    """
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        torch.export.save(program, scratch / _PROGRAM)
        return _apart(scratch, asset, names, inputs)


def run_apart(asset: Path, names: Names, inputs: Inputs) -> tuple[Tensor, ...]:
    """What a written asset gives on ``inputs``, computed by a child process.

    Raises:
        ExportError: the asset is damaged, does not run, takes too long, or brings the process down.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _apart(Path(folder), asset, names, inputs)


def _apart(scratch: Path, asset: Path, names: Names, inputs: Inputs) -> tuple[Tensor, ...]:
    save_file({name: t.contiguous().clone() for name, t in zip(names.inputs, inputs, strict=True)}, scratch / _INPUTS)
    limits = {"memory_bytes": MEMORY_BYTES, "processor_s": PROCESSOR_S}
    asked = {"inputs": names.inputs, "outputs": names.outputs, **limits}
    (scratch / _ASKED).write_text(json.dumps(asked))
    command = [sys.executable, "-m", __spec__.name, str(scratch), str(asset)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"'{asset.name}' is not made and run within {TIMEOUT_S} s") from error
    if done.returncode < 0:
        doing = "running" if (asset / "metadata.json").is_file() else "making"
        ended = signal.Signals(-done.returncode).name
        if ended == "SIGXCPU":
            raise ExportError(f"{doing} '{asset.name}' takes more than {PROCESSOR_S} s of processor time")
        raise ExportError(f"{doing} '{asset.name}' brings Core AI down: {ended}", hint="choose another recipe")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if last.startswith(_REFUSED):
            raise ConversionError(last.removeprefix(_REFUSED))
        raise ExportError(last.removeprefix(f"{ExportError.__module__}.{ExportError.__qualname__}: "))
    outputs = load_file(scratch / _OUTPUTS)
    return tuple(outputs[name] for name in names.outputs)


def convert(program: ExportedProgram, asset: Path, input_names: Sequence[str], output_names: Sequence[str]) -> None:
    """Convert a program and write it as ``asset``; raises whatever the converter raises."""
    from coreai_torch import TorchConverter

    from dualpix.export.coreai.runtime import ENTRY

    converter: Any = TorchConverter(mode=TorchConverter.Mode.RELEASE)  # the default writes stack traces into the asset
    converter.add_exported_program(
        program, input_names=list(input_names), output_names=list(output_names), entrypoint_name=ENTRY
    )
    converter.to_coreai().save_asset(asset)


def _limit(memory_bytes: int, processor_s: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits, and no wheel of Core AI
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most = processor_s if hard == resource.RLIM_INFINITY else min(processor_s, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


def main(arguments: list[str]) -> None:
    """Make ASSET of the program in SCRATCH, if there is one, and run it on the inputs there."""
    scratch, asset = (Path(a) for a in arguments)
    asked = json.loads((scratch / _ASKED).read_text())
    _limit(int(asked["memory_bytes"]), int(asked["processor_s"]))
    from dualpix.export.coreai.runtime import AssetProgram
    from dualpix.export.quiet import quiet

    if (scratch / _PROGRAM).is_file():
        with quiet():
            import coreai_torch._compression.custom_layers  # noqa: F401 - the operators of few bits

            program = torch.export.load(scratch / _PROGRAM)
            try:
                convert(program, asset, asked["inputs"], asked["outputs"])
            except Exception as error:  # the converter raises anything
                text = (str(error).strip().splitlines() or [""])[0]
                sys.exit(f"{_REFUSED}{type(error).__name__}: {text}")
    given = load_file(scratch / _INPUTS)
    outputs = AssetProgram(asset, asked["inputs"], asked["outputs"])(tuple(given[name] for name in asked["inputs"]))
    found = outputs if isinstance(outputs, tuple) else (outputs,)
    save_file(dict(zip(asked["outputs"], found, strict=True)), scratch / _OUTPUTS)


if __name__ == "__main__":
    main(sys.argv[1:])
