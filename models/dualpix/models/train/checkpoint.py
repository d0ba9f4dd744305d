"""The checkpoint of a run: everything that its next step needs, in one file that is whole or not there.

Reading trusts nothing: the file may have been cut, edited or made by another program. It is bounded before it is read,
holds tensors and plain values only, and every part is held against the run that it is to continue.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_path
from dualpix.models.data.kinds import Precision
from dualpix.models.train.config import TrainConfig, config_from_json

CHECKPOINT = "checkpoint.pt"
LOG_FIELDS = ("step", "loss", "learning_rate", "eval_error", "seconds", "waited_s")
_FORMER_ERROR = "eval_error_px"
"""Name of a column in what version 0.1.0 wrote."""
_COPIES = 4
"""Of the weights in a checkpoint: they themselves, their average, and the optimiser's two moments."""
_ROOM_BYTES = 256 << 20
"""For the log and what surrounds the tensors."""

Rows = list[dict[str, Any]]


class CheckpointError(DualpixError):
    """A checkpoint that cannot be continued from."""


@dataclass(frozen=True)
class RunState:
    """A run between two steps."""

    config: TrainConfig
    precision: Precision
    """The steps so far were computed in it."""
    step: int
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimiser: dict[str, Any]
    rows: Rows
    """Of the log, one a step."""
    data: str
    """Digest of what it trains on."""
    started_from: tuple[str, ...] | None = None
    """What the card says of its first weights; None in what 0.1.0 wrote."""


def write_checkpoint(folder: Path, state: RunState) -> None:
    """Put the checkpoint in the place of the former one."""
    content = {
        "network": state.network,
        "optimiser": state.optimiser,
        "average": state.average,
        "step": state.step,
        "precision": state.precision,
        "data": state.data,
        "started_from": list(state.started_from or ()),
        "config": json.dumps(asdict(state.config)),
        "log": log_text(state.rows),
    }
    with atomic_path(folder / CHECKPOINT) as temporary:
        torch.save(content, temporary)


def read_checkpoint(
    folder: Path, config: TrainConfig, network: nn.Module, optimiser: torch.optim.Optimizer, data: str
) -> RunState:
    """The state to go on from.

    Args:
        folder: of the run; holds a checkpoint.
        config: of the run that is to go on.
        network: of that run; gives names and shapes.
        optimiser: of that run; gives the number of its parameters.
        data: digest of what it trains on.

    Raises:
        CheckpointError: the file is damaged, belongs to another configuration or network, or holds values that are not
            finite.
    """
    path = folder / CHECKPOINT
    content = _load(path, network)
    stored = _config(path, content)
    _same_settings(folder, stored, config)
    if "data" in content and _get(path, content, "data", str) != data:
        raise CheckpointError(
            f"the data of the run in '{folder}' are not what they were",
            expected="the samples that it began with",
            hint="bring them back, or give another output folder",
        )
    precision = _precision(path, content)
    if config.precision not in ("auto", precision):
        raise CheckpointError(
            f"the run in '{folder}' was computed in {precision} so far, {config.precision} was asked for",
            hint=f"leave it at auto or {precision}, or give another output folder",
        )
    reference = network.state_dict()
    state = RunState(
        config,
        precision,
        _step(path, content, config),
        _tensors(path, content, "network", reference),
        _tensors(path, content, "average", reference),
        _optimiser(path, content, optimiser),
        _rows(path, content),
        data,
        _started_from(path, content),
    )
    if len(state.rows) != state.step:
        raise _damaged(path, f"its log has {len(state.rows)} rows for {state.step} steps")
    return state


def log_text(rows: Rows) -> str:
    """The log as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, LOG_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor that holds NaN or infinity."""
    return next((name for name, value in tensors.items() if not torch.isfinite(value).all()), None)


def _damaged(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"checkpoint '{path}' does not load: {found}", hint="delete it, or give --restart, to begin the run anew"
    )


def _load(path: Path, network: nn.Module) -> dict[str, Any]:
    most = _COPIES * sum(v.numel() * v.element_size() for v in network.state_dict().values()) + _ROOM_BYTES
    size = path.stat().st_size
    if size > most:
        raise _damaged(path, f"it has {size >> 20} MiB, at most {most >> 20} are expected of this network")
    try:
        with zipfile.ZipFile(path) as archive:  # torch stores its records plain; a packed one may unpack to anything
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise _damaged(path, "its records are compressed, which torch.save does not do")
        content = torch.load(path, weights_only=True, map_location="cpu")
    except CheckpointError:
        raise
    except (OSError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise _damaged(path, _first_line(error)) from error
    except Exception as error:  # torch's reader answers damage with almost any type
        raise _damaged(path, _first_line(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, f"it holds a {type(content).__name__}")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _get(path: Path, content: Mapping[str, Any], name: str, kind: type) -> Any:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, kind):
        found = "is missing" if name not in content else f"is a {type(value).__name__}"
        raise _damaged(path, f"'{name}' {found}")
    return value


def _config(path: Path, content: Mapping[str, Any]) -> TrainConfig:
    text = _get(path, content, "config", str)
    try:
        return config_from_json(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, DualpixError) as error:
        raise _damaged(path, f"its settings are no settings of a run ({_first_line(error)})") from error


def _same_settings(folder: Path, stored: TrainConfig, wanted: TrainConfig) -> None:
    different = [
        f.name for f in fields(stored) if f.name != "precision" and getattr(stored, f.name) != getattr(wanted, f.name)
    ]
    if different:
        raise CheckpointError(
            f"the checkpoint in '{folder}' was made with other settings ({', '.join(different)})",
            hint="give the same ones, or another output folder",
        )


def _precision(path: Path, content: Mapping[str, Any]) -> Precision:
    if "precision" not in content:  # 0.1.0 wrote a switch into the settings
        return "bfloat16" if json.loads(content["config"]).get("bfloat16", True) else "float32"
    value = content["precision"]
    if value not in get_args(Precision):
        raise _damaged(path, f"'precision' is {value!r:.40}")
    precision: Precision = value
    return precision


def _started_from(path: Path, content: Mapping[str, Any]) -> tuple[str, ...] | None:
    if "started_from" not in content:
        return None
    told = _get(path, content, "started_from", list)
    if not all(isinstance(line, str) for line in told):
        raise _damaged(path, "'started_from' holds what is no text")
    return tuple(told)


def _step(path: Path, content: Mapping[str, Any], config: TrainConfig) -> int:
    step: int = _get(path, content, "step", int)
    if not 0 <= step <= config.steps:
        raise _damaged(path, f"it is of step {step} of {config.steps}")
    return step


def _tensors(path: Path, content: Mapping[str, Any], name: str, reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = _get(path, content, name, dict)
    for key, wanted in reference.items():
        value = found.get(key)
        if not isinstance(value, Tensor) or value.shape != wanted.shape or _kind(value) != _kind(wanted):
            raise _damaged(path, f"'{name}' has no '{key}' of shape {tuple(wanted.shape)}")
    if extra := [str(key) for key in found if key not in reference]:
        raise _damaged(path, f"'{name}' has '{extra[0]}', which the network has not")
    if bad := first_not_finite(found):
        raise _damaged(path, f"'{name}' holds values in '{bad}' that are not finite")
    return dict(found)


def _kind(value: Tensor) -> bool:
    """Whether it is of the numbers a run computes in, which its precision tells, or a counter."""
    return value.dtype in (torch.float32, torch.float64)


def _optimiser(path: Path, content: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """torch takes moments of any shape and fails at the next step, so they are looked at here."""
    found = _get(path, content, "optimiser", dict)
    groups, state = found.get("param_groups"), found.get("state")
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    known = {f for group in optimiser.param_groups for f in group}
    if not (
        isinstance(groups, list)
        and len(groups) == len(optimiser.param_groups)
        and all(isinstance(g, dict) and set(g) == known for g in groups)
        and [i for g in groups for i in g["params"]] == list(range(len(parameters)))
        and isinstance(state, dict)
    ):
        raise _damaged(path, "'optimiser' is not one of this network")
    learnt = {i for i, parameter in enumerate(parameters) if parameter.requires_grad}
    if content["step"] > 0 and (missing := learnt - state.keys()):  # torch would begin them at zero, without a word
        raise _damaged(path, f"'optimiser' has no moments of {len(missing)} of {len(learnt)} parameters")
    for index, entry in state.items():
        fits = isinstance(index, int) and 0 <= index < len(parameters) and isinstance(entry, dict)
        if not fits or set(entry) != {"step", "exp_avg", "exp_avg_sq"}:
            raise _damaged(path, f"'optimiser' has an entry {index!r:.20} that is none of this network")
        shape = parameters[index].shape
        for name, wanted in (("step", torch.Size([])), ("exp_avg", shape), ("exp_avg_sq", shape)):
            value = entry[name]
            if not isinstance(value, Tensor) or value.shape != wanted or not torch.isfinite(value).all():
                raise _damaged(path, f"'{name}' of the optimiser's entry {index} does not fit the network")
    return dict(found)


def _rows(path: Path, content: Mapping[str, Any]) -> Rows:
    text = _get(path, content, "log", str)
    rows: Rows = [
        {"eval_error" if name == _FORMER_ERROR else name: value for name, value in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]
    if any(set(row) != set(LOG_FIELDS) or None in row.values() for row in rows):
        raise _damaged(path, f"its log has other columns than {', '.join(LOG_FIELDS)}")
    return rows
