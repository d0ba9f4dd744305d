"""Adapting a model to a camera by pairs without any truth: what its picture and disparity make of the halves is held
against the halves (Pan et al., CVPR 2021, fine-tune on real pairs "by reblur only").

What would spoil it, and what stands against it:

* *Nothing is blurred.* The given picture, taken to be in focus everywhere, makes both halves up to their difference. So
  the difference is what is compared (:func:`dualpix.models.losses.image.halves_loss`): that answer makes none of it.
* *Whatever fits.* In places without texture any disparity does, and more contrast makes up for less of it. So picture
  and disparity are kept near those of the model that it began with.
* *Learning by heart.* A fifth of the captures is held out. The weights of the step that does best on them are kept, if
  there the difference is made better than by the first model, the halves match at the disparities at least as well, and
  neither the relief nor what is restored has shrunk away. Else nothing is written.

Batch norms stay as they were. Convention: as :mod:`dualpix.models.tasks.dual_pixel`; views are the working views of
``dualpix depth``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import json_bytes, make_output_dir, write_bytes
from dualpix.models.losses.image import halves_loss
from dualpix.models.networks.spec import NetworkSpec
from dualpix.models.prepare import network_inputs
from dualpix.models.samples import SHARP
from dualpix.models.tasks.task import Batch
from dualpix.models.train.adapt_pairs import Pair, split_pairs
from dualpix.models.zoo import LoadedModel

_SAME_RELIEF, _SAME_RESTORED = 0.5, 0.5
_NO_WORSE = 1.02
_LEAST_GAIN = 0.005
"""By how much the difference must be made better: less is chance."""


@dataclass(frozen=True)
class AdaptConfig:
    """How to adapt."""

    steps: int = 200
    batch_size: int = 4
    learning_rate: float = 1e-4
    crop_hw: tuple[int, int] = (128, 160)
    seed: int = 1
    keep_picture: float = 0.5
    """Weight of the mean absolute change of the encoded picture."""
    keep_disparity: float = 0.02
    """And of the disparity, per px."""
    judge_every: int = 25

    def __post_init__(self) -> None:
        if not (self.steps >= 1 and self.batch_size >= 1 and 0 < self.learning_rate <= 1):
            raise DualpixError(
                f"{self.steps} steps of {self.batch_size} at a rate of {self.learning_rate:g}",
                expected="1 or more of either, and a rate above 0 and up to 1",
            )


@dataclass(frozen=True)
class Judged:
    """A model on held-out pairs; means over them."""

    difference: float
    """What the halves' difference is off by, encoded."""
    match: float
    """Mean absolute difference of the halves, one moved by the disparity, encoded."""
    relief_px: float
    """Deviation of the disparity."""
    restored: float
    """Mean absolute change of the encoded picture."""


class AdaptationError(DualpixError):
    """Nothing better came of it."""


def check_model(model: LoadedModel) -> None:
    """Refuse a model that gives nothing to blur.

    Raises:
        DualpixError: it has no sharp picture.
    """
    if SHARP not in model.spec.outputs:
        raise DualpixError(
            f"model '{model.name}' gives no sharp picture that could be blurred again",
            expected="one that does: `dualpix train --network dddnet`",
        )


def adapt(
    model: LoadedModel,
    pairs: Sequence[Pair],
    config: AdaptConfig,
    *,
    device: torch.device | None = None,
    on_step: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> tuple[nn.Module, dict[str, object]]:
    """The adapted network, and what it was judged by.

    Args:
        model: to begin with; it is unchanged.
        pairs: captures of the camera.
        config: how.
        device: to compute on.
        on_step: told (done, total, text).

    Raises:
        AdaptationError: the held-out pairs are no better for it.
    """
    check_model(model)
    where = device or torch.device("cpu")
    training, held = split_pairs(pairs)
    first = copy.deepcopy(model.module).to(where).eval().requires_grad_(False)
    network = copy.deepcopy(first)
    parameters = [p.requires_grad_() for p in network.parameters()]
    optimiser = torch.optim.AdamW(parameters, config.learning_rate, weight_decay=0.0)
    before = judge(first, model.spec, held, where)
    best, best_state, at = before, None, 0
    reasons: list[str] = []
    for step in range(1, config.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps))
        batch = _draw(training, config, model.spec.size_multiple, step)
        loss = _loss(network, first, model.spec, _on(batch, where), config)
        if not math.isfinite(float(loss.detach())):
            raise AdaptationError(f"the loss is {float(loss.detach())} at step {step}", hint="lower --learning-rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if step % config.judge_every == 0 or step == config.steps:
            found = judge(network, model.spec, held, where)
            why = worse(found, before)
            if why is None and found.difference < best.difference:
                best, at = found, step
                best_state = {name: value.detach().clone() for name, value in network.state_dict().items()}
            elif why is not None:
                reasons.append(why)
            on_step(step, config.steps, f"held out: {before.difference:.5f} -> {found.difference:.5f}")
        else:
            on_step(step, config.steps, f"loss {float(loss.detach()):.5f}")
    if best_state is None:
        raise AdaptationError(
            f"nothing better came of it: {reasons[-1] if reasons else 'no step did better'}",
            expected="held-out pairs whose difference is made better",
            hint="try more captures, a lower --learning-rate, or another --disparity-gain; nothing was written",
        )
    network.load_state_dict(best_state)
    names = {pair.name for pair in training}
    record: dict[str, object] = {
        **asdict(config),
        "captures": len(names),
        "held_out": sorted({Path(pair.name).name for pair in held}),
        "disparity_gain": sorted({round(pair.gain, 4) for pair in pairs}),
        "step": at,
        "before": asdict(before),
        "after": asdict(best),
    }
    return network.cpu().eval(), record


def worse(found: Judged, before: Judged) -> str | None:
    """In which way an adapted model is no good, if it is not."""
    if not all(math.isfinite(value) for value in asdict(found).values()):
        return "its outputs are not finite"
    if found.relief_px < _SAME_RELIEF * before.relief_px:
        return f"the relief shrank from {before.relief_px:.2f} to {found.relief_px:.2f} px"
    if found.restored < _SAME_RESTORED * before.restored:
        return f"what is restored shrank from {before.restored:.4f} to {found.restored:.4f}: it gives what it is given"
    if found.match > _NO_WORSE * before.match:
        return f"the halves match worse at its disparities, {found.match:.5f} after {before.match:.5f}"
    if found.difference > (1 - _LEAST_GAIN) * before.difference:
        return f"the difference of the halves is off by {found.difference:.5f} after {before.difference:.5f}"
    return None


def _loss(network: nn.Module, first: nn.Module, spec: NetworkSpec, batch: Batch, config: AdaptConfig) -> Tensor:
    inputs = spec.inputs_of(batch)
    disparity, sharp = _outputs(network, spec, inputs)
    with torch.no_grad():
        first_disparity, first_sharp = _outputs(first, spec, inputs)
    kept = config.keep_picture * (sharp - first_sharp).abs().mean()
    kept = kept + config.keep_disparity * (disparity - first_disparity).abs().mean()
    return halves_loss(sharp, disparity, batch, batch["gain"]) + kept


def _outputs(network: nn.Module, spec: NetworkSpec, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    outputs = network(*inputs)
    return outputs[0], outputs[spec.outputs.index(SHARP)]


def _draw(pairs: Sequence[Pair], config: AdaptConfig, multiple: int, step: int) -> Batch:
    """Random windows; of a picture that is smaller, as much of it as the network takes."""
    rng = np.random.default_rng([config.seed, step])
    chosen = [pairs[int(rng.integers(len(pairs)))] for _ in range(config.batch_size)]
    sizes = [pair.views["left"].shape[-2:] for pair in chosen]
    h, w = (min(side, *(size[k] for size in sizes)) // multiple * multiple for k, side in enumerate(config.crop_hw))
    if min(h, w) < multiple:
        raise DualpixError(f"captures of {min(sizes)} (h, w) px", expected=f"at least {multiple} px either way")
    windows: list[Batch] = []
    for pair, (height, width) in zip(chosen, sizes, strict=True):
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        windows.append({name: value[:, top : top + h, left : left + w] for name, value in pair.views.items()})
    batch = {name: torch.stack([window[name] for window in windows]) for name in windows[0]}
    return batch | {"gain": torch.tensor([pair.gain for pair in chosen])}


@torch.no_grad()
def judge(network: nn.Module, spec: NetworkSpec, pairs: Sequence[Pair], device: torch.device) -> Judged:
    """A network on whole pairs."""
    figures = []
    for pair in pairs:
        height, width = (side // spec.size_multiple * spec.size_multiple for side in pair.views["left"].shape[-2:])
        batch = _on({name: value[None, :, :height, :width] for name, value in pair.views.items()}, device)
        inputs = spec.inputs_of(batch)
        disparity, sharp = _outputs(network, spec, inputs)
        image = inputs[spec.input_names.index("image")]
        figures.append(
            (
                float(halves_loss(sharp, disparity, batch, pair.gain)),
                match_error(batch, disparity),
                float(disparity.std()),
                float((sharp - image).abs().mean()),
            )
        )
    return Judged(*(float(np.mean(column)) for column in zip(*figures, strict=True)))


def match_error(batch: Batch, disparity_px: Tensor) -> float:
    """Mean absolute difference of the encoded halves where both are moved half of the disparity to meet.

    It knows nothing of a sharp picture or of blur: a second opinion on the disparity.
    """
    _, left, right = network_inputs(batch["left"], batch["right"], batch["combined"])
    gap = _moved(left, -disparity_px / 2) - _moved(right, disparity_px / 2)
    return float(gap.abs().mean())


def _moved(view: Tensor, shift_px: Tensor) -> Tensor:
    """``view`` at x + shift, between pixels by a cubic, as linear interpolation would blur one half more."""
    height, width = view.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=view.device), torch.arange(width, device=view.device), indexing="ij"
    )
    at_x = (x + shift_px[:, 0] + 0.5) * (2 / width) - 1
    at_y = ((y + 0.5) * (2 / height) - 1).expand_as(at_x)
    grid = torch.stack([at_x, at_y], -1)
    return nn.functional.grid_sample(view, grid, mode="bicubic", padding_mode="border", align_corners=False)


def _on(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device) for name, value in batch.items()}


def write_adapted(folder: Path, model: LoadedModel, network: nn.Module, record: dict[str, object]) -> None:
    """A folder that ``--model`` takes. The card is the first model's, with what was done since."""
    make_output_dir(folder)
    card = {**model.card, "adapted": {"from": model.name, **record}}
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    files = {"card.json": json_bytes(card), "weights.safetensors": save(weights)}
    for name, data in files.items():
        write_bytes(folder / name, data)


def config_with(
    *, steps: int | None, batch_size: int | None, learning_rate: float | None, crop_hw: tuple[int, int], seed: int
) -> AdaptConfig:
    """A configuration of what was asked for, with its own defaults for the rest."""
    asked = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
    given = {name: value for name, value in asked.items() if value is not None}
    return replace(AdaptConfig(crop_hw=crop_hw, seed=seed), **given)  # type: ignore[arg-type]
