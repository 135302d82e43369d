"""The engine: imports torch, owns the models and turns every request into exactly one ending.

The same class serves a script on a thread of its own and the page in a process of its own.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

from pipelines import arithmetic, safety
from pipelines.budget.decoding import LatentsKept
from pipelines.budget.memory import is_out_of_memory
from pipelines.events import Cancelled, EngineState, Event, Failed, Paused, Picture, PictureDone
from pipelines.film.trajectory import UnknownTrajectory, run_id
from pipelines.library.models import STARTER, ModelLibrary
from pipelines.library.places import hub_cache_folder
from pipelines.library.records import FileRecords
from pipelines.request import GenerationRequest, InvalidRequest

Emit = Callable[[Event], None]
Tell = Callable[[EngineState], None]

ANSWERS = {
    "count_tokens": "count_tokens",
    "control_map": "showing.control_map_png",
    "detect_pose": "showing.detect_pose",
    "forecast": "forecast",
    "resident": "status",
    "preload": "preload",
    "compare": "films.compare",
    "film": "films.film",
    "decode": "films.decode",
    "attention": "films.attention",
    "schedules": "films.schedules",
    "noised": "films.noised",
    "perceptual": "films.perceptual",
}
"""What an engine can be asked -> the method of the manager, or of a part of it, that answers."""

LOOKS = frozenset({"compare", "film", "decode", "attention"})
"""Those of them that look into recorded runs; they take long or wait for a job, so each has a thread."""

FILM_BYTES = 20 << 30
"""What recorded runs may take on disk, unless somebody said otherwise."""

LOOKS_A_BUDGET = 20
"""How often films are added up while as much is filmed as they may take."""

_log = logging.getLogger(__name__)

STARTING = EngineState(False, "The engine is starting.")


class EngineDied(Exception):
    """The engine's process ended while it worked; `ending` says how, in words."""

    def __init__(self, ending: str):
        self.ending = ending
        super().__init__(f"The engine ended ({ending}).")


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is started with. models: folders to search. device, dtype: see devices.choose.
    film_bytes: what recorded runs may take on disk; the oldest that nobody pinned go first.
    safety_checker: the folder of what looks at every finished picture, see pipelines.safety.
    """

    data: Path
    models: tuple[Path, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    film_bytes: int = FILM_BYTES
    safety_checker: Path | None = None

    def library(self) -> ModelLibrary:
        """The models there are: those of the program, of the folders, and of the hub's cache on this machine.

        Page and engine each have one; what they read off the files they remember in the data folder.
        """
        return ModelLibrary(
            self.models, hub_cache=hub_cache_folder(), records=FileRecords(self.data / "library.db")
        )


class Engine(Protocol):
    """What a worker needs of an engine. `run` blocks; the others may be called from any thread meanwhile.

    apart: whether it may die while its worker lives on.
    """

    apart: bool

    def start(self, tell: Tell) -> None:
        """Brings the engine up, telling `tell` each change of state."""

    def run(self, job_id: str, request: GenerationRequest, emit: Emit) -> None:
        """Runs a resolved request, from where its own film ends if there is one; the last event told is
        `Paused` or the only terminal one. Raises `EngineDied` where the engine died over it and is started
        anew."""

    def stop(self, job_id: str, keep: bool) -> None:
        """Ends a running job within one step. A job that is not running is left alone."""

    def pause(self, job_id: str) -> None:
        """Lets a running job rest within one step."""

    def call(self, name: str, *arguments: Any) -> Any:
        """Answers a question of `ANSWERS`, also during a run. None while the engine is not up."""

    def close(self) -> None:
        """Lets go of everything; a job that runs is left within one step."""


class LocalEngine:
    """The engine in this process."""

    apart = False

    def __init__(self, settings: EngineSettings):
        self.settings = settings
        self._manager: Any = None
        self._fault = ""
        self._running: dict[str, Any] = {}
        self._filmed = 0
        self._lock = threading.Lock()

    def start(self, tell: Tell) -> None:
        tell(STARTING)
        try:
            self._manager = self._bring_up(tell)
        except Exception as error:  # told as the engine's state, and to every job
            traceback.print_exc()
            self._fault = f"The engine cannot work: {error}"
            tell(EngineState(False, self._fault, fault=True))

    def _bring_up(self, tell: Tell) -> Any:
        arithmetic.settle(os.environ)
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging

        from pipelines import devices
        from pipelines.manager import PipelineManager
        from pipelines.outputs import Outputs
        from pipelines.pictures import PictureStore

        for library_logging in (diffusers_logging, transformers_logging):
            library_logging.disable_progress_bar()  # the page shows progress, the console what went wrong
        plan = devices.choose(self.settings.device, self.settings.dtype)
        library = self.settings.library()
        store = PictureStore(self.settings.data / "inputs")
        store.sweep()
        outputs = Outputs(self.settings.data / "outputs")
        outputs.clear()
        checker = safety.Safety(self.settings.safety_checker)
        badge, sentence = plan.badge, plan.sentence
        if checker.on:
            badge, sentence = f"{badge} · {safety.BADGE}", f"{sentence} {safety.SENTENCE}"
        manager = PipelineManager(library, plan, outputs, store, checker)
        manager.films.store.clear()
        manager.films.store.keep_within(self.settings.film_bytes)
        if any(spec.key == STARTER for spec in library.list()):
            tell(EngineState(False, "The engine is loading the first model.", badge, sentence))
            manager.load(STARTER)
        manager.placing.measure()
        tell(EngineState(True, "The engine is ready.", badge, sentence))
        return manager

    def run(self, job_id: str, request: GenerationRequest, emit: Emit) -> None:
        if self._manager is None:
            return emit(Failed(self._fault or STARTING.message))
        from pipelines.run import Control, GenerationCancelled, GenerationPaused

        control = Control()
        with self._lock:
            self._running[job_id] = control
        pictures: list[Picture] = []

        def note(event: Event) -> None:
            if isinstance(event, PictureDone):
                pictures.append(event.picture)
            emit(event)

        try:
            ending: Event = self._manager.run(request, note, control, job_id)
        except GenerationCancelled:
            ending = Cancelled(tuple(pictures))
        except GenerationPaused as rest:
            ending = Paused(rest.step, rest.total, rest.picture)
        except InvalidRequest as error:
            ending = Failed(str(error), error.problems)
        except (
            Exception
        ) as error:  # whatever a library raises, the job ends in a sentence and the engine lives
            ending = failure(error, request)
        finally:
            with self._lock:
                del self._running[job_id]
        emit(ending)
        self._within_budget([run_id(job_id, index) for index in range(request.pictures)])

    def _within_budget(self, runs: Sequence[str]) -> None:
        """Looks at what films take once a part of the budget has been filmed since the last look: to add them
        all up takes as long as a short run."""
        store, most = self._manager.films.store, self.settings.film_bytes
        try:
            self._filmed += sum(store.bytes(run) for run in runs if store.exists(run))
            if self._filmed * LOOKS_A_BUDGET >= most:
                self._filmed = 0
                store.keep_within(most)
        except OSError as problem:
            _log.warning("Recorded runs could not be kept within their budget: %s", problem)

    def stop(self, job_id: str, keep: bool) -> None:
        with self._lock:
            control = self._running.get(job_id)
        if control is not None:
            control.stop(keep=keep)

    def pause(self, job_id: str) -> None:
        with self._lock:
            control = self._running.get(job_id)
        if control is not None:
            control.pause()

    def call(self, name: str, *arguments: Any) -> Any:
        if self._manager is None:
            return None
        if self._manager.safety.on and name in LOOKS:
            raise UnknownTrajectory(safety.CLOSED)
        return attrgetter(ANSWERS[name])(self._manager)(*arguments)

    def close(self) -> None:
        with self._lock:
            running = list(self._running)
        for job_id in running:
            self.pause(job_id)


_FOLDERS = re.compile(r"(?<![\w:/.])(?:[A-Za-z]:)?[\\/](?:[^\\/\s'\":]+[\\/])+")


def without_folders(text: str) -> str:
    """A library's words for whoever asked, who need not know where things are on this machine."""
    return _FOLDERS.sub("…/", text)


def failure(error: Exception, request: GenerationRequest) -> Failed:
    """The ending for an error: a sentence for the person, the traceback for a developer."""
    detail = "".join(traceback.format_exception(error))
    if is_out_of_memory(error):
        return Failed(
            f"There was not enough memory for a picture of {request.width} x {request.height}. "
            "Choose a smaller size, or close other programs that use memory.",
            detail=detail,
        )
    if isinstance(error, LatentsKept):
        return Failed(str(error), detail=detail)
    if isinstance(error, UnknownTrajectory):  # a run that is branched off was deleted or cut meanwhile
        return Failed(f"{error} Branch off an earlier step, or off another run.", detail=detail)
    if isinstance(error, OSError) and error.filename:
        return Failed(f"{error.filename} could not be read or written: {error.strerror}.", detail=detail)
    return Failed(
        f"The run stopped because of an error in the program ({type(error).__name__}: "
        f"{without_folders(str(error))}). "
        "Your settings are kept; other settings may work, and the log of the program says more.",
        detail=detail,
    )
