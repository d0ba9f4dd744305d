"""The training loop.

Everything a step needs is in the checkpoint or a pure function of (configuration, step): weights, optimiser, learning
rate, which samples, how they are augmented. A checkpoint is renamed into place, so there is always a whole one. A run
that resumes continues the curve bit for bit on the same machine, threads and versions.

Several processes (:mod:`.distributed`) hold the same weights and see parts of one batch: their curve is that of one
process with the whole batch, up to the order of sums.

A step whose loss or gradient is not finite is not taken, and a state that is not finite is not kept: the last
checkpoint is always one to go on from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import save
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import json_bytes, make_output_dir, write_bytes
from dualpix.capture.stack.take.interrupt import StopSwitch
from dualpix.models.data.kinds import Precision
from dualpix.models.data.mixture import Key
from dualpix.models.data.scenes import task_scene
from dualpix.models.data.skipped import Skips
from dualpix.models.networks import build_network, network_spec
from dualpix.models.networks.spec import first_output, training_outputs
from dualpix.models.tasks.task import Batch, EvalSample, eval_sample
from dualpix.models.train.checkpoint import (
    CHECKPOINT,
    Rows,
    RunState,
    first_not_finite,
    log_text,
    read_checkpoint,
    write_checkpoint,
)
from dualpix.models.train.config import TrainConfig
from dualpix.models.train.device import resolve_device, resolve_precision
from dualpix.models.train.distributed import World, average_gradients, synchronise_norms
from dualpix.models.train.feed import Feed, data_of
from dualpix.models.train.progress import Listener, NotFiniteError, Progress, TrainingInterruptedError
from dualpix.models.train.quick import quicken
from dualpix.models.train.start import blend, check_window, frozen_at_random, load_start
from dualpix.models.train.teachers import teachers_of

LOG = "log.csv"
_NUMBERS = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}
"""Of weights and moments, by precision: bfloat16 is for products alone."""
_PICTURES = 4
"""Axes of a batch of pictures."""


class Trainer:
    """One run in one folder: ``checkpoint.pt``, ``log.csv``; at the end ``weights.safetensors`` and ``card.json``."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        *,
        cache_dir: Path | None = None,
        workers: int = 1,
        device: torch.device | None = None,
        world: World | None = None,
        goes_on: bool = False,
    ) -> None:
        """Make what a run needs.

        Args:
            config: of the run.
            folder: of the run.
            cache_dir: where rendered scenes are kept.
            workers: processes that make the data.
            device: where it is computed; the CPU by default.
            world: the processes that share the work.
            goes_on: whether :meth:`resume` follows; then nothing is read of what the run once started from, if the
                folder holds a checkpoint.
        """
        # before the folder is made: what cannot be built leaves nothing
        torch.manual_seed(config.seed)
        self.world = world or World()
        self.share = self.world.share(config.batch_size)
        self.device = device or resolve_device("cpu")
        self.spec = network_spec(config.network, config.options)
        self.task = self.spec.of_task()
        check_window(config, self.spec.size_multiple)
        network = build_network(config.network, config.options)
        self._begun = goes_on and (folder / CHECKPOINT).is_file()
        reads = not self._begun and (self.world.is_first or not config.init_parts)
        self.started_from = load_start(network, self.spec, config, folder) if reads else ()
        self.config, self.workers = config, workers
        self.precision = resolve_precision(config.precision, self.device)
        self.network = quicken(network.to(self.device, _NUMBERS[self.precision]))
        if all(parameter.ndim <= _PICTURES for parameter in network.parameters()):  # 3-D convolutions have none
            self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.world.size > 1:
            synchronise_norms(self.network)
            if config.init_parts:  # they lie with the first process
                self.world.from_first(self.network.state_dict())
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            config.learning_rate,
            weight_decay=config.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.loss = self.spec.loss_for(config.options)
        self.teachers = teachers_of(config, self.spec, self.device)
        data = data_of(config, self.task, cache_dir, self.spec.wanted)
        self.data, self.held_out = data.training, data.validation
        self.notes = data.notes if self._begun else (*data.notes, *frozen_at_random(network, self.started_from))
        self.folder = make_output_dir(folder) if self.world.is_first else folder
        self.step = 0
        self._kept_step = 0
        self._skips = Skips()
        self._rows: Rows = []
        self.eval_error_of_guess: float | None = None
        """What a map that knows nothing scores on the evaluation scenes: a network that is no better has learnt
        nothing."""

    def resume(self) -> bool:
        """Load the folder's checkpoint if there is one, and keep the precision it was computed in.

        The first process reads it, the others are told.

        Raises:
            CheckpointError: it belongs to another configuration, or is damaged.
        """
        state = None
        if self.world.is_first and (self.folder / CHECKPOINT).is_file():
            state = read_checkpoint(self.folder, self.config, self.network, self.optimiser, self.data.digest())
        step = self.world.number_from_first(-1 if state is None else state.step, self.device)
        if step < 0:
            return False
        if state is not None:
            self.precision = state.precision
            if state.started_from is not None:
                self.started_from = state.started_from
            elif self._begun:
                self.started_from = load_start(self.network, self.spec, self.config, self.folder)
            self.network.to(_NUMBERS[self.precision]).load_state_dict(state.network)
            self.optimiser.load_state_dict(state.optimiser)
            for name, value in state.average.items():
                self.average[name] = value.to(self.device)
            self._rows = state.rows
        self._tell_others(step)
        self.step = self._kept_step = step
        self._begun = False
        return True

    def _tell_others(self, step: int) -> None:
        """The state of the first process, where there are more."""
        if self.world.size == 1:
            return
        known = get_args(Precision)
        self.precision = known[self.world.number_from_first(known.index(self.precision), self.device)]
        self.world.from_first(self.network.state_dict())
        self.world.from_first(self.average)
        if not self.world.is_first:
            for group in self.optimiser.param_groups:
                for parameter in (p for p in group["params"] if p.requires_grad):
                    moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                    # fused kernels count on the parameter's device
                    place = parameter.device if group["fused"] else "cpu"
                    self.optimiser.state[parameter] = {"step": torch.tensor(float(step), device=place)} | moments
        for group in self.optimiser.param_groups:
            for parameter in group["params"]:
                if held := self.optimiser.state.get(parameter):
                    self.world.from_first({name: held[name] for name in ("exp_avg", "exp_avg_sq")})

    def run(
        self, on_progress: Callable[[Progress], None] = lambda _: None, *, listener: Listener | None = None
    ) -> nn.Module:
        """Train to the last step and return the averaged network in eval mode; writes weights and card.

        Raises:
            NotFiniteError: a loss, a gradient or a state is NaN or infinite; the last checkpoint stays.
            TrainingInterruptedError: Ctrl-C or SIGTERM (in the main thread), after a checkpoint.
        """
        if self._begun:
            raise RuntimeError("a run that goes on is resumed first")
        listener = listener or Listener(on_progress)
        with StopSwitch() as switch:
            evaluation = self._evaluation_scenes(listener, switch)
            if self.config.eval_samples:
                self.eval_error_of_guess = self._mean_error(
                    evaluation, lambda sample: self.task.guess(self._on_device(sample.truth))
                )
            listener.on_stage("the first scenes are rendered", 0, 0)
            self._run_steps(evaluation, listener, switch)
        return self.finish()

    def _evaluation_scenes(self, listener: Listener, switch: StopSwitch) -> list[EvalSample]:
        """This process's part of them, rendered or held out of the data."""
        scenes = []
        count = self.config.eval_samples
        keys = self.held_out.spread_keys(count) if self.held_out and count else []
        count = len(keys) or count
        # all processes take as many turns: at each they ask one another whether to stop
        for first in range(0, count, self.world.size):
            listener.on_stage(f"evaluation scenes are {'read' if keys else 'rendered'}", first, count)
            self._stop_if_asked(switch)
            index = first + self.world.rank
            if index < count:
                scenes.append(self._held_out_sample(keys[index]) if keys else self._rendered_sample(index))
        return scenes

    def _rendered_sample(self, index: int) -> EvalSample:
        return eval_sample(self.task, task_scene(self.task, index), self.spec.input_names)

    def _held_out_sample(self, key: Key) -> EvalSample:
        assert self.held_out is not None  # noqa: S101 - who has a key has what it is of
        loaded = self.held_out.load(key)
        self._skips.note(loaded.skipped)
        return eval_sample(self.task, loaded.sample, self.spec.input_names)

    def _run_steps(self, evaluation: list[EvalSample], listener: Listener, switch: StopSwitch) -> None:
        config = self.config
        started = time.monotonic()
        feed = Feed(
            self.data, config.batch_size, config.steps, world=self.world, device=self.device, workers=self.workers
        )
        feed.skips = self._skips
        for batch in feed.batches(self.step):
            loss = self._train_step(batch)
            self.step += 1
            last = self.step == config.steps
            error = None
            if config.eval_samples and (last or self.step % config.evaluate_every == 0):
                error = self.evaluate(evaluation)
                if not math.isfinite(error):
                    raise self._not_finite(f"the evaluation error is {error}")
            self._rows.append(
                {
                    "step": self.step,
                    "loss": f"{loss:.6f}",
                    "learning_rate": f"{self._learning_rate(self.step - 1):.3e}",
                    "eval_error": "" if error is None else f"{error:.5f}",
                    "seconds": f"{time.monotonic() - started:.1f}",
                    "waited_s": f"{feed.waited_s:.2f}",
                }
            )
            if last or self.step % config.checkpoint_every == 0:
                self.save()
            listener.on_progress(Progress(self.step, config.steps, loss, error, self.task.error_unit))
            if not last:
                self._stop_if_asked(switch)

    def _on_device(self, batch: Batch) -> Batch:
        return {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}

    def _stop_if_asked(self, switch: StopSwitch) -> None:
        if self.world.any(switch.is_set, self.device):
            if self.step > self._kept_step:
                self.save()
            raise TrainingInterruptedError(self.step, switch.signal_number)

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to 1 % at the end."""
        c = self.config
        if step < c.warmup_steps:
            return c.learning_rate * (step + 1) / c.warmup_steps
        share = (step - c.warmup_steps) / max(1, c.steps - c.warmup_steps)
        return c.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))

    def _train_step(self, batch: Batch) -> float:
        if self.precision == "float64":
            batch = {name: value.double() for name, value in batch.items()}
        inputs = [
            value.contiguous(memory_format=torch.channels_last) if value.ndim == _PICTURES else value
            for value in self.spec.inputs_of(batch)
        ]
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate(self.step)
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            predictions = self._predicted(inputs)
        loss = self.loss(predictions, batch)
        if self.teachers is not None:
            loss = loss + self.teachers.loss(predictions, batch)
        value = float(self.world.mean(loss.detach().clone()))
        if not math.isfinite(value):
            raise self._not_finite(f"the loss is {value}", batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.network, self.world)
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), 1.0))
        if not math.isfinite(norm):
            raise self._not_finite(f"the gradient's norm is {norm}", batch)
        self.optimiser.step()
        self._update_average()
        return value

    def _predicted(self, inputs: Sequence[Tensor]) -> list[Any]:
        try:
            return training_outputs(self.network, inputs)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise DualpixError(
                f"network '{self.config.network}' comes down to one value a channel, of which batch norm has no spread",
                expected="a larger --crop or --batch-size",
            ) from error

    def _not_finite(self, found: str, batch: Mapping[str, Tensor] | None = None) -> NotFiniteError:
        """What to say of a value that is not finite: whether the data were to blame, and what is left to go on from."""
        bad = [name for name, value in (batch or {}).items() if not torch.isfinite(value).all()]
        cause = f"{found} at step {self.step + 1}" + (f"; so are samples of it ({', '.join(bad)})" if bad else "")
        kept = f"the checkpoint of step {self._kept_step} is kept" if self._kept_step else "no checkpoint was made yet"
        lower = f"give a lower --learning-rate than {self.config.learning_rate:g} and another folder or --restart"
        return NotFiniteError(cause, expected="finite values", hint=f"{kept}; {'look at the data' if bad else lower}")

    @torch.no_grad()
    def _update_average(self) -> None:
        # A short memory at first, or the random start would stay in the average for thousands of steps.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        state = self.network.state_dict()
        moving = [name for name, value in state.items() if value.dtype.is_floating_point]
        torch._foreach_lerp_([self.average[n] for n in moving], [state[n] for n in moving], 1 - decay)
        for name in state.keys() - set(moving):
            self.average[name].copy_(state[name])

    def averaged_network(self) -> nn.Module:
        """A copy of the network with the averaged weights, in eval mode, on the run's device."""
        network = build_network(self.config.network, self.config.options)
        network.load_state_dict(self.average)
        return network.to(self.device).eval()

    def evaluate(self, samples: list[EvalSample]) -> float:
        """Mean error of the averaged weights over the samples of all processes, in the unit of the task's error."""
        network = self.averaged_network()

        def predict(sample: EvalSample) -> Tensor:
            return first_output(network(*self.spec.inputs_of(self._on_device(sample.truth))))

        return self._mean_error(samples, predict)

    @torch.inference_mode()
    def _mean_error(self, samples: list[EvalSample], predict: Callable[[EvalSample], Tensor]) -> float:
        errors = [float(self.task.error(predict(s), self._on_device(s.truth))) for s in samples]
        total = torch.tensor([sum(errors) * self.world.size], dtype=torch.float64)
        if self.device.type != "cpu" and self.world.size > 1:
            total = total.to(self.device)
        counted = torch.tensor([float(len(errors) * self.world.size)], dtype=torch.float64, device=total.device)
        return float(self.world.mean(total)) / float(self.world.mean(counted))

    def save(self) -> None:
        """Write the checkpoint, then the log; a reader never sees half of either.

        Raises:
            NotFiniteError: weights, statistics or average are not finite; the former checkpoint stays.
        """
        state = self.network.state_dict()
        if bad := first_not_finite(state) or first_not_finite(self.average):
            raise self._not_finite(f"'{bad}' holds values that are not finite")
        if self.world.is_first:
            optimiser = self.optimiser.state_dict()
            write_checkpoint(
                self.folder,
                RunState(
                    self.config,
                    self.precision,
                    self.step,
                    state,
                    self.average,
                    optimiser,
                    self._rows,
                    self.data.digest(),
                    self.started_from,
                ),
            )
            write_bytes(self.folder / LOG, log_text(self._rows).encode())
        self._kept_step = self.step

    @property
    def skipped(self) -> str | None:
        """What to say of samples that did not read, if any."""
        return self._skips.summary()

    def finish(self) -> nn.Module:
        """Write ``weights.safetensors`` and ``card.json``: the folder is then a model ``--model`` accepts.

        Raises:
            NotFiniteError: the result is not finite; nothing is written.
        """
        network = self.averaged_network().cpu()
        if self.config.init is not None and self.config.init_share:
            blend(network, self.config.init, self.config.init_share)
        weights = {k: v.contiguous() for k, v in network.state_dict().items()}
        if bad := first_not_finite(weights):
            raise self._not_finite(f"'{bad}' holds values that are not finite")
        if not self.world.is_first:
            return network
        errors = [float(row["eval_error"]) for row in self._rows if row["eval_error"]]
        card = {
            "network": self.config.network,
            "options": self.config.options,
            "parameters": sum(p.numel() for p in network.parameters()),
            "task": self.task.name,
            "training": asdict(self.config) | {"precision": self.precision},
            "started_from": list(self.started_from),
            **({} if self.teachers is None else {"taught_by": self.teachers.told()}),
            "skipped_samples": len(self._skips),
            "final_eval_error": errors[-1] if errors else None,
            "eval_error_of_guess": self.eval_error_of_guess,
            "eval_error_unit": self.task.error_unit,
        }
        # both are made before either is written: a folder never holds weights without their card
        files = {"card.json": json_bytes(card), "weights.safetensors": save(weights)}
        for name, data in files.items():
            write_bytes(self.folder / name, data)
        return network
