"""Watches a run from outside: wraps `scheduler.step`, which every family and sampler goes through.

The wrapper lives on the scheduler instance and is taken off afterwards; pipelines look at the signature
of `step`, so it keeps that too.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.prediction import noise_level, original_sample

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Step:
    """One call of `scheduler.step`. Tensors are (batch, channels, h, w) in latent space.

    index: 0 for the first. sample: x_t that entered. pred_original_sample: x0 as predicted from it.
    sigma: noise over signal at x_t.
    """

    index: int
    timestep: float
    sigma: float
    sample: Tensor
    model_output: Tensor
    pred_original_sample: Tensor


class Recorder:
    """Keeps the last `Step` of the pipeline it is attached to."""

    def __init__(self) -> None:
        self.last: Step | None = None
        self.count = 0

    @contextlib.contextmanager
    def attached(self, scheduler: Any) -> Iterator[Recorder]:
        """Observes `scheduler` inside the `with` block; results of its steps are not changed."""
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
            output = step(model_output, timestep, sample, *args, return_dict=True, **kwargs)
            x0 = original_sample(scheduler, output, model_output, timestep, sample)
            sigma = noise_level(scheduler, timestep)
            self.last = Step(self.count, float(timestep), sigma, sample, model_output, x0)
            self.count += 1
            return output if return_dict else output.to_tuple()

        scheduler.step = observed
        try:
            yield self
        finally:
            del scheduler.step
