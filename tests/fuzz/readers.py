"""Feed damaged files to everything else that is read: ``python -m tests.fuzz.readers --count 3000``.

Records of stacks, journals, plans, scenes, calibrations and profiles; tables and RGB-D data sets, NumPy arrays, HDF5
and MATLAB files; cards, limits, weights and checkpoints; assignments, manifests and measurements. Each ends in success
or in one line, within 10 s and 2 GiB, and leaves nothing behind; what else happens is saved, made small, in ``--out``.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from tests.fuzz.case import CORPUS, Case, load, load_all
from tests.fuzz.check import BAD, Outcome, check_message, class_of, where
from tests.fuzz.mutate import MUTATORS, applied, random_steps
from tests.fuzz.run import Input, fuzz, replay

from dualpix.capture.calibrate.psf import read_kernels
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import json_ready
from dualpix.capture.focus import store
from dualpix.capture.focus.scene import read_scene
from dualpix.capture.profiles.profile import read_profile
from dualpix.capture.raw.batch.resume import earlier_result
from dualpix.capture.rgbd import read_rgbd, survey_rgbd
from dualpix.capture.stack.cli import _read_plan
from dualpix.capture.stack.keep.ddff import ddff_stacks, read_ddff, read_ddff_slice
from dualpix.capture.stack.keep.layouts import read_layout
from dualpix.capture.stack.keep.load import loaded_listing
from dualpix.capture.stack.take.journal import header_of, read_events
from dualpix.capture.stack.take.state import StackState
from dualpix.export.android.protocol import BenchRequest, ExpectedFile, TensorFile, read_result
from dualpix.export.command.cli import _read_assignment
from dualpix.export.command.limits import read_limits
from dualpix.export.executorch.stored import read_record
from dualpix.export.manifest import Declared, write_manifest
from dualpix.export.profile.host import _read_inputs
from dualpix.export.profile.result import read_profiles
from dualpix.export.report.pictures import pictures_of
from dualpix.export.verify import verify
from dualpix.export.verify.rerun import reference_of
from dualpix.models.data.rendered import RenderedDataset, RenderSettings
from dualpix.models.stacks.depth import depth_errors
from dualpix.models.stacks.truth import read_truth
from dualpix.models.train import TrainConfig, Trainer
from dualpix.models.zoo import load_model

READERS_SEEDS = CORPUS / "readers"
READERS_FOUND = CORPUS / "readers-found"
CHECK = "tests.fuzz.readers:check"
SCENE_SIZE_HW = (32, 32)
SETTINGS = RenderSettings(size_hw=SCENE_SIZE_HW, coc_span_px=(3.0, 10.0), max_coc_px=10.0)
TRAINING = TrainConfig(
    options={"dp_channels": [2, 4], "image_channels": [2] * 5, "decoder_channels": [2] * 5, "window": 2},
    steps=2, batch_size=2, samples=2, eval_samples=0, crop_hw=None, precision="float32", render=SETTINGS,
)  # fmt: skip
_JSON_WEIGHTS = {"json": 10.0, "text": 2.0, "flip": 1.0, "chunk": 1.0, "cut": 0.5}
Reader = Callable[[Path, Case], object]


def _rgbd(folder: Path, case: Case) -> None:
    del case
    for source in survey_rgbd(folder).sources[:4]:
        sample = read_rgbd(source)
        _must(sample.depth_m.shape == sample.valid.shape == sample.image.shape[:2], "sizes differ")
        _must(sample.image.shape[2:] == (3,) and bool(np.isfinite(sample.image).all()), "an image that is no light")
        _must(bool((sample.depth_m[sample.valid] > 0).all()), "valid depth that is none")
        for text in sample.warnings:
            check_message(text)


def _ddff(folder: Path, case: Case) -> None:
    ddff_stacks(folder / case.main)
    listing = read_ddff(folder / case.main, "0")
    for frame in listing.frames[:2] if listing else ():
        assert frame.part is not None
        slice_ = read_ddff_slice(frame.path, frame.part[0], frame.part[1], frame.part[2])
        _must(slice_.ndim == 3 and slice_.dtype == np.uint8, f"a slice of {slice_.shape}")


def _stack(folder: Path, case: Case) -> None:
    del case
    loaded_listing(folder, aligned=True)
    read_scene(folder / "stack.json")


def _journal(folder: Path, case: Case) -> None:
    del case
    events = read_events(folder)
    if events:
        header_of(events, folder)
        StackState().apply_all(events)


def _model(folder: Path, case: Case) -> None:
    del case
    model = load_model(folder)
    model.limits()
    for tensor in model.module.state_dict().values():
        _must(not tensor.is_floating_point() or tensor.dtype == torch.float32, f"weights of {tensor.dtype}")


def _checkpoint(folder: Path, case: Case) -> None:
    del case
    trainer = Trainer(TRAINING, folder)
    if trainer.resume():
        _must(0 <= trainer.step <= TRAINING.steps, f"step {trainer.step} of {TRAINING.steps}")
        trainer.save()


def _cached_scene(folder: Path, case: Case) -> None:
    dataset = RenderedDataset(1, settings=SETTINGS, seed=0, cache_dir=folder / "cache")
    assert dataset.folder is not None
    (folder / case.main).replace(dataset.folder / "000000.safetensors")
    left = dataset[0]["left"]
    _must(tuple(left.shape[-2:]) == SCENE_SIZE_HW, f"a scene of {tuple(left.shape)}")
    _must(bool(torch.isfinite(left).all()), "a scene that is not finite")


def _truth(folder: Path, case: Case) -> None:
    truth = read_truth(folder / case.main, (24, 32))
    echoed = json_ready(depth_errors(np.full((24, 32), 2.0, np.float32), truth.depth_m))
    json.dumps(echoed, allow_nan=False)


def _manifest(folder: Path, case: Case) -> None:
    """Most often with the digest of what it now says: whoever changes one can sign it anew."""
    try:
        value = json.loads((folder / case.main).read_bytes())
        if isinstance(value, dict) and len(case.files[case.main]) % 4:
            write_manifest(folder, value)
    except (ValueError, RecursionError):
        pass
    result = verify(folder, run=False)
    manifest = json.loads((folder / case.main).read_bytes())
    reference_of(folder, Declared.of(manifest), result.artefacts[0].recipe if result.artefacts else "xnnpack-fp32")


def _bench(folder: Path, case: Case) -> None:
    tensor, expected = TensorFile("input0.bin", (1,)), (ExpectedFile("expected_0.bin", (1,), 0.01),)
    request = BenchRequest("run-1", "ab" * 32, (tensor,), expected, (1,), 1, 3, "xnnpack-int8", "net.pte")
    read_result((folder / case.main).read_bytes(), request, "net.pte")


READERS: Mapping[str, Reader] = {
    "alignment": _stack,
    "arkit": _rgbd,
    "assignment": lambda folder, case: _read_assignment(folder / case.main),
    "bench": _bench,
    "checkpoint": _checkpoint,
    "ddff": _ddff,
    "diode": _rgbd,
    "etrecord": lambda folder, case: read_record(folder / case.main),
    "focus-csv": lambda folder, case: read_layout(folder),
    "generic-npy": _rgbd,
    "generic-pfm": _rgbd,
    "generic-tiff": _rgbd,
    "hypersim": _rgbd,
    "ibims-mat": _rgbd,
    "index": _rgbd,
    "inputs": lambda folder, case: _read_inputs(folder / case.main),
    "journal": _journal,
    "kernels": lambda folder, case: read_kernels(folder / case.main, folder / case.main, (1, 2)),
    "lens": lambda folder, case: store.read(folder / case.main),
    "limits": lambda folder, case: read_limits(folder / case.main, has_metric=True),
    "manifest": _manifest,
    "middlebury": _rgbd,
    "model": _model,
    "nyuv2": _rgbd,
    "pictures": lambda folder, case: pictures_of(folder),
    "plan": lambda folder, case: _read_plan(folder / case.main),
    "profile": lambda folder, case: read_profile(folder / case.main),
    "profiles": lambda folder, case: read_profiles(folder / case.main),
    "resume": lambda folder, case: earlier_result(folder, {"a": 1}, case.main),
    "scene": _cached_scene,
    "scene-npy": lambda folder, case: read_scene(folder / case.main),
    "scene-tiff": lambda folder, case: read_scene(folder / case.main),
    "stack": _stack,
    "truth-npy": _truth,
    "truth-tiff": _truth,
    "zedd": lambda folder, case: read_layout(folder),
}
"""What is done with a case, by its kind without what follows a dot."""


def check(case: Case, folder: Path) -> Outcome:
    """Read a case whose files lie in ``folder``."""
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            outcome = _read(case, folder)
        _check_nothing_left(case, folder)
        return outcome
    except Exception as error:  # the very thing that is looked for
        return Outcome("failed", f"{case.kind}: {where(error)}", traceback.format_exc())


def _read(case: Case, folder: Path) -> Outcome:
    try:
        READERS[case.kind.partition(".")[0]](folder, case)
    except DualpixError as error:
        check_message(str(error))
        return Outcome("refused", f"{case.kind}: {class_of(error.found)}", str(error))
    return Outcome("read", case.kind)


def _check_nothing_left(case: Case, folder: Path) -> None:
    known = {Path(name).parts[0] for name in case.files} | {"cache", "checkpoint.pt", "manifest.json", "log.csv"}
    left = sorted({path.name for path in folder.iterdir()} - known)
    left += [path.name for path in Path(tempfile.gettempdir()).iterdir()]
    _must(not left, f"left behind: {left[:4]}")


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def make_input(seeds: Sequence[Case], seed: int, number: int) -> Input:
    """Input ``number`` of a seed: each kind in turn."""
    rng = random.Random(f"readers/{seed}/{number}")
    chosen = seeds[number % len(seeds)]
    plain = {name: weight for name, (_, weight) in MUTATORS.items()}
    steps = random_steps(chosen, rng, _JSON_WEIGHTS if _is_json(chosen) else plain)
    return Input(number, chosen, applied(chosen, steps), steps)


def _is_json(case: Case) -> bool:
    return case.files[case.main].lstrip()[:1] in (b"{", b"[")


def random_inputs(seeds: Sequence[Case], seed: int, numbers: Iterable[int]) -> Iterator[Input]:
    """The inputs with these numbers."""
    return (make_input(seeds, seed, number) for number in numbers)


@click.command(help=__doc__)
@click.option("--count", type=click.IntRange(1), default=3000, show_default=True, help="Inputs.")
@click.option("--first", type=click.IntRange(0), default=0, help="Number of the first one.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random numbers.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--kinds", help="Only these seeds, by name, with commas; numbers then count among them.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/fuzz-readers"), help="Folder for failures.")
@click.option("--replay", "folder", type=click.Path(path_type=Path, exists=True), help="Try one saved folder.")
def main(count: int, first: int, seed: int, jobs: int, kinds: str | None, out: Path, folder: Path | None) -> None:
    """See the module's text."""
    if folder is not None:
        outcome = replay([load(folder)], CHECK)[0].outcome
        click.echo(f"{outcome.result}: {outcome.reason}\n{outcome.detail}")
        sys.exit(outcome.result in BAD)
    seeds = load_all(READERS_SEEDS)
    if kinds:
        seeds = [case for case in seeds if case.kind in kinds.split(",")]
    if not seeds:
        raise click.UsageError("no such kinds")
    report = fuzz(random_inputs(seeds, seed, range(first, first + count)), jobs, out, progress=True, check=CHECK)
    click.echo("\n".join(report.lines()))
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
