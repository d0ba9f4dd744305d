"""Filling the cache of a run before it begins, by as many processes as there are cores for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torch.utils.data import ConcatDataset, DataLoader, Dataset

from dualpix.capture.errors import DualpixError
from dualpix.models.data.skipped import Skip
from dualpix.models.data.source import Source
from dualpix.models.networks import network_spec
from dualpix.models.train.config import TrainConfig
from dualpix.models.train.feed import data_of, prepare_worker, signals_held_back


def render_ahead(config: TrainConfig, cache_dir: Path, workers: int) -> Iterator[tuple[int, int, Skip | None]]:
    """Render all that a run would keep, or look at it where it is kept.

    Args:
        config: of the run.
        cache_dir: where rendered scenes are kept.
        workers: processes; 0 renders in this one.

    Yields:
        (done, count, the sample if it does not read).

    Raises:
        DualpixError: a source that is none, or has nothing for the network's task.
    """
    spec = network_spec(config.network, config.options)
    data = data_of(config, spec.of_task(), cache_dir, spec.wanted)
    sources = [*data.training.sources, *(data.validation.sources if data.validation else ())]
    dataset: Dataset[Skip | None] = ConcatDataset([_Rendered(source) for source in sources])
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        worker_init_fn=partial(prepare_worker, os.getpid()),
        multiprocessing_context="spawn" if workers else None,
    )
    with signals_held_back():
        rendered = iter(loader)
    count = sum(map(len, sources))
    for done, skip in enumerate(rendered, start=1):
        yield done, count, skip


class _Rendered(Dataset["Skip | None"]):
    """Index -> nothing but what went wrong: the sample itself stays in its process."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Skip | None:
        """Have the source keep its sample."""
        try:
            self.source.prepare(index)
        except DualpixError as error:
            return Skip(self.source.name, index, str(error))
        return None
