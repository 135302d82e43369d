"""What it costs to record a run, to open one, and to branch off it: shares and ratios within one process."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipelines.request import GenerationRequest
from tests.benchmarks.figure import Figure, in_turns
from tests.benchmarks.models import build

PROMPT = "a red house in the snow at night"


def recording(data: Path) -> Iterator[Figure]:
    """The embedded model: what recording adds to a run, what lies on the disk, opening, branching."""
    manager = _manager(data, [])
    yield from _measured(manager, GenerationRequest(prompt=PROMPT, seed=1), "the embedded model", 15)


def recording_sd(data: Path) -> Iterator[Figure]:
    """SD 1.5's architecture with random weights, at 512: fewer steps than people take, each of full size."""
    import torch

    build("sd1", data / "models" / "sd15", torch.float16, 0)
    manager = _manager(data, [data / "models"])
    request = GenerationRequest(
        prompt=PROMPT, seed=1, model="sd15", width=512, height=512, num_inference_steps=3
    )
    yield from _measured(manager, request, "SD 1.5's size at 512", 2)


def _manager(data: Path, models: list[Path]) -> Any:
    from pipelines import devices
    from pipelines.library.models import ModelLibrary
    from pipelines.manager import PipelineManager
    from pipelines.outputs import Outputs
    from pipelines.pictures import PictureStore

    return PipelineManager(
        ModelLibrary(models), devices.choose(), Outputs(data / "outputs"), PictureStore(data / "inputs")
    )


def _measured(manager: Any, request: GenerationRequest, what: str, rounds: int) -> Iterator[Figure]:
    from pipelines.run import Control

    store, jobs, steps = manager.films.store, itertools.count(), request.num_inference_steps

    def run(asked: GenerationRequest, recorded: bool) -> str:
        job = f"{next(jobs):016x}" if recorded else ""
        manager.run(asked, lambda event: None, Control(), job=job)
        return f"{job}-0"

    plain, filmed = in_turns(rounds, lambda: run(request, False), lambda: run(request, True))
    detail = f"{filmed:.3f} s against {plain:.3f} s, {steps} steps"
    yield Figure(f"recording / the run, {what}", (filmed / plain - 1) * 100, 3, "%", detail)

    whole = run(request, True)
    size = store.bytes(whole)
    detail = f"{size / steps / 1024:.0f} KiB a step"
    yield Figure(f"on disk, a run of {steps} steps, {what}", size / 2**20, float("inf"), " MiB", detail)

    opened = _times(5, lambda: manager.films.film(whole))
    yield Figure(f"opening a stored run, {what}", statistics.median(opened) * 1000, 500, " ms")

    middle = steps // 2
    branch = request.model_copy(
        update={"branch": _branch(whole, middle), "guidance_scale": request.guidance_scale + 1}
    )
    once, part = in_turns(rounds, lambda: run(request, True), lambda: run(branch, True))
    least = (steps - middle) / steps
    detail = f"{part:.3f} s of {once:.3f} s, branched after {middle} of {steps}: at least {least:.0%}"
    yield Figure(f"a branch beyond its own steps, {what}", (part / once - least) * 100, 5, "%", detail)


def _branch(run: str, step: int) -> Any:
    from pipelines.request import Branch

    return Branch(trajectory=run, step=step)


def _times(rounds: int, action: Callable[[], object]) -> list[float]:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return taken
