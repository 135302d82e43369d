"""Paints what was read and loaded for a request: words encoded, a run for each picture, filmed and kept.

The pictures of a job run one after the other: batched kernels differ in the last bit from single ones.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines import picture_fields, prompts, schedulers
from pipelines.budget import decoding
from pipelines.budget.placing import Placing, both
from pipelines.controlnet import control
from pipelines.controlnet.control_modes import control_modes
from pipelines.events import Finished, Picture, PictureDone
from pipelines.film import resuming
from pipelines.film.films import Films
from pipelines.film.looking import Look
from pipelines.film.trajectory import run_id
from pipelines.lora import embeddings
from pipelines.lora.adapters import Adapters, hashes
from pipelines.prompt_memory import PromptMemory
from pipelines.refining import Refined
from pipelines.run import Control, Emit, GenerationCancelled, GenerationPaused, PictureRun, Shown
from pipelines.safety import Safety

if TYPE_CHECKING:
    from pipelines.budget.forecast import Stopwatch
    from pipelines.controlnet.control import ControlSpec
    from pipelines.library.models import ModelLibrary
    from pipelines.load.loaded import LoadedModel
    from pipelines.lora.adapters import ActiveAdapters
    from pipelines.lora.embeddings import Vocabulary
    from pipelines.outputs import Outputs
    from pipelines.pictures import PictureStore
    from pipelines.prompts import Encoded
    from pipelines.repaint import Canvas
    from pipelines.request import GenerationRequest


@dataclass(frozen=True)
class Ready:
    """A request with all that was read and loaded for it, in its place.

    job: what its films are called by, "" for none. specs and networks: one for each control unit. watch:
    times the parts. told: takes sentences about falling back.
    """

    job: str
    request: GenerationRequest
    shown: Shown
    model: LoadedModel
    refiner: LoadedModel | None
    specs: Sequence[ControlSpec]
    networks: Sequence[Any]
    active: ActiveAdapters
    watch: Stopwatch
    told: list[str]


class Painter:
    """Between what is ready and the kept pictures. placing: knows what decoding may take."""

    def __init__(
        self,
        *,
        library: ModelLibrary,
        placing: Placing,
        adapters: Adapters,
        films: Films,
        safety: Safety,
        outputs: Outputs,
        store: PictureStore,
    ):
        self.library, self.placing, self.adapters = library, placing, adapters
        self.films, self.safety, self.outputs, self.store = films, safety, outputs, store
        self.prompt_memory = PromptMemory()

    def paint(self, ready: Ready, emit: Emit, steering: Control, pictures: list[Picture]) -> Finished:
        """The pictures of a request. pictures: takes them, and holds those that were finished before memory
        ran out."""
        began = time.perf_counter()
        request, active = ready.request, ready.active
        emit = both(ready.watch, emit)
        if steering.cancelled:
            raise GenerationCancelled
        encoded, vocabulary = self._encoded(ready.model.pipeline, active, request)
        ready.watch.encoded()
        extras = {**active.extras, **embeddings.hashes(vocabulary.used), **hashes(request, self.library)}
        extras |= picture_fields.origins(request, self.store.origin)
        if request.branch and (parent := self.films.painted(request.branch.trajectory)):
            extras["Branch picture"] = parent
        notes = [*active.notes, *encoded.notes]
        with self._runs(ready, emit) as run_of:
            for index in range(len(pictures), request.pictures):
                if ready.job and (before := self._found(ready, index)) is not None:
                    pictures.append(before)
                    emit(PictureDone(before, index))
                    continue
                if steering.paused and not steering.kept:
                    raise GenerationPaused(0, 0, index)
                picture, said = self._kept(ready, run_of(index, began, steering), encoded, extras)
                notes += [one for one in said if one not in notes]
                pictures.append(picture)
                emit(PictureDone(picture, index))
                if steering.kept:
                    break
        return Finished(tuple(pictures), time.perf_counter() - began, steering.kept, tuple(notes))

    def look(self, ready: Ready, index: int, see: Callable[[Look], None]) -> None:
        """Lets `see` have the run of picture `index`, which is not begun."""
        request, active = ready.request, ready.active
        encoded, vocabulary = self._encoded(ready.model.pipeline, active, request)
        with self._runs(ready, lambda event: None) as run_of:
            run = run_of(index, time.perf_counter(), Control())
            maps = control.control_kwargs(run.pipe, request.controls, ready.shown.maps, ready.specs)
            with decoding.guarded(run.pipe, self.placing.plan, ready.told.append):
                see(Look(run, encoded.kwargs, maps, active.prompt, vocabulary))

    @contextmanager
    def _runs(self, ready: Ready, emit: Emit) -> Iterator[Callable[[int, float, Control], PictureRun]]:
        """Gives what makes the run of a picture: (its index, the job's begin, steering) -> run."""
        request, model, networks, active = ready.request, ready.model, ready.networks, ready.active
        with (
            control_modes(request.controls, networks, request.guidance_peak > 1),
            self._refined(request, ready.refiner, emit) as refined,
        ):

            def made(index: int, began: float, steering: Control) -> PictureRun:
                pipe = pipeline_for(request, model, request.seed_of(index), networks)
                self.prompt_memory.attach(pipe, active.text_state)
                to_rgb = self.safety.veiled(model.to_rgb)
                run = PictureRun(pipe, request, model.spec, ready.shown, index, to_rgb, began, emit, steering)
                control.follow_curves(pipe, request.controls, ready.specs, run.begun_at)
                run.at_step = active.at_step
                if refined is not None:
                    refined.onto(pipe, request)
                    run.at_step = refined.beside(active.at_step)
                return run

            yield made

    def _kept(
        self, ready: Ready, run: PictureRun, encoded: Encoded, extras: dict[str, Any]
    ) -> tuple[Picture, list[str]]:
        """What a run comes to, filmed and in its file, and what there is to say of it. extras: further
        entries of its generation text."""
        request, model, shown = ready.request, ready.model, ready.shown
        run.replay = self.films.replay(request, model, run_id(ready.job, run.index) if ready.job else "")
        about = request.model_dump(exclude_defaults=True)
        plan, latents = self.placing.plan, self.placing.latents
        with (
            self.films.filming(ready.job, run, model, run.control) as film,
            decoding.guarded(run.pipe, plan, ready.told.append, latents, about),
        ):
            painted: Any = run.paint(
                encoded.kwargs, control.control_kwargs(run.pipe, request.controls, shown.maps, ready.specs)
            )
        notes = []
        if shown.canvas is not None:
            painted = shown.canvas.with_painted(painted)
            notes.append(_untouched(shown.canvas, painted))
        painted, said = self.safety.passed(painted)
        stopped = {"Stopped at step": run.steps} if run.control.kept else {}
        picture = self.outputs.keep(
            painted,
            request,
            index=run.index,
            model=model.spec,
            model_hash=model.short_hash,
            extras={**extras, **stopped},
            **({} if film is None else self.films.keeping(film)),
        )
        return picture, [*notes, *said]

    def _found(self, ready: Ready, index: int) -> Picture | None:
        """A picture that the job has finished before it was taken up again."""
        return resuming.found(self.films.store, self.outputs, run_id(ready.job, index), ready.request)

    def _encoded(
        self, pipe: Any, active: ActiveAdapters, request: GenerationRequest
    ) -> tuple[Encoded, Vocabulary]:
        """What a pipeline is called with for the request's prompts, and the embeddings that they name."""
        vocabulary = embeddings.vocabulary_of(pipe, self.library)
        encoded = prompts.encode(
            pipe,
            active.prompt,
            active.negative_prompt or None,
            guidance=request.guidance_peak > 1,
            clip_skip=request.clip_skip,
            vocabulary=vocabulary,
            memory=self.prompt_memory,
            state=active.text_state,
        )
        return encoded, vocabulary

    @contextmanager
    def _refined(
        self, request: GenerationRequest, refiner: LoadedModel | None, emit: Emit
    ) -> Iterator[Refined | None]:
        """The refiner with its words and its adapters. Comes after the model has read its own: the two may
        share a text encoder."""
        if refiner is None:
            yield None
            return
        with self.adapters.active(refiner, request, emit, fitting=True) as active:
            encoded, _ = self._encoded(refiner.pipeline, active, request)
            yield Refined(refiner.pipeline, encoded.kwargs, active.at_step)


def pipeline_for(
    request: GenerationRequest, model: LoadedModel, seed: int, networks: Sequence[Any] = ()
) -> Any:
    """A disposable pipeline for the request's task over the model's components, its scheduler fresh."""
    scheduler = schedulers.build(
        request.scheduler, request.schedule, model.scheduler_config, kind=model.spec.kind, seed=seed
    )
    if not scheduler.config.get("use_dynamic_shifting"):
        _pass_over_shift(scheduler)
    pipe = control.view(model.pipeline, request.task, networks, scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _pass_over_shift(scheduler: Any) -> None:
    """Flux's pipelines tell every scheduler a shift (`mu`) that counts only where the model's configuration
    says so. The flow matching class then passes over it, the multistep ones would fail."""
    set_timesteps = scheduler.set_timesteps
    if "mu" not in inspect.signature(set_timesteps).parameters:
        return

    @functools.wraps(set_timesteps)
    def unshifted(*args: Any, mu: Any = None, **kwargs: Any) -> Any:
        return set_timesteps(*args, **kwargs)

    scheduler.set_timesteps = unshifted


def _untouched(canvas: Canvas, result: Any) -> str:
    count = canvas.untouched(result)
    if not count:
        return "Every pixel was open to change."
    return f"{count:,} pixels outside the mask are the original's, bit for bit."
