"""Exported artefacts as models that ``dualpix evaluate`` and ``dualpix depth`` take: what the phone computes is scored.

:mod:`dualpix.models.zoo.programs` names :func:`load_program` as text. The manifest beside an artefact says what goes in
and what comes out; without it nothing would say which input is which, nor that the file is the one that was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.export.artefact import quiet
from dualpix.export.manifest import Declared, ManifestError, check_entry, read_manifest
from dualpix.export.recipes import find_recipe
from dualpix.models.networks.spec import NetworkSpec
from dualpix.models.tasks import FOCUS_STACK, TASKS
from dualpix.models.zoo import LoadedModel, load_model
from dualpix.models.zoo.cards import known_models
from dualpix.quantize.calibration import tensor_digest
from dualpix.quantize.score import Predict, tensors_of


class _Program(nn.Module):
    """A loaded artefact, called as the network that it was made from."""

    def __init__(self, predict: Predict) -> None:
        super().__init__()
        self._predict = predict

    def forward(self, *inputs: Tensor) -> Any:
        outputs = tensors_of(self._predict(inputs))
        return outputs[0] if len(outputs) == 1 else outputs


def load_program(path: Path, threads: int = 1) -> LoadedModel:
    """An artefact of ``dualpix export``, as a model of one size.

    Args:
        path: the file, or package folder, with the export's ``manifest.json`` beside it.
        threads: of the runtime.

    Raises:
        ManifestError: no manifest, or the artefact is not the file that was measured.
        DualpixError: it does not run here, or is of no task of pairs or pictures.
    """
    manifest = read_manifest(path.parent)
    entry = next((e for e in manifest["artefacts"] if e["file"] == path.name), None)
    if entry is None:
        raise ManifestError(f"'{path.name}' is not in the manifest beside it", hint="export again")
    check_entry(path.parent, entry)
    declared, facts = Declared.of(manifest), _facts(manifest)
    spec = _spec(path.name, declared, facts)
    recipe = find_recipe(str(entry.get("recipe")))
    with quiet():
        predict = recipe.load(path, tuple(declared.inputs), declared.output_names, threads)
    if predict is None:
        raise DualpixError(f"'{path.name}' does not run here: {recipe.can_run()}", expected="an artefact that does")
    made_from = _made_from(facts)
    card = {"network": facts.get("network")} if made_from is None else made_from.card
    folder = path.parent if made_from is None else made_from.folder
    return LoadedModel(path.stem, _Program(predict).eval(), spec, card, folder, _size_hw(path.name, declared))


def _facts(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    facts = manifest.get("model")
    return facts if isinstance(facts, Mapping) else {}


def _spec(name: str, declared: Declared, facts: Mapping[str, Any]) -> NetworkSpec:
    """What the artefact takes and gives.

    Raises:
        DualpixError: it is of another task, or of none: nothing says what its outputs mean.
    """
    task, known = str(facts.get("task")), [known for known in TASKS if known != FOCUS_STACK.name]
    if task not in known:
        raise DualpixError(
            f"'{name}' is a program of {f'the task {task:.40}' if 'task' in facts else 'no task'}",
            expected=f"one of {' or '.join(known)}",
        )
    inputs = tuple((given, shape[1]) for given, (shape, _) in declared.inputs.items())
    output, *further = declared.output_names

    def build(options: dict[str, Any]) -> nn.Module:
        raise DualpixError(f"'{name}' is a program", expected="a network to build")

    return NetworkSpec(build, inputs, output, 1, "", task, further_outputs=tuple(further))


def _size_hw(name: str, declared: Declared) -> tuple[int, int]:
    sizes = {shape[-2:] for shape, _ in declared.inputs.values()}
    if len(sizes) != 1 or any(len(shape) != 4 or shape[0] != 1 for shape, _ in declared.inputs.values()):
        raise ManifestError(f"the inputs of '{name}' have {len(sizes)} sizes", expected="pictures of one size")
    ((height, width),) = sizes
    return height, width


def _made_from(facts: Mapping[str, Any]) -> LoadedModel | None:
    """The shipped model with the very weights that the artefact was made from: its confidence was calibrated."""
    name = facts.get("name")
    if name not in known_models():
        return None
    model = load_model(str(name))
    digest = tensor_digest(tensor for _, tensor in sorted(model.module.state_dict().items()))
    return model if digest == facts.get("weights_sha256") else None
