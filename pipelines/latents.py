"""How pipelines hold what they denoise: as a grid for previews, and the noise that a run begins with.

Every family draws its noise in a method of its own, in a layout of its own; both are met here by one way.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.families import Latents
    from pipelines.request import GenerationRequest

_DRAWING = ("prepare_latents", "prepare_intermediate_images")
"""What diffusers' pipelines call the method that draws the noise (the second is DeepFloyd IF's)."""


def painter(pipe: Any) -> Any:
    """The pipeline that paints: `pipe` itself, or the second half of one that is combined of two."""
    return getattr(pipe, "decoder_pipe", pipe)


def as_grid(pipe: Any, latents: Tensor, layout: Latents, width: int, height: int) -> Tensor:
    """Latents of a run of width x height pixels as (n, channels, h, w). layout: see families.Latents."""
    if pipe.scheduler.config.get("prediction_type") == "trigflow":
        latents = latents / pipe.scheduler.config.sigma_data
    if layout == "packed" and latents.dim() == 3:
        latents = pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)
    if layout == "patched" and latents.dim() == 3:
        side = pipe.vae_scale_factor * 2
        batch, _, channels = latents.shape
        return latents.transpose(1, 2).reshape(batch, channels, height // side, width // side)
    return latents.squeeze(2) if latents.dim() == 5 else latents


def vary(pipe: Any, request: GenerationRequest, index: int) -> None:
    """Lets a view begin with noise between the two seeds' own (at unit variance), whatever its shape.

    index: of the picture in its job. The run's own generator is drawn from as without variation.
    """
    import torch

    owner = painter(pipe)
    name = next(name for name in _DRAWING if hasattr(owner, name))
    draw = getattr(owner, name)
    signature = inspect.signature(draw)
    other = torch.Generator("cpu").manual_seed(request.subseed_of(index))

    @functools.wraps(draw)
    def between(*args: Any, **kwargs: Any) -> Any:
        own = draw(*args, **kwargs)
        call = signature.bind(*args, **kwargs)
        call.arguments["generator"] = other
        second = draw(*call.args, **call.kwargs)
        if isinstance(own, tuple):
            return (slerp(own[0], second[0], request.subseed_strength), *own[1:])
        return slerp(own, second, request.subseed_strength)

    setattr(owner, name, between)


def slerp(start: Tensor, end: Tensor, amount: float) -> Tensor:
    """Spherical interpolation between two noises of one shape (Shoemake 1985), 0 = start, 1 = end."""
    import torch

    a, b = start.double().flatten(), end.double().flatten()
    angle = torch.arccos((torch.dot(a, b) / (a.norm() * b.norm())).clamp(-1, 1))
    if float(torch.sin(angle)) < 1e-4:
        return start + (end - start) * amount
    mixed = (torch.sin((1 - amount) * angle) * a + torch.sin(amount * angle) * b) / torch.sin(angle)
    return mixed.reshape(start.shape).to(start.dtype)
