"""Several sources as one stream of batches, the same from any start and for any number of processes.

Convention: the draws of a run are numbered from 0 through its batches. Which source draw ``p`` is of, and the how
manieth draw of that source it is, follows from ``p`` and the weights alone: of two sources the first has had
``floor(p w)`` of the first ``p`` draws, of more the rest is divided likewise. So after any number of draws each source
is within one draw (for each source before it) of its share. Draw ``n`` of a source of ``N`` samples is sample
``permutation(epoch)[n mod N]`` of epoch ``n // N``: each sample once in an epoch of its own source. A batch is shuffled
and cut into equal parts, one for each process.

Random streams: ``[seed, 0, place, epoch]`` orders an epoch, ``[seed, 1, epoch, place, index]`` chooses window and
augmentation of a sample, ``[seed, 2, ...]`` what takes the place of one that does not read, ``[seed, 3, step]``
shuffles a batch, ``[seed, 4, step]`` chooses how many frames its stacks have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from dualpix.capture.errors import DualpixError
from dualpix.models.data.checks import checked
from dualpix.models.data.skipped import Skip, candidates, nothing_reads
from dualpix.models.data.source import Source
from dualpix.models.data.sources.kind import digest_of
from dualpix.models.data.windows import Window
from dualpix.models.tasks.task import Batch, Sample, Task

_SHARES = 1 << 20
"""Parts that the whole is divided in: shares are exact in integers, to a millionth."""
_KEPT_ORDERS = 32


class Key(NamedTuple):
    """One draw: a sample of a source, in an epoch of that source."""

    epoch: int
    source: int
    """Place among the sources."""
    sample: int
    """Of the source."""
    frames: int = 0
    """Of all stacks of its batch; 0: as many as always."""


@dataclass(frozen=True)
class Loaded:
    """What a loading process gives for a key."""

    key: Key
    """Of the sample that was asked for; its random stream."""
    read: int
    """Index of the sample that was read: another one where that does not read."""
    sample: Sample
    formed: bool
    """Whether it is ready for a batch, or still to be formed on the device."""
    skipped: tuple[Skip, ...] = ()
    error: DualpixError | None = None
    """Why there is none; :meth:`Mixture.finish` raises it, where a traceback of a loading process does not hide it."""


@dataclass(frozen=True)
class LoadedBatch:
    """What a loading process hands over: all tensors of a batch in one piece of shared memory.

    PyTorch passes every tensor by a file descriptor of its own: some dozen batches of single tensors, waiting to be
    trained on, are more than a process may have open.
    """

    loaded: tuple[Loaded, ...]
    """Without their tensors."""
    buffer: Tensor
    places: tuple[dict[str, tuple[int, tuple[int, ...]]], ...]
    """Of each sample: offset in ``buffer`` and shape of its tensors, by name."""

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """Of all samples."""
        return tuple(skip for one in self.loaded for skip in one.skipped)

    def pin_memory(self) -> LoadedBatch:
        """For ``DataLoader(pin_memory=True)``: copies to a device need not wait."""
        return replace(self, buffer=self.buffer.pin_memory())

    def on(self, device: torch.device | str) -> list[Loaded]:
        """With their tensors, on a device."""
        buffer = self.buffer.to(device, non_blocking=True)
        return [
            replace(one, sample={name: _view(buffer, *place) for name, place in places.items()})
            for one, places in zip(self.loaded, self.places, strict=True)
        ]


def collate(loaded: Sequence[Loaded]) -> LoadedBatch:
    """``collate_fn`` of a ``DataLoader``."""
    places: list[dict[str, tuple[int, tuple[int, ...]]]] = []
    parts: list[Tensor] = []
    at = 0
    for one in loaded:
        of_sample = {}
        for name, value in one.sample.items():
            of_sample[name] = (at, tuple(value.shape))
            parts.append(value.detach().to(torch.float32).reshape(-1))
            at += value.numel()
        places.append(of_sample)
    buffer = torch.cat(parts) if parts else torch.zeros(0)
    return LoadedBatch(tuple(replace(one, sample={}) for one in loaded), buffer, tuple(places))


def _view(buffer: Tensor, offset: int, shape: tuple[int, ...]) -> Tensor:
    return buffer[offset : offset + math.prod(shape)].reshape(shape)


@dataclass(frozen=True)
class Mixture:
    """Sources of one task with their weights.

    Raises:
        DualpixError: no source, sources of other tasks, weights that are none.
    """

    sources: tuple[Source, ...]
    weights: tuple[float, ...]
    seed: int
    task: Task
    window: Window = field(default_factory=Window)

    def __post_init__(self) -> None:
        if not self.sources or len(self.sources) != len(self.weights):
            raise DualpixError(f"{len(self.sources)} sources and {len(self.weights)} weights", expected="one of each")
        for source in self.sources:
            if source.task != self.task.data_task:
                raise DualpixError(
                    f"'{source.name}' has samples of the task '{source.task}'", expected=f"'{self.task.data_task}'"
                )
            if len(source) < 1:
                raise DualpixError(f"'{source.name}' has no sample", expected="one or more")
        if not all(0 < weight < float("inf") for weight in self.weights):
            raise DualpixError(f"weights {self.weights}", expected="numbers above 0")
        if min(self.shares) < 1 or max(self.shares[:-1], default=0) >= _SHARES:
            raise DualpixError(
                f"weights {self.weights}: one is a millionth of the others", expected="sources that are drawn"
            )

    @property
    def shares(self) -> tuple[int, ...]:
        """Of each source among itself and those behind it, in parts of 2**20; the last is the whole."""
        left = np.cumsum(self.weights[::-1])[::-1]
        return tuple(round(_SHARES * weight / rest) for weight, rest in zip(self.weights, left, strict=True))

    def drawn(self, draws: int) -> tuple[int, ...]:
        """How many of the first ``draws`` are of each source."""
        counts, rest = [], draws
        for share in self.shares:
            counts.append(rest * share // _SHARES)
            rest -= counts[-1]
        return tuple(counts)

    def keys(self, step: int, batch_size: int) -> list[Key]:
        """The batch of a step over all processes, in its order."""
        first = step * batch_size
        keys, before = [], self.drawn(first)
        for draw in range(first, first + batch_size):
            after = self.drawn(draw + 1)
            place = next(n for n, (a, b) in enumerate(zip(before, after, strict=True)) if b > a)
            epoch, at = divmod(before[place], len(self.sources[place]))
            keys.append(Key(epoch, place, int(_order(self.seed, place, epoch, len(self.sources[place]))[at])))
            before = after
        shuffled = np.random.default_rng([self.seed, 3, step]).permutation(batch_size)
        frames = self.window.frames_of_batch(np.random.default_rng([self.seed, 4, step]))
        return [keys[n]._replace(frames=frames) for n in shuffled]

    def spread_keys(self, count: int) -> list[Key]:
        """About ``count`` samples, of each source its share, at least one, evenly over it: for validation.

        They are the same whenever they are asked for, and in the order of the sources.
        """
        wanted = [max(1, n) for n in self.drawn(count)]
        return [
            Key(0, place, int(sample))
            for place, source in enumerate(self.sources)
            for sample in np.unique(np.linspace(0, len(source) - 1, min(wanted[place], len(source))).round())
        ]

    def load(self, key: Key, *, form: bool = True) -> Loaded:
        """Read the sample of a key, or the one that takes its place.

        Args:
            key: of :meth:`keys`.
            form: whether image formation is done here too; else :meth:`finish` does it on the device.

        Raises:
            DualpixError: of the samples that were tried, none reads.
        """
        source = self.sources[key.source]
        skipped: list[Skip] = []
        first: DualpixError | None = None
        for index in candidates(self.seed, key.epoch, key.source, key.sample, len(source)):
            try:
                return self._loaded(key, source, index, form, tuple(skipped))
            except DualpixError as error:  # SampleError, or what a reader raises
                first = first or error
                skipped.append(Skip(source.name, index, str(error)))
        assert first is not None  # noqa: S101 - the first candidate failed
        raise nothing_reads(source, len(skipped), first)

    def _loaded(self, key: Key, source: Source, index: int, form: bool, skipped: tuple[Skip, ...]) -> Loaded:
        prepared = source.prepare(index)
        if not form and getattr(source, "forms", False):
            return Loaded(key, index, prepared, False, skipped)
        return Loaded(key, index, self._formed(key, index, source.form(prepared)), True, skipped)

    def finish(self, batch: LoadedBatch | Sequence[Loaded], device: torch.device | str = "cpu") -> Batch:
        """The batch of some samples on a device: formed there where that was left to it.

        Optional fields that not all of the samples have are left out.

        Raises:
            DualpixError: samples of different sizes and no window, or what went wrong in a loading process.
        """
        packed = batch if isinstance(batch, LoadedBatch) else collate(batch)
        for one in packed.loaded:
            if one.error is not None:
                raise one.error
        return stacked([one.sample if one.formed else self._finished(one) for one in packed.on(device)])

    def _finished(self, loaded: Loaded) -> Sample:
        return self._formed(loaded.key, loaded.read, self.sources[loaded.key.source].form(loaded.sample))

    def _formed(self, key: Key, index: int, clean: Sample) -> Sample:
        """Checked, cut to the window, augmented."""
        named = f"sample {index} of '{self.sources[key.source].name}'"
        sample = checked(clean, self.task, named)
        self.window.check(sample, self.task, named)
        rng = np.random.default_rng([self.seed, 1, key.epoch, key.source, key.sample])
        return self.task.augment(self.window.of(sample, self.task, rng, key.frames), rng)

    def digest(self) -> str:
        """Changes with sources, weights, seed and window: of a run that is continued it must not."""
        parts = [source.digest() for source in self.sources]
        window: tuple[object, ...] = (self.window.size_hw, self.window.frames)
        if self.window.fewest_frames is not None:
            window += (self.window.fewest_frames,)
        return digest_of({"sources": parts, "weights": self.weights, "seed": self.seed, "window": window})


def stacked(samples: Sequence[Sample]) -> Batch:
    """Samples of one size as a batch, of the fields that all of them have.

    Raises:
        DualpixError: sizes differ.
    """
    names = [name for name in samples[0] if all(name in sample for sample in samples)]
    for name in names:
        shapes = sorted({tuple(sample[name].shape) for sample in samples})
        if len(shapes) > 1:
            raise DualpixError(
                f"samples of a batch have {name} of {shapes[0]} and {shapes[-1]}",
                expected="one size",
                hint="train on windows of a common size (crop), and stacks of a common number of frames",
            )
    return {name: torch.stack([sample[name] for sample in samples]).contiguous() for name in names}


@lru_cache(maxsize=_KEPT_ORDERS)
def _order(seed: int, place: int, epoch: int, count: int) -> npt.NDArray[np.int32]:
    """The samples of an epoch of a source, in the order in which they are drawn."""
    return np.random.default_rng([seed, 0, place, epoch]).permutation(count).astype(np.int32)


class MixtureSampler(Sampler[list[Key]]):
    """The keys of the batches of steps ``first_step`` to ``last_step``, for one of ``world`` processes.

    Raises:
        DualpixError: the batch cannot be cut into equal parts.
    """

    def __init__(
        self, mixture: Mixture, batch_size: int, first_step: int, last_step: int, *, rank: int = 0, world: int = 1
    ) -> None:
        if world < 1 or not 0 <= rank < world:
            raise DualpixError(f"process {rank} of {world}", expected="0 to one less than their number")
        if batch_size < 1 or batch_size % world:
            raise DualpixError(
                f"a batch of {batch_size} for {world} processes", expected=f"a multiple of {world}, the same for all"
            )
        self.mixture, self.batch_size = mixture, batch_size
        self.first_step, self.last_step, self.rank, self.world = first_step, last_step, rank, world

    def __len__(self) -> int:
        return max(0, self.last_step - self.first_step)

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield this process's part of each batch."""
        part = self.batch_size // self.world
        for step in range(self.first_step, self.last_step):
            yield self.mixture.keys(step, self.batch_size)[self.rank * part : (self.rank + 1) * part]


class MixtureDataset(Dataset[Loaded]):
    """For a ``DataLoader`` with a :class:`MixtureSampler` and :func:`collate`; :meth:`Mixture.finish` follows.

    ``form_in_loader`` does all the work in the loading processes: right for training on the CPU. Else what a source
    renders is formed by :meth:`Mixture.finish`, on the device; the samples are the same but for rounding.
    """

    def __init__(self, mixture: Mixture, *, form_in_loader: bool = True) -> None:
        self.mixture, self.form_in_loader = mixture, form_in_loader

    def __getitem__(self, key: Key) -> Loaded:
        """The sample of a key, or the error that the training is to raise."""
        try:
            return self.mixture.load(Key(*key), form=self.form_in_loader)
        except DualpixError as error:
            return Loaded(Key(*key), -1, {}, True, error=error)
