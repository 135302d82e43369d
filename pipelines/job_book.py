"""The jobs of a worker, each change of one written into the journal and told to who follows it."""

from __future__ import annotations

import collections
import logging
import threading
import time
from typing import Any

from pipelines import jobs
from pipelines.events import Cancelled, Event, Failed, Finished, Loading, Paused, Queued
from pipelines.film.trajectory import TrajectoryStore, run_id
from pipelines.following import Watchers
from pipelines.jobs import Files, Job
from pipelines.journal import OPEN, Entry, Journal, JournalTrouble
from pipelines.queueing import JobQueue
from pipelines.request import GenerationRequest, InvalidRequest

_log = logging.getLogger(__name__)

FINISHED_JOBS_KEPT = 200
"""How many ended jobs stay in memory to be looked at; the journal and their pictures are on disk."""

TOLD = 20
"""How many of the waiting jobs are told their place each time that one begins."""

DEATHS = 2
"""How often the engine may die while it runs a job, before the job is set aside."""


class UnknownJob(KeyError):
    """There is no job with that id: it never was, or it ended long ago."""


class JobBook:
    """All jobs and what becomes of them; safe from any thread.

    keeps_films: whether runs stay recorded after their end. most_waiting: how many jobs one client may have
    waiting. lock: held while a job changes. free: notified when there may be something to run. now: the job
    that runs, or has just ended or come to rest. queue_watchers: told whenever a job changes its state, the
    queue its order, or the job that runs is a step further; state_watchers: when there is something else to
    say of the engine or the journal.
    """

    def __init__(self, journal: Journal, trajectories: TrajectoryStore, keeps_films: bool, most_waiting: int):
        self.journal, self.trajectories, self.keeps_films = journal, trajectories, keeps_films
        self.lock = threading.RLock()
        self.free = threading.Condition(self.lock)
        self.queue = JobQueue(journal, self.rearranged, most_waiting)
        self.queue_watchers, self.state_watchers = Watchers(), Watchers()
        self.now: Job | None = None
        self._jobs: collections.OrderedDict[str, Job] = collections.OrderedDict()

    # What is known

    def job(self, job_id: str) -> Job:
        """The job with that id, from the journal where it ended long ago; raises `UnknownJob`."""
        with self.lock:
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
        with self.lock:
            job = self._jobs.setdefault(job_id, found)
            self._forget_old()
        return job

    def entry(self, job: Job) -> Entry:
        """What is written down of a job."""
        entry = self.journal.entry(job.id)
        assert entry is not None, "every job is in the journal before it is known here"
        return entry

    def come(self, job: Job) -> tuple[int, int, int]:
        """(step, total, picture) that a job has come to."""
        last = job.latest
        if last is not None:
            return last.step, last.total, last.picture
        entry = self.entry(job)
        return entry.step, entry.total, entry.picture

    @property
    def running(self) -> Job | None:
        """The job that runs now; none while the engine tidies up after one that has just ended or come to
        rest."""
        now = self.now
        return now if now is not None and now.state == "running" else None

    # What becomes of a job

    def take_up(self, died: bool) -> set[str]:
        """Goes on with what the last worker left: its jobs wait again, in their order; returns their ids.
        died: whether the engine died with the program, over the job that ran."""
        left = set()
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
                self.to_state(job, "waiting")
                if died:
                    self.count_death(job, "the program ended while it ran")
        return left

    def enter(self, job: Job, turn: str = "") -> None:
        """A new job, which is in the journal when this returns. turn: of a batch, that it takes.

        Raises `InvalidRequest` where too many jobs wait already, or the journal cannot be written.
        """
        with self.lock:
            place = self.queue.enter(job.id, job.client)
            try:
                self.journal.accept(
                    job.id, jobs.written(job.request), job.client, job.files, place.rank, turn
                )
            except JournalTrouble as trouble:
                self.queue.leave(job.id)
                raise InvalidRequest({"journal": str(trouble)}) from None
            self._jobs[job.id] = job
            self._forget_old()
            self.emit(job, Queued(self._ahead(job)))
            self.free.notify()
        self.tell_queue()

    def rest(self, job: Job, event: Paused) -> None:
        """A job rests, until it is released."""
        with self.lock:
            job.pausing = job.pausing or job is not self.now
            where = {"picture": event.picture, "step": event.step, "total": event.total}
            self.queue.rest(job.id, job.client)
            self.to_state(job, "paused", **where)
            self.emit(job, event)
        self.tell_queue()

    def release(self, job: Job) -> None:
        """A job that rests waits for its turn again; another is left alone."""
        with self.lock:
            job.pausing = False
            if job.state != "paused":
                return
            self.queue.release(job.id)
            self.to_state(job, "waiting")
            self.emit(job, Queued(self._ahead(job)))
            self.free.notify()
        self.tell_queue()

    def change(self, job: Job, request: GenerationRequest, files: Files) -> None:
        """A job that has not begun is to paint another request."""
        job.request, job.files = request, files
        self.journal.change(job.id, request=jobs.written(request), files=files)

    def start_over(self, job: Job, files: Files) -> None:
        """A run whose weights have changed since it was accepted does not go on from its film, which others
        painted; finished pictures stay."""
        job.files = files
        self.journal.change(job.id, files=[list(file) for file in files])
        for index in range(job.request.pictures):
            if index not in job.pictures:
                self.trajectories.delete(run_id(job.id, index))
        job.begin_anew()

    def count_death(self, job: Job, ending: str) -> bool:
        """Notes that the engine died on a job; whether the job may run once more."""
        job.deaths += 1
        self.journal.change(job.id, deaths=job.deaths)
        if job.deaths < DEATHS:
            job.rest()
            self.emit(
                job,
                Loading(f"The engine ended ({ending}). It is started anew, and this goes on from its film."),
            )
            return True
        sentence = (
            f"The engine ended twice while it worked on this ({ending}), so it was set aside; the queue goes "
            "on. A smaller size or another model may work, or try it again after closing other programs."
        )
        self.end(job, Failed(sentence), "set_aside")
        return False

    def end(self, job: Job, ending: Finished | Failed | Cancelled, state: str = "") -> None:
        """Writes a job's end down and tells it."""
        with self.lock:
            if job.state not in OPEN:
                return
            self.queue.leave(job.id)
            self.to_state(job, state or _STATES[type(ending)], ended=time.time(), **_ended(ending))
        for index in range(job.request.pictures):
            self._end_film(run_id(job.id, index), isinstance(ending, Failed))
        self.emit(job, ending)
        self.tell_queue()

    def close(self) -> None:
        """The worker ends: jobs that have not ended stay in the journal for the next one, and who follows
        one is told that it was stopped."""
        with self.lock:
            for job in [job for job in self._jobs.values() if not job.done]:
                if job.state == "running":
                    self.to_state(job, "waiting")
                self.emit(job, Cancelled())
        self.journal.close()

    def to_state(self, job: Job, state: Any, **columns: Any) -> None:
        """Writes down which state a job is in, and what else changes with it."""
        job.state, before = state, self.journal.trouble
        self.journal.change(job.id, state=state, **columns)
        if self.journal.trouble != before:
            self.state_watchers.tell()

    def emit(self, job: Job, event: Event) -> None:
        """Tells an event of a job to who follows it; nothing after its end."""
        with self.lock:
            if job.done:
                return
            job.events.append(event)
        job.watchers.tell()

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

    def _forget_old(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.done]
        for job_id in ended[: max(0, len(ended) - FINISHED_JOBS_KEPT)]:
            del self._jobs[job_id]

    # The queue

    def order(self) -> list[str]:
        """Ids of the jobs that have not ended, first the one that runs, then those that wait or rest, in
        their order."""
        with self.lock:
            running = self.running
            return [*([running.id] if running else []), *self.queue.order()]

    def rearranged(self) -> None:
        """The queue has changed its order or its mind: who runs soon is told, and a worker that is free looks
        again."""
        with self.lock:
            self.tell_places()
            self.free.notify()
        self.tell_queue()

    def tell_places(self) -> None:
        """Tells the jobs that run soon how many run before them. Not all that wait: with a thousand of them
        that would be a million events by the time that the last has run."""
        with self.lock:
            first = int(self.running is not None)
            for place, job_id in enumerate(self.queue.first(TOLD), start=first):
                job, told = self.job(job_id), Queued(place)
                if job.events and job.events[-1] == told:
                    continue
                if not job.watchers and job.events and isinstance(job.events[-1], Queued):
                    job.events[-1] = told  # nobody has heard the last one
                else:
                    self.emit(job, told)

    def tell_queue(self) -> None:
        """Other jobs run or wait, or in another order."""
        with self.lock:
            self.queue.edition += 1
        self.queue_watchers.tell()

    def _ahead(self, job: Job) -> int:
        return self.queue.ahead(job.id) + (self.running is not None)


_STATES = {Finished: "finished", Failed: "failed", Cancelled: "cancelled"}


def _ended(ending: Finished | Failed | Cancelled) -> dict[str, Any]:
    """The columns of the journal that say how a job ended."""
    match ending:
        case Finished():
            return {"seconds": ending.seconds, "stopped": ending.stopped, "notes": list(ending.notes)}
        case Failed():
            return {"error": ending.message, "problems": dict(ending.problems)}
    return {}
