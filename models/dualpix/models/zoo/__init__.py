"""The shipped models: one folder each with ``weights.safetensors``, ``card.json`` and ``limits.json`` (the gate's limits)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.models.networks import NetworkSpec, build_network, network_spec

ZOO = Path(__file__).parent
DEFAULT_MODEL = "difusenet-compact"


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
            DualpixError: the model's folder has no ``limits.json``.
        """
        path = self.folder / "limits.json"
        if not path.is_file():
            raise DualpixError(f"model '{self.name}' has no limits.json in '{self.folder}'", hint="add one to gate it")
        limits: dict[str, Any] = json.loads(path.read_text())
        return limits


def known_models() -> list[str]:
    """Names of the shipped models."""
    return sorted(p.parent.name for p in ZOO.glob("*/card.json"))


def load_model(name_or_folder: str = DEFAULT_MODEL) -> LoadedModel:
    """Load a shipped model by name, or one of your own from a folder of the same form.

    Raises:
        UnknownNameError: neither a shipped name nor a folder with a ``card.json``; lists the known names.
        DualpixError: the weights do not fit the network the card names.
    """
    folder = ZOO / name_or_folder if name_or_folder in known_models() else Path(name_or_folder)
    if not (folder / "card.json").is_file():
        raise UnknownNameError("model", name_or_folder, known_models())
    card: dict[str, Any] = json.loads((folder / "card.json").read_text())
    module = build_network(card["network"], card.get("options"))
    try:
        module.load_state_dict(load_file(folder / "weights.safetensors"))
    except (OSError, RuntimeError) as error:
        raise DualpixError(
            f"weights of '{folder.name}' do not load: {str(error).splitlines()[0]}",
            expected=f"a state dict of network '{card['network']}'",
        ) from error
    return LoadedModel(folder.name, module.eval(), network_spec(card["network"]), card, folder)
