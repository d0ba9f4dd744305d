"""Exported programs on real ARM64 kernels: the same files, the same inputs, the runtime that phones have.

A program is compared with the x86 runtime of this machine and, through the gate, with the float network. float32 may
differ by the order of sums; int8 by one step of the last tensor that is int8, for ARM64 rounds its products itself.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.arm64 import sysroot
from tests.support.foreign import foreign_modules, foreign_samples
from tests.support.tiny_net import scene, tiny_net
from torch import nn

from dualpix.export.artefact import BuildRequest
from dualpix.export.executorch import stored
from dualpix.export.executorch.program import read_structure
from dualpix.export.flow import limits_of
from dualpix.export.recipes import RECIPES
from dualpix.models.blocks.channels import float_islands
from dualpix.models.networks.spec import first_output
from dualpix.models.zoo import known_models, load_model
from dualpix.quantize.calibration import CalibrationSet, Inputs, rendered_calibration, rendered_evaluation
from dualpix.quantize.gate import Candidate, Outcome, judge
from dualpix.quantize.keep import KeepFloat, keep_modules, keep_nothing
from dualpix.quantize.limits import Limits
from dualpix.quantize.score import Accuracy, Metric, score
from dualpix.quantize.task_metrics import task_metrics

pytestmark = pytest.mark.slow

SIZE_HW = (128, 160)
RUN_PROGRAMS = Path(__file__).with_name("run_programs.py")
FLOAT_MAX_ABS = 1e-5
LIMIT_S = 1800
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """What is exported, and how its outputs are judged."""

    module: nn.Module
    calibration: CalibrationSet
    samples: tuple[Inputs, ...]
    limits: Mapping[str, Limits]
    metrics: tuple[Metric, ...] = ()
    keep_float: KeepFloat = keep_nothing

    def score(self, outputs: list[Array], references: list[Array]) -> Accuracy:
        return score([(o,) for o in outputs], [(r,) for r in references], self.metrics)


def zoo_network(name: str) -> Network:
    model = load_model(name)
    evaluation = rendered_evaluation(4, SIZE_HW, model.spec)
    return Network(
        model.module,
        rendered_calibration(8, SIZE_HW, model.spec),
        tuple(sample.inputs for sample in evaluation.samples),
        limits_of(model)[0],
        task_metrics(evaluation),
        keep_modules(*model.card.get("keep_float", ()), *float_islands(model.module)),
    )


def plain_network(module: nn.Module, samples: list[Inputs]) -> Network:
    """Without a task: judged by its difference from eager alone."""
    return Network(module, CalibrationSet(tuple(samples[:-2]), "seeded"), tuple(samples[-2:]), {})


def tiny_network() -> Network:
    torch.manual_seed(11)
    return plain_network(tiny_net(), [scene() for _ in range(6)])


def foreign_network(name: str) -> Network:
    return plain_network(foreign_modules()[name]()[0].eval(), foreign_samples(name, 6, seed=3))


NETWORKS: dict[str, Callable[[], Network]] = {
    "tiny": tiny_network,
    **{name: lambda name=name: zoo_network(name) for name in known_models()},  # type: ignore[misc]
    **{name: lambda name=name: foreign_network(name) for name in foreign_modules()},  # type: ignore[misc]
}
CASES = [
    *((name, recipe) for name in known_models() for recipe in ("xnnpack-fp32", "xnnpack-int8", "xnnpack-fp16")),
    *((name, recipe) for name in ("tiny", *foreign_modules()) for recipe in ("xnnpack-fp32", "xnnpack-int8")),
    ("vit-s14", "xnnpack-int8-dynamic"),
]

ROUNDS_APART = ("vit-s14", "raft-like", "fossa-compact")
"""Twelve layers, four turns of a recurrence, or attention and softmaxes over frames, with float arithmetic between the
int8 ones: where that differs in the last bit, a value between two steps falls to the other one, and what follows
carries it on."""
SHARE_OF_ROUNDING = 1.0
"""They are no farther apart than the rounding itself has put either from the float network."""


@dataclass(frozen=True)
class Outputs:
    """Of the same program and inputs, one per sample."""

    program: Path
    eager: list[Array]
    x86: list[Array]
    arm64: list[Array]

    @property
    def apart(self) -> float:
        """Largest difference of ARM64 from x86."""
        return max(float(np.abs(a - b).max()) for a, b in zip(self.arm64, self.x86, strict=True))

    @property
    def share_of_rounding(self) -> float:
        """RMS of that difference over the RMS by which x86 is off the float network."""
        apart, off = (np.concatenate([(a - b).ravel() for a, b in zip(first, self.x86, strict=True)])
                      for first in (self.arm64, self.eager))  # fmt: skip
        return float(np.sqrt(np.mean(apart**2) / np.mean(off**2)))


@pytest.fixture(scope="module")
def arm64() -> sysroot.Sysroot:
    if reason := sysroot.missing():
        pytest.skip(reason)
    return sysroot.make()


@pytest.fixture(scope="module")
def network() -> Callable[[str], Network]:
    made: dict[str, Network] = {}

    def get(name: str) -> Network:
        if name not in made:
            made.clear()  # one at a time: the tests come ordered by network
            made[name] = NETWORKS[name]()
        return made[name]

    return get


def double(output: Any) -> Array:
    """The first output, which the task's metric is of."""
    return np.asarray(first_output(output).detach().numpy(), np.float64)


def run_everywhere(arm64: sysroot.Sysroot, network: Network, recipe: str, folder: Path) -> Outputs:
    with torch.no_grad():
        given = network.module(*network.samples[0])
    count = len(given) if isinstance(given, tuple | list) else 1
    request = BuildRequest(
        network.module, RECIPES[recipe].precision, folder / f"{recipe}.pte", network.samples[0],
        tuple(f"input_{i}" for i in range(len(network.samples[0]))), tuple(f"output_{i}" for i in range(count)),
        network.calibration, network.keep_float,
    )  # fmt: skip
    artefact = RECIPES[recipe].build(request)
    assert artefact.predict is not None
    jobs, outputs = [], [folder / f"out_{index}.npy" for index in range(len(network.samples))]
    for index, inputs in enumerate(network.samples):
        names = [folder / f"in_{index}_{i}.npy" for i in range(len(inputs))]
        for path, tensor in zip(names, inputs, strict=True):
            np.save(path, tensor.numpy())
        jobs.append({"program": str(artefact.path), "inputs": [str(n) for n in names], "output": str(outputs[index])})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = arm64.python(RUN_PROGRAMS, folder / "jobs.json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert json.loads(done.stdout.splitlines()[0])["machine"] == "aarch64"
    with torch.no_grad():
        return Outputs(
            artefact.path,
            [double(network.module(*inputs)) for inputs in network.samples],
            [double(artefact.predict(inputs)) for inputs in network.samples],
            [np.asarray(np.load(path), np.float64) for path in outputs],
        )


def last_step(program: Path) -> float:
    """Scale of the last tensor that is int8, in the output's unit where nothing but float follows."""
    steps = []
    for delegate in read_structure(program).delegates:
        graph = stored._xnnpack_graph(delegate.payload)
        assert graph is not None
        values = {v["xvalue_union"].get("tensor_value", {}).get("id_out"): v["xvalue_union"] for v in graph["xvalues"]}
        for node in graph["xnodes"]:
            params = values.get(node["xnode_union"].get("input_id"), {}).get("quant_params", {})
            if node["xnode_union_type"] == "XNNConvert" and "scale" in params:
                steps.append(float(params["scale"]))
    return steps[-1]


def allowed_apart(name: str, recipe: str, out: Outputs) -> float | None:
    """How far ARM64 may be from x86; ``None`` where both round as they like, and the gate alone decides."""
    precision = RECIPES[recipe].precision
    if precision == "int8" and name in ROUNDS_APART:
        return None
    if precision == "fp32":
        return FLOAT_MAX_ABS * max(1.0, *(float(np.abs(o).max()) for o in out.x86))
    return last_step(out.program) if precision == "int8" else None


def gate_holds(network: Network, recipe: str, outputs: list[Array], references: list[Array]) -> tuple[bool, str]:
    """(whether, the figures): the limits of the gate that a processor can break."""
    accuracy, reference = network.score(outputs, references), network.score(references, references)
    limits = network.limits.get(recipe, RECIPES[recipe].limits)
    verdict = judge(Candidate(recipe, accuracy, None, None), reference, limits)
    assert verdict.checks, "nothing was asked"
    figures = ", ".join(f"{c.name} {c.measured:.4g} ({c.relation} {c.limit:g})" for c in verdict.checks)
    return verdict.outcome is Outcome.VERIFIED, figures


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "recipe"), CASES, ids=lambda value: str(value))
def test_a_program_computes_on_arm64_what_it_computes_here(
    arm64: sysroot.Sysroot, network: Callable[[str], Network], name: str, recipe: str, tmp_path: Path
) -> None:
    net = network(name)
    out = run_everywhere(arm64, net, recipe, tmp_path)
    assert all(np.isfinite(o).all() for o in out.arm64)
    if (allowed := allowed_apart(name, recipe, out)) is not None:
        print(f"\n{name} {recipe}: ARM64 - x86 {out.apart:.3g}, allowed {allowed:.3g}")
        assert out.apart <= allowed
    elif name in ROUNDS_APART:
        print(f"\n{name} {recipe}: ARM64 - x86 {out.apart:.3g}, {out.share_of_rounding:.3g} of the rounding")
        assert out.share_of_rounding <= SHARE_OF_ROUNDING
    holds, figures = gate_holds(net, recipe, out.arm64, out.eager)
    print(f"{name} {recipe}: {figures}")
    assert holds, figures
