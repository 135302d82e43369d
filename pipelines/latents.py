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


def scale_of(pipe: Any) -> float:
    """By how much the latents that a pipeline steps over are larger than those that its VAE takes."""
    config = pipe.scheduler.config
    return float(config.sigma_data) if config.get("prediction_type") == "trigflow" else 1.0


def as_grid(latents: Tensor, layout: Latents, width: int, height: int, scale: float = 1.0) -> Tensor:
    """Latents of a run of width x height pixels as (n, channels, h, w). layout: see families.Latents. scale:
    see `scale_of`."""
    if scale != 1:
        latents = latents / scale
    if latents.dim() == 5:
        return latents.squeeze(2)
    if latents.dim() == 4:
        return latents
    batch, places, channels = latents.shape
    rows, columns = rows_and_columns(places, width, height)
    if layout == "patched":
        return latents.transpose(1, 2).reshape(batch, channels, rows, columns)
    patches = latents.reshape(batch, rows, columns, channels // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, rows * 2, columns * 2)


def from_grid(grid: Tensor, like: Tensor, layout: Latents, scale: float = 1.0) -> Tensor:
    """The reverse of `as_grid`, in the shape of `like`."""
    if like.dim() == 3:
        if layout == "packed":
            batch, channels, rows, columns = grid.shape
            patches = grid.reshape(batch, channels, rows // 2, 2, columns // 2, 2)
            grid = patches.permute(0, 1, 3, 5, 2, 4).reshape(batch, channels * 4, rows // 2, columns // 2)
        grid = grid.flatten(2).transpose(1, 2)
    return grid.reshape(like.shape) * scale


def rows_and_columns(places: int, width: int, height: int) -> tuple[int, int]:
    """The grid that so many places make over a picture of width x height pixels, each a square of pixels.
    Raises `ValueError` where there is none."""
    for halvings in range(12):
        for up in (0, 2**halvings - 1):  # what is halved again and again is rounded down or up
            rows, columns = (height + up) >> halvings, (width + up) >> halvings
            if rows * columns == places:
                return rows, columns
    raise ValueError(f"{places} places make no grid over {width} x {height} pixels.")


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


def begin_at(pipe: Any, start: Tensor) -> None:
    """Lets a view begin with the latents `start`, as its first step takes them. What else it draws stays."""
    owner = painter(pipe)
    name = next(name for name in _DRAWING if hasattr(owner, name))
    draw = getattr(owner, name)
    scale = scale_of(pipe)

    @functools.wraps(draw)
    def begun(*args: Any, **kwargs: Any) -> Any:
        own = draw(*args, **kwargs)
        first = own[0] if isinstance(own, tuple) else own
        given = (start if scale == 1 else start / scale).to(first.device, first.dtype)
        return (given, *own[1:]) if isinstance(own, tuple) else given

    setattr(owner, name, begun)


def slerp(start: Tensor, end: Tensor, amount: float) -> Tensor:
    """Spherical interpolation between two noises of one shape (Shoemake 1985), 0 = start, 1 = end."""
    import torch

    a, b = start.double().flatten(), end.double().flatten()
    angle = torch.arccos((torch.dot(a, b) / (a.norm() * b.norm())).clamp(-1, 1))
    if float(torch.sin(angle)) < 1e-4:
        return start + (end - start) * amount
    mixed = (torch.sin((1 - amount) * angle) * a + torch.sin(amount * angle) * b) / torch.sin(angle)
    return mixed.reshape(start.shape).to(start.dtype)
