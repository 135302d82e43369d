"""What follows a curve over the steps: the line itself, and guidance that is another at each step.

diffusers' pipelines take one guidance scale for a whole run. They are given a number that is worth something
else at each step; where the scale is an input of the network, that input is put in its place.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.latents import painter

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.families import FamilyRow
    from pipelines.request import GenerationRequest

Line = Sequence[tuple[float, float]]
"""Points (share of the steps, value), one after the other."""


def value_at(line: Line, share: float, level: float = 1.0) -> float:
    """What a line says at a share of the steps: between two points the line through them, beyond its ends
    what they say, and `level` where it has no points."""
    before = [point for point in line if point[0] <= share]
    after = [point for point in line if point[0] > share]
    if not before or not after:
        return after[0][1] if after else before[-1][1] if before else level
    (left, low), (right, high) = before[-1], after[0]
    return low + (high - low) * (share - left) / (right - left)


class Following(float):
    """A guidance scale that follows a curve. Compared it is the curve's peak, so that a pipeline asks its
    model with and without the prompt at all steps or at none; in a sum or product it is what holds now."""

    now: float = 1.0

    def __mul__(self, other: Any) -> Any:
        return self.now * other

    def __add__(self, other: Any) -> Any:
        return self.now + other


class GuidanceCurve:
    """The guidance of one run. `onto` before the call, `at` before each step."""

    def __init__(self, request: GenerationRequest, family: FamilyRow):
        self.line, self.family = request.guidance_points, family
        self.scale = Following(request.guidance_peak + family.guidance_shift)
        self.at(0.0)

    def at(self, share: float) -> None:
        """A step begins at which so large a share of the steps is done."""
        self.scale.now = value_at(self.line, share) + self.family.guidance_shift

    def onto(self, pipe: Any, call: dict[str, Any]) -> None:
        """Makes a view and the arguments of its call follow the curve; without one both stay as they are."""
        if not self.line:
            return
        call |= {name: self.scale for name in self.family.guidance if name in call}
        owner = painter(pipe)
        for name in (self.family.denoiser, "controlnet"):
            network = getattr(owner, name, None)
            if network is not None:
                setattr(owner, name, self._told(owner, network))

    def _told(self, pipe: Any, network: Any) -> Any:
        """A second handle of a network whose input of guidance, where it has one, is that of the step."""
        handle = copy.copy(network)

        def forward(*args: Any, **kwargs: Any) -> Any:
            return network.forward(*args, **{**kwargs, **self._inputs(pipe, kwargs)})

        handle.__dict__["forward"] = forward
        return handle

    def _inputs(self, pipe: Any, given: dict[str, Any]) -> dict[str, Tensor]:
        import torch

        now = self.scale.now
        told = {}
        if given.get("guidance") is not None:  # Flux and its kin
            told["guidance"] = torch.full_like(given["guidance"], now)
        if (embedded := given.get("timestep_cond")) is not None:  # consistency models: (batch, channels)
            count, channels = embedded.shape
            scales = torch.tensor(now - 1).repeat(count)
            told["timestep_cond"] = pipe.get_guidance_scale_embedding(scales, embedding_dim=channels).to(
                embedded.device, embedded.dtype
            )
        return told
