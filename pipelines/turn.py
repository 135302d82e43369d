"""Whose turn it is: a job's, or that of one look at a recorded run.

Runs share the components of loaded models, and a job changes them while it runs (adapters, offload, tiles).
Whoever wants to look into a recorded run by them waits for a gap between two jobs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 10.0
"""Seconds that a look waits for a gap between jobs."""

GAP, MOST_GAP = 1.0, 5.0
"""Seconds that a job leaves to looks that the one before it put off: for each to come, and in all."""


class CannotLook(Exception):
    """Looking into a recorded run comes to nothing now; `str()` is a sentence."""


class Busy(CannotLook):
    """A job runs; the same works once it has ended."""


class Turn:
    """One at a time, in the order in which they came; a look gives up after `patience` seconds.

    Those that gave up come again when they hear that a job has ended, so the next one lets them in first: in
    a queue of long jobs nobody would see anything otherwise.
    """

    def __init__(self, patience: float = PATIENCE):
        self.patience = patience
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._put_off = False
        self._ended = self._came = 0.0

    @contextmanager
    def job(self) -> Iterator[None]:
        """A job's turn is inside; waits for looks that came before, or were put off."""
        with self._changed:
            while self._put_off and (left := self._left()) > 0:
                self._changed.wait(left)
            self._put_off = False
        with self._taken(None):
            try:
                yield
            finally:
                self._ended = time.monotonic()

    def _left(self) -> float:
        """Seconds that are still left to looks that were put off."""
        return min(max(self._came, self._ended) + GAP, self._ended + MOST_GAP) - time.monotonic()

    @contextmanager
    def look(self) -> Iterator[None]:
        """A look's turn is inside. Raises `Busy` where there is no gap in time."""
        with self._changed:
            self._came = time.monotonic()
            self._changed.notify_all()
        with self._taken(self.patience):
            yield

    @contextmanager
    def _taken(self, patience: float | None) -> Iterator[None]:
        me = object()
        with self._changed:
            self._waiting.append(me)
            came = self._changed.wait_for(lambda: self._waiting[0] is me, patience)
            if not came:
                self._waiting.remove(me)
                self._put_off = True
        if not came:
            raise Busy("A picture is being painted: look into this step again once it is finished.")
        try:
            yield
        finally:
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()
