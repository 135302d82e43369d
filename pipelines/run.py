"""One picture of a job: the pipeline's call, watched by a recorder and steered step by step."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.events import Event, StepEvent
from pipelines.inpainting import SoftMask, begin_with
from pipelines.preview import jpeg
from pipelines.recorder import Recorder

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from pipelines.preview import LatentToRGB
    from pipelines.repaint import Canvas
    from pipelines.request import GenerationRequest

Emit = Callable[[Event], None]

_NOT_PASSED = {"prompt", "negative_prompt", "num_images_per_prompt", "image", "mask_image", "controls"}
"""Fields that reach the call in another form."""


class GenerationCancelled(Exception):
    """Raised inside a run to leave it after the step that is running."""


class Control:
    """How the owner of a run steers it, from any thread."""

    def __init__(self) -> None:
        self._cancelled, self._kept = threading.Event(), threading.Event()

    def stop(self, *, keep: bool) -> None:
        """Ends the run within one step; with `keep` the picture as far as it has come is finished."""
        (self._kept if keep else self._cancelled).set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def kept(self) -> bool:
        return self._kept.is_set()


@dataclass(frozen=True)
class Shown:
    """What a run is shown besides words, all of the run's size.

    image: RGB to start from. mask: L, white is painted. maps: one RGB for each control unit. canvas: the
    picture that the result of inpainting goes back into.
    """

    image: Image | None = None
    mask: Image | None = None
    maps: tuple[Image, ...] = ()
    canvas: Canvas | None = None


@dataclass
class PictureRun:
    """Runs a view once. index: of the picture in its job. began: the job's start on the performance clock."""

    pipe: Any
    request: GenerationRequest
    shown: Shown
    index: int
    to_rgb: LatentToRGB
    began: float
    emit: Emit
    control: Control
    recorder: Recorder = field(default_factory=Recorder)
    soft: SoftMask | None = None

    def paint(self, words: Mapping[str, Any], controls: Mapping[str, Any]) -> Image:
        """The finished picture, RGB of the run's size.

        words, controls: the call's arguments that carry the prompt and the control maps.
        """
        import torch

        pipe, request, shown = self.pipe, self.request, self.shown
        seed = request.seed_of(self.index)
        generator = torch.Generator("cpu").manual_seed(seed)
        call = call_kwargs(request, pipe)
        accepted = inspect.signature(pipe.__call__).parameters
        call |= {name: value for name, value in words.items() if name in accepted}
        if shown.image is not None:
            call["image"] = shown.image
        if shown.mask is not None and shown.canvas is not None and shown.image is not None:
            call["mask_image"] = shown.mask
            begin_with(pipe, request.masked_content, shown.mask, seed)
            if request.soft_inpainting:
                strengths = shown.canvas.strengths(request.width, request.height)
                self.soft = SoftMask(pipe, shown.image, strengths, seed)
        if request.subseed_strength > 0:
            call["latents"] = varied_noise(pipe, request, self.index, generator)
        try:
            with self.recorder.attached(pipe.scheduler):
                picture: Image = pipe(
                    **{**call, **controls}, generator=generator, callback_on_step_end=self._on_step_end
                ).images[0]
                return picture
        finally:
            pipe.maybe_free_model_hooks()

    def _on_step_end(self, pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if self.control.cancelled:
            raise GenerationCancelled
        step = self.recorder.last
        assert step is not None
        x0 = unpacked(pipe, step.pred_original_sample, self.request)
        self.emit(
            StepEvent(
                step=index + 1,
                total=pipe.num_timesteps,
                picture=self.index,
                pictures=self.request.pictures,
                timestep=step.timestep,
                sigma=step.sigma,
                preview=jpeg(self.to_rgb(x0[0])),
                seconds=time.perf_counter() - self.began,
                seed=self.request.seed_of(self.index),
            )
        )
        latents = tensors["latents"]
        if self.control.kept:
            # What is kept is what was shown: the predicted picture, not the noisy sample on its way there.
            pipe._interrupt = True
            return {"latents": step.pred_original_sample.to(latents.dtype)}
        return {"latents": self.soft.hold(index, latents)} if self.soft else tensors


def call_kwargs(request: GenerationRequest, pipe: Any) -> dict[str, Any]:
    """The request's fields that this pipeline's call takes; each run makes one picture."""
    accepted = inspect.signature(pipe.__call__).parameters
    passed = request.model_dump(exclude=_NOT_PASSED)
    return {name: value for name, value in passed.items() if name in accepted}


def unpacked(pipe: Any, latents: Tensor, request: GenerationRequest) -> Tensor:
    """Latents as (n, channels, h, w): Flux packs its own into a sequence of 2 x 2 patches."""
    if latents.dim() == 4:
        return latents
    grid: Tensor = pipe._unpack_latents(latents, request.height, request.width, pipe.vae_scale_factor)
    return grid


def varied_noise(pipe: Any, request: GenerationRequest, index: int, generator: Any) -> Tensor:
    """Starting noise between the two seeds' own, at unit variance, of the shape that the pipeline draws."""
    import torch
    from diffusers.utils.torch_utils import randn_tensor

    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    packs = hasattr(pipe, "_pack_latents")
    channels = denoiser.config.in_channels // (4 if packs else 1)
    height, width = request.height // pipe.vae_scale_factor, request.width // pipe.vae_scale_factor
    if packs:
        height, width = height // 2 * 2, width // 2 * 2
    shape = (1, channels, height, width)
    other = torch.Generator("cpu").manual_seed(request.subseed_of(index))
    place = {"device": denoiser.device, "dtype": denoiser.dtype}
    own = randn_tensor(shape, generator=generator, **place)
    mixed = slerp(own, randn_tensor(shape, generator=other, **place), request.subseed_strength)
    return pipe._pack_latents(mixed, *shape) if packs else mixed


def slerp(start: Tensor, end: Tensor, amount: float) -> Tensor:
    """Spherical interpolation between two noises of one shape (Shoemake 1985), 0 = start, 1 = end."""
    import torch

    a, b = start.double().flatten(), end.double().flatten()
    angle = torch.arccos((torch.dot(a, b) / (a.norm() * b.norm())).clamp(-1, 1))
    if float(torch.sin(angle)) < 1e-4:
        return start + (end - start) * amount
    mixed = (torch.sin((1 - amount) * angle) * a + torch.sin(amount * angle) * b) / torch.sin(angle)
    return mixed.reshape(start.shape).to(start.dtype)
