"""Profiles of ``.pte`` files on this machine.

Everything is measured in child processes (see :mod:`.child`), per thread count: each file alone for load time, first
run and memory; several files in turn for the timed runs; and, if operators are asked for, each file once more with the
event tracer on, because tracing costs time.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dualpix.capture.processor import pytorch_processor
from dualpix.export.artefact import type_name
from dualpix.export.bench import EAGER
from dualpix.export.errors import ProfileError
from dualpix.export.executorch.runtime import TensorForm
from dualpix.export.executorch.stored import Record, StoredProgram, read_program, read_record, record_of
from dualpix.export.manifest import machine, sha256_of, tool_versions
from dualpix.export.profile.result import Delegated, Memory, Peaks, Profile, Settings, Subject, TargetFacts
from dualpix.export.profile.target import OnStep, ProfileRequest
from dualpix.export.profile.trace import operators, read_trace
from dualpix.quantize.calibration import Inputs

_TIMEOUT_S = 1800
_MAX_TRACED = 60
_MAX_INPUT_BYTES = 1 << 30
_SEED = 0


@dataclass(frozen=True)
class _Bench:
    """What all children share."""

    request: ProfileRequest
    scratch: Path
    inputs: Path


def profile_on_host(
    request: ProfileRequest, address: str = "", on_step: OnStep = lambda done, total, what: None
) -> tuple[Profile, ...]:
    """Profile ``request.files``, and the eager network if asked for, on this machine.

    Raises:
        ProfileError: a file is no ``.pte``, does not load or run here, or takes other inputs than those given.
    """
    programs = {path: read_program(path) for path in request.files}
    records = {path: read_record(r) if (r := record_of(path)) else Record() for path in request.files}
    tensors = _inputs(request, programs)
    if len({p.name for p in request.files}) != len(request.files):
        raise ProfileError("two files have the same name", expected="files with different names")
    several = len(request.files) + bool(request.eager) > 1
    steps = len(request.threads) * (len(request.files) * (1 + request.operators) + several)
    done = 0

    def step(what: str) -> None:
        nonlocal done
        on_step(done, steps, what)
        done += 1

    profiles: list[Profile] = []
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "inputs.safetensors"
        save_file({f"{i:03}": t.contiguous() for i, t in enumerate(tensors)}, given)
        bench = _Bench(request, Path(folder), given)
        for threads in request.threads:
            alone = []
            for path in request.files:
                step(f"{path.name}, {threads} thread(s)")
                alone.append(_alone(bench, path, threads, programs[path], several))
            if several:
                step(f"{len(request.files) + bool(request.eager)} networks in turn, {threads} thread(s)")
                alone = _together(bench, alone, threads)
            for index, path in enumerate(request.files if request.operators else ()):
                step(f"operators of {path.name}, {threads} thread(s)")
                alone[index] = _traced(bench, alone[index], path, threads, programs[path], records[path])
            profiles += alone
    return tuple(profiles)


def _inputs(request: ProfileRequest, programs: Mapping[Path, StoredProgram]) -> Inputs:
    first, *others = programs
    forms = programs[first].inputs
    for other in others:
        if programs[other].inputs != forms:
            raise ProfileError(
                f"'{other.name}' takes {_text(programs[other].inputs)}",
                expected=f"{_text(forms)} like '{first.name}'",
                hint="files that are compared must take the same inputs",
            )
    if request.inputs is None:
        generator = torch.Generator().manual_seed(_SEED)
        return tuple(_made_up(form, generator) for form in forms)
    tensors = _read_inputs(request.inputs)
    found = tuple(TensorForm(tuple(t.shape), t.dtype) for t in tensors)
    if found != forms:
        raise ProfileError(f"'{request.inputs}' holds {_text(found)}", expected=_text(forms))
    return tensors


def _made_up(form: TensorForm, generator: torch.Generator) -> torch.Tensor:
    """Random floats in 0..1; zeros of other types, which are within the range of whatever they index."""
    if form.dtype.is_floating_point:
        return torch.rand(form.shape, generator=generator).to(form.dtype)
    return torch.zeros(form.shape, dtype=form.dtype)


def _read_inputs(path: Path) -> Inputs:
    try:
        if path.stat().st_size > _MAX_INPUT_BYTES:
            raise ProfileError(f"'{path}' has {path.stat().st_size} bytes", expected=f"at most {_MAX_INPUT_BYTES}")
        return tuple(tensor for _, tensor in sorted(load_file(path).items()))
    except (OSError, SafetensorError) as error:
        raise ProfileError(f"'{path}' cannot be read", expected="a safetensors file") from error


def _text(forms: Sequence[TensorForm]) -> str:
    return ", ".join(f"{'x'.join(map(str, f.shape)) or 'a scalar'} {type_name(f.dtype)}" for f in forms) or "no inputs"


def _alone(bench: _Bench, path: Path, threads: int, program: StoredProgram, several: bool) -> Profile:
    request = bench.request
    runs = 0 if several else request.runs
    answer = _child(bench, path.name, {"what": "alone", "files": [str(path)], "threads": threads, "runs": runs})
    peaks = Peaks(**answer["peaks"])
    profile = Profile(
        subject=Subject(path.name, sha256_of(path), recipe_of(path)),
        target=host_facts(),
        settings=Settings(threads, request.warmup, request.runs),
        load_s=answer["load_s"],
        first_s=answer["first_s"],
        samples_s=(),
        p50_s=None,
        p90_s=None,
        p99_s=None,
        mean_s=None,
        memory=Memory(peak_rss_bytes=answer["peak_rss_bytes"], arena_bytes=program.arena_bytes),
        peaks=peaks,
        delegated=Delegated(*program.shares()),
    )
    return profile if several else profile.timed(answer["samples_s"], answer["processor_s"])


def _together(bench: _Bench, alone: list[Profile], threads: int) -> list[Profile]:
    request = bench.request
    files = [str(path) for path in request.files]
    name = " and ".join(path.name for path in request.files)
    answer = _child(bench, name, {"what": "together", "files": files, "threads": threads, "runs": request.runs})
    if request.eager:
        eager = replace(
            alone[0],
            subject=Subject(EAGER, "", None),
            target=_eager_facts(alone[0].target),
            load_s=answer["eager_load_s"],
            first_s=answer["eager_first_s"],
            memory=Memory(),
            delegated=None,
        )
        alone = [*alone, eager]
    keys = files + [EAGER] * bool(request.eager)
    names = {key: p.subject.file for key, p in zip(keys, alone, strict=True)}
    profiles = []
    for key, profile in zip(keys, alone, strict=True):
        others = tuple(names[other] for other in keys if other != key)
        found = {names[other]: ratio for other, ratio in answer["ratios"][key].items()}
        changed = replace(
            profile,
            settings=replace(profile.settings, interleaved_with=others),
            ratios={other: float(ratio["median"]) for other, ratio in found.items()},
            ratio_iqrs={other: float(ratio["iqr"]) for other, ratio in found.items()},
            ratios_of=answer["ratios_of"],
        )
        profiles.append(changed.timed(**answer["samples"][key]))
    return profiles


def _traced(
    bench: _Bench, profile: Profile, path: Path, threads: int, program: StoredProgram, record: Record
) -> Profile:
    etdump = bench.scratch / "trace.etdp"
    etdump.unlink(missing_ok=True)
    runs = min(max(bench.request.runs, 5), _MAX_TRACED)
    what = {"what": "trace", "files": [str(path)], "threads": threads, "runs": runs, "etdump": str(etdump)}
    _child(bench, path.name, what)
    rows, trace = operators(read_trace(etdump), program, record)
    return replace(profile, operators=rows, trace=trace)


def _child(bench: _Bench, name: str, request: dict[str, Any]) -> dict[str, Any]:
    question, answer = bench.scratch / "request.json", bench.scratch / "answer.json"
    answer.unlink(missing_ok=True)
    common = {"inputs": str(bench.inputs), "warmup": bench.request.warmup, "eager": bench.request.eager}
    question.write_text(json.dumps(common | request))
    command = [sys.executable, "-m", "dualpix.export.profile.child", str(question), str(answer)]
    # OpenMP's idle threads of the eager network spin, and would take the runtime's processor time
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise ProfileError(f"'{name}' does not end within {_TIMEOUT_S} s", hint="choose fewer --runs") from error
    if done.returncode < 0:
        raise ProfileError(f"'{name}' brings the runtime down: {signal.Signals(-done.returncode).name}")
    if done.returncode or not answer.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ProfileError(f"'{name}' cannot be profiled: {last}")
    result: dict[str, Any] = json.loads(answer.read_text())
    if "error" in result:
        raise ProfileError(result["error"])
    return result


def host_facts() -> TargetFacts:
    """This machine."""
    facts, runtime = machine(), f"executorch {tool_versions()['executorch']}"
    device, processor = platform.node() or "host", facts["processor"]
    return TargetFacts("host", device, processor, facts["system"], runtime, facts["class"], facts["features"])


def _eager_facts(host: TargetFacts) -> TargetFacts:
    """This machine as PyTorch may use it."""
    described = pytorch_processor().describe()
    runtime = f"torch {torch.__version__}"
    return replace(host, runtime=runtime, processor_class=described["class"], processor_features=described["features"])


def recipe_of(path: Path) -> str | None:
    """The recipe that a manifest in the file's folder names for it."""
    from dualpix.export.manifest import ManifestError, read_manifest

    try:
        entries = read_manifest(path.parent)["artefacts"]
        return next((str(e["recipe"]) for e in entries if e.get("file") == path.name), None)
    except (ManifestError, AttributeError, KeyError):
        return None
