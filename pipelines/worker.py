"""Jobs in, events out: the one interface between whoever wants pictures and the engine that makes them.

A job is in the journal before it is accepted and stays there to its end, so a worker that is begun anew over
the same data folder goes on with what was left. In memory a worker keeps every job's events, so that a page
that comes back finds its job and all that happened.
"""

from __future__ import annotations

import collections
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipelines import checks, following, jobs
from pipelines.batch import BatchBook
from pipelines.controlnet.control import ControlLibrary
from pipelines.engine import Engine
from pipelines.events import Cancelled, EngineState, Event, Failed, Finished, Paused
from pipelines.film import branching
from pipelines.film.trajectory import TrajectoryStore
from pipelines.job_book import JobBook, UnknownJob
from pipelines.job_runner import JobRunner
from pipelines.jobs import Files, Job
from pipelines.journal import JOURNAL, Journal
from pipelines.library.models import ModelLibrary, ModelSpec
from pipelines.pictures import PictureStore
from pipelines.queueing import MOST
from pipelines.request import ControlUnit, GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from pipelines.budget.forecast import Forecast

_log = logging.getLogger(__name__)

BEGUN = (
    "The job that this was to take the place of has begun or was taken out meanwhile. "
    "Generate once more to ask for it as a job of its own."
)


class GenerationFailed(RuntimeError):
    """A run that a script waited for ended without its pictures; says why."""


class Worker:
    """Runs jobs one after the other on an engine; every method may be called from any thread.

    lock: of the data folder, let go of at the end. films: whether runs stay recorded after their end.
    most_waiting: how many jobs one client may have waiting.
    """

    def __init__(
        self,
        engine: Engine,
        library: ModelLibrary,
        store: PictureStore,
        *,
        lock: BaseFileLock | None = None,
        films: bool = True,
        most_waiting: int = MOST,
    ):
        self.engine, self.library, self.store, self.keeps_films = engine, library, store, films
        data = store.root.parent
        self.trajectories = TrajectoryStore(data / "trajectories")
        self.controls = ControlLibrary(library.folders, library.assets, library)
        self.journal = Journal(data / JOURNAL)
        self.batches = BatchBook(self.journal)
        self.book = JobBook(self.journal, self.trajectories, films, most_waiting)
        self.queue = self.book.queue
        self._held = lock
        left = self.book.take_up(died=not engine.apart)
        self._clear(left)
        self._runner = JobRunner(engine, self.book, self._files, left)

    def _clear(self, left: set[str]) -> None:
        """Clears away what the last program left half written; the films of jobs that it left are kept to go
        on from."""
        try:
            self.trajectories.clear()
            self.trajectories.settle(left)
            for part in self.store.root.glob(".*.part"):
                part.unlink(missing_ok=True)
        except OSError as problem:
            _log.warning("What the last program left half written could not be cleared away: %s", problem)

    # What is wanted

    def submit(self, request: GenerationRequest, client: str = "", turn: str = "") -> str:
        """Accepts a request and returns the job's id; the job is then in the journal. client: who asks. turn:
        of a batch, that the job takes (see `BatchBook`).

        Raises `InvalidRequest` for what no model can do, where too many jobs wait already, or where the
        journal cannot be written.
        """
        checks.check(request, self.library.find(request.model), self.controls)
        branching.check(request, self.trajectories)
        job = Job(secrets.token_hex(8), request.resolved(), files=self._files(request), client=client)
        self.book.enter(job, turn)
        return job.id

    def recorded(self, request: GenerationRequest) -> str | None:
        """The finished job that has made the very pictures of `request`, None where there is none.

        Same settings and seeds, same weights, and all pictures still where they were kept.
        """
        if request != request.resolved():
            return None  # a random choice is still to be made
        alike = self.journal.alike(jobs.written(request))
        files = [list(file) for file in self._files(request)] if alike else []
        for entry in alike:
            pictures = self.journal.pictures(entry.id).values()
            if entry.files == files and pictures and all(Path(one.path).is_file() for one in pictures):
                return entry.id
        return None

    def stop(self, job_id: str, keep: bool = False) -> None:
        """Stops a job within one step; with `keep` its picture is finished as far as it has come.

        A job that still waits never starts. One that has ended is left alone.
        """
        job = self.job(job_id)
        with self.book.lock:
            if job.done:
                return
            job.stop = (job.stop or "keep") if keep else "cancel"
            begun = bool(job.reached) or bool(self.book.entry(job).step)
            works = job is self.book.now and job.state != "paused"
            if not works and not (job.stop == "keep" and begun):
                return self.book.end(job, Cancelled(tuple(job.pictures.values())))
            self.journal.change(job.id, stop=job.stop)
            if job.state == "paused":
                self.book.release(job)
        self.engine.stop(job_id, keep)

    def pause(self, job_id: str) -> None:
        """Lets a job rest: one that waits at once, one that runs within a step. `resume` goes on with it."""
        job = self.job(job_id)
        with self.book.lock:
            if job.done or job.state == "paused":
                return
            if job is not self.book.now:
                return self.book.rest(job, Paused(*self.book.come(job)))
            job.pausing = True
        self.engine.pause(job_id)

    def resume(self, job_id: str) -> None:
        """Goes on with a paused job, from where it was, when its turn comes."""
        self.book.release(self.job(job_id))

    def replace(self, job_id: str, request: GenerationRequest) -> str:
        """Puts another request in the place of a job that has not begun; raises as `submit`."""
        checks.check(request, self.library.find(request.model), self.controls)
        branching.check(request, self.trajectories)
        try:
            job, files = self.job(job_id), self._files(request)
        except UnknownJob:
            raise InvalidRequest({"editing": BEGUN}) from None
        with self.book.lock:
            if job.state not in ("waiting", "paused") or any(self.book.come(job)):
                raise InvalidRequest({"editing": BEGUN})
            self.book.change(job, request.resolved(), files)
        self.book.release(job)
        self.book.tell_queue()
        return job_id

    def stream(self, request: GenerationRequest) -> Iterator[Event]:
        """Submits and follows."""
        return self.follow(self.submit(request))

    def generate(self, prompt: str, **settings: Any) -> Finished:
        """Runs a request and waits for its pictures, for scripts. settings: fields of `GenerationRequest`.

        Raises `InvalidRequest` for bad settings and `GenerationFailed` when no picture came of it.
        """
        request = GenerationRequest.parse({"prompt": prompt, **settings})
        job_id = self.recorded(request) or self.submit(request)
        ending = collections.deque(self.follow(job_id), maxlen=1).pop()
        if not isinstance(ending, Finished):
            raise GenerationFailed(ending.message if isinstance(ending, Failed) else "The run was stopped.")
        return ending

    # What happens

    def job(self, job_id: str) -> Job:
        """The job with that id, from the journal where it ended long ago; raises `UnknownJob`."""
        return self.book.job(job_id)

    def running(self) -> list[str]:
        """Ids of the jobs that have not ended, first the one that runs, then those that wait or rest, in
        their order."""
        return self.book.order()

    @property
    def closed(self) -> bool:
        """Whether it ends or has ended: what it did not get to is left to the next worker."""
        return self._runner.closing

    @property
    def running_job(self) -> Job | None:
        """The job that runs now."""
        return self.book.running

    @property
    def queue_length(self) -> int:
        """How many jobs run or wait."""
        with self.book.lock:
            return len(self.queue) + (self.running_job is not None)

    def watching_queue(self, notify: Callable[[], None]) -> AbstractContextManager[None]:
        """A context manager inside which `notify` is called, from any thread, whenever a job changes its
        state, the queue its order, or the job that runs is a step further."""
        return self.book.queue_watchers.watching(notify)

    def follow(self, job_id: str) -> Iterator[Event]:
        """Every event of a job from its first, then each as it happens, until the terminal one."""
        return following.follow(self.job(job_id), self.book.lock)

    def afollow(self, job_id: str) -> AsyncIterator[list[Event]]:
        """As `follow`, for asyncio: each time whatever has gathered since the last."""
        return following.afollow(self.job(job_id), self.book.lock)

    @property
    def state(self) -> EngineState:
        """How the engine is now, and what there is to say of the journal."""
        return replace(self._runner.state, note=self.journal.trouble or self.journal.note)

    def watch(self) -> AsyncIterator[EngineState]:
        """The engine's present state, then each change of it."""
        return following.watch(self.book.state_watchers, lambda: self.state)

    # What there is

    def models(self) -> list[ModelSpec]:
        """Every model that can be asked for, the embedded one first."""
        return self.library.list()

    def count_tokens(self, model: str, prompt: str) -> Any:
        """`prompts.TokenCount` of the prompt for that model, None while the engine is not up."""
        return self.engine.call("count_tokens", model, prompt)

    def control_map(self, unit: ControlUnit, width: int, height: int) -> bytes | None:
        """The map that a control unit makes at that size, a PNG file; None while the engine is not up.

        Raises `InvalidRequest` with a sentence where it cannot be made.
        """
        return self.engine.call("control_map", unit, width, height)  # type: ignore[no-any-return]

    def forecast(self, request: GenerationRequest) -> Forecast | None:
        """What memory and time a run needs; None while the engine is not up. Raises `InvalidRequest`."""
        return self.engine.call("forecast", request)  # type: ignore[no-any-return]

    def resident(self) -> Any:
        """What of which models is held in memory, and where; None while the engine is not up."""
        return self.engine.call("resident")

    def preload(self, model: str) -> None:
        """Begins to load a model in the background, also while another runs; nothing while the engine is not
        up. What cannot be loaded is told by the run that wants it."""
        self.engine.call("preload", model)

    def detect_pose(self, key: str) -> tuple[Any, ...] | None:
        """The people in the stored picture with that key; None while the engine is not up. Raises as
        `control_map`."""
        return self.engine.call("detect_pose", key)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Ends the worker and its engine. Jobs that have not ended stay in the journal, and a worker over the
        same data folder goes on with them; who follows one here is told that it was stopped."""
        self._runner.close()
        self.book.close()
        if self._held is not None:
            self._held.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _files(self, request: GenerationRequest) -> Files:
        """The weight files that a run of `request` reads."""
        paths = list(self.library.find(request.model).weights)
        named = [("lora", lora.name) for lora in request.loras]
        named += [("vae", request.vae), ("text encoder", request.text_encoder)]
        paths += [self.library.addon(sort, name).path for sort, name in named if name]
        paths += self.library.find(request.refiner).weights if request.refiner else []
        for unit in request.controls:
            path = self.controls.find(unit.model).path
            paths += sorted(path.glob("*.safetensors")) if path and path.is_dir() else [path] if path else []
        seen = [(path, path.stat()) for path in paths]
        return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in seen)
