"""The thread on which a worker's jobs run, one after the other, and what it does when the engine dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

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
    StepEvent,
)
from pipelines.job_book import JobBook
from pipelines.jobs import Files, Job
from pipelines.request import GenerationRequest, InvalidRequest

NOTE_EVERY = 1.0
"""Seconds between two notes of how far a run has come; its film knows each step."""


class JobRunner:
    """Takes jobs of a book up as their turn comes and runs them on an engine.

    files: tells the weight files that a run of a request reads. left: jobs of an earlier start.
    state: how the engine is. closing: whether it ends or has ended.
    """

    def __init__(
        self, engine: Engine, book: JobBook, files: Callable[[GenerationRequest], Files], left: set[str]
    ):
        self.engine, self.book, self.state = engine, book, STARTING
        self._files, self._left = files, left
        self.closing = False
        self._noted = 0.0
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the engine, and the run that goes on, which the next worker goes on with."""
        with self.book.free:
            self.closing = True
            self.book.free.notify()
        self.engine.close()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        self.engine.start(self._tell)
        while (job := self._next()) is not None:
            self._run(job)
            self.book.journal.copy()

    def _tell(self, state: EngineState) -> None:
        with self.book.free:
            self.state = state
            self.book.free.notify_all()
        self.book.state_watchers.tell()

    def _next(self) -> Job | None:
        """Waits for the next job and takes it up; None once the worker closes."""
        with self.book.free:
            while not self.closing:
                job_id = self.book.queue.take()
                if job_id is None:
                    self.book.free.wait()
                    continue
                job = self.book.job(job_id)
                job.rest()
                self.book.now = job
                self.book.to_state(job, "running", started=time.time())
                return job
            return None

    def _run(self, job: Job) -> None:
        book = self.book
        if not (self.state.ready or self.state.fault):
            book.emit(job, Loading("The engine is starting; this begins as soon as it is up."))
        if job.id in self._left and self._keep_for_later(job):
            return
        if job.files != (files := self._files_now(job)):
            book.start_over(job, files)
        book.tell_places()
        book.tell_queue()
        again = True
        while again and not self.closing:
            again = False
            try:
                self.engine.run(job.id, job.request, lambda event: self._heard(job, event))
            except EngineDied as death:
                again = not self.closing and book.count_death(job, death.ending)
            except Exception as error:  # the worker outlives whatever an engine does
                book.end(job, Failed(f"{self.state.message} ({type(error).__name__}: {error})"))
        with book.lock:
            book.now = None
            if self.closing and not job.done:
                return  # the next worker goes on with it
            if job.state == "running":
                book.end(job, Failed("The engine ended this run without saying why."))
            elif job.state == "paused" and not job.pausing:
                book.release(job)  # it was wanted again before it had come to rest
        book.tell_queue()

    def _keep_for_later(self, job: Job) -> bool:
        """Whether a job of an earlier start must wait for a better one: the engine cannot work in this one (a
        device that is not there, say), and the job would fail for that alone."""
        with self.book.free:
            self.book.free.wait_for(lambda: self.state.ready or self.state.fault or self.closing)
            if self.state.ready:
                return False
            self.book.now = None  # in the journal it runs: nobody takes it up in this start
        if self.state.fault:
            self.book.emit(job, Loading(f"{self.state.message} This job is kept for the next start."))
        return True

    def _files_now(self, job: Job) -> Files:
        try:
            return self._files(job.request)
        except (InvalidRequest, OSError):
            return job.files  # something is gone: the run itself says what

    def _heard(self, job: Job, event: Event) -> None:
        """An event that the engine tells of the job that runs: written down, then told."""
        book = self.book
        with book.lock:
            if self.closing and isinstance(event, Paused):
                return  # the engine was closed; the next worker goes on with the job
            told = job.news(event)
            match told:
                case None:
                    return
                case StepEvent():
                    if (now := time.monotonic()) - self._noted >= NOTE_EVERY:
                        self._noted = now
                        book.journal.change(job.id, picture=told.picture, step=told.step, total=told.total)
                    book.queue_watchers.tell()
                case PictureDone(picture, index):
                    book.journal.painted(job.id, index, picture)
                case Paused():
                    return book.rest(job, told)
                case Finished() | Failed() | Cancelled():
                    return book.end(job, told)
        book.emit(job, told)
        # A wish that came before the engine had taken the job up (or anew, after its death) is repeated.
        if job.stop:
            self.engine.stop(job.id, job.stop == "keep")
        elif job.pausing:
            self.engine.pause(job.id)
