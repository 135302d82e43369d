"""What every training stage shares: optimisers, the team of workers, the running average and checkpoints.

On a CPU several single-threaded workers that average their weights every few steps outrun one process with
several threads; on a GPU the team is one process and the same code averages nothing.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by five Newton-Schulz steps (Jordan et al., Muon, 2024).

    For weights of two dimensions and more; the trailing ones are flattened into a matrix. The step is scaled
    by 0.2 sqrt(longer side), so that its size matches AdamW's and one learning rate serves both (Liu et al.,
    Muon is Scalable for LLM Training, 2025).
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["velocity"] = torch.zeros_like(weight)
                velocity = state["velocity"].mul_(group["momentum"]).add_(weight.grad)
                update = weight.grad.add(velocity, alpha=group["momentum"])
                matrix = update.reshape(update.shape[0], -1)
                scale = group["lr"] * 0.2 * math.sqrt(max(matrix.shape))
                weight.add_(orthogonal(matrix).reshape(weight.shape).to(weight.dtype), alpha=-scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """`matrix` (rows, columns) with its singular values brought near 1; computed in bfloat16."""
    work = matrix.bfloat16()
    tall = work.shape[0] > work.shape[1]
    if tall:
        work = work.T.contiguous()
    work = work / (work.norm() + 1e-7)
    for _ in range(5):
        gram = work @ work.T
        work = torch.addmm(work, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), work, beta=3.4445)
    return work.T if tall else work


def optimisers(
    named: Iterable[tuple[str, nn.Parameter]], lr: float, is_matrix: Callable[[str, nn.Parameter], bool]
) -> list[torch.optim.Optimizer]:
    """Muon for the weights that `is_matrix` picks, AdamW for the rest."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in named:
        if weight.requires_grad:
            (matrices if weight.ndim >= 2 and is_matrix(name, weight) else rest).append(weight)
    return [Muon(matrices, lr), torch.optim.AdamW(rest, lr, betas=(0.9, 0.98), weight_decay=0.0)]


def learning_rate(peak: float, step: int, share: float, warmup: int = 100, hold: float = 0.4) -> float:
    """A short warm-up, `peak` until `share` (0-1 of the budget) passes `hold`, then a cosine down to 2%."""
    if share > hold:
        peak *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (share - hold) / (1 - hold))))
    return peak * min(1.0, (step + 1) / warmup)


@dataclass(frozen=True)
class Budget:
    """What a stage may spend: `minutes` or `steps`, whichever ends first, of `batch` examples a worker."""

    minutes: float
    batch: int
    steps: int = 1 << 40
    compiled: bool = False


@dataclass(frozen=True)
class Team:
    """This process among the workers: `rank` of `size`, on `device`."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share_start(self, weights: list[Tensor]) -> None:
        """Gives every worker the first worker's weights."""
        if self.size > 1:
            for weight in weights:
                dist.broadcast(weight.data, 0)

    @torch.no_grad()
    def average(self, weights: list[Tensor], clock: float) -> float:
        """Averages `weights` over the workers in place; returns the average of `clock`."""
        if self.size == 1:
            return clock
        flat = torch.cat([weight.data.flatten() for weight in weights] + [torch.tensor([clock])])
        dist.all_reduce(flat)
        flat /= self.size
        start = 0
        for weight in weights:
            weight.data.copy_(flat[start : start + weight.numel()].view_as(weight))
            start += weight.numel()
        return float(flat[-1])

    def autocast(self) -> torch.autocast:
        return torch.autocast(torch.device(self.device).type, torch.bfloat16)


def _work(rank: int, size: int, device: str, port: int, job: Callable, arguments: tuple) -> None:
    if device == "cpu":
        torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    torch.manual_seed(rank + 1)
    job(Team(rank, size, device), *arguments)
    if size > 1:
        dist.destroy_process_group()


def in_team(workers: int, device: str, job: Callable[..., None], *arguments: Any) -> None:
    """Runs `job(team, *arguments)` in `workers` processes and waits; in this process when `workers` is 1.

    Raises torch.multiprocessing.ProcessRaisedException when a worker fails.
    """
    if workers == 1:
        _work(0, 1, device, 0, job, arguments)
        return
    port = 20000 + os.getpid() % 20000
    mp.spawn(_work, (workers, device, port, job, arguments), nprocs=workers)


class Average:
    """The running average of a network's weights, with a short memory at first and a long one later."""

    def __init__(self, network: nn.Module) -> None:
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module, longest: float) -> None:
        """Moves toward the weights of now; `longest` (0-1) is the greatest share of the old that is kept."""
        self.updates += 1
        kept = min(longest, (1 + self.updates) / (10 + self.updates))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - kept)
            else:
                self.weights[name].copy_(value)


def save_safely(value: object, path: Path) -> None:
    """torch.save by way of a temporary file, so that a checkpoint is always whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(value, partial)
    partial.replace(path)


class Course:
    """A training run that can be interrupted: step count, clock, weights, optimisers and running average.

    The budget is `minutes` of training, counted over interruptions, or `steps`, whichever ends first.
    """

    def __init__(
        self,
        name: str,
        work: Path,
        team: Team,
        network: nn.Module,
        optimisers: list[torch.optim.Optimizer],
        minutes: float,
        steps: int = 1 << 40,
        sync_every: int = 8,
        longest: float = 0.98,
        save_every: float = 120.0,
    ) -> None:
        self.name, self.work, self.team, self.network = name, work, team, network
        self.optimisers, self.minutes, self.steps = optimisers, minutes, steps
        self.sync_every, self.longest, self.save_every = sync_every, longest, save_every
        self.weights = [weight for weight in network.parameters() if weight.requires_grad]
        self.step, self.clock, self._since = 0, 0.0, time.monotonic()
        self.average = Average(network)
        if not self._resume():
            team.share_start([weight.data for weight in network.parameters()])
            self.average = Average(network)
        self._saved = self.clock

    def _path(self, rank: int) -> Path:
        return self.work / "checkpoints" / f"{self.name}-{rank}.pt"

    def _resume(self) -> bool:
        path = self._path(self.team.rank)
        if not path.exists():
            path = self._path(0)
        if not path.exists():
            return False
        saved = torch.load(path, map_location=self.team.device, weights_only=True)
        self.network.load_state_dict(saved["network"])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.average.weights, self.average.updates = saved["average"], saved["updates"]
        self.step, self.clock = saved["step"], saved["clock"]
        torch.manual_seed(self.step * 1000 + self.team.rank)
        return True

    def save(self) -> None:
        save_safely(
            {
                "network": self.network.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "average": self.average.weights,
                "updates": self.average.updates,
                "step": self.step,
                "clock": self.clock,
            },
            self._path(self.team.rank),
        )
        self._saved = self.clock

    @property
    def share(self) -> float:
        """How much of the budget is spent, 0-1."""
        return min(1.0, max(self.clock / (self.minutes * 60), self.step / self.steps))

    def set_rate(self, peak: float, hold: float) -> float:
        rate = learning_rate(peak, self.step, self.share, hold=hold)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
        return rate

    def descend(self, loss: Tensor) -> None:
        """One step downhill; every few steps the team averages, and now and then a checkpoint is written."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        if self.step % self.sync_every:
            return
        now = time.monotonic()
        self.clock = self.team.average(self.weights, self.clock + now - self._since)
        self._since = now
        self.average.update(self.network, self.longest)
        # Every worker has the same clock here, so all of them save at the same step.
        if self.clock - self._saved > self.save_every or self.share >= 1:
            self.save()

    @property
    def over(self) -> bool:
        """Whether the budget is spent; only ever true right after an averaging, for all workers alike."""
        return self.share >= 1 and self.step % self.sync_every == 0
