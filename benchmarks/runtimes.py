"""What other runtimes make of a network that ``dualpix export`` wrote: time and quality, on the same inputs.

    pip install onnx==1.23.2 onnxruntime==1.23.2 openvino==2026.4.1 nncf==3.4.0
    dualpix export dplive -o live/ --recipe xnnpack-fp32 --recipe xnnpack-int8 --size 384x512
    python -m benchmarks.runtimes live/ [MORE/ ...] [--operators] [-o docs/results/live/1-runtimes.json]

Every row runs in one process, one after the other in interleaved rounds, on one thread; the time is the processor's.
The networks are converted by way of one ONNX file each. ONNX Runtime's and OpenVINO's int8 are their own static
quantisations of it, on scenes that the exporter calibrates on: *as it comes* of all they know, and *as here* of
the convolutions, without the layers that the exporter leaves in float. The inputs that judge are its evaluation scenes.

Convention: dB is the signal-to-noise ratio of the first output against PyTorch's float32; the loss is of the task's
metric, relative, against the truth. Neither sees terraces, so two more figures look at the shape of surfaces:
*roughness* is the root mean square of what a runtime adds to the float map in patches of 16 x 16 px once a plane is
taken off it, relative to the float map's own in the smoother half of the patches; *equal* is the share of horizontal
neighbours with the very same value.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from benchmarks.record import Figure, Result, Row, new_result
from torch import Tensor

from dualpix.capture.progress import ProgressLine
from dualpix.export.artefact import quiet
from dualpix.export.bench import Benchmark, interleaved
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.manifest import Declared, read_manifest
from dualpix.models.blocks.channels import float_islands
from dualpix.models.networks.spec import fix_size
from dualpix.models.zoo import load_model
from dualpix.quantize.calibration import Inputs, rendered_calibration, rendered_evaluation
from dualpix.quantize.score import Array, Difference, Outputs, Predict, arrays_of
from dualpix.quantize.task_metrics import task_metrics

RESULT = Path(__file__).parents[1] / "docs" / "results" / "live" / "1-runtimes.json"
"""Shown in docs/networks/dplive.md."""
COLUMNS = {
    "time": "ms",
    "over eager": "x",
    "agreement": "dB",
    "loss of AI(1)": "%",
    "roughness": "%",
    "equal": "%",
    "file": "MB",
}
_PEERS = ("onnx", "onnxruntime", "openvino", "nncf")
_OPSET = 17
PATCH_PX = 16
"""Side of the patches whose planes are taken off."""
_SHOWN = 8
_WAYS = 9
"""To run a network that was exported by two recipes."""


@dataclass(frozen=True)
class Network:
    """One export, and what its network is judged on."""

    name: str
    module: torch.nn.Module
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    calibration: tuple[Inputs, ...]
    judged_on: tuple[Inputs, ...]
    loss: Callable[[Sequence[Outputs], Sequence[Outputs]], float]
    """Metric of (outputs, references) against the truth."""
    programs: Mapping[str, Path]
    """By recipe."""

    def islands(self) -> tuple[str, ...]:
        """Layers that the exporter leaves in float."""
        return float_islands(self.module)


@dataclass(frozen=True)
class Candidate:
    """One way to run a network."""

    predict: Predict
    file_bytes: int | None = None
    operators: Callable[[], Mapping[str, float]] | None = None
    """Milliseconds by kind of operator of one run."""


def network_of(folder: Path, calibrate: int, judge: int) -> Network:
    """What an export's folder and the model that it was made from say."""
    manifest = read_manifest(folder)
    declared, model = Declared.of(manifest), load_model(str(manifest["model"]["name"]))
    size = next(iter(declared.inputs.values()))[0][-2:]
    size_hw = (int(size[0]), int(size[1]))
    evaluation = rendered_evaluation(judge, size_hw, model.spec)
    judged_on = tuple(sample.inputs for sample in evaluation.samples)
    fix_size(model.module, judged_on[0])
    metric = task_metrics(evaluation, list(declared.output_names))[0]
    return Network(
        model.name,
        model.module,
        tuple(declared.inputs),
        declared.output_names,
        rendered_calibration(calibrate, size_hw, model.spec).samples,
        judged_on,
        metric.measure,
        {str(e["recipe"]): folder / str(e["file"]) for e in manifest["artefacts"]},
    )


def candidates(network: Network, work: Path) -> Iterator[tuple[str, Callable[[], Candidate]]]:
    """Every way to run it, to be made one by one."""
    yield "PyTorch, eager", lambda: Candidate(lambda inputs: network.module(*inputs))
    for recipe, path in network.programs.items():
        yield f"ExecuTorch, {recipe}", partial(_program, path)
    onnx = work / f"{network.name}.onnx"
    names = list(network.input_names)
    with quiet(), torch.no_grad():
        torch.onnx.export(
            network.module, network.judged_on[0], str(onnx), dynamo=False, opset_version=_OPSET, input_names=names,
            output_names=list(network.output_names),
        )  # fmt: skip
    yield "ONNX Runtime, float32", partial(_ort, onnx, network)
    for kind, alike in (("as it comes", False), ("as here", True)):
        yield f"ONNX Runtime, int8 {kind}", partial(_ort_int8, onnx, network, alike)
    yield "OpenVINO, float32", partial(_openvino, onnx, network, None)
    for kind, alike in (("as it comes", False), ("as here", True)):
        yield f"OpenVINO, int8 {kind}", partial(_openvino, onnx, network, alike)


def _program(path: Path) -> Candidate:
    return Candidate(PteProgram(path), path.stat().st_size)


def _fed(network: Network, inputs: Inputs) -> dict[str, Any]:
    return {name: t.numpy() for name, t in zip(network.input_names, inputs, strict=True)}


# --- ONNX Runtime -------------------------------------------------------------------------------------------------


def _ort(path: Path, network: Network) -> Candidate:
    session = _session(path)

    def predict(inputs: Inputs) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(a) for a in session.run(list(network.output_names), _fed(network, inputs)))

    def operators() -> dict[str, float]:
        traced = _session(path, str(path.with_suffix("")))
        runs = 10
        for _ in range(runs):
            traced.run(None, _fed(network, network.judged_on[0]))
        events = json.loads(Path(traced.end_profiling()).read_text())
        kernels = [e for e in events if e.get("cat") == "Node" and str(e.get("name", "")).endswith("_kernel_time")]
        return _summed((str(e["args"]["op_name"]), e["dur"] / 1e3 / runs) for e in kernels)

    return Candidate(predict, path.stat().st_size, operators)


def _session(path: Path, trace: str = "") -> Any:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if trace:
        options.enable_profiling, options.profile_file_prefix = True, trace
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _ort_int8(path: Path, network: Network, alike: bool) -> Candidate:
    quantization = import_module("onnxruntime.quantization")
    prepared, output = path.with_suffix(".prepared.onnx"), path.with_suffix(f".{'alike' if alike else 'stock'}.onnx")
    import_module("onnxruntime.quantization.shape_inference").quant_pre_process(
        str(path), str(prepared), skip_symbolic_shape=True
    )
    graph = import_module("onnx").load(str(prepared)).graph
    kept = [node.name for node in graph.node if alike and _within(node.name, network.islands())]

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self._left = iter(network.calibration)

        def get_next(self) -> dict[str, Any] | None:
            inputs = next(self._left, None)
            return None if inputs is None else _fed(network, inputs)

    quantization.quantize_static(
        str(prepared), str(output), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QInt8, weight_type=quantization.QuantType.QInt8, nodes_to_exclude=kept,
        op_types_to_quantize=["Conv", "Concat", "Add"] if alike else None,
    )  # fmt: skip
    return _ort(output, network)


def _within(node: str, layers: Sequence[str]) -> bool:
    """Whether a node of the ONNX file is of one of these layers of the network."""
    return any(f"/{node.strip('/')}/".startswith(f"/{layer.replace('.', '/')}/") for layer in layers)


# --- OpenVINO -----------------------------------------------------------------------------------------------------


def _openvino(path: Path, network: Network, alike: bool | None) -> Candidate:
    """Float32 where ``alike`` is None."""
    openvino = import_module("openvino")
    model = openvino.Core().read_model(str(path))
    if alike is not None:
        nncf = import_module("nncf")
        kept = [op.get_friendly_name() for op in model.get_ops()] if alike else []
        kept = [name for name in kept if _within(name, network.islands())]
        data = nncf.Dataset(list(network.calibration), lambda inputs: _fed(network, inputs))
        scope = nncf.IgnoredScope(names=kept, validate=False)
        model = nncf.quantize(model, data, subset_size=len(network.calibration), ignored_scope=scope)
    weights = path.with_suffix(f".{alike}.bin")
    openvino.save_model(model, str(weights.with_suffix(".xml")), compress_to_fp16=False)
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def predict(inputs: Inputs) -> tuple[Tensor, ...]:
        found = request.infer(_fed(network, inputs))
        return tuple(torch.from_numpy(np.array(found[i])) for i in range(len(network.output_names)))

    def operators() -> dict[str, float]:
        counted = openvino.Core().compile_model(model, "CPU", settings | {"PERF_COUNT": True}).create_infer_request()
        counted.infer(_fed(network, network.judged_on[0]))
        found: dict[str, float] = defaultdict(float)
        runs = 10
        for _ in range(runs):
            counted.infer(_fed(network, network.judged_on[0]))
            for info in counted.profiling_info:
                found[f"{info.node_type} {info.exec_type}"] += info.real_time.total_seconds() * 1e3 / runs
        return dict(found)

    return Candidate(predict, weights.stat().st_size + weights.with_suffix(".xml").stat().st_size, operators)


# --- the table ----------------------------------------------------------------------------------------------------


def _summed(pairs: Iterator[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for name, value in pairs:
        found[name] += value
    return dict(found)


def _quality(network: Network, predict: Predict, references: Sequence[Outputs]) -> dict[str, Figure]:
    outputs = [arrays_of(predict(inputs)) for inputs in network.judged_on]
    difference = Difference.between([o[0] for o in outputs], [r[0] for r in references])
    base = network.loss(references, references)
    loss = 100 * (network.loss(outputs, references) / base - 1)
    maps = [(o[0][0, 0], r[0][0, 0]) for o, r in zip(outputs, references, strict=True)]
    return {
        "agreement": Figure.exact(difference.sqnr_db),
        "loss of AI(1)": Figure.exact(loss),
        "roughness": Figure.exact(100 * float(np.mean([added_roughness(*pair) for pair in maps]))),
        "equal": Figure.exact(100 * float(np.mean([equal_neighbours(found) for found, _ in maps]))),
    }


def added_roughness(found: Array, reference: Array) -> float:
    """What ``found`` adds to the smoother half of ``reference``, (H, W) both, relative to the roughness there."""
    own, added = roughness(reference), roughness(found - reference)
    smooth = own <= np.median(own)
    return float(np.sqrt(np.mean(added[smooth] ** 2) / max(np.mean(own[smooth] ** 2), np.finfo(np.float64).tiny)))


def roughness(values: Array) -> Array:
    """Root mean square of each whole patch of 16 x 16 values of (H, W), once the plane that fits best is taken off."""
    height, width = (side // PATCH_PX for side in values.shape)
    rows, columns = np.mgrid[:PATCH_PX, :PATCH_PX]
    plane = np.stack([np.ones(PATCH_PX**2), rows.ravel(), columns.ravel()], 1)
    whole = values[: height * PATCH_PX, : width * PATCH_PX].reshape(height, PATCH_PX, width, PATCH_PX)
    patches = whole.swapaxes(1, 2).reshape(height * width, PATCH_PX**2)
    rest = patches - patches @ (plane @ np.linalg.pinv(plane)).T
    return np.asarray(np.sqrt(np.mean(rest**2, axis=1)))


def equal_neighbours(values: Array) -> float:
    """Share of horizontal neighbours in (H, W) that have the very same value: 1 of terraces."""
    return float(np.mean(np.diff(values, axis=1) == 0))


def measured(networks: Sequence[Network], work: Path, rounds: int, *, operators: bool) -> tuple[list[Row], list[str]]:
    """All rows, and why others are missing: releases of the peers do not all go together."""
    missing: list[str] = []
    made: dict[str, tuple[Network, Candidate]] = {}
    rows: dict[str, dict[str, Figure]] = {}
    references = {}
    for network in networks:
        with torch.inference_mode():
            references[network.name] = [arrays_of(network.module(*inputs)) for inputs in network.judged_on]
        for label, make in candidates(network, work):
            name = f"{network.name}: {label}"
            with ProgressLine("runtimes") as line, torch.inference_mode():
                line.update(len(made), len(networks) * _WAYS, name)
                try:
                    candidate = make()
                except Exception as error:  # a peer raises anything
                    missing.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:160]}")
                    continue
                rows[name] = _quality(network, candidate.predict, references[network.name])
            if candidate.file_bytes is not None:
                rows[name]["file"] = Figure.exact(candidate.file_bytes / 1e6)
            made[name] = network, candidate
    found = _timed(made, rounds)
    for name, (network, candidate) in made.items():
        eager = f"{network.name}: PyTorch, eager"
        rows[name]["time"] = Figure.of([1e3 * s for s in found.latencies[name].processor_s])
        if name != eager:
            rows[name]["over eager"] = Figure.of(list(found.ratio(name, eager).samples))
        if operators and candidate.operators is not None:
            _say(name, candidate.operators())
    return [Row(name, figures) for name, figures in rows.items()], missing


def _timed(made: Mapping[str, tuple[Network, Candidate]], rounds: int) -> Benchmark:
    calls = {name: partial(c.predict, network.judged_on[0]) for name, (network, c) in made.items()}
    height, width = next(iter(made.values()))[0].judged_on[0][0].shape[-2:]
    return interleaved(calls, size_hw=(height, width), rounds=rounds)


def _say(name: str, operators: Mapping[str, float]) -> None:
    click.echo(f"{name}: {sum(operators.values()):.2f} ms")
    for kind, ms in sorted(operators.items(), key=lambda pair: -pair[1])[:_SHOWN]:
        click.echo(f"    {ms:7.3f} ms  {kind}")


def _result(
    rows: Sequence[Row], missing: Sequence[str], networks: Sequence[Network], folders: Sequence[Path], rounds: int
) -> Result:
    height, width = networks[0].judged_on[0][0].shape[-2:]
    notes = (
        f"{height} x {width} px, one thread, {rounds} interleaved rounds in one process; time is the processor's, and "
        "'over eager' the median of how many times faster than PyTorch it is. Agreement with PyTorch's float32 "
        f"and loss of AI(1) on {len(networks[0].judged_on)} rendered scenes; programs as exported, the others' int8 "
        f"calibrated on {len(networks[0].calibration)} scenes. "
        f"{', '.join(f'{name} {version(name)}' for name in _PEERS)}. "
        f"Load average at the end {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs."
        + "".join(f" Not made: {reason}." for reason in missing)
    )
    command = f"python -m benchmarks.runtimes {' '.join(f'{folder.name}/' for folder in folders)}"
    return new_result("The same networks in other runtimes", command, COLUMNS, rows, notes=notes)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULT, help="File of the result.")
@click.option("--rounds", type=click.IntRange(1), default=15)
@click.option("--calibrate", type=click.IntRange(1), default=24, help="Scenes; the exporter's own default.")
@click.option("--judge", type=click.IntRange(1), default=12, help="Scenes; the exporter's own default.")
@click.option("--operators", is_flag=True, help="Also print where the others' time goes, by kind of operator.")
def main(folders: tuple[Path, ...], output: Path, rounds: int, calibrate: int, judge: int, operators: bool) -> None:
    """Measure the exports in FOLDERS beside other runtimes."""
    torch.set_num_threads(1)
    networks = [network_of(folder, calibrate, judge) for folder in folders]
    with tempfile.TemporaryDirectory() as scratch:
        rows, missing = measured(networks, Path(scratch), rounds, operators=operators)
    result = _result(rows, missing, networks, folders, rounds)
    result.write(output)
    for row in result.rows:
        click.echo(f"{row.label}: " + ", ".join(f"{name} {f.value:.4g}" for name, f in row.figures.items()))
    click.echo(f"-> {output}")


if __name__ == "__main__":
    main()
