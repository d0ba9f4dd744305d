"""Training that survives a kill at any step.

Everything a step needs is in the checkpoint or a pure function of (configuration, step): weights, optimiser, learning
rate, which samples, how they are augmented. A checkpoint is renamed into place, so there is always a whole one. A run
that resumes continues the curve bit for bit on the same machine, threads and versions.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_path, make_output_dir, write_bytes, write_json
from dualpix.models.data.rendered import (
    EVALUATION_SEED,
    AugmentedDataset,
    EvalSample,
    RenderedDataset,
    RenderSettings,
    ResumableSampler,
    evaluation_set,
)
from dualpix.models.losses import disparity_loss, error_px
from dualpix.models.networks import build_network
from dualpix.models.zoo import load_model

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"
_LOG_FIELDS = ("step", "loss", "learning_rate", "eval_error_px", "seconds", "waited_s")


@dataclass(frozen=True)
class TrainConfig:
    """A run. Two runs of equal configuration on one machine give equal weights."""

    network: str = "difusenet"
    options: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    """Model, by name or folder, whose weights are the start; None starts from random ones."""
    init_share: float = 0.0
    """Share of those weights in the result: averaging with them keeps what fine-tuning would forget (Wortsman et al.,
    "Robust fine-tuning of zero-shot models", CVPR 2022)."""
    steps: int = 6000
    batch_size: int = 8
    samples: int = 4096
    seed: int = 1
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    ema_decay: float = 0.998
    """Decay of the running average of the weights; the average is what is evaluated and shipped."""
    checkpoint_every: int = 100
    evaluate_every: int = 500
    eval_samples: int = 32
    bfloat16: bool = True
    crop_hw: tuple[int, int] | None = (128, 160)
    """Random window of each rendered scene; None trains on the whole."""
    render: RenderSettings = field(default_factory=RenderSettings)

    def __post_init__(self) -> None:
        if self.seed >= EVALUATION_SEED:
            raise DualpixError(
                f"seed {self.seed}", expected=f"below {EVALUATION_SEED}: seeds from there on are for evaluation"
            )
        if not 0.0 <= self.init_share < 1.0 or (self.init_share and self.init is None):
            raise DualpixError(f"a share of {self.init_share:g} of the first weights", expected="init, and below 1")
        if self.crop_hw and any(c > s for c, s in zip(self.crop_hw, self.render.size_hw, strict=True)):
            raise DualpixError(f"crop {self.crop_hw}", expected=f"at most the rendered size {self.render.size_hw}")


def config_from_json(value: dict[str, Any]) -> TrainConfig:
    """The inverse of ``asdict`` through JSON (lists become tuples again)."""
    render: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value["render"].items()}
    plain: dict[str, Any] = {k: tuple(v) if k == "crop_hw" and v else v for k, v in value.items() if k != "render"}
    return TrainConfig(**plain, render=RenderSettings(**render))


@dataclass(frozen=True)
class Progress:
    """What a caller may show after a step."""

    step: int
    steps: int
    loss: float
    eval_error_px: float | None


class Trainer:
    """One run in one folder: ``checkpoint.pt``, ``log.csv``; at the end ``weights.safetensors`` and ``card.json``."""

    def __init__(self, config: TrainConfig, folder: Path, *, cache_dir: Path | None = None, workers: int = 1) -> None:
        self.config, self.folder, self.workers = config, make_output_dir(folder), workers
        torch.manual_seed(config.seed)
        self.network = build_network(config.network, config.options).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.init is not None:
            _load_weights(self.network, config.init)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self.data = AugmentedDataset(
            RenderedDataset(config.samples, settings=config.render, seed=config.seed, cache_dir=cache_dir),
            config.crop_hw,
        )
        self.step = 0
        self._rows: list[dict[str, Any]] = []

    def resume(self) -> bool:
        """Load the folder's checkpoint if there is one.

        Raises:
            DualpixError: it belongs to another configuration, or is damaged.
        """
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return False
        try:
            state = torch.load(path, weights_only=True)
            stored = config_from_json(json.loads(state["config"]))
        except Exception as error:
            raise DualpixError(
                f"checkpoint '{path}' does not load: {str(error).splitlines()[0]}", hint="delete it"
            ) from error
        if stored != self.config:
            different = [f.name for f in fields(stored) if getattr(stored, f.name) != getattr(self.config, f.name)]
            raise DualpixError(
                f"the checkpoint in '{self.folder}' was made with other settings ({', '.join(different)})",
                hint="give the same ones, or another output folder",
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step = state["average"], state["step"]
        self._rows = [dict(row) for row in csv.DictReader(io.StringIO(state["log"]))]
        return True

    def run(self, on_progress: Callable[[Progress], None] = lambda _: None) -> nn.Module:
        """Train to the last step and return the averaged network in eval mode; writes weights and card."""
        config = self.config
        sampler = ResumableSampler(config.samples, config.batch_size, self.step, config.steps, config.seed)
        loader = DataLoader(
            self.data,
            batch_sampler=sampler,
            num_workers=self.workers,
            worker_init_fn=_single_thread,
            prefetch_factor=4 if self.workers else None,
            # a forked child of a process whose OpenMP threads have run can hang
            multiprocessing_context="spawn" if self.workers else None,
        )
        evaluation = evaluation_set(config.eval_samples) if config.eval_samples else []
        started = time.monotonic()
        watched = _Watched(loader)
        for batch in watched:
            loss = self._train_step(batch)
            self.step += 1
            last = self.step == config.steps
            error = None
            if evaluation and (last or self.step % config.evaluate_every == 0):
                error = self.evaluate(evaluation)
            self._rows.append(
                {
                    "step": self.step,
                    "loss": f"{loss:.6f}",
                    "learning_rate": f"{self._learning_rate(self.step - 1):.3e}",
                    "eval_error_px": "" if error is None else f"{error:.5f}",
                    "seconds": f"{time.monotonic() - started:.1f}",
                    "waited_s": f"{watched.waited_s:.2f}",
                }
            )
            if last or self.step % config.checkpoint_every == 0:
                self.save()
            on_progress(Progress(self.step, config.steps, loss, error))
        return self.finish()

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to 1 % at the end."""
        c = self.config
        if step < c.warmup_steps:
            return c.learning_rate * (step + 1) / c.warmup_steps
        share = (step - c.warmup_steps) / max(1, c.steps - c.warmup_steps)
        return c.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))

    def _train_step(self, batch: list[Tensor]) -> float:
        image, left, right, target = (x.contiguous(memory_format=torch.channels_last) for x in batch)
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate(self.step)
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bfloat16):
            predictions = self.network.forward_scales(image, left, right)
        loss = disparity_loss(predictions, target)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self._update_average()
        return float(loss.detach())

    @torch.no_grad()
    def _update_average(self) -> None:
        # A short memory at first, or the random start would stay in the average for thousands of steps.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def averaged_network(self) -> nn.Module:
        """A copy of the network with the averaged weights, in eval mode."""
        network = build_network(self.config.network, self.config.options)
        network.load_state_dict(self.average)
        return network.eval()

    @torch.inference_mode()
    def evaluate(self, samples: list[EvalSample]) -> float:
        """Mean absolute disparity error in px of the averaged weights."""
        network = self.averaged_network()
        return sum(float(error_px(network(*s.inputs), s.disparity_px)) for s in samples) / len(samples)

    def save(self) -> None:
        """Write the checkpoint, then the log; a reader never sees half of either."""
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "step": self.step,
            "config": json.dumps(asdict(self.config)),
            "log": self._log_text(),
        }
        with atomic_path(self.folder / CHECKPOINT) as temporary:
            torch.save(state, temporary)
        write_bytes(self.folder / LOG, self._log_text().encode())

    def _log_text(self) -> str:
        out = io.StringIO()
        writer = csv.DictWriter(out, _LOG_FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        return out.getvalue()

    def finish(self) -> nn.Module:
        """Write ``weights.safetensors`` and ``card.json``: the folder is then a model ``--model`` accepts."""
        network = self.averaged_network()
        if self.config.init is not None and self.config.init_share:
            _blend(network, load_model(self.config.init).module, self.config.init_share)
        write_bytes(
            self.folder / "weights.safetensors", save({k: v.contiguous() for k, v in network.state_dict().items()})
        )
        errors = [float(row["eval_error_px"]) for row in self._rows if row["eval_error_px"]]
        card = {
            "network": self.config.network,
            "options": self.config.options,
            "parameters": sum(p.numel() for p in network.parameters()),
            "training": asdict(self.config),
            "final_eval_error_px": errors[-1] if errors else None,
        }
        write_json(self.folder / "card.json", card)
        return network


def _load_weights(network: nn.Module, init: str) -> None:
    model = load_model(init)
    try:
        network.load_state_dict(model.module.state_dict())
    except RuntimeError as error:
        raise DualpixError(
            f"weights of '{model.name}' do not fit", expected="a model of the network and options that are trained"
        ) from error


@torch.no_grad()
def _blend(network: nn.Module, other: nn.Module, share: float) -> None:
    """Move the weights of ``network`` by ``share`` of the way to those of ``other``."""
    towards = other.state_dict()
    for name, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(towards[name], share)


class _Watched:
    """Counts the time for which the training stands still because its data are not there yet."""

    def __init__(self, loader: DataLoader[tuple[Tensor, ...]]) -> None:
        self.loader, self.waited_s = loader, 0.0

    def __iter__(self) -> Iterator[list[Tensor]]:
        batches = iter(self.loader)
        while True:
            asked = time.monotonic()
            batch: list[Tensor] | None = next(batches, None)
            self.waited_s += time.monotonic() - asked
            if batch is None:
                return
            yield batch


def _single_thread(_: int) -> None:
    """Workers render with one thread each: they run beside the training, which has its own."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
