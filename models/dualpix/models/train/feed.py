"""From sources to batches on the device, the same for any number of loading processes.

On the CPU the loading processes do all the work, so that the training has its cores; elsewhere what is rendered is
rendered on the device, which the CPU would keep waiting.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from dualpix.capture.errors import DualpixError
from dualpix.models.data.assemble import Data, assemble
from dualpix.models.data.mixture import LoadedBatch, Mixture, MixtureDataset, MixtureSampler, collate
from dualpix.models.data.skipped import Skips
from dualpix.models.data.sources import SourceOptions
from dualpix.models.data.windows import Window
from dualpix.models.samples import SHARP
from dualpix.models.tasks.task import KNOWN, Batch, Task
from dualpix.models.train.config import TrainConfig
from dualpix.models.train.distributed import World


def data_of(config: TrainConfig, task: Task, cache_dir: Path | None, wanted: Sequence[str] = ()) -> Data:
    """What a run trains on, and what judges it; nothing of the latter where rendered scenes do.

    Args:
        config: of the run.
        task: whose samples are wanted.
        cache_dir: where rendered scenes are kept.
        wanted: optional fields of a sample that the network's loss is made of.

    Raises:
        DualpixError: a source that is none, or has nothing for the task.
    """
    options = SourceOptions(
        seed=config.rendered_seed, samples=config.samples, renders=config.renders, frames=config.frames,
        render=config.render, cache_dir=cache_dir, sharp=SHARP in wanted, stacks=config.stacks,
    )  # fmt: skip
    of_stacks = any(field.per_frame for field in task.sample)
    frames = (config.frames, config.fewest_frames) if of_stacks else (None, None)
    window = Window(config.crop_hw, *frames)
    shares = [share for text in config.validate if (share := share_of(text)) is not None]
    if shares and len(config.validate) > 1:
        raise DualpixError(f"{', '.join(config.validate)} to validate on", expected="sources, or one share")
    sources = () if shares else config.validate
    return assemble(
        config.data, task, options=options, window=window, seed=config.seed, validate=sources,
        share=shares[0] if shares else 0.0,
    )  # fmt: skip


def share_of(text: str) -> float | None:
    """The share of the scenes that ``text`` asks to hold out; None where it names a source.

    Raises:
        DualpixError: a number that is no share.
    """
    try:
        share = float(text)
    except ValueError:
        return None
    if not 0 < share < 1:
        raise DualpixError(f"a held-out share of {text}", expected="above 0, below 1, as 0.1; or a source")
    return share


class Feed:
    """The batches of a run from some step on, one for each step, and what went by meanwhile."""

    def __init__(
        self, mixture: Mixture, batch_size: int, last_step: int, *, world: World, device: torch.device, workers: int
    ) -> None:
        self.mixture, self.batch_size, self.last_step = mixture, batch_size, last_step
        self.world, self.device, self.workers = world, device, workers
        self.waited_s = 0.0
        """Time for which the training stood still because its data were not there yet."""
        self.skips = Skips()

    def batches(self, first_step: int) -> Iterator[Batch]:
        """On the device, each this process's part of the whole."""
        with signals_held_back():
            loaded = iter(self._loader(first_step))
        while True:
            asked = time.monotonic()
            samples: LoadedBatch | None = next(loaded, None)
            if samples is None:
                return
            batch = self.finished(samples)
            self.waited_s += time.monotonic() - asked
            yield batch

    def finished(self, samples: LoadedBatch) -> Batch:
        """A batch of what was loaded; samples that did not read are told of."""
        for one in samples.loaded:
            self.skips.note(one.skipped)
        batch = self.mixture.finish(samples, self.device)
        if self.device.type == "cpu" and KNOWN in batch and bool(batch[KNOWN].all()):
            del batch[KNOWN]  # a loss without holes takes less
        return batch

    def _loader(self, first_step: int) -> Iterable[LoadedBatch]:
        sampler = MixtureSampler(
            self.mixture, self.batch_size, first_step, self.last_step, rank=self.world.rank, world=self.world.size
        )
        return DataLoader(
            MixtureDataset(self.mixture, form_in_loader=self.device.type == "cpu"),
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=self.workers,
            worker_init_fn=partial(prepare_worker, os.getpid()),
            prefetch_factor=4 if self.workers else None,
            # a forked child of a process whose OpenMP threads have run can hang
            multiprocessing_context="spawn" if self.workers else None,
        )


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Processes started here never see Ctrl-C or SIGTERM, which go to a whole group: the training answers them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # started with the first process of all, it lets these signals through again behind our back
    resource_tracker.ensure_running()
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def prepare_worker(trainer: int, _: int) -> None:
    """Workers render with one thread each: they run beside the training, which has its own.

    One whose training was killed while it was being started ends here: torch takes whoever is its parent from then on
    for the training, and it would wait for work for ever.
    """
    import cv2

    if os.getppid() != trainer:
        os._exit(1)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
