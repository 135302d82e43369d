"""Loads models and runs requests on them: one base pipeline a model, a disposable view for every run.

A view shares all components with the base and costs milliseconds; only its scheduler is its own. The
pictures of a job run one after the other, because batched kernels differ in the last bit from single ones.
"""

from __future__ import annotations

import functools
import inspect
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import checks, families, picture_fields, prompts, repaint, schedulers
from pipelines.budget import decoding, offload
from pipelines.budget.memory import is_out_of_memory
from pipelines.budget.offload import Offload
from pipelines.budget.placing import Placing, both
from pipelines.controlnet import control
from pipelines.controlnet.control import ControlLibrary, ControlSpec
from pipelines.controlnet.control_modes import control_modes
from pipelines.controlnet.detectors import Detectors
from pipelines.events import Finished, Picture, PictureDone
from pipelines.film import resuming
from pipelines.film.films import Films
from pipelines.film.looking import OUT_OF_MEMORY, Look
from pipelines.film.trajectory import TrajectoryStore, run_id
from pipelines.library.addons import misfit
from pipelines.load.compiling import Compiler
from pipelines.load.loaded import LoadedModel, LoadedModels, ResidentStatus, control_files, control_key
from pipelines.lora import embeddings
from pipelines.lora.adapters import ActiveAdapters, Adapters, hashes
from pipelines.metadata import UnreadablePicture
from pipelines.pictures import PictureStore
from pipelines.prompt_memory import PromptMemory
from pipelines.refining import Refined
from pipelines.request import InvalidRequest
from pipelines.resizing import resized
from pipelines.run import Control, Emit, GenerationCancelled, GenerationPaused, PictureRun, Shown
from pipelines.safety import Safety
from pipelines.turn import CannotLook, Turn

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipelines.budget.forecast import Forecast, Stopwatch
    from pipelines.devices import DevicePlan
    from pipelines.library.models import ModelLibrary
    from pipelines.lora.embeddings import Vocabulary
    from pipelines.outputs import Outputs
    from pipelines.pictures import Original
    from pipelines.prompts import Encoded
    from pipelines.request import ControlUnit, GenerationRequest, Quantisation


@dataclass(frozen=True)
class _Ready:
    """A request with all that was read and loaded for it; `specs` and `networks`: one for each control unit.
    job: what its films are called by, "" for none."""

    job: str
    request: GenerationRequest
    shown: Shown
    model: LoadedModel
    refiner: LoadedModel | None
    specs: Sequence[ControlSpec]
    networks: Sequence[Any]


Paint = Callable[[_Ready, "ActiveAdapters", "Stopwatch", list[str]], Finished]
"""Paints a request on all that was loaded for it; the list takes sentences about falling back."""


class PipelineManager:
    """Everything between a request and its pictures. One thread runs; any thread may count tokens."""

    def __init__(
        self,
        library: ModelLibrary,
        plan: DevicePlan,
        outputs: Outputs,
        store: PictureStore,
        checker: Safety | None = None,
    ):
        self.library, self.plan, self.outputs, self.store = library, plan, outputs, store
        self.controls = ControlLibrary(library.folders, library.assets, library)
        self.detectors = Detectors(library.folders, plan)
        self.models = LoadedModels(library, plan, store.root.parent)
        self.placing = Placing(plan, self.models, store.root.parent)
        self.adapters = Adapters(library)
        self.films = Films(
            TrajectoryStore(store.root.parent / "trajectories"),
            library,
            self.look,
            lambda key: self._stored(key, "branch").rgb(),
            lambda asked: self.load(
                asked.model,
                vae=asked.vae,
                text_encoder=asked.text_encoder,
                quantisation=asked.quantisation,
            ),
        )
        self.safety = checker or Safety()
        self.compiler = Compiler(self.models.tell)
        self.turn = Turn()
        self.prompt_memory = PromptMemory()
        self._tokenizers: dict[Path, Any] = {}
        self._tokenizer_lock = threading.Lock()

    def load(
        self,
        key: str,
        emit: Emit = lambda event: None,
        vae: str = "",
        text_encoder: str = "",
        quantisation: Quantisation = "none",
    ) -> LoadedModel:
        """The model with that key, from memory if it is there; see LoadedModels.load."""
        return self.models.load(self.library.find(key), emit, vae, text_encoder, quantisation)

    def preload(self, key: str) -> None:
        """Begins to load a model in the background, beside a run. Raises `InvalidRequest` for an unknown key;
        what else goes wrong is told in `status`."""
        self.models.preload(self.library.find(key))

    def unload_all(self) -> None:
        """Lets go of every model that no run uses."""
        self.models.unload_all()

    def status(self) -> ResidentStatus:
        """What is in memory."""
        return self.models.status()

    def forecast(self, request: GenerationRequest) -> Forecast:
        """What a request will need, in memory and time; safe beside a running job. Raises `InvalidRequest`
        for a model or a control unit that is not there."""
        spec = self.library.find(request.model)
        return self.placing.forecast(
            families.settled(request, spec),
            spec,
            [control_files(self.controls.find(unit.model)) for unit in request.controls],
        )

    def load_control(self, spec: ControlSpec, model: LoadedModel, emit: Emit = lambda event: None) -> Any:
        """The ControlNet or adapter of `spec`, from memory if it is there."""
        return self.models.load_control(spec, model, emit)

    def pipeline_for(
        self, request: GenerationRequest, model: LoadedModel, seed: int, networks: Sequence[Any] = ()
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

    def run(self, request: GenerationRequest, emit: Emit, steering: Control, job: str = "") -> Finished:
        """Runs a resolved request, telling `emit` every step and picture; returns the last event.

        Raises `InvalidRequest` where the request does not fit its model or its pictures,
        `GenerationCancelled` when it was stopped, and whatever torch and diffusers raise.
        """
        pictures: list[Picture] = []

        def paint(ready: _Ready, active: ActiveAdapters, watch: Stopwatch, notes: list[str]) -> Finished:
            return self._paint(ready, active, emit, steering, pictures, watch, notes)

        with self.turn.job():
            return self._placed(request, emit, job, paint)

    def look(self, request: GenerationRequest, index: int, see: Callable[[Look], None]) -> None:
        """Lets `see` have the pipeline of picture `index` of a request, with all that was loaded for it, in a
        gap between jobs; safe from any thread.

        Raises `CannotLook` with a sentence where there is no such gap, or no memory, and `InvalidRequest`.
        """

        def paint(ready: _Ready, active: ActiveAdapters, watch: Stopwatch, notes: list[str]) -> Finished:
            request, model = ready.request, ready.model
            encoded, vocabulary = self._encoded(model.pipeline, active, request)
            with self._painter(ready, active, lambda event: None) as painter:
                run = painter(index, time.perf_counter(), Control())
                maps = control.control_kwargs(run.pipe, request.controls, ready.shown.maps, ready.specs)
                with decoding.guarded(run.pipe, self.plan, notes.append):
                    see(Look(run, encoded.kwargs, maps, active.prompt, vocabulary))
            return Finished((), 0.0, stopped=True)

        with self.turn.look():
            try:
                self._placed(request, lambda event: None, "", paint)
            except Exception as problem:
                if is_out_of_memory(problem):
                    raise CannotLook(OUT_OF_MEMORY) from problem
                raise

    def _placed(self, request: GenerationRequest, emit: Emit, job: str, paint: Paint) -> Finished:
        """What `paint` comes to, called with everything that the request needs in its place."""
        spec = self.library.find(request.model)
        checks.check(request, spec, self.controls)
        self.placing.check(request)
        request = families.settled(request, spec)
        shown = self.shown(request)
        with ExitStack() as held:
            model = self.placing.loading(
                lambda: self.load(
                    request.model, emit, request.vae, request.text_encoder, request.quantisation
                )
            )
            held.enter_context(self.models.pinned(model.keys.values()))
            specs = [self.controls.find(unit.model) for unit in request.controls]
            networks = [self.load_control(one, model, emit) for one in specs]
            keys = [*model.keys.values(), *(control_key(one, model) for one in specs)]
            refiner = None
            if request.refiner:
                refiner = self.load(request.refiner, emit, request.vae, "", request.quantisation)
                held.enter_context(self.models.pinned(refiner.keys.values()))
                keys += refiner.keys.values()
            ready = _Ready(job, request, shown, model, refiner, specs, networks)

            def by(way: Offload, placed: ExitStack, watch: Stopwatch, notes: list[str]) -> Finished:
                # LoRAs before the hooks of offload, which move what there is when they are put on.
                active = placed.enter_context(
                    self.adapters.active(model, request, emit, compiled=request.compiled)
                )
                if request.compiled:
                    placed.enter_context(self.compiler.used(model.pipeline, way.mode, notes.append))
                second = None if refiner is None else refiner.pipeline
                placed.enter_context(offload.apply(model.pipeline, way, self.plan, networks, second))
                return paint(ready, active, watch, notes)

            return self.placing.run(request, model, keys, networks, by, refiner)

    @contextmanager
    def _painter(
        self, ready: _Ready, active: ActiveAdapters, emit: Emit
    ) -> Iterator[Callable[[int, float, Control], PictureRun]]:
        """Gives what makes the run of a picture: (its index, the job's begin, steering) -> run."""
        request, model, networks = ready.request, ready.model, ready.networks
        with (
            control_modes(request.controls, networks, request.guidance_peak > 1),
            self._refined(request, ready.refiner, emit) as refined,
        ):

            def made(index: int, began: float, steering: Control) -> PictureRun:
                pipe = self.pipeline_for(request, model, request.seed_of(index), networks)
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

    def _paint(
        self,
        ready: _Ready,
        active: ActiveAdapters,
        emit: Emit,
        steering: Control,
        pictures: list[Picture],
        watch: Stopwatch,
        told: list[str],
    ) -> Finished:
        """The pictures of a request on what was loaded for it.

        pictures: takes them, and holds those that were finished before memory ran out. watch: times the
        parts. told: takes sentences about falling back.
        """
        began = time.perf_counter()
        request, shown, model = ready.request, ready.shown, ready.model
        emit = both(watch, emit)
        if steering.cancelled:
            raise GenerationCancelled
        encoded, vocabulary = self._encoded(model.pipeline, active, request)
        watch.encoded()
        told_of = {**active.extras, **embeddings.hashes(vocabulary.used), **hashes(request, self.library)}
        told_of |= picture_fields.origins(request, self.store.origin)
        if request.branch and (parent := self.films.painted(request.branch.trajectory)):
            told_of["Branch picture"] = parent
        notes = [*active.notes, *encoded.notes]
        with self._painter(ready, active, emit) as painter:
            for index in range(len(pictures), request.pictures):
                if ready.job and (before := self._found(ready, index)) is not None:
                    pictures.append(before)
                    emit(PictureDone(before, index))
                    continue
                if steering.paused and not steering.kept:
                    raise GenerationPaused(0, 0, index)
                run = painter(index, began, steering)
                run.replay = self.films.replay(request, model, run_id(ready.job, index) if ready.job else "")
                about = request.model_dump(exclude_defaults=True)
                with (
                    self.films.filming(ready.job, run, model, steering) as film,
                    decoding.guarded(run.pipe, self.plan, told.append, self.placing.latents, about),
                ):
                    painted: Any = run.paint(
                        encoded.kwargs,
                        control.control_kwargs(run.pipe, request.controls, shown.maps, ready.specs),
                    )
                if shown.canvas is not None:
                    painted = shown.canvas.with_painted(painted)
                    untouched = _untouched(shown.canvas, painted)
                    notes += [untouched] if untouched not in notes else []
                painted, said = self.safety.passed(painted)
                notes += [one for one in said if one not in notes]
                stopped = {"Stopped at step": run.steps} if steering.kept else {}
                picture = self.outputs.keep(
                    painted,
                    request,
                    index=index,
                    model=model.spec,
                    model_hash=model.short_hash,
                    extras={**told_of, **stopped},
                    **({} if film is None else self.films.keeping(film)),
                )
                pictures.append(picture)
                emit(PictureDone(picture, index))
                if steering.kept:
                    break
        return Finished(tuple(pictures), time.perf_counter() - began, steering.kept, tuple(notes))

    def _found(self, ready: _Ready, index: int) -> Picture | None:
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

    def shown(self, request: GenerationRequest) -> Shown:
        """The pictures of a request, read and brought to its size. Raises `InvalidRequest` with a sentence
        for a picture that is gone or does not fit."""
        width, height = request.width, request.height
        if request.image is None:
            return Shown(maps=tuple(self.control_map(unit, width, height) for unit in request.controls))
        original = self._stored(request.image, "image")
        if request.task == "image2image":
            return Shown(
                image=resized(original.rgb(), width, height, request.resize_mode),
                maps=tuple(self.control_map(unit, width, height) for unit in request.controls),
            )
        mask = self._stored(request.mask_image, "mask_image") if request.mask_image else None
        canvas = repaint.canvas_for(request, original, mask)
        return Shown(
            image=canvas.shown(width, height, fill=request.masked_content == "fill"),
            mask=canvas.mask(width, height),
            maps=tuple(self._map_on(canvas, unit, width, height) for unit in request.controls),
            canvas=canvas,
        )

    def _stored(self, key: str, field: str) -> Original:
        """The stored picture with that key; what is wrong with it is told of the request's `field`."""
        try:
            return self.store.load(key)
        except UnreadablePicture as problem:
            raise InvalidRequest({field: str(problem)}) from None

    def control_map(self, unit: ControlUnit, width: int, height: int) -> Image:
        """What a control unit follows, RGB of width x height. Raises `InvalidRequest` with a sentence."""
        try:
            return control.control_map(unit, self.store, width, height, self.detectors)
        except UnreadablePicture as problem:
            raise InvalidRequest({"controls": str(problem)}) from None

    def control_map_png(self, unit: ControlUnit, width: int, height: int) -> bytes:
        """`control_map` as a PNG file; safe beside a running job."""
        buffer = io.BytesIO()
        self.control_map(unit, width, height).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def detect_pose(self, key: str) -> tuple[Any, ...]:
        """The people in a stored picture as poses. Raises `InvalidRequest` with a sentence."""
        try:
            return self.detectors.detect_pose(self.store.load(key).rgb())
        except UnreadablePicture as problem:
            raise InvalidRequest({"controls": str(problem)}) from None

    def _map_on(self, canvas: repaint.Canvas, unit: ControlUnit, width: int, height: int) -> Image:
        """A unit's map of what the model is shown: it lies over the whole picture, and is cut like it."""
        import numpy as np
        from PIL import Image

        whole = (0, 0, *canvas.size)
        if canvas.box == whole:
            return self.control_map(unit, width, height)
        # Drawn at the scale at which the part is worked on, but never larger than 4096 pixels.
        scale = min(width / (canvas.box[2] - canvas.box[0]), 4096 / max(canvas.size))
        across, down = (max(8, round(side * scale)) for side in canvas.size)
        drawn = np.asarray(self.control_map(unit, across, down))
        left, top, right, bottom = (round(edge * scale) for edge in canvas.box)
        part = Image.fromarray(repaint.cut(drawn, (left, top, right, bottom), outside=0))
        return part if part.size == (width, height) else part.resize((width, height))

    def count_tokens(self, key: str, prompt: str) -> Any:
        """`prompts.TokenCount` of a prompt for that model; safe beside a running job."""
        spec = self.library.find(key)
        with self._tokenizer_lock:  # one of its own: fast tokenizers must not be shared between threads
            if spec.path not in self._tokenizers:
                self._tokenizers[spec.path] = self.models.tokenizer(spec)
            named = [one for one in self.library.addons("embedding") if misfit(one, spec) is None]
            return prompts.count_tokens(prompt, self._tokenizers[spec.path], embeddings.Vocabulary(named))


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


def _untouched(canvas: repaint.Canvas, result: Any) -> str:
    count = canvas.untouched(result)
    if not count:
        return "Every pixel was open to change."
    return f"{count:,} pixels outside the mask are the original's, bit for bit."
