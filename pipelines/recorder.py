"""Watches a run from outside: wraps `scheduler.step`, which every family and sampler goes through.

The wrapper lives on the scheduler instance and is taken off afterwards; pipelines look at the signature
of `step`, so it keeps that too.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.prediction import noise_level, original_sample, signal_and_noise

if TYPE_CHECKING:
    from torch import Tensor


_RESULTS = {"prev_sample", "pred_original_sample", "denoised"}
"""Names in a scheduler's output of what a pipeline goes on with; the last two of those that end a run."""


@dataclass(frozen=True)
class Step:
    """One call of `scheduler.step`. Tensors are as the pipeline holds its latents (see families.Latents).

    index: 0 for the first. sample: x_t that entered. pred_original_sample: x0 as predicted from it.
    sigma: noise over signal at x_t, which is alpha * x0 + noise * (noise of variance 1). prev_sample: what
    came of the step.
    """

    index: int
    timestep: float
    sigma: float
    alpha: float
    noise: float
    sample: Tensor
    model_output: Tensor
    pred_original_sample: Tensor
    prev_sample: Tensor


class Recorder:
    """Keeps the last `Step` of the pipeline it is attached to, and tells `seen` of each.

    What `seen` returns, if anything, goes on instead of the step's result; what it raises ends the run.
    replayed: gives (model output, sample) that a step takes in place of what it is called with, and following
    what a step gives in place of its own result, each by the step's index.
    """

    def __init__(
        self,
        seen: Callable[[Step], Tensor | None] = lambda step: None,
        replayed: Callable[[int], tuple[Tensor | None, Tensor | None]] = lambda index: (None, None),
        following: Callable[[int], Tensor | None] = lambda index: None,
    ) -> None:
        self.seen = seen
        self.replayed, self.following = replayed, following
        self.last: Step | None = None
        self.count = 0

    @contextlib.contextmanager
    def attached(self, scheduler: Any) -> Iterator[Recorder]:
        """Observes `scheduler` inside the `with` block."""
        step = scheduler.step

        @functools.wraps(step)
        def observed(
            model_output: Tensor,
            timestep: Any,
            sample: Tensor,
            *args: Any,
            return_dict: bool = True,
            **kwargs: Any,
        ) -> Any:
            kept_output, kept_sample = self.replayed(self.count)
            if kept_output is not None:
                model_output = kept_output.to(model_output.device, model_output.dtype)
            if kept_sample is not None:
                sample = kept_sample.to(sample.device, sample.dtype)
            output = step(model_output, timestep, sample, *args, return_dict=True, **kwargs)
            x0 = original_sample(scheduler, output, model_output, timestep, sample)
            alpha, noise = (float(scale) for scale in signal_and_noise(scheduler, timestep))
            sigma = noise_level(scheduler, timestep)
            self.last = Step(
                self.count, float(timestep), sigma, alpha, noise, sample, model_output, x0, output.prev_sample
            )
            follows = self.following(self.count)
            if follows is not None:
                output["prev_sample"] = follows.to(sample.device, output.prev_sample.dtype)
            self.count += 1
            instead = self.seen(self.last)
            if instead is not None:
                for name in output.keys() & _RESULTS:
                    output[name] = instead
            return output if return_dict else output.to_tuple()

        scheduler.step = observed
        try:
            yield self
        finally:
            del scheduler.step


@contextlib.contextmanager
def before_each_step(scheduler: Any, ask: Callable[[], None]) -> Iterator[None]:
    """Calls `ask` before every step of `scheduler` inside the `with` block; what it raises ends the run."""
    step = scheduler.step

    @functools.wraps(step)
    def asked(*args: Any, **kwargs: Any) -> Any:
        ask()
        return step(*args, **kwargs)

    scheduler.step = asked
    try:
        yield
    finally:
        del scheduler.step
