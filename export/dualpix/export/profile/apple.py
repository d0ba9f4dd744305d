"""Profiles of Core ML programs by coremltools' own tools, on a Mac.

``MLModelBenchmarker`` times loading and prediction; the time of an operator is the prediction time split by the cost
weights of the compute plan, so an estimate, as its documentation says. Files other than ``.mlpackage``, and every other
system, are refused in one line.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dualpix.capture.processor import host_processor
from dualpix.export.errors import ProfileError
from dualpix.export.manifest import sha256_of, tool_versions
from dualpix.export.profile.result import Delegated, Memory, Operator, Profile, Settings, Subject, TargetFacts, Trace
from dualpix.export.profile.target import OnStep, ProfileRequest

_SUFFIX = ".mlpackage"
_SEED = 0


def profile_on_apple(
    request: ProfileRequest, address: str = "", on_step: OnStep = lambda done, total, what: None
) -> tuple[Profile, ...]:
    """Profile Core ML programs on this Mac; Core ML chooses its own threads, so there is one profile per file.

    Raises:
        ProfileError: not a Mac, or a file is no Core ML program or does not load.
    """
    if sys.platform != "darwin":
        raise ProfileError(
            f"Core ML programs run on macOS only, this is {platform.system()}",
            hint="run this command on a Mac; 'dualpix export' checks their numbers here by interpreting them",
        )
    for path in request.files:
        if path.suffix != _SUFFIX or not path.is_dir():
            raise ProfileError(f"'{path}' is no Core ML program", expected=f"a {_SUFFIX} folder")
    profiles = []
    for index, path in enumerate(request.files):
        on_step(index, len(request.files), path.name)
        profiles.append(asyncio.run(_profile(path, request)))
    return tuple(profiles)


async def _profile(path: Path, request: ProfileRequest) -> Profile:
    import coremltools as ct
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    warmup = min(request.warmup, 1)  # the benchmarker does one or none
    try:
        model: Any = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit.ALL)
        inputs = _inputs(model)
        benchmarker: Any = MLModelBenchmarker(model)
        loading = await benchmarker.benchmark_load(iterations=1)
        first = await benchmarker.benchmark_predict(inputs=inputs, iterations=1)
        timed = await benchmarker.benchmark_predict(inputs=inputs, iterations=request.runs, warmup=warmup > 0)
        plan = await _operators(benchmarker, inputs, request) if request.operators else None
    except (RuntimeError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ProfileError(f"Core ML cannot run '{path.name}': {reason}") from error
    profile = Profile(
        subject=Subject(path.name, sha256_of(path)),
        target=apple_facts(),
        settings=Settings(1, warmup, request.runs),
        load_s=loading.samples[0] / 1e3,
        first_s=first.samples[0] / 1e3,
        samples_s=(),
        p50_s=None,
        p90_s=None,
        p99_s=None,
        mean_s=None,
        memory=Memory(),
        operators=plan,
        trace=_trace(plan, request.runs),
        delegated=_delegated(plan),
    )
    return profile.timed([ms / 1e3 for ms in timed.samples])


def _inputs(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(_SEED)
    described = model.get_spec().description.input
    return {i.name: generator.random(tuple(i.type.multiArrayType.shape), dtype=np.float32) for i in described}


async def _operators(benchmarker: Any, inputs: dict[str, Any], request: ProfileRequest) -> tuple[Operator, ...]:
    """Estimated times by operator: prediction time times the compute plan's cost weights."""
    infos: Any = await benchmarker.benchmark_operation_execution(inputs=inputs, iterations=request.runs)
    rows = []
    for info in infos:
        statistics, usage = info.measurement.statistics, info.compute_device_usage
        seconds = float(statistics.median) / 1e3 if statistics else 0.0
        device = type(usage.preferred_compute_device).__name__ if usage else "constant"
        name = info.spec.outputs[0].name if info.spec.outputs else info.spec.type
        rows.append((name, info.spec.type, device, seconds))
    total = sum(seconds for *_, seconds in rows) or 1.0
    return tuple(Operator(n, kind, None, None, device, s, s / total) for n, kind, device, s in rows)


def _trace(rows: tuple[Operator, ...] | None, runs: int) -> Trace | None:
    if rows is None:
        return None
    total = sum(o.median_s for o in rows)
    return Trace(runs, total, total)


def _delegated(rows: tuple[Operator, ...] | None) -> Delegated | None:
    """Off the CPU: what the compute plan puts on the GPU or the Neural Engine."""
    placed = [o for o in rows or () if o.backend != "constant"]
    return Delegated(None, sum("CPU" not in o.backend for o in placed) / len(placed)) if placed else None


def apple_facts() -> TargetFacts:
    """This Mac."""
    system, runtime = f"macOS {platform.mac_ver()[0]}", f"coremltools {tool_versions()['coremltools']}"
    processor = host_processor().describe()
    facts = (platform.node() or "Mac", platform.machine(), system, runtime, processor["class"], processor["features"])
    return TargetFacts("apple", *facts)
