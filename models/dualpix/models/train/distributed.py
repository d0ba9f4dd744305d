"""A run of several processes: who is who, and what they tell each other.

``torchrun`` starts the processes, on one machine or several, and says so in the environment. All hold the same weights;
each computes a part of the batch, and gradients are averaged. The first process alone reads and writes files, so the
machines need no folder in common but for the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.models.losses import exact


@dataclass(frozen=True)
class World:
    """The processes of a run, and which of them this is."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among the processes of this machine."""

    @property
    def is_first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """This process's part of a global batch.

        Raises:
            DualpixError: the batch does not come out even.
        """
        if batch_size % self.size:
            raise DualpixError(f"a batch of {batch_size} for {self.size} processes", expected="a multiple of them")
        each = batch_size // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def mean(self, value: Tensor) -> Tensor:
        """Of what each process holds; in place."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether it is so in any process."""
        if self.size == 1:
            return flag
        told = torch.tensor([float(flag)], device=device)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return bool(told.item())

    def from_first(self, tensors: Mapping[str, Tensor]) -> None:
        """Every tensor becomes that of the first process; in place."""
        if self.size > 1:
            for tensor in tensors.values():
                dist.broadcast(tensor, 0)

    def number_from_first(self, number: int, device: torch.device) -> int:
        """What the first process says."""
        told = torch.tensor([number], dtype=torch.int64, device=device)
        self.from_first({"": told})
        return int(told.item())

    def wait(self) -> None:
        """For all the others."""
        if self.size > 1:
            dist.barrier()


def world_of_environment() -> World:
    """As ``torchrun`` says it; one process where it does not.

    Raises:
        DualpixError: the environment holds no such numbers.
    """
    try:
        rank, size, local = (int(os.environ.get(k, d)) for k, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
    except ValueError as error:
        raise DualpixError("RANK, WORLD_SIZE or LOCAL_RANK is no number", expected="as torchrun sets them") from error
    if not 0 <= rank < size:
        raise DualpixError(f"process {rank} of {size}", expected="RANK below WORLD_SIZE, as torchrun sets them")
    return World(rank, size, local)


@contextmanager
def process_group(world: World, device: torch.device) -> Iterator[None]:
    """The connection between the processes: NCCL between GPUs, else Gloo."""
    if world.size == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=world.rank, world_size=world.size)
    try:
        yield
    finally:
        dist.destroy_process_group()


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batch of all processes.

    ``torch.nn.SyncBatchNorm`` does so on GPUs alone; with statistics of each part of the batch, two processes would
    train another network than one. Statistics are sums over pixels and processes in float32 (Ioffe and Szegedy, "Batch
    normalization", 2015); the running variance is the unbiased one, as PyTorch's.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W), normalised; in eval mode as the plain layer."""
        if not self.training:
            return super().forward(input)
        values = exact(input)
        sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), values.new_tensor([0.0])])
        with torch.no_grad():
            sums[-1] = values.numel() // values.shape[1]
        # differentiable: a pixel of one process is part of the mean of all
        sums = _SumOverProcesses.apply(sums)  # type: ignore[no-untyped-call]
        channels, count = self.num_features, sums[-1].detach()
        mean = sums[:channels] / count
        variance = (sums[channels : 2 * channels] / count - mean.square()).clamp_min(0.0)
        with torch.no_grad():
            self._keep(mean, variance * (count / (count - 1)))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale + (self.bias if self.affine else 0.0)
        out: Tensor = values * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)
        return out.to(input.dtype)

    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; so is that of its gradient."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def synchronise_norms(module: nn.Module) -> nn.Module:
    """Make every batch normalisation one over all processes; names and values of the state stay."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = SyncedBatchNorm2d
    return module


def average_gradients(network: nn.Module, world: World) -> None:
    """Of all processes, as one transfer."""
    if world.size == 1:
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    world.mean(flat)
    parts = torch.split(flat, [g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
