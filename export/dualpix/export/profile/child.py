"""The measurements of one thread count in a process of its own: ``python -m dualpix.export.profile.child``.

The runtime's threads are fixed by the first program a process loads, peak memory belongs to a process, and a program
that the runtime cannot handle may end it: so the profiler asks children.
"""

from __future__ import annotations

import itertools
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import write_json
from dualpix.export.bench import EAGER, Benchmark, interleaved
from dualpix.export.executorch.runtime import PteProgram, set_threads
from dualpix.export.profile.result import Peaks
from dualpix.quantize.calibration import Inputs

_GEMM_SIDE, _COPY_PIECE_BYTES, _COPY_PIECES, _PEAK_S, _MAX_PAUSE_S = 384, 2 << 20, 64, 0.5, 0.02


def main(arguments: list[str]) -> None:
    """Carry out the measurement that REQUEST describes and write RESULT; a user error becomes {"error": text}."""
    request = json.loads(Path(arguments[0]).read_text())
    try:
        answer = {"alone": _alone, "together": _together, "trace": _trace}[request["what"]](request)
    except DualpixError as error:
        answer = {"error": str(error)}
    write_json(Path(arguments[1]), answer)


def _alone(request: dict[str, Any]) -> dict[str, Any]:
    """Load time, first run, memory and the timed runs of one file."""
    threads, inputs = request["threads"], _inputs(request)
    path = Path(request["files"][0])
    set_threads(threads)  # its import is no part of loading
    _reset_peak()
    before = _peak_bytes()
    start = time.perf_counter()
    program = PteProgram(path, threads)
    load_s = time.perf_counter() - start
    start = time.perf_counter()
    program(inputs)
    first_s = time.perf_counter() - start
    for _ in range(request["warmup"]):
        program(inputs)
    rss = max(0, _peak_bytes() - before)
    result: dict[str, Any] = {"load_s": load_s, "first_s": first_s, "peak_rss_bytes": rss}
    if request["runs"]:
        bench = interleaved({"it": partial(program, inputs)}, size_hw=(0, 0), threads=threads, rounds=request["runs"])
        result |= _samples_of(bench)["it"]
    return result | {"peaks": asdict(measure_peaks(threads))}


def _together(request: dict[str, Any]) -> dict[str, Any]:
    """The timed runs of several files, and of the eager network, in turn."""
    threads, inputs = request["threads"], _inputs(request)
    programs = {str(name): PteProgram(Path(name), threads) for name in request["files"]}
    candidates: dict[str, Callable[[], object]] = {name: partial(p, inputs) for name, p in programs.items()}
    eager: dict[str, float] = {}
    if request["eager"]:
        candidates[EAGER], eager["eager_load_s"], eager["eager_first_s"] = _eager(request["eager"], inputs, threads)
    bench = interleaved(
        candidates, size_hw=(0, 0), threads=threads, rounds=request["runs"], warmup=max(1, request["warmup"])
    )
    ratios = {
        name: {other: {"median": ratio.median, "iqr": ratio.iqr} for other, ratio in bench.ratios(name).items()}
        for name in bench.latencies
    }
    return {"samples": _samples_of(bench), "ratios": ratios, "ratios_of": bench.ratios_of} | eager


def _samples_of(bench: Benchmark) -> dict[str, dict[str, Any]]:
    """Wall and processor times of each candidate's runs."""
    return {
        name: {"samples_s": latency.samples_s, "processor_s": latency.processor_s}
        for name, latency in bench.latencies.items()
    }


def _eager(model: str, inputs: Inputs, threads: int) -> tuple[Callable[[], object], float, float]:
    """One run of the float network, its load time and its first run in seconds."""
    from dualpix.models.zoo import load_model

    torch.set_num_threads(threads)
    start = time.perf_counter()
    module = load_model(model).module
    loaded = time.perf_counter()
    try:
        with torch.inference_mode():
            module(*inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        shapes = ", ".join("x".join(map(str, t.shape)) for t in inputs)
        raise DualpixError(f"network '{model}' does not take inputs of {shapes}") from error
    return partial(module, *inputs), loaded - start, time.perf_counter() - loaded


def _trace(request: dict[str, Any]) -> dict[str, Any]:
    """Run one file with the event tracer on and leave the ETDump file at ``request["etdump"]``."""
    path, inputs = Path(request["files"][0]), _inputs(request)
    program = PteProgram(path, request["threads"], etdump=Path(request["etdump"]))
    pause = random.Random(0)
    for _ in range(request["runs"] + 1):
        # else a busy machine's time slices may keep step with the runs, and interrupt the same kernel in most of them
        time.sleep(pause.uniform(0, _MAX_PAUSE_S))
        program(inputs)
    program.save_etdump()
    return {}


def _inputs(request: dict[str, Any]) -> Inputs:
    return tuple(tensor for _, tensor in sorted(load_file(request["inputs"]).items()))


def _reset_peak() -> None:
    """Forget the peak so far, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_bytes() -> int:
    """Peak resident memory of this process."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak << 10


def measure_peaks(threads: int, seconds: float = _PEAK_S) -> Peaks:
    """The fastest float32 matrix product and memory copy seen in about ``seconds`` each, with ``threads`` threads.

    Both are short pieces of work, so that some of them are not interrupted by other programs; the copy walks through
    more memory than caches hold.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b, out = (torch.rand(_GEMM_SIDE, _GEMM_SIDE) for _ in range(3))
        source = torch.rand(_COPY_PIECES, _COPY_PIECE_BYTES // 4)
        target = torch.empty_like(source)
        pieces = itertools.cycle(range(_COPY_PIECES))
        gemm = min(_samples(lambda: torch.mm(a, b, out=out), seconds))
        copies = _samples(lambda: target[(piece := next(pieces))].copy_(source[piece]), seconds)
    finally:
        torch.set_num_threads(before)
    return Peaks(_GEMM_SIDE**3 / gemm, 2 * _COPY_PIECE_BYTES / float(np.percentile(copies, 10)))


def _samples(run: Callable[[], object], seconds: float) -> list[float]:
    samples: list[float] = []
    end = time.perf_counter() + seconds
    for index in itertools.count():
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        samples.append(now - start)
        if now > end and index >= 2 * _COPY_PIECES:
            return samples[_COPY_PIECES:]  # the first round touches its memory for the first time
    raise AssertionError


if __name__ == "__main__":
    main(sys.argv[1:])
