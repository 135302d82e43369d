"""Following what happens: who watches is woken, from any thread, and reads on from where they had come."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.events import EngineState, Event
    from pipelines.jobs import Job


class Watchers:
    """Who wants to know when something changes; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notify: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._notify)

    @contextmanager
    def watching(self, notify: Callable[[], None]) -> Iterator[None]:
        """Inside of it `notify` is called, from any thread, whenever something changes."""
        with self._lock:
            self._notify.append(notify)
        try:
            yield
        finally:
            with self._lock:
                self._notify.remove(notify)

    def tell(self) -> None:
        """Something has changed."""
        with self._lock:
            told = list(self._notify)
        for notify in told:
            notify()


def follow(job: Job, lock: Any) -> Iterator[Event]:
    """Every event of a job from its first, then each as it happens, until the terminal one. lock: of the
    job's events."""
    wake: queue.SimpleQueue[None] = queue.SimpleQueue()
    with job.watchers.watching(lambda: wake.put(None)):
        seen = 0
        while True:
            for event in _events_after(job, seen, lock):
                seen += 1
                yield event
            if job.done and seen == len(job.events):
                return
            wake.get()


async def afollow(job: Job, lock: Any) -> AsyncIterator[list[Event]]:
    """As `follow`, for asyncio: each time whatever has gathered since the last."""
    loop, wake = asyncio.get_running_loop(), asyncio.Event()
    with job.watchers.watching(lambda: _wake(loop, wake)):
        seen = 0
        while True:
            wake.clear()
            events = _events_after(job, seen, lock)
            seen += len(events)
            if events:
                yield events
            if job.done and seen == len(job.events):
                return
            await wake.wait()


async def watch(watchers: Watchers, present: Callable[[], EngineState]) -> AsyncIterator[EngineState]:
    """The engine's present state, then each change of it that the watchers are told."""
    loop, wake = asyncio.get_running_loop(), asyncio.Event()
    with watchers.watching(lambda: _wake(loop, wake)):
        told: EngineState | None = None
        while True:
            wake.clear()
            state = present()
            if state != told:
                told = state
                yield state
                continue
            await wake.wait()


def _events_after(job: Job, seen: int, lock: Any) -> list[Event]:
    # Under the lock, once it is watched: the last event is changed only while nobody watches.
    with lock:
        return job.events[seen:]


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    if not loop.is_closed():  # a server that shuts down leaves its watchers behind
        loop.call_soon_threadsafe(event.set)
