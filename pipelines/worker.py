"""Jobs in, events out: the one interface between whoever wants pictures and the engine that makes them.

A job is in the journal before it is accepted and stays there to its end, so a worker that is begun anew over
the same data folder goes on with what was left. In memory a worker keeps every job's events, so that a page
that comes back finds its job and all that happened.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import queue
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipelines import checks, jobs
from pipelines.batch import BatchBook
from pipelines.controlnet.control import ControlLibrary
from pipelines.engine import STARTING, Engine, EngineDied
from pipelines.events import (
    Cancelled,
    EngineState,
    Event,
    Failed,
    Finished,
    Loading,
    Paused,
    PictureDone,
    Queued,
    StepEvent,
)
from pipelines.film import branching
from pipelines.film.trajectory import TrajectoryStore, run_id
from pipelines.jobs import Files, Job
from pipelines.journal import JOURNAL, OPEN, Entry, Journal, JournalTrouble
from pipelines.library.models import ModelLibrary, ModelSpec
from pipelines.pictures import PictureStore
from pipelines.queueing import MOST, JobQueue
from pipelines.request import ControlUnit, GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from pipelines.budget.forecast import Forecast

_log = logging.getLogger(__name__)

FINISHED_JOBS_KEPT = 200
"""How many ended jobs stay in memory to be looked at; the journal and their pictures are on disk."""

TOLD = 20
"""How many of the waiting jobs are told their place each time that one begins."""

BEGUN = (
    "The job that this was to take the place of has begun or was taken out meanwhile. "
    "Generate once more to ask for it as a job of its own."
)

DEATHS = 2
"""How often the engine may die while it runs a job, before the job is set aside."""

NOTE_EVERY = 1.0
"""Seconds between two notes of how far a run has come; its film knows each step."""


class UnknownJob(KeyError):
    """There is no job with that id: it never was, or it ended long ago."""


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
        self.queue = JobQueue(self.journal, self.rearranged, most_waiting)
        self._held = lock
        self._lock = threading.RLock()
        self._free = threading.Condition(self._lock)
        self._closing = False
        self._now: Job | None = None  # the one that runs
        self._noted = 0.0
        self._left: set[str] = set()  # jobs of an earlier start
        self._jobs: collections.OrderedDict[str, Job] = collections.OrderedDict()
        self._state = STARTING
        self._state_watchers: list[Callable[[], None]] = []
        self._queue_watchers: list[Callable[[], None]] = []
        self._take_up()
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

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
        with self._lock:
            place = self.queue.enter(job.id, client)
            try:
                self.journal.accept(job.id, _values(job.request), client, job.files, place.rank, turn)
            except JournalTrouble as trouble:
                self.queue.leave(job.id)
                raise InvalidRequest({"journal": str(trouble)}) from None
            self._jobs[job.id] = job
            self._forget_old()
            self._emit(job, Queued(self._ahead(job)))
            self._free.notify()
        self._tell_queue()
        return job.id

    def recorded(self, request: GenerationRequest) -> str | None:
        """The finished job that has made the very pictures of `request`, None where there is none.

        Same settings and seeds, same weights, and all pictures still where they were kept.
        """
        if request != request.resolved():
            return None  # a random choice is still to be made
        alike = self.journal.alike(_values(request))
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
        with self._lock:
            if job.done:
                return
            job.stop = (job.stop or "keep") if keep else "cancel"
            begun = bool(job.reached) or bool(self.journal_entry(job).step)
            works = job is self._now and job.state != "paused"
            if not works and not (job.stop == "keep" and begun):
                return self._end(job, Cancelled(tuple(job.pictures.values())))
            self.journal.change(job.id, stop=job.stop)
            if job.state == "paused":
                self.resume(job.id)
        self.engine.stop(job_id, keep)

    def pause(self, job_id: str) -> None:
        """Lets a job rest: one that waits at once, one that runs within a step. `resume` goes on with it."""
        job = self.job(job_id)
        with self._lock:
            if job.done or job.state == "paused":
                return
            if job is not self._now:
                return self._rest(job, Paused(*self._come(job)))
            job.pausing = True
        self.engine.pause(job_id)

    def resume(self, job_id: str) -> None:
        """Goes on with a paused job, from where it was, when its turn comes."""
        job = self.job(job_id)
        with self._lock:
            job.pausing = False
            if job.state != "paused":
                return
            self.queue.release(job.id)
            self._to_state(job, "waiting")
            self._emit(job, Queued(self._ahead(job)))
            self._free.notify()
        self._tell_queue()

    def replace(self, job_id: str, request: GenerationRequest) -> str:
        """Puts another request in the place of a job that has not begun; raises as `submit`."""
        checks.check(request, self.library.find(request.model), self.controls)
        branching.check(request, self.trajectories)
        try:
            job, files = self.job(job_id), self._files(request)
        except UnknownJob:
            raise InvalidRequest({"editing": BEGUN}) from None
        with self._lock:
            if job.state not in ("waiting", "paused") or any(self._come(job)):
                raise InvalidRequest({"editing": BEGUN})
            job.request, job.files = request.resolved(), files
            self.journal.change(job.id, request=_values(job.request), files=job.files)
        self.resume(job_id)
        self._tell_queue()
        return job_id

    def rearranged(self) -> None:
        """The queue has changed its order or its mind: who runs soon is told, and a worker that is free looks
        again."""
        with self._lock:
            self._tell_places()
            self._free.notify()
        self._tell_queue()

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
        with self._lock:
            known = self._jobs.get(job_id)
        if known is not None:
            return known
        entry = self.journal.entry(job_id)
        try:
            found = None if entry is None else jobs.restored(entry, self.journal.pictures(job_id))
        except InvalidRequest:
            found = None  # of another version of the program
        if found is None:
            raise UnknownJob(job_id)
        with self._lock:
            job = self._jobs.setdefault(job_id, found)
            self._forget_old()
        return job

    def running(self) -> list[str]:
        """Ids of the jobs that have not ended, first the one that runs, then those that wait or rest, in
        their order."""
        with self._lock:
            now = [self._now.id] if self._now is not None and self._works() else []
            return [*now, *self.queue.order()]

    @property
    def closed(self) -> bool:
        """Whether it ends or has ended: what it did not get to is left to the next worker."""
        return self._closing

    @property
    def running_job(self) -> Job | None:
        """The job that runs now."""
        now = self._now
        return now if now is not None and now.state == "running" else None

    @property
    def queue_length(self) -> int:
        """How many jobs run or wait."""
        with self._lock:
            return len(self.queue) + (self.running_job is not None)

    def watching_queue(self, notify: Callable[[], None]) -> _Watching:
        """A context manager inside which `notify` is called, from any thread, whenever a job changes its
        state, the queue its order, or the job that runs is a step further."""
        return self._watching(self._queue_watchers, notify)

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
        """How the engine is now, and what there is to say of the journal."""
        return replace(self._state, note=self.journal.trouble or self.journal.note)

    async def watch(self) -> AsyncIterator[EngineState]:
        """The engine's present state, then each change of it."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        with self._watching(self._state_watchers, lambda: _wake(loop, wake)):
            told: EngineState | None = None
            while True:
                wake.clear()
                state = self.state
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
        """Ends the worker and its engine. Jobs that have not ended stay in the journal, and a worker over the
        same data folder goes on with them; who follows one here is told that it was stopped."""
        with self._lock:
            self._closing = True
            self._free.notify()
        self.engine.close()
        self._thread.join(timeout=10)
        with self._lock:
            for job in [job for job in self._jobs.values() if not job.done]:
                if job.state == "running":
                    self._to_state(job, "waiting")
                self._emit(job, Cancelled())
        self.journal.close()
        if self._held is not None:
            self._held.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # How it is done

    def _take_up(self) -> None:
        """Goes on with what the last worker left: its jobs wait again, in their order, and their films are
        kept to go on from."""
        left = self._left
        for entry in self.journal.open():
            try:
                job = jobs.restored(entry, self.journal.pictures(entry.id))
            except InvalidRequest as problem:
                self.journal.change(
                    entry.id,
                    state="failed",
                    ended=time.time(),
                    error=f"This version of the program does not take what was asked for: {problem}",
                )
                self.queue.leave(entry.id)
                continue
            self._jobs[job.id] = job
            left.add(job.id)
            if job.state == "running":
                self._to_state(job, "waiting")
                if not self.engine.apart:  # the engine died with the program
                    self._count_death(job, "the program ended while it ran")
        try:
            self.trajectories.clear()
            self.trajectories.settle(left)
            for part in self.store.root.glob(".*.part"):
                part.unlink(missing_ok=True)
        except OSError as problem:
            _log.warning("What the last program left half written could not be cleared away: %s", problem)

    def _work(self) -> None:
        self.engine.start(self._tell)
        while (job := self._next()) is not None:
            self._run(job)
            self.journal.copy()

    def _next(self) -> Job | None:
        """Waits for the next job and takes it up; None once the worker closes."""
        with self._free:
            while not self._closing:
                job_id = self.queue.take()
                if job_id is None:
                    self._free.wait()
                    continue
                job = self.job(job_id)
                job.rest()
                self._now = job
                self._to_state(job, "running", started=time.time())
                return job
            return None

    def _run(self, job: Job) -> None:
        if not (self._state.ready or self._state.fault):
            self._emit(job, Loading("The engine is starting; this begins as soon as it is up."))
        if job.id in self._left and self._keep_for_later(job):
            return
        if job.files != (files := self._files_now(job)):
            self._start_over(job, files)
        self._tell_places()
        self._tell_queue()
        again = True
        while again and not self._closing:
            again = False
            try:
                self.engine.run(job.id, job.request, lambda event: self._heard(job, event))
            except EngineDied as death:
                again = not self._closing and self._count_death(job, death.ending)
            except Exception as error:  # the worker outlives whatever an engine does
                self._end(job, Failed(f"{self._state.message} ({type(error).__name__}: {error})"))
        with self._lock:
            self._now = None
            if self._closing and not job.done:
                return  # the next worker goes on with it
            if job.state == "running":
                self._end(job, Failed("The engine ended this run without saying why."))
            elif job.state == "paused" and not job.pausing:
                self.resume(job.id)  # it was wanted again before it had come to rest
        self._tell_queue()

    def _keep_for_later(self, job: Job) -> bool:
        """Whether a job of an earlier start must wait for a better one: the engine cannot work in this one (a
        device that is not there, say), and the job would fail for that alone."""
        with self._free:
            self._free.wait_for(lambda: self._state.ready or self._state.fault or self._closing)
            if self._state.ready:
                return False
            self._now = None  # in the journal it runs: nobody takes it up in this start
        if self._state.fault:
            self._emit(job, Loading(f"{self._state.message} This job is kept for the next start."))
        return True

    def _heard(self, job: Job, event: Event) -> None:
        """An event that the engine tells of the job that runs: written down, then told."""
        with self._lock:
            if self._closing and isinstance(event, Paused):
                return  # the engine was closed; the next worker goes on with the job
            told = job.news(event)
            match told:
                case None:
                    return
                case StepEvent():
                    if (now := time.monotonic()) - self._noted >= NOTE_EVERY:
                        self._noted = now
                        self.journal.change(job.id, picture=told.picture, step=told.step, total=told.total)
                    self._tell_progress()
                case PictureDone(picture, index):
                    self.journal.painted(job.id, index, picture)
                case Paused():
                    return self._rest(job, told)
                case Finished() | Failed() | Cancelled():
                    return self._end(job, told)
        self._emit(job, told)

    def _end(self, job: Job, ending: Finished | Failed | Cancelled, state: str = "") -> None:
        """Writes a job's end down and tells it."""
        with self._lock:
            if job.state not in OPEN:
                return
            self.queue.leave(job.id)
            self._to_state(job, state or _STATES[type(ending)], ended=time.time(), **_ended(ending))
        for index in range(job.request.pictures):
            self._end_film(run_id(job.id, index), isinstance(ending, Failed))
        self._emit(job, ending)
        self._tell_queue()

    def _end_film(self, run: str, failed: bool) -> None:
        """A job that has ended does not go on from its film: that is kept to be looked at, or deleted."""
        if not self.trajectories.exists(run):
            return
        try:
            if not self.keeps_films:
                self.trajectories.delete(run)
            elif not self.trajectories.get(run).ended:
                self.trajectories.change(run, state="failed" if failed else "stopped")
        except (OSError, LookupError) as problem:
            _log.warning("The film of run %s could not be brought to its end: %s", run, problem)

    def _rest(self, job: Job, event: Paused) -> None:
        with self._lock:
            job.pausing = job.pausing or job is not self._now
            where = {"picture": event.picture, "step": event.step, "total": event.total}
            self.queue.rest(job.id, job.client)
            self._to_state(job, "paused", **where)
            self._emit(job, event)
        self._tell_queue()

    def _to_state(self, job: Job, state: Any, **columns: Any) -> None:
        job.state, before = state, self.journal.trouble
        self.journal.change(job.id, state=state, **columns)
        if self.journal.trouble != before:
            self._tell_state()

    def _count_death(self, job: Job, ending: str) -> bool:
        """Notes that the engine died on a job; whether the job may run once more."""
        job.deaths += 1
        self.journal.change(job.id, deaths=job.deaths)
        if job.deaths < DEATHS:
            job.rest()
            self._emit(
                job,
                Loading(f"The engine ended ({ending}). It is started anew, and this goes on from its film."),
            )
            return True
        sentence = (
            f"The engine ended twice while it worked on this ({ending}), so it was set aside; the queue goes "
            "on. A smaller size or another model may work, or try it again after closing other programs."
        )
        self._end(job, Failed(sentence), "set_aside")
        return False

    def _files_now(self, job: Job) -> Files:
        try:
            return self._files(job.request)
        except (InvalidRequest, OSError):
            return job.files  # something is gone: the run itself says what

    def _start_over(self, job: Job, files: Files) -> None:
        """A run whose weights have changed since it was accepted does not go on from its film, which others
        painted; finished pictures stay."""
        job.files = files
        self.journal.change(job.id, files=[list(file) for file in files])
        for index in range(job.request.pictures):
            if index not in job.pictures:
                self.trajectories.delete(run_id(job.id, index))
        job.begin_anew()

    def _come(self, job: Job) -> tuple[int, int, int]:
        """(step, total, picture) that a job has come to."""
        last = job.reached[max(job.reached)] if job.reached else None
        if last is not None:
            return last.step, last.total, last.picture
        entry = self.journal_entry(job)
        return entry.step, entry.total, entry.picture

    def journal_entry(self, job: Job) -> Entry:
        """What is written down of a job."""
        entry = self.journal.entry(job.id)
        assert entry is not None, "every job is in the journal before it is known here"
        return entry

    def _works(self) -> bool:
        """Whether a job runs: the engine may still tidy up after one that has just ended or come to rest."""
        return self._now is not None and self._now.state == "running"

    def _tell_places(self) -> None:
        """Tells the jobs that run soon how many run before them. Not all that wait: with a thousand of them
        that would be a million events by the time that the last has run."""
        with self._lock:
            first = int(self._works())
            for place, job_id in enumerate(self.queue.first(TOLD), start=first):
                job, told = self.job(job_id), Queued(place)
                if job.events and job.events[-1] == told:
                    continue
                if not job.watchers and job.events and isinstance(job.events[-1], Queued):
                    job.events[-1] = told  # nobody has heard the last one
                else:
                    self._emit(job, told)

    def _ahead(self, job: Job) -> int:
        return self.queue.ahead(job.id) + self._works()

    def _tell_queue(self) -> None:
        with self._lock:
            self.queue.edition += 1
        self._tell_progress()

    def _tell_progress(self) -> None:
        with self._lock:
            watchers = list(self._queue_watchers)
        for notify in watchers:
            notify()

    def _emit(self, job: Job, event: Event) -> None:
        with self._lock:
            if job.done:
                return
            job.events.append(event)
            watchers = list(job.watchers)
        for notify in watchers:
            notify()
        if job is self._now and not job.done:
            # A wish that came before the engine had taken the job up (or anew, after its death) is repeated.
            if job.stop:
                self.engine.stop(job.id, job.stop == "keep")
            elif job.pausing:
                self.engine.pause(job.id)

    def _tell(self, state: EngineState) -> None:
        with self._free:
            self._state = state
            self._free.notify_all()
        self._tell_state()

    def _tell_state(self) -> None:
        with self._lock:
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


_STATES = {Finished: "finished", Failed: "failed", Cancelled: "cancelled"}


def _ended(ending: Finished | Failed | Cancelled) -> dict[str, Any]:
    """The columns of the journal that say how a job ended."""
    match ending:
        case Finished():
            return {"seconds": ending.seconds, "stopped": ending.stopped, "notes": list(ending.notes)}
        case Failed():
            return {"error": ending.message, "problems": dict(ending.problems)}
    return {}


def _values(request: GenerationRequest) -> dict[str, Any]:
    """A request as the journal keeps it: later versions of the program add fields, with defaults."""
    return request.model_dump(mode="json", exclude_defaults=True)


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
