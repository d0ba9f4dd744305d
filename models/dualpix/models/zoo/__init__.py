"""The shipped models, one folder each: ``weights.safetensors``, ``card.json``, ``limits.json`` (the gate's limits)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.models.networks import NetworkSpec, build_network, network_spec
from dualpix.models.shipped import DEFAULT_MODEL, ZOO, known_models, model_folder

__all__ = ["DEFAULT_MODEL", "ZOO", "LoadedModel", "known_models", "load_model"]


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode with what its card says."""

    name: str
    module: nn.Module
    spec: NetworkSpec
    card: dict[str, Any]
    folder: Path

    def limits(self) -> dict[str, Any]:
        """Allowed loss per export recipe, as data beside the weights.

        Raises:
            DualpixError: the model's folder has no ``limits.json``, or it is not a JSON object.
        """
        path = self.folder / "limits.json"
        if not path.is_file():
            raise DualpixError(f"model '{self.name}' has no limits.json in '{self.folder}'", hint="add one to gate it")
        return _read_object(path)


def load_model(name_or_folder: str | Path = DEFAULT_MODEL) -> LoadedModel:
    """Load a shipped model by name, or one of your own from a folder of the same form.

    Raises:
        UnknownNameError: neither a shipped name nor a folder with a ``card.json``; lists the known names. Or the card
            names an unknown network.
        DualpixError: the card is damaged, or the weights do not fit the network it names.
    """
    folder = model_folder(name_or_folder)
    card = _read_object(folder / "card.json")
    network, name = str(card.get("network")), folder.resolve().name
    spec = network_spec(network)
    module = build_network(network, card.get("options"))
    try:
        module.load_state_dict(load_file(folder / "weights.safetensors"))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise DualpixError(
            f"weights of '{name}' do not load: {_reason(error)}", expected=f"a state dict of network '{network}'"
        ) from error
    return LoadedModel(name, module.eval(), spec, card, folder)


def _reason(error: Exception) -> str:
    """The first line that says something: torch puts a heading before its list of misfits."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    misfits = lines[1:] or lines
    more = f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else ""
    return misfits[0].rstrip(". ")[:200] + more


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DualpixError(f"'{path}' does not read: {error}", expected="a JSON object") from error
    if not isinstance(value, dict):
        raise DualpixError(f"'{path}' holds a {type(value).__name__}", expected="a JSON object")
    return value
