"""The small valid files that fuzzing of the readers starts from; ``python -m tests.fuzz.reader_seeds`` writes
those that are missing.

Each is made by what writes it: a capture, an alignment, a plan and a calibration of the simulated camera, training,
``numpy``, ``h5py`` and ``scipy``. They are kept as files, so that an input named by its number stays what it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from safetensors.torch import save
from tests.fuzz.case import Case
from tests.fuzz.readers import READERS, READERS_SEEDS, SETTINGS, TRAINING
from tests.support import rgbd as write

from dualpix.capture.files import write_json
from dualpix.capture.profiles.profile import write_profile
from dualpix.capture.rgbd.hypersim import TABLE
from dualpix.capture.synthesis.camera import camera_named
from dualpix.export.manifest import FORMAT, artefact_entries, file_entry, write_manifest
from dualpix.export.profile.result import Memory, Profile, Settings, Subject, TargetFacts, write_profiles
from dualpix.models.data.rendered import render_sample
from dualpix.models.train import Trainer
from dualpix.quantize.search.assignment import Assignment, FrontierPoint, LayerSensitivity

_HW = (24, 32)
_DIODE = "indoors/scene_00001/scan_00183/00019_00183_indoors_000_010_depth_mask.npy"


def write_seeds(folder: Path) -> None:
    """Write the seeds that have no folder below ``folder`` yet: other versions of libraries write other bytes."""
    cases = [*_captures(), *_arrays(), *_data_sets(), *_models(), *_exports()]
    missing = set(READERS) - {case.kind.partition(".")[0] for case in cases}
    if missing:
        raise AssertionError(f"no seed for {sorted(missing)}")
    for case in cases:
        if case.main not in case.files:
            raise AssertionError(f"{case.kind}: no {case.main}")
        if not (folder / case.kind).exists():
            case.save(folder / case.kind)


def _case(kind: str, main: str, make: Callable[[Path], Any], keep: str = "**/*") -> Case:
    """The files that ``make`` writes into a folder, as far as they match."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.glob(keep)) if p.is_file()}
    return Case(kind, main, files)


# --- capture ------------------------------------------------------------------------------------------------------


def _captures() -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), Path(name) / "data"
        _dualpix(data, "capture", "--camera", "sim", "-o", folder / "desk", "--near", 0.5, "--far", 4, "--count", 3)
        _dualpix(data, "capture", "align", folder / "desk")
        ends = ("--near", 0.5, "--far", 4, "--count", 3, "--apertures", "2.8,5.6")
        _dualpix(data, "capture", "plan", *ends, "-o", folder / "plan.json")
        desk = folder / "desk"
        stack = {"stack.json": (desk / "stack.json").read_bytes()}
        aligned = {f"aligned/{p.name}": p.read_bytes() for p in (desk / "aligned").iterdir() if p.suffix != ".png"}
        yield Case("stack", "stack.json", stack)
        yield Case("alignment", "aligned/alignment.json", stack | aligned)
        yield Case("journal", "journal.jsonl", {"journal.jsonl": (desk / "journal.jsonl").read_bytes()})
        yield Case("plan", "plan.json", {"plan.json": (folder / "plan.json").read_bytes()})
        lens = next(data.rglob("*.json"))
        yield Case("lens", "lens.json", {"lens.json": lens.read_bytes()})
    listing = "file,role,diopters,distance_m,f_number\na.png,focus,0.5,2,2.8\nb.png,focus,1.0,1,2.8\n"
    yield Case("focus-csv", "focus.csv", {"focus.csv": listing.encode(), "a.png": b"a", "b.png": b"b"})
    names = {f"focus_stack/img_run_{n}_motor_6D3E_aperture_F2.8.jpg": b"a" for n in (1, 2)}
    table = b"run_1\t6D3E\t0.8\nrun_2\t6D3F\t1.2\n"
    matrix = b"500.0 0.0 320.0\n0.0 500.0 240.0\n0.0 0.0 1.0\n"
    yield Case("zedd", "metadata.txt", {"metadata.txt": table, "gt/K.txt": matrix, **names})
    yield _case("ddff", "a.h5", _write_ddff)
    yield _case("profile", "a.json", _write_profile)
    yield _case("resume", "render.json", lambda f: write_json(f / "render.json", {"request": {"a": 1}, "files": []}))


def _dualpix(data: Path, *words: object) -> None:
    command = [sys.executable, "-c", "from dualpix.capture.cli import main; main()", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "DUALPIX_DATA": str(data)})


def _write_ddff(folder: Path) -> None:
    import h5py

    rng = np.random.default_rng(0)
    with h5py.File(folder / "a.h5", "w") as file:
        stacks = rng.integers(0, 256, (2, 3, 8, 12, 3), np.uint8)
        data = file.create_dataset("stack_val", data=stacks, chunks=(1, 1, 8, 12, 3), compression="gzip", shuffle=True)
        data.attrs["f_number"], data.attrs["white"] = 2.0, (1.0, 1.0, 1.0)
        file["focus_distance_m_val"] = np.array([[0.5, 1.0, 4.0]] * 2)


def _write_profile(folder: Path) -> None:
    write_profile(folder / "a.json", camera_named("pixel4").profile)


# --- arrays -------------------------------------------------------------------------------------------------------


def _arrays() -> Iterator[Case]:
    depth = np.linspace(1, 4, _HW[0] * _HW[1], dtype=np.float32).reshape(_HW)
    kernels = np.ones((2, 5, 5), np.float32)
    for kind, array in (("scene-npy", depth), ("truth-npy", depth), ("kernels", kernels)):
        yield _case(kind, "a.npy", lambda f, a=array: np.save(f / "a.npy", a))
    packed = {"compression": "zlib", "metadata": None}
    for kind in ("scene-tiff", "truth-tiff"):
        yield _case(kind, "a.tiff", lambda f: tifffile.imwrite(f / "a.tiff", depth, **packed))


def _data_sets() -> Iterator[Case]:
    t = write.truth(*_HW)
    radiance = np.random.default_rng(0).uniform(0, 9, (*_HW, 3)).astype(np.float16)
    yield _case("generic-npy", "a_depth.npy", lambda f: _pair(f, t, ".npy"))
    yield _case("generic-tiff", "a_depth.tiff", lambda f: _pair(f, t, ".tiff"))
    yield _case("generic-pfm", "a_depth.pfm", lambda f: _pair(f, t, ".pfm"))
    yield _case("index", "index.csv", lambda f: _write_index(f, t))
    yield _case("nyuv2", "nyu_depth_v2_labeled.mat", lambda f: write.write_nyuv2(f, [t]))
    yield _case("nyuv2.packed", "a.mat", _write_packed_nyuv2)
    yield _case("hypersim", f"ai_001_001/{TABLE}", lambda f: _write_hypersim(f, t, radiance))
    yield _case("ibims-mat", "corridor_01.mat", lambda f: write.write_ibims_mat(f, t))
    yield _case("ibims-mat.plain", "corridor_01.mat", lambda f: write.write_ibims_mat(f, t, compressed=False))
    yield _case("arkit", "metadata.csv", lambda f: _write_arkit(f, t))
    yield _case("middlebury", "calib.txt", lambda f: write.write_middlebury(f, t))
    yield _case("diode", _DIODE, lambda f: write.write_diode(f, t))


def _pair(folder: Path, t: write.Truth, suffix: str) -> None:
    write.write_image(folder / "a.png", t.image)
    path = folder / f"a_depth{suffix}"
    if suffix == ".npy":
        np.save(path, np.asfortranarray(t.with_zeros.astype(">f8")))
    elif suffix == ".pfm":
        write.write_pfm(path, t.with_zeros)
    else:
        tifffile.imwrite(path, t.with_zeros, compression="zlib", predictor=False, rowsperstrip=8, metadata=None)


def _write_index(folder: Path, t: write.Truth) -> None:
    _pair(folder, t, ".npy")
    (folder / "a_depth.npy").replace(folder / "z.npy")
    (folder / "index.csv").write_text('image;depth;note\n"a.png";z.npy;hall\n')


def _write_packed_nyuv2(folder: Path) -> None:
    import h5py

    t = write.truth(*_HW)
    packed = {"compression": "gzip", "shuffle": True, "fletcher32": True}
    with h5py.File(folder / "a.mat", "w", userblock_size=512, libver="latest") as file:
        file.create_dataset("images", data=t.image.transpose(2, 1, 0)[None], chunks=(1, 1, 32, 24), **packed)
        file.create_dataset("depths", data=t.with_zeros.T[None], chunks=(1, 16, 12), **packed)
        file.create_dataset("rawDepths", data=t.with_zeros.T[None], chunks=(1, 32, 24), compression="lzf")


def _write_hypersim(folder: Path, t: write.Truth, radiance: Any) -> None:
    write.write_hypersim(folder / "ai_001_001", t, radiance)
    columns = ["scene_name", "settings_camera_fov", *(f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3))]
    cells = ["ai_001_001", "1.0471976", "0.577", "0", "0.01", "0", "0.433", "-0.02", "0", "-0.05", "-1.01"]
    (folder / "ai_001_001" / TABLE).write_text(",".join(columns) + "\n" + ",".join(cells) + "\n")


def _write_arkit(folder: Path, t: write.Truth) -> None:
    write.write_arkitscenes(folder, t, "41069021", "Left")
    top = folder / "Validation/41069021"
    for old, new in (("wide", "lowres_wide"), ("highres_depth", "lowres_depth"), ("wide_intrinsics",) * 2):
        (top / old).replace(top / new.replace("wide_intrinsics", "lowres_wide_intrinsics"))
    write.write_plane(top / "confidence/41069021_1.100.png", np.rot90(t.depth_m > 1.5).astype(np.uint8) * 2)


# --- models and exports -------------------------------------------------------------------------------------------


def _models() -> Iterator[Case]:
    sample = render_sample(SETTINGS, 0, 0)
    yield Case(
        "scene", "a.safetensors", {"a.safetensors": save({k: v.half().contiguous() for k, v in vars(sample).items()})}
    )
    with tempfile.TemporaryDirectory() as name:
        trainer = Trainer(TRAINING, Path(name), cache_dir=Path(name) / "cache", workers=0)
        trainer.run()
        files = {path.name: path.read_bytes() for path in Path(name).iterdir() if path.is_file()}
    yield Case("checkpoint", "checkpoint.pt", {"checkpoint.pt": files["checkpoint.pt"]})
    limits = json.dumps(_LIMITS).encode()
    model = {"card.json": files["card.json"], "limits.json": limits}
    yield Case("model.card", "card.json", {**model, "weights.safetensors": files["weights.safetensors"]})
    yield Case("model.weights", "weights.safetensors", {**model, "weights.safetensors": files["weights.safetensors"]})
    yield Case("limits", "limits.json", {"limits.json": limits})


_LIMITS = {
    "format": 1,
    "recipes": {
        "xnnpack-int8": {"ai1_increase": 0.03, "delegated_compute": 0.95, "speedup": {"eager": 3.0}},
        "coreml-fp16": {"sqnr_db": 40.0, "size_bytes": 1000000},
    },
}


def _exports() -> Iterator[Case]:
    point = FrontierPoint((), 1.1, 0.5, 1000, 0.9, True)
    layers = (LayerSensitivity("a.b", 1000, 100, 8, 0.1, 0.2),)
    assignment = Assignment(("a.b",), 0.03, 1.0, 1.2, 1.02, None, None, None, 0.9, 2000, layers, (point,))
    yield _case("assignment", "a.json", lambda f: write_json(f / "a.json", assignment.to_json()))
    yield _case("profiles", "profile.json", lambda f: write_profiles(f / "profile.json", (_profile(),)))
    yield _case("bench", "result.json", _write_bench)
    yield _case("manifest", "manifest.json", _write_manifest)
    yield _case("pictures", "pictures.json", _write_pictures)
    yield _case("etrecord", "a.etrecord", _write_etrecord)
    yield Case("inputs", "a.safetensors", {"a.safetensors": save({"x": torch.rand(1, 3, 4, 4)})})


def _profile() -> Profile:
    subject, target = (
        Subject("net.pte", "ab" * 32, "xnnpack-int8"),
        TargetFacts("adb", "Phone", None, "Android 16", "executorch"),
    )
    return Profile(
        subject, target, Settings(1, 1, 3), load_s=0.1, first_s=0.05, samples_s=(), p50_s=None, p90_s=None, p99_s=None,
        mean_s=None, memory=Memory(1, 2, 3), verified=True, max_abs_error=0.001,
    ).timed((0.01, 0.02, 0.03))  # fmt: skip


def _write_bench(folder: Path) -> None:
    write_profiles(folder / "p.json", (_profile(),))
    document = json.loads((folder / "p.json").read_bytes())
    (folder / "p.json").unlink()
    run = {"format": 1, "run_id": "run-1", "verified": True, "max_abs_errors": [0.001]}
    write_json(folder / "result.json", document | run)


def _write_manifest(folder: Path) -> None:
    (folder / "a.pte").write_bytes(b"a program")
    tensors = {"input.image": torch.rand(1, 3, 4, 4), "output.float": torch.rand(1, 1, 4, 4)}
    (folder / "reference.safetensors").write_bytes(save(tensors | {"output.xnnpack-fp32": torch.rand(1, 1, 4, 4)}))
    manifest = {
        "format": FORMAT,
        "input": {"tensors": [{"name": "image", "shape": [1, 3, 4, 4], "dtype": "float32"}]},
        "outputs": [{"name": "disparity", "shape": [1, 1, 4, 4], "dtype": "float32"}],
        "artefacts": artefact_entries(folder, [("xnnpack-fp32", folder / "a.pte")]),
        "files": [file_entry(folder, folder / "reference.safetensors")],
        "reference": {"file": "reference.safetensors", "rerun_sqnr_db": {"xnnpack-fp32": 60.0}},
    }
    write_manifest(folder, manifest)


def _write_pictures(folder: Path) -> None:
    write.write_image(folder / "a.png", np.zeros((4, 4, 3), np.uint8))
    write_json(folder / "pictures.json", [{"file": "a.png", "caption": "a picture"}])


def _write_etrecord(folder: Path) -> None:
    from tests.export.profile.conftest import SHAPE, Small

    from dualpix.export.artefact import quiet
    from dualpix.export.executorch.stored import save_record
    from dualpix.export.executorch.xnnpack import lower_with_record

    with quiet(), torch.no_grad():
        record = lower_with_record(torch.export.export(Small(2).eval(), (torch.rand(SHAPE),)))[1]
    save_record(record, folder / "a.etrecord")


if __name__ == "__main__":
    write_seeds(READERS_SEEDS)
    size = sum(path.stat().st_size for path in READERS_SEEDS.rglob("*") if path.is_file())
    print(f"{READERS_SEEDS}: {len(list(READERS_SEEDS.iterdir()))} seeds, {size >> 10} KiB")
