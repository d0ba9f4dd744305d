from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.export.profile.conftest import SHAPE, SmallFiles
from tests.support.tiny_net import scene, tiny_net

from dualpix.capture.errors import DualpixError
from dualpix.capture.processor import host_processor, pytorch_processor
from dualpix.export.artefact import quiet
from dualpix.export.errors import ProfileError
from dualpix.export.executorch.stored import save_record
from dualpix.export.executorch.xnnpack import lower_with_record
from dualpix.export.manifest import sha256_of
from dualpix.export.profile.child import measure_peaks
from dualpix.export.profile.host import profile_on_host
from dualpix.export.profile.result import Profile
from dualpix.export.profile.target import ProfileRequest
from dualpix.models.zoo import DEFAULT_MODEL, load_model
from dualpix.quantize.calibration import rendered_calibration
from dualpix.quantize.graph import fold_batch_norm
from dualpix.quantize.keep import keep_modules
from dualpix.quantize.ptq import quantise_static


@pytest.fixture(scope="module")
def measured(small_files: SmallFiles) -> tuple[Profile, ...]:
    request = ProfileRequest((small_files.narrow, small_files.wide), runs=9, warmup=1, operators=True)
    steps: list[tuple[int, int]] = []
    profiles = profile_on_host(request, on_step=lambda done, total, what: steps.append((done, total)))
    assert steps == [(k, 5) for k in range(5)]
    return profiles


def test_files_in_turn_have_times_and_ratios(measured: tuple[Profile, ...], small_files: SmallFiles) -> None:
    narrow, wide = measured
    assert [p.subject.file for p in measured] == ["narrow.pte", "wide.pte"]
    assert narrow.subject.sha256 == sha256_of(small_files.narrow)
    assert narrow.settings.interleaved_with == ("wide.pte",)
    for profile in measured:
        assert len(profile.samples_s) == profile.settings.runs == 9
        assert min(profile.samples_s) <= (profile.p50_s or 0) <= max(profile.samples_s)
        assert profile.load_s and profile.first_s and profile.target.runtime.startswith("executorch ")
        assert profile.memory.arena_bytes and profile.memory.peak_rss_bytes is not None
        assert profile.delegated and profile.delegated.macs == 1.0
    # of runs of a few microseconds the clock of processor time may not tell
    wall, processor = (np.divide(getattr(wide, kind), getattr(narrow, kind)) for kind in ("samples_s", "processor_s"))
    rounds = {"wall time": wall, "processor time": processor}[str(narrow.ratios_of)]
    assert narrow.ratios["wide.pte"] == pytest.approx(np.median(rounds))
    assert narrow.ratio_iqrs["wide.pte"] == pytest.approx(np.subtract(*np.percentile(rounds, (75, 25))))


def test_a_profile_names_the_processor(measured: tuple[Profile, ...]) -> None:
    processor = host_processor().describe()
    for profile in measured:
        assert profile.target.processor_class == processor["class"]
        assert profile.target.processor_features == processor["features"]
        assert processor["class"] in profile.target.text
        assert len(profile.processor_s) == 9 and max(profile.processor_s) > 0


def test_the_eager_network_has_the_class_that_it_runs_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the child processes as in this one: settings are inherited."""
    with quiet(), torch.no_grad():
        exported = torch.export.export(tiny_net(), scene((64, 96)))
        (tmp_path / "net.pte").write_bytes(lower_with_record(exported)[0])
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    request = ProfileRequest((tmp_path / "net.pte",), runs=2, warmup=1, eager=DEFAULT_MODEL)
    net, eager = profile_on_host(request)
    assert net.target.processor_class == (host_processor().class_name or "unknown")
    assert eager.target.processor_class == (pytorch_processor().class_name or "unknown")
    if "avx512" in (host_processor().features or ()):
        assert eager.target.processor_class == "x86-64-avx2" != net.target.processor_class


def test_operators_add_up_to_the_execute_event(measured: tuple[Profile, ...]) -> None:
    for profile in measured:
        assert profile.operators and profile.trace and profile.trace.runs >= 5
        assert sum(o.median_s for o in profile.operators) == pytest.approx(profile.trace.operators_s)
        assert sum(o.share for o in profile.operators) == pytest.approx(profile.trace.coverage)
        assert 0 < profile.trace.coverage <= 1
    pixels = SHAPE[2] * SHAPE[3]
    assert sum(o.macs or 0 for o in measured[1].operators or ()) == pixels * 64 * (3 * 9 + 4)


def test_operators_name_layers_where_there_is_a_record(measured: tuple[Profile, ...]) -> None:
    narrow, wide = ({o.name.split(" (")[0]: o for o in p.operators or ()} for p in measured)
    assert narrow["Convolution"].module == "stem.0" and narrow["Convolution"].kind == "convolution"
    assert "conftest.py:" in str(narrow["Convolution"].source)
    assert narrow["Fully Connected"].module == "deep"
    assert narrow["Convolution"].backend == "XnnpackBackend"
    outside = next(o for name, o in narrow.items() if name.startswith("cumsum"))
    assert (outside.backend, outside.kind) == ("portable", "cumsum")
    assert wide["Convolution"].module is None and wide["Convolution"].kind == "Conv2d"
    assert wide["Convolution"].macs and wide["Convolution"].bytes


@pytest.mark.parametrize("shapes", [[(1, 3, 24, 33)], [SHAPE, SHAPE], []], ids=["size", "number", "none"])
def test_inputs_of_another_shape_are_refused(
    small_files: SmallFiles, tmp_path: Path, shapes: list[tuple[int, ...]]
) -> None:
    given = tmp_path / "inputs.safetensors"
    save_file({f"{i}": torch.rand(shape) for i, shape in enumerate(shapes)}, given)
    with pytest.raises(ProfileError, match="expected 1x3x24x32 float32"):
        profile_on_host(ProfileRequest((small_files.wide,), inputs=given))
    save_file({"0": torch.zeros(SHAPE, dtype=torch.int32)}, given)
    with pytest.raises(ProfileError, match="int32; expected"):
        profile_on_host(ProfileRequest((small_files.wide,), inputs=given))


def test_files_that_cannot_be_compared_are_refused(small_files: SmallFiles, tmp_path: Path) -> None:
    other = tmp_path / "other.pte"
    with quiet(), torch.no_grad():
        exported = torch.export.export(torch.nn.ReLU(), (torch.rand(1, 2, 3, 4),))
        other.write_bytes(lower_with_record(exported)[0])
    with pytest.raises(ProfileError, match=r"'other\.pte' takes 1x2x3x4 float32; expected 1x3x24x32"):
        profile_on_host(ProfileRequest((small_files.wide, other)))
    twin = Path(shutil.copy(small_files.wide, tmp_path / "wide.pte"))
    with pytest.raises(ProfileError, match="same name"):
        profile_on_host(ProfileRequest((small_files.wide, twin)))


def test_a_program_that_does_not_load_says_why(small_files: SmallFiles, tmp_path: Path) -> None:
    damaged = tmp_path / "net.pte"
    data = bytearray(small_files.wide.read_bytes())
    at = data.index(b"XnnpackBackend")
    data[at : at + 14] = b"NowhereBackend"
    damaged.write_bytes(data)
    with pytest.raises(DualpixError, match=r"net\.pte.*NowhereBackend"):
        profile_on_host(ProfileRequest((damaged,), runs=1))


def test_peaks_are_finite_and_restore_the_thread_count() -> None:
    before = torch.get_num_threads()
    peaks = measure_peaks(1, seconds=0.01)
    assert torch.get_num_threads() == before
    assert 1e7 < peaks.macs_per_s < 1e14
    assert 1e7 < peaks.bytes_per_s < 1e13


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_operators_of_the_shipped_network_are_its_layers_and_its_time(tmp_path: Path, precision: str) -> None:
    model = load_model(DEFAULT_MODEL)
    calibration = rendered_calibration(2, (128, 160))
    inputs = calibration.samples[0]
    with quiet(), torch.no_grad():
        if precision == "fp32":
            exported = torch.export.export(fold_batch_norm(model.module, inputs), inputs)
        else:
            kept = keep_modules(*model.card.get("keep_float", ()))
            exported = torch.export.export(quantise_static(model.module, calibration.samples, kept), inputs)
        buffer, record, _ = lower_with_record(exported)
    path = tmp_path / f"{precision}.pte"
    path.write_bytes(buffer)
    save_record(record, path.with_suffix(".etrecord"))
    request = ProfileRequest((path,), threads=(1, 2), runs=20, operators=True, eager=DEFAULT_MODEL)
    profiles = [p for p in profile_on_host(request) if p.operators]
    assert [p.settings.threads for p in profiles] == [1, 2]
    for profile in profiles:
        operators = profile.operators or ()
        assert profile.trace and 0.95 <= profile.trace.coverage <= 1.0
        named = [o for o in operators if o.module]
        layers = {name for name, _ in model.module.named_modules()}
        assert {o.module for o in named} <= layers
        assert sum(o.median_s for o in named) > 0.9 * profile.trace.operators_s
        assert _convolutions_run(model.module, inputs) <= {o.module for o in named}
        assert all(o.source and o.source.startswith("dualpix/models/networks/") for o in named)
        assert profile.ratios["eager"] > 0
    json.dumps([p.to_json() for p in profiles], allow_nan=False)


def _convolutions_run(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> set[str]:
    """Without the heads that serve training alone."""
    seen: set[str] = set()
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda *_, name=name: seen.add(name))
    module(*inputs)
    return seen
