"""One picture of a job: the pipeline's call, watched by a recorder and steered step by step."""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.curves import GuidanceCurve
from pipelines.events import Event, StepEvent
from pipelines.families import FAMILIES
from pipelines.film.replay import Denoiser
from pipelines.inpainting import SoftMask, begin_with
from pipelines.latents import as_grid, begin_at, painter, scale_of, vary
from pipelines.preview import jpeg
from pipelines.recorder import Recorder, before_each_step

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from pipelines.families import FamilyRow
    from pipelines.film.recording import Recording
    from pipelines.film.replay import Replay
    from pipelines.library.models import ModelSpec
    from pipelines.recorder import Step
    from pipelines.repaint import Canvas
    from pipelines.request import GenerationRequest

Emit = Callable[[Event], None]

_PASSED = ("width", "height", "num_inference_steps", "strength", "image_guidance_scale", "eta")
"""Request fields that a call takes under their own names; the others reach it in another form."""


class GenerationCancelled(Exception):
    """Raised inside a run to leave it after the step that is running."""


class GenerationPaused(Exception):
    """Raised inside a run to leave it after a step, from where it is gone on with later."""

    def __init__(self, step: int, total: int, picture: int):
        self.step, self.total, self.picture = step, total, picture
        super().__init__(step, total, picture)


class Control:
    """How the owner of a run steers it, from any thread."""

    def __init__(self) -> None:
        self._cancelled, self._kept, self._paused = threading.Event(), threading.Event(), threading.Event()

    def stop(self, *, keep: bool) -> None:
        """Ends the run within one step; with `keep` the picture as far as it has come is finished."""
        (self._kept if keep else self._cancelled).set()

    def pause(self) -> None:
        """Lets the run rest within one step; it can be taken up from its film."""
        self._paused.set()

    @property
    def paused(self) -> bool:
        return self._paused.is_set()

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
    """Runs a view once. index: of the picture in its job. began: the job's start on the performance clock.

    at_step: called with (0, total) before the first step and (index + 1, total) after each. share: see
    `begun_at`. film: takes the run's steps. replay: steps that are taken from a recorded run. kept: the
    latents that the run ends with; given before it begins, they are all that it finishes. watch: around each
    call of the denoiser, by the step's index; looked: called with each step. Both for looking into it.
    """

    pipe: Any
    request: GenerationRequest
    model: ModelSpec
    shown: Shown
    index: int
    to_rgb: Callable[[Tensor], Image]
    began: float
    emit: Emit
    control: Control
    at_step: Callable[[int, int], None] = lambda index, total: None
    film: Recording | None = None
    replay: Replay | None = None
    watch: Callable[[int, Any], AbstractContextManager[Any]] = lambda index, denoiser: nullcontext()
    looked: Callable[[Step], None] = lambda step: None
    soft: SoftMask | None = None
    steps: int = 0
    share: float = 0.0
    started: float = 0.0
    kept: Tensor | None = None

    def __post_init__(self) -> None:
        self.family = FAMILIES[self.model.family]
        self.guidance = GuidanceCurve(self.request, self.family)

    def paint(self, words: Mapping[str, Any], controls: Mapping[str, Any]) -> Image:
        """The finished picture, RGB of the run's size.

        words, controls: the call's arguments that carry the prompt and the control maps.
        """
        import torch

        pipe, request, shown = self.pipe, self.request, self.shown
        seed = request.seed_of(self.index)
        self.generator = generator = torch.Generator("cpu").manual_seed(seed)
        accepted = inspect.signature(pipe.__call__).parameters
        call = call_kwargs(request, pipe, self.family)
        said = {name: value for name, value in words.items() if value is not None}
        if "negative_prompt" in said or request.guidance_peak > 1:
            said.setdefault("negative_prompt", self.family.empty_negative)
        call |= {name: value for name, value in said.items() if name in accepted and value is not None}
        if shown.image is not None:
            call["image"] = shown.image
        if shown.mask is not None and shown.canvas is not None and shown.image is not None:
            call["mask_image"] = shown.mask
            begin_with(pipe, request.masked_content, shown.mask, seed)
            if request.soft_inpainting:
                strengths = shown.canvas.strengths(request.width, request.height)
                self.soft = SoftMask(pipe, shown.image, strengths, seed)
        if request.subseed_strength > 0:
            vary(pipe, request, self.index)
        if self.replay is not None and self.replay.count == 0 and self.replay.start is not None:
            begin_at(pipe, self.replay.start)
        if "callback_on_step_end" in accepted:
            call["callback_on_step_end"] = self._on_step_end
        self._begin(0, request.steps_run)
        self.started = time.perf_counter()
        self.guidance.onto(pipe, call)
        try:
            with contextlib.ExitStack() as watched:
                recorder = self._recorder()
                watched.enter_context(recorder.attached(pipe.scheduler))
                for name, part in pipe.components.items():  # a prior's steps come before those shown
                    if name.endswith("scheduler") and name != "scheduler" and part is not None:
                        watched.enter_context(before_each_step(part, self._ask))
                self.denoiser = Denoiser(
                    pipe, self.family.denoiser, lambda: recorder.count, self.replay, self._stilled, self.watch
                )
                picture: Image = pipe(**{**call, **controls}, generator=generator).images[0]
                return picture
        finally:
            pipe.maybe_free_model_hooks()

    def _begin(self, index: int, total: int) -> None:
        """Step `index` of `total` is about to begin; there is none after the last."""
        self.at_step(index, total)
        if index < total:
            self.share = index / total
            self.guidance.at(self.share)

    def begun_at(self) -> float:
        """The share of the steps that was done when the present one began."""
        return self.share

    def _recorder(self) -> Recorder:
        if self.replay is None:
            return Recorder(self._seen)
        return Recorder(self._seen, self.replay.given, self.replay.following)

    def _stilled(self) -> bool:
        """Whether the denoiser is asked for nothing: pipelines that cannot be interrupted walk through all
        steps, which cost and change nothing any more once the run is kept."""
        return self.kept is not None and not hasattr(type(self.pipe), "interrupt")

    def _ask(self) -> None:
        if self.control.cancelled:
            raise GenerationCancelled

    def _seen(self, step: Step) -> Tensor | None:
        """Tells a step; where the run is to be kept as it is, its predicted picture goes on instead."""
        if self.kept is not None:
            return self.kept
        self._ask()
        self.looked(step)
        total = total_steps(self.pipe, self.request)
        request, layout = self.request, self.family.latents
        x0 = as_grid(step.pred_original_sample, layout, request.width, request.height, scale_of(self.pipe))
        self.steps += 1
        own = self.replay if self.replay is not None and self.replay.own else None
        # What it had taken before it was taken up again is no place to stop at: it has been seen to the end.
        again = own is not None and self.steps < own.count
        if self.film is not None:
            self._filmed(step, total)
        self.emit(
            StepEvent(
                step=self.steps,
                total=total,
                picture=self.index,
                pictures=self.request.pictures,
                timestep=step.timestep,
                sigma=step.sigma,
                preview=jpeg(self.to_rgb(x0[0])),
                seconds=time.perf_counter() - self.began,
                seed=self.request.seed_of(self.index),
            )
        )
        self._ask()
        if self.control.paused and not self.control.kept:
            raise GenerationPaused(max(self.steps, 0 if own is None else own.count), total, self.index)
        self._begin(self.steps, total)
        if self.replay is not None and (drawn := self.replay.seed_after(self.steps)) is not None:
            self.generator.manual_seed(drawn)
        if self.control.kept and not again:
            # What is kept is what was shown: the predicted picture, not the noisy sample on its way there.
            self.kept = step.pred_original_sample.to(step.sample.dtype)
            if self.film is not None:
                self.film.latents(self.kept)
        return self.kept

    def _filmed(self, step: Step, total: int) -> None:
        assert self.film is not None
        about = self.film.run.about
        if self.denoiser.shape and "output_shape" not in about:
            about = {**about, "output_shape": self.denoiser.shape}
        if step.index == 0 or about is not self.film.run.about:
            self.film.describe(total=total, about=about)
        self.film.step(step, self.denoiser.parts)
        last = self.steps >= total and self.kept is None
        if last and self.replay is None:
            seconds = time.perf_counter() - self.started
            self.film.describe(about={**self.film.run.about, "seconds": seconds})
        if last and "callback_on_step_end" not in inspect.signature(self.pipe.__call__).parameters:
            self.film.latents(step.prev_sample)

    def _on_step_end(self, pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if self.kept is not None:
            pipe._interrupt = True
            return {"latents": self.kept.to(tensors["latents"].dtype)}
        latents = self.soft.hold(index, tensors["latents"]) if self.soft else tensors["latents"]
        follows = self.replay.following(self.steps - 1) if self.replay is not None else None
        if follows is not None:
            latents = follows.to(latents.device, latents.dtype)
        if self.film is not None and self.steps >= total_steps(pipe, self.request):
            self.film.latents(latents)
        return {"latents": latents}


def total_steps(pipe: Any, request: GenerationRequest) -> int:
    """How many steps a run that has begun takes; schedulers of second order count each evaluation."""
    owner = painter(pipe)
    if hasattr(type(owner), "num_timesteps"):
        return int(owner.num_timesteps)
    if request.image is None:
        return len(pipe.scheduler.timesteps)
    return request.steps_run * int(pipe.scheduler.order)


def call_kwargs(request: GenerationRequest, pipe: Any, family: FamilyRow) -> dict[str, Any]:
    """What this pipeline's call takes of the request's numbers; each run makes one picture.

    Pipelines that would choose a size by themselves are told to keep to the one that was asked for, and Sana
    Sprint's to its middle timestep for two steps alone, which it is for.
    """
    accepted = inspect.signature(pipe.__call__).parameters
    passed = {name: getattr(request, name) for name in _PASSED}
    passed |= dict.fromkeys(family.guidance, request.guidance_peak + family.guidance_shift)
    passed |= {
        "use_resolution_binning": False,
        "_auto_resize": False,
        "max_area": request.width * request.height,
        "intermediate_timesteps": 1.3 if request.num_inference_steps == 2 else None,
    }
    return {name: value for name, value in passed.items() if name in accepted}
