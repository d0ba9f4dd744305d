"""The Mac's profiler on stand-ins for what coremltools measures there."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coremltools as ct
import pytest
from coremltools.models.ml_program.experimental import perf_utils

from dualpix.export.errors import ProfileError
from dualpix.export.profile import apple
from dualpix.export.profile.apple import profile_on_apple
from dualpix.export.profile.target import ProfileRequest

_Real = perf_utils.MLModelBenchmarker
_Measurement = _Real.Measurement


class MLCPUComputeDevice: ...


class MLNeuralEngineComputeDevice: ...


class _Benchmarker:
    Measurement, Statistics = _Real.Measurement, _Real.Statistics

    def __init__(self, model: Any) -> None: ...

    async def benchmark_load(self, iterations: int) -> Any:
        return _Measurement.from_samples([20.0] * iterations)

    async def benchmark_predict(self, inputs: dict[str, Any], iterations: int, warmup: bool = False) -> Any:
        assert inputs["left"].shape == (1, 1, 4, 6)
        return _Measurement.from_samples([float(k + 1) for k in range(iterations)])

    async def benchmark_operation_execution(self, inputs: dict[str, Any], iterations: int) -> list[Any]:
        def info(name: str, device: object, samples: list[float]) -> SimpleNamespace:
            return SimpleNamespace(
                spec=SimpleNamespace(type="conv" if device else "const", outputs=[SimpleNamespace(name=name)]),
                compute_device_usage=SimpleNamespace(preferred_compute_device=device) if device else None,
                measurement=_Measurement.from_samples(samples),
            )

        return [
            info("x", MLNeuralEngineComputeDevice(), [3.0]),
            info("y", MLCPUComputeDevice(), [1.0]),
            info("w", None, []),
        ]


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SimpleNamespace(multiArrayType=SimpleNamespace(shape=[1, 1, 4, 6]))
    spec = SimpleNamespace(description=SimpleNamespace(input=[SimpleNamespace(name="left", type=shape)]))
    monkeypatch.setattr(apple, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(ct.models, "MLModel", lambda path, compute_units: SimpleNamespace(get_spec=lambda: spec))
    monkeypatch.setattr(perf_utils, "MLModelBenchmarker", _Benchmarker)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "net.mlpackage"
    folder.mkdir()
    (folder / "Manifest.json").write_text("{}")
    return folder


def test_milliseconds_of_the_benchmarker_become_a_profile(mac: None, package: Path) -> None:
    (profile,) = profile_on_apple(ProfileRequest((package,), runs=3, operators=True))
    assert profile.samples_s == pytest.approx((0.001, 0.002, 0.003))
    assert profile.load_s == pytest.approx(0.02)
    assert profile.p50_s == pytest.approx(0.002)
    assert profile.target.kind == "apple"
    operators = profile.operators or ()
    assert [(o.name, o.backend) for o in operators] == [
        ("x", "MLNeuralEngineComputeDevice"),
        ("y", "MLCPUComputeDevice"),
        ("w", "constant"),
    ]
    assert [o.share for o in operators] == pytest.approx([0.75, 0.25, 0.0])
    assert profile.delegated and profile.delegated.operators == 0.5


def test_only_core_ml_programs_are_taken(mac: None, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="is no Core ML program"):
        profile_on_apple(ProfileRequest((tmp_path / "net.pte",)))


def test_what_core_ml_refuses_is_said_in_one_line(mac: None, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str, compute_units: object) -> None:
        raise RuntimeError("no such op\nat line 3")

    monkeypatch.setattr(ct.models, "MLModel", broken)
    with pytest.raises(ProfileError, match=r"Core ML cannot run 'net.mlpackage': no such op$"):
        profile_on_apple(ProfileRequest((package,)))


@pytest.mark.skipif(sys.platform == "darwin", reason="it works there")
def test_other_systems_are_told_where_to_go(package: Path) -> None:
    with pytest.raises(ProfileError, match="run on macOS only"):
        profile_on_apple(ProfileRequest((package,)))
