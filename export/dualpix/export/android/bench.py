"""Measuring ``.pte`` files on a phone, through the app: for ``android bench`` and for ``profile --on adb:SERIAL``.

Convention: what the output must be is what this host's runtime gives for the same file and inputs, or what the export
stored; the phone may differ from each output by a share of its largest value, because another processor rounds another
way.
Files are measured one after the other, so no ratios between them are given: a phone slows down as it warms up.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dualpix.capture.cameras.android.device import Phone
from dualpix.capture.cameras.android.protocol import PACKAGE
from dualpix.export.android import protocol
from dualpix.export.android.phone import PhoneFacts, check_ready, clean_up, connect, facts_of, new_name, push_checked
from dualpix.export.android.protocol import BenchError, BenchRequest, ExpectedFile, TensorFile
from dualpix.export.artefact import ExportError
from dualpix.export.executorch.probe import run_apart
from dualpix.export.executorch.stored import read_program
from dualpix.export.flow.record import FLOAT, REFERENCE, reference_key
from dualpix.export.manifest import check_entry, read_manifest, sha256_of
from dualpix.export.profile.host import recipe_of
from dualpix.export.profile.result import Profile
from dualpix.export.profile.target import OnStep, ProfileRequest
from dualpix.export.recipes import RECIPES
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.score import tensors_of

LIMIT_S = 900.0
"""For the app to measure one file."""
_SHARE = {"fp32": 1e-3, "fp16": 0.02}
_SHARE_QUANTISED = 0.05
_SHARE_FLOAT = 0.25
"""Where nothing but the float network's output is known, and the precision is lower."""
_POLL_S = (0.02, 0.5)
"""First and longest pause between two looks for the result."""
_MOST_BYTES = protocol.MAX_RESULT_BYTES + 1
"""One more than there may be, so that too many are seen."""
_GONE_LOOKS = 3
"""In a row at which the app is not running, before it counts as ended."""
_MAX_INPUT_BYTES = 1 << 30
_OUTPUT_TYPES = (torch.float32, torch.uint8, torch.int32, torch.int64)
"""Which ExecuTorch's Java classes give; they have no bool."""
_SEED = 0


@dataclass(frozen=True)
class Case:
    """A program with inputs and the outputs that are to come."""

    path: Path
    sha256: str
    recipe: str | None
    inputs: Inputs
    expected: tuple[Tensor, ...]
    max_abs: tuple[float, ...]
    """Of each output."""


def profile_on_device(
    request: ProfileRequest, address: str, on_step: OnStep = lambda done, total, what: None
) -> tuple[Profile, ...]:
    """Profile ``request.files`` on the phone with serial ``address``; for every file the output is verified first.

    Operators are not timed there: the app's runtime has no event tracer.

    Raises:
        BenchError: an eager network is asked for, or see :func:`bench_on`.
        DualpixError: a file is no ``.pte``, or the phone cannot be reached.
    """
    if request.eager:
        raise BenchError("the eager network does not run on a phone", hint="leave out --eager")
    on_step(0, 1 + len(request.files), "expected outputs")
    cases = make_cases(request.files, request.inputs)
    return bench_on(connect(address), cases, request, on_step=on_step)


def make_cases(files: Sequence[Path], inputs: Path | None = None, max_abs: float | None = None) -> tuple[Case, ...]:
    """Programs with what they shall compute.

    Args:
        files: the programs.
        inputs: safetensors file, tensors in the order of their names; ``None`` takes those that the export stored, or
            random values in 0..1.
        max_abs: largest difference allowed; ``None`` takes a share of the output's largest value.

    Raises:
        DualpixError: a file is no ``.pte`` or too large, takes other inputs, or what it computes is not known.
    """
    return tuple(_case(path, inputs, max_abs) for path in files)


def _case(path: Path, inputs: Path | None, max_abs: float | None) -> Case:
    program = read_program(path)
    shapes = program.input_shapes
    if any(form.dtype != torch.float32 for form in program.inputs):
        forms = ", ".join(map(str, program.inputs))
        raise BenchError(f"'{path.name}' takes {forms}", expected="float32 inputs, which is what is sent to the app")
    if path.stat().st_size > protocol.MAX_MODEL_BYTES:
        raise BenchError(f"'{path.name}' has {path.stat().st_size} bytes", expected=f"{protocol.MAX_MODEL_BYTES}")
    recipe = recipe_of(path)
    stored = _stored(path, recipe) if inputs is None else None
    tensors = stored[0] if stored else _read(inputs) if inputs else _random(shapes)
    found = tuple(tuple(t.shape) for t in tensors)
    if found != shapes or any(t.dtype != torch.float32 for t in tensors):
        raise BenchError(f"'{path.name}' is given {_shapes(found)}", expected=f"{_shapes(shapes)} of float32")
    expected, share = _expected(path, recipe, tensors, stored[1] if stored else {})
    allowed = tuple(_allowed(path, output, share, max_abs) for output in expected)
    return Case(path, sha256_of(path), recipe, tensors, expected, allowed)


def _allowed(path: Path, output: Tensor, share: float, max_abs: float | None) -> float:
    """How far the phone may be off an output."""
    if output.dtype not in _OUTPUT_TYPES:
        raise BenchError(f"'{path.name}' gives {output.dtype}", expected=", ".join(map(str, _OUTPUT_TYPES)))
    peak = float(output.abs().max())
    if not np.isfinite(peak):
        raise BenchError(f"'{path.name}' gives values that are not finite", expected="finite ones on these inputs")
    return max_abs if max_abs is not None else share * max(peak, 1e-6)


def _stored(path: Path, recipe: str | None) -> tuple[Inputs, Mapping[str, tuple[Tensor, ...]]] | None:
    """(inputs, outputs by recipe) of the export that the file is part of; raises where either was changed since."""
    if recipe is None or not (path.parent / REFERENCE).is_file():
        return None
    manifest = read_manifest(path.parent)
    for entry in (*manifest["artefacts"], *manifest.get("files", ())):
        if entry.get("file") in (path.name, REFERENCE):
            check_entry(path.parent, entry)
    try:
        names = [str(t["name"]) for t in manifest["input"]["tensors"]]
        outputs = [str(o["name"]) for o in manifest["outputs"]]
        tensors = load_file(path.parent / REFERENCE)
        inputs = tuple(tensors[f"input.{name}"] for name in names)
        made = {}
        for of in (FLOAT, recipe):
            keys = [reference_key(of, name, len(outputs) > 1) for name in outputs]
            if all(key in tensors for key in keys):
                made[of] = tuple(tensors[key] for key in keys)
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise BenchError(f"'{REFERENCE}' beside '{path.name}' is damaged", hint="export again") from error
    return inputs, made


def _read(path: Path) -> Inputs:
    try:
        if path.stat().st_size > _MAX_INPUT_BYTES:
            raise BenchError(f"'{path}' has {path.stat().st_size} bytes", expected=f"at most {_MAX_INPUT_BYTES}")
        return tuple(tensor for _, tensor in sorted(load_file(path).items()))
    except (OSError, SafetensorError) as error:
        raise BenchError(f"'{path}' cannot be read", expected="a safetensors file") from error


def _random(shapes: Sequence[tuple[int, ...]]) -> Inputs:
    generator = torch.Generator().manual_seed(_SEED)
    return tuple(torch.rand(shape, generator=generator) for shape in shapes)


def _expected(
    path: Path, recipe: str | None, inputs: Inputs, stored: Mapping[str, tuple[Tensor, ...]]
) -> tuple[tuple[Tensor, ...], float]:
    """(outputs, share of their largest values that the phone may be off)"""
    precision = RECIPES[recipe].precision if recipe in RECIPES else None
    share = _SHARE.get(precision or "", _SHARE_QUANTISED)
    if recipe and recipe in stored:
        return stored[recipe], share
    try:
        return tensors_of(run_apart(path, inputs)), share
    except ExportError as error:
        if FLOAT not in stored:  # a program for the phone's other processors does not run here
            raise BenchError(
                f"what '{path.name}' should compute is not known here: {error}",
                hint="measure a file in the folder that 'dualpix export' made",
            ) from error
        return stored[FLOAT], share if precision in _SHARE else _SHARE_FLOAT


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join("x".join(map(str, s)) for s in shapes) or "nothing"


def bench_on(
    phone: Phone,
    cases: Sequence[Case],
    request: ProfileRequest,
    *,
    limit_s: float = LIMIT_S,
    on_step: OnStep = lambda done, total, what: None,
) -> tuple[Profile, ...]:
    """Measure ``cases`` one after the other with ``request``'s threads, warm-up and runs.

    What was put on the phone is removed again, also after an error.

    Returns:
        Profiles of every file with every thread count: files in order within a thread count.

    Raises:
        BenchError: no app or no room on the phone, an output that is not what was expected, an app that reports an
            error, dies or does not answer within ``limit_s``, or an answer that cannot be trusted.
        CameraError: the phone is gone.
    """
    total = 1 + len(cases)
    by_file = []
    for index, case in enumerate(cases):
        on_step(1 + index, total, f"{case.path.name} on {phone.entry.model or phone.entry.serial}")
        facts = facts_of(phone)
        check_ready(facts, _size_of(case))
        by_file.append(tuple(_on(facts, p) for p in _measure(phone, case, request, limit_s)))
    on_step(total, total, "done")
    return tuple(profiles[k] for k in range(len(request.threads)) for profiles in by_file)


def _on(facts: PhoneFacts, profile: Profile) -> Profile:
    """With the processor, which adb tells and the app does not."""
    found = facts.processor.describe()
    target = replace(profile.target, processor_class=found["class"], processor_features=found["features"])
    return replace(profile, target=target)


def _size_of(case: Case) -> int:
    tensors = (*case.inputs, *case.expected)
    for tensor in tensors:
        if 4 * tensor.numel() > protocol.MAX_TENSOR_BYTES:
            raise BenchError(f"a tensor of {4 * tensor.numel()} bytes", expected=f"{protocol.MAX_TENSOR_BYTES}")
    return case.path.stat().st_size + sum(4 * tensor.numel() for tensor in tensors)


def _measure(phone: Phone, case: Case, request: ProfileRequest, limit_s: float) -> tuple[Profile, ...]:
    asked = BenchRequest(
        run_id=new_name(),
        sha256=case.sha256,
        inputs=tuple(TensorFile(protocol.input_file(i), tuple(t.shape)) for i, t in enumerate(case.inputs)),
        expected=tuple(
            ExpectedFile(protocol.expected_file(i), tuple(t.shape), most)
            for i, (t, most) in enumerate(zip(case.expected, case.max_abs, strict=True))
        ),
        threads=request.threads,
        warmup=request.warmup,
        runs=request.runs,
        recipe=case.recipe,
    )
    folder = protocol.run_folder(asked.run_id)
    try:
        _push(phone, folder, case, asked)
        content = _run(phone, folder, asked.run_id, limit_s)
        return protocol.read_result(content, asked, case.path.name)
    finally:
        clean_up(phone, folder)


def _push(phone: Phone, folder: str, case: Case, asked: BenchRequest) -> None:
    """The request last: where it is, all is."""
    tensors = {protocol.input_file(i): t for i, t in enumerate(case.inputs)}
    tensors |= {protocol.expected_file(i): t for i, t in enumerate(case.expected)}
    files = {protocol.MODEL: case.path.read_bytes()}
    files |= {name: np.ascontiguousarray(t.numpy(), "<f4").tobytes() for name, t in tensors.items()}
    files[protocol.REQUEST] = json.dumps(asked.to_json(), allow_nan=False).encode()
    there = {f"{folder}/{name}": content for name, content in files.items()}
    push_checked(phone, there)


def _run(phone: Phone, folder: str, run_id: str, limit_s: float) -> bytes:
    """Start the app and wait for what it writes."""
    phone.run("input", "keyevent", "KEYCODE_WAKEUP")
    phone.run("wm", "dismiss-keyguard")
    said = phone.run("am", "start", "-W", "-n", protocol.ACTIVITY, "--es", protocol.RUN_EXTRA, run_id)
    if any(line.startswith("Error") for line in said.splitlines()):
        raise BenchError(f"the app does not start: {said[-200:]}", hint="install the app that belongs to this version")
    content = _wait(phone, f"{folder}/{protocol.RESULT}", limit_s)
    return content if _is_json(content) else phone.read_from(f"{folder}/{protocol.RESULT}", 0, _MOST_BYTES)


def _wait(phone: Phone, path: str, limit_s: float, now: Callable[[], float] = time.monotonic) -> bytes:
    give_up, pause, gone = now() + limit_s, _POLL_S[0], 0
    while not (content := phone.read_from(path, 0, _MOST_BYTES)):
        # asked before the last look at the result: an app may end once it has written it
        gone = 0 if phone.run("pidof", PACKAGE) else gone + 1
        if gone >= _GONE_LOOKS:
            raise BenchError(
                "the app has ended without a result", hint="see 'adb logcat -d -b crash'; the network may need too much"
            )
        if now() > give_up:
            phone.run("am", "force-stop", PACKAGE)
            raise BenchError(f"no result from the app within {limit_s:g} s", hint="fewer --runs, or a longer --timeout")
        time.sleep(pause)
        pause = min(2 * pause, _POLL_S[1])
    return content


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True
