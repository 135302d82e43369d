"""Loads models and runs requests on them: one base pipeline a model, a disposable view for every run.

A view shares all components with the base and costs milliseconds; only its scheduler is its own. The
pictures of a job run one after the other, because batched kernels differ in the last bit from single ones.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import prompts, schedulers
from pipelines.events import Event, Finished, Loading, Picture, PictureDone, StepEvent
from pipelines.preview import LatentToRGB, jpeg
from pipelines.recorder import Recorder

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.devices import DevicePlan
    from pipelines.models import ModelLibrary, ModelSpec
    from pipelines.outputs import Outputs
    from pipelines.request import GenerationRequest

Emit = Callable[[Event], None]

RESIDENT_MODELS = 2
"""How many base pipelines stay loaded; the least recently used one goes first."""


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


class LoadedModel:
    """A base pipeline in memory with what its runs need."""

    def __init__(self, spec: ModelSpec, pipeline: Any, to_rgb: LatentToRGB, short_hash: str):
        self.spec, self.pipeline, self.to_rgb, self.short_hash = spec, pipeline, to_rgb, short_hash
        self.scheduler_config = dict(pipeline.scheduler.config)


class PipelineManager:
    """Everything between a request and its pictures. One thread runs; any thread may count tokens."""

    def __init__(self, library: ModelLibrary, plan: DevicePlan, outputs: Outputs):
        self.library, self.plan, self.outputs = library, plan, outputs
        self._loaded: OrderedDict[Path, LoadedModel] = OrderedDict()
        self._tokenizers: dict[Path, Any] = {}
        self._tokenizer_lock = threading.Lock()

    def load(self, key: str, emit: Emit = lambda event: None) -> LoadedModel:
        """The model with that key, from memory if it is there. Raises `InvalidRequest` for an unknown key."""
        import torch
        from diffusers import DiffusionPipeline

        spec = self.library.find(key)
        if spec.folder in self._loaded:
            self._loaded.move_to_end(spec.folder)
            return self._loaded[spec.folder]
        emit(Loading(f"Loading {spec.title} ({spec.summary})."))
        while len(self._loaded) >= RESIDENT_MODELS:
            self._loaded.popitem(last=False)
        pipeline = DiffusionPipeline.from_pretrained(
            spec.folder, dtype=self.plan.torch_dtype, local_files_only=True, use_safetensors=True
        ).to(self.plan.device)
        pipeline.set_progress_bar_config(disable=True)
        if self.plan.channels_last:
            pipeline.vae.to(memory_format=torch.channels_last)
        to_rgb = LatentToRGB.load(self.library.assets / "latent_rgb.json", key) or LatentToRGB.fit(
            pipeline.vae
        )
        self._loaded[spec.folder] = LoadedModel(spec, pipeline, to_rgb, spec.short_hash())
        return self._loaded[spec.folder]

    def pipeline_for(self, request: GenerationRequest, model: LoadedModel, seed: int) -> Any:
        """A disposable pipeline for the request's task over the model's components, its scheduler fresh."""
        from diffusers import AutoPipelineForText2Image

        scheduler = schedulers.build(
            request.scheduler, request.schedule, model.scheduler_config, kind=model.spec.kind, seed=seed
        )
        pipe = AutoPipelineForText2Image.from_pipe(model.pipeline, scheduler=scheduler)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def run(self, request: GenerationRequest, emit: Emit, control: Control) -> Finished:
        """Runs a resolved request, telling `emit` every step and picture; returns the last event.

        Raises `InvalidRequest` where the request does not fit its model, `GenerationCancelled` when it
        was stopped, and whatever torch and diffusers raise.
        """
        spec = self.library.find(request.model)
        schedulers.check_request(request, spec.kind)
        model = self.load(request.model, emit)
        began = time.perf_counter()
        if control.cancelled:
            raise GenerationCancelled
        encoded = prompts.encode(
            model.pipeline,
            request.prompt,
            request.negative_prompt or None,
            guidance=request.guidance_scale > 1,
        )
        pictures: list[Picture] = []
        for index in range(request.pictures):
            run = _PictureRun(self, request, model, index, began, emit, control)
            image = run.paint(encoded.kwargs)
            extras = {"Stopped at step": run.recorder.count} if control.kept else {}
            picture = self.outputs.keep(
                image, request, index=index, model=spec, model_hash=model.short_hash, extras=extras
            )
            pictures.append(picture)
            emit(PictureDone(picture, index))
            if control.kept:
                break
        return Finished(tuple(pictures), time.perf_counter() - began, control.kept, tuple(encoded.notes))

    def count_tokens(self, key: str, prompt: str) -> Any:
        """`prompts.TokenCount` of a prompt for that model; safe beside a running job."""
        from transformers import CLIPTokenizer

        folder = self.library.find(key).folder / "tokenizer"
        with (
            self._tokenizer_lock
        ):  # a tokenizer of its own: fast tokenizers must not be shared between threads
            if folder not in self._tokenizers:
                self._tokenizers[folder] = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            return prompts.count_tokens(prompt, self._tokenizers[folder])


class _PictureRun:
    """One picture of a job: the pipeline's call, watched and steered."""

    def __init__(
        self,
        manager: PipelineManager,
        request: GenerationRequest,
        model: LoadedModel,
        index: int,
        began: float,
        emit: Emit,
        control: Control,
    ):
        self.manager, self.request, self.model, self.index = manager, request, model, index
        self.began, self.emit, self.control = began, emit, control
        self.seed = request.seed_of(index)
        self.recorder = Recorder()

    def paint(self, embeddings: dict[str, Any]) -> Any:
        """The finished Pillow picture. embeddings: the call's arguments that carry the prompt."""
        import torch

        pipe = self.manager.pipeline_for(self.request, self.model, self.seed)
        generator = torch.Generator("cpu").manual_seed(self.seed)
        call = call_kwargs(self.request, pipe) | embeddings
        if self.request.subseed_strength > 0:
            call["latents"] = self._varied_noise(pipe, generator)
        try:
            with self.recorder.attached(pipe.scheduler):
                return pipe(**call, generator=generator, callback_on_step_end=self._on_step_end).images[0]
        finally:
            pipe.maybe_free_model_hooks()

    def _on_step_end(self, pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if self.control.cancelled:
            raise GenerationCancelled
        step = self.recorder.last
        assert step is not None
        x0 = step.pred_original_sample[0]
        self.emit(
            StepEvent(
                step=index + 1,
                total=pipe.num_timesteps,
                picture=self.index,
                pictures=self.request.pictures,
                timestep=step.timestep,
                sigma=step.sigma,
                preview=jpeg(self.model.to_rgb(x0)),
                seconds=time.perf_counter() - self.began,
                seed=self.seed,
            )
        )
        if self.control.kept:
            # What is kept is what was shown: the predicted picture, not the noisy sample on its way there.
            pipe._interrupt = True
            return {"latents": step.pred_original_sample.to(tensors["latents"].dtype)}
        return tensors

    def _varied_noise(self, pipe: Any, generator: Any) -> Tensor:
        """Starting noise between the two seeds' own, (1, channels, h, w) at unit variance."""
        import torch
        from diffusers.utils.torch_utils import randn_tensor

        channels = pipe.unet.config.in_channels
        shape = (
            1,
            channels,
            self.request.height // pipe.vae_scale_factor,
            self.request.width // pipe.vae_scale_factor,
        )
        other = torch.Generator("cpu").manual_seed(self.request.subseed_of(self.index))
        place = {"device": torch.device(self.manager.plan.device), "dtype": self.manager.plan.torch_dtype}
        own = randn_tensor(shape, generator=generator, **place)
        return slerp(own, randn_tensor(shape, generator=other, **place), self.request.subseed_strength)


def slerp(start: Tensor, end: Tensor, amount: float) -> Tensor:
    """Spherical interpolation between two noises of one shape (Shoemake 1985), 0 = start, 1 = end."""
    import torch

    a, b = start.double().flatten(), end.double().flatten()
    angle = torch.arccos((torch.dot(a, b) / (a.norm() * b.norm())).clamp(-1, 1))
    if float(torch.sin(angle)) < 1e-4:
        return start + (end - start) * amount
    mixed = (torch.sin((1 - amount) * angle) * a + torch.sin(amount * angle) * b) / torch.sin(angle)
    return mixed.reshape(start.shape).to(start.dtype)


def call_kwargs(request: GenerationRequest, pipe: Any) -> dict[str, Any]:
    """The request's fields that this pipeline's call takes; each run makes one picture."""
    accepted = inspect.signature(pipe.__call__).parameters
    passed = request.model_dump(exclude={"prompt", "negative_prompt", "num_images_per_prompt"})
    return {name: value for name, value in passed.items() if name in accepted}
