"""Writes a run's film while it runs: on a thread of its own, so that the run hardly waits for the disk.

A film that cannot be written any further (a full disk) ends there with a sentence; the picture goes on.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.film.trajectory import (
    LATENTS,
    STEPS,
    RunInfo,
    State,
    TrajectoryStore,
    order_of,
    put_file,
    step_name,
)

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.recorder import Step

WAITING = 64
"""Steps that may wait for the disk; a run that is further ahead of it waits."""


class Recording:
    """The film of one run. `close` must be called; it waits for what is still to be written.

    kept: how many steps are there already, of the run itself or taken over from its parent.
    """

    def __init__(self, store: TrajectoryStore, run: RunInfo, kept: int = 0):
        self.store, self.run, self.kept = store, run, kept
        self.note = ""
        self._queue: queue.Queue[Callable[[], Any] | None] = queue.Queue(WAITING)
        self._folder = store.folder(run.id)
        self._queue.put(lambda: store.write(run))
        self._thread = threading.Thread(target=self._work, name="film", daemon=True)
        self._thread.start()

    def step(self, step: Step, parts: tuple[Tensor, Tensor] | None) -> None:
        """Records a step. parts: the denoiser's output (unconditional, conditional) where guidance is on."""
        if step.index < self.kept or self.note:
            return
        dtype = step.sample.dtype
        tensors = {
            "sample": step.sample,
            "model_output": step.model_output,
            "pred_original_sample": step.pred_original_sample.to(dtype),
        }
        if parts is not None:
            tensors["unconditional"], tensors["conditional"] = parts
        # Copied here, since a scheduler may go on working in the same memory.
        held = {name: _copied(tensor) for name, tensor in tensors.items()}
        facts = {"timestep": step.timestep, "sigma": step.sigma, "alpha": step.alpha, "noise": step.noise}
        path = self._folder / STEPS / step_name(step.index)
        self._queue.put(lambda: _save(path, held, facts))

    def latents(self, latents: Tensor) -> None:
        """Records the finished latents, before they are decoded; they are on disk when this returns."""
        held = {"latents": _copied(latents)}
        self._queue.put(lambda: _save(self._folder / LATENTS, held, {}))
        self._queue.join()

    def describe(self, **changes: Any) -> None:
        """Changes the run's description; it is on disk before any later step is."""
        self.run = run = replace(self.run, **changes)
        self._queue.put(lambda: self.store.write(run))

    def close(self, state: State) -> None:
        """Ends the film; the run's state is the last that is written."""
        self.run = replace(self.run, state=state, note=self.note)
        self._queue.put(lambda: self.store.write(self.run))
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            task = self._queue.get()
            if task is not None:
                self._do(task)
            self._queue.task_done()
            if task is None:
                return

    def _do(self, task: Callable[[], Any]) -> None:
        try:
            task()
        except OSError as problem:
            why = problem.strerror or problem
            self.note = self.note or f"The film of this run is not whole: it could not be written ({why})."


def take_over(store: TrajectoryStore, parent: str, child: str, count: int) -> None:
    """Gives a branch its parent's first `count` steps, without copying where the disk can share files."""
    (store.folder(child) / STEPS).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        source, target = (store.folder(one) / STEPS / step_name(index) for one in (parent, child))
        if target.exists():
            continue
        try:
            os.link(source, target)
        except OSError:  # a disk without hard links
            data = source.read_bytes()
            put_file(target, lambda part, data=data: part.write_bytes(data))  # type: ignore[misc]


def _copied(tensor: Tensor) -> Tensor:
    import torch

    return tensor.detach().to("cpu", copy=True, memory_format=torch.preserve_format)


def _save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    from safetensors.torch import save

    orders = {name: order for name, tensor in tensors.items() if (order := order_of(tensor)) is not None}
    about = {"step": json.dumps(dict(facts)), "orders": json.dumps(orders)}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, about)
    put_file(path, lambda part: part.write_bytes(data))
