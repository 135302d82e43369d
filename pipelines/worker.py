"""Jobs in, events out: the one interface between whoever wants pictures and the engine that makes them.

A worker keeps every job's events, so that a page that comes back finds its job and all that happened.
"""

from __future__ import annotations

import asyncio
import collections
import queue
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pipelines import checks
from pipelines.batch import BatchBook
from pipelines.controlnet.control import ControlLibrary
from pipelines.engine import STARTING, Engine
from pipelines.events import Cancelled, EngineState, Event, Failed, Finished, Loading, Queued
from pipelines.film import branching
from pipelines.film.trajectory import TrajectoryStore
from pipelines.library.models import ModelLibrary, ModelSpec
from pipelines.pictures import PictureStore
from pipelines.request import ControlUnit, GenerationRequest

if TYPE_CHECKING:
    from pipelines.budget.forecast import Forecast

FINISHED_JOBS_KEPT = 200
"""How many ended jobs stay to be looked at; their pictures are on disk in any case."""


class UnknownJob(KeyError):
    """There is no job with that id: it never was, or it ended long ago."""


class GenerationFailed(RuntimeError):
    """A run that a script waited for ended without its pictures; says why."""


Files = tuple[tuple[str, int, int], ...]
"""Weight files by path, time of change and size: whether a run would still use the same."""


@dataclass
class Job:
    """One accepted request, with its random choices made, and what has happened to it so far."""

    id: str
    request: GenerationRequest
    events: list[Event] = field(default_factory=list)
    watchers: list[Callable[[], None]] = field(default_factory=list)
    files: Files = ()
    stop: Literal["keep", "cancel"] | None = None

    @property
    def done(self) -> bool:
        """Whether the terminal event has been told."""
        return bool(self.events) and isinstance(self.events[-1], Finished | Failed | Cancelled)


class Worker:
    """Runs jobs one after the other on an engine; every method may be called from any thread."""

    def __init__(self, engine: Engine, library: ModelLibrary, store: PictureStore):
        self.engine, self.library, self.store = engine, library, store
        self.batches = BatchBook(store.root.parent / "batches")
        self.trajectories = TrajectoryStore(store.root.parent / "trajectories")
        self.controls = ControlLibrary(library.folders, library.assets, library)
        self._lock = threading.RLock()
        self._jobs: collections.OrderedDict[str, Job] = collections.OrderedDict()
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._state = STARTING
        self._state_watchers: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    # What is wanted

    def submit(self, request: GenerationRequest) -> str:
        """Accepts a request and returns the job's id. Raises `InvalidRequest` for what no model can do."""
        checks.check(request, self.library.find(request.model), self.controls)
        branching.check(request, self.trajectories)
        job = Job(secrets.token_hex(8), request.resolved(), files=self._files(request))
        with self._lock:
            ahead = len(self.running())
            self._jobs[job.id] = job
            self._forget_old()
            self._emit(job, Queued(ahead))
            self._queue.put(job)
        return job.id

    def recorded(self, request: GenerationRequest) -> str | None:
        """The finished job that has made the very pictures of `request`, None where there is none.

        Same settings and seeds, same weights, and all pictures still where they were kept.
        """
        if request != request.resolved():
            return None  # a random choice is still to be made
        with self._lock:
            alike = [job for job in self._jobs.values() if job.request == request]
        for job in reversed(alike):
            ending = job.events[-1] if job.events else None
            if (
                isinstance(ending, Finished)
                and not ending.stopped
                and all(Path(picture.path).is_file() for picture in ending.pictures)
                and job.files == self._files(request)
            ):
                return job.id
        return None

    def stop(self, job_id: str, keep: bool = False) -> None:
        """Stops a job within one step; with `keep` its picture is finished as far as it has come.

        A job that still waits never starts. One that has ended is left alone.
        """
        job = self.job(job_id)
        with self._lock:
            job.stop = (job.stop or "keep") if keep else "cancel"
        self.engine.stop(job_id, keep)

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
        """The job with that id; raises `UnknownJob`."""
        with self._lock:
            if job_id not in self._jobs:
                raise UnknownJob(job_id)
            return self._jobs[job_id]

    def running(self) -> list[str]:
        """Ids of the jobs that have not ended, first the one that runs."""
        with self._lock:
            return [job.id for job in self._jobs.values() if not job.done]

    @property
    def queue_length(self) -> int:
        """How many jobs have not ended."""
        return len(self.running())

    def follow(self, job_id: str) -> Iterator[Event]:
        """Every event of a job from its first, then each as it happens, until the terminal one."""
        job = self.job(job_id)
        wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        with self._watching(job.watchers, lambda: wake.put(None)):
            seen = 0
            while True:
                for event in self._events_after(job, seen):
                    seen += 1
                    yield event
                if job.done and seen == len(job.events):
                    return
                wake.get()

    async def afollow(self, job_id: str) -> AsyncIterator[list[Event]]:
        """As `follow`, for asyncio: each time whatever has gathered since the last."""
        job = self.job(job_id)
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        with self._watching(job.watchers, lambda: _wake(loop, wake)):
            seen = 0
            while True:
                wake.clear()
                events = self._events_after(job, seen)
                seen += len(events)
                if events:
                    yield events
                if job.done and seen == len(job.events):
                    return
                await wake.wait()

    @property
    def state(self) -> EngineState:
        """How the engine is now."""
        return self._state

    async def watch(self) -> AsyncIterator[EngineState]:
        """The engine's present state, then each change of it."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        with self._watching(self._state_watchers, lambda: _wake(loop, wake)):
            told: EngineState | None = None
            while True:
                wake.clear()
                state = self._state
                if state != told:
                    told = state
                    yield state
                    continue
                await wake.wait()

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
        """Ends the worker and its engine; jobs that have not ended are cancelled."""
        with self._lock:
            for job_id in self.running():
                self._jobs[job_id].stop = "cancel"
        self._queue.put(None)
        self.engine.close()
        self._thread.join(timeout=10)
        with self._lock:
            for job_id in self.running():
                self._emit(self._jobs[job_id], Cancelled())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # How it is done

    def _work(self) -> None:
        self.engine.start(self._tell)
        while (job := self._queue.get()) is not None:
            self._run(job)

    def _run(self, job: Job) -> None:
        with self._lock:
            if job.done:
                return
            if job.stop:
                return self._emit(job, Cancelled())
        if not (self._state.ready or self._state.fault):
            self._emit(job, Loading("The engine is starting; this begins as soon as it is up."))
        for place, waiting in enumerate(self.running()[1:], start=1):
            self._emit(self.job(waiting), Queued(place))
        try:
            self.engine.run(job.id, job.request, lambda event: self._emit(job, event))
        except Exception as error:  # the worker outlives whatever an engine does
            self._emit(job, Failed(f"{self._state.message} ({type(error).__name__}: {error})"))
        if not job.done:
            self._emit(job, Failed("The engine ended this run without saying why."))

    def _emit(self, job: Job, event: Event) -> None:
        with self._lock:
            if job.done:
                return
            job.events.append(event)
            watchers = list(job.watchers)
        for notify in watchers:
            notify()
        if job.stop and not job.done:
            # A stop that came before the engine had taken the job up (or anew, after its death) is repeated.
            self.engine.stop(job.id, job.stop == "keep")

    def _tell(self, state: EngineState) -> None:
        with self._lock:
            self._state = state
            watchers = list(self._state_watchers)
        for notify in watchers:
            notify()

    def _events_after(self, job: Job, seen: int) -> list[Event]:
        with self._lock:
            return job.events[seen:]

    def _watching(self, watchers: list[Callable[[], None]], notify: Callable[[], None]) -> _Watching:
        return _Watching(self._lock, watchers, notify)

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

    def _forget_old(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.done]
        for job_id in ended[: max(0, len(ended) - FINISHED_JOBS_KEPT)]:
            del self._jobs[job_id]


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    if not loop.is_closed():  # a server that shuts down leaves its watchers behind
        loop.call_soon_threadsafe(event.set)


@dataclass
class _Watching:
    """Keeps `notify` among `watchers` inside a `with` block."""

    lock: Any
    watchers: list[Callable[[], None]]
    notify: Callable[[], None]

    def __enter__(self) -> None:
        with self.lock:
            self.watchers.append(self.notify)

    def __exit__(self, *exc: object) -> None:
        with self.lock:
            self.watchers.remove(self.notify)
