"""A request's way: everything it needs is read, loaded and put in its place, and painting begins.

One base pipeline a model is kept in memory; a run gets a disposable view that shares all components with it
and costs milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import checks, families, prompts
from pipelines.budget import offload
from pipelines.budget.memory import is_out_of_memory
from pipelines.budget.offload import Offload
from pipelines.budget.placing import Placing
from pipelines.controlnet.control import ControlLibrary, ControlSpec
from pipelines.controlnet.detectors import Detectors
from pipelines.events import Finished, Picture
from pipelines.film.films import Films
from pipelines.film.looking import OUT_OF_MEMORY, Look
from pipelines.film.trajectory import TrajectoryStore
from pipelines.library.addons import misfit
from pipelines.load.compiling import Compiler
from pipelines.load.loaded import LoadedModel, LoadedModels, ResidentStatus, control_files, control_key
from pipelines.lora import embeddings
from pipelines.lora.adapters import Adapters
from pipelines.painting import Painter, Ready
from pipelines.pictures import PictureStore
from pipelines.run import Control, Emit
from pipelines.safety import Safety
from pipelines.showing import Showing
from pipelines.turn import CannotLook, Turn

if TYPE_CHECKING:
    from pipelines.budget.forecast import Forecast, Stopwatch
    from pipelines.devices import DevicePlan
    from pipelines.library.models import ModelLibrary
    from pipelines.outputs import Outputs
    from pipelines.request import GenerationRequest, Quantisation


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
        self.showing = Showing(store, Detectors(library.folders, plan))
        self.models = LoadedModels(library, plan, store.root.parent)
        self.placing = Placing(plan, self.models, store.root.parent)
        self.adapters = Adapters(library)
        self.films = Films(
            TrajectoryStore(store.root.parent / "trajectories"),
            library,
            self.look,
            lambda key: self.showing.stored(key, "branch").rgb(),
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
        self.painter = Painter(
            library=library,
            placing=self.placing,
            adapters=self.adapters,
            films=self.films,
            safety=self.safety,
            outputs=outputs,
            store=store,
        )
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

    def run(self, request: GenerationRequest, emit: Emit, steering: Control, job: str = "") -> Finished:
        """Runs a resolved request, telling `emit` every step and picture; returns the last event.

        Raises `InvalidRequest` where the request does not fit its model or its pictures,
        `GenerationCancelled` when it was stopped, and whatever torch and diffusers raise.
        """
        pictures: list[Picture] = []
        with self.turn.job():
            return self._placed(
                request, emit, job, lambda ready: self.painter.paint(ready, emit, steering, pictures)
            )

    def look(self, request: GenerationRequest, index: int, see: Callable[[Look], None]) -> None:
        """Lets `see` have the pipeline of picture `index` of a request, with all that was loaded for it, in a
        gap between jobs; safe from any thread.

        Raises `CannotLook` with a sentence where there is no such gap, or no memory, and `InvalidRequest`.
        """

        def seen(ready: Ready) -> Finished:
            self.painter.look(ready, index, see)
            return Finished((), 0.0, stopped=True)

        with self.turn.look():
            try:
                self._placed(request, lambda event: None, "", seen)
            except Exception as problem:
                if is_out_of_memory(problem):
                    raise CannotLook(OUT_OF_MEMORY) from problem
                raise

    def _placed(
        self, request: GenerationRequest, emit: Emit, job: str, paint: Callable[[Ready], Finished]
    ) -> Finished:
        """What `paint` comes to, called with everything that the request needs in its place; once more where
        memory ran out, with less of it taken."""
        spec = self.library.find(request.model)
        checks.check(request, spec, self.controls)
        self.placing.check(request)
        request = families.settled(request, spec)
        shown = self.showing.shown(request)
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

            def by(way: Offload, placed: ExitStack, watch: Stopwatch, notes: list[str]) -> Finished:
                # LoRAs before the hooks of offload, which move what there is when they are put on.
                active = placed.enter_context(
                    self.adapters.active(model, request, emit, compiled=request.compiled)
                )
                if request.compiled:
                    placed.enter_context(self.compiler.used(model.pipeline, way.mode, notes.append))
                second = None if refiner is None else refiner.pipeline
                placed.enter_context(offload.apply(model.pipeline, way, self.plan, networks, second))
                return paint(
                    Ready(job, request, shown, model, refiner, specs, networks, active, watch, notes)
                )

            return self.placing.run(request, model, keys, networks, by, refiner)

    def count_tokens(self, key: str, prompt: str) -> Any:
        """`prompts.TokenCount` of a prompt for that model; safe beside a running job."""
        spec = self.library.find(key)
        with self._tokenizer_lock:  # one of its own: fast tokenizers must not be shared between threads
            if spec.path not in self._tokenizers:
                self._tokenizers[spec.path] = self.models.tokenizer(spec)
            named = [one for one in self.library.addons("embedding") if misfit(one, spec) is None]
            return prompts.count_tokens(prompt, self._tokenizers[spec.path], embeddings.Vocabulary(named))
